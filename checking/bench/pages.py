"""The benchmark of reports: how long the page of a large run takes to write and to load, and how large it is.

May live here: measuring scripts/report.py and its page. May not: what the page shows (checking/page/).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from checking.bench.runs import Row, run_script
from checking.browser import NoBrowser, launched, opened
from checking.driver import ROOT

__all__ = ["report"]

OPERATIONS = 10_000
FAULTS = ("--partition-every", "60", "--kill-every", "60", "--move-every", "30", "--stabilize-every", "150")
TRIES = 3


def report() -> list[Row]:
    """Figures of the page of a run with faults of all kinds."""
    return list(_rows())


def _rows() -> Iterator[Row]:
    what = f"the page of {OPERATIONS:,} operations"
    with tempfile.TemporaryDirectory(prefix="daadkvs-bench-") as folder:
        trace, page = Path(folder, "trace"), Path(folder, "report.html")
        options = ("--operations", str(OPERATIONS), "--servers", "6", "--clients", "8", *FAULTS)
        command = [sys.executable, str(ROOT / "scripts" / "generate.py"), *options]
        script = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        run_script(script, "--trace", str(trace))
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, ROOT / "scripts" / "report.py", trace, "-o", page])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"report.py ended with status {process.returncode}")
        size, peak = page.stat().st_size / 1e6, usage.ru_maxrss / 1024
        yield Row(f"{what}: written", f"{seconds:.1f} s", "", seconds, "s", 10.0, False)
        yield Row(f"{what}: memory while it is written", f"{peak:.0f} MB", "", peak, "MB", 250.0, False)
        yield Row(f"{what}: size", f"{size:.1f} MB", "", size, "MB", 8.0, False)
        try:
            loaded = min(_load_seconds(page) for _ in range(TRIES))
        except NoBrowser:
            return
        yield Row(f"{what}: loaded", f"{loaded:.2f} s", "", loaded, "s", 1.0, False)


def _load_seconds(page: Path) -> float:
    with launched() as browser, opened(browser, page) as shown:
        milliseconds: float = shown.evaluate("performance.getEntriesByName('ready')[0].startTime")
        return milliseconds / 1000
