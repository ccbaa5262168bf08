"""Results in the Test Anything Protocol, version 14 (testanything.org).

May live here: what of a result becomes which line. May not: what it says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from grading.results import CaseResult, SubmissionResult, printable

__all__ = ["tap"]


def tap(results: Sequence[SubmissionResult]) -> Iterator[str]:
    """The lines; each test of each submission is a test point."""
    yield "TAP version 14"
    yield f"1..{sum(max(1, len(result.cases)) for result in results)}"
    number = 0
    for result in results:
        if not result.cases:
            number += 1
            yield f"not ok {number} - {_escaped(result.name)}: {_escaped(result.problem)}"
        for one in result.cases:
            number += 1
            yield f"{'ok' if one.passed else 'not ok'} {number} - {_escaped(result.name)}: {_escaped(one.case.name)}"
            yield from _diagnosis(one)


def _diagnosis(result: CaseResult) -> Iterator[str]:
    """A block of YAML; strings of JSON are strings of YAML."""
    yield "  ---"
    yield f"  score: {result.score:g}"
    yield f"  max_score: {result.case.settings.points:g}"
    yield f"  message: {json.dumps(result.summary())}"
    if not result.passed:
        yield "  details:"
        yield from (f"    - {json.dumps(line)}" for line in result.story())
    yield "  ..."


def _escaped(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("#", "\\#")
