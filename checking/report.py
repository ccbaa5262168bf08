"""Makes a page for any browser, or a log for ShiViz, from the story or the traces of a run.

May live here: putting the page together from its parts, and the lines of the log. May not: reading traces
(checking/traces.py), what they mean (checking/telling.py), and how the page looks, which is in checking/page/.
"""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from checking.story import Story
from rpc.tracing import Event

__all__ = ["SHIVIZ_PARSER", "page", "shiviz"]

PARTS = Path(__file__).resolve().parent / "page"
"""The folder with the parts of the page."""

SCRIPTS = ("d3.v7.9.0.min.js", "run.js", "texts.js", "diagram.js", "details.js", "charts.js", "page.js")
"""The scripts of the page, in the order in which they are loaded. D3 (d3js.org, ISC licence) draws."""

SHIVIZ_PARSER = r"(?<host>\S*) (?<clock>{.*})\n(?<event>.*)"
"""The regular expression by which ShiViz reads the log, of which it is the first line."""


def page(story: Story, title: str) -> str:
    """Return the whole page, which needs no other file."""
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
    """Return the lines of a log for ShiViz: the parser, an empty line (for one execution), and two for each event."""
    yield SHIVIZ_PARSER
    yield ""
    events = sorted(
        ((event.time, name, event) for name, events in traces.items() for event in events), key=lambda entry: entry[0]
    )
    for _, name, event in events:
        clock = {process.replace(" ", "-"): number for process, number in event.clock.items()}
        yield f"{name.replace(' ', '-')} {json.dumps(clock)}"
        yield _event_line(event)


def _event_line(event: Event) -> str:
    """Describe an event in one line."""
    text = event.name
    for name, value in event.details.items():
        if isinstance(value, str | int):
            text += f" {name}={value}"
        elif name == "text":
            text += f" {value.decode('utf-8', 'backslashreplace')}"
        elif name == "commands":
            text += " " + "; ".join(command.decode("utf-8", "backslashreplace") for _, command in value)
    return " ".join(text.split())
