"""Makes the pages of the lessons, docs/lessons/: each a script of examples/, what it prints, and what happened.

May live here: running a lesson, and what its page says. May not: how the story of a run is told (checking/telling.py),
and the exercises (checking/exercises.py).

In a script, a paragraph of comments sets the scene and asks. What answers it is a paragraph behind the commands, which
begins with `Answer: `. On the page, what the commands print and this paragraph are folded, so that a reader can think
first.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from checking import rumours
from checking.browser import opened
from checking.driver import ROOT
from checking.exercises import exercises
from checking.outcomes.analysis import Outcomes, outcomes
from checking.outcomes.telling import heading, line_text, schedule_of
from checking.report import page
from checking.story import Story
from checking.telling import tell
from checking.traces import read
from control.explaining import capital, listed

__all__ = ["EXAMPLES", "PAGES", "Lesson", "learn", "picture", "scripts", "text"]

EXAMPLES = ROOT / "examples"
PAGES = ROOT / "docs" / "lessons"

LOST = re.compile(rb"# now, in another terminal: rm -r DIR/(server-\d+)\n")
"""A line of a script at which a person removes the folder of a server."""

LIMIT_SECONDS = 30.0
"""How long a run may take to reach a line of `LOST`."""

WIDTH = 1100
"""The width of a picture, in pixels."""

COLUMNS = 120

TRACED_SERVERS = 20
"""With more servers, a run is not traced: its diagram would show nothing."""

ALIKE = 8
"""So many lines that begin with the same command are shown as the first two and the last one."""

OUTPUTS = 10
"""How many outputs are listed at most, with what has to happen for each."""

ANSWER = "Answer: "


class Lesson(NamedTuple):
    """A script, what each of its lines has printed, the story of its run, and the verdict of scripts/check.py on it."""

    name: str
    script: str
    answers: dict[int, list[str]]
    story: Story | None
    verdict: str


def scripts() -> list[Path]:
    """Return the scripts of the lessons, in their order."""
    return sorted(EXAMPLES.glob("[0-9]-*.txt"))


# -- running it --------------------------------------------------------------------------------------------


def learn(script: Path, folder: Path) -> Lesson:
    """Run a lesson in a folder of its own, one command at a time, and have its history checked."""
    history, trace, stores, told = (folder / name for name in ("history", "trace", "stores", "told"))
    source = script.read_bytes()
    is_traced = len(re.findall(rb"^joinServer", source, re.MULTILINE)) <= TRACED_SERVERS
    command = [sys.executable, ROOT / "master.py", "--json", "--no-pipeline", "--gossip-interval", "0"]
    command += ["--data-dir", stores, "--history", history, *(["--trace", trace] if is_traced else [])]
    with told.open("wb") as file:
        master = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.DEVNULL)
        assert master.stdin is not None
        pieces = LOST.split(source)
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
    verdict = checked.stdout.replace(str(stores), "DIR").replace(str(history), "its history")
    story = tell(read(trace)) if is_traced else None
    for event in story.events if story else ():
        event.text = event.text.replace(str(stores), "DIR")
    answers = _answers(told.read_text().replace(str(stores), "DIR"))
    return Lesson(script.stem, script.read_text("utf-8"), answers, story, verdict)


def _await_commands(history: Path, number: int) -> None:
    """Wait until this many commands are done. Raises TimeoutError."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not history.exists() or len(re.findall(rb'"type": "(?:ok|fail|info)"', history.read_bytes())) < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{number} commands took more than {LIMIT_SECONDS:g} s")
        time.sleep(0.01)


def _answers(told: str) -> dict[int, list[str]]:
    """Return for each line what its command printed, or its error, from what `--json` told."""
    answers: dict[int, list[str]] = {}
    every = [json.loads(line) for line in told.splitlines()]
    commands = {found.get("line"): found.get("f", "") for found in every}
    for found in every:
        if "error" in found:
            kind = "warning" if found["type"] == "warning" else "error"
            place = f"{kind}: line {found['line']}: {commands[found['line']]}: {found['error']}"
            answers.setdefault(found["line"], []).extend(textwrap.wrap(place, 112, subsequent_indent="  "))
        elif found.get("f") == "get":
            answers[found["line"]] = [f"{found['key']}:{found.get('value', found.get('answer'))}"]
        elif "store" in found:
            answers[found["line"]] = [f"{key}:{value}" for key, value in found["store"]] or ["(nothing)"]
    return answers


# -- its page ----------------------------------------------------------------------------------------------


def text(lesson: Lesson) -> str:
    """Return the page of a lesson. Comments of the script become text; what commands print is folded below them."""
    title, _, rest = lesson.script.removeprefix("# ").partition("\n#\n")
    parts = [f"# {title}"]
    listing: list[tuple[int, str]] = []
    for kind, lines in _paragraphs(rest):
        if kind == "commands":
            listing = lines
            parts.append(_listing(listing, {}))
            continue
        words = " ".join(line.removeprefix("#").strip() for _, line in lines)
        if words.startswith(ANSWER):
            parts += _folded(lesson, listing, _filled(capital(words.removeprefix(ANSWER))))
        else:
            parts += [*_folded(lesson, listing), _filled(words)]
        listing = []
    parts += [*_folded(lesson, listing), *_end(lesson)]
    return "\n\n".join(parts) + "\n"


def _paragraphs(script: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The comments and the commands of a script without its title, piece by piece, with the numbers of their lines."""
    piece: list[tuple[int, str]] = []
    before = ""
    for number, line in enumerate([*script.splitlines(), ""], 3):
        is_comment = line.startswith("#") and not LOST.fullmatch(f"{line}\n".encode())
        kind = "comment" if is_comment else "commands" if line else ""
        if kind != before and piece:
            yield before, piece
            piece = []
        before = kind
        if line:
            piece.append((number, line))


def _filled(words: str, indent: str = "") -> str:
    return textwrap.fill(words, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _listing(lines: Iterable[tuple[int, str]], answers: dict[int, list[str]]) -> str:
    """Lines with their numbers, and what they have printed below them. Many that are alike are not all shown."""
    shown: list[str] = []
    lines = list(lines)
    for place, (number, line) in enumerate(lines):
        name = line.split()[0]
        alike = [other for other, (_, text) in enumerate(lines) if text.split()[0] == name]
        if len(alike) > ALIKE and place in alike[2:-1]:
            shown += ["    …"] if place == alike[2] else []
            continue
        shown += [f"{number:5}  {line}", *(f"       {answer}" for answer in answers.get(number, ()))]
    return textwrap.indent("\n".join(shown), "    ")


def _folded(lesson: Lesson, listing: list[tuple[int, str]], answer: str = "") -> list[str]:
    """What the commands of a listing have printed, and why, below the question about it; nothing if none has."""
    printing = [(number, line) for number, line in listing if number in lesson.answers]
    if not printing and not answer:
        return []
    numbers = [str(number) for number, _ in printing]
    lines = f"line{'s' * (len(numbers) > 1)} {listed(numbers)}"
    question = [f"**What will {lines} print?**"] if numbers else []
    parts = [*question, '<details markdown="1"><summary>The answer</summary>']
    if printing:
        parts.append(_listing(printing, lesson.answers))
    if answer:
        parts.append(answer)
    for operation in lesson.story.operations if lesson.story else ():
        if operation.outcome == "ERR_DEP" and operation.where.rpartition(" ")[2] in numbers:
            parts.append(f"Why does {operation.where} say `{operation.key}:ERR_DEP`?")
            parts.append("\n".join(_filled(f"- {sentence}", "  ") for sentence in operation.why))
    return [*parts, "</details>"]


def _end(lesson: Lesson) -> Iterator[str]:
    yield "## What happened"
    if lesson.story is None:
        yield f"![How many of {rumours.SERVERS} servers have heard, by time, for several topologies]({lesson.name}.svg)"
        yield _filled(rumours.EXPLAINED)
        yield rumours.table()
    else:
        yield f"![The space-time diagram of this run]({lesson.name}.svg)"
        yield _filled(
            "Each line is a process, and time runs downwards; an arrow is a call or, dashed, its answer. Green arrows "
            "brought writes from server to server. Where servers are partitioned, each partition has a colour."
        )
        yield from _clocks(lesson.story)
    yield from _outcomes(lesson)
    yield "## Was that right?"
    yield "`scripts/check.py` knows what is promised, but nothing of how it is done. It says of this run:"
    lines = [textwrap.fill(line, 112, subsequent_indent="  ") for line in lesson.verdict.splitlines()]
    yield textwrap.indent("\n".join(lines), "    ")
    if lesson.verdict.startswith("unknown"):
        yield "A lost disk explains what would otherwise be a broken promise, so there is no verdict."
    yield from _exercises(lesson)
    yield from _yourself(lesson)


def _yourself(lesson: Lesson) -> Iterator[str]:
    yield "## Look at it yourself"
    yield _filled(
        f"`step examples/{lesson.name}.txt` at the prompt of `./master --gossip-interval 0` runs the script line by "
        "line, and `why` explains each `ERR_DEP`."
    )
    if lesson.story is not None:
        yield f"    make lesson SCRIPT=examples/{lesson.name}.txt"
        yield (
            "runs it, checks it, and makes `lesson/report.html`, a page on which you can follow each write. "
            "[trace.md](../trace.md)\nexplains it."
        )
    for folder in LOST.findall(lesson.script.encode()):
        yield _filled(
            "No disk is lost there, and no `ERR_DEP` comes of it, since nobody removes the folder meanwhile: for that, "
            "type the script at the prompt of `./master --gossip-interval 0 --data-dir DIR --trace TRACE`, remove "
            f"`DIR/{folder.decode()}` where it says so, and then `report` writes the page."
        )


def _clocks(story: Story) -> Iterator[str]:
    """The writes with their vector clocks, if any are concurrent."""
    if not any(write.concurrent for write in story.writes):
        return
    yield "### The vector clocks"
    yield _filled(
        "The vector clock of a write says for each server up to which of that server's writes its author's session "
        "knew this key, the write itself included. One write happened before another if no number of its clock is "
        "larger. If each has a number that is larger, they are concurrent. The rows are in the order of the timestamps."
    )
    rows = ["| line | write | vector clock | concurrent with |", "|---|---|---|---|"]
    for write in sorted(story.writes, key=lambda write: write.timestamp):
        where = story.operations[write.operation].where if write.operation is not None else ""
        clock = ", ".join(f"server {entry}" for entry in write.clock)
        rivals = ", ".join(story.writes[rival].value for rival in write.concurrent)
        rows.append(f"| {where.rpartition(' ')[2]} | {write.key} = {write.value} | {clock} | {rivals or '–'} |")
    yield "\n".join(rows)
    yield "Only those are named as concurrent that have met at some server."


def _outcomes(lesson: Lesson) -> Iterator[str]:
    """What the script can print where gossip is on."""
    found = outcomes(lesson.script.encode())
    yield "## What else it could print"
    yield _filled(
        f"This run was without gossip. `scripts/outcomes.py` says of the script with gossip: {heading(found).lower()}"
    )
    lines = [line_text(answers) for answers in found.lines if answers.depends]
    if lines:
        yield textwrap.indent("\n".join(lines), "    ")
    if 1 < len(found.outcomes) <= OUTPUTS and found.is_complete:
        yield from _outputs(found)
    if LOST.search(lesson.script.encode()):
        yield "(It takes disks to last, so it knows nothing of the one that is lost here.)"


def _outputs(found: Outcomes) -> Iterator[str]:
    yield '<details markdown="1"><summary>All outputs, and how they come about</summary>'
    for number, outcome in enumerate(found.outcomes, 1):
        yield _filled(f"Output {number}: {'; '.join(schedule_of(outcome)) or 'no gossip'}")
        yield textwrap.indent(outcome.stdout.decode(), "    ").rstrip()
    yield "</details>"


def _exercises(lesson: Lesson) -> Iterator[str]:
    found = exercises(EXAMPLES / "exercises" / f"{lesson.name}.txt")
    if found:
        yield "## Exercises"
    for number, exercise in enumerate(found, 1):
        yield _filled(f"{number}. {capital(exercise.task)}", "   ")
        yield '<details markdown="1"><summary>A solution</summary>'
        printed = {line: answers for line, (_, answers) in enumerate(exercise.lines, 1) if answers}
        yield _listing([(line, command) for line, (command, _) in enumerate(exercise.lines, 1)], printed)
        yield "</details>"


def picture(lesson: Lesson, folder: Path, browser: Any) -> str:
    """Return the diagram of a lesson's run, as SVG; of many servers, how a write spreads."""
    if lesson.story is None:
        return rumours.picture()
    path = folder / "report.html"
    path.write_text(page(lesson.story, lesson.name), "utf-8")
    with opened(browser, path) as shown:
        # The colours of the partitions show links as well.
        drawn: str = shown.evaluate("width => { layout.shown.links = false; return picture(diagram, width); }", WIDTH)
    return drawn + "\n"
