"""Vector clocks and versions: in which order writes happened.

May live here: values that describe the order of writes (replicas, dots, vector clocks, versions), and the rules that
compare them. May not: mutable values, any store of values, sockets, threads, files or the time of day.

Theory of operation
-------------------
A *replica* is one incarnation of one server. It is named by the server's id and by the stamp that the master issues
with each joinServer. Each replica numbers the writes that it takes: 1, 2, 3, … A *dot* is a replica with one of its
numbers. It names one write for ever (Almeida et al., 2012, "Dotted version vectors").

A *vector clock* (Fidge, 1988; Mattern, 1988) maps replicas to counters. Clock A happened before clock B if B covers
everything that A covers, and more. If neither covers everything that the other covers, the two are concurrent.

A *version* belongs to one write. Its vector clock covers what the author's session had seen of that key, and the
write's own dot. It therefore describes causality between clients, and does not depend on which server held what. Its
timestamp comes from the master's hybrid logical clock (Kulkarni et al., 2014), and is larger than all timestamps that
were issued before. So of two versions of which one happened before the other, the later one has the larger timestamp,
and `Version.order` (the timestamp, then the dot) is a total order that extends happened-before. Every replica applies
this order, in whatever order writes arrive. That is why replicas converge.

The store itself never compares vector clocks: `order` alone decides there. The clocks travel with the writes so that
this can be verified: tests check that the order never contradicts the clocks, and the report of a run uses
`VectorClock.compare` to show which writes were concurrent.

Each incarnation of a server adds an entry to the clocks of its writes, so the clocks would grow without limit if
servers were killed and revived again and again. A clock with more than `MAX_ENTRIES` entries therefore drops those of
incarnations that have ended, the oldest first (Riak prunes its clocks in a similar way). It never drops its own dot. As
a consequence, a write may seem concurrent with a very old write that it followed. The opposite error can't occur, and
the order of versions does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ["EMPTY_CLOCK", "Causality", "Dot", "Replica", "Seen", "VectorClock", "Version", "VersionOrder"]


MAX_ENTRIES = 20
"""The largest number of entries of a clock; but the newest entry of each server is kept in any case."""


class Replica(NamedTuple):
    """One incarnation of one server. Replicas are sorted by server id, then by incarnation."""

    server: int
    incarnation: int


class Dot(NamedTuple):
    """The name of one write: the *counter*-th write that *replica* took, counted from 1."""

    replica: Replica
    counter: int

    @classmethod
    def from_flat(cls, flat: list[int]) -> Dot:
        """A dot from plain numbers: server, incarnation, counter."""
        server, incarnation, counter = flat
        return cls(Replica(server, incarnation), counter)


class Causality(Enum):
    """The relation of one vector clock to another."""

    BEFORE = "before"
    AFTER = "after"
    EQUAL = "equal"
    CONCURRENT = "concurrent"


class VectorClock:
    """An immutable, hashable map from replicas to counters. The counter of a replica without an entry is 0.

    The entries are kept as a sorted tuple of (replica, counter). Most clocks have one to five entries, for which a
    tuple is both smaller and faster than a dict.
    """

    __slots__ = ("entries",)
    entries: tuple[Dot, ...]

    def __init__(self, counters: Mapping[Replica, int] | Iterable[tuple[Replica, int]] = ()) -> None:
        """Raises ValueError if a counter is below 1."""
        pairs: dict[Replica, int] = dict(counters)
        if any(counter < 1 for counter in pairs.values()):
            raise ValueError("the counters of a vector clock begin at 1")
        self.entries = tuple(sorted(Dot(replica, counter) for replica, counter in pairs.items()))

    @classmethod
    def _of_sorted(cls, entries: tuple[Dot, ...]) -> VectorClock:
        clock = cls.__new__(cls)
        clock.entries = entries
        return clock

    @classmethod
    def from_flat(cls, numbers: list[int]) -> VectorClock:
        """The inverse of `flat`."""
        entries = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
        return cls._of_sorted(tuple([Dot(Replica(server, stamp), counter) for server, stamp, counter in entries]))

    def flat(self) -> list[int]:
        """The clock as plain numbers, for messages and the log: server, incarnation, counter, server, …"""
        return [number for (server, stamp), counter in self.entries for number in (server, stamp, counter)]

    def counter(self, replica: Replica) -> int:
        """How many writes of *replica* the clock covers; 0 if it has no entry for this replica."""
        for known, counter in self.entries:
            if known == replica:
                return counter
        return 0

    def covers(self, dot: Dot) -> bool:
        """Whether the write named *dot* is in the causal past that the clock describes (its own write included)."""
        return self.counter(dot.replica) >= dot.counter

    def with_dot(self, dot: Dot) -> VectorClock:
        """The smallest clock that covers both this clock and *dot*; entries may be dropped, as in `merge`."""
        entries = self.entries
        if not entries or (len(entries) == 1 and entries[0] <= dot and entries[0].replica == dot.replica):
            return VectorClock._of_sorted((dot,))
        return self.merge(VectorClock._of_sorted((dot,)))

    def merge(self, other: VectorClock) -> VectorClock:
        """The least upper bound of both clocks, except that entries of old incarnations may have been dropped."""
        if not other.entries or self.entries == other.entries:
            return self
        counters: dict[Replica, int] = dict(self.entries)
        for replica, counter in other.entries:
            if counters.get(replica, 0) < counter:
                counters[replica] = counter
        return VectorClock._of_sorted(_pruned(tuple(sorted(Dot(r, c) for r, c in counters.items()))))

    def __le__(self, other: VectorClock) -> bool:
        counters: dict[Replica, int] = dict(other.entries)
        return all(counters.get(replica, 0) >= counter for replica, counter in self.entries)

    def compare(self, other: VectorClock) -> Causality:
        """Whether this clock happened before or after *other*, is equal to it, or is concurrent with it."""
        below, above = self <= other, other <= self
        if below:
            return Causality.EQUAL if above else Causality.BEFORE
        return Causality.AFTER if above else Causality.CONCURRENT

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VectorClock) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        inner = ", ".join(f"{server}/{stamp}: {counter}" for (server, stamp), counter in self.entries)
        return f"VectorClock({{{inner}}})"


def _pruned(entries: tuple[Dot, ...]) -> tuple[Dot, ...]:
    """The entries without those of the oldest incarnations that have ended, if there are too many entries."""
    surplus = len(entries) - MAX_ENTRIES
    if surplus <= 0:
        return entries
    ended = [dot for dot, following in pairwise(entries) if dot.replica.server == following.replica.server]
    dropped = set(sorted(ended, key=lambda dot: dot.replica.incarnation)[:surplus])
    return tuple(dot for dot in entries if dot not in dropped)


EMPTY_CLOCK = VectorClock()

VersionOrder = tuple[int, Dot]
"""The result of `Version.order`. Compare these as a whole, never single parts of them."""


class Version(NamedTuple):
    """The version of a value: which write it comes from, and what the author of that write had seen.

    *timestamp* is in microseconds of the master's hybrid logical clock. *clock* covers *dot*.
    """

    timestamp: int
    dot: Dot
    clock: VectorClock

    @property
    def order(self) -> VersionOrder:
        """The position of this version in the total order of all versions of a key.

        A version that happened after another one is larger than it. Of two concurrent versions, the one with the larger
        timestamp is larger. Two dots have the same timestamp only if a put was stored twice, by two servers, because
        the client failed over. They are the same write, and the version with the larger dot is kept.
        """
        return self.timestamp, self.dot


class Seen(NamedTuple):
    """What a session has seen of one key: the order of the largest version, and the merged clocks of all versions."""

    order: VersionOrder
    clock: VectorClock

    @classmethod
    def first(cls, version: Version) -> Seen:
        """What has been seen of a key after its first read or write, which had this *version*."""
        return cls(version.order, version.clock)

    def then(self, version: Version) -> Seen:
        """What has been seen of the key after *version* was read or written as well."""
        return Seen(max(self.order, version.order), self.clock.merge(version.clock))

    def flat(self) -> list[Any]:
        """Plain values for messages: `[timestamp, server, incarnation, counter, clock]`."""
        timestamp, ((server, incarnation), counter) = self.order
        return [timestamp, server, incarnation, counter, self.clock.flat()]

    @classmethod
    def from_flat(cls, flat: list[Any]) -> Seen:
        """The inverse of `flat`."""
        timestamp, server, incarnation, counter, clock = flat
        return cls((timestamp, Dot(Replica(server, incarnation), counter)), VectorClock.from_flat(clock))
