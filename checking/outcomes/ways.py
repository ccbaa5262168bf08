"""By which exchanges a version can come to a server: its ways.

May live here: which ways there are, of those that need be tried. May not: whether one agrees with what was seen
(search.py, which also says why these are enough).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from checking.outcomes.exchanges import Chain, Exchange, Knowledge, World
from checking.outcomes.plan import Life

__all__ = ["Ways"]


class _End(NamedTuple):
    """The last part of a way, which goes on from the server *path[-1]*; that must hold the version by *until*."""

    path: tuple[int, ...]
    """From the goal backwards."""
    until: int
    exchanges: Chain = ()
    link_start: int = 0
    """Since when there is the link of the first of these exchanges."""

    def after(self, exchange: Exchange, life: Life) -> _End:
        """With one exchange more in front, over this life of a link.

        The one behind it then shows what its source holds as soon as can be.
        """
        rest = self.exchanges
        if rest:
            rest = (rest[0]._replace(shown=max(exchange.taken, self.link_start + 1)), *rest[1:])
        return _End((*self.path, exchange.source), exchange.shown, (exchange, *rest), life.start)


class Ways:
    """The ways in which a version of a key that is larger than *above* can come to a server before a time."""

    def __init__(
        self, world: World, knowledge: Knowledge, key: bytes, most: int | None, spend: Callable[[int], None]
    ) -> None:
        """*most*: those of so many exchanges at most, but also such as bring more than needed: that may spare others.

        *spend* is told of each step.
        """
        self._spend = spend
        self._world = world
        self._links = world.plan.links
        self._knowledge = knowledge
        self._key = key
        self._most = most

    def to(self, server: int, time: int, above: int) -> Iterator[Chain]:
        """All of them."""
        if self._world.gossip:
            yield from self._before(_End((server,), time - 1), above)

    def _before(self, end: _End, above: int) -> Iterator[Chain]:
        """Those that have this end."""
        if self._most is not None and len(end.path) > self._most:
            return
        if self._world.first_above(self._key, above) > end.until:
            return
        for source, lives in self._links.get(end.path[-1], {}).items():
            if source not in end.path:
                for life in lives:
                    taken = min(end.until, life.end - 1)
                    if life.start < taken:
                        yield from self._over(end, above, source, life, taken)

    def _over(self, end: _End, above: int, source: int, life: Life, taken: int) -> Iterator[Chain]:
        """Those whose exchange before this end is over this life of a link, and taken at this time."""
        self._spend(1)
        found: set[int] = set()
        target = end.path[-1]
        periods = list(self._knowledge.changes(source, life.start, taken))
        for place, (start, known) in enumerate(periods):
            version = self._world.version(known, self._key)
            last = periods[place + 1][0] - 1 if place + 1 < len(periods) else taken
            if version > above and version not in found:
                exchange = Exchange(source, start, target, taken)
                if self._is_needed(exchange, end):
                    yield self._whole_or_part(end.after(exchange, life).exchanges, version)
            if self._most is None:
                found.add(version)
            exchange = Exchange(source, last, target, taken)
            if last > life.start and self._is_needed(exchange, end):
                yield from self._before(end.after(exchange, life), max(above, version))

    def _is_needed(self, exchange: Exchange, end: _End) -> bool:
        """False where the target of the next exchange could be told directly, by one between the same moments."""
        if self._most is not None or not end.exchanges:
            return True
        onward = end.exchanges[0]
        lives = self._links.get(onward.target, {}).get(exchange.source, ())
        return not any(life.covers(exchange.shown, onward.taken) for life in lives)

    def _whole_or_part(self, chain: Chain, version: int) -> Chain:
        """The exchanges that bring this version; where they need not bring all, just this version."""
        if not self._world.comes_in_parts:
            return chain
        return tuple(exchange._replace(part=1 << version - 1) for exchange in chain)
