"""A client's session: its connections in order, and what it has seen of each key.

May live here: which server the session asks next, and what Read Your Writes and Monotonic Reads demand of that server
(Terry et al., 1994, "Session guarantees for weakly consistent replicated data"). May not: sockets, threads, files or
the time of day. The function that asks a server is handed in by client.py.

Theory of operation
-------------------
A server may be behind others. A session must never read a value of a key that is older than one that it has written
(Read Your Writes) or read (Monotonic Reads). Therefore the session remembers, for each key, the *largest* version that
it has seen, in the total order of versions, and sends it along with each operation. The server must hold this version
or a larger one; otherwise it may not answer a get. Keys are independent of each other.

The session also remembers the merged vector clocks of all versions of the key that it has seen. They are the causal
past of its next write to that key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from messages import (
    Missing,
    Operation,
    OperationOutcome,
    Refusal,
    UncertainPut,
    Unsatisfied,
    Unusable,
    outcome_of,
)
from vector_clock import EMPTY_CLOCK, Dot, Seen, VectorClock, Version

__all__ = ["Ask", "Refused", "ServerLost", "Session"]


class Refused(Exception):
    """The server could not carry out the operation, for instance because its disk is full. The text says why."""


class ServerLost(Exception):
    """The server gave no answer, and counts as down from now on.

    *cut_short*: whether it may have carried out the operation.
    """

    def __init__(self, cut_short: bool) -> None:
        super().__init__(cut_short)
        self.cut_short = cut_short


Ask = Callable[[int, Operation], Any]
"""A function that has a server carry out an operation; returns the answer as plain values (`messages.plain_answer`).

It may block. It raises Refused or ServerLost if there is no answer.
"""


class Session:
    """The connections of one client, and what it has seen. Only `execute` may block."""

    def __init__(self) -> None:
        self._servers: dict[int, bool] = {}  # id -> whether it is up; the order of the dict is that of the connections
        self._seen: dict[bytes, Seen] = {}

    # -- connections ---------------------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[int, ...]:
        """The servers that the session is connected to, in the order in which the connections were made."""
        return tuple(self._servers)

    @property
    def usable(self) -> tuple[int, ...]:
        """The servers to try, in this order: those of all connections, except servers that are down."""
        return tuple(server for server, up in self._servers.items() if up)

    def connect(self, server: int) -> None:
        """Add a connection at the end, to a server that is up. A connection that exists keeps its position."""
        self._servers[server] = True

    def disconnect(self, server: int) -> None:
        """Remove a connection, if it exists. The session keeps what it has seen through it."""
        self._servers.pop(server, None)

    def mark(self, server: int, up: bool) -> None:
        """Note whether *server* is up. It keeps its position. A server without a connection is ignored."""
        if server in self._servers:
            self._servers[server] = up

    # -- what has been seen --------------------------------------------------------------------------------

    def seen(self, key: bytes) -> Seen | None:
        """What the session has seen of *key*; None if it has neither read a value of the key nor written one."""
        return self._seen.get(key)

    def add_seen(self, key: bytes, version: Version) -> None:
        """Note that the session has read or written *version* of *key*."""
        seen = self._seen.get(key)
        self._seen[key] = seen.then(version) if seen else Seen.first(version)

    def restore(self, before: Mapping[bytes, Seen | None]) -> None:
        """Go back to what the session had seen before: *before* maps keys to earlier results of `seen`."""
        for key, seen in before.items():
            if seen is None:
                self._seen.pop(key, None)
            else:
                self._seen[key] = seen

    # -- puts and gets -------------------------------------------------------------------------------------

    def operation(self, key: bytes, value: bytes | None, timestamp: int) -> Operation:
        """A put (or a get if *value* is None), together with what the session has seen of the key."""
        return Operation(key, value, timestamp, self.seen(key))

    def execute(self, key: bytes, value: bytes | None, timestamp: int, ask: Ask) -> OperationOutcome:
        """Carry out a put (or a get if *value* is None) at the first server that can do so; returns the outcome.

        Blocks as long as *ask* does, which is called for one server after another. A put that is tried again at another
        server keeps its timestamp, since it is the same write.
        """
        operation = self.operation(key, value, timestamp)
        cut_short = unsatisfied = False
        for server in self.usable:
            try:
                answer = ask(server, operation)
            except Refused as refusal:
                if cut_short and value is not None:  # a server that was lost may have stored it
                    return UncertainPut(timestamp)
                return Refusal(f"server {server}: {refusal}")
            except ServerLost as loss:
                self.mark(server, False)
                cut_short = cut_short or loss.cut_short
            else:
                if answer != Missing.DEPENDENCY.value:
                    return self.conclude(operation, server, answer)
                unsatisfied = True
        if unsatisfied:
            return Unsatisfied()
        return UncertainPut(timestamp) if cut_short and value is not None else Unusable()

    def conclude(self, operation: Operation, server: int, answer: Any) -> OperationOutcome:
        """The outcome that follows from a server's final answer. From now on the session has seen this answer."""
        if isinstance(answer, str):
            pass  # the session has seen no value
        elif operation.value is not None:
            dot = Dot.from_flat(answer)
            seen = self.seen(operation.key)
            clock = seen.clock if seen else EMPTY_CLOCK
            self.add_seen(operation.key, Version(operation.timestamp, dot, clock.with_dot(dot)))
        else:
            _, timestamp, dot, clock = answer
            self.add_seen(operation.key, Version(timestamp, Dot.from_flat(dot), VectorClock.from_flat(clock)))
        return outcome_of(answer, server, operation.timestamp)
