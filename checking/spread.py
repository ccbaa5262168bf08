"""How the versions of a key spread over the links of a history; checking/explain.py decides with it.

May live here: what is known of a key, and how early a version can reach a server by the contract
(docs/semantics.md). May not: files, what a command means, sessions, and any module of the store, since the checker is a
second opinion.

Theory of operation
-------------------
Each key is a case of its own. A server holds one version of it at a time, a number; of two versions the larger one
stands, and 0 stands for no value. Versions are numbered in the order of the script, so each put makes the largest so
far. What a server holds never becomes smaller. Besides a put at the server, two things raise it: *stabilize* gives all
servers of a component the largest version that any of them holds, and *gossip* may give a server what a neighbour
holds, or has held since their link was made, at any moment, or never: an answer may arrive late.

All that is known are *lows* (from this moment on the server held at least this version: it took a put, or showed the
version) and *ups* (until this moment it held at most this one). Stabilize carries both over a component: afterwards
all of them have the largest low; before it none of them had more than the smallest up.

A version v that was seen at a server must have come there along a path of servers, each of which held exactly v when it
passed it on. A server can hold v from its last up below v until its first low above v, and what it has passed on
arrives there and then, or at any later moment while the link stands. So whether v can have come in time is a question
of earliest arrival, as in a timetable (Dijkstra): where even the earliest is too late, the history is wrong, whatever
gossip did. Where every version has a path, one question remains: whether the paths go together, since a server that
passes on v can't have had a larger version before. They are chosen one by one, the smallest version first, each path
adding ups for the versions to come. If all find one, that is a schedule of gossip which explains everything. If one
doesn't, every schedule is tried, within limits.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from checking.timeline import FOREVER, Links, Stabilize, Timeline

__all__ = ["Arrivals", "Case", "Contradiction", "KeyLog", "Steps", "Track", "Undecided"]


class Contradiction(Exception):
    """A server cannot have held exactly this version, or at most this version, at this moment.

    *because*: the moments and servers of the facts that contradict it, as few as were found. *cuts*: when links were
    cut over which the version might have come otherwise.
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


class Track:
    """What is known of a key at one server: its lows and its ups. Both pairs of lists rise strictly."""

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
    """What is known of one key since the last moment at which all servers held the same version."""

    __slots__ = ("base", "base_time", "earlier", "maybes", "needs", "newest", "puts", "tracks")

    def __init__(self) -> None:
        self.base = self.base_time = 0
        """At `base_time`, every server that had been started by then held this version; later ones began with 0."""
        self.tracks: dict[int, Track] = {}
        self.needs: dict[int, list[tuple[int, int]]] = {}
        """Version -> (server, time) of each server that showed it without having taken the put; the first time only."""
        self.puts: dict[int, tuple[int, int]] = {}
        """Version -> the server that took the put, and when."""
        self.maybes: dict[int, list[tuple[int, int, bool]]] = {}
        """Version -> (server, time, later) of each server that may have taken the put at that time, or also *later*."""
        self.earlier: set[int] = set()
        """Versions from before this history: any server may have begun with them."""
        self.newest = 0

    def track(self, server: int, timeline: Timeline) -> Track:
        """Return what is known at one server."""
        track = self.tracks.get(server)
        if track is None:
            track = self.tracks[server] = Track(self.base_at(server, timeline), self.base_time)
        return track

    def base_at(self, server: int, timeline: Timeline) -> int:
        """Return the version that a server began with."""
        return self.base if timeline.births[server] < self.base_time else 0

    def put(self, server: int, time: int, version: int, timeline: Timeline) -> None:
        """A server has taken a put."""
        self.track(server, timeline).low(time, version)
        self.puts[version] = server, time
        self.newest = version

    def may_put(self, server: int, time: int, version: int, later: bool, timeline: Timeline) -> None:
        """A server may have taken a put at this time, or, if *later* says so, at any later time."""
        self.track(server, timeline)
        self.maybes.setdefault(version, []).append((server, time, later))

    def saw(self, server: int, time: int, version: int, timeline: Timeline) -> None:
        """A server has shown that it holds exactly this version. Raises Contradiction."""
        track = self.track(server, timeline)
        low = track.lows[-1] if track.lows else 0
        if low > version:
            self._contradict(track, server, time, version)
        if low < version:
            track.low(time, version)
            self.needs.setdefault(version, []).append((server, time))
        track.up(time, version)

    def at_most(self, server: int, time: int, version: int, timeline: Timeline) -> None:
        """A server has shown that it holds at most this version. Raises Contradiction."""
        track = self.track(server, timeline)
        if track.lows and track.lows[-1] > version:
            self._contradict(track, server, time, version)
        track.up(time, version)

    @staticmethod
    def _contradict(track: Track, server: int, time: int, version: int) -> None:
        raise Contradiction(server, time, version, [(track.low_times[bisect_right(track.lows, version)], server)])

    def can_close(self) -> bool:
        """Whether a stabilize over all servers leaves no doubt which version they hold."""
        return (
            bool(self.puts)
            and self.newest in self.puts
            and self.newest >= max((*self.maybes, *self.earlier), default=0)
        )

    def close(self, time: int) -> None:
        """From this time on all servers hold the newest version; forget the rest."""
        self.base, self.base_time = self.newest, time
        self.tracks, self.needs, self.puts, self.maybes, self.earlier = {}, {}, {}, {}, set()


Steps = tuple[list[int], list[int]]
"""Times and versions, both in rising order."""


class Case:
    """The lows and ups of a key at all servers, carried over components by each stabilize."""

    def __init__(
        self,
        timeline: Timeline,
        log: KeyLog,
        lows: dict[int, Steps],
        ups: dict[int, Steps],
        neighbours: dict[int, dict[int, Links]] | None = None,
    ) -> None:
        """*neighbours*: the links, if they are not those of the time-line."""
        self.timeline = timeline
        self.log = log
        self.neighbours = timeline.neighbours if neighbours is None else neighbours
        self.stabilizes = stabilizes_of(timeline, log)
        self._moments = [stabilize.time for stabilize in self.stabilizes]
        self._own_ups = ups
        self.lows = self._carry_lows(lows) if self.stabilizes else lows
        self.ups = self._carry_ups(ups) if self.stabilizes else ups

    @classmethod
    def of(cls, timeline: Timeline, log: KeyLog) -> Case:
        """Return the case in which all that is known counts."""
        lows: dict[int, Steps] = {}
        ups: dict[int, Steps] = {}
        for server in timeline.births:
            track = log.tracks.get(server) or Track(log.base_at(server, timeline), log.base_time)
            lows[server] = track.low_times, track.lows
            ups[server] = track.up_times, track.ups
        return cls(timeline, log, lows, ups)

    def _carry_lows(self, known: dict[int, Steps]) -> dict[int, Steps]:
        carried: dict[int, Steps] = {server: ([], []) for server in known}
        places = dict.fromkeys(known, 0)

        def advance(server: int, time: int) -> int:
            """Return the largest low up to *time*."""
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
            """Return the smallest up after *time*."""
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
        """Return the moment from which on a server held more than *version*."""
        times, versions = self.lows[server]
        place = bisect_right(versions, version)
        return times[place] if place < len(times) else FOREVER

    def crossed(self) -> tuple[int, int, int] | None:
        """Find a server and a moment where an up is below a low: (server, time, version), or None."""
        for server, (times, versions) in self._own_ups.items():  # lows are carried to where they meet these
            for time, version in zip(times, versions, strict=True):
                if self.ends(server, version) <= time:
                    return server, time, version
        return None

    def sources(self, version: int) -> Iterator[tuple[int, int, bool]]:
        """Where a version comes from: (server, time, later), where *later* says that it may also be at a later time."""
        log, births = self.log, self.timeline.births
        if version in log.puts:
            yield (*log.puts[version], False)
        if version == log.base:
            yield from ((server, log.base_time, False) for server, birth in births.items() if birth < log.base_time)
        yield from log.maybes.get(version, ())
        if version in log.earlier:
            yield from ((server, birth, False) for server, birth in births.items())

    def spread(self, version: int, needs: list[tuple[int, int]], ups: dict[int, Steps]) -> Arrivals:
        """Find out how early a version can come to the servers that need it, and over which servers."""
        begins: dict[int, int] = {}
        ends: dict[int, int] = {}
        for server in self.timeline.births:
            times, versions = ups[server]
            place = bisect_left(versions, version)
            begins[server] = times[place - 1] if place else 0
            ends[server] = self.ends(server, version)
        arrivals = Arrivals(version)
        left = {server for server, _ in needs}
        latest = max(time for _, time in needs)
        heap = [
            (max(time, begins[server]), 0, server, -1, time)
            for server, time, later in self.sources(version)
            if later or begins[server] <= time
        ]
        heapq.heapify(heap)
        while heap and left:
            time, hops, server, parent, sent = heapq.heappop(heap)
            if server in arrivals.times or time >= ends[server] or time > latest:
                continue
            arrivals.times[server], arrivals.parents[server], arrivals.sent[server] = time, parent, sent
            left.discard(server)
            for other, links in self.neighbours[server].items():
                if other not in arrivals.times:
                    passed = links.first_late(time, ends[server], begins[other])
                    if passed is not None:
                        heapq.heappush(heap, (passed[1], hops + 1, other, server, passed[0]))
            for moment, component in self._stabilizes_of(server, time, min(ends[server] - 1, latest)):
                for other in component:
                    if other not in arrivals.times:
                        heapq.heappush(heap, (moment, hops + 1, other, server, moment))
        arrivals.missing = next(((s, t) for s, t in needs if arrivals.times.get(s, FOREVER) > t), None)
        return arrivals

    def add_up(self, ups: dict[int, Steps], server: int, time: int, version: int) -> None:
        """Note that a server passed on a version at this time, so that it held no larger one before."""
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
        """When a stabilize took place in a component with this server, and the component.

        Only those after *after*, up to *until*: to look at all of them for each version would take quadratic time.
        """
        for place in range(bisect_right(self._moments, after), bisect_right(self._moments, until)):
            for component in self.stabilizes[place].components:
                if server in component:
                    yield self._moments[place], component


class Arrivals:
    """When a version can come to each server at the earliest, and from which other server."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.times: dict[int, int] = {}
        self.parents: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        """When that other server passed it on."""
        self.missing: tuple[int, int] | None = None
        """A server that showed the version before it can have come there, and the time at which it did."""


def stabilizes_of(timeline: Timeline, log: KeyLog) -> list[Stabilize]:
    """The stabilizes that may have moved the key: not the second of two between which nothing happened."""
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
