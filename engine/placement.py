"""Which process is to be on which host: the file that `--place` names.

May live here: the format of that file. May not: which hosts there are, and where a process is in the end
(engine/hosts.py).

A line is `ID: HOST` or `FIRST-LAST: HOST`. Blanks don't count, nor do empty lines and those that begin with `#`. If
several lines name an id, the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Places", "natural", "parse"]

_LINE = re.compile(r"(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?:\s*(\S(?:.*\S)?)", re.ASCII)


class _Range(NamedTuple):
    first: int
    last: int
    host: str


class Places:
    """Where processes are to be, as far as a file says."""

    def __init__(self, ranges: Iterable[_Range] = ()) -> None:
        self._ranges = list(ranges)

    def of(self, ident: int) -> str | None:
        """The host on which a process is to be; None if that is not said."""
        for first, last, host in reversed(self._ranges):
            if first <= ident <= last:
                return host
        return None


def parse(lines: Iterable[str]) -> Places:
    """What these lines say. Raises ValueError, with the number of the line, if one of them says nothing."""
    ranges = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError(f"line {number}: not of the form `ID: HOST` or `FIRST-LAST: HOST`: {text}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"line {number}: no ids are from {first} to {last}")
        ranges.append(_Range(first, last, match[3]))
    return Places(ranges)


def natural(name: str) -> list[str | int]:
    """A key by which hosts are sorted, so that worker-2 comes before worker-10."""
    return [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", name)]
