"""Searches every schedule of gossip, for a key whose versions cannot all be explained one by one.

May live here: the search over the states of all servers, within limits. May not: the reasons of a contradiction, which
checking/explain.py finds.

A *state* says what each server holds at a moment, and what it held before that may still arrive at a neighbour. From
moment to moment, all states are kept that can have come about; if none is left, no schedule explains the history.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from checking.spread import Case, Contradiction, Steps, Undecided
from checking.timeline import FOREVER

__all__ = ["search"]


def search(case: Case, most_states: int) -> None:
    """Try every way in which gossip can have moved the versions that were seen. Raises Contradiction, Undecided.

    *most_states*: how many states of the servers to look at; with more of them, Undecided is raised.
    """
    place = {server: index for index, server in enumerate(sorted(case.timeline.births))}
    needs = sorted((time, server, version) for version, found in case.log.needs.items() for server, time in found)
    events, moves = _Events(case, place), _Moves(case, place)
    states = {State((0,) * len(place), frozenset())}
    left = most_states
    worst = (0, 0, 0)
    ways: list[Way] = []
    for now, following in pairwise([*events.moments, events.moments[-1] + 2]):
        states = {moves.kept(before, state, ways) for before in states for state in events.happen(before.held, now)}
        ways = moves.ways(now, following)
        states = {State(state.held, frozenset(sent for sent in state.sent if sent[:2] in ways)) for state in states}
        left = moves.add_reachable(states, now, ways, left)
        if not states:
            raise Contradiction(*worst)
        coming = bisect_left(needs, (following,))
        if coming < len(needs):
            time, server, version = needs[coming]
            worst = server, time, version


Held = tuple[int, ...]
"""The version that each server holds; servers are numbered in the order of their ids."""

Way = tuple[int, int]
"""The numbers of two servers, the second of which may learn from the first."""


class State(NamedTuple):
    """What servers hold, and what else may arrive: (source, target, version), which the source holds no more."""

    held: Held
    sent: frozenset[tuple[int, int, int]]


class _Moves:
    """What can change a state between two moments: gossip, and puts that may or may not have been carried out."""

    def __init__(self, case: Case, place: dict[int, int]) -> None:
        self._case = case
        self._place = place
        self._at_once: dict[int, list[tuple[int, int]]] = {}
        self._later: list[tuple[int, int, int]] = []
        for version in case.log.needs:
            for server, time, later in case.sources(version):
                if later:
                    self._later.append((place[server], version, time))
                else:
                    self._at_once.setdefault(time, []).append((place[server], version))

    def add_reachable(self, states: set[State], now: int, ways: list[Way], left: int) -> int:
        """Add all states that these states can become before the next moment, over these *ways*.

        *left*: how many states may be looked at. Returns how many of them are left; raises Undecided if there are too
        few.
        """
        caps = [cap(self._case.ups[server], now + 1) for server in self._place]
        puts = self._at_once.get(now, []) + [(at, version) for at, version, time in self._later if time <= now]
        border = list(states)
        while border:
            state = border.pop()
            left -= 1
            if left < 0:
                raise Undecided
            held = state.held
            moves = [(other, held[one]) for one, other in ways if held[one] in self._case.log.needs] + puts
            moves += [(other, version) for _, other, version in state.sent]
            for other, version in moves:
                if held[other] < version <= caps[other]:
                    raised = self.kept(state, (*held[:other], version, *held[other + 1 :]), ways)
                    if raised not in states:
                        states.add(raised)
                        border.append(raised)
        return left

    def kept(self, before: State, held: Held, ways: list[Way]) -> State:
        """The state in which servers hold this. What they held before may still arrive over the ways there were."""
        sent = before.sent
        if held != before.held:
            sent |= {
                (one, other, before.held[one])
                for one, other in ways
                if before.held[one] != held[one] and before.held[one] in self._case.log.needs
            }
        return State(held, frozenset(one for one in sent if one[2] > held[one[1]]))

    def ways(self, now: int, following: int) -> list[Way]:
        """Between which servers gossip can run after a moment and before *following*."""
        return [
            (self._place[one], self._place[other])
            for one, others in self._case.neighbours.items()
            for other, links in others.items()
            if links.first(now + 1) < following
        ]


def _moments(case: Case) -> Iterator[int]:
    """When anything happened to the key or to a link."""
    for steps in (*case.lows.values(), *case.ups.values()):
        yield from steps[0]
    yield from (stabilize.time for stabilize in case.stabilizes)
    yield from case.timeline.births.values()
    for others in case.neighbours.values():
        for links in others.values():
            yield from links.starts
            yield from (end for end in links.ends if end < FOREVER)
    yield from (time for found in case.log.maybes.values() for _, time, _ in found)
    yield case.log.base_time


def cap(steps: Steps, time: int) -> int:
    """Return the smallest up from a moment on."""
    times, versions = steps
    place = bisect_left(times, time)
    return versions[place] if place < len(times) else FOREVER


class _Events:
    """What happens to a key at each moment."""

    def __init__(self, case: Case, place: dict[int, int]) -> None:
        self.moments = sorted({0, *_moments(case)})
        self._case = case
        self._place = place
        self._puts = {time: (place[server], version) for version, (server, time) in case.log.puts.items()}
        self._stabilizes = {stabilize.time: stabilize.components for stabilize in case.stabilizes}

    def happen(self, before: Held, now: int) -> Iterator[Held]:
        """Yield what servers hold after a moment of the history, or nothing if that is impossible."""
        state = list(before)
        case, place = self._case, self._place
        if now == case.log.base_time:
            for server in place:
                state[place[server]] = case.log.base_at(server, case.timeline)
        if now in self._puts:
            at, version = self._puts[now]
            if state[at] > version:
                return
            state[at] = version
        for component in self._stabilizes.get(now, ()):
            largest = max(state[place[server]] for server in component)
            for server in component:
                state[place[server]] = largest
        for server, (times, versions) in case.lows.items():
            held = bisect_right(times, now)
            if held and state[place[server]] < versions[held - 1]:
                return
        if all(state[place[server]] <= cap(case.ups[server], now) for server in place):
            yield tuple(state)
