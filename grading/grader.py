"""Grading submissions by cases.

May live here: who runs what, and putting runs together. May not: how a program is run (grading/workers.py), marks
(grading/marking.py), and formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from grading.cases import Case
from grading.marking import Mark, mark
from grading.results import CaseResult, SubmissionResult
from grading.sandbox import Limits, Ran
from grading.submissions import Submission
from grading.workers import Job, Workers

__all__ = ["Grader"]


@dataclass(frozen=True)
class _Token:
    """Identifies a run by the positions of its submission and its case."""

    submission: int
    case: int


class Grader:
    """Grades any number of submissions by the same cases."""

    def __init__(
        self,
        cases: Sequence[Case],
        workers: Workers,
        limits: Limits,
        explain: Callable[[Case], Case] | None = None,
    ) -> None:
        """*limits*: those of each run, but for the case's time limit. *explain*: adds reasons, once they are needed."""
        self._cases = list(cases)
        self._workers = workers
        self._limits = limits
        self._explain = explain
        self._explained: set[int] = set()

    def grade(self, submissions: Sequence[Submission]) -> Iterator[tuple[int, CaseResult]]:
        """Run everything; yields the tests of submissions, by position, as they are done."""
        runs: dict[_Token, list[tuple[Mark, float]]] = {}
        for job, ran in self._workers.run(self._jobs(submissions)):
            token: _Token = job.token
            done = runs.setdefault(token, [])
            done.append((self._mark(token.case, ran), ran.seconds))
            if len(done) == self._cases[token.case].settings.runs:
                marks, seconds = zip(*runs.pop(token), strict=True)
                case = self._cases[token.case]
                yield token.submission, CaseResult(case, token.case + 1, marks, round(sum(seconds), 3))

    def _jobs(self, submissions: Sequence[Submission]) -> Iterator[Job]:
        for place, submission in enumerate(submissions):
            for number, case in enumerate(self._cases):
                limits = self._limits._replace(seconds=case.settings.timeout)
                pause = case.settings.per_line or None
                token = _Token(place, number)
                job = Job(
                    token,
                    submission.command,
                    submission.folder,
                    case.script,
                    limits,
                    pause,
                    case.awaited,
                    submission.warm,
                )
                yield from [job] * case.settings.runs

    def _mark(self, number: int, ran: Ran) -> Mark:
        found = mark(self._cases[number], ran)
        if found.differences and self._explain is not None and number not in self._explained:
            self._explained.add(number)
            self._cases[number] = self._explain(self._cases[number])
            found = mark(self._cases[number], ran)
        return found


def collect(
    submissions: Sequence[Submission], results: Iterator[tuple[int, CaseResult]], cases: int
) -> Iterator[SubmissionResult]:
    """Each submission's result as soon as it and all before it are complete, in their order."""
    found: dict[int, list[CaseResult]] = {}
    following = 0
    for place, result in results:
        found.setdefault(place, []).append(result)
        while len(found.get(following, ())) == cases:
            done = sorted(found.pop(following), key=lambda one: one.number)
            yield SubmissionResult(submissions[following].name, tuple(done))
            following += 1
