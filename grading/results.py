"""What has come of grading: values that all formats are made from.

May live here: scores, and what is said about a test in words. May not: a format (grading/formats/).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grading.cases import Case
from grading.marking import NOTHING, Difference, Mark

__all__ = ["CaseResult", "SubmissionResult", "printable"]

_MOST_DIFFERENCES = 5
"""How many are told at length."""


@dataclass(frozen=True)
class CaseResult:
    """One test of one submission."""

    case: Case
    number: int
    """From 1, in the order of the tests."""
    marks: tuple[Mark, ...]
    """What each run was worth."""
    seconds: float
    """The time of all runs together, in seconds."""

    @property
    def right(self) -> int:
        """In how many runs everything was right."""
        return sum(mark.right for mark in self.marks)

    @property
    def share(self) -> float:
        """From 0 to 1: the mean of all runs."""
        if self.case.settings.credit == "script":
            return self.right / len(self.marks)
        return sum(mark.share for mark in self.marks) / len(self.marks)

    @property
    def score(self) -> float:
        """Points."""
        return round(self.share * self.case.settings.points, 4)

    @property
    def passed(self) -> bool:
        """Whether every run was right."""
        return self.right == len(self.marks)

    @property
    def shown(self) -> Mark:
        """The run that is told about: the worst."""
        return min(self.marks, key=lambda mark: (mark.right, mark.share))

    def summary(self) -> str:
        """In a few words: how many answers, or runs, were right."""
        if len(self.marks) > 1:
            return f"right in {self.right} of {len(self.marks)} runs"
        mark = self.marks[0]
        if self.passed:
            return "right"
        answers = f"{mark.gained} of {mark.total} lines right"
        return answers if mark.differences or not mark.notes else f"{answers}, but not all as it should be"

    def story(self) -> Iterator[str]:
        """What is to be said about what was wrong, line by line."""
        mark = self.shown
        for note in mark.notes:
            yield printable(note)
        wrong = [one for one in mark.differences if one.came != NOTHING]
        silent = [one for one in mark.differences if one.came == NOTHING]
        for difference in sorted(wrong[:_MOST_DIFFERENCES] + silent[:1]):
            yield from _told(difference)
        for more, what in ((len(wrong) - _MOST_DIFFERENCES, "answered wrongly"), (len(silent) - 1, "not answered")):
            if more > 0:
                yield f"{more} more line{'s were' if more > 1 else ' was'} {what}"


def _told(difference: Difference) -> Iterator[str]:
    yield printable(f"line {difference.line}: {difference.text}")
    for place, text in enumerate(difference.expected):
        yield from _labelled("or" if place else "expected", text)
    yield from _labelled("came", difference.came)
    yield from _labelled("why", "\n".join(difference.why))


def _labelled(label: str, text: str) -> Iterator[str]:
    for place, line in enumerate(text.splitlines()):
        yield f"    {'' if place else label:10}{printable(line)}"


def printable(text: str) -> str:
    """A line as every terminal and every parser takes it: what can't be printed is escaped, what is long is cut."""
    text = text[:500] + "…" if len(text) > 500 else text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@dataclass(frozen=True)
class SubmissionResult:
    """All tests of one submission."""

    name: str
    cases: tuple[CaseResult, ...]
    problem: str = ""
    """Why it could not be graded at all; empty if it could."""

    @property
    def score(self) -> float:
        """Points."""
        return round(sum(case.score for case in self.cases), 4)

    @property
    def seconds(self) -> float:
        """The time of all runs together, in seconds."""
        return round(sum(case.seconds for case in self.cases), 3)


def points_of(cases: Sequence[Case]) -> float:
    """How many points there are."""
    return round(sum(case.settings.points for case in cases), 4)
