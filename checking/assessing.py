"""What the checker and the list of outcomes say of a run, as places in its story.

May live here: finding, for what the two say about lines, the lines and events of a story. May not: what is right
(checking/checker.py, checking/outcomes/), and how the page shows it.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from itertools import pairwise
from pathlib import Path
from typing import Any

from checking.outcomes.analysis import outcomes
from checking.outcomes.telling import answers_text, heading
from checking.story import ScriptLine, Story
from checking.verdict import check
from control.explaining import shown

__all__ = ["Mismatch", "assess_history", "assess_script"]

MOST_COMMANDS = 400
"""For longer scripts, outcomes are not listed: the search could take long, and a reader could not use them."""


class Mismatch(Exception):
    """A file does not belong to the run; the text says so."""


def assess_history(story: Story, history: Path) -> dict[str, Any]:
    """The verdict on the history of a run, for the page. Raises OSError and Mismatch."""
    verdict = check(history)
    entries = _entries(history)
    issued = {done.timestamp for done in story.operations if done.put}
    for entry in entries.values():
        if entry["f"] == "put" and entry["type"] == "ok" and entry.get("timestamp") not in issued:
            raise Mismatch(f"{history}: this is the history of another run")
    places = _places(story, entries)
    lines = [
        {"event": found.event if found else None, "where": found.where if found else "", "text": _brief(entries[line])}
        for line, found in ((line, places.get(line)) for line in verdict.lines if line in entries)
    ]
    return {"verdict": verdict.verdict, "why": verdict.why, "operations": verdict.operations, "lines": lines}


def _entries(history: Path) -> dict[int, dict[str, Any]]:
    """The entries of a history that can be read, by their lines."""
    entries = {}
    with history.open("rb") as file:
        for line, raw in enumerate(file, 1):
            try:
                entry = json.loads(raw)
            except ValueError:
                continue
            if isinstance(entry, dict) and {"f", "type", "process", "value"} <= entry.keys():
                entries[line] = entry
    return entries


def _places(story: Story, entries: dict[int, dict[str, Any]]) -> dict[int, ScriptLine]:
    """The line of the script for each line of the history that belongs to one. Both are in the order of the script."""
    places: dict[int, ScriptLine] = {}
    left = iter(story.lines)
    begun: dict[tuple[Any, str], deque[ScriptLine]] = defaultdict(deque)
    for line, entry in entries.items():
        session = entry["process"], entry["f"]
        if entry["type"] == "invoke":
            asked = _asked(entry)
            found = next((one for one in left if _words(one.text)[: len(asked)] == asked), None)
            if found is None:
                break
            places[line] = found
            begun[session].append(found)
        elif begun[session]:
            places[line] = begun[session].popleft()
    return places


def _asked(entry: dict[str, Any]) -> list[str]:
    """The command of an entry, and its ids."""
    value = entry["value"] if isinstance(entry["value"], list) else []
    ids = [entry["process"]] if entry["f"] in ("put", "get") else value
    return [entry["f"], *(str(ident) for ident in ids if isinstance(ident, int))]


def _words(text: str) -> list[str]:
    return [str(int(word)) if word.isdecimal() else word for word in text.split()]


def _brief(entry: dict[str, Any]) -> str:
    """What a line of a history says, for people."""
    said = " ".join(_asked(entry))
    if entry["f"] in ("put", "get"):
        said += "".join(f" {part}" for part in entry["value"] if part is not None)
    answer = entry.get("answer") or ("" if entry["type"] == "ok" else entry["type"])
    return shown(f"{said}{f' → {answer}' if answer else ''}".encode("utf-8", "surrogateescape"))


# -- the script --------------------------------------------------------------------------------------------------


def assess_script(story: Story, script: Path) -> dict[str, Any] | None:
    """What the script of a run can print, for the page; the story's lines get the script's comments.

    None for a script that is long. Raises OSError, and Mismatch if another script was run.
    """
    source = script.read_bytes()
    raw = source.splitlines()
    ran = {_number(line.where): line for line in story.lines if line.where}
    for number, line in ran.items():
        if not 0 < number <= len(raw) or line.text not in ("", shown(raw[number - 1].strip())):
            raise Mismatch(f"{script}: this is not the script of that run")
    story.lines = _with_comments(story.lines, raw, ran)
    if len(ran) > MOST_COMMANDS:
        return None
    found = outcomes(source, gossip=not _is_without_gossip(story.options))
    lines = [
        {"event": ran[answers.line].event, "where": f"line {answers.line}", "text": answers_text(answers)}
        for answers in found.lines
        if answers.may_depend and answers.line in ran
    ]
    return {"heading": heading(found), "lines": lines}


def _with_comments(lines: list[ScriptLine], raw: list[bytes], ran: dict[int, ScriptLine]) -> list[ScriptLine]:
    whole: list[ScriptLine] = []
    following = list(lines)
    for number, text in enumerate(raw, 1):
        if number in ran:
            whole.append(following.pop(0))
        elif (comment := text.lstrip()).startswith(b"#") and following:
            words = comment.lstrip(b"#").strip()
            last = whole[-1] if whole else None
            if words and last is not None and last.text.startswith("#") and raw[number - 2].lstrip(b"# \t"):
                last.text += f" {shown(words)}"
            elif words:
                whole.append(ScriptLine(following[0].event, f"line {number}", shown(b"# " + words), ""))
    return whole + following


def _number(where: str) -> int:
    return int(where.rpartition(" ")[2])


def _is_without_gossip(options: list[str]) -> bool:
    words = " ".join(options).replace("=", " ").split()
    return any(word == "--gossip-interval" and float(value) == 0 for word, value in pairwise(words))
