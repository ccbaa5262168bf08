"""Results as JUnit XML, which most systems of continuous integration read.

May live here: what of a result becomes which element. May not: the format itself, which junitparser knows.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from junitparser import Failure, JUnitXml, Properties, Property, TestCase, TestSuite

from grading.results import CaseResult, SubmissionResult, printable

__all__ = ["junit"]


def junit(results: Sequence[SubmissionResult]) -> str:
    """A test suite for each submission."""
    document = JUnitXml("grading")
    for result in results:
        suite = TestSuite(printable(result.name))
        if result.problem:
            suite.add_testcase(_failed(TestCase("submission", printable(result.name)), result.problem, ""))
        for one in result.cases:
            suite.add_testcase(_case(result.name, one))
        document.add_testsuite(suite)
    written = io.BytesIO()
    document.write(written)
    return written.getvalue().decode("utf-8")


def _case(submission: str, result: CaseResult) -> TestCase:
    case = TestCase(printable(result.case.name), printable(submission), result.seconds)
    properties = Properties()  # type: ignore[no-untyped-call]
    properties.add_property(Property("score", f"{result.score:g}/{result.case.settings.points:g}"))
    case.append(properties)  # type: ignore[no-untyped-call]
    if result.passed:
        return case
    return _failed(case, result.summary(), "\n".join(result.story()))


def _failed(case: TestCase, summary: str, story: str) -> TestCase:
    failure = Failure(printable(summary))
    failure.text = story
    case.result = [failure]
    return case
