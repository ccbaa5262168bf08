"""The results of a class as CSV, for spreadsheets.

May live here: rows and columns. May not: what they say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from grading.cases import Case
from grading.results import SubmissionResult, points_of, printable

__all__ = ["table"]


def table(results: Sequence[SubmissionResult], cases: Sequence[Case]) -> str:
    """A row for each submission, and before them one with the points that there are."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["submission", "score", *(_cell(case.name) for case in cases), "problem"])
    rows.writerow(["(points)", points_of(cases), *(case.settings.points for case in cases), ""])
    for result in results:
        scores = [one.score for one in result.cases] or [0] * len(cases)
        rows.writerow([_cell(result.name), result.score, *scores, _cell(result.problem)])
    return written.getvalue()


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = printable(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
