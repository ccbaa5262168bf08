"""Where two runs begin to differ: in what their scripts print, and in what their servers hold.

May live here: comparing the stories of two runs line by line. May not: why either came about (checking/reasons.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

from checking.story import ScriptLine, Story
from control.explaining import capital, line_of

__all__ = ["differences"]

MOST_ALIGNED = 3_000
"""Longer scripts that are not the same are compared line by line from the top."""


def differences(one: Story, other: Story) -> dict[str, Any]:
    """What the page shows of two runs beside each other.

    *pairs*: the lines of both, None where one has no such line. *differing*: positions of those whose lines or answers
    are not the same. *first*: what is said about the first of them; *stores*: and about the first difference between
    stores, as (position, sentence).
    """
    pairs = list(_pairs(one.lines, other.lines))
    differing = [number for number, (left, right) in enumerate(pairs) if not _alike(one, other, left, right)]
    first = None
    if differing:
        left, right = pairs[differing[0]]
        first = (differing[0], _said(left, right, one.lines, other.lines))
    return {"pairs": pairs, "differing": differing, "first": first, "stores": _first_of_stores(one, other, pairs)}


def _pairs(one: list[ScriptLine], other: list[ScriptLine]) -> Iterator[tuple[int | None, int | None]]:
    texts, others = [line.text for line in one], [line.text for line in other]
    if texts == others or len(texts) + len(others) > MOST_ALIGNED:
        for number in range(max(len(texts), len(others))):
            yield (number if number < len(texts) else None, number if number < len(others) else None)
        return
    for _, begin, end, begin_other, end_other in SequenceMatcher(None, texts, others, autojunk=False).get_opcodes():
        yield from zip_longest(range(begin, end), range(begin_other, end_other))


def _alike(one: Story, other: Story, left: int | None, right: int | None) -> bool:
    if left is None or right is None:
        return False
    mine, theirs = one.lines[left], other.lines[right]
    return (mine.text, mine.answer, mine.error) == (theirs.text, theirs.answer, theirs.error)


def _said(left: int | None, right: int | None, one: list[ScriptLine], other: list[ScriptLine]) -> str:
    if left is None or right is None:
        only, line = ("A", one[left]) if left is not None else ("B", other[right or 0])
        return f"{_where(line)} ran in {only} alone: {line.text}"
    mine, theirs = one[left], other[right]
    if mine.text != theirs.text:
        return f"{_where(mine)} is {mine.text} in A, and {theirs.text} in B."
    return f"{_where(mine)} ({mine.text}) {_printed(mine)} in A, and {_printed(theirs)} in B."


def _printed(line: ScriptLine) -> str:
    if line.error:
        return f"was an error ({line.error})"
    return f"printed {' '.join(line.answer.split())}" if line.answer else "printed nothing"


def _where(line: ScriptLine) -> str:
    return capital(line_of(line.where)) or "A line"


class _Stores:
    """The stores of a run, going through its changes."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._changes = iter([*story.changes, (len(story.events), 0, "", None)])
        self._next = next(self._changes)
        self.held: dict[tuple[str, str], str] = {}

    def until(self, event: int) -> Iterator[tuple[str, str]]:
        """Go to the moment before an event; returns what has changed: (server, key)."""
        while self._next[0] < event:
            _, process, key, write = self._next
            server = self._story.processes[process]
            if write is None:
                self.held.pop((server, key), None)
            else:
                self.held[server, key] = self._story.writes[write].value
            yield server, key
            self._next = next(self._changes)


def _first_of_stores(one: Story, other: Story, pairs: list[tuple[int | None, int | None]]) -> tuple[int, str] | None:
    """The first line after which a server does not hold the same in both runs."""
    mine, theirs = _Stores(one), _Stores(other)
    for number, (left, right) in enumerate(pairs):
        if left is None or right is None:
            return None
        ends = [
            story.lines[line + 1].event if line + 1 < len(story.lines) else len(story.events)
            for story, line in ((one, left), (other, right))
        ]
        for server, key in sorted({*mine.until(ends[0]), *theirs.until(ends[1])}):
            held, held_there = mine.held.get((server, key)), theirs.held.get((server, key))
            if held != held_there:
                has = [f"has {key} = {value}" if value is not None else f"has no {key}" for value in (held, held_there)]
                where = _where(one.lines[left]).lower()
                return number, f"After {where}, {server} {has[0]} in A, and {has[1]} in B."
    return None
