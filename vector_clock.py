"""What happened before what: replicas, dots, vector clocks and versions.

May live here: values that say in which order writes happened, and the rules that compare them.
May not: anything that changes, any store of values, sockets, threads, files or the time of day.

Theory of operation
-------------------
A *replica* is one life of one server: its id and its incarnation, the stamp that the master issues with
each joinServer. Each replica numbers the writes that it takes: 1, 2, 3, … A *dot* is one such number on one
replica, so it names one write for ever (Almeida et al., 2012, "Dotted version vectors").

A *vector clock* (Fidge; Mattern, 1988) maps replicas to counters. Clock A happened before clock B when B has
everything that A has, and more. When neither has everything of the other, they are concurrent.

A *version* belongs to one write. Its clock is what its author's session had seen of that key, plus the
write's own dot, so it speaks of causality between people, not of which server happened to hold what. Its
timestamp comes from the master's hybrid logical clock (Kulkarni et al., 2014), strictly larger than
everything that was issued before. So a version that happened after another always has the larger timestamp,
and `Version.order` (timestamp, then dot) is one total order that extends happened-before. Every replica
applies that order, whatever way a write took; that is why replicas converge.

So in the store no clock is ever compared: `order` alone decides, since timestamps extend happened-before. Clocks go
with the writes so that everybody can see that it is so: tests check that the order never contradicts them, and the
report of a run tells by `VectorClock.compare` which writes were concurrent.

Each life of a server adds an entry to the clocks of what it writes, so clocks would grow for ever where servers are
killed and revived for ever. A clock with more than `MAX_ENTRIES` forgets ended lives, the oldest first (Riak prunes
its clocks likewise). Its own dot is never one of these. So a write may seem concurrent with one that it followed, very
long ago; never the other way round, and the order of versions is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ["EMPTY_CLOCK", "Causality", "Dot", "Replica", "Seen", "VectorClock", "Version", "VersionOrder"]


MAX_ENTRIES = 20
"""How many entries a clock has at most, but for one of each server."""


class Replica(NamedTuple):
    """One life of one server. Replicas sort by server id, then by incarnation."""

    server: int
    incarnation: int


class Dot(NamedTuple):
    """The name of one write: the *counter*-th (from 1) that *replica* took."""

    replica: Replica
    counter: int

    @classmethod
    def from_flat(cls, flat: list[int]) -> Dot:
        """A dot from plain numbers: server, incarnation, counter."""
        server, life, counter = flat
        return cls(Replica(server, life), counter)


class Causality(Enum):
    """How one vector clock stands to another."""

    BEFORE = "before"
    AFTER = "after"
    EQUAL = "equal"
    CONCURRENT = "concurrent"


class VectorClock:
    """An immutable, hashable map from replica to counter; a replica that is not in it counts as 0.

    The entries are kept as a sorted tuple of (replica, counter): most clocks have one to five entries, for
    which that is both smaller and faster than a dict.
    """

    __slots__ = ("entries",)
    entries: tuple[Dot, ...]

    def __init__(self, counters: Mapping[Replica, int] | Iterable[tuple[Replica, int]] = ()) -> None:
        """Raises ValueError for a counter below 1."""
        pairs: dict[Replica, int] = dict(counters)
        if any(counter < 1 for counter in pairs.values()):
            raise ValueError("a vector clock counts from 1")
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
        return cls._of_sorted(tuple(Dot(Replica(server, life), counter) for server, life, counter in entries))

    def flat(self) -> list[int]:
        """The clock as plain numbers for the wire and the log: server, incarnation, counter, server, …"""
        return [number for (server, life), counter in self.entries for number in (server, life, counter)]

    def counter(self, replica: Replica) -> int:
        """How many writes of *replica* the clock knows of; 0 when none."""
        for known, counter in self.entries:
            if known == replica:
                return counter
        return 0

    def covers(self, dot: Dot) -> bool:
        """Whether the write named by *dot* is in the clock's past (or is the clock's own)."""
        return self.counter(dot.replica) >= dot.counter

    def with_dot(self, dot: Dot) -> VectorClock:
        """This clock plus *dot*; the clock itself if it covers the dot already."""
        entries = self.entries
        if not entries or (len(entries) == 1 and entries[0] <= dot and entries[0].replica == dot.replica):
            return VectorClock._of_sorted((dot,))
        return self.merge(VectorClock._of_sorted((dot,)))

    def merge(self, other: VectorClock) -> VectorClock:
        """The least clock that is not before either of the two: their least upper bound, but for old lives."""
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
        """Whether this clock happened before or after *other*, equals it, or is concurrent with it."""
        below, above = self <= other, other <= self
        if below:
            return Causality.EQUAL if above else Causality.BEFORE
        return Causality.AFTER if above else Causality.CONCURRENT

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VectorClock) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        inner = ", ".join(f"{server}/{life}: {counter}" for (server, life), counter in self.entries)
        return f"VectorClock({{{inner}}})"


def _pruned(entries: tuple[Dot, ...]) -> tuple[Dot, ...]:
    """Without the oldest lives that have ended, as far as there are too many entries."""
    surplus = len(entries) - MAX_ENTRIES
    if surplus <= 0:
        return entries
    ended = [dot for dot, following in pairwise(entries) if dot.replica.server == following.replica.server]
    forgotten = set(sorted(ended, key=lambda dot: dot.replica.incarnation)[:surplus])
    return tuple(dot for dot in entries if dot not in forgotten)


EMPTY_CLOCK = VectorClock()

VersionOrder = tuple[int, Dot]
"""What `Version.order` returns. Compare these, never single parts."""


class Version(NamedTuple):
    """Which write a value comes from, and what its author had seen.

    *timestamp* is in microseconds of the master's hybrid logical clock; *clock* covers *dot*.
    """

    timestamp: int
    dot: Dot
    clock: VectorClock

    @property
    def order(self) -> VersionOrder:
        """The place of this version in the total order of a key's versions.

        Timestamps extend happened-before, so a version that happened after another is larger; of two
        concurrent ones the larger timestamp stands. Two dots share a timestamp only where one put was taken
        twice, at a fail-over: they are the same write, and the larger dot is kept.
        """
        return self.timestamp, self.dot


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
