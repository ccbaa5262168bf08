"""Groups: several puts and gets under way at once, where nobody can tell.

May live here: which commands may be in a group; what a server does with the parts of one, what a session learns from
it, and what the master makes of answers, silence and losses. May not: sockets, threads, files or the time of day.
What a group needs done outside is handed in; so server.py, client.py, control/cluster.py and the simulator
(checking/simulator/calls.py) all run this code.

Theory of operation
-------------------
A *group* is a number of consecutive puts and gets of a script, each with the timestamp that the master has issued for
it. The commands of one client are its *part*. Each client hands its part to its only server, in one call. The server
waits until it has the parts of all its *members*, the clients that have a part there; then it carries out all of them
in the order of their timestamps, which is that of the script, with one write to the log.

    master                clients                server
    | -- a part each ---> | -- the part -------> |   waits for the parts of all members,
    |                     |                      |   carries them out at once
    | <- outcomes ------- | <- answers --------- |
    | -- release ------------------------------> |   from here on exchanges go on

Nobody can tell, because

1. each server carries out its commands of a group in the order of the script, whichever clients they come from;
2. only clients with exactly one connection take part: a command that may fail over to another server runs alone;
3. from its first part on, a server neither starts, answers nor applies an exchange until the master releases the group:
   so no put that comes later in the script reaches another server before that has carried out an earlier get;
4. answers are printed in the order of the script, and only when the group is complete.

A server carries its parts out as a whole or *gives them up* as a whole: when a part has not come in time, when the
answers would be too large for one message, or when the log refuses. The master then carries out those commands one
after another, in the order of the script, before it releases the group. **Each keeps the timestamp that it was
issued with.** With a new one, a put would stand over a later put that another server of the group has taken.

When a client is lost, its server is asked what it has answered to that client, and gives the group up if it has not
carried it out by then: whatever comes later is refused. When a server is lost, nothing of the group has happened there.
Its log ends with the record of the group, which is cut off: nobody was told that it was kept, and because of rule 3
nobody can have seen it. Clients that heard from that server forget what they heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgpack

from messages import Command, Missing, Operation, OperationOutcome, Write, outcome_of, plain_answer
from model import Model
from session import Session
from vector_clock import Seen

__all__ = [
    "ANSWER_BYTES",
    "Calls",
    "Group",
    "MemberAnswer",
    "Part",
    "ServerGroup",
    "ServerGroups",
    "Undone",
    "may_take_part",
]

ANSWER_BYTES = 16 << 20
"""About how many bytes of values one group may answer with at a server; more is asked for one by one."""


def may_take_part(command: Command, connections: Sequence[int], is_running: Callable[[int], bool]) -> bool:
    """Whether a command of a client with these connections may be in a group: a put or get at its only server.

    A client that might fail over could not tell how far it had come.
    """
    return command.name in ("put", "get") and len(connections) == 1 and is_running(connections[0])


# -- the server's side -------------------------------------------------------------------------------------


class ServerGroup:
    """The parts of one group that fall to one server."""

    def __init__(self, number: int, members: int, answer_bytes: int) -> None:
        self.number = number
        self.parts: dict[int, list[Operation]] = {}
        """Session -> its operations, in the order in which the parts came."""
        self.closed = False
        """Whether the group has been carried out or given up: no part is taken from then on."""
        self._members = members
        self._answer_bytes = answer_bytes
        self._answers: dict[int, bytes] = {}

    def add(self, session: int, operations: list[Operation]) -> bool:
        """Take the part of a session; returns whether the parts of all members are here now."""
        self.parts[session] = operations
        return len(self.parts) == self._members

    def carry_out(self, model: Model, execute: Callable[[list[Operation], int], list[Write | Missing] | None]) -> None:
        """Carry out all parts in the order of the script; or none, where the answers would be too large.

        *execute* logs and applies operations, and returns their answers; None where the log refuses, and nothing
        was done. It is given the group's number, which the log's record is marked with.
        """
        operations = [operation for part in self.parts.values() for operation in part]
        if len(self.parts) > 1:
            operations.sort(key=lambda operation: operation.timestamp)
        answers = execute(operations, self.number) if self._fits(model, operations) else None
        if answers is not None:
            by_session: dict[int, list[Any]] = {session: [] for session in self.parts}
            for operation, answer in zip(operations, answers, strict=True):
                by_session[operation.session].append(plain_answer(operation, answer))
            self._answers = {session: msgpack.packb(answered) for session, answered in by_session.items()}
        self.closed = True

    def _fits(self, model: Model, operations: list[Operation]) -> bool:
        return model.answer_bytes(operations) <= self._answer_bytes

    def give_up(self) -> None:
        """Carry out nothing; a group that has been carried out stays so."""
        self.closed = True

    @property
    def carried_out(self) -> bool:
        return bool(self._answers)

    def answers(self, session: int) -> bytes | None:
        """What a session is answered, packed (`messages.plain_answer`); None where nothing was carried out."""
        return self._answers.get(session)


class ServerGroups:
    """A server's side of groups: the latest one, and whether exchanges are held because of it."""

    def __init__(self, holds: bool, answer_bytes: int = ANSWER_BYTES) -> None:
        """*holds*: whether there are any exchanges to hold; only a server that gossips is told of a release."""
        self.held = False
        """Whether exchanges have to wait for `release`."""
        self._holds = holds
        self._answer_bytes = answer_bytes
        self._latest = ServerGroup(0, 0, 0)

    def of(self, number: int, members: int) -> ServerGroup | None:
        """The group that a part belongs to; None where that group is over."""
        if number > self._latest.number:
            self._latest = ServerGroup(number, members, self._answer_bytes)
            self.held = self._holds
        group = self._latest
        return group if group.number == number and not group.closed else None

    def answers(self, number: int, session: int) -> bytes | None:
        """What a session was answered in a group. One that has not been carried out is given up."""
        if number > self._latest.number:
            self._latest = ServerGroup(number, 0, 0)
        if number != self._latest.number:
            return None
        self._latest.give_up()
        return self._latest.answers(session)

    def release(self) -> None:
        """The group is complete everywhere: exchanges may go on."""
        self.held = False


# -- the client's side -------------------------------------------------------------------------------------


class Part:
    """A session's part of a group."""

    def __init__(self, session: Session, commands: list[tuple[bytes, bytes | None, int]]) -> None:
        """*commands*: key, value or None for a get, and timestamp of each."""
        self.operations = [session.operation(key, value, timestamp) for key, value, timestamp in commands]
        self._session = session
        self._before: dict[bytes, Seen | None] = {operation.key: operation.seen for operation in self.operations}

    def conclude(self, server: int, answers: list[Any]) -> list[OperationOutcome]:
        """The outcomes that a server's answers make; the session has seen all of them from now on."""
        answered = zip(self.operations, answers, strict=True)
        return [self._session.conclude(operation, server, answer) for operation, answer in answered]

    def undo(self) -> None:
        """Have the session forget what this part has brought."""
        self._session.restore(self._before)


# -- the master's side -------------------------------------------------------------------------------------


class MemberAnswer(NamedTuple):
    """What a client answers about its part."""

    outcomes: list[OperationOutcome] | None
    """None where nothing was carried out, or the server was lost."""
    server_loss: str | None
    """How the client lost its server: "died", "silent", or what failed in it; None where it did not."""


class Undone(NamedTuple):
    """A command of a group that has yet to be carried out, alone."""

    timestamp: int
    """The one that it was issued with, and keeps."""


class Calls(Protocol):
    """What the master does outside of a group, for it. (Names of servers and clients are their ids.)"""

    def send(self, client: int, number: int, members: int, part: bytes) -> None:
        """Begin to have a client hand in its part of the group *number*; don't wait.

        *members*: how many clients have a part at that server. *part*: what `Part` takes, packed.
        """

    def wait(self, client: int) -> MemberAnswer | None:
        """Wait for a client's answer; None where it is dead or silent."""

    def kill_client(self, client: int) -> None:
        """See that a client is dead."""

    def answers_of(self, server: int, number: int, client: int) -> list[Any] | None:
        """`ServerGroups.answers`, unpacked. None also where the server is lost by now."""

    def is_running(self, server: int) -> bool:
        """Whether a server is not lost."""

    def take_back(self, server: int, loss: str, number: int) -> None:
        """See that a server is dead, and that its log doesn't end with the record of the group *number*."""

    def undo(self, client: int) -> None:
        """Have a client forget its part (`Part.undo`)."""


class Group:
    """The master's side: consecutive puts and gets that are under way together."""

    def __init__(self, number: int, commands: list[Command], timestamps: list[int], server_of: Mapping[int, int]):
        """*number* is larger than that of every group before. *server_of*: client -> its only server."""
        self.number = number
        self.members: dict[int, list[int]] = {}
        """Server -> the clients that have a part there."""
        self._server_of = server_of
        self._commands = commands
        self._timestamps = timestamps
        self._places: dict[int, list[int]] = {}  # client -> the places of its commands in the group
        for place, command in enumerate(commands):
            (client,) = command.ids
            if client not in self._places:
                self._places[client] = []
                self.members.setdefault(server_of[client], []).append(client)
            self._places[client].append(place)

    def values(self, client: int) -> list[bytes | None]:
        """What a client's commands put, in order; None for each get."""
        commands = [self._commands[place] for place in self._places[client]]
        return [command.value if command.name == "put" else None for command in commands]

    def start(self, calls: Calls) -> None:
        """Send each client its part."""
        for clients in self.members.values():
            for client in clients:
                part = [self._flat(place) for place in self._places[client]]
                calls.send(client, self.number, len(clients), msgpack.packb(part))

    def _flat(self, place: int) -> tuple[bytes, bytes | None, int]:
        command = self._commands[place]
        return command.key, command.value if command.name == "put" else None, self._timestamps[place]

    def finish(self, calls: Calls) -> list[OperationOutcome | Undone]:
        """Wait for the group: what has come of each command.

        Those that are undone must be carried out one after another, in the order of the script, before the group is
        released.
        """
        answered, dead, lost = self._collect(calls)
        for client in dead:
            calls.kill_client(client)
            self._ask_server_of(client, calls, answered, lost)
        for server, loss in lost.items():
            calls.take_back(server, loss, self.number)
            for client in self.members[server]:
                if answered.pop(client, None) is not None and client not in dead:
                    calls.undo(client)
        outcomes: list[OperationOutcome | Undone] = [Undone(timestamp) for timestamp in self._timestamps]
        for client, came in answered.items():
            for place, outcome in zip(self._places[client], came, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _collect(self, calls: Calls) -> tuple[dict[int, list[OperationOutcome]], list[int], dict[int, str]]:
        """What the clients answer: client -> outcomes; clients that are dead or silent; server -> how it was lost."""
        answered: dict[int, list[OperationOutcome]] = {}
        dead: list[int] = []
        lost: dict[int, str] = {}
        for server, clients in self.members.items():
            for client in clients:
                answer = calls.wait(client)
                if answer is None:
                    dead.append(client)
                    continue
                if answer.server_loss is not None:
                    lost[server] = answer.server_loss
                if answer.outcomes is not None:
                    answered[client] = answer.outcomes
        return answered, dead, lost

    def _ask_server_of(
        self, client: int, calls: Calls, answered: dict[int, list[OperationOutcome]], lost: dict[int, str]
    ) -> None:
        """Find out what a client that is lost was answered, unless its server is lost as well."""
        server = self._server_of[client]
        if server in lost:
            return
        answers = calls.answers_of(server, self.number, client)
        if answers is not None:
            issued = [self._timestamps[place] for place in self._places[client]]
            answered[client] = [outcome_of(answer, server, at) for answer, at in zip(answers, issued, strict=True)]
        elif not calls.is_running(server):
            lost[server] = "died"
