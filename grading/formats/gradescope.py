"""The results of one submission as Gradescope's results.json.

May live here: the names that Gradescope gives things (gradescope-autograders.readthedocs.io, "Autograder
Specifications"). May not: where the file stands (grading/gradescope/).
"""

from __future__ import annotations

from typing import Any

from grading.results import CaseResult, SubmissionResult, printable

__all__ = ["gradescope"]


def gradescope(result: SubmissionResult, waiting: int = 0) -> dict[str, Any]:
    """What results.json says; the score is the sum of the tests'. *waiting*: how many tests have not been run yet."""
    output = result.problem
    if waiting:
        output = f"{waiting} test{'s have' if waiting > 1 else ' has'} not been run yet."
    return {
        "execution_time": result.seconds,
        "output": output,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [_test(one) for one in result.cases],
        **({} if result.cases else {"score": 0}),
    }


def _test(result: CaseResult) -> dict[str, Any]:
    settings = result.case.settings
    return {
        "name": printable(result.case.name),
        "number": str(result.number),
        "score": result.score,
        "max_score": settings.points,
        "status": "passed" if result.passed else "failed",
        "output": "\n".join([result.summary(), *(() if result.passed else result.story())]),
        "output_format": "text",
        "tags": list(settings.tags),
        "visibility": settings.visibility,
    }
