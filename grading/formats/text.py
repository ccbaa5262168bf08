"""Results as text for people.

May live here: how a result looks in a terminal or a mail. May not: what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from grading.results import CaseResult, SubmissionResult, points_of, printable

__all__ = ["text"]


def text(result: SubmissionResult) -> Iterator[str]:
    """The lines about one submission."""
    if result.problem:
        yield f"{printable(result.name)}: {printable(result.problem)}"
        return
    most = points_of([one.case for one in result.cases])
    yield f"{printable(result.name)}: {result.score:g} of {most:g} points"
    width = max(len(printable(one.case.name)) for one in result.cases)
    for one in result.cases:
        yield f"  {_word(one):4}  {printable(one.case.name):{width}}  {_points(one)}  {one.summary()}"
        if not one.passed:
            yield from (f"          {line}".rstrip() for line in one.story())
        else:
            yield from (f"          {printable(note)}" for note in one.shown.notes)


def _word(result: CaseResult) -> str:
    return "ok" if result.passed else "part" if result.share > 0 else "no"


def _points(result: CaseResult) -> str:
    return f"{round(result.score, 2):g}/{result.case.settings.points:g}"
