"""All outputs that a script can have: the one function that programs call.

May live here: putting the search together: which lines depend on timing, whole outputs, deaths, schedules. May not:
what is shown of it (telling.py).

    from checking.outcomes.analysis import outcomes
    found = outcomes(b"joinServer 0\\n…", limit=1000, deaths=0)
    found.is_always_the_same, found.stdouts, found.lines, found.allows(b"colour:red\\n")
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from checking.outcomes.exchanges import Chain, Exchange, World
from checking.outcomes.plan import Death, Get, Plan, Print, Put, Stabilize, Step, make_plan
from checking.outcomes.schedules import shortest
from checking.outcomes.search import Budget, Exhausted, Search, State, live_puts
from model import CHUNK_BYTES

__all__ = ["LIMIT", "LineAnswers", "Outcome", "Outcomes", "outcomes"]

LIMIT = 1000
"""How many outputs are listed at most."""

STEPS = 400_000
"""How many steps the search for whole outputs may take."""

STEPS_OF_A_LINE = 50_000
"""How many the search for the answers of one client about one key may take."""

STEPS_OF_ALL_LINES = 500_000
"""How many all of these may take together, after which each may take a few only."""

FEW_STEPS = 1_000

EXAMPLES = 20
"""How many outputs are gone on with where there are too many to list."""


class LineAnswers(NamedTuple):
    """What a get or printStore can print."""

    line: int
    command: bytes
    keys: tuple[tuple[bytes, tuple[bytes | None, ...]], ...]
    """Each key, and what it can stand with: values, ERR_KEY or ERR_DEP; None where a printStore doesn't show it."""
    is_complete: bool
    """Whether these are all; else the search was too long, and there may be others."""

    @property
    def depends(self) -> bool:
        """Whether it can print different bytes."""
        return any(len(answers) > 1 for _, answers in self.keys)

    @property
    def may_depend(self) -> bool:
        """Whether it can print different bytes, or could for all that is known."""
        return self.depends or not self.is_complete


class Outcome(NamedTuple):
    """An output, and what has to happen for it."""

    stdout: bytes
    plan: Plan
    deaths: tuple[Death, ...]
    exchanges: Chain
    """Some exchanges that bring it about; `schedule` has the fewest."""

    def schedule(self) -> Chain:
        """A shortest schedule of exchanges, which has been played in the real rooms, and has printed this output."""
        return shortest(self.plan, self.stdout, self.exchanges)


class Outcomes(NamedTuple):
    """All that a script can print."""

    outcomes: list[Outcome]
    """Each output once; those without a death first."""
    is_complete: bool
    """Whether these are all outputs."""
    at_least: int
    """How many outputs there are at least; exactly as many where `is_complete`."""
    lines: list[LineAnswers]
    """Of each line that prints, what it can print, if no server dies by itself."""
    errors: dict[int, str]
    """Line -> the error of its command, if no server dies by itself."""
    is_exact: bool
    """Whether each output can really come about; False where exchanges may come in parts, of large values."""
    script: bytes
    deaths: int
    gossip: bool

    @property
    def stdouts(self) -> set[bytes]:
        """The outputs."""
        return {outcome.stdout for outcome in self.outcomes}

    @property
    def is_always_the_same(self) -> bool:
        """Whether there is one output, whatever happens."""
        return self.is_complete and len(self.outcomes) == 1

    def allows(self, stdout: bytes) -> bool | None:
        """Whether the script can print this, also where there are too many outputs to list. None: not decided."""
        if self.is_complete:
            return stdout in self.stdouts
        undecided = False
        for deaths in _deaths(self.script, self.deaths):
            case = _Case(self.script, deaths, self.gossip)
            if case.whole(LIMIT, wanted=stdout).outputs:
                return True
            undecided = undecided or not case.is_decided
        return None if undecided else False


def outcomes(script: bytes, *, limit: int = LIMIT, deaths: int = 0, gossip: bool = True) -> Outcomes:
    """All outputs of a script, up to *limit* of them.

    *deaths*: how many servers may die by themselves, between any two commands. *gossip*: False as for
    --gossip-interval 0. Takes seconds where outputs are few. Lines that are errors print nothing, as in a run.
    """
    found: dict[bytes, Outcome] = {}
    is_complete, at_least = True, 0
    first: _Case | None = None
    for dead in _deaths(script, deaths):
        case = _Case(script, dead, gossip)
        first = first or case
        whole = case.whole(limit)
        is_complete = is_complete and whole.is_complete
        at_least = max(at_least, whole.at_least)
        for stdout, state in whole.outputs.items():
            found.setdefault(stdout, Outcome(stdout, case.plan, dead, (*_joined(state.past), *state.exchanges)))
        if len(found) > limit:
            is_complete = False
            break
    assert first is not None
    return Outcomes(
        list(found.values())[:limit],
        is_complete,
        max(at_least, len(found)),
        first.lines(),
        first.plan.errors,
        not first.comes_in_parts,
        script,
        deaths,
        gossip,
    )


def _joined(chains: Iterable[Chain]) -> Iterator[Exchange]:
    for chain in chains:
        yield from chain


def _deaths(script: bytes, most: int, before: tuple[Death, ...] = ()) -> Iterator[tuple[Death, ...]]:
    """No death, and each way in which up to *most* servers can die where that makes a difference."""
    yield before
    if most > len(before):
        plan = make_plan(script, before)
        for death in plan.critical:
            if not before or death.line > before[-1].line:
                yield from _deaths(script, most, (*before, death))


class _Whole(NamedTuple):
    """What the search for whole outputs has found."""

    outputs: dict[bytes, State]
    is_complete: bool
    at_least: int


Answers = dict[int, dict[bytes, set[int]]]
"""Line -> key -> the versions that stand there (0 for none), or BEHIND."""


class _Case:
    """A script, with certain servers dying at certain moments."""

    def __init__(self, script: bytes, deaths: tuple[Death, ...], gossip: bool) -> None:
        self.plan = make_plan(script, deaths)
        self._gossip = gossip
        self.comes_in_parts = gossip and self.plan.bytes_put > CHUNK_BYTES
        self._undecided: set[int] = set()  # lines
        self._steps = STEPS_OF_ALL_LINES
        self.is_decided = True
        self._answers = self._find_answers()

    def _world(self, live: list[Put]) -> World:
        return World(self.plan, live, self._gossip, CHUNK_BYTES)

    # -- the answers of each line --------------------------------------------------------------------------

    def _find_answers(self) -> Answers:
        answers: Answers = {}
        puts: dict[bytes, list[Put]] = {}
        for put in self.plan.puts:
            puts.setdefault(put.key, []).append(put)
        worlds = {key: self._world(live) for key, live in puts.items()}
        sessions: dict[tuple[int, bytes], list[Get]] = {}
        for step in self.plan.steps:
            if isinstance(step, Get):
                answers[step.line] = {step.key: set()}
                sessions.setdefault((step.client, step.key), []).append(step)
            elif isinstance(step, Print):
                earlier = sorted(key for key, live in puts.items() if live[0].time < step.time)
                answers[step.line] = {key: self._printed(worlds[key], step, key) for key in earlier}
        for (client, key), gets in sessions.items():
            if key in worlds:
                self._find_gets(worlds[key], client, key, gets, answers)
            else:
                for get in gets:
                    answers[get.line][key].add(0)
        return answers

    def _printed(self, world: World, step: Print, key: bytes) -> set[int]:
        search = Search(world, self._budget(), ())
        begun = search.budget.left
        found: set[int] = set()
        try:
            found.update(versions[0] for _, versions in search.prints(State(), step, [key]))
        except Exhausted:
            self._undecided.add(step.line)
        self._steps -= begun - search.budget.left
        return found

    def _budget(self) -> Budget:
        return Budget(STEPS_OF_A_LINE if self._steps > 0 else FEW_STEPS)

    def _find_gets(self, world: World, client: int, key: bytes, gets: list[Get], answers: Answers) -> None:
        """What each get of a client of a key may find."""
        search = Search(world, self._budget(), [(client, key)])
        begun = search.budget.left
        asking = {get.line for get in gets}
        states = {State(): None}
        try:
            for step in self.plan.steps:
                if isinstance(step, Get) and step.line in asking:
                    after: dict[State, None] = {}
                    for state in states:
                        for then, version in search.gets(state, step):
                            after[then] = None
                            answers[step.line][key].add(version)
                    states = after
                elif isinstance(step, Put | Stabilize):
                    states = {search.passes(state, step): None for state in states}
        except Exhausted:
            self._undecided |= asking
            self._guess(world, gets, answers)
        self._steps -= begun - search.budget.left

    def _guess(self, world: World, gets: list[Get], answers: Answers) -> None:
        """Some answers of gets that are too many to search: those of a session that has read nothing before."""
        for get in gets:
            search = Search(world, Budget(FEW_STEPS), ())
            own = max(
                (p.number for p in self.plan.puts if p.line < get.line and p[3:5] == (get.client, get.key)), default=0
            )
            state = State().sees(get.client, get.key, own)
            try:
                answers[get.line][get.key].update(version for _, version in search.gets(state, get))
            except Exhausted:
                pass

    def lines(self) -> list[LineAnswers]:
        """What each line that prints may print."""
        found = []
        for step in self.plan.steps:
            if isinstance(step, Get | Print):
                keys = []
                for key, versions in self._answers[step.line].items():
                    shown = dict.fromkeys(self._shown(step, version) for version in sorted(versions, reverse=True))
                    keys.append((key, tuple(shown)))
                found.append(
                    LineAnswers(step.line, self.plan.texts[step.line], tuple(keys), step.line not in self._undecided)
                )
        return found

    def _shown(self, step: Step, version: int) -> bytes | None:
        if version > 0:
            return self.plan.puts[version - 1].value
        if isinstance(step, Print):
            return None
        return b"ERR_KEY" if version == 0 else b"ERR_DEP"

    # -- whole outputs -------------------------------------------------------------------------------------

    def _open_keys(self, step: Step) -> list[bytes]:
        """The keys of which a step may find several versions."""
        if not isinstance(step, Get | Print):
            return []
        answers = self._answers[step.line]
        return [key for key, versions in answers.items() if len(versions) > 1 or step.line in self._undecided]

    def whole(self, limit: int, wanted: bytes | None = None) -> _Whole:
        """The outputs, or just the one that is *wanted*, if it is possible."""
        world = self._world(live_puts(self.plan, self._open_keys))
        sessions = {(s.client, s.key) for s in self.plan.steps if isinstance(s, Get) and self._open_keys(s)}
        walk = _Walk(self, Search(world, Budget(STEPS), sessions, keeps=True), limit, wanted)
        whole = walk.run()
        self.is_decided = self.is_decided and not walk.gave_up
        return whole

    def open_keys(self, step: Step) -> list[bytes]:
        """As `_open_keys`."""
        return self._open_keys(step)

    def chunk(self, step: Get | Print, versions: dict[bytes, int]) -> bytes:
        """What a step prints, where these are the versions of its open keys."""
        answers = self._answers[step.line]
        printed = []
        for key in answers:
            (version,) = (versions[key],) if key in versions else answers[key]
            value = self._shown(step, version)
            if value is not None:
                printed.append(key + b":" + value + b"\n")
        return b"".join(printed)

    def only_version(self, step: Get) -> int:
        """The version that a get finds in any case."""
        (version,) = self._answers[step.line][step.key]
        return version


class _Walk:
    """Goes through a script, and keeps the states for each output until there."""

    def __init__(self, case: _Case, search: Search, limit: int, wanted: bytes | None) -> None:
        self._case = case
        self._search = search
        self._limit = limit
        self._wanted = wanted
        self._states: dict[bytes, dict[State, None]] = {b"": {State(): None}}
        self._narrow = False
        self._at_least = 0
        self.gave_up = False

    def run(self) -> _Whole:
        """Go through all steps."""
        for step in self._case.plan.steps:
            if isinstance(step, Put | Stabilize):
                passes = self._search.passes
                self._states = {
                    printed: {passes(state, step): None for state in states} for printed, states in self._states.items()
                }
                continue
            try:
                self._states = self._after(step)
            except Exhausted:
                self.gave_up = True
                self._narrow_down()
                self._states = self._after(step)
            if len(self._states) > self._limit and not self._narrow:
                apart = _apart(self._states)
                if apart > self._limit:
                    self._narrow_down()
        outputs = {
            printed: min(states, key=lambda state: state.size)
            for printed, states in self._states.items()
            if self._wanted in (None, printed)
        }
        return _Whole(outputs, not self._narrow, max(self._at_least, len(outputs)))

    def _narrow_down(self) -> None:
        """There are too many: go on with a few outputs, as examples, without any more exchanges."""
        self._narrow = True
        self._at_least = _apart(self._states)
        some = list(self._states.items())[:: max(1, len(self._states) // EXAMPLES)]
        self._states = {printed: {min(states, key=lambda s: s.size): None} for printed, states in some}
        self._search.budget = Budget(STEPS)

    def _after(self, step: Get | Print) -> dict[bytes, dict[State, None]]:
        after: dict[bytes, dict[State, None]] = {}
        answers = self._gets(step) if isinstance(step, Get) else self._prints(step)
        for printed, states in self._states.items():
            for state in states:
                for then, chunk in answers(state):
                    total = printed + chunk
                    if self._wanted is None or self._wanted.startswith(total):
                        after.setdefault(total, {})[then] = None
                        if self._narrow:
                            break
        return after

    def _gets(self, step: Get) -> Callable[[State], Iterator[tuple[State, bytes]]]:
        case, search = self._case, self._search
        is_open = bool(case.open_keys(step))

        def answer(state: State) -> Iterator[tuple[State, bytes]]:
            if is_open:
                for then, version in search.gets(state, step):
                    yield then, case.chunk(step, {step.key: version})
            else:
                yield search.reads(state, step, case.only_version(step)), case.chunk(step, {})

        return answer

    def _prints(self, step: Print) -> Callable[[State], Iterator[tuple[State, bytes]]]:
        keys = self._case.open_keys(step)

        def answer(state: State) -> Iterator[tuple[State, bytes]]:
            for then, versions in self._search.prints(state, step, keys):
                yield then, self._case.chunk(step, dict(zip(keys, versions, strict=True)))

        return answer


def _apart(printed: Collection[bytes]) -> int:
    """How many of these beginnings certainly go on to different outputs: those that don't begin another."""
    ordered = sorted(printed)
    return len(ordered) - sum(after.startswith(before) for before, after in pairwise(ordered))
