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
from typing import Any

from checking.differing import differences
from checking.packing import packed
from checking.story import Story
from checking.traces import in_order
from rpc.tracing import Event

__all__ = ["SHIVIZ_PARSER", "comparison", "page", "shiviz"]

PARTS = Path(__file__).resolve().parent / "page"
"""The folder with the parts of the page."""

MODULES = (
    *(
        "dom",
        "unpack",
        "run",
        "texts",
        "layout",
        "arrows",
        "summary",
        "bars",
        "diagram",
        "minimap",
        "script",
        "details",
    ),
    *("stores", "charts", "head", "search", "place", "paper", "quiz", "legend", "view", "compare", "page"),
)
"""The modules of the page, each after those that it imports."""

IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)

SHIVIZ_PARSER = r"(?<host>\S*) (?<clock>{.*})\n(?<event>.*)"
"""The regular expression by which ShiViz reads the log, of which it is the first line."""


def page(
    story: Story, title: str, *, verdict: dict[str, Any] | None = None, outcomes: dict[str, Any] | None = None
) -> str:
    """Return the whole page, which needs no other file. *verdict*, *outcomes*: as checking/assessing.py finds them."""
    return _page(title, [packed(story, verdict=verdict, outcomes=outcomes)], story)


def comparison(one: Story, other: Story, title: str, names: tuple[str, str]) -> str:
    """Return a page that shows two runs side by side. *names*: what they are called."""
    return _page(
        title, [packed(one, name=names[0], differences=differences(one, other)), packed(other, name=names[1])], one
    )


def _page(title: str, runs: list[str], story: Story) -> str:
    frame = _part("page.html")
    pieces = {
        "{{title}}": html.escape(title),
        "{{command}}": html.escape(shlex.join(["./master.py", *story.options])),
        "{{diagram-style}}": _part("diagram.css"),
        "{{page-style}}": _part("page.css") + _part("parts.css") + _part("print.css"),
        "{{data}}": "\n".join(f'<script type="text/plain" class="run">{run}</script>' for run in runs),
        "{{d3}}": _part("d3.v7.9.0.min.js"),
        "{{script}}": "\n".join(['"use strict";', *map(_module, MODULES)]),
    }
    return re.sub(r"{{[a-z0-9-]+}}", lambda place: pieces[place[0]], frame)


def _module(name: str) -> str:
    """A module as a part of one script, since a page that is a file can't import others; its own names stay its own."""
    source = _part(f"{name}.js")
    exports = ", ".join(EXPORT.findall(source))
    body = EXPORT.sub("", IMPORT.sub("", source))
    return f"const {{ {exports} }} = (() => {{\n{body}\nreturn {{ {exports} }};\n}})();"


def _part(name: str) -> str:
    return (PARTS / name).read_text("utf-8")


def shiviz(traces: Mapping[str, Iterable[Event]]) -> Iterator[str]:
    """Return the lines of a log for ShiViz: the parser, an empty line (for one execution), and two for each event."""
    yield SHIVIZ_PARSER
    yield ""
    clocks: dict[str, dict[str, int]] = {process: {} for process in traces}
    for process, event, new in in_order(traces):
        clocks[process] |= {other.replace(" ", "-"): number for other, number in new.items()}
        yield f"{process.replace(' ', '-')} {json.dumps(clocks[process])}"
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
