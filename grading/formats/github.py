"""Results as a summary in Markdown, as GitHub shows it beside a workflow's run, for GitHub Classroom.

May live here: how a result looks in Markdown. May not: what it says.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from grading.results import CaseResult, SubmissionResult, points_of, printable

__all__ = ["github"]


def github(results: Sequence[SubmissionResult]) -> Iterator[str]:
    """The lines of the summary. Hidden tests are counted, but not shown."""
    for result in results:
        yield f"## {_cell(result.name)}: {result.score:g} of {points_of([one.case for one in result.cases]):g} points"
        yield ""
        if result.problem:
            yield _cell(result.problem)
            yield ""
            continue
        yield "| | test | points | |"
        yield "|---|---|---|---|"
        shown = [one for one in result.cases if one.case.settings.visibility == "visible"]
        for one in shown:
            points = f"{round(one.score, 2):g}/{one.case.settings.points:g}"
            yield f"| {'✅' if one.passed else '❌'} | {_cell(one.case.name)} | {points} | {_cell(one.summary())} |"
        yield ""
        for one in shown:
            if not one.passed:
                yield from _details(one)
        hidden = len(result.cases) - len(shown)
        if hidden:
            yield f"{hidden} hidden test{'s' if hidden > 1 else ''} counted as well."
            yield ""


def _details(result: CaseResult) -> Iterator[str]:
    yield f"<details><summary>{html.escape(printable(result.case.name))}</summary>"
    yield ""
    yield "<pre>"
    yield from (html.escape(line) for line in result.story())
    yield "</pre>"
    yield "</details>"
    yield ""


def _cell(text: str) -> str:
    """Text that Markdown doesn't take for anything else."""
    escaped = html.escape(printable(text), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_|[]#" else c for c in escaped)
