#!/usr/bin/env python3
"""Makes one site of README, docs and lessons, with search and navigation, which opens offline from the file system.

    scripts/book.py                book/index.html; needs MkDocs: scripts/requirements-book.txt (`make book`)
    scripts/book.py -o DIR         elsewhere

The exit status is 1 if anything is wrong in the pages, such as a link or an anchor that leads nowhere.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from scripts.shared import need, run_main

ROOT = Path(__file__).resolve().parent.parent

USING = ["semantics", "outcomes", "json", "python", "grading", "trace", "history"]
WORKING = ["architecture", "protocol", "performance", "reliability"]
"""The pages of docs/ in two chapters. Those that aren't named here come at the end of the first one."""

BOOK = ROOT / "docs" / "book"
LOOKS, STYLE, WORKER = BOOK / "mkdocs.yml", BOOK / "book.css", BOOK / "worker.js"
SHIM = "https://unpkg.com/iframe-worker/shim"
"""What Material's plugin for offline pages would fetch in place of `WORKER`."""

LINK = re.compile(r"\]\(([^)#:\s]+)")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Makes one site of README, docs and lessons.")
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "book", metavar="DIR", help="where to (default: book/)"
    )
    arguments = parser.parse_args()
    need("mkdocs", "requirements-book.txt")
    with tempfile.TemporaryDirectory(prefix="daadkvs-book-") as name:
        folder = Path(name)
        pages = folder / "pages"
        gather(pages)
        config = folder / "mkdocs.yml"
        added = {"docs_dir": str(pages), "site_dir": str(arguments.output.absolute()), "nav": navigation()}
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in added.items()]
        config.write_text(LOOKS.read_text("utf-8") + "".join(lines), "utf-8")
        build = [sys.executable, "-I", "-m", "mkdocs", "build", "--strict", "--clean", "-f", str(config)]
        # (--quiet would count no warnings.) What Material says about its own future is no news of the book's.
        variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        done = subprocess.run(build, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
        print("\n".join(said), file=sys.stderr)
        return 1
    make_whole(arguments.output)
    print(f"{arguments.output / 'index.html'} is the book")
    return 0


def gather(pages: Path) -> None:
    """Copy all pages into a folder, and the files beside them that they link to, each under its own name."""
    pages.mkdir()
    shutil.copyfile(STYLE, pages / STYLE.name)
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
    for page in found:
        text = page.read_text("utf-8")
        target = pages / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        for link in LINK.findall(text):
            linked = (page.parent / link).resolve()
            if linked.is_file() and linked.suffix != ".md" and linked.is_relative_to(ROOT):
                copy = pages / linked.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(linked, copy)


def make_whole(site: Path) -> None:
    """Have each page load a script of ours where it would fetch one from elsewhere."""
    shutil.copyfile(WORKER, site / WORKER.name)
    for page in site.glob("**/*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        page.write_text(page.read_text("utf-8").replace(SHIM, f"{up}{WORKER.name}"), "utf-8")


def navigation() -> list[Any]:
    """The pages in their order, as MkDocs wants them."""
    others = sorted({path.stem for path in ROOT.glob("docs/*.md")} - {*USING, *WORKING})
    return [
        {"Daadkvs": "README.md"},
        {"Lessons": [f"docs/lessons/{path.name}" for path in sorted(ROOT.glob("docs/lessons/*.md"))]},
        {"Using it": [f"docs/{name}.md" for name in USING + others]},
        {"How it works": [f"docs/{name}.md" for name in WORKING]},
        {"Changing it": ["CONTRIBUTING.md", "CHANGELOG.md"]},
    ]


if __name__ == "__main__":
    run_main(main)
