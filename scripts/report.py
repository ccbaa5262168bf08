#!/usr/bin/env python3
"""Turns the trace of a run into a page to look at, a picture, or a log for ShiViz.

./master.py --trace DIR script
scripts/report.py DIR -o report.html            a page that opens in any browser, offline
scripts/report.py DIR DIR2 -o report.html       two runs side by side, and where they begin to differ
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
import gc
from pathlib import Path

from checking.assessing import Mismatch, assess_history, assess_script
from checking.drawing import draw
from checking.report import comparison, page, shiviz
from checking.story import Story
from checking.telling import tell
from checking.traces import NoTrace, read, stream
from scripts.shared import run_main


def _write(path: Path, text: str) -> None:
    try:
        if path == Path("-"):
            sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
            return
        path.write_text(text, "utf-8", errors="backslashreplace")
    except OSError as error:
        raise NoTrace(f"{path}: {error.strerror}") from error


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Turns the trace of a run, from ./master.py --trace DIR, into a page to look at.",
        epilog="The page needs no network and no other file. docs/trace.md explains what it shows.",
    )
    add = parser.add_argument
    add("folders", type=Path, nargs="+", metavar="DIR", help="where the trace is; two of them are shown side by side")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write the page (default: report.html, unless --shiviz or --svg is given)",
    )
    add("--title", help="the title of the page (default: the names of the scripts)")
    add(
        "--history", type=Path, metavar="FILE", help="the history of the run: the page says what the checker says of it"
    )
    add(
        "--script",
        type=Path,
        metavar="FILE",
        help="the script of the run: the page shows its comments, and what else it could have printed",
    )
    add("--shiviz", type=Path, metavar="FILE", help="write a log that ShiViz reads")
    add("--svg", type=Path, metavar="FILE", help="write the space-time diagram as a picture (- is standard output)")
    options = parser.parse_args()
    if len(options.folders) > 2:
        parser.error("at most two runs can be shown side by side")
    if len(options.folders) == 2:
        for name in ("history", "script", "shiviz", "svg"):
            if getattr(options, name):
                parser.error(f"--{name} is for one run")
    return options


def _story(folder: Path) -> Story:
    try:
        return tell(stream(folder))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise NoTrace(f"{folder}: the traces are damaged, or are no traces: {error!r}") from error


def _page(story: Story, options: argparse.Namespace) -> str:
    verdict = outcomes = None
    try:
        verdict = assess_history(story, options.history) if options.history else None
        outcomes = assess_script(story, options.script) if options.script else None
    except OSError as error:
        raise NoTrace(f"{error.filename}: {error.strerror}") from error
    except Mismatch as error:
        raise NoTrace(f"{error}") from error
    return page(story, options.title or ", ".join(story.scripts) or "a run", verdict=verdict, outcomes=outcomes)


def main() -> int:
    """Returns the exit status."""
    options = _options()
    gc.disable()  # a story is kept as long as this process, so looking for what can go takes a quarter of the time
    folder, *others = options.folders
    output = options.output or (None if options.shiviz or options.svg else Path("report.html"))
    try:
        if options.shiviz:
            _write(options.shiviz, "\n".join(shiviz(read(folder))) + "\n")
        if others:
            names = (str(folder), str(others[0]))
            title = options.title or " and ".join(names)
            _write(output or Path("report.html"), comparison(_story(folder), _story(others[0]), title, names))
        elif output or options.svg:
            story = _story(folder)
            if options.svg:
                _write(options.svg, draw(story))
            if output:
                _write(output, _page(story, options))
    except NoTrace as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if output and not options.output:
        print(f"the page is {output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
