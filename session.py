"""A client's session: its connections in order, and what it has seen of each key.

May live here: which server the session turns to next, and what Read Your Writes and Monotonic Reads ask of
that server (Terry et al., 1994, "Session guarantees for weakly consistent replicated data").
May not: sockets, threads, files or the time of day. client.py does the talking.

Theory of operation
-------------------
A server may be behind. A session must never read, of any key, a value older than one that it has written
(Read Your Writes) or read (Monotonic Reads). So the session remembers, per key, the *largest* version that
it has seen, in the total order of versions, and takes it along to whatever server it asks. That server either
holds this version or one that stands over it, or it must not answer. Keys are independent of each other.

The session also remembers the merged vector clocks of all that it has seen of the key: the causal past of its
next write to that key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vector_clock import Dot, Replica, VectorClock, Version, VersionOrder

__all__ = ["Seen", "Session"]


class Seen(NamedTuple):
    """What a session has seen of one key: the largest version's order, and the merge of all clocks."""

    order: VersionOrder
    clock: VectorClock

    @classmethod
    def first(cls, version: Version) -> Seen:
        """The first sight of a key."""
        return cls(version.order, version.clock)

    def then(self, version: Version) -> Seen:
        """What has been seen once *version* was read or written as well."""
        return Seen(max(self.order, version.order), self.clock.merge(version.clock))

    def flat(self) -> list[Any]:
        """Plain values for the wire."""
        timestamp, ((server, life), counter) = self.order
        return [timestamp, server, life, counter, self.clock.flat()]

    @classmethod
    def from_flat(cls, flat: list[Any]) -> Seen:
        """The inverse of `flat`."""
        timestamp, server, life, counter, clock = flat
        return cls((timestamp, Dot(Replica(server, life), counter)), VectorClock.from_flat(clock))


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
