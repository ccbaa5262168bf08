"""Decides whether the versions of a key can have come where they were seen, and if not, which facts show it.

May live here: looking for a schedule of gossip that explains all that is known of a key, and for the few facts that
rule out all schedules. May not: how versions spread (checking/spread.py), and what lines say (checking/checker.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import TypeVar

from checking.schedules import search
from checking.spread import Arrivals, Case, Contradiction, KeyLog, Steps, Track, Undecided
from checking.timeline import FOREVER, Links, Timeline

__all__ = ["explain"]

_Any = TypeVar("_Any")

MOST_STATES = 100_000
"""How many states of the servers are looked at until a case is left undecided."""


def explain(timeline: Timeline, log: KeyLog) -> None:
    """Find a way in which all that is known of a key can have come about.

    Raises Contradiction if there is none, Undecided if none was found within the limits.
    """
    if not log.needs and (not timeline.stabilizes or timeline.stabilizes[-1].time <= log.base_time):
        return
    try:
        solve(Case.of(timeline, log), MOST_STATES)
    except Contradiction as found:
        raise _with_reasons(timeline, log, found) from None


def solve(case: Case, most_states: int) -> None:
    """Do what `explain` does for a case, without the reasons of a contradiction. Raises Contradiction, Undecided."""
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
                search(case, most_states)
                return
        if arrivals.missing is not None:
            raise Contradiction(*arrivals.missing, version)
        ups = _with_path(case, arrivals, needs, ups)


def _with_path(case: Case, arrivals: Arrivals, needs: list[tuple[int, int]], ups: dict[int, Steps]) -> dict[int, Steps]:
    """Return the ups together with those of the servers that pass a version on."""
    done: set[int] = set()
    for server, _ in needs:
        while server not in done and arrivals.parents[server] != -1:
            done.add(server)
            parent, time = arrivals.parents[server], arrivals.sent[server]
            if ups is case.ups:
                ups = {one: (list(times), list(versions)) for one, (times, versions) in ups.items()}
            case.add_up(ups, parent, time, arrivals.version)
            server = parent
    return ups


# -- reasons -----------------------------------------------------------------------------------------------

Fact = tuple[str, int, int, int]
"""The kind ("low", "up" or "need"), then server, time and version."""

MOST_FACTS = 500
"""Above this number, a contradiction between several versions names all facts, not only those that it takes."""


def _with_reasons(timeline: Timeline, log: KeyLog, found: Contradiction) -> Contradiction:
    """Return the contradiction with as few reasons as it takes."""
    server, time, version = found.server, found.time, found.version
    known = list(_facts(timeline, log))
    facts = [
        fact for fact in known if (fact[0] == "low" and fact[3] > version) or (fact[0] == "up" and fact[3] < version)
    ]
    need = ("need", server, time, version)
    is_need = (server, time) in log.needs.get(version, ())

    def contradict(facts: list[Fact], cuts: list[int] | None = None) -> bool:
        """Whether these facts rule the version out by themselves, whatever is known of other versions."""
        case = _case_of(timeline, log, [*facts, need], cuts)
        if case.ends(server, version) <= time:
            return True
        return is_need and case.spread(version, [(server, time)], case.ups).missing is not None

    def contradict_together(facts: list[Fact], cuts: list[int] | None = None) -> bool:
        """Whether these facts, about all versions, rule out every way that is tried."""
        try:
            solve(_case_of(timeline, log, [*facts, need], cuts), MOST_STATES // 50)
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
    """Return all that is known of a key."""
    for server in timeline.births:
        track = log.tracks.get(server) or Track(log.base_at(server, timeline), log.base_time)
        yield from (("low", server, time, low) for time, low in zip(track.low_times, track.lows, strict=True))
        yield from (("up", server, time, up) for time, up in zip(track.up_times, track.ups, strict=True))
    for version, needs in log.needs.items():
        yield from (("need", server, time, version) for server, time in needs)


def _case_of(timeline: Timeline, log: KeyLog, facts: list[Fact], cuts: list[int] | None) -> Case:
    """Return the case in which only these facts were known, and links had been cut only at these moments."""
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
    return Case(timeline, partly, lows, ups, None if cuts is None else _only_cut(timeline, set(cuts)))


def _only_cut(timeline: Timeline, cuts: set[int]) -> dict[int, dict[int, Links]]:
    """Return the links as if they had been cut only at these moments."""
    neighbours: dict[int, dict[int, Links]] = {server: {} for server in timeline.neighbours}
    for one, others in timeline.neighbours.items():
        for other, known in others.items():
            if one < other:
                links = neighbours[one][other] = neighbours[other][one] = Links()
                links.starts.append(known.starts[0])
                for end, start in zip(known.ends, [*known.starts[1:], FOREVER], strict=True):
                    if end in cuts:
                        links.ends.append(end)
                        links.starts.append(start)
                links.ends.append(FOREVER)
    return neighbours


def _fewest(found: list[_Any], suffice: Callable[[list[_Any]], bool], tries: int = 500) -> list[_Any]:
    """Return as few of these as still suffice, as far as that many tries can show (delta debugging)."""
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
