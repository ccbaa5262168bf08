"""Making reports, and what they are made of, without a browser.

May live here: calling scripts/report.py, and reading the data of a page. May not: a browser (support/browser.py), nor
any test.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import zlib
from pathlib import Path

from checking.driver import ROOT

__all__ = ["data_of", "report"]


def report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/report.py."""
    command = [sys.executable, str(ROOT / "scripts" / "report.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def data_of(page: Path) -> str:
    """The data of all runs on a page that scripts/report.py has made, as JSON; checking/packing.py has the format."""
    found = re.findall(r'<script type="text/plain" class="run">(.*?)</script>', page.read_text("utf-8"))
    assert found
    return "\n".join(zlib.decompress(base64.b64decode(run)).decode("utf-8") for run in found)
