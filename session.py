"""A client's session: its connections in order, and what it has seen of each key.

May live here: which server the session turns to next, and what Read Your Writes and Monotonic Reads ask of
that server (Terry et al., 1994, "Session guarantees for weakly consistent replicated data").
May not: sockets, threads, files or the time of day. client.py does the talking: asking a server is handed in.

Theory of operation
-------------------
A server may be behind. A session must never read, of any key, a value older than one that it has written
(Read Your Writes) or read (Monotonic Reads). So the session remembers, per key, the *largest* version that
it has seen, in the total order of versions, and takes it along to whatever server it asks. That server must hold
this version or a larger one; otherwise it must not answer. Keys are independent of each other.

The session also remembers the merged vector clocks of all that it has seen of the key: the causal past of its
next write to that key.
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
    """The server could not carry out the operation, for instance because its disk is full; the text says why."""


class ServerLost(Exception):
    """The server gave no answer, and counts as down. *cut_short*: it may have carried out the operation."""

    def __init__(self, cut_short: bool) -> None:
        super().__init__(cut_short)
        self.cut_short = cut_short


Ask = Callable[[int, Operation], Any]
"""Has a server carry out an operation, and returns its answer as plain values (`messages.plain_answer`).

Raises Refused, ServerLost.
"""


class Session:
    """One client's connections and memory. Every method returns at once."""

    def __init__(self) -> None:
        self._servers: dict[int, bool] = {}  # id -> is it up; the dict's order is that of the connections
        self._seen: dict[bytes, Seen] = {}

    # -- connections ---------------------------------------------------------------------------------------

    @property
    def connections(self) -> tuple[int, ...]:
        """The servers that the session is connected to, in the order in which the connections were made."""
        return tuple(self._servers)

    @property
    def usable(self) -> tuple[int, ...]:
        """The servers to try, in this order: all connections but those to servers that are down."""
        return tuple(server for server, up in self._servers.items() if up)

    def connect(self, server: int) -> None:
        """Make a connection, as the last one; one that exists keeps its place."""
        self._servers[server] = True

    def disconnect(self, server: int) -> None:
        """Forget a connection. What was seen through it is kept."""
        self._servers.pop(server, None)

    def mark(self, server: int, up: bool) -> None:
        """Note that *server* is up or down. It keeps its place; a server without a connection is ignored."""
        if server in self._servers:
            self._servers[server] = up

    # -- what has been seen --------------------------------------------------------------------------------

    def seen(self, key: bytes) -> Seen | None:
        """What the session has seen of *key*; None when it has neither read a value of it nor written it."""
        return self._seen.get(key)

    def saw(self, key: bytes, version: Version) -> None:
        """The session has read or written *version* of *key*."""
        seen = self._seen.get(key)
        self._seen[key] = seen.then(version) if seen else Seen.first(version)

    def restore(self, before: Mapping[bytes, Seen | None]) -> None:
        """Forget what was read and written since `seen` gave these."""
        for key, seen in before.items():
            if seen is None:
                self._seen.pop(key, None)
            else:
                self._seen[key] = seen

    # -- puts and gets -------------------------------------------------------------------------------------

    def operation(self, key: bytes, value: bytes | None, timestamp: int) -> Operation:
        """A put, or a get where *value* is None, with what the session has seen of the key."""
        return Operation(key, value, timestamp, self.seen(key))

    def execute(self, key: bytes, value: bytes | None, timestamp: int, ask: Ask) -> OperationOutcome:
        """Carry out a put or a get at the first server that can do it, and return the outcome.

        A put that is tried again at another server keeps its timestamp, since it is the same write.
        """
        operation = self.operation(key, value, timestamp)
        cut_short = unsatisfied = False
        for server in self.usable:
            try:
                answer = ask(server, operation)
            except Refused as refusal:
                if cut_short and value is not None:  # it may stand on the server that was lost
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
        """The outcome that a server's final answer makes; from now on the session has seen that answer."""
        if isinstance(answer, str):
            pass  # there is no value to have been seen
        elif operation.value is not None:
            dot = Dot.from_flat(answer)
            seen = self.seen(operation.key)
            clock = seen.clock if seen else EMPTY_CLOCK
            self.saw(operation.key, Version(operation.timestamp, dot, clock.with_dot(dot)))
        else:
            _, timestamp, dot, clock = answer
            self.saw(operation.key, Version(timestamp, Dot.from_flat(dot), VectorClock.from_flat(clock)))
        return outcome_of(answer, server, operation.timestamp)
