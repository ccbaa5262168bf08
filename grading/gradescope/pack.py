"""The zip file that a teacher uploads to Gradescope as the autograder of an assignment.

May live here: what is in it, and that its tests fit into the time that there is. May not: what runs there
(grading/gradescope/run.py).

Everything is worked out beforehand, on the teacher's machine: what each script may print, and why. So Gradescope needs
Python and nothing else, and no time is lost there.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grading.cases import Case
from grading.gradescope.run import PREPARED
from grading.sandbox import Limits

__all__ = ["MOST_SECONDS", "fitting", "pack"]

MOST_SECONDS = 540.0
"""How long all tests may take together: Gradescope ends a run after 10 minutes, and gives no points for it."""

_FOLDER = Path(__file__).resolve().parent.parent
_MODULES = (
    "__init__.py",
    "cases.py",
    "formats/__init__.py",
    "formats/gradescope.py",
    "grader.py",
    "gradescope/__init__.py",
    "gradescope/run.py",
    "marking.py",
    "matching.py",
    "namespaces.py",
    "processes.py",
    "results.py",
    "sandbox.py",
    "settings.py",
    "submissions.py",
    "worker.py",
    "workers.py",
)
"""What runs on Gradescope; it needs Python's own library alone."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of all files, so that the same tests give the same bytes."""


def fitting(cases: Sequence[Case]) -> tuple[list[Case], float]:
    """The cases with time limits that fit, and the factor by which they were made smaller, 1 if they did anyway."""
    together = sum(case.settings.timeout * case.settings.runs for case in cases)
    factor = min(1.0, MOST_SECONDS / together) if together else 1.0
    if factor == 1.0:
        return list(cases), factor
    shorter = [
        replace(case, settings=replace(case.settings, timeout=round(case.settings.timeout * factor, 3)))
        for case in cases
    ]
    return shorter, factor


def pack(path: Path, cases: Sequence[Case], command: str | None, limits: Limits) -> None:
    """Write the zip file. Raises OSError."""
    prepared: dict[str, Any] = {
        "cases": [case.plain() for case in cases],
        "command": command,
        "limits": limits._asdict(),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("setup.sh", "run_autograder"):
            _add(archive, name, (_FOLDER / "gradescope" / name).read_bytes(), 0o755)
        for name in _MODULES:
            _add(archive, f"grading/{name}", (_FOLDER / name).read_bytes(), 0o644)
        _add(archive, PREPARED, json.dumps(prepared, indent=1).encode(), 0o600)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = (0o100000 | mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)
