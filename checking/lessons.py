"""Makes the pages of the lessons, docs/lessons/: each a script of examples/, what it prints, and what happened.

May live here: running a lesson, and what its page says. May not: how the story of a run is told (checking/telling.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from checking.browser import opened
from checking.driver import ROOT
from checking.outcomes.analysis import outcomes
from checking.outcomes.telling import heading, line_text
from checking.report import page
from checking.story import Story
from checking.telling import tell
from checking.traces import read

__all__ = ["PAGES", "Lesson", "learn", "picture", "scripts", "text"]

EXAMPLES = ROOT / "examples"
PAGES = ROOT / "docs" / "lessons"

LOST = re.compile(rb"# now, in another terminal: rm -r DIR/(server-\d+)\n")
"""A line of a script at which a person removes the folder of a server."""

LIMIT_SECONDS = 30.0
"""How long a run may take to reach a line of `LOST`."""

WIDTH = 1100
"""The width of a picture, in pixels."""


class Lesson(NamedTuple):
    """A script, the story of its run, and the verdict of scripts/check.py on it."""

    name: str
    script: str
    story: Story
    verdict: str


def scripts() -> list[Path]:
    """Return the scripts of the lessons, in their order."""
    return sorted(EXAMPLES.glob("[0-9]-*.txt"))


def learn(script: Path, folder: Path) -> Lesson:
    """Run a lesson in a folder of its own, and have its history checked."""
    history, trace, stores = folder / "history", folder / "trace", folder / "stores"
    command = [sys.executable, ROOT / "master.py", "--gossip-interval", "0", "--data-dir", stores]
    master = subprocess.Popen(
        [*map(str, command), "--history", str(history), "--trace", str(trace)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert master.stdin is not None
    pieces = LOST.split(script.read_bytes())
    fed = 0
    for position, piece in enumerate(pieces):
        if position % 2:
            _await_commands(history, fed)
            shutil.rmtree(stores / piece.decode())
            master.stdin.write(b"#\n")  # so that lines keep their numbers
        else:
            master.stdin.write(piece)
            master.stdin.flush()
            fed += sum(line[:1] not in (b"#", b"") for line in piece.splitlines())
    master.stdin.close()
    master.wait()
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check.py"), str(history)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    story, verdict = tell(read(trace)), checked.stdout.replace(str(stores), "DIR").replace(str(history), "its history")
    for event in story.events:
        event.text = event.text.replace(str(stores), "DIR")
    return Lesson(script.stem, script.read_text("utf-8"), story, verdict)


def _await_commands(history: Path, number: int) -> None:
    """Wait until this many commands are done. Raises TimeoutError."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not history.exists() or len(re.findall(rb'"type": "(?:ok|fail|info)"', history.read_bytes())) < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{number} commands took more than {LIMIT_SECONDS:g} s")
        time.sleep(0.01)


def text(lesson: Lesson) -> str:
    """Return the page of a lesson. Comments of the script become text; each command is followed by its answer."""
    title, _, rest = lesson.script.removeprefix("# ").partition("\n#\n")
    answers = _answers(lesson.story)
    comment: list[str] = []
    console: list[str] = []
    parts = [f"# {title}"]
    for number, line in enumerate(rest.splitlines(), 3):
        if line.startswith("#") and not LOST.fullmatch(f"{line}\n".encode()):
            parts += _console(console)
            comment.append(line.removeprefix("#").strip())
            continue
        parts += _paragraph(comment)
        if line:
            console += [f"> {line}", *answers.get(number, ())]
        elif console:
            console.append("")
    parts += [*_paragraph(comment), *_console(console), *_end(lesson)]
    return "\n\n".join(parts) + "\n"


def _paragraph(lines: list[str]) -> list[str]:
    """Take the lines so far, and make a paragraph of them."""
    paragraph, lines[:] = textwrap.fill(" ".join(lines), 120), []
    return [paragraph] if paragraph else []


def _console(lines: list[str]) -> list[str]:
    """Take the lines so far, and show them as they look in a terminal."""
    shown, lines[:] = textwrap.indent("\n".join(lines).rstrip(), "    "), []
    return [shown] if shown else []


def _answers(story: Story) -> dict[int, list[str]]:
    """Return for each line what its command printed, or its error."""
    answers: dict[int, list[str]] = {}
    for event in story.events:
        if event.kind in ("error", "warning"):
            line = int(event.text.removeprefix("line ").partition(":")[0])
            answers[line] = textwrap.wrap(f"{event.kind}: {event.text}", 112, subsequent_indent="  ")
        elif event.kind == "command" and event.operation is not None:
            operation = story.operations[event.operation]
            if not operation.put and operation.outcome in ("value", "ERR_KEY", "ERR_DEP"):
                answers[_line(event.where)] = [f"{operation.key}:{operation.value or operation.outcome}"]
        elif event.kind == "command" and event.printed:
            answers[_line(event.where)] = event.printed.splitlines()
    return answers


def _line(where: str) -> int:
    return int(where.rpartition(" ")[2])


def _end(lesson: Lesson) -> Iterator[str]:
    yield "## What happened"
    yield f"![The space-time diagram of this run]({lesson.name}.svg)"
    yield textwrap.fill(
        "Each line is a process, and time runs downwards; an arrow is a call or, dashed, its answer. Green arrows "
        "brought writes from server to server. Where servers are partitioned, each partition has a colour.",
        120,
    )
    for operation in lesson.story.operations:
        if operation.outcome == "ERR_DEP":
            yield f"Why does {operation.where} say `{operation.key}:ERR_DEP`?"
            yield "\n".join(textwrap.fill(f"- {sentence}", 120, subsequent_indent="  ") for sentence in operation.why)
    yield from _outcomes(lesson)
    yield "## Was that right?"
    yield "`scripts/check.py` knows what is promised, but nothing of how it is done. It says of this run:"
    lines = [textwrap.fill(line, 112, subsequent_indent="  ") for line in lesson.verdict.splitlines()]
    yield textwrap.indent("\n".join(lines), "    ")
    if lesson.verdict.startswith("unknown"):
        yield "A lost disk explains what would otherwise be a broken promise, so there is no verdict."
    yield "## Look at it yourself"
    yield f"    make lesson SCRIPT=examples/{lesson.name}.txt"
    yield (
        "runs it, checks it, and makes `lesson/report.html`, a page on which you can follow each write. "
        "[trace.md](../trace.md)\nexplains it."
    )
    for folder in LOST.findall(lesson.script.encode()):
        yield textwrap.fill(
            "No disk is lost there, and no `ERR_DEP` comes of it, since nobody removes the folder meanwhile: for that, "
            "type the script at the prompt of `./master --gossip-interval 0 --data-dir DIR --trace TRACE`, remove "
            f"`DIR/{folder.decode()}` where it says so, and then `scripts/report.py TRACE` makes `report.html`.",
            120,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _outcomes(lesson: Lesson) -> Iterator[str]:
    """What the script can print where gossip is on."""
    found = outcomes(lesson.script.encode())
    yield "## What else it could print"
    yield f"This run was without gossip. `scripts/outcomes.py` says of the script with gossip: {heading(found).lower()}"
    lines = [line_text(answers) for answers in found.lines if answers.depends]
    if lines:
        yield textwrap.indent("\n".join(lines), "    ")
    if LOST.search(lesson.script.encode()):
        yield "(It takes disks to last, so it knows nothing of the one that is lost here.)"


def picture(lesson: Lesson, folder: Path, browser: Any) -> str:
    """Return the diagram of a lesson's run, as SVG."""
    path = folder / "report.html"
    path.write_text(page(lesson.story, lesson.name), "utf-8")
    with opened(browser, path) as shown:
        # The colours of the partitions show links as well.
        drawn: str = shown.evaluate("width => { layout.shown.links = false; return picture(diagram, width); }", WIDTH)
    return drawn + "\n"
