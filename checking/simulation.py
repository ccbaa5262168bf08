"""A whole cluster in one process, under a schedule that decides everything: the deterministic simulator.

May live here: the world around the real parts (network, crashes, disks, the master's orders), and what must hold in
it. May not: a second copy of what the parts do. `Peer`, `Model`, `Router`, `Session`, `Group` with its sides at server
and client, `GossipLoop`, `stabilize`, `HybridClock` and `Storage` are the ones that run in real processes; the storage
writes real files. Nothing here sleeps, forks or asks for the time.
(The idea: FoundationDB's simulator, and TigerBeetle's VOPR.)

Theory of operation
-------------------
A *schedule* is a list of steps, each a word and two small numbers. The same schedule always does the same. In the
beginning servers 0 to 2 run, all linked; clients 100 and 103 are connected to server 0, 101 to 1 and 102 to 2. A
number that is too large for its meaning wraps around, so that every schedule means something, also with steps left
out: that is what makes schedules shrink well.

| step            | what it does                                                                                |
|-----------------|---------------------------------------------------------------------------------------------|
| join S          | joinServer                                                                                  |
| kill S          | killServer                                                                                  |
| fuse S WHERE    | the server will die in its next write to the log: before it, at some byte of it, behind it  |
| wipe S          | the server dies, and its folder is lost                                                     |
| damage S WHERE  | the server dies, and a byte of its files is flipped                                         |
| full S          | the server's disk is full, until this comes again                                           |
| restart BACK    | the master ends, with all servers and clients; the next one's time of day is BACK earlier   |
| connect C S     | createConnection of a client                                                                |
| disconnect C S  | breakConnection of a client                                                                 |
| link S T        | createConnection of two servers                                                             |
| cut S T         | breakConnection of two servers                                                              |
| put C K         | put by client C of key K, of a value that nobody else puts                                  |
| get C K         | get                                                                                         |
| group K N       | some puts and gets of all clients that may take part, as one group; the bits of K and N say |
|                 | where time goes by and messages of gossip arrive in between                                 |
| late C WHEN     | in its next group, the client's part comes too late; or the client is lost before it comes, |
|                 | or after it was answered; or its part comes when the client has been killed                 |
| freeze S WHEN   | in its next group, the server falls silent before it carries that out, or afterwards:       |
|                 | before anybody hears the answers, or when one client has                                    |
| unsync S WHEN   | a sync of the server's log fails: now, or in its next group                                 |
| tick N          | time goes by; who is due gossips                                                            |
| deliver N       | a message that is under way arrives, not the oldest if N says so                            |
| double N        | it arrives, and will arrive again                                                           |
| lose N          | it is lost; whoever waits for it gives up later                                             |
| stabilize N     | stabilize, while messages of gossip arrive in between if N says so                          |

After every step, and at the end, `World` checks what docs/reliability.md promises; see "What must hold" below.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

import compaction
import model
import router
from control.clock import HybridClock
from control.stabilize import stabilize
from groups import Group, MemberAnswer, Part, ServerGroup, Undone, may_take_part
from messages import (
    Command,
    Missing,
    NoValue,
    Operation,
    OperationOutcome,
    Refusal,
    Stored,
    UncertainPut,
    Unsatisfied,
    Unusable,
    Value,
    Write,
    pack_operations,
    plain_answer,
    unpack_operations,
)
from model import Model, unpack_delta
from peer import Answer, Exchange, GossipLoop, Held, NotLinked, Peer, unpack_request
from records import HEADER
from session import Refused, ServerLost, Session
from storage import Storage, StorageError, cut_group
from vector_clock import Dot, Replica, VersionOrder

__all__ = ["Step", "Violation", "World", "decode", "run", "small_limits"]

SERVERS = 4
FIRST_CLIENT = 100
CLIENTS = 4
KEYS = (b"a", b"b", b"c")
FILLINGS = (b"", b"", b"", b"." * 40, b"." * 200)

GROUP_LIMIT = 300
"""How many bytes of values a group may answer with: so that some have to be given up."""

LATE, LOST_BEFORE, LOST_AFTER, STRAY = range(4)
"""What may become of a client in a group; the same numbers as in the schedule's steps."""
BEFORE, AFTER, HALF_HEARD = range(3)
"""When a server falls silent in a group: before or after it has carried it out, or when one client has heard."""

GOSSIP_INTERVAL = 1.0
TIMEOUT = 5.0
"""How long an asker waits for an answer that was lost."""

WEIGHTS = {
    "join": 14,
    "kill": 6,
    "fuse": 6,
    "wipe": 2,
    "damage": 3,
    "full": 2,
    "restart": 1,
    "connect": 12,
    "disconnect": 5,
    "link": 8,
    "cut": 8,
    "put": 46,
    "get": 30,
    "group": 18,
    "late": 6,
    "freeze": 3,
    "unsync": 3,
    "tick": 24,
    "deliver": 40,
    "double": 5,
    "lose": 5,
    "stabilize": 8,
}
"""How often each step comes in a random schedule, of 256; the rest are steps that do nothing."""


class Step(NamedTuple):
    """One step of a schedule."""

    word: str
    first: int
    second: int

    def __str__(self) -> str:
        return f"{self.word} {self.first} {self.second}"

    @classmethod
    def parse(cls, line: str) -> Step:
        """The inverse of `str`. Raises ValueError."""
        match = re.fullmatch(r"\s*(\S+)\s+([0-9]+)\s+([0-9]+)\s*", line)
        if match is None:
            raise ValueError(f"a step is a word and two whole numbers, like put 0 1; not {line.strip()[:40]!r}")
        if match[1] not in WEIGHTS:
            raise ValueError(f"no step is called {match[1][:40]!r}; there are {', '.join(WEIGHTS)}")
        return cls(match[1], int(match[2]), int(match[3]))


_WORDS = [word for word, weight in WEIGHTS.items() for _ in range(weight)]


def decode(noise: bytes) -> list[Step]:
    """A schedule from random bytes, three a step. Smaller bytes make simpler schedules; zeros make none."""
    return [
        Step(_WORDS[word - 1], first, second)
        for word, first, second in zip(noise[0::3], noise[1::3], noise[2::3], strict=True)
        if 0 < word <= len(_WORDS)
    ]


class Violation(AssertionError):
    """Something that must hold does not."""


class Crash(Exception):
    """A server process has died in the middle of what it did."""


@contextmanager
def small_limits() -> Iterator[None]:
    """Within this block exchanges come in several parts, and logs are compacted, after a few writes."""
    limits: dict[Any, dict[str, int]] = {
        model: {"CHUNK_BYTES": 200},
        compaction: {"SLACK_BYTES": 700, "SNAPSHOT_STEP_BYTES": 60, "SNAPSHOT_PACE": 1, "SNAPSHOT_RECORD_BYTES": 150},
    }
    usual = {room: {name: getattr(room, name) for name in names} for room, names in limits.items()}
    try:
        for room, names in limits.items():
            vars(room).update(names)
        yield
    finally:
        for room, names in usual.items():
            vars(room).update(names)


class Truth:
    """What happened, written down from outside: all writes that any log took, and what each server must hold."""

    def __init__(self) -> None:
        self.writes: dict[Dot, Write] = {}
        self.held: dict[int, dict[bytes, VersionOrder]] = {}
        """Server -> key -> the largest version that its log took, in all its lives since its disk was lost."""
        self.acknowledged: dict[int, dict[bytes, int]] = {}
        """Server -> key -> the timestamp of the last put that it acknowledged, likewise."""
        self.seen: dict[tuple[int, bytes], int] = {}
        """Client, key -> the largest timestamp that it has read or written."""
        self.issued: dict[bytes, int] = {}
        """Value -> the timestamp that its put was issued with. (No two puts have the same value.)"""
        self.executed: set[tuple[int, int]] = set()
        """Server, timestamp: the puts that it has carried out."""
        self.failed: set[int] = set()
        """The timestamps of puts that have failed, and are not uncertain."""

    def logged(self, server: Server, writes: list[Write]) -> None:
        """A server has logged these."""
        held = self.held.setdefault(server.ident, {})
        for write in writes:
            dot = write.version.dot
            known = self.writes.setdefault(dot, write)
            if known != write:
                raise Violation(f"{dot} is both {known} and {write}")
            if known is write:
                self._made(server, write)
            held[write.key] = max(held.get(write.key, write.version.order), write.version.order)

    def _made(self, server: Server, write: Write) -> None:
        """A server has carried out a put, or so it should be."""
        timestamp = write.version.timestamp
        if write.version.dot.replica != server.peer.model.replica:
            raise Violation(f"server {server.ident} has learnt of {write}, which nobody has made")
        if timestamp != self.issued[write.value]:
            raise Violation(f"{write} was issued with the timestamp {self.issued[write.value]}")
        if (server.ident, timestamp) in self.executed:
            raise Violation(f"server {server.ident} has carried out the put of {write} twice")
        if timestamp in self.failed:
            raise Violation(f"server {server.ident} has carried out {write}, though it has failed")
        self.executed.add((server.ident, timestamp))

    def has_failed(self, timestamp: int) -> None:
        """A put was reported as failed: it stands nowhere, now or later."""
        for write in self.writes.values():
            if write.version.timestamp == timestamp:
                raise Violation(f"{write} stands, though it has failed")
        self.failed.add(timestamp)

    def take_back(self, server: Server) -> None:
        """The group that a server has logged last has never happened."""
        for dot in [dot for dot, write in self.writes.items() if write in server.last_writes]:
            del self.writes[dot]
        self.executed -= {(server.ident, write.version.timestamp) for write in server.last_writes}
        self.held[server.ident] = server.held_before_group

    def forget_disk(self, ident: int) -> None:
        """What this server had is not promised any more."""
        self.held.pop(ident, None)
        self.acknowledged.pop(ident, None)


class Disk:
    """A server's log, which may be full, or the end of the server. Tells the truth what it has taken."""

    def __init__(self, server: Server, log: Storage, truth: Truth) -> None:
        self.log = log
        self._server = server
        self._truth = truth

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        self._server.last_group = None
        if self._server.full:
            raise StorageError("no space left on device")
        fuse, self._server.fuse = self._server.fuse, None
        if fuse is None or fuse % 3 == 2:
            writes = unpack_delta(delta)[0]
            self._server.held_before_group = dict(self._truth.held.get(self._server.ident, {}))
            self._server.last_group, self._server.last_writes = group, writes
            self.log.append(delta, source, group)
            self._truth.logged(self._server, writes)
        elif fuse % 3 == 1:
            self._tear(delta, source, fuse)
        if fuse is not None:
            raise Crash

    def renew(self, source: Model) -> None:
        if self._server.full:
            raise StorageError("no space left on device")
        self.log.renew(source)

    def _tear(self, delta: bytes, source: Model, where: int) -> None:
        """Die in the middle of the record."""
        self.log.append(delta, source)
        logs = [path for path in self._server.folder.glob("log.*") if path.suffix[1:].isdigit()]
        path = max(logs, key=lambda path: int(path.suffix[1:]))
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(size - 1 - where % (len(delta) + HEADER.size))


class Server:
    """A server id: its disk, and its process while there is one."""

    def __init__(self, ident: int, folder: Path) -> None:
        self.ident = ident
        self.folder = folder
        self.peer: Peer
        self.disk: Disk | None = None
        self.full = False
        self.fuse: int | None = None
        self.freeze: int | None = None
        self.unsync = False
        self.last_group: int | None = None
        """The group that the log's last record is of, if it is one's; `last_writes` are in that record."""
        self.last_writes: list[Write] = []
        self.held_before_group: dict[bytes, VersionOrder] = {}
        # the thread that gossips
        self.gossip: GossipLoop
        self.asked_at = 0.0
        self.asked = 0

    @property
    def running(self) -> bool:
        return self.disk is not None


class Message(NamedTuple):
    """A message of gossip, from one life of a server to one of another; *number* pairs answers with requests."""

    sender: Peer
    receiver: Peer
    number: int
    is_request: bool
    body: bytes | None
    link: int
    """The number of the link that it was sent over: each that is made has a new one."""


class Client:
    """A client id: the session, and what its connections must be."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.session = Session()
        self.connections: list[int] = []
        self.late: int | None = None


class World:
    """The simulated cluster. `step` carries out one step and checks; `finish` brings it to rest and checks."""

    def __init__(self, folder: Path) -> None:
        """*folder* is for the servers' disks, and empty."""
        self._folder = folder
        self._truth = Truth()
        self._now = 1000.0
        self._time_of_day = 1_000_000_000
        self._bound = 0
        self._last_timestamp = 0
        self._clock = self._new_clock()
        self._values = 0
        self._numbers = 0
        self._network: list[Message] = []
        self._servers = {ident: Server(ident, folder / f"server-{ident}") for ident in range(SERVERS)}
        self._links: dict[int, set[int]] = {}
        self._link_numbers: dict[frozenset[int], int] = {}
        self._clients: dict[int, Client] = {}
        self._touched: set[Server] = set()
        self._damaged: set[int] = set()
        for ident in range(SERVERS - 1):
            self._join(self._servers[ident])
        self._start_clients()

    def _new_clock(self) -> HybridClock:
        def reserve(bound: int) -> None:
            self._bound = bound

        return HybridClock(lambda: self._time_of_day, self._bound, reserve)

    def _start_clients(self) -> None:
        for number in range(CLIENTS):
            client = Client(FIRST_CLIENT + number)
            self._clients[client.ident] = client
            self._connect(client, self._servers[number % (SERVERS - 1)])

    # -- steps ---------------------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Carry out a step. Raises Violation."""
        getattr(self, f"_step_{step.word}")(step.first, step.second)
        self._check_touched()

    def _server(self, number: int) -> Server:
        return self._servers[number % SERVERS]

    def _client(self, number: int) -> Client:
        return self._clients[FIRST_CLIENT + number % CLIENTS]

    def _step_join(self, server: int, _: int) -> None:
        if not self._server(server).running:
            self._join(self._server(server))

    def _step_kill(self, server: int, _: int) -> None:
        self._kill(self._server(server))

    def _step_fuse(self, server: int, where: int) -> None:
        if self._server(server).running:
            self._server(server).fuse = where

    def _step_wipe(self, number: int, _: int) -> None:
        server = self._server(number)
        self._kill(server)
        shutil.rmtree(server.folder, ignore_errors=True)
        self._truth.forget_disk(server.ident)

    def _step_damage(self, number: int, where: int) -> None:
        server = self._server(number)
        self._kill(server)
        files = sorted(path for path in server.folder.glob("*.*") if ".damaged" not in path.name)
        if files:
            path = files[where % len(files)]
            data = bytearray(path.read_bytes())
            if data:
                data[-1 - where * 7 % len(data)] ^= 0xFF
                path.write_bytes(data)
                self._truth.forget_disk(server.ident)
                self._damaged.add(server.ident)

    def _step_full(self, number: int, _: int) -> None:
        self._server(number).full = not self._server(number).full

    def _step_restart(self, back: int, _: int) -> None:
        for server in self._servers.values():
            self._kill(server)
        self._time_of_day -= back * 1000
        self._clock = self._new_clock()
        for client in self._clients.values():
            for key in KEYS:
                self._truth.seen.pop((client.ident, key), None)
        for number in range(SERVERS - 1):
            self._join(self._servers[number])
        self._start_clients()

    def _step_connect(self, client: int, server: int) -> None:
        if self._server(server).running:
            self._connect(self._client(client), self._server(server))

    def _step_disconnect(self, number: int, server: int) -> None:
        client, ident = self._client(number), self._server(server).ident
        client.session.disconnect(ident)
        if ident in client.connections:
            client.connections.remove(ident)

    def _step_link(self, first: int, second: int) -> None:
        one, other = self._server(first), self._server(second)
        if one is not other and one.running and other.running and other.ident not in self._links[one.ident]:
            self._link(one, other)

    def _step_cut(self, first: int, second: int) -> None:
        one, other = self._server(first), self._server(second)
        if other.ident in self._links.get(one.ident, ()):
            self._unlink(one, other)

    def _step_put(self, client: int, key: int) -> None:
        self._operate(self._client(client), KEYS[key % len(KEYS)], self._new_value(key))

    def _step_get(self, client: int, key: int) -> None:
        self._operate(self._client(client), KEYS[key % len(KEYS)], None)

    def _step_group(self, key: int, count: int) -> None:
        self._run_group(key, 2 + count % 6, Interruptions(self, key, count))

    def _step_late(self, client: int, when: int) -> None:
        self._client(client).late = when % 4

    def _step_freeze(self, server: int, when: int) -> None:
        if self._server(server).running:
            self._server(server).freeze = when % 3

    def _step_unsync(self, number: int, when: int) -> None:
        server = self._server(number)
        if server.running and when % 2:
            server.unsync = True
        elif server.running:
            self._sync_fails(server)

    def _sync_fails(self, server: Server) -> None:
        """A sync of the log fails; the thread that syncs has it written anew, as soon as that may be."""
        assert server.disk is not None
        self._touched.add(server)
        with failing_fsync():
            try:
                server.disk.log.sync()
            except StorageError:
                pass
        try:
            server.peer.renew_log()
        except StorageError:
            pass  # the next append tries again

    def _step_tick(self, count: int, _: int) -> None:
        self._tick((count % 8 + 1) * GOSSIP_INTERVAL / 4)

    def _step_deliver(self, which: int, _: int) -> None:
        if self._network and not self._waits(self._network[self._position(which)]):
            self._arrive(self._network.pop(self._position(which)))

    def _step_double(self, which: int, _: int) -> None:
        if self._network and not self._waits(self._network[self._position(which)]):
            self._arrive(self._network[self._position(which)])

    def _waits(self, message: Message) -> bool:
        """Whether it has arrived, and the thread that it is for waits for a group to be released."""
        return self._is_for_the_living(message) and message.receiver.groups.held

    def _is_for_the_living(self, message: Message) -> bool:
        server = self._servers[message.receiver.router.server]
        return server.peer is message.receiver and server.running

    def _step_lose(self, which: int, _: int) -> None:
        if self._network:
            self._network.pop(self._position(which))

    def _position(self, which: int) -> int:
        """Mostly the oldest message's."""
        return which % len(self._network) if which >= 128 else 0

    def _step_stabilize(self, between: int, _: int) -> None:
        self._stabilize(between)

    def _next_timestamp(self) -> int:
        timestamp = self._clock.next()
        if timestamp <= self._last_timestamp:
            raise Violation(f"the clock has issued {timestamp} after {self._last_timestamp}")
        self._last_timestamp = timestamp
        return timestamp

    # -- servers and links ---------------------------------------------------------------------------------

    def _join(self, server: Server) -> None:
        """joinServer; on a full disk it fails, where anything had to be written."""
        incarnation = self._next_timestamp()
        peer = Peer(Replica(server.ident, incarnation), GOSSIP_INTERVAL, GROUP_LIMIT)
        log = Storage(server.folder, incarnation)
        recovery = log.recover()
        if recovery.damages and server.ident not in self._damaged:
            raise Violation(f"server {server.ident} reports damage, and there was none: {recovery.damages}")
        self._damaged.discard(server.ident)
        peer.recover(recovery.deltas, bool(recovery.damages))
        log.start(peer.model)
        server.peer, server.disk, server.fuse = peer, Disk(server, log, self._truth), None
        server.freeze, server.unsync, server.gossip = None, False, GossipLoop(peer)
        peer.start(server.disk)
        self._clock.observe(peer.model.largest_timestamp)
        self._check_revival(server)
        self._links[server.ident] = set()
        for other in self._servers.values():
            if other.running and other is not server:
                self._link(server, other)
        for client in self._clients.values():
            client.session.mark(server.ident, True)

    def _kill(self, server: Server) -> None:
        if server.disk is None:
            return
        server.disk.log.close()
        server.disk, server.fuse = None, None
        for other in self._links.pop(server.ident):
            self._links[other].discard(server.ident)
            self._servers[other].peer.unlink(server.ident)
        for client in self._clients.values():
            client.session.mark(server.ident, False)

    def _link(self, one: Server, other: Server) -> None:
        self._numbers += 1
        self._link_numbers[frozenset((one.ident, other.ident))] = self._numbers
        for end, far in ((one, other), (other, one)):
            self._links[end.ident].add(far.ident)
            end.peer.link(far.ident, "", self._now)

    def _unlink(self, one: Server, other: Server) -> None:
        for end, far in ((one, other), (other, one)):
            self._links[end.ident].discard(far.ident)
            end.peer.unlink(far.ident)

    def _connect(self, client: Client, server: Server) -> None:
        client.session.connect(server.ident)
        if server.ident not in client.connections:
            client.connections.append(server.ident)

    # -- gossip --------------------------------------------------------------------------------------------

    def _tick(self, seconds: float) -> None:
        self._now += seconds
        self._time_of_day += int(seconds * 1e6)
        for server in self._servers.values():
            if not server.running:
                continue
            if server.gossip.exchange is not None and self._now - server.asked_at > TIMEOUT:
                self._exchange_failed(server)
            elif server.gossip.exchange is None:
                self._next_exchange(server)

    def _next_exchange(self, server: Server) -> None:
        if server.peer.groups.held:
            return  # its first request would have to wait
        exchange = server.gossip.next(self._now)
        if exchange is not None:
            self._ask(server, exchange)

    def _ask(self, server: Server, exchange: Exchange) -> None:
        self._numbers += 1
        server.asked, server.asked_at = self._numbers, self._now
        receiver = self._servers[exchange.neighbour].peer
        self._send(server.peer, receiver, self._numbers, True, exchange.request())

    def _send(self, sender: Peer, receiver: Peer, number: int, is_request: bool, body: list[Any] | None) -> None:
        packed = None if body is None else msgpack.packb(body)
        link = self._link_numbers[frozenset((sender.router.server, receiver.router.server))]
        self._network.append(Message(sender, receiver, number, is_request, packed, link))

    def _crosses(self, message: Message) -> bool:
        """Whether the link that a message was sent over is still there."""
        ends = message.sender.router.server, message.receiver.router.server
        return ends[0] in self._links.get(ends[1], ()) and self._link_numbers[frozenset(ends)] == message.link

    def _exchange_failed(self, server: Server) -> None:
        server.gossip.failed(self._now)
        self._next_exchange(server)

    def _arrive(self, message: Message) -> None:
        """A message arrives, unless the process that it is for has died."""
        if not self._is_for_the_living(message):
            return
        server = self._servers[message.receiver.router.server]
        self._touched.add(server)
        before = server.peer.model.context.copy()
        try:
            if message.is_request:
                self._requested(server, message)
            else:
                self._answered(server, message)
        except Crash:
            self._kill(server)
        except StorageError:
            if server.gossip.exchange is not None:
                self._exchange_failed(server)
        if not self._crosses(message) and server.peer.model.context != before:
            raise Violation(f"server {server.ident} has learnt something over a link that was broken")

    def _requested(self, server: Server, message: Message) -> None:
        assert message.body is not None
        answer = server.peer.answer_pull(unpack_request(message.body))
        if answer is not None and message.sender.router.server not in self._links[server.ident]:
            raise Violation(f"server {server.ident} has answered one that it has no link to")
        self._send(server.peer, message.sender, message.number, False, answer)

    def _answered(self, server: Server, message: Message) -> None:
        answer = None if message.body is None else Answer.from_bytes(message.body)
        exchange = server.gossip.exchange
        if exchange is None or message.number != server.asked:
            if answer is not None and self._crosses(message):
                server.peer.take_in(answer, self._now)  # doubled: no real connection does that, and it must do no harm
            return
        try:
            exchange.receive(answer, self._now)
        except NotLinked:
            self._exchange_failed(server)
            return
        if not exchange.done:
            self._ask(server, exchange)
            return
        server.gossip.done()
        self._next_exchange(server)

    # -- stabilize -----------------------------------------------------------------------------------------

    def _stabilize(self, between: int) -> None:
        """After it, stores must be the same as well. It fails where a disk is full."""
        before = self._standing()
        try:
            stabilize(Stabilizing(self, between))
        except StorageError:
            return
        except Held as error:
            raise Violation("a server still holds exchanges, though its group is over") from error
        self._check_convergence(before)

    def _agree(self, part: set[int]) -> bool:
        return len({self._context(ident) for ident in part}) == 1

    def _context(self, ident: int) -> bytes:
        packed: bytes = msgpack.packb(self._servers[ident].peer.model.context.flat())
        return packed

    def _pull(self, server: Server, neighbour: Server) -> bool:
        """One pull of stabilize; returns whether it came to its end. Raises StorageError."""
        if not (server.running and neighbour.running):
            return False
        self._touched.add(server)
        try:
            exchange = server.peer.exchange(neighbour.ident)
            while not exchange.done:
                request = unpack_request(msgpack.packb(exchange.request()))
                exchange.receive(Answer.from_bytes(msgpack.packb(neighbour.peer.answer_pull(request))), self._now)
        except Crash:
            self._kill(server)
            return False
        return True

    # -- clients -------------------------------------------------------------------------------------------

    def _new_value(self, key: int) -> bytes:
        self._values += 1
        return b"%d" % self._values + FILLINGS[key // len(KEYS) % len(FILLINGS)]

    def _issue(self, value: bytes | None) -> int:
        """A timestamp for a put of this value, or for a get."""
        timestamp = self._next_timestamp()
        if value is not None:
            self._truth.issued.setdefault(value, timestamp)
        return timestamp

    def _operate(self, client: Client, key: bytes, value: bytes | None, timestamp: int | None = None) -> None:
        """A put, or a get where there is no value; checks what comes of it. *timestamp*: that of a group's command."""
        asked = [self._servers[ident] for ident in client.connections if self._servers[ident].running]
        due = self._due_answer(client, key, {server.ident: self._store(server).get(key) for server in asked})
        timestamp = timestamp or self._issue(value)
        took: list[int] = []

        def ask(ident: int, operation: Operation) -> Any:
            (operation,) = unpack_operations(pack_operations([operation]))
            server = self._servers[ident]
            self._touched.add(server)
            try:
                (answer,) = server.peer.execute([operation], self._now)
            except Crash as crash:
                self._kill(server)
                raise ServerLost(cut_short=True) from crash
            except StorageError as error:
                raise Refused(str(error)) from error
            took.append(ident)
            return plain_answer(operation, answer)

        outcome = client.session.execute(key, value, timestamp, ask)
        if value is None:
            self._check_answer(client, key, outcome, due)
        elif isinstance(outcome, Stored):
            self._acknowledged(client, took[-1], key, timestamp)
        else:
            self._check_failed_put(client, asked, outcome)

    def _acknowledged(self, client: Client, server: int, key: bytes, timestamp: int) -> None:
        self._truth.seen[client.ident, key] = timestamp
        self._truth.acknowledged.setdefault(server, {})[key] = timestamp

    def _run_group(self, first_key: int, count: int, interruptions: Interruptions) -> None:
        """Puts and gets of several clients as a group, and then the death of the clients that were lost in it."""
        clients = [client for client in self._clients.values() if self._may_take_part(client)]
        commands = []
        for number in range(count):
            if clients:
                client = clients[number % len(clients)]
                key = KEYS[(first_key + number // 2) % len(KEYS)]
                value = self._new_value(first_key + number) if (first_key + number) % 3 else b""
                commands.append(Command("put" if value else "get", (client.ident,), key, value))
        timestamps = [self._issue(command.value or None) for command in commands]
        server_of = {client.ident: client.connections[0] for client in clients}
        group = Group(self._next_timestamp(), commands, timestamps, server_of)
        calls = GroupCalls(self, interruptions)
        group.start(calls)
        outcomes = group.finish(calls)
        undone = []
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(outcome, Undone):
                undone.append((command, outcome))
            else:
                self._check_member(command, outcome, calls.standing[server_of[command.ids[0]]])
        for command, late in undone:
            interruptions.next()
            client = self._clients[command.ids[0]]
            if client in calls.lost:
                self._truth.has_failed(late.timestamp)
            else:
                self._check_hidden(self._servers[server_of[client.ident]], timestamps)
                self._operate(client, command.key, command.value or None, late.timestamp)
        for ident in group.members:
            if self._servers[ident].running:
                self._servers[ident].peer.release_group()
        for client in calls.lost:
            self._replace(client)

    def _may_take_part(self, client: Client) -> bool:
        return may_take_part(Command("get"), client.connections, lambda server: self._servers[server].running)

    def _check_member(self, command: Command, outcome: OperationOutcome, standing: dict[bytes, Write]) -> None:
        """Check what came of a command of a group, whose server held *standing* before it."""
        (ident,), key = command.ids, command.key
        client = self._clients[ident]
        (server,) = client.connections
        if command.name == "get":
            due = self._due_answer(client, key, {server: standing.get(key)})
            self._check_answer(client, key, outcome, due)
            return
        if not isinstance(outcome, Stored) or outcome.server != server:
            raise Violation(f"a put of {ident} in a group: {outcome}")
        self._acknowledged(client, server, key, outcome.timestamp)
        write = next(w for w in self._truth.writes.values() if w.value == command.value)
        standing[key] = max(write, standing.get(key, write), key=lambda write: write.version.order)

    def _check_hidden(self, server: Server, timestamps: list[int]) -> None:
        """A server has nothing yet of what other servers have taken in a group that isn't released."""
        for write in self._store(server).values():
            if write.version.timestamp in timestamps and write.version.dot.replica != server.peer.model.replica:
                raise Violation(f"server {server.ident} has learnt of {write} while its group was under way")

    def _replace(self, client: Client) -> None:
        """The client has died; joinClient starts another one, with a new session, at the same servers."""
        for key in KEYS:
            self._truth.seen.pop((client.ident, key), None)
        client.session = Session()
        client.late = None
        client.connections = [ident for ident in client.connections if self._servers[ident].running]
        for ident in client.connections:
            client.session.connect(ident)

    # -- the end -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let gossip come to rest: it must have brought everything everywhere, first within the components, and then
        with everybody there and connected. After that, stabilize must have nothing left to do.
        """
        for server in self._servers.values():
            server.full, server.fuse = False, None
        self._rest()
        for server in self._servers.values():
            if not server.running:
                self._join(server)
        for one in self._servers.values():
            for other in self._servers.values():
                self._step_link(one.ident, other.ident)
        self._rest()
        for server in self._servers.values():
            if server.peer.router.reachable() != self._servers.keys():
                raise Violation(f"server {server.ident} thinks that it can reach just {server.peer.router.reachable()}")
        self._stabilize(0)
        self._check_touched()

    def _rest(self) -> None:
        """Let gossip go on, without any more trouble, until everybody is silent."""
        before = self._standing()
        for _ in range(200):
            while ready := [message for message in self._network if not self._waits(message)]:
                self._network.remove(ready[0])
                self._arrive(ready[0])
            if not self._network and all(map(self._is_silent, self._servers.values())):
                break
            self._tick(GOSSIP_INTERVAL)
        else:
            raise Violation("gossip does not come to rest")
        for part in router.components(self._links):
            if not self._agree(part):
                raise Violation(f"gossip has come to rest, but servers {sorted(part)} know of different writes")
            for ident in part:
                if not self._servers[ident].peer.router.reachable() >= part:
                    raise Violation(f"server {ident} does not know that it can reach all of {sorted(part)}")
        self._check_convergence(before)

    @staticmethod
    def _is_silent(server: Server) -> bool:
        return not server.running or (server.peer.due is None and server.gossip.exchange is None)

    def close(self) -> None:
        """Close all files."""
        for server in self._servers.values():
            if server.disk is not None:
                server.disk.log.close()

    # -- what must hold ------------------------------------------------------------------------------------

    def _store(self, server: Server) -> dict[bytes, Write]:
        return {write.key: write for write in server.peer.model.writes()}

    def _standing(self) -> dict[int, dict[bytes, VersionOrder]]:
        return {
            ident: {w.key: w.version.order for w in self._store(self._servers[ident]).values()} for ident in self._links
        }

    def _check_touched(self) -> None:
        """The invariant of contexts, and that nothing stands that was not written."""
        for server in self._touched:
            if not server.running:
                continue
            store, context = self._store(server), server.peer.model.context
            for key, write in store.items():
                if self._truth.writes.get(write.version.dot) != write:
                    raise Violation(f"server {server.ident} serves {write}, which nobody has written")
                if not context.covers(write.version.dot):
                    raise Violation(f"server {server.ident} holds {write}, but its context does not cover it")
                if write.version.order < self._truth.held.get(server.ident, {}).get(key, write.version.order):
                    raise Violation(f"server {server.ident} has gone back to {write}")
            for dot, write in self._truth.writes.items():
                if context.covers(dot) and (
                    write.key not in store or store[write.key].version.order < write.version.order
                ):
                    raise Violation(f"server {server.ident}'s context covers {dot}, but it lacks {write}")
        self._touched.clear()

    def _check_revival(self, server: Server) -> None:
        """All that the log ever took is there, unless the disk was lost or damaged; and nothing else."""
        store = self._store(server)
        for key, order in self._truth.held.get(server.ident, {}).items():
            if key not in store or store[key].version.order != order:
                raise Violation(f"server {server.ident} has come back with {store.get(key)} instead of {order}")
        for write in store.values():
            if self._truth.writes.get(write.version.dot) != write:
                raise Violation(f"server {server.ident} has come back with {write}, which nobody has written")
        self._truth.held[server.ident] = {key: write.version.order for key, write in store.items()}
        self._touched.add(server)
        self._check_acknowledged(server)

    def _check_acknowledged(self, server: Server) -> None:
        store = self._store(server)
        for key, timestamp in self._truth.acknowledged.get(server.ident, {}).items():
            if key not in store or store[key].version.timestamp < timestamp:
                raise Violation(f"server {server.ident} had acknowledged a put of {key!r} at {timestamp}; it is lost")

    def _check_convergence(self, before: dict[int, dict[bytes, VersionOrder]]) -> None:
        """Within each component all stores are equal, and have the largest version that any member held."""
        for part in router.components(self._links):
            stores = {ident: self._store(self._servers[ident]) for ident in part}
            first = stores[min(part)]
            for ident, store in stores.items():
                if store != first:
                    raise Violation(
                        f"servers {min(part)} and {ident} agree on what they know, but hold {first} and {store}"
                    )
                for key, order in before.get(ident, {}).items():
                    if key not in first or first[key].version.order < order:
                        raise Violation(f"server {ident} held {order} of {key!r}; now all have {first.get(key)}")
                    last = self._truth.issued[self._truth.writes[order[1]].value]
                    if self._truth.issued[first[key].value] < last:
                        raise Violation(f"{first[key]} stands, and not the put that came last, which {ident} had")
                self._check_acknowledged(self._servers[ident])

    def _due_answer(self, client: Client, key: bytes, standing: dict[int, Write | None]) -> OperationOutcome:
        """What must come of a get, where the servers that it may ask, in this order, hold these."""
        seen = self._truth.seen.get((client.ident, key), 0)
        for server, write in standing.items():
            if write is None and not seen:
                return NoValue(server)
            if write is not None and write.version.timestamp >= seen:
                return Value(write.value, server, write.version.timestamp)
        return Unsatisfied() if standing else Unusable()

    def _check_answer(self, client: Client, key: bytes, outcome: OperationOutcome, due: OperationOutcome) -> None:
        if type(outcome) is not type(due) or (outcome != due and not isinstance(due, Unsatisfied)):
            raise Violation(f"get {client.ident} {key!r}: {outcome}, not {due}")
        if isinstance(outcome, Value):
            self._check_read(client, key, outcome.value)

    def _check_failed_put(self, client: Client, asked: list[Server], outcome: OperationOutcome) -> None:
        """A put may fail only where no server can take it."""
        left = [server for server in asked if server.running]
        if not asked:
            due: type[OperationOutcome] = Unusable
        elif left and not left[0].full:
            due = Stored
        else:  # whoever died had it under way, and may have logged it
            due = UncertainPut if len(left) < len(asked) else Refusal
        if type(outcome) is not due:
            raise Violation(f"a put of {client.ident}: {outcome}, not {due.__name__}")

    def _check_read(self, client: Client, key: bytes, value: bytes) -> None:
        """Read Your Writes and Monotonic Reads."""
        write = next((write for write in self._truth.writes.values() if write.value == value), None)
        if write is None or write.key != key:
            raise Violation(f"get {client.ident} {key!r}: {value!r}, which nobody has put there")
        seen = self._truth.seen.get((client.ident, key), 0)
        if write.version.timestamp < seen:
            raise Violation(f"get {client.ident} {key!r}: {value!r}, older than what the session has seen")
        self._truth.seen[client.ident, key] = write.version.timestamp


class Stabilizing:
    """The running servers within one stabilize (`stabilize.Servers`)."""

    def __init__(self, world: World, between: int) -> None:
        self._world = world
        self._between = between
        self._passes = 0

    def graph(self) -> router.Graph:
        return self._world._links

    def contexts(self) -> dict[int, bytes]:
        self._passes += 1
        if self._passes > 10:
            raise Violation("stabilize does not come to an end")
        return {ident: self._world._context(ident) for ident in self._world._links}

    def pull(self, step: dict[int, list[int]]) -> bool:
        for ident, neighbours in step.items():
            for neighbour in neighbours:
                if not self._world._pull(self._world._servers[ident], self._world._servers[neighbour]):
                    return False
                if self._between % 2:
                    self._world._step_deliver(self._between, 0)
        return True


class Interruptions:
    """What goes on between the steps of a group: by the bits of two numbers."""

    def __init__(self, world: World, first: int, second: int) -> None:
        self._world = world
        self._bits = first ^ second << 3

    def next(self) -> None:
        self._bits, ticks, delivers = self._bits >> 2, self._bits & 1, self._bits & 2
        if ticks:
            self._world._tick(GOSSIP_INTERVAL)
        if delivers:
            for message in [message for message in self._world._network if not self._world._waits(message)][:3]:
                self._world._network.remove(message)
                self._world._arrive(message)


class Sent(NamedTuple):
    """A part of a group, on its way to a client."""

    client: Client
    number: int
    members: int
    packed: bytes


class GroupCalls:
    """What happens to the parts of one group (`groups.Calls`), between the master's questions and afterwards."""

    def __init__(self, world: World, interruptions: Interruptions) -> None:
        self._world = world
        self._interruptions = interruptions
        self._sent: list[Sent] = []
        self._parts: dict[int, Part] = {}
        self._answers: dict[int, MemberAnswer] = {}
        self._groups: dict[int, ServerGroup] = {}
        self.standing: dict[int, dict[bytes, Write]] = {}
        """Server -> what stood there when it carried its parts out."""
        self.lost: list[Client] = []
        """Clients that have died."""
        self._strays: dict[int, Sent] = {}  # client -> its part, which comes when it has been killed
        self._silent: set[int] = set()  # servers

    def send(self, client: int, number: int, members: int, part: bytes) -> None:
        self._sent.append(Sent(self._world._clients[client], number, members, part))

    def wait(self, client: int) -> MemberAnswer | None:
        """All parts go their ways when the first answer is asked for."""
        sent, self._sent = self._sent, []
        if sent:
            self._hand_all_in(sent)
        return self._answers.get(client)

    def _hand_all_in(self, sent: list[Sent]) -> None:
        late = []
        for part in sent:
            self._interruptions.next()
            trouble, part.client.late = part.client.late, None
            if trouble == LATE:
                late.append(part)
            elif trouble in (LOST_BEFORE, STRAY):
                self.lost.append(part.client)
                if trouble == STRAY:
                    self._strays[part.client.ident] = part
            else:
                self._hand_in(part)
                if trouble == LOST_AFTER:
                    self.lost.append(part.client)
        self._interruptions.next()
        for client in [part.client for part in sent]:
            if client not in self.lost and client.connections[0] in self._groups:
                self._groups[client.connections[0]].give_up()  # it has waited there for half a time-out
        for part in late:
            self._hand_in(part)
        for client in [part.client for part in sent]:
            if client not in self.lost:
                self._answers[client.ident] = self._answer(client)

    def _hand_in(self, sent: Sent) -> None:
        """A client's part reaches its server, if that is still there."""
        client, number, members, packed = sent
        part = self._parts[client.ident] = Part(client.session, msgpack.unpackb(packed))
        server = self._world._servers[client.connections[0]]
        if server.freeze == BEFORE:
            self._freeze(server)
        if not server.running or server.ident in self._silent:
            return
        operations = unpack_operations(pack_operations(part.operations), client.ident)
        group = server.peer.groups.of(number, members)
        if group is not None:
            self._groups[server.ident] = group
            if group.add(client.ident, operations):
                self._carry_out(server, group)

    def _freeze(self, server: Server) -> None:
        server.freeze = None
        self._silent.add(server.ident)

    def _carry_out(self, server: Server, group: ServerGroup) -> None:
        timestamps = [operation.timestamp for part in group.parts.values() for operation in part]
        self._world._check_hidden(server, timestamps)
        self._world._touched.add(server)
        self.standing[server.ident] = self._world._store(server)

        def execute(operations: list[Operation], number: int) -> list[Write | Missing] | None:
            try:
                return server.peer.execute(operations, self._world._now, number)
            except StorageError:
                return None

        try:
            group.carry_out(server.peer.model, execute)
        except Crash:
            self._world._kill(server)
            return
        if server.unsync:
            server.unsync = False
            self._world._sync_fails(server)
        if server.freeze == AFTER:
            self._freeze(server)

    def _answer(self, client: Client) -> MemberAnswer:
        """What a client has heard from its server, and answers the master."""
        server = self._world._servers[client.connections[0]]
        group = self._groups.get(server.ident)
        if not server.running:
            return MemberAnswer(None, "died")
        if server.ident in self._silent:
            return MemberAnswer(None, "silent")
        answers = group.answers(client.ident) if group is not None else None
        if server.freeze == HALF_HEARD and answers is not None:
            self._freeze(server)  # nobody else will hear
        if answers is None:
            return MemberAnswer(None, None)
        return MemberAnswer(self._parts[client.ident].conclude(server.ident, msgpack.unpackb(answers)), None)

    def kill_client(self, client: int) -> None:
        pass  # it is dead already; see `lost`

    def answers_of(self, server: int, number: int, client: int) -> list[Any] | None:
        if not self.is_running(server):
            return None
        if server in self._silent:
            self._world._kill(self._world._servers[server])
            return None
        packed = self._world._servers[server].peer.groups.answers(number, client)
        if client in self._strays:
            self._hand_in(self._strays[client])
        return None if packed is None else list(msgpack.unpackb(packed))

    def is_running(self, server: int) -> bool:
        return self._world._servers[server].running

    def take_back(self, server: int, loss: str, number: int) -> None:
        lost = self._world._servers[server]
        self._world._kill(lost)
        cut_group(lost.folder, number)
        if lost.last_group == number:
            self._world._truth.take_back(lost)

    def undo(self, client: int) -> None:
        self._parts[client].undo()


@contextmanager
def failing_fsync() -> Iterator[None]:
    """Within this block, nothing can be brought to the disk itself."""

    def fail(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    usual = os.fsync
    vars(os).update(fsync=fail)
    try:
        yield
    finally:
        vars(os).update(fsync=usual)


def run(schedule: list[Step], folder: Path, observe: Callable[[Step], None] = lambda _: None) -> None:
    """Run a schedule in a new world, whose disks are in *folder*, which is removed. Raises Violation.

    *observe* is called before each step.
    """
    folder.mkdir(parents=True)
    try:
        with small_limits():
            world = World(folder)
            try:
                for step in schedule:
                    observe(step)
                    world.step(step)
                world.finish()
            finally:
                world.close()
    finally:
        shutil.rmtree(folder)
