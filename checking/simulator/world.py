"""The world around the real parts: servers that run or not, links between them, gossip on its way, clients.

May live here: the state of the simulated cluster, and what happens to it one event at a time, with the checks that
belong to that event. May not: steps of a schedule (simulation.py), groups and stabilize, which are several events
(calls.py), and a second copy of what the parts do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack

import router
from checking.simulator.parts import Asked, Client, Crash, Disk, Message, Server
from checking.simulator.promises import Promises
from checking.simulator.truth import Truth, Violation
from control.clock import HybridClock
from peer import Answer, Exchange, GossipLoop, NotLinked, Peer, unpack_request
from shape import NO_SHAPE, Fate, Lane, Shape
from storage import Storage, StorageError
from vector_clock import Replica, VersionOrder

__all__ = ["CLIENTS", "FIRST_CLIENT", "GOSSIP_INTERVAL", "SERVERS", "SHAPES", "World"]

SERVERS = 4
FIRST_CLIENT = 100
CLIENTS = 4

GROUP_LIMIT = 300
"""How many bytes of values a group may answer with; so few that some groups have to be given up."""

GOSSIP_INTERVAL = 1.0
SHAPES = (NO_SHAPE, Shape(0.4), Shape(1.0, 0.6), Shape(0.3, 0.1, 0.2), Shape(3.0, 3.0, 0.4))
"""The shapes that links may have."""

TIMEOUT = 5.0
"""How many seconds an asker waits for an answer that was lost."""


class World:
    """The simulated cluster. Every method raises Violation where a promise is broken."""

    def __init__(self, folder: Path) -> None:
        """*folder* is for the servers' disks, and empty."""
        self.truth = Truth()
        self.promises = Promises(self.truth)
        self.now = 1000.0
        self.servers = {ident: Server(ident, folder / f"server-{ident}") for ident in range(SERVERS)}
        self.links: dict[int, set[int]] = {}
        """The running servers, and the neighbours of each."""
        self.clients: dict[int, Client] = {}
        self.network: list[Message] = []
        """The messages that are under way, the oldest first."""
        self.touched: set[Server] = set()
        """The servers whose state may have changed in this step."""
        self.damaged: set[int] = set()
        """The servers whose files were damaged since they ran last."""
        self._time_of_day = 1_000_000_000
        self._bound = 0
        self._last_timestamp = 0
        self._clock = self._new_clock()
        self._numbers = 0
        self._link_numbers: dict[frozenset[int], int] = {}
        self.shapes: dict[frozenset[int], Shape] = {}
        self._start_all()

    def _new_clock(self) -> HybridClock:
        def reserve(bound: int) -> None:
            self._bound = bound

        return HybridClock(lambda: self._time_of_day, self._bound, reserve)

    def _start_all(self) -> None:
        """Start all servers but the last, and all clients, each connected to one of these servers."""
        for ident in range(SERVERS - 1):
            self.join(self.servers[ident])
        for number in range(CLIENTS):
            client = Client(FIRST_CLIENT + number)
            self.clients[client.ident] = client
            self.connect(client, self.servers[number % (SERVERS - 1)])

    def restart(self, back: int) -> None:
        """End the master with all servers and clients, and start another one.

        *back*: by how many microseconds the time of day is set back in between.
        """
        for server in self.servers.values():
            self.kill(server)
        self._time_of_day -= back
        self._clock = self._new_clock()
        for client in self.clients:
            self.truth.forget_session(client)
        self._start_all()

    def next_timestamp(self) -> int:
        timestamp = self._clock.next()
        if timestamp <= self._last_timestamp:
            raise Violation(f"the clock has issued {timestamp} after {self._last_timestamp}")
        self._last_timestamp = timestamp
        return timestamp

    def close(self) -> None:
        """Close all files."""
        for server in self.servers.values():
            if server.disk is not None:
                server.disk.close()

    # -- servers, links and connections --------------------------------------------------------------------

    def join(self, server: Server) -> None:
        """joinServer: start a server that is not running, linked to all that run."""
        incarnation = self.next_timestamp()
        peer = Peer(Replica(server.ident, incarnation), GOSSIP_INTERVAL, GROUP_LIMIT)
        log = Storage(server.folder, incarnation)
        recovery = log.recover()
        if recovery.damages and server.ident not in self.damaged:
            raise Violation(f"server {server.ident} reports damage, and there was none: {recovery.damages}")
        self.damaged.discard(server.ident)
        peer.recover(recovery.deltas, bool(recovery.damages))
        log.start(peer.model)
        server.peer, server.disk, server.fuse = peer, Disk(server, log, self.truth), None
        server.freeze, server.unsync, server.gossip, server.asked = None, False, GossipLoop(peer), {}
        for ident, shape in self._shapes_of(server.ident):
            peer.shape(ident, shape, 0)
        peer.start(server.disk)
        self._clock.observe(peer.model.largest_timestamp)
        self.promises.check_revival(server)
        self.touched.add(server)
        self.links[server.ident] = set()
        for other in self.servers.values():
            if other.running and other is not server:
                self.link(server, other)
        for client in self.clients.values():
            client.session.mark(server.ident, True)

    def kill(self, server: Server) -> None:
        """End the process of a server; it need not have one."""
        if server.disk is None:
            return
        server.disk.close()
        server.disk, server.fuse = None, None
        for other in self.links.pop(server.ident):
            self.links[other].discard(server.ident)
            self.servers[other].peer.unlink(server.ident)
        for client in self.clients.values():
            client.session.mark(server.ident, False)

    def fail_to_sync(self, server: Server) -> None:
        """A sync of the log fails; the thread that syncs has the log written anew, as soon as that is possible."""
        assert server.disk is not None
        self.touched.add(server)
        server.disk.fail_to_sync()
        try:
            server.peer.renew_log()
        except StorageError:
            pass  # the next append tries again

    def link(self, one: Server, other: Server) -> None:
        self._numbers += 1
        self._link_numbers[frozenset((one.ident, other.ident))] = self._numbers
        for end, far in ((one, other), (other, one)):
            self.links[end.ident].add(far.ident)
            end.peer.link(far.ident, "", self.now)

    def unlink(self, one: Server, other: Server) -> None:
        for end, far in ((one, other), (other, one)):
            self.links[end.ident].discard(far.ident)
            end.peer.unlink(far.ident)

    def shape(self, one: Server, other: Server, shape: Shape) -> None:
        """Give the link between two servers a shape, whether it is there or not."""
        if self.shapes.get(frozenset((one.ident, other.ident)), NO_SHAPE) == shape:
            return
        self._numbers += 1
        self._link_numbers[frozenset((one.ident, other.ident))] = self._numbers
        self.shapes[frozenset((one.ident, other.ident))] = shape
        for end, far in ((one, other), (other, one)):
            if end.running:
                end.peer.shape(far.ident, shape, 0)
                self._end_exchanges(end)

    def _shapes_of(self, server: int) -> list[tuple[int, Shape]]:
        return [(other, shape) for ends, shape in self.shapes.items() if server in ends for other in ends - {server}]

    def _end_exchanges(self, server: Server) -> None:
        """Give up the exchanges over links that are broken, or have another shape."""
        for neighbour, exchange in list(server.gossip.under_way.items()):
            if server.peer.links.get(neighbour) is not exchange.link:
                self._exchange_failed(server, exchange)

    def connect(self, client: Client, server: Server) -> None:
        client.session.connect(server.ident)
        if server.ident not in client.connections:
            client.connections.append(server.ident)

    # -- gossip --------------------------------------------------------------------------------------------

    def tick(self, seconds: float) -> None:
        """Let time go by. Each server then begins the exchange that is due, or gives up one that takes too long."""
        self.now += seconds
        self._time_of_day += int(seconds * 1e6)
        for server in self.servers.values():
            if not server.running:
                continue
            for neighbour, exchange in list(server.gossip.under_way.items()):
                lanes = exchange.link.lanes
                slowness = 2 * lanes.shape.longest if lanes is not None else 0.0
                if self.now - server.asked[neighbour].at > TIMEOUT + slowness:
                    self._exchange_failed(server, exchange)
            self._next_exchanges(server)

    def waits(self, message: Message) -> bool:
        """Whether a message is not due yet, or the thread that it is for waits until a group is released."""
        return message.due > self.now or (self._is_for_the_living(message) and message.receiver.groups.held)

    def deliver(self, which: int, again: bool = False) -> None:
        """A message arrives, unless it has to wait. *again*: it stays under way, and will arrive once more."""
        if self.network and not self.waits(self.network[self.position(which)]):
            place = self.position(which)
            self.arrive(self.network[place] if again else self.network.pop(place))

    def position(self, which: int) -> int:
        """The place in the network that a number of a schedule means: mostly that of the oldest message."""
        return which % len(self.network) if which >= 128 else 0

    def arrive(self, message: Message) -> None:
        """A message arrives; nothing happens if the process that it is for has died."""
        if not self._is_for_the_living(message):
            return
        server = self.servers[message.receiver.router.server]
        self.touched.add(server)
        before = server.peer.model.context.copy()
        try:
            if message.is_request:
                self._requested(server, message)
            else:
                self._answered(server, message)
        except Crash:
            self.kill(server)
        except StorageError:
            exchange = server.gossip.under_way.get(message.sender.router.server)
            if exchange is not None:
                self._exchange_failed(server, exchange)
        if not self._crosses(message) and server.peer.model.context != before:
            raise Violation(f"server {server.ident} has learnt something over a link that was broken")

    def _is_for_the_living(self, message: Message) -> bool:
        server = self.servers[message.receiver.router.server]
        return server.peer is message.receiver and server.running

    def _crosses(self, message: Message) -> bool:
        """Whether the link that a message was sent over is still there."""
        ends = message.sender.router.server, message.receiver.router.server
        return ends[0] in self.links.get(ends[1], ()) and self._link_numbers[frozenset(ends)] == message.link

    def _next_exchanges(self, server: Server) -> None:
        """Begin the exchanges that are due: one over a link without a shape, which is waited for, and any others."""
        while not server.peer.groups.held and all(exchange.link.lanes for exchange in server.gossip.under_way.values()):
            exchange = server.gossip.next(self.now)
            if exchange is None:
                return
            self._ask(server, exchange)

    def _exchange_failed(self, server: Server, exchange: Exchange) -> None:
        server.gossip.failed(exchange, self.now)
        self._next_exchanges(server)

    def _ask(self, server: Server, exchange: Exchange) -> None:
        self._numbers += 1
        server.asked[exchange.neighbour] = Asked(self._numbers, self.now)
        receiver = self.servers[exchange.neighbour].peer
        lane = exchange.link.lanes.calls if exchange.link.lanes is not None else None
        self._send(server.peer, receiver, self._numbers, True, exchange.request(), lane)

    def _send(
        self, sender: Peer, receiver: Peer, number: int, is_request: bool, body: list[Any] | None, lane: Lane | None
    ) -> None:
        packed = None if body is None else msgpack.packb(body)
        link = self._link_numbers[frozenset((sender.router.server, receiver.router.server))]
        fate = Fate(False, self.now) if lane is None else lane.send(self.now)
        if not fate.lost:
            self.network.append(Message(sender, receiver, number, is_request, packed, link, fate.due))
            return
        ends = sender.router.server, receiver.router.server
        asker, asked = ends if is_request else ends[::-1]
        waiting = self.servers[asker].asked
        if asked in waiting and waiting[asked].number == number:
            waiting[asked] = Asked(number, float("-inf"))  # it gives up when time goes by

    def _requested(self, server: Server, message: Message) -> None:
        assert message.body is not None
        answer = server.peer.answer_pull(unpack_request(message.body))
        if answer is not None and message.sender.router.server not in self.links[server.ident]:
            raise Violation(f"server {server.ident} has answered a server that it has no link to")
        link = message.sender.links.get(server.ident)
        lane = link.lanes.answers if link is not None and link.lanes is not None else None
        self._send(server.peer, message.sender, message.number, False, answer, lane)

    def _answered(self, server: Server, message: Message) -> None:
        answer = None if message.body is None else Answer.from_bytes(message.body)
        neighbour = message.sender.router.server
        exchange = server.gossip.under_way.get(neighbour)
        if exchange is None or message.number != server.asked[neighbour].number:
            if answer is not None and self._crosses(message):
                server.peer.take_in(answer, self.now)  # doubled: no real connection does that, and it must do no harm
            return
        try:
            exchange.receive(answer, self.now)
        except NotLinked:
            self._exchange_failed(server, exchange)
            return
        if not exchange.done:
            self._ask(server, exchange)
            return
        server.gossip.done(exchange)
        self._next_exchanges(server)

    # -- stores --------------------------------------------------------------------------------------------

    def context(self, server: int) -> bytes:
        """What a server knows of; equal contexts are equal bytes."""
        packed: bytes = msgpack.packb(self.servers[server].peer.model.context.flat())
        return packed

    def standing(self) -> dict[int, dict[bytes, VersionOrder]]:
        """Running server -> key -> the version that stands there."""
        return {
            ident: {write.key: write.version.order for write in self.servers[ident].store().values()}
            for ident in self.links
        }

    def check_touched(self) -> None:
        """Check all servers whose state may have changed."""
        for server in self.touched:
            if server.running:
                self.promises.check_state(server)
        self.touched.clear()

    def check_convergence(self, before: dict[int, dict[bytes, VersionOrder]]) -> None:
        """Each component has converged. *before*: what `standing` returned earlier."""
        for component in router.components(self.links):
            self.promises.check_convergence([self.servers[ident] for ident in component], before)
