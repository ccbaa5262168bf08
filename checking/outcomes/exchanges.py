"""What servers know at each moment, given the exchanges that there were.

May live here: knowledge as sets of puts, and how exchanges and stabilize spread it. May not: by which exchanges a
version can come somewhere (ways.py), sessions, and answers (search.py).

Theory of operation
-------------------
In an exchange, a server takes in what a neighbour held at one moment: all keys together. The answer may arrive late, or
twice, as long as the link stands. So an *exchange* is a pair of moments: at one the source shows what it holds, at the
other, the same one or later, the target takes that in; one life of a link covers both. All that a server ever knows is
a set of puts: its own, and those that exchanges and stabilize have brought. Of each key it holds the largest of them.

A set is an int here, whose bit n - 1 says whether put number n is known; a union is an "or", and the version that
stands of a key is the length of the bits of that key.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from checking.outcomes.plan import GAP, Plan, Put, Stabilize

__all__ = ["Chain", "Epoch", "Exchange", "Knowledge", "World", "ranked"]


class Exchange(NamedTuple):
    """*target* takes in, at the time *taken*, what *source* held at the time *shown*.

    *part*: the only put that it brings, as a set; 0 where it brings all.
    """

    source: int
    shown: int
    target: int
    taken: int
    part: int = 0


Chain = tuple[Exchange, ...]
"""Exchanges that bring a version from server to server; also any others, in an order in which they can happen."""


class Epoch(NamedTuple):
    """The time from one stabilize that has made all servers equal (or the beginning) until the next such, or the end.

    *base* is what each of *members* knows then; servers that start later know nothing.
    """

    start: int
    members: frozenset[int]
    base: int
    events: tuple[tuple[int, Put | Stabilize], ...]


class Knowledge:
    """What each server knows from when on."""

    def __init__(self, epoch: Epoch, exchanges: Sequence[Exchange]) -> None:
        self._times: dict[int, list[int]] = {}
        self._sets: dict[int, list[int]] = {}
        self._epoch = epoch
        for server in epoch.members:
            self._times[server], self._sets[server] = [epoch.start], [epoch.base]
        points: list[tuple[int, int, Put | Stabilize | None]] = [(time, -1, event) for time, event in epoch.events]
        for number, exchange in enumerate(exchanges):
            points += [(exchange.shown, 2 * number, None), (exchange.taken, 2 * number + 1, None)]
        self.size = len(points)
        points.sort(key=lambda point: point[:2])
        carried: dict[int, int] = {}
        for time, number, event in points:
            if isinstance(event, Put):
                self._learn(event.server, time, 1 << event.number - 1)
            elif isinstance(event, Stabilize):
                for part in event.components:
                    known = 0
                    for server in part:
                        known |= self.now(server)
                    for server in part:
                        self._learn(server, time, known)
            elif number % 2 == 0:
                carried[number] = exchanges[number // 2].part or self.now(exchanges[number // 2].source)
            else:
                self._learn(exchanges[number // 2].target, time, carried[number - 1])

    def now(self, server: int) -> int:
        """What it knows in the end."""
        sets = self._sets.get(server)
        return sets[-1] if sets else 0

    def _learn(self, server: int, time: int, known: int) -> None:
        sets = self._sets.get(server)
        if sets is None:
            self._times[server], self._sets[server] = [self._epoch.start], [0]
            sets = self._sets[server]
        if sets[-1] | known != sets[-1]:
            sets.append(sets[-1] | known)
            self._times[server].append(time)

    def at(self, server: int, time: int) -> int:
        """What it knows at a time, what it learns at that very time included."""
        times = self._times.get(server)
        return self._sets[server][bisect_right(times, time) - 1] if times else 0

    def changes(self, server: int, after: int, until: int) -> Iterator[tuple[int, int]]:
        """(from when, what) it knows: what is in force just behind *after*, and each change up to *until*."""
        times = self._times.get(server)
        if not times:
            yield after + 1, 0
            return
        first = bisect_left(times, after + 2) - 1
        last = bisect_right(times, until)
        for place in range(max(first, 0), last):
            yield max(times[place], after + 1), self._sets[server][place]


class World:
    """A plan, as far as some keys go: of the others nothing is known."""

    def __init__(self, plan: Plan, live: Iterable[Put], gossip: bool, largest_whole: int) -> None:
        """*live*: the puts that matter. *largest_whole*: how many bytes an exchange brings at once at most."""
        self.plan = plan
        self.live = list(live)
        self.gossip = gossip
        self.comes_in_parts = plan.bytes_put > largest_whole
        self.keys: dict[bytes, int] = {}
        self._puts: dict[bytes, list[Put]] = {}
        for put in self.live:
            self._puts.setdefault(put.key, []).append(put)
            self.keys[put.key] = self.keys.get(put.key, 0) | 1 << put.number - 1
        self.epochs = self._find_epochs()

    def _find_epochs(self) -> list[Epoch]:
        plan, epochs = self.plan, []
        start, members, base = 0, frozenset[int](), 0
        events: list[tuple[int, Put | Stabilize]] = []
        takers: set[int] = set()
        live = {put.number for put in self.live}
        for step in plan.steps:
            if isinstance(step, Put) and step.number in live:
                events.append((step.time, step))
                takers.add(step.server)
            elif isinstance(step, Stabilize):
                events.append((step.time, step))
                if len(step.components) == 1 and self._are_all(step.components[0], step.time, takers):
                    epochs.append(Epoch(start, members, base, tuple(events[:-1])))
                    base |= sum(1 << event.number - 1 for _, event in events if isinstance(event, Put))
                    start, members, events, takers = step.time, step.components[0], [], set()
        epochs.append(Epoch(start, members, base, tuple(events)))
        return epochs

    def _are_all(self, component: frozenset[int], time: int, takers: set[int]) -> bool:
        """Whether everything that was put is known in this component, and nobody else who ever comes back differs."""
        others = [
            lives for server, lives in self.plan.servers.items() if lives[0].start < time and server not in component
        ]
        return takers <= component and all(lives[-1].end < time for lives in others)

    def epoch_at(self, time: int) -> Epoch:
        """The one in which a time lies."""
        return next(epoch for epoch in reversed(self.epochs) if epoch.start < time or epoch is self.epochs[0])

    def first_above(self, key: bytes, version: int) -> float:
        """When the first larger version of a key was put; infinity for none."""
        puts = self._puts.get(key, [])
        place = bisect_right(puts, version, key=_number)
        return puts[place].time if place < len(puts) else float("inf")

    def version(self, known: int, key: bytes) -> int:
        """The number of the put that stands of a key where this is known; 0 for none."""
        return (known & self.keys.get(key, 0)).bit_length()


def _number(put: Put) -> int:
    return put.number


def ranked(exchanges: Sequence[Exchange]) -> Chain:
    """With times that are even numbers from each gap's beginning on, so that equal ways are equal values."""
    times = sorted({time for exchange in exchanges for time in (exchange.shown, exchange.taken)})
    new: dict[int, int] = {}
    gap, rank = -1, 0
    for time in times:
        gap, rank = (gap, rank + 2) if time // GAP == gap else (time // GAP, 2)
        new[time] = gap * GAP + rank
    return tuple(exchange._replace(shown=new[exchange.shown], taken=new[exchange.taken]) for exchange in exchanges)
