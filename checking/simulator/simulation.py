"""Simulation: what each step of a schedule does to the simulated cluster, and the end, when everything must converge.

May live here: steps, and the commands of clients. May not: a second copy of what the parts do. `Peer`, `Model`,
`Router`, `Session`, `Group` with its sides at server and client, `GossipLoop`, `stabilize`, `HybridClock` and `Storage`
are the ones that run in real processes; the storage writes real files. Nothing here sleeps, forks or asks for the time.
(The idea: FoundationDB's simulator, and TigerBeetle's VOPR.)

Theory of operation
-------------------
A *schedule* is a list of steps, each a word and two small numbers. A schedule decides everything: whenever it is run,
the same happens. In the beginning servers 0 to 2 run, all linked; clients 100 and 103 are connected to server 0, client
101 to server 1 and client 102 to server 2. A number that is too large for its meaning wraps around, so that every
schedule means something, also when steps are left out. That is what makes schedules shrink well.

| step            | what it does                                                                                |
|-----------------|---------------------------------------------------------------------------------------------|
| join S          | joinServer                                                                                  |
| kill S          | killServer                                                                                  |
| fuse S WHERE    | the server will die in its next write to the log: before it, at some byte of it, or after   |
|                 | it                                                                                          |
| wipe S          | the server dies, and its folder is lost                                                     |
| damage S WHERE  | the server dies, and a byte of its files is flipped                                         |
| full S          | the server's disk is full, until this step comes again                                      |
| restart BACK    | the master ends, with all servers and clients; another starts, whose time of day is BACK ms |
|                 | earlier                                                                                     |
| connect C S     | createConnection of a client and a server                                                   |
| disconnect C S  | breakConnection of a client and a server                                                    |
| link S T        | createConnection of two servers                                                             |
| cut S T         | breakConnection of two servers                                                              |
| put C K         | client C puts key K, with a value that is put only once                                     |
| get C K         | client C gets key K                                                                         |
| group K N       | some puts and gets of all clients that may take part, as one group; the bits of K and N say |
|                 | where time goes by and messages of gossip arrive in between                                 |
| late C WHEN     | in its next group, the client's part comes too late; or the client is lost before its part  |
|                 | comes; or it is lost after it was answered; or its part comes after the client was killed   |
| freeze S WHEN   | in its next group, the server falls silent before it carries the group out; or afterwards,  |
|                 | before any client hears the answers, or when one client has heard                           |
| unsync S WHEN   | a sync of the server's log fails: now, or in its next group                                 |
| tick N          | time goes by; each server whose gossip is due begins an exchange                            |
| shape S T       | shapeConnection of two servers; T also says which of the shapes in world.py                 |
| deliver N       | a message that is under way arrives: mostly the oldest, another if N is large               |
| double N        | a message arrives, and will arrive once more                                                |
| lose N          | a message is lost; whoever waits for it gives up later                                      |
| stabilize N     | stabilize; if N is odd, messages of gossip arrive in between                                |

After every step, and at the end, `Promises` (promises.py) checks what docs/reliability.md promises, against `Truth`
(truth.py), a record of what has happened. `World` (world.py) is the state in between, made of the parts in parts.py;
calls.py is how groups and stabilize go in it. Imports run in this order: schedule and truth at the bottom, then parts,
promises, world, calls, and this file at the top.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import compaction
import model
import router
from checking.simulator.calls import GroupCalls, Interruptions, Stabilizing
from checking.simulator.parts import Client, Crash, Server
from checking.simulator.schedule import Step
from checking.simulator.truth import Violation
from checking.simulator.world import CLIENTS, FIRST_CLIENT, GOSSIP_INTERVAL, SERVERS, SHAPES, World
from control.stabilize import stabilize
from groups import Group, Undone, may_take_part
from messages import Command, Operation, Stored, pack_operations, plain_answer, unpack_operations
from peer import Held
from session import Refused, ServerLost, Session
from storage import StorageError

__all__ = ["Simulation", "run", "small_limits"]

KEYS = (b"a", b"b", b"c")
FILLINGS = (b"", b"", b"", b"." * 40, b"." * 200)
"""What makes values longer."""

MOST_TICKS = 200
"""How many gossip intervals may go by until gossip must have come to rest."""


class Simulation(World):
    """Runs steps. `step` carries out one of them and checks; `finish` brings the cluster to rest and checks."""

    def __init__(self, folder: Path) -> None:
        """*folder* is for the servers' disks, and empty."""
        super().__init__(folder)
        self._values = 0

    def step(self, step: Step) -> None:
        """Carry out a step. Raises Violation."""
        getattr(self, f"_step_{step.word}")(step.first, step.second)
        self.check_touched()

    def _server(self, number: int) -> Server:
        return self.servers[number % SERVERS]

    def _client(self, number: int) -> Client:
        return self.clients[FIRST_CLIENT + number % CLIENTS]

    # -- steps about servers -------------------------------------------------------------------------------

    def _step_join(self, server: int, _: int) -> None:
        if not self._server(server).running:
            self.join(self._server(server))

    def _step_kill(self, server: int, _: int) -> None:
        self.kill(self._server(server))

    def _step_fuse(self, server: int, where: int) -> None:
        if self._server(server).running:
            self._server(server).fuse = where

    def _step_wipe(self, number: int, _: int) -> None:
        server = self._server(number)
        self.kill(server)
        shutil.rmtree(server.folder, ignore_errors=True)
        self.truth.forget_disk(server.ident)

    def _step_damage(self, number: int, where: int) -> None:
        server = self._server(number)
        self.kill(server)
        files = sorted(path for path in server.folder.glob("*.*") if ".damaged" not in path.name)
        if files:
            path = files[where % len(files)]
            data = bytearray(path.read_bytes())
            if data:
                data[-1 - where * 7 % len(data)] ^= 0xFF
                path.write_bytes(data)
                self.truth.forget_disk(server.ident)
                self.damaged.add(server.ident)

    def _step_full(self, number: int, _: int) -> None:
        self._server(number).full = not self._server(number).full

    def _step_freeze(self, server: int, when: int) -> None:
        if self._server(server).running:
            self._server(server).freeze = when % 3

    def _step_unsync(self, number: int, when: int) -> None:
        server = self._server(number)
        if server.running and when % 2:
            server.unsync = True
        elif server.running:
            self.fail_to_sync(server)

    def _step_restart(self, back: int, _: int) -> None:
        self.restart(back * 1000)

    # -- steps about connections ---------------------------------------------------------------------------

    def _step_connect(self, client: int, server: int) -> None:
        if self._server(server).running:
            self.connect(self._client(client), self._server(server))

    def _step_disconnect(self, number: int, server: int) -> None:
        client, ident = self._client(number), self._server(server).ident
        client.session.disconnect(ident)
        if ident in client.connections:
            client.connections.remove(ident)

    def _step_link(self, first: int, second: int) -> None:
        one, other = self._server(first), self._server(second)
        if one is not other and one.running and other.running and other.ident not in self.links[one.ident]:
            self.link(one, other)

    def _step_cut(self, first: int, second: int) -> None:
        one, other = self._server(first), self._server(second)
        if other.ident in self.links.get(one.ident, ()):
            self.unlink(one, other)

    def _step_shape(self, first: int, second: int) -> None:
        one, other = self._server(first), self._server(second)
        if one is not other:
            self.shape(one, other, SHAPES[second // SERVERS % len(SHAPES)])

    # -- steps about time and messages ---------------------------------------------------------------------

    def _step_tick(self, count: int, _: int) -> None:
        self.tick((count % 8 + 1) * GOSSIP_INTERVAL / 4)

    def _step_deliver(self, which: int, _: int) -> None:
        self.deliver(which)

    def _step_double(self, which: int, _: int) -> None:
        self.deliver(which, again=True)

    def _step_lose(self, which: int, _: int) -> None:
        if self.network:
            self.network.pop(self.position(which))

    def _step_stabilize(self, between: int, _: int) -> None:
        """Afterwards stores must be equal. stabilize fails where a disk is full."""
        before = self.standing()
        try:
            stabilize(Stabilizing(self, between))
        except StorageError:
            return
        except Held as error:
            raise Violation("a server still holds exchanges, though its group is over") from error
        self.check_convergence(before)

    # -- puts and gets -------------------------------------------------------------------------------------

    def _step_put(self, client: int, key: int) -> None:
        self._operate(self._client(client), KEYS[key % len(KEYS)], self._new_value(key))

    def _step_get(self, client: int, key: int) -> None:
        self._operate(self._client(client), KEYS[key % len(KEYS)], None)

    def _new_value(self, key: int) -> bytes:
        self._values += 1
        return b"%d" % self._values + FILLINGS[key // len(KEYS) % len(FILLINGS)]

    def _issue(self, value: bytes | None) -> int:
        """A timestamp for a put of this value, or for a get."""
        timestamp = self.next_timestamp()
        if value is not None:
            self.truth.issued.setdefault(value, timestamp)
        return timestamp

    def _operate(self, client: Client, key: bytes, value: bytes | None, timestamp: int | None = None) -> None:
        """Carry out a put, or a get where there is no value, and check what comes of it.

        *timestamp*: that of a command of a group, which has one already.
        """
        asked = [self.servers[ident] for ident in client.connections if self.servers[ident].running]
        due = self.promises.due_answer(client, key, {server.ident: server.store().get(key) for server in asked})
        timestamp = timestamp or self._issue(value)
        took: list[int] = []

        def ask(ident: int, operation: Operation) -> Any:
            (operation,) = unpack_operations(pack_operations([operation]))
            server = self.servers[ident]
            self.touched.add(server)
            try:
                (answer,) = server.peer.execute([operation], self.now)
            except Crash as crash:
                self.kill(server)
                raise ServerLost(cut_short=True) from crash
            except StorageError as error:
                raise Refused(str(error)) from error
            took.append(ident)
            return plain_answer(operation, answer)

        outcome = client.session.execute(key, value, timestamp, ask)
        if value is None:
            self.promises.check_get(client, key, outcome, due)
        elif isinstance(outcome, Stored):
            self.truth.acknowledge(client.ident, took[-1], key, timestamp)
        else:
            self.promises.check_failed_put(client, asked, outcome)

    # -- groups --------------------------------------------------------------------------------------------

    def _step_late(self, client: int, when: int) -> None:
        self._client(client).late = when % 4

    def _step_group(self, key: int, count: int) -> None:
        """Puts and gets of several clients as a group, and then the death of the clients that were lost in it."""
        interruptions = Interruptions(self, key, count)
        clients = [client for client in self.clients.values() if self._may_take_part(client)]
        commands = self._group_commands(clients, key, 2 + count % 6)
        timestamps = [self._issue(command.value or None) for command in commands]
        server_of = {client.ident: client.connections[0] for client in clients}
        group = Group(self.next_timestamp(), commands, timestamps, server_of)
        calls = GroupCalls(self, interruptions)
        group.start(calls)
        outcomes = group.finish(calls)
        undone = []
        for command, outcome in zip(commands, outcomes, strict=True):
            client = self.clients[command.ids[0]]
            if isinstance(outcome, Undone):
                undone.append((client, command, outcome.timestamp))
            else:
                self.promises.check_member(client, command, outcome, calls.standing[server_of[client.ident]])
        for client, command, timestamp in undone:
            interruptions.next()
            if client in calls.lost:
                self.truth.fail(timestamp)
            else:
                self.promises.check_hidden(self.servers[server_of[client.ident]], timestamps)
                self._operate(client, command.key, command.value or None, timestamp)
        for ident in group.members:
            if self.servers[ident].running:
                self.servers[ident].peer.release_group()
        for client in calls.lost:
            self._replace(client)

    def _may_take_part(self, client: Client) -> bool:
        return may_take_part(Command("get"), client.connections, lambda server: self.servers[server].running)

    def _group_commands(self, clients: list[Client], first_key: int, count: int) -> list[Command]:
        """Some puts and gets of these clients, in turn; none where there are no clients."""
        commands = []
        for number in range(count if clients else 0):
            client = clients[number % len(clients)]
            key = KEYS[(first_key + number // 2) % len(KEYS)]
            value = self._new_value(first_key + number) if (first_key + number) % 3 else b""
            commands.append(Command("put" if value else "get", (client.ident,), key, value))
        return commands

    def _replace(self, client: Client) -> None:
        """A client has died; joinClient starts another one, with a new session, at the same servers."""
        self.truth.forget_session(client.ident)
        client.session = Session()
        client.late = None
        client.connections = [ident for ident in client.connections if self.servers[ident].running]
        for ident in client.connections:
            client.session.connect(ident)

    # -- the end -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let gossip come to rest, first as things are, then with all servers running and linked. Raises Violation.

        Each time it must have brought every write to all servers of each component; and then stabilize must have
        nothing left to do.
        """
        for server in self.servers.values():
            server.full, server.fuse = False, None
        self._rest()
        for server in self.servers.values():
            if not server.running:
                self.join(server)
        for one in self.servers.values():
            for other in self.servers.values():
                self._step_link(one.ident, other.ident)
        self._rest()
        for server in self.servers.values():
            if server.peer.router.reachable() != self.servers.keys():
                raise Violation(f"server {server.ident} thinks that it can reach only {server.peer.router.reachable()}")
        self._step_stabilize(0, 0)
        self.check_touched()

    def _rest(self) -> None:
        """Let gossip go on, without any more trouble, until all servers are silent."""
        before = self.standing()
        for _ in range(MOST_TICKS):
            while ready := [message for message in self.network if not self.waits(message)]:
                self.network.remove(ready[0])
                self.arrive(ready[0])
            if not self.network and all(map(self._is_silent, self.servers.values())):
                break
            self.tick(GOSSIP_INTERVAL)
        else:
            raise Violation("gossip does not come to rest")
        for component in router.components(self.links):
            if len({self.context(ident) for ident in component}) > 1:
                raise Violation(f"gossip has come to rest, but servers {sorted(component)} know of different writes")
            for ident in component:
                if not self.servers[ident].peer.router.reachable() >= component:
                    raise Violation(f"server {ident} does not know that it can reach all of {sorted(component)}")
        self.check_convergence(before)

    @staticmethod
    def _is_silent(server: Server) -> bool:
        return not server.running or (server.peer.due is None and not server.gossip.under_way)


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


def run(schedule: list[Step], folder: Path, observe: Callable[[Step], None] = lambda _: None) -> None:
    """Run a schedule on a new cluster, whose disks are in *folder*, which is removed. Raises Violation.

    *observe* is called before each step.
    """
    folder.mkdir(parents=True)
    try:
        with small_limits():
            simulation = Simulation(folder)
            try:
                for step in schedule:
                    observe(step)
                    simulation.step(step)
                simulation.finish()
            finally:
                simulation.close()
    finally:
        shutil.rmtree(folder)
