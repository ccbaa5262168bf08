#!/usr/bin/env python3
"""Turns the trace of a run into a page to look at, a picture, or a log for ShiViz.

./master.py --trace DIR script
scripts/report.py DIR -o report.html            a page that opens in any browser, offline
scripts/report.py DIR --svg diagram.svg         a picture of the diagram
scripts/report.py DIR --shiviz out.log          a log that ShiViz reads
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
from pathlib import Path

from checking.drawing import draw
from checking.report import page, shiviz
from checking.telling import tell
from checking.traces import NoTrace, read
from scripts.shared import run_main


def _write(path: Path, text: str) -> None:
    try:
        if path == Path("-"):
            sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
            return
        path.write_text(text, "utf-8", errors="backslashreplace")
    except OSError as error:
        raise NoTrace(f"{path}: {error.strerror}") from error


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Turns the trace of a run, from ./master.py --trace DIR, into a page to look at.",
        epilog="The page needs no network and no other file. docs/trace.md explains what it shows.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the trace is")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write the page (default: report.html, unless --shiviz or --svg is given)",
    )
    parser.add_argument("--title", help="the title of the page (default: the names of the scripts)")
    parser.add_argument("--shiviz", type=Path, metavar="FILE", help="write a log that ShiViz reads")
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="write the space-time diagram as a picture (- is standard output)"
    )
    arguments = parser.parse_args()
    output = arguments.output or (None if arguments.shiviz or arguments.svg else Path("report.html"))
    try:
        traces = read(arguments.folder)
        if arguments.shiviz:
            _write(arguments.shiviz, "\n".join(shiviz(traces)) + "\n")
        if output or arguments.svg:
            try:
                story = tell(traces)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise NoTrace(f"{arguments.folder}: the traces are damaged, or are no traces: {error!r}") from error
            if arguments.svg:
                _write(arguments.svg, draw(story))
            if output:
                _write(output, page(story, arguments.title or ", ".join(story.scripts) or "a run"))
    except NoTrace as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_main(main)
