"""Groups: several puts and gets that are under way at once, with the results of carrying them out one by one.

May live here: which commands may be in a group; what a server does with the parts of a group, what a session learns
from it, and what the master makes of answers, silence and losses. May not: sockets, threads, files or the time of day.
What a group needs from its surroundings is handed in. Therefore server.py, client.py, control/cluster.py and the
simulator (checking/simulator/calls.py) all run this code.

Theory of operation
-------------------
A *group* is a number of consecutive puts and gets of a script, each with the timestamp that the master has issued for
it. The commands of one client are its *part*. Each client sends its part to its only server, in one call. The server
waits until it has the parts of all its *members*, the clients that have a part there. Then it carries out all of them
in the order of their timestamps, which is that of the script, with one write to the log.

    master                clients                server
    | -- a part each ---> | -- the part -------> |   waits for the parts of all members,
    |                     |                      |   carries them out at once
    | <- outcomes ------- | <- answers --------- |
    | -- release ------------------------------> |   from here on exchanges go on

No user can observe a difference from carrying the commands out one after another, because

1. each server carries out its commands of a group in the order of the script, whichever clients they come from;
2. only clients with exactly one connection take part: a command that may fail over to another server runs alone;
3. from the arrival of the first part, a server neither starts, answers nor applies an exchange until the master
   releases the group: so no put reaches another server before that server has carried out the gets that precede this
   put in the script;
4. answers are printed in the order of the script, and only when the group is complete.

A server either carries out all its parts or *gives up* all of them: when a part has not arrived in time, when the
answers would be too large for one message, or when the log refuses the writes. The master then carries out those
commands one after another, in the order of the script, before it releases the group. **Each command keeps the timestamp
that it was issued with.** With a new timestamp, a put would stand over a later put of the script that another server of
the group has already stored.

When a client is lost, the master asks its server for the answers that this client was given. If the server has not
carried out the group by then, it gives the group up and refuses the parts that arrive later. When a server is lost, its
part of the group is undone. If the log of that server ends with the record of the group, the record is cut off: no user
has been told that those writes were kept, and because of rule 3 no other server has received them. Clients that were
answered by that server forget these answers.
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
"""About how many bytes of values a server may answer to one group. A larger group is given up."""


def may_take_part(command: Command, connections: Sequence[int], is_running: Callable[[int], bool]) -> bool:
    """Whether a command of a client with these connections may be in a group.

    It must be a put or get, and the client must have exactly one connection, to a running server. A client with several
    connections may fail over in the middle of its part, and its commands would then be spread over several servers.
    """
    return command.name in ("put", "get") and len(connections) == 1 and is_running(connections[0])


# -- the server's side -------------------------------------------------------------------------------------


class ServerGroup:
    """The parts of one group that fall to one server."""

    def __init__(self, number: int, members: int, answer_bytes: int) -> None:
        self.number = number
        self.parts: dict[int, list[Operation]] = {}
        """Session -> its operations, in the order in which the parts arrived."""
        self.closed = False
        """Whether the group has been carried out or given up. A closed group accepts no further part."""
        self._members = members
        self._answer_bytes = answer_bytes
        self._answers: dict[int, bytes] = {}

    def add(self, session: int, operations: list[Operation]) -> bool:
        """Accept the part of a session; returns whether the parts of all members have now arrived."""
        self.parts[session] = operations
        return len(self.parts) == self._members

    def carry_out(self, model: Model, execute: Callable[[list[Operation], int], list[Write | Missing] | None]) -> None:
        """Carry out all parts in the order of the script, or none of them if the answers would be too large.

        *execute* logs and applies operations, marks the log's record with the group's number, which is its second
        argument, and returns the answers. If the log refuses the writes, it does nothing and returns None.
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
        """Close the group without carrying it out. This has no effect if it has been carried out already."""
        self.closed = True

    @property
    def carried_out(self) -> bool:
        """Whether the operations of the group have been logged and applied."""
        return bool(self._answers)

    def answers(self, session: int) -> bytes | None:
        """The packed list of the answers to a session (`messages.plain_answer`); None if nothing was carried out."""
        return self._answers.get(session)


class ServerGroups:
    """A server's side of all groups: the latest one, and whether exchanges are held because of it."""

    def __init__(self, holds: bool, answer_bytes: int = ANSWER_BYTES) -> None:
        """*holds*: whether a group holds exchanges; this must be false if nobody will call `release`.

        *answer_bytes*: a group whose answers contain more bytes than this is given up.
        """
        self.held = False
        """Whether exchanges have to wait until `release` is called."""
        self._holds = holds
        self._answer_bytes = answer_bytes
        self._latest = ServerGroup(0, 0, 0)

    def of(self, number: int, members: int) -> ServerGroup | None:
        """The group with this *number*, for a part of it; None if that group is closed or is older than the latest.

        A number that is larger than that of the latest group begins a new group, with this many *members*.
        """
        if number > self._latest.number:
            self._latest = ServerGroup(number, members, self._answer_bytes)
            self.held = self._holds
        group = self._latest
        return group if group.number == number and not group.closed else None

    def answers(self, number: int, session: int) -> bytes | None:
        """The packed answers to a session in the group *number*, as `ServerGroup.answers` returns them.

        A group that has not been carried out is given up, also if none of its parts has arrived.
        """
        if number > self._latest.number:
            self._latest = ServerGroup(number, 0, 0)
        if number != self._latest.number:
            return None
        self._latest.give_up()
        return self._latest.answers(session)

    def release(self) -> None:
        """Let exchanges go on, since the group is complete at all servers."""
        self.held = False


# -- the client's side -------------------------------------------------------------------------------------


class Part:
    """The part of a group that belongs to one session."""

    def __init__(self, session: Session, commands: list[tuple[bytes, bytes | None, int]]) -> None:
        """*commands*: for each its key, its value (None for a get), and its timestamp."""
        self.operations = [session.operation(key, value, timestamp) for key, value, timestamp in commands]
        self._session = session
        self._before: dict[bytes, Seen | None] = {operation.key: operation.seen for operation in self.operations}

    def conclude(self, server: int, answers: list[Any]) -> list[OperationOutcome]:
        """The outcomes that follow from a server's answers. From now on the session has seen all of these answers."""
        answered = zip(self.operations, answers, strict=True)
        return [self._session.conclude(operation, server, answer) for operation, answer in answered]

    def undo(self) -> None:
        """Have the session forget what it has seen through this part."""
        self._session.restore(self._before)


# -- the master's side -------------------------------------------------------------------------------------


class MemberAnswer(NamedTuple):
    """A client's report about its part of a group."""

    outcomes: list[OperationOutcome] | None
    """None if the server has given the group up, or was lost."""
    server_loss: str | None
    """How the client lost its server: "died", "silent", or a description of the failure. None if it was not lost."""


class Undone(NamedTuple):
    """A command of a group that has not been carried out, and has to be carried out by itself."""

    timestamp: int
    """The timestamp that the command was issued with, which it keeps."""


class Calls(Protocol):
    """What a group needs from the master: calls to other processes. Servers and clients are named by their ids."""

    def send(self, client: int, number: int, members: int, part: bytes) -> None:
        """Send a client its part of the group *number*. Does not wait for the answer.

        *members*: how many clients have a part at the same server. *part*: the packed list of commands for `Part`.
        """

    def wait(self, client: int) -> MemberAnswer | None:
        """Wait for a client's report; None if the client is dead or does not answer in time."""

    def kill_client(self, client: int) -> None:
        """Make sure that a client is dead."""

    def answers_of(self, server: int, number: int, client: int) -> list[Any] | None:
        """The unpacked result of `ServerGroups.answers`. None also if the server is lost."""

    def is_running(self, server: int) -> bool:
        """Whether a server has not been lost."""

    def take_back(self, server: int, loss: str, number: int) -> None:
        """Make sure that a server is dead and that its log does not end with the record of the group *number*."""

    def undo(self, client: int) -> None:
        """Have a client forget its part (`Part.undo`)."""


class Group:
    """The master's side of a group. Its methods block as long as those of the `Calls` that they are given."""

    def __init__(self, number: int, commands: list[Command], timestamps: list[int], server_of: Mapping[int, int]):
        """*number* must be larger than the numbers of all earlier groups. *server_of*: client -> its only server."""
        self.number = number
        self.members: dict[int, list[int]] = {}
        """Server -> the clients that have a part there."""
        self._server_of = server_of
        self._commands = commands
        self._timestamps = timestamps
        self._places: dict[int, list[int]] = {}  # client -> the positions of its commands in the group
        for place, command in enumerate(commands):
            (client,) = command.ids
            if client not in self._places:
                self._places[client] = []
                self.members.setdefault(server_of[client], []).append(client)
            self._places[client].append(place)

    def values(self, client: int) -> list[bytes | None]:
        """The values of a client's puts, in order, with None in place of each get."""
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
        """Wait until the group has ended; returns what has become of each command.

        The commands that are `Undone` must be carried out one after another, in the order of the script, before the
        group is released.
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
        for client, reported in answered.items():
            for place, outcome in zip(self._places[client], reported, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _collect(self, calls: Calls) -> tuple[dict[int, list[OperationOutcome]], list[int], dict[int, str]]:
        """Wait for all clients: (client -> outcomes, clients that are dead or silent, server -> how it was lost)."""
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
        """Find out the answers that a lost client was given, unless its server is lost as well."""
        server = self._server_of[client]
        if server in lost:
            return
        answers = calls.answers_of(server, self.number, client)
        if answers is not None:
            issued = [self._timestamps[place] for place in self._places[client]]
            answered[client] = [outcome_of(answer, server, at) for answer, at in zip(answers, issued, strict=True)]
        elif not calls.is_running(server):
            lost[server] = "died"
