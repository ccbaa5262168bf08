"""Results as JSON, for programs. docs/grading.md lists the fields.

May live here: the names of the fields. May not: what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grading.results import CaseResult, SubmissionResult, points_of

__all__ = ["plain"]


def plain(results: Sequence[SubmissionResult], problems: Sequence[str]) -> dict[str, Any]:
    """All results as values for JSON."""
    return {"submissions": [_submission(one) for one in results], "problems": list(problems)}


def _submission(result: SubmissionResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "score": result.score,
        "max_score": points_of([one.case for one in result.cases]),
        "seconds": result.seconds,
        "problem": result.problem or None,
        "tests": [_test(one) for one in result.cases],
    }


def _test(result: CaseResult) -> dict[str, Any]:
    shown, settings = result.shown, result.case.settings
    return {
        "name": result.case.name,
        "number": result.number,
        "score": result.score,
        "max_score": settings.points,
        "passed": result.passed,
        "runs": len(result.marks),
        "right_runs": result.right,
        "right_lines": shown.gained,
        "lines": shown.total,
        "seconds": result.seconds,
        "tags": list(settings.tags),
        "visibility": settings.visibility,
        "notes": list(shown.notes),
        "differences": [
            {
                "line": one.line,
                "command": one.text,
                "expected": list(one.expected),
                "came": one.came,
                "why": list(one.why),
            }
            for one in shown.differences
        ],
    }
