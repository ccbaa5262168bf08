#!/usr/bin/env python3
"""Turns the trace of a run into a page to look at, or into a log for ShiViz.

    ./master.py --trace DIR script
    scripts/report.py DIR -o report.html            a page that opens in any browser, offline
    scripts/report.py DIR --shiviz out.log          a log that ShiViz reads

May live here: reading traces and writing files. What the trace says is told by checking/story.py; how it looks is in
checking/page/.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]  # not there by itself after python -P

import environment

environment.enter(__name__)

import argparse
import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from shared import run_main

from checking.story import Story, tell
from rpc import tracing
from rpc.tracing import Event

PARTS = Path(__file__).resolve().parent.parent / "checking" / "page"
"""What the page is made of."""

SCRIPTS = ("d3.v7.9.0.min.js", "run.js", "diagram.js", "details.js", "charts.js", "page.js")
"""The page's scripts, in the order in which they are loaded. D3 (d3js.org) draws; it is under the ISC licence."""

PROCESS = re.compile(r"master|client-\d+|server-\d+")
"""Who leaves a trace."""

SHIVIZ_PARSER = r"(?<host>\S*) (?<clock>{.*})\n(?<event>.*)"
"""The regular expression by which ShiViz understands the log; it stands in its first line."""


class NoTrace(Exception):
    """There is nothing to report on; the text says why."""


def read(folder: Path) -> dict[str, list[Event]]:
    """The events of each process. Raises NoTrace."""
    if not folder.is_dir():
        raise NoTrace(f"{folder}: no such folder")
    traces = {}
    for path in sorted(folder.glob("*.trace")):
        if not PROCESS.fullmatch(path.stem):
            raise NoTrace(f"{path}: not of a process")
        try:
            traces[path.stem.replace("-", " ")] = list(tracing.read(path))
        except OSError as error:
            raise NoTrace(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise NoTrace(f"{path}: not a trace: {error}") from error
    if not any(traces.values()):
        raise NoTrace(f"{folder}: no traces there; they are written by ./master.py --trace {folder}")
    return traces


def page(story: Story, title: str) -> str:
    """The whole page, with all that it needs inside."""
    data = json.dumps(story.plain(), ensure_ascii=False, separators=(",", ":"))
    scripts = "\n".join(f"<script>\n{(PARTS / name).read_text('utf-8')}\n</script>" for name in SCRIPTS)
    pieces = {
        "{{title}}": html.escape(title),
        "{{command}}": html.escape(shlex.join(["./master.py", *story.options])),
        "{{diagram-style}}": (PARTS / "diagram.css").read_text("utf-8"),
        "{{page-style}}": (PARTS / "page.css").read_text("utf-8"),
        "{{data}}": data.replace("<", "\\u003c"),  # or a value might end the element that it stands in
        "{{scripts}}": scripts,
    }
    frame = (PARTS / "page.html").read_text("utf-8")
    return re.sub(r"{{[a-z-]+}}", lambda place: pieces[place[0]], frame)


def shiviz(traces: Mapping[str, Iterable[Event]]) -> Iterator[str]:
    """The lines of a log for ShiViz: the parser, an empty line (there is one execution), and two for each event."""
    yield SHIVIZ_PARSER
    yield ""
    events = sorted(
        ((event.time, name, event) for name, events in traces.items() for event in events), key=lambda entry: entry[0]
    )
    for _, name, event in events:
        clock = {process.replace(" ", "-"): number for process, number in event.clock.items()}
        yield f"{name.replace(' ', '-')} {json.dumps(clock)}"
        yield _said(event)


def _said(event: Event) -> str:
    """An event in one line."""
    text = event.name
    for name, value in event.details.items():
        if isinstance(value, str | int):
            text += f" {name}={value}"
        elif name == "text":
            text += f" {value.decode('utf-8', 'backslashreplace')}"
        elif name == "commands":
            text += " " + "; ".join(command.decode("utf-8", "backslashreplace") for _, command in value)
    return " ".join(text.split())


def _write(path: Path, text: str) -> None:
    try:
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
        "-o", "--output", type=Path, metavar="FILE", help="the page (default: report.html, if no --shiviz)"
    )
    parser.add_argument("--title", help="of the page (default: the names of its scripts)")
    parser.add_argument("--shiviz", type=Path, metavar="FILE", help="write a log that ShiViz reads")
    arguments = parser.parse_args()
    output = arguments.output or (None if arguments.shiviz else Path("report.html"))
    try:
        traces = read(arguments.folder)
        if arguments.shiviz:
            _write(arguments.shiviz, "\n".join(shiviz(traces)) + "\n")
        if output:
            try:
                story = tell(traces)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise NoTrace(f"{arguments.folder}: damaged, or no trace: {error!r}") from error
            _write(output, page(story, arguments.title or ", ".join(story.scripts) or "a run"))
    except NoTrace as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_main(main)
