"""The client process: one user's session.

May live here: talking to the servers of a session. What the session remembers, and whom it asks, is session.py's.

The master passes puts and gets as a batch; the client asks its first server, goes on to the next where that one
is dead or silent or can't satisfy the session, and answers with the results and with what it noticed about
servers on the way. A put that is tried again elsewhere keeps its timestamp: it is the same write.
"""

from __future__ import annotations

import os
from typing import Any

import msgpack

import messages
from groups import Part
from messages import Operation, OperationOutcome, flat_outcome, pack_operations
from rpc import answers, tracing, transport
from session import Refused, ServerLost, Session

__all__ = ["main"]


class _Client(transport.Service):
    """What the master asks a client for. One thread; calls block until servers have answered."""

    def __init__(self, ident: int) -> None:
        self._ident = ident
        self._session = Session()
        self._part = Part(self._session, [])
        self._addresses: dict[int, str] = {}
        self._remotes: dict[int, transport.Remote] = {}
        self._noticed: dict[int, str] = {}
        """Servers that were lost, and how: until the master, who may have missed an answer, says the same."""
        self._timeout = 10.0

    # -- connections ---------------------------------------------------------------------------------------

    def exposed_connect(self, server: int, address: str, timeout: float) -> None:
        """Make a connection to a running server, whose calls may take *timeout* seconds."""
        self._session.connect(server)
        self._timeout = timeout
        self.exposed_server_up(server, address)

    def exposed_disconnect(self, server: int) -> None:
        """Forget a server; when this returns, nothing more crosses."""
        self._session.disconnect(server)
        self._noticed.pop(server, None)
        self._hang_up(server)

    def exposed_server_up(self, server: int, address: str) -> None:
        """A server that there is a connection to runs, or runs again."""
        self._noticed.pop(server, None)
        self._hang_up(server)
        self._addresses[server] = address
        self._session.mark(server, True)

    def exposed_server_down(self, server: int) -> None:
        """A server that there is a connection to has been killed."""
        self._noticed.pop(server, None)
        self._take_down(server)

    def _take_down(self, server: int) -> None:
        self._session.mark(server, False)
        self._hang_up(server)

    def _hang_up(self, server: int) -> None:
        self._addresses.pop(server, None)
        if server in self._remotes:
            self._remotes.pop(server).close()

    # -- puts and gets -------------------------------------------------------------------------------------

    def exposed_execute(self, batch: bytes) -> bytes:
        """Carry out `[[key, value or nil for a get, timestamp], …]` in order.

        Answers `[[outcome, …], [[server, how], …]]`; outcomes as in `Session.execute`, how as in `_notice`.
        """
        commands = messages.unpack(batch, _are_commands)
        outcomes = [self._session.execute(key, value, timestamp, self._ask) for key, value, timestamp in commands]
        return self._answer(batch, outcomes)

    def exposed_execute_group(self, group: int, members: int, batch: bytes) -> bytes:
        """Carry out this client's part of a group of commands, all at its only server.

        *members*: how many clients have a part there. Answers as `exposed_execute`, with nil for the outcomes
        where nothing was carried out, or the server was lost.
        """
        (server,) = self._session.connections
        self._part = Part(self._session, messages.unpack(batch, _are_commands))
        outcomes = None
        try:
            remote = self._remote(server)
            packed = remote.call("execute_group", group, self._ident, members, pack_operations(self._part.operations))
            if packed is not None:
                values = [operation.value for operation in self._part.operations]
                outcomes = self._part.conclude(server, transport.read(packed, answers.to_operations(values)))
        except transport.NoRoom:
            pass  # given up: alone, each command is told why
        except transport.Failure as failure:
            self._notice(server, _how(failure))
        return self._answer(batch, outcomes)

    def _answer(self, batch: bytes, outcomes: list[OperationOutcome] | None) -> bytes:
        """What the master is answered."""
        flat = None if outcomes is None else [flat_outcome(outcome) for outcome in outcomes]
        if tracing.on and outcomes is not None:
            tracing.event("operated", operations=batch, outcomes=msgpack.packb(flat))
        packed: bytes = msgpack.packb([flat, list(self._noticed.items())])
        return packed

    def exposed_undo_group(self) -> None:
        """Forget what the last group has brought: its server was lost before everybody had an answer."""
        self._part.undo()
        if tracing.on:
            tracing.event("undone")

    def _ask(self, server: int, operation: Operation) -> Any:
        """What `Session.execute` asks a server by."""
        try:
            packed = self._remote(server).call("execute", pack_operations([operation]))
            answered, refusal = transport.read(packed, answers.of_a_server([operation.value]))
        except transport.NoRoom as no_room:
            raise Refused(str(no_room)) from no_room
        except transport.Failure as failure:
            self._notice(server, _how(failure))
            raise ServerLost(cut_short=not isinstance(failure, transport.Unreachable)) from failure
        if refusal is not None:
            raise Refused(refusal)
        return answered[0]

    def _remote(self, server: int) -> transport.Remote:
        if server not in self._addresses:
            raise transport.Unreachable("it has been found dead or silent before")
        remote = self._remotes.get(server)
        if remote is None or not remote.alive:
            remote = self._remotes[server] = transport.Remote(self._addresses[server], self._timeout)
        return remote

    def _notice(self, server: int, how: str) -> None:
        """A server was lost: "died", "silent", or how it failed in a call."""
        self._noticed.setdefault(server, how)
        self._take_down(server)


def _how(failure: transport.Failure) -> str:
    if isinstance(failure, transport.RemoteError):
        return str(failure)
    return "silent" if isinstance(failure, transport.Silent) else "died"


def _are_commands(batch: Any) -> bool:
    """Whether it is `[[key, value or nil for a get, timestamp], …]`; in a third of the time of a `messages.checker`."""
    return type(batch) is list and all(map(_is_command, batch))


def _is_command(command: Any) -> bool:
    if type(command) is not list or len(command) != 3:
        return False
    key, value, timestamp = command
    return type(key) is bytes and (value is None or type(value) is bytes) and messages.are_numbers((timestamp,))


def main(listener: transport.Listener, ident: int, run_directory: str, alive: int) -> None:
    """Serve the master's connection, the first one, until it ends."""
    tracing.begin(f"client {ident}")
    transport.serve(transport.accept_only(listener), _Client(ident))
    os._exit(0)
