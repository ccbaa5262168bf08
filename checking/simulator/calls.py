"""The master's calls for a group and for stabilize, as they go in the simulated cluster.

May live here: what the two protocols `groups.Calls` and `control.stabilize.Servers` ask for, and the mishaps that may
happen in between. May not: what the master makes of it, which is decided by the real code of groups and stabilize.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

import router
from checking.simulator.parts import Client, Crash, Server
from checking.simulator.truth import Violation
from checking.simulator.world import GOSSIP_INTERVAL, World
from groups import MemberAnswer, Part, ServerGroup
from messages import Missing, Operation, Write, pack_operations, unpack_operations
from peer import Answer, unpack_request
from storage import StorageError, cut_group

__all__ = ["GroupCalls", "Interruptions", "Stabilizing"]

LATE, LOST_BEFORE, LOST_AFTER, STRAY = range(4)
"""Mishaps of a client in a group, by the second number of the step `late`.

Its part comes too late; the client is lost before its part comes; the client is lost after it was answered; the client
is lost, and its part comes after the client was killed.
"""
BEFORE, AFTER, HALF_HEARD = range(3)
"""When a server falls silent in a group, by the second number of the step `freeze`.

Before it carries the group out; afterwards, but before anybody hears the answers; when one client has heard.
"""

MOST_PASSES = 10
"""How often stabilize may compare contexts until something must be wrong."""


class Interruptions:
    """What goes on between the events of a group, as the bits of two numbers say: time goes by, messages arrive."""

    def __init__(self, world: World, first: int, second: int) -> None:
        self._world = world
        self._bits = first ^ second << 3

    def next(self) -> None:
        """Let happen what the next two bits say."""
        self._bits, ticks, delivers = self._bits >> 2, self._bits & 1, self._bits & 2
        if ticks:
            self._world.tick(GOSSIP_INTERVAL)
        if delivers:
            for message in [message for message in self._world.network if not self._world.waits(message)][:3]:
                self._world.network.remove(message)
                self._world.arrive(message)


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
        self._sent.append(Sent(self._world.clients[client], number, members, part))

    def wait(self, client: int) -> MemberAnswer | None:
        """All parts are handed in when the first answer is waited for."""
        sent, self._sent = self._sent, []
        if sent:
            self._hand_all_in(sent)
        return self._answers.get(client)

    def _hand_all_in(self, sent: list[Sent]) -> None:
        late = []
        for part in sent:
            self._interruptions.next()
            mishap, part.client.late = part.client.late, None
            if mishap == LATE:
                late.append(part)
            elif mishap in (LOST_BEFORE, STRAY):
                self.lost.append(part.client)
                if mishap == STRAY:
                    self._strays[part.client.ident] = part
            else:
                self._hand_in(part)
                if mishap == LOST_AFTER:
                    self.lost.append(part.client)
        self._interruptions.next()
        for client in [part.client for part in sent]:
            if client not in self.lost and client.connections[0] in self._groups:
                self._groups[client.connections[0]].give_up()  # it has waited there for half a timeout
        for part in late:
            self._hand_in(part)
        for client in [part.client for part in sent]:
            if client not in self.lost:
                self._answers[client.ident] = self._answer(client)

    def _hand_in(self, sent: Sent) -> None:
        """A client's part reaches its server, if that is still there."""
        client, number, members, packed = sent
        part = self._parts[client.ident] = Part(client.session, msgpack.unpackb(packed))
        server = self._world.servers[client.connections[0]]
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
        self._world.promises.check_hidden(server, timestamps)
        self._world.touched.add(server)
        self.standing[server.ident] = server.store()

        def execute(operations: list[Operation], number: int) -> list[Write | Missing] | None:
            try:
                return server.peer.execute(operations, self._world.now, number)
            except StorageError:
                return None

        try:
            group.carry_out(server.peer.model, execute)
        except Crash:
            self._world.kill(server)
            return
        if server.unsync:
            server.unsync = False
            self._world.fail_to_sync(server)
        if server.freeze == AFTER:
            self._freeze(server)

    def _answer(self, client: Client) -> MemberAnswer:
        """What a client has heard from its server, as it answers the master."""
        server = self._world.servers[client.connections[0]]
        group = self._groups.get(server.ident)
        if not server.running:
            return MemberAnswer(None, "died")
        if server.ident in self._silent:
            return MemberAnswer(None, "silent")
        answers = group.answers(client.ident) if group is not None else None
        if server.freeze == HALF_HEARD and answers is not None:
            self._freeze(server)  # no other client will hear
        if answers is None:
            return MemberAnswer(None, None)
        return MemberAnswer(self._parts[client.ident].conclude(server.ident, msgpack.unpackb(answers)), None)

    def kill_client(self, client: int) -> None:
        pass  # it is dead already: see `lost`

    def answers_of(self, server: int, number: int, client: int) -> list[Any] | None:
        if not self.is_running(server):
            return None
        if server in self._silent:
            self._world.kill(self._world.servers[server])
            return None
        packed = self._world.servers[server].peer.groups.answers(number, client)
        if client in self._strays:
            self._hand_in(self._strays[client])
        return None if packed is None else list(msgpack.unpackb(packed))

    def is_running(self, server: int) -> bool:
        return self._world.servers[server].running

    def take_back(self, server: int, loss: str, number: int) -> None:
        lost = self._world.servers[server]
        self._world.kill(lost)
        cut_group(lost.folder, number)
        if lost.last_group == number:
            self._world.truth.take_back(server, lost.last_writes, lost.held_before_group)

    def undo(self, client: int) -> None:
        self._parts[client].undo()


class Stabilizing:
    """The running servers within one stabilize (`stabilize.Servers`)."""

    def __init__(self, world: World, between: int) -> None:
        """*between*: if it is odd, the message of gossip at that place arrives after each pull."""
        self._world = world
        self._between = between
        self._passes = 0

    def graph(self) -> router.Graph:
        return self._world.links

    def contexts(self) -> dict[int, bytes]:
        self._passes += 1
        if self._passes > MOST_PASSES:
            raise Violation("stabilize does not come to an end")
        return {ident: self._world.context(ident) for ident in self._world.links}

    def pull(self, step: dict[int, list[int]]) -> bool:
        """Raises StorageError."""
        for ident, neighbours in step.items():
            for neighbour in neighbours:
                if not self._pull(self._world.servers[ident], self._world.servers[neighbour]):
                    return False
                if self._between % 2:
                    self._world.deliver(self._between)
        return True

    def _pull(self, server: Server, neighbour: Server) -> bool:
        """One server pulls from one neighbour; whether that came to its end."""
        if not (server.running and neighbour.running):
            return False
        self._world.touched.add(server)
        try:
            exchange = server.peer.exchange(neighbour.ident)
            while not exchange.done:
                request = unpack_request(msgpack.packb(exchange.request()))
                answer = Answer.from_bytes(msgpack.packb(neighbour.peer.answer_pull(request)))
                exchange.receive(answer, self._world.now)
        except Crash:
            self._world.kill(server)
            return False
        return True
