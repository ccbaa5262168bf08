"""How stories travel to the page: as columns of numbers and texts, deflated, in base64.

May live here: the format. May not: what a story consists of (checking/story.py), and how the page uses it.
checking/page/unpack.js is the inverse.

The format
----------
Records of one kind are a table, {column: [type, …]}. In each column, neighbours are alike, so that deflate (RFC 1951)
finds much to leave out; a run of 10,000 operations takes a twentieth of what its records take as JSON.

| type      | then                                                                                      |
|-----------|-------------------------------------------------------------------------------------------|
| "numbers" | each number as its difference to the one before; null where there is none                 |
| "times"   | the same, in tenths of microseconds                                                       |
| "texts"   | the texts                                                                                 |
| "names"   | the different texts; for each record, the position of its text among them                 |
| "flags"   | 0 or 1 for each record                                                                    |
| "lists"   | how many numbers each record has; all of these, each as its difference to the one before  |
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any

from checking.story import Story

__all__ = ["packed"]

COLUMNS = {
    "events": {
        "process": "numbers",
        "time": "times",
        "kind": "names",
        "clock": "lists",
        "text": "texts",
        "where": "texts",
        "operation": "numbers",
        "writes": "lists",
        "printed": "texts",
        "said": "texts",
    },
    "messages": {
        "sent": "numbers",
        "received": "numbers",
        "name": "names",
        "answer": "flags",
        "operations": "lists",
        "writes": "lists",
    },
    "losses": {
        "event": "numbers",
        "sender": "numbers",
        "receiver": "numbers",
        "name": "names",
        "answer": "flags",
    },
    "operations": {
        "client": "numbers",
        "put": "flags",
        "key": "texts",
        "value": "texts",
        "where": "texts",
        "began": "times",
        "ended": "times",
        "command": "numbers",
        "event": "numbers",
        "outcome": "names",
        "write": "numbers",
        "seen": "numbers",
        "seen_by": "numbers",
    },
    "writes": {
        "key": "texts",
        "value": "texts",
        "timestamp": "numbers",
        "dot": "texts",
        "concurrent": "lists",
        "operation": "numbers",
        "reads": "lists",
    },
    "asked": {"owner": "numbers", "server": "numbers", "event": "numbers", "answer": "names", "standing": "numbers"},
    "arrivals": {
        "owner": "numbers",
        "server": "numbers",
        "event": "numbers",
        "source": "numbers",
        "message": "numbers",
        "stood": "flags",
    },
    "reasons": {"owner": "numbers", "text": "texts"},
    "clocks": {"owner": "numbers", "text": "texts"},
    "lives": {"process": "numbers", "began": "numbers", "ended": "numbers"},
    "lines": {"event": "numbers", "where": "texts", "text": "texts", "answer": "texts", "error": "texts"},
}
"""Each table: its columns and their types. What belongs to a record of another table names it as its *owner*."""

OWNED = {
    "asked": ("operations", "asked"),
    "arrivals": ("writes", "arrivals"),
    "reasons": ("operations", "why"),
    "clocks": ("writes", "clock"),
}
"""Tables whose records belong to those of another: to which, and what they are called there. A text has no columns."""


def packed(story: Story, **more: Any) -> str:
    """Return a story, with *more* values for the page, as one line of letters that means nothing in HTML."""
    compressor = zlib.compressobj(6)
    pieces = [compressor.compress(piece.encode("utf-8", "backslashreplace")) for piece in _json(story, more)]
    return base64.b64encode(b"".join([*pieces, compressor.flush()])).decode()


def _json(story: Story, more: dict[str, Any]) -> Iterator[str]:
    """The text that is deflated, in pieces, since the whole of it would be large."""
    plain = {
        "version": story.version,
        "options": story.options,
        "scripts": story.scripts,
        "length": story.length,
        "processes": story.processes,
        "changes": story.changes,
        "partitions": story.partitions,
        "staleness": story.staleness,
        "opening": story.opening,
        **more,
    }
    yield _text(plain)[:-1]
    yield ',"tables":'
    separator = "{"
    for table, columns in COLUMNS.items():
        yield f'{separator}"{table}":'
        separator = ","
        inner = "{"
        for column, kind in columns.items():
            yield f'{inner}"{column}":'
            yield _text([kind, *_PACK[kind](list(map(_getter(table, column), _records(story, table))))])
            inner = ","
        yield "}"
    yield "}}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _records(story: Story, table: str) -> Iterable[Any]:
    """The records of a table; those that belong to others, each together with the number of its owner."""
    if table not in OWNED:
        records: Iterable[Any] = getattr(story, table)
        return records
    owners, name = OWNED[table]
    return ((number, one) for number, owner in enumerate(getattr(story, owners)) for one in getattr(owner, name))


def _getter(table: str, column: str) -> Callable[[Any], Any]:
    """How to get a column from what `_records` returns."""
    if table not in OWNED:
        return attrgetter(column)
    if column in ("owner", "text"):
        return itemgetter(column == "text")
    return lambda record: getattr(record[1], column)


# -- columns -----------------------------------------------------------------------------------------------------


def _numbers(values: Sequence[int | None]) -> tuple[list[int | None]]:
    last = 0
    differences: list[int | None] = []
    for value in values:
        differences.append(None if value is None else value - last)
        last = last if value is None else value
    return (differences,)


def _times(values: Sequence[float]) -> tuple[list[int | None]]:
    return _numbers([round(10 * value) for value in values])


def _names(values: Sequence[str]) -> tuple[list[str], list[int]]:
    positions: dict[str, int] = {}
    numbers = [positions.setdefault(value, len(positions)) for value in values]
    return list(positions), numbers


def _lists(values: Sequence[Sequence[int]]) -> tuple[list[int], list[int | None]]:
    return [len(value) for value in values], *_numbers([number for value in values for number in value])


_PACK: dict[str, Callable[[Any], tuple[list[Any], ...]]] = {
    "numbers": _numbers,
    "times": _times,
    "names": _names,
    "lists": _lists,
    "texts": lambda values: (values,),
    "flags": lambda values: ([int(value) for value in values],),
}
