"""A shortest schedule of exchanges that brings an output about.

May live here: making a schedule shorter and plainer, and trying it in the real rooms (play.py). May not: which outputs
there are (analysis.py), how a schedule is told (telling.py).
"""

from __future__ import annotations

from checking.outcomes.exchanges import Chain, Exchange, World
from checking.outcomes.plan import Get, Plan, Print, Put, Stabilize
from checking.outcomes.play import play
from checking.outcomes.search import Budget, Exhausted, Search, State

__all__ = ["shortest"]

STEPS = 50_000
"""How many steps the search for a shorter one may take."""


def shortest(plan: Plan, stdout: bytes, known: Chain) -> Chain:
    """The fewest exchanges with which a script prints this; *known* are some.

    It has been played in the real rooms, and has printed that, but for one whose exchanges come in parts.
    """
    if any(exchange.part for exchange in known):
        return known
    try:
        best = _fewest(plan, stdout, len(known))
    except Exhausted:
        best = None
    plainest = _plain(plan, stdout, _without_surplus(plan, stdout, known) if best is None else best)
    return tuple(sorted(plainest, key=lambda exchange: exchange.taken))


def _prints(plan: Plan, stdout: bytes, schedule: Chain) -> bool:
    return b"".join(play(plan, schedule).values()) == stdout


def _fewest(plan: Plan, stdout: bytes, enough: int) -> Chain | None:
    """Tries none, then one, then two, …: as many as are known to be enough at most."""
    world = World(plan, plan.puts, True, plan.bytes_put)
    sessions = {(step.client, step.key) for step in plan.steps if isinstance(step, Get)}
    budget = Budget(STEPS)
    for most in range(enough + 1):
        search = Search(world, budget, sessions, keeps=True, most=most)
        for state in _walk(plan, search, stdout):
            schedule = (*(exchange for chain in state.past for exchange in chain), *state.exchanges)
            if _prints(plan, stdout, schedule):
                return schedule
    return None


def _walk(plan: Plan, search: Search, stdout: bytes) -> list[State]:
    """The states in which a script has printed this."""
    states: dict[tuple[State, int], None] = {(State(), 0): None}
    keys: set[bytes] = set()
    for step in plan.steps:
        after: dict[tuple[State, int], None] = {}
        for state, place in states:
            if isinstance(step, Put | Stabilize):
                after[search.passes(state, step), place] = None
                continue
            if isinstance(step, Get):
                found = [(then, [(step.key, version)]) for then, version in search.gets(state, step)]
            else:
                found = [
                    (then, list(zip(sorted(keys), versions, strict=True)))
                    for then, versions in search.prints(state, step, sorted(keys))
                ]
            for then, versions in found:
                chunk = _chunk(plan, step, versions)
                if stdout.startswith(chunk, place):
                    after[then, place + len(chunk)] = None
        if isinstance(step, Put):
            keys.add(step.key)
        states = after
    return [state for state, place in states if place == len(stdout)]


def _chunk(plan: Plan, step: Get | Print, versions: list[tuple[bytes, int]]) -> bytes:
    missing = {0: b"ERR_KEY", -1: b"ERR_DEP"} if isinstance(step, Get) else {}
    values = [(key, plan.puts[version - 1].value if version > 0 else missing.get(version)) for key, version in versions]
    return b"".join(key + b":" + value + b"\n" for key, value in values if value is not None)


def _without_surplus(plan: Plan, stdout: bytes, schedule: Chain) -> Chain:
    """Without exchanges that make no difference."""
    for exchange in schedule:
        shorter = tuple(other for other in schedule if other is not exchange)
        if _prints(plan, stdout, shorter):
            schedule = shorter
    return schedule


def _plain(plan: Plan, stdout: bytes, schedule: Chain) -> Chain:
    """With answers that arrive at once, where that makes no difference."""
    for place, exchange in enumerate(schedule):
        for prompt in _at_once(exchange):
            plainer = (*schedule[:place], prompt, *schedule[place + 1 :])
            if prompt != exchange and _prints(plan, stdout, plainer):
                schedule = plainer
                break
    return schedule


def _at_once(exchange: Exchange) -> tuple[Exchange, Exchange]:
    """Late, or early."""
    return exchange._replace(shown=exchange.taken), exchange._replace(taken=exchange.shown)
