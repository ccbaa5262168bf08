"""How much what a program has printed is worth.

May live here: comparing answers with what is allowed, credit, and differences. May not: running programs, and how marks
look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grading.cases import Answer, Case, to_text
from grading.matching import Matched, match, read_lines, same
from grading.sandbox import Ran

__all__ = ["NOTHING", "Difference", "Mark", "mark"]

_MOST_COMPARED = 20
"""With how many whole outputs at most one that is none of them is compared."""

_MOST_SHOWN = 3

NOTHING = "(nothing)"
"""How an answer without lines is shown."""


class Difference(NamedTuple):
    """A question that was not answered as it should have been."""

    line: int
    text: str
    expected: tuple[str, ...]
    """What would have been right; several are alternatives, and one may have several lines."""
    came: str
    why: tuple[str, ...] = ()
    """Why it had to be so, in sentences."""


class Mark(NamedTuple):
    """What one run of a program is worth."""

    right: bool
    """Whether it printed what it should, all of it, and nothing else."""
    gained: int
    """How many lines of answers are right, less those that nobody had asked for."""
    total: int
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    """What else is to be said about this run, a sentence each."""

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.gained / self.total if self.total else float(self.right)


def mark(case: Case, ran: Ran) -> Mark:
    """Judge what came of a run."""
    best: tuple[int, list[Difference], Matched, int] | None = None
    for whole in _candidates(case, ran):
        matched = _matched(case, ran, whole)
        gained, differences = _compare(case, matched, whole)
        total = sum(_size(answers) for answers in whole)
        if best is None or gained / max(1, total) > best[0] / max(1, best[3]):
            best = gained, differences, matched, total
        if not differences:
            break
    assert best is not None
    gained, differences, matched, total = best
    right = not differences and not matched.extra and not matched.chatter and ran.ending == "ended"
    notes = [*_notes(ran), *_notes_of_lines(matched), *(() if right else _notes_of_errors(ran))]
    return Mark(right, max(0, gained - len(matched.extra)), total, tuple(differences), tuple(notes))


def _candidates(case: Case, ran: Ran) -> Sequence[tuple[frozenset[Answer], ...]]:
    """What to compare with: for each question, the answers that are right together with the others."""
    allowed = case.allowed
    wholes = [tuple(frozenset((answer,)) for answer in whole) for whole in allowed.wholes]
    if len(wholes) > _MOST_COMPARED:
        came = sorted(read_lines(ran.stdout, case.settings.pattern))
        exact = [whole for whole, one in zip(wholes, allowed.wholes, strict=True) if sorted(sum(one, ())) == came]
        wholes = [*exact, *wholes][:_MOST_COMPARED]
    return wholes if allowed.complete else [*wholes, allowed.answers]


def _matched(case: Case, ran: Ran, whole: Sequence[frozenset[Answer]]) -> Matched:
    lines = read_lines(ran.stdout, case.settings.pattern)
    right = [frozenset(line for answer in answers for line in answer) for answers in whole]
    return match(case.questions, case.keys, lines, right)


def _size(answers: frozenset[Answer]) -> int:
    """What a question counts: one for each line, and one where nothing is to be printed."""
    return max(1, min(map(len, answers), default=1))


def _compare(case: Case, matched: Matched, whole: Sequence[frozenset[Answer]]) -> tuple[int, list[Difference]]:
    """How many lines are right, and what isn't."""
    gained, differences = 0, []
    free = case.settings.order == "free"
    for question, came, right in zip(case.questions, matched.answers, whole, strict=True):
        if question.key is None and came is None:
            came = ()
        if any(same(came, answer, free) for answer in right):
            gained += _size(right)
            continue
        if came:
            surplus = (_common(came, answer, free) - max(0, len(came) - len(answer)) for answer in right)
            gained += max(0, max(surplus, default=0))
        expected = tuple(_shown(answer) for answer in sorted(right)[:_MOST_SHOWN])
        why = tuple(case.reasons.get(question.line, ()))
        differences.append(Difference(question.line, to_text(question.text), expected, _shown(came), why))
    return gained, differences


def _common(came: Answer, right: Answer, free: bool) -> int:
    """How many lines both have, in the same order unless that is free."""
    if free:
        return len(set(came) & set(right))
    lengths = [0] * (len(right) + 1)
    for line in came:
        before = list(lengths)
        for place, other in enumerate(right):
            lengths[place + 1] = before[place] + 1 if line == other else max(lengths[place], before[place + 1])
    return lengths[-1]


def _shown(answer: Answer | None) -> str:
    if not answer:
        return NOTHING
    return "\n".join(map(to_text, answer))


def _notes(ran: Ran) -> list[str]:
    """About how the program has ended."""
    notes = []
    if ran.ending == "time":
        notes.append(f"It had not ended after {ran.seconds:.0f} s, and was killed.")
    elif ran.ending == "output":
        notes.append("It printed more than it may, and was killed.")
    elif ran.ending == "processes":
        notes.append("It forked more processes than it may, and was killed.")
    elif ran.ending == "failed":
        reasons = {2: "there is no such file", 13: "it is not executable", 8: "it is no program, or lacks its #! line"}
        notes.append(f"It could not be started: {reasons.get(ran.status, f'error {ran.status}')}.")
    elif ran.ending == "lost":
        notes.append("It ended the process that watched over it.")
    elif ran.status < 0:
        notes.append(f"It was ended by signal {-ran.status}.")
    if ran.left:
        notes.append(f"It left {ran.left} process{'es' if ran.left > 1 else ''} running, which were killed.")
    if b"\0" in ran.stdout or not _is_text(ran.stdout):
        notes.append("It printed bytes that are no text.")
    return notes


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _notes_of_lines(matched: Matched) -> list[str]:
    notes = []
    for lines, one, many in (
        (matched.extra, "that nobody had asked for", "that nobody had asked for"),
        (matched.chatter, "that answers nothing", "that answer nothing"),
    ):
        if lines:
            first = to_text(lines[0])
            first = repr(first if len(first) <= 60 else f"{first[:60]}…")
            printed = f"{len(lines)} lines {many}, such as {first}" if len(lines) > 1 else f"a line {one}: {first}"
            notes.append(f"It printed {printed}.")
    return notes


def _notes_of_errors(ran: Ran) -> list[str]:
    """The last thing that it said on stderr, where Python and others say why they have failed."""
    lines = [line for line in ran.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return [f"Its last words on stderr: {lines[-1].strip()[:200]}"] if lines else []
