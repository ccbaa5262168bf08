"""The client process: one user's session.

May live here: talking to the servers of a session. What the session remembers, and whom it asks, is session.py's.

The master passes puts and gets as a batch; the client asks its first server, goes on to the next where that one
is dead or silent or can't satisfy the session, and answers with the results and with what it noticed about
servers on the way. A put that is tried again elsewhere keeps its timestamp: it is the same write.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import msgpack

import transport
from model import Missing, Operation, pack_operations
from session import Session
from vector_clock import EMPTY_CLOCK, Dot, Replica, VectorClock, Version

__all__ = ["main"]


class _Refused(Exception):
    """The server could not do it (its disk is full, say), and has not done it."""


class _Client(transport.Service):
    """What the master asks a client for. One thread; calls block until servers have answered."""

    def __init__(self) -> None:
        self._session = Session()
        self._addresses: dict[int, str] = {}
        self._remotes: dict[int, transport.Remote] = {}
        self._noticed: dict[int, str] = {}
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
        self._hang_up(server)

    def exposed_server_up(self, server: int, address: str) -> None:
        """A server that there is a connection to runs again."""
        self._hang_up(server)
        self._addresses[server] = address
        self._session.mark(server, True)

    def exposed_server_down(self, server: int) -> None:
        """A server that there is a connection to has been killed."""
        self._session.mark(server, False)
        self._hang_up(server)

    def _hang_up(self, server: int) -> None:
        self._addresses.pop(server, None)
        if server in self._remotes:
            self._remotes.pop(server).close()

    # -- puts and gets -------------------------------------------------------------------------------------

    def exposed_execute(self, batch: bytes) -> bytes:
        """Carry out `[[key, value or nil for a get, timestamp], …]` in order.

        Answers `[[outcome, …], [[server, "died" or "silent"], …]]`; an outcome is `["stored"]`,
        `["value", value]`, `["ERR_KEY"]`, `["ERR_DEP"]`, `["refused", why]`, `["uncertain"]` or `["unusable"]`.
        """
        self._noticed = {}
        outcomes = [self._execute(key, value, timestamp) for key, value, timestamp in msgpack.unpackb(batch)]
        answer: bytes = msgpack.packb([outcomes, list(self._noticed.items())])
        return answer

    def _execute(self, key: bytes, value: bytes | None, timestamp: int) -> list[Any]:
        operation = Operation(key, value, timestamp, self._session.seen(key))
        cut_short = unsatisfied = False
        for server in self._session.usable:
            try:
                answer = self._ask(server, operation)
            except _Refused as refusal:
                return ["refused", f"server {server}: {refusal}"]
            except transport.Unreachable:
                self._notice(server, "died")
            except transport.Silent:
                self._notice(server, "silent")
                cut_short = True
            except transport.Failure:
                self._notice(server, "died")
                cut_short = True
            else:
                if answer == Missing.DEPENDENCY.value:
                    unsatisfied = True
                    continue
                return self._conclude(operation, answer)
        if unsatisfied:
            return [Missing.DEPENDENCY.value]
        return ["uncertain"] if cut_short and value is not None else ["unusable"]

    def _conclude(self, operation: Operation, answer: Any) -> list[Any]:
        """The outcome that a server's final answer makes, with the session having seen it."""
        if operation.value is not None:
            dot = _dot(answer)
            clock = operation.seen.clock if operation.seen else EMPTY_CLOCK
            self._session.saw(operation.key, Version(operation.timestamp, dot, clock.with_dot(dot)))
            return ["stored"]
        if answer == Missing.KEY.value:
            return [answer]
        value, timestamp, dot, clock = answer
        self._session.saw(operation.key, Version(timestamp, _dot(dot), VectorClock.from_flat(clock)))
        return ["value", value]

    def _ask(self, server: int, operation: Operation) -> Any:
        remote = self._remotes.get(server)
        if remote is None or not remote.alive:
            remote = self._remotes[server] = transport.Remote(self._addresses[server], self._timeout)
        answers, refusal = msgpack.unpackb(remote.call("execute", pack_operations([operation])))
        if refusal is not None:
            raise _Refused(refusal)
        return answers[0]

    def _notice(self, server: int, what: str) -> None:
        self._noticed[server] = what
        self.exposed_server_down(server)


def _dot(flat: list[int]) -> Dot:
    server, life, counter = flat
    return Dot(Replica(server, life), counter)


def main(listener: socket.socket, ident: int, run_directory: str, alive: int) -> None:
    """Serve the master's connection, the first one, until it ends."""
    transport.serve(transport.accept_only(listener), _Client())
    os._exit(0)
