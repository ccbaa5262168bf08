"""Can the versions of a key have come where they were seen? For scripts/check.py.

May live here: how versions spread over links, as the contract (docs/semantics.md) has it. May not: files, what a
command means, sessions; and nothing of the store's own modules: this is a second opinion.

Theory of operation
-------------------
Each key is a case of its own. A server holds one version of it at a time, a number; of two versions the larger one
stands, and 0 stands for no value. Versions are numbered in the order of the script, so each put makes the largest so
far. What a server holds never gets smaller. Two things raise it besides a put there: *stabilize* gives all servers of a
component the largest version that any of them holds, and *gossip* may give a server what a neighbour holds, at any
moment, or never.

What is known are *lows* (from this moment on the server held at least this version: it took a put, or showed the
version) and *ups* (until this moment it held at most this one). Stabilize carries both over a component: afterwards
everybody has the largest low; before it nobody had more than the smallest up.

A version v that was seen at a server must have come there along a path of servers, each of which held exactly v when
it passed it on. A server can hold v from its last up below v until its first low above v. So whether v can have come in
time is a question of earliest arrival, as in a timetable (Dijkstra): where even the earliest is too late, the history
is wrong, whatever gossip did. Where every version has a path, one question remains: whether the paths go together,
since a server that passes on v can't have had a larger version before. They are chosen one by one, the smallest
version first, each path adding ups for the versions to come. If all find one, that is a schedule of gossip which
explains everything. If one doesn't, every schedule is tried, within limits.

Each line of a history has LINE moments. What it tells of happens at the even ones: at the first, or, where a get asks
several servers, one after another. Gossip happens at the odd ones.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import pairwise
from typing import NamedTuple, TypeVar

__all__ = ["LINE", "Contradiction", "KeyLog", "Timeline", "Undecided", "explain"]

LINE = 1 << 16
"""How many moments a line has: enough for a client with 30,000 connections."""

FOREVER = 1 << 62
_Any = TypeVar("_Any")
MOST_STATES = 100_000
"""How many states of the servers are looked at, before it is left undecided whether paths go together."""


class Contradiction(Exception):
    """A server can't have held exactly this version, or one up to it, at this moment.

    *because*: the moments and servers of what speaks against it, as few as were found; *cuts*: when links were cut
    by which it might have come else.
    """

    def __init__(
        self,
        server: int,
        time: int,
        version: int,
        because: Iterable[tuple[int, int]] = (),
        cuts: Iterable[int] = (),
    ) -> None:
        super().__init__(server, time, version)
        self.server = server
        self.time = time
        self.version = version
        self.because = sorted(set(because))
        self.cuts = sorted(set(cuts))


class Undecided(Exception):
    """There are too many ways in which gossip can have run."""


class _Links:
    """When two servers have been linked: open intervals, in order."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def first(self, time: int) -> int:
        """The first odd moment from *time* on at which they are linked."""
        time |= 1
        place = bisect_right(self.ends, time)
        return max(time, self.starts[place] + 1) if place < len(self.starts) else FOREVER


class Stabilize(NamedTuple):
    """When it was, and the components of more than one server."""

    time: int
    topology: int
    """The number of the topology: equal ones have equal numbers."""
    components: list[frozenset[int]]


class Timeline:
    """What happened to servers and links. Times must not go backwards."""

    def __init__(self, gossips: bool) -> None:
        """*gossips*: whether links carry updates without stabilize."""
        self.births: dict[int, int] = {}
        self.running: set[int] = set()
        self.stabilizes: list[Stabilize] = []
        self.neighbours: dict[int, dict[int, _Links]] = {}
        """What may carry gossip; links that never may aren't here."""
        self.gossips = gossips
        self._links: dict[int, set[int]] = {}
        self._lingering: list[tuple[_Links, int]] = []
        self._topology = 0
        self._components: list[frozenset[int]] | None = None

    def start(self, server: int, time: int) -> None:
        """A server runs, with links to all others that do."""
        self.births.setdefault(server, time)
        self.neighbours.setdefault(server, {})
        self._links[server] = set()
        for other in list(self.running):
            self.link(server, other, time)
        self.running.add(server)
        self._changed()

    def stop(self, server: int, time: int) -> None:
        """A server is killed."""
        for other in list(self._links[server]):
            self.unlink(server, other, time)
        self.running.discard(server)
        self._changed()

    def die(self, server: int, time: int) -> None:
        """A server was found dead. Until `settle`, gossip may have crossed its links: who knows when it died?"""
        neighbours = self.neighbours[server]
        lingering = [
            (neighbours[other], len(neighbours[other].ends) - 1) for other in self._links[server] if self.gossips
        ]
        self.stop(server, time)
        for links, last in lingering:
            links.ends[last] = FOREVER
        self._lingering += lingering

    def settle(self, time: int) -> None:
        """The command is done that those who died since the last one were found dead by."""
        for links, last in self._lingering:
            links.ends[last] = time
        self._lingering.clear()

    def link(self, one: int, other: int, time: int) -> None:
        """Two servers are linked."""
        if other not in self._links[one]:
            self._links[one].add(other)
            self._links[other].add(one)
            self._changed()
            if self.gossips:
                self._open(one, other, time)

    def unlink(self, one: int, other: int, time: int) -> None:
        """Two servers are cut from each other."""
        if other in self._links.get(one, ()):
            self._links[one].discard(other)
            self._links[other].discard(one)
            self._changed()
            if self.gossips:
                self.neighbours[one][other].ends[-1] = time

    def burst(self, time: int) -> None:
        """Links may have carried updates just before this moment, though there is no gossip."""
        if not self.gossips:
            for one, others in self._links.items():
                for other in others:
                    if one < other:
                        self._open(one, other, time - 2).ends[-1] = time

    def stabilize(self, time: int) -> None:
        """Within each component, all servers hold the same from now on."""
        self.stabilizes.append(Stabilize(time, self._topology, self.components()))

    def is_whole(self) -> bool:
        """Whether all servers that there ever were can reach each other."""
        servers = len(self.births)
        return len(self.running) == servers and (servers == 1 or [servers] == [len(part) for part in self.components()])

    def components(self) -> list[frozenset[int]]:
        """The sets of two or more servers that can reach each other."""
        if self._components is None:
            left, self._components = set(self.running), []
            while left:
                part, border = set(), [left.pop()]
                while border:
                    server = border.pop()
                    part.add(server)
                    border += self._links[server] & left
                    left -= self._links[server]
                if len(part) > 1:
                    self._components.append(frozenset(part))
        return self._components

    def _changed(self) -> None:
        self._topology += 1
        self._components = None

    def _open(self, one: int, other: int, time: int) -> _Links:
        links = self.neighbours[one].get(other)
        if links is None:
            links = self.neighbours[one][other] = self.neighbours[other][one] = _Links()
        links.starts.append(time)
        links.ends.append(FOREVER)
        return links


class _Track:
    """What is known of a key at one server. Both pairs of lists rise strictly."""

    __slots__ = ("low_times", "lows", "up_times", "ups")

    def __init__(self, low: int, time: int) -> None:
        self.lows = [low] if low else []
        self.low_times = [time] if low else []
        self.ups: list[int] = []
        self.up_times: list[int] = []

    def low(self, time: int, version: int) -> None:
        self.lows.append(version)
        self.low_times.append(time)

    def up(self, time: int, version: int) -> None:
        while self.ups and self.ups[-1] >= version:
            self.ups.pop()
            self.up_times.pop()
        self.ups.append(version)
        self.up_times.append(time)


class KeyLog:
    """What is known of one key, since all servers last held the same."""

    __slots__ = ("base", "base_time", "earlier", "maybes", "needs", "newest", "puts", "tracks")

    def __init__(self) -> None:
        self.base = self.base_time = 0
        """The version that all servers held at this time, which were born before; all others began with none."""
        self.tracks: dict[int, _Track] = {}
        self.needs: dict[int, list[tuple[int, int]]] = {}
        """Version -> the servers that showed it first by this time, and have not taken the put."""
        self.puts: dict[int, tuple[int, int]] = {}
        """Version -> the server and time."""
        self.maybes: dict[int, list[tuple[int, int, bool]]] = {}
        """Version -> servers that may have taken the put, at this time, or (where the last says so) later."""
        self.earlier: set[int] = set()
        """Versions from before this history: any server may have begun with them."""
        self.newest = 0

    def track(self, server: int, timeline: Timeline) -> _Track:
        """What is known at one server."""
        track = self.tracks.get(server)
        if track is None:
            track = self.tracks[server] = _Track(self.base_at(server, timeline), self.base_time)
        return track

    def base_at(self, server: int, timeline: Timeline) -> int:
        """What a server began with."""
        return self.base if timeline.births[server] < self.base_time else 0

    def put(self, server: int, time: int, version: int, timeline: Timeline) -> None:
        """A server has taken a put."""
        self.track(server, timeline).low(time, version)
        self.puts[version] = server, time
        self.newest = version

    def may_put(self, server: int, time: int, version: int, later: bool, timeline: Timeline) -> None:
        """A server may have taken a put at this time, or *later*."""
        self.track(server, timeline)
        self.maybes.setdefault(version, []).append((server, time, later))

    def saw(self, server: int, time: int, version: int, timeline: Timeline) -> None:
        """A server has shown that it holds exactly this. Raises Contradiction."""
        track = self.track(server, timeline)
        low = track.lows[-1] if track.lows else 0
        if low > version:
            self._contradict(track, server, time, version)
        if low < version:
            track.low(time, version)
            self.needs.setdefault(version, []).append((server, time))
        track.up(time, version)

    def at_most(self, server: int, time: int, version: int, timeline: Timeline) -> None:
        """A server has shown that it holds no more than this. Raises Contradiction."""
        track = self.track(server, timeline)
        if track.lows and track.lows[-1] > version:
            self._contradict(track, server, time, version)
        track.up(time, version)

    @staticmethod
    def _contradict(track: _Track, server: int, time: int, version: int) -> None:
        raise Contradiction(server, time, version, [(track.low_times[bisect_right(track.lows, version)], server)])

    def can_close(self) -> bool:
        """Whether stabilize over all servers leaves no doubt of what they hold."""
        return (
            bool(self.puts)
            and self.newest in self.puts
            and self.newest >= max((*self.maybes, *self.earlier), default=0)
        )

    def close(self, time: int) -> None:
        """All servers hold the newest version now; forget the rest."""
        self.base, self.base_time = self.newest, time
        self.tracks, self.needs, self.puts, self.maybes, self.earlier = {}, {}, {}, {}, set()


Steps = tuple[list[int], list[int]]
"""Times and versions, both rising."""


class _Case:
    """A key's lows and ups at all servers, with what stabilize makes of them."""

    def __init__(
        self,
        timeline: Timeline,
        log: KeyLog,
        lows: dict[int, Steps],
        ups: dict[int, Steps],
        neighbours: dict[int, dict[int, _Links]] | None = None,
    ) -> None:
        """*neighbours*: other than those of the time-line."""
        self.timeline = timeline
        self.log = log
        self.neighbours = timeline.neighbours if neighbours is None else neighbours
        self.stabilizes = _stabilizes(timeline, log)
        self._moments = [stabilize.time for stabilize in self.stabilizes]
        self._own_ups = ups
        self.lows = self._carry_lows(lows) if self.stabilizes else lows
        self.ups = self._carry_ups(ups) if self.stabilizes else ups

    @classmethod
    def of(cls, timeline: Timeline, log: KeyLog) -> _Case:
        """All that is known."""
        lows: dict[int, Steps] = {}
        ups: dict[int, Steps] = {}
        for server in timeline.births:
            track = log.tracks.get(server) or _Track(log.base_at(server, timeline), log.base_time)
            lows[server] = track.low_times, track.lows
            ups[server] = track.up_times, track.ups
        return cls(timeline, log, lows, ups)

    def _carry_lows(self, known: dict[int, Steps]) -> dict[int, Steps]:
        carried: dict[int, Steps] = {server: ([], []) for server in known}
        places = dict.fromkeys(known, 0)

        def advance(server: int, time: int) -> int:
            """The largest low until *time*."""
            times, versions = known[server]
            out_times, out = carried[server]
            place = places[server]
            while place < len(times) and times[place] <= time:
                if not out or out[-1] < versions[place]:
                    out_times.append(times[place])
                    out.append(versions[place])
                place += 1
            places[server] = place
            return out[-1] if out else 0

        for stabilize in self.stabilizes:
            for component in stabilize.components:
                held = {server: advance(server, stabilize.time) for server in component}
                largest = max(held.values())
                for server, low in held.items():
                    if low < largest:
                        carried[server][0].append(stabilize.time)
                        carried[server][1].append(largest)
        for server in known:
            advance(server, FOREVER)
        return carried

    def _carry_ups(self, known: dict[int, Steps]) -> dict[int, Steps]:
        carried: dict[int, Steps] = {server: ([], []) for server in known}
        places = {server: len(times) for server, (times, _) in known.items()}

        def go_back(server: int, time: int) -> int:
            """The smallest up behind *time*."""
            times, versions = known[server]
            out_times, out = carried[server]
            place = places[server]
            while place and times[place - 1] > time:
                place -= 1
                if not out or out[-1] > versions[place]:
                    out_times.append(times[place])
                    out.append(versions[place])
            places[server] = place
            return out[-1] if out else FOREVER

        for stabilize in reversed(self.stabilizes):
            for component in stabilize.components:
                held = {server: go_back(server, stabilize.time) for server in component}
                smallest = min(held.values())
                for server, up in held.items():
                    if up > smallest:
                        carried[server][0].append(stabilize.time)
                        carried[server][1].append(smallest)
        for server in known:
            go_back(server, -1)
        return {server: (times[::-1], versions[::-1]) for server, (times, versions) in carried.items()}

    def ends(self, server: int, version: int) -> int:
        """From when on a server held more than *version*."""
        times, versions = self.lows[server]
        place = bisect_right(versions, version)
        return times[place] if place < len(times) else FOREVER

    def crossed(self) -> tuple[int, int, int] | None:
        """A server, moment and version where an up is below a low."""
        for server, (times, versions) in self._own_ups.items():  # lows are carried to where they meet these
            for time, version in zip(times, versions, strict=True):
                if self.ends(server, version) <= time:
                    return server, time, version
        return None

    def sources(self, version: int) -> Iterator[tuple[int, int, bool]]:
        """Where a version comes from, when, and whether that may also be later."""
        log, births = self.log, self.timeline.births
        if version in log.puts:
            yield (*log.puts[version], False)
        if version == log.base:
            yield from ((server, log.base_time, False) for server, birth in births.items() if birth < log.base_time)
        yield from log.maybes.get(version, ())
        if version in log.earlier:
            yield from ((server, birth, False) for server, birth in births.items())

    def spread(self, version: int, needs: list[tuple[int, int]], ups: dict[int, Steps]) -> _Arrivals:
        """How a version comes to the servers that need it, as early as can be."""
        begins: dict[int, int] = {}
        ends: dict[int, int] = {}
        for server in self.timeline.births:
            times, versions = ups[server]
            place = bisect_left(versions, version)
            begins[server] = times[place - 1] if place else 0
            ends[server] = self.ends(server, version)
        arrivals = _Arrivals(version)
        left = {server for server, _ in needs}
        latest = max(time for _, time in needs)
        heap = [
            (max(time, begins[server]), 0, server, -1)
            for server, time, later in self.sources(version)
            if later or begins[server] <= time
        ]
        heapq.heapify(heap)
        while heap and left:
            time, hops, server, parent = heapq.heappop(heap)
            if server in arrivals.times or time >= ends[server] or time > latest:
                continue
            arrivals.times[server], arrivals.parents[server] = time, parent
            left.discard(server)
            for other, links in self.neighbours[server].items():
                if other not in arrivals.times:
                    passed = links.first(max(time, begins[other]))
                    if passed < ends[server]:
                        heapq.heappush(heap, (passed, hops + 1, other, server))
            for moment, component in self._stabilizes_of(server, time, min(ends[server] - 1, latest)):
                for other in component:
                    if other not in arrivals.times:
                        heapq.heappush(heap, (moment, hops + 1, other, server))
        arrivals.missing = next(((s, t) for s, t in needs if arrivals.times.get(s, FOREVER) > t), None)
        return arrivals

    def add_up(self, ups: dict[int, Steps], server: int, time: int, version: int) -> None:
        """Note that a server passed on a version, so that it held no larger one before."""
        border = [(server, time)]
        while border:
            server, time = border.pop()
            times, versions = ups[server]
            place = bisect_left(times, time)
            if place < len(times) and versions[place] <= version:
                continue
            first = bisect_left(versions, version, 0, place)
            since = times[first - 1] if first else -1  # what holds until then is less, and has been carried on
            if place < len(times) and times[place] == time:
                place += 1
            times[first:place], versions[first:place] = [time], [version]
            for moment, component in self._stabilizes_of(server, since, time):
                border += [(other, moment) for other in component]

    def _stabilizes_of(self, server: int, after: int, until: int) -> Iterator[tuple[int, frozenset[int]]]:
        """When stabilize gave a server what others had, or others what it had, and its component then.

        Few of them matter at a time: to look at all for each version would take quadratic time.
        """
        for place in range(bisect_right(self._moments, after), bisect_right(self._moments, until)):
            for component in self.stabilizes[place].components:
                if server in component:
                    yield self._moments[place], component


class _Arrivals:
    """When a version comes to each server, and from whom."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.times: dict[int, int] = {}
        self.parents: dict[int, int] = {}
        self.missing: tuple[int, int] | None = None
        """A server that needs it, and when, where it comes too late or never."""


def _stabilizes(timeline: Timeline, log: KeyLog) -> list[Stabilize]:
    """Those that may have moved the key: not the second of two between which nothing happened."""
    begins = [track.low_times[0] for track in log.tracks.values() if track.low_times]
    begins += [time for found in log.maybes.values() for _, time, _ in found]
    since = log.base_time if log.earlier or log.base else min(begins, default=FOREVER) - 1
    place = bisect_right(timeline.stabilizes, since, key=lambda stabilize: stabilize.time)
    if place == len(timeline.stabilizes):
        return []
    moments = sorted({time for track in log.tracks.values() for time in (*track.low_times, *track.up_times)})
    found: list[Stabilize] = []
    for stabilize in timeline.stabilizes[place:]:
        if stabilize.components:
            if found and found[-1].topology == stabilize.topology:
                between = bisect_right(moments, found[-1].time)
                if between == len(moments) or moments[between] > stabilize.time:
                    continue
            found.append(stabilize)
    return found


def explain(timeline: Timeline, log: KeyLog) -> None:
    """Find a way in which all that is known of a key can have come about.

    Raises Contradiction where there is none, Undecided where none was found.
    """
    if not log.needs and (not timeline.stabilizes or timeline.stabilizes[-1].time <= log.base_time):
        return
    try:
        _solve(_Case.of(timeline, log), MOST_STATES)
    except Contradiction as found:
        raise _with_reasons(timeline, log, found) from None


def _solve(case: _Case, most_states: int) -> None:
    """Raises Contradiction, without reasons, and Undecided."""
    crossed = case.crossed()
    if crossed is not None:
        raise Contradiction(*crossed)
    ups = case.ups
    for version in sorted(case.log.needs):
        needs = case.log.needs[version]
        arrivals = case.spread(version, needs, ups)
        if arrivals.missing is not None and ups is not case.ups:
            arrivals = case.spread(version, needs, case.ups)
            if arrivals.missing is None:
                _search(case, most_states)
                return
        if arrivals.missing is not None:
            raise Contradiction(*arrivals.missing, version)
        ups = _with_path(case, arrivals, needs, ups)


def _with_path(
    case: _Case, arrivals: _Arrivals, needs: list[tuple[int, int]], ups: dict[int, Steps]
) -> dict[int, Steps]:
    """The ups, and those of the servers that pass a version on."""
    done: set[int] = set()
    for server, _ in needs:
        while server not in done and arrivals.parents[server] != -1:
            done.add(server)
            parent, time = arrivals.parents[server], arrivals.times[server]
            if ups is case.ups:
                ups = {one: (list(times), list(versions)) for one, (times, versions) in ups.items()}
            case.add_up(ups, parent, time, arrivals.version)
            server = parent
    return ups


# -- every schedule ----------------------------------------------------------------------------------------


def _search(case: _Case, most_states: int) -> None:
    """Try every way in which gossip can have moved the versions that were seen. Raises Contradiction, Undecided."""
    servers = sorted(case.timeline.births)
    place = {server: index for index, server in enumerate(servers)}
    needs = sorted((time, server, version) for version, found in case.log.needs.items() for server, time in found)
    at_once: dict[int, list[tuple[int, int]]] = {}
    at_last: list[tuple[int, int, int]] = []
    for version in case.log.needs:
        for server, time, later in case.sources(version):
            if later:
                at_last.append((place[server], version, time))
            else:
                at_once.setdefault(time, []).append((place[server], version))
    events = _Events(case, place)
    states = {tuple(0 for _ in servers)}
    looked_at = 0
    worst = (0, 0, 0)
    for now, following in pairwise([*events.moments, events.moments[-1] + 2]):
        states = {state for before in states for state in events.happen(before, now)}
        links = [
            (place[one], place[other])
            for one, others in case.neighbours.items()
            for other, links in others.items()
            if links.first(now + 1) < following
        ]
        caps = [_cap(case.ups[server], now + 1) for server in servers]
        maybes = at_once.get(now, []) + [(at, version) for at, version, time in at_last if time <= now]
        border = list(states)
        while border:
            state = border.pop()
            looked_at += 1
            if looked_at > most_states:
                raise Undecided
            moves = [(other, state[one]) for one, other in links if state[one] in case.log.needs] + maybes
            for other, version in moves:
                if state[other] < version <= caps[other]:
                    raised = (*state[:other], version, *state[other + 1 :])
                    if raised not in states:
                        states.add(raised)
                        border.append(raised)
        if not states:
            raise Contradiction(*worst)
        coming = bisect_left(needs, (following,))
        if coming < len(needs):
            time, server, version = needs[coming]
            worst = server, time, version


def _moments(case: _Case) -> Iterator[int]:
    """When anything happened to the key, or to a link."""
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


def _cap(steps: Steps, time: int) -> int:
    """The up that holds at a moment."""
    times, versions = steps
    place = bisect_left(times, time)
    return versions[place] if place < len(times) else FOREVER


class _Events:
    """What happens to a key at which moment."""

    def __init__(self, case: _Case, place: dict[int, int]) -> None:
        self.moments = sorted({0, *_moments(case)})
        self._case = case
        self._place = place
        self._puts = {time: (place[server], version) for version, (server, time) in case.log.puts.items()}
        self._stabilizes = {stabilize.time: stabilize.components for stabilize in case.stabilizes}

    def happen(self, before: tuple[int, ...], now: int) -> Iterator[tuple[int, ...]]:
        """The state after a moment of the history, if it can be."""
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
        if all(state[place[server]] <= _cap(case.ups[server], now) for server in place):
            yield tuple(state)


# -- reasons -----------------------------------------------------------------------------------------------

Fact = tuple[str, int, int, int]
"""low, up or need; the server, time and version."""

MOST_FACTS = 500
"""With more of them, it is not tried which of them are needed to see that paths don't go together."""


def _with_reasons(timeline: Timeline, log: KeyLog, found: Contradiction) -> Contradiction:
    """The contradiction, with as few reasons as it takes."""
    server, time, version = found.server, found.time, found.version
    known = list(_facts(timeline, log))
    facts = [
        fact for fact in known if (fact[0] == "low" and fact[3] > version) or (fact[0] == "up" and fact[3] < version)
    ]
    need = ("need", server, time, version)
    is_need = (server, time) in log.needs.get(version, ())

    def contradict(facts: list[Fact], cuts: list[int] | None = None) -> bool:
        """By themselves, whatever the other versions."""
        case = _case_of(timeline, log, [*facts, need], cuts)
        if case.ends(server, version) <= time:
            return True
        return is_need and case.spread(version, [(server, time)], case.ups).missing is not None

    def contradict_together(facts: list[Fact], cuts: list[int] | None = None) -> bool:
        try:
            _solve(_case_of(timeline, log, [*facts, need], cuts), MOST_STATES // 50)
        except Contradiction:
            return True
        except Undecided:
            pass
        return False

    if not contradict(facts):
        facts, contradict = [fact for fact in known if fact != need], contradict_together
        if len(facts) > MOST_FACTS:
            return Contradiction(server, time, version, [(t, at) for _, at, t, _ in facts])
    facts = _fewest(facts, contradict)
    because = [(t, at) for _, at, t, _ in facts]
    ends = _case_of(timeline, log, facts, None).ends(server, version)
    if ends <= time:
        return Contradiction(server, time, version, [*because, (ends, server)])
    ends_of_links = [end for links in timeline.neighbours.values() for one in links.values() for end in one.ends]
    cuts = sorted({end for end in ends_of_links if end < time}) if timeline.gossips else []
    return Contradiction(server, time, version, because, _fewest(cuts, lambda cuts: contradict(facts, cuts)))


def _facts(timeline: Timeline, log: KeyLog) -> Iterator[Fact]:
    """All that is known."""
    for server in timeline.births:
        track = log.tracks.get(server) or _Track(log.base_at(server, timeline), log.base_time)
        yield from (("low", server, time, low) for time, low in zip(track.low_times, track.lows, strict=True))
        yield from (("up", server, time, up) for time, up in zip(track.up_times, track.ups, strict=True))
    for version, needs in log.needs.items():
        yield from (("need", server, time, version) for server, time in needs)


def _case_of(timeline: Timeline, log: KeyLog, facts: list[Fact], cuts: list[int] | None) -> _Case:
    """What it would be if only these facts were known, and links had been cut only at these moments."""
    lows: dict[int, Steps] = {other: ([], []) for other in timeline.births}
    ups: dict[int, Steps] = {other: ([], []) for other in timeline.births}
    partly = copy(log)
    partly.needs = {}
    for kind, server, time, version in facts:
        if kind == "need":
            partly.needs.setdefault(version, []).append((server, time))
        else:
            times, versions = (lows if kind == "low" else ups)[server]
            times.append(time)
            versions.append(version)
    return _Case(timeline, partly, lows, ups, None if cuts is None else _only_cut(timeline, set(cuts)))


def _only_cut(timeline: Timeline, cuts: set[int]) -> dict[int, dict[int, _Links]]:
    """The links, as if they had been cut only at these moments."""
    neighbours: dict[int, dict[int, _Links]] = {server: {} for server in timeline.neighbours}
    for one, others in timeline.neighbours.items():
        for other, known in others.items():
            if one < other:
                links = neighbours[one][other] = neighbours[other][one] = _Links()
                links.starts.append(known.starts[0])
                for end, start in zip(known.ends, [*known.starts[1:], FOREVER], strict=True):
                    if end in cuts:
                        links.ends.append(end)
                        links.starts.append(start)
                links.ends.append(FOREVER)
    return neighbours


def _fewest(found: list[_Any], suffice: Callable[[list[_Any]], bool], tries: int = 500) -> list[_Any]:
    """As few of these as suffice, as far as can be seen with so many tries."""
    parts = 2
    while found and tries > 0:
        size = -(-len(found) // parts)
        for begin in range(0, len(found), size):
            rest = found[:begin] + found[begin + size :]
            tries -= 1
            if suffice(rest):
                found, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(found), 2 * parts)
    return found
