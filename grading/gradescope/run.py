"""What runs on Gradescope, for each submission: grades it by the prepared cases, and writes results.json.

May live here: Gradescope's folders, and writing results as they come. May not: anything that needs more than Python
itself, since nothing else is there.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

from grading.cases import Case
from grading.formats.gradescope import gradescope
from grading.grader import Grader
from grading.results import CaseResult, SubmissionResult
from grading.sandbox import Limits
from grading.submissions import NoSubmission, by_folder
from grading.workers import Workers

__all__ = ["PREPARED", "STUDENT", "main"]

PREPARED = "prepared.json"
"""The cases and limits, beside the program."""

STUDENT = "student"
"""The user whose rights submissions have, where there is one: they can then read neither cases nor results."""


def main(source: Path, root: Path) -> int:
    """Grade the submission below a *root*, which is laid out as Gradescope does it; returns the exit status.

    results.json is written anew after each test, so that a run that is cut short has counted so far.
    """
    prepared = json.loads((source / PREPARED).read_text("utf-8"))
    cases = [Case.from_plain(plain) for plain in prepared["cases"]]
    results: dict[int, CaseResult] = {}

    def write(problem: str = "") -> None:
        done = SubmissionResult("submission", tuple(results[number] for number in sorted(results)), problem)
        waiting = 0 if problem else len(cases) - len(results)
        path = root / "results" / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(gradescope(done, waiting), indent=1), "utf-8")
        temporary.replace(path)

    try:
        submission = by_folder(root / "submission", prepared["command"])
    except NoSubmission as error:
        write(str(error))
        return 0
    write()
    with Workers(1, user=_student()) as workers:
        for _, result in Grader(cases, workers, Limits(**prepared["limits"])).grade([submission]):
            results[result.number] = result
            write()
    print(f"{len(results)} tests of {len(cases)}", file=sys.stderr)
    return 0


def _student() -> str | None:
    try:
        return pwd.getpwnam(STUDENT).pw_name if os.geteuid() == 0 else None
    except KeyError:
        return None
