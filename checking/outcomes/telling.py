"""What is shown of a script's outcomes: text, JSON, a page.

May live here: words and their order. May not: finding anything out (analysis.py, schedules.py).
"""

from __future__ import annotations

import html
import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checking.outcomes.analysis import LineAnswers, Outcome, Outcomes
from checking.outcomes.exchanges import Exchange
from checking.outcomes.plan import Get, Plan
from checking.outcomes.play import play

__all__ = ["answers_text", "heading", "line_text", "page", "plain", "schedule_of", "text"]

PAGE = Path(__file__).resolve().parent / "page.html"

LONGEST = 60
"""How many characters of a value are shown."""


def heading(found: Outcomes) -> str:
    """How many outputs there are, in a sentence."""
    died = " and which server dies by itself" if found.deaths else ""
    if found.is_always_the_same:
        return f"It prints the same, however gossip runs{died}."
    if found.is_complete:
        return f"It can print {len(found.outcomes)} different outputs, depending on how gossip runs{died}."
    if found.at_least > len(found.outcomes) or found.at_least > 1:
        return f"It can print more than {found.at_least - 1} different outputs, depending on how gossip runs{died}."
    return "Whether it always prints the same could not be decided: there are too many ways in which gossip can run."


def text(found: Outcomes, shown: int) -> Iterator[str]:
    """The lines of a report for people. *shown*: how many outputs are shown, with their schedules."""
    yield heading(found)
    depending = [answers for answers in found.lines if answers.may_depend]
    if depending:
        yield ""
        yield "What depends on timing:"
        yield from (f"  {one}" for one in map(line_text, depending))
    if found.errors:
        yield ""
        yield "Errors, which print nothing:"
        yield from (f"  line {line}: {error}" for line, error in found.errors.items())
    if not found.is_exact:
        yield ""
        yield "Exchanges of so large values come in parts, so some of these may never come about."
    if found.is_always_the_same:
        return
    for number, outcome in enumerate(found.outcomes[:shown], 1):
        yield ""
        yield f"Output {number}: {'; '.join(schedule_of(outcome)) or 'no gossip'}"
        lines = outcome.stdout.decode("utf-8", "backslashreplace").splitlines()
        yield from (f"    {_short(line, 2 * LONGEST)}" for line in lines or ["(nothing)"])
    if len(found.outcomes) > shown:
        yield ""
        yield f"… and {len(found.outcomes) - shown} others"


def line_text(answers: LineAnswers) -> str:
    """One line: `line 12: get 5 colour: red | blue | ERR_DEP`."""
    return f"line {answers.line}: {_short(_decoded(answers.command), LONGEST)}: {answers_text(answers)}"


def answers_text(answers: LineAnswers) -> str:
    """What one line can print: `red | blue | ERR_DEP`; of several keys, `colour: red | blue; size: 7 | ERR_KEY`."""
    more = "" if answers.is_complete else " | maybe others"
    several = [(key, values) for key, values in answers.keys if len(values) > 1 or not answers.is_complete]
    if answers.command.startswith(b"get"):
        return f"{' | '.join(_value(v) for _, vs in several for v in vs)}{more}"
    parts = [f"{_short(_decoded(key), LONGEST)}: {' | '.join(map(_value, values))}{more}" for key, values in several]
    return "; ".join(parts)


def schedule_of(outcome: Outcome) -> list[str]:
    """What has to happen for an output, in words."""
    deaths = [(f"server {death.server} dies just before line {death.line}") for death in outcome.deaths]
    return [*deaths, *(_exchange(outcome.plan, exchange) for exchange in outcome.schedule())]


def _exchange(plan: Plan, exchange: Exchange) -> str:
    shown, taken = _when(plan, exchange.shown), _when(plan, exchange.taken)
    ends = f"{exchange.source}→{exchange.target}"
    if shown == taken:
        return f"gossip {ends} {shown}"
    return f"gossip {ends}, asked for {shown}, arrives {taken}"


def _when(plan: Plan, time: int) -> str:
    before, after = _lines_around(plan, time)
    if before == after:
        return f"during line {before}"
    return f"between line {before} and line {after}" if after else f"after line {before}"


def _lines_around(plan: Plan, time: int) -> tuple[int, int]:
    """The lines of what happens last before a time, and next; 0 for none."""
    happenings = [(change.time, change.line) for change in plan.changes]
    for step in plan.steps:
        happenings += (
            [(ask.time, step.line) for ask in step.asks] if isinstance(step, Get) else [(step.time, step.line)]
        )
    happenings.sort()
    place = bisect_right(happenings, (time, 0))
    return happenings[place - 1][1], happenings[place][1] if place < len(happenings) else 0


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _value(value: bytes | None) -> str:
    return "(not there)" if value is None else _short(_decoded(value), LONGEST)


def _short(words: str, most: int) -> str:
    words = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    return words if len(words) <= most else f"{words[: most - 1]}…"


# -- for programs ----------------------------------------------------------------------------------------------


def plain(found: Outcomes, shown: int) -> dict[str, Any]:
    """All of it, as JSON has it. Bytes are as in histories: what isn't UTF-8 is escaped by lone surrogates.

    *shown*: how many outputs have their schedule with them; it is null in the others.
    """
    return {
        "same": found.is_always_the_same,
        "complete": found.is_complete,
        "exact": found.is_exact,
        "at_least": found.at_least,
        "summary": heading(found),
        "lines": [_plain_line(answers) for answers in found.lines],
        "errors": [{"line": line, "error": error} for line, error in found.errors.items()],
        "outputs": [_plain_outcome(outcome, number < shown) for number, outcome in enumerate(found.outcomes)],
    }


def _plain_line(answers: LineAnswers) -> dict[str, Any]:
    return {
        "line": answers.line,
        "command": _kept(answers.command),
        "depends": answers.depends,
        "complete": answers.is_complete,
        "answers": [
            {"key": _kept(key), "values": [None if value is None else _kept(value) for value in values]}
            for key, values in answers.keys
        ],
    }


def _plain_outcome(outcome: Outcome, is_shown: bool) -> dict[str, Any]:
    said: dict[str, Any] = {
        "stdout": _kept(outcome.stdout),
        "deaths": [{"server": death.server, "before_line": death.line} for death in outcome.deaths],
        "schedule": None,
    }
    if is_shown:
        schedule = outcome.schedule()
        said["schedule"] = [_plain_exchange(outcome.plan, exchange) for exchange in schedule]
        if not any(exchange.part for exchange in schedule):
            printed = play(outcome.plan, schedule)
            said["printed"] = [{"line": line, "text": _kept(text)} for line, text in printed.items()]
    return said


def _plain_exchange(plan: Plan, exchange: Exchange) -> dict[str, Any]:
    return {
        "from": exchange.source,
        "to": exchange.target,
        "asked": list(_lines_around(plan, exchange.shown)),
        "arrives": list(_lines_around(plan, exchange.taken)),
        "text": _exchange(plan, exchange),
    }


def _kept(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


# -- the page --------------------------------------------------------------------------------------------------


def page(found: Outcomes, shown: int, title: str) -> str:
    """A page with all that it needs inside: the script, what each line can print, and each output's schedule in it."""
    said = plain(found, shown) | {"script": [_decoded(line) for line in found.script.splitlines()]}
    data = json.dumps(said, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    pieces = {"{{title}}": html.escape(title), "{{summary}}": html.escape(heading(found)), "{{data}}": data}
    return re.sub(r"{{[a-z]+}}", lambda place: pieces[place[0]], PAGE.read_text("utf-8"))
