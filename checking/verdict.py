"""The verdict on a history, and how scripts/check.py prints it.

May live here: reading a history, and wording what the checker has found. May not: what makes a history valid
(checking/checker.py).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from checking.checker import Checker
from checking.findings import Impossible, Invalid, Unknown, show
from checking.lines import wrong_with

__all__ = ["Verdict", "check", "report"]

FORMAT = 1
"""The only format of histories that can be read."""


class Verdict(NamedTuple):
    """The verdict on a history."""

    verdict: str
    why: str
    lines: list[int]
    operations: int
    broken: dict[str, list[str]]
    """Guarantee that is not promised -> how often it did not hold, and the first few cases."""


def check(path: Path) -> Verdict:
    """Read a history and judge it. Raises OSError."""
    checker: Checker | None = None
    undecided: str | None = None
    invalid: Invalid | None = None
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    undecided = (
                        f"line {line} is torn: the history ends in the middle of it; all lines before it are valid"
                    )
                    break
                if checker is None:
                    checker = _begin(raw)
                else:
                    _take(checker, line, raw)
        if checker is None:
            raise Unknown("there is no header: line 1 must be the header of a history")
        checker.finish()
    except Unknown as unknown:
        undecided = str(unknown)
    except Invalid as found:
        invalid = found
    operations = checker.operations if checker else 0
    broken = _broken(checker) if checker else {}
    if invalid is not None:
        doubt = checker.doubt if checker else None
        text = _sentence(path, invalid) if isinstance(invalid, Impossible) else str(invalid)
        if doubt is None or max(invalid.lines) < doubt[0]:
            return Verdict("invalid", text, invalid.lines, operations, broken)
        undecided = f"line {doubt[0]}: {doubt[1]}; this may explain the following: {text}"
    if undecided is None and checker is not None and checker.undecided:
        undecided = f"{checker.undecided} keys have too many ways in which gossip can have run"
    return Verdict("unknown" if undecided else "valid", undecided or "", [], operations, broken)


def _begin(raw: bytes) -> Checker:
    try:
        header = json.loads(raw)
        found = header["history"]
        if found == FORMAT:
            return Checker(header)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unknown("there is no header: line 1 must be the header of a history") from None
    raise Unknown(f"line 1: the history's format is {found!r}; this program reads format {FORMAT}")


def _take(checker: Checker, line: int, raw: bytes) -> None:
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        raise Unknown(f"line {line} is not JSON") from None
    wrong = wrong_with(entry)
    if wrong:
        raise Unknown(f"line {line}: not a line of a history: {wrong}")
    try:
        checker.take(line, entry)
    except UnicodeEncodeError:
        raise Unknown(f"line {line}: not a line of a history: a key that does not stand for bytes") from None


def _broken(checker: Checker) -> dict[str, list[str]]:
    return {name: [str(checker.broken_count[name]), *cases] for name, cases in checker.broken.items()}


def _sentence(path: Path, found: Impossible) -> str:
    """Say why something is impossible, in the words of the lines that show it."""
    because, cuts = found.because[:6], found.cuts[:6]
    wanted = {found.line, found.written, *(line for line, _ in because), *cuts}
    with path.open("rb") as file:
        entry = {line: json.loads(raw) for line, raw in enumerate(file, 1) if line in wanted}
    text = f"line {found.line}: {_described(entry[found.line], found.name, found.server)}"
    if found.written and found.written != found.line:
        text += f" (put in line {found.written} at server {entry[found.written].get('server', '?')})"
    reasons = [f"line {line}: {_described(entry[line], found.name, server)}" for line, server in because]
    reasons += [f"line {line}: {_described(entry[line], found.name, None)}" for line in cuts]
    left = len(found.because) + len(found.cuts) - len(reasons)
    listed = "; ".join([*reasons, f"and {left} more lines"] if left else reasons)
    if found.because:
        return f"{text}, which is impossible, because of {listed}"
    return f"{text}, {found.otherwise}{f', because of {listed}' if listed else ''}"


def _described(entry: dict[str, Any], name: str, server: int | None) -> str:
    """Say what a line says about a key.

    *server*: the server whose state it speaks about; None for any.
    """
    f, process, value, at = entry["f"], entry["process"], entry["value"], entry.get("server")
    if f == "put":
        return f"client {process} put {show(name)}={show(value[1])} at server {at}"
    if f == "get" and entry.get("answer") == "ERR_DEP":
        behind = "" if server is None else f", as if server {server} were behind"
        return f"client {process} got ERR_DEP for {show(name)}{behind}"
    if f == "get" and entry.get("answer") == "ERR_KEY" and server in (None, at):
        return f"client {process} got ERR_KEY for {show(name)} from server {at}"
    if f == "get" and server in (None, at):
        return f"client {process} read {show(name)}={show(value[1])} from server {at}"
    if f == "get":
        return f"client {process} was answered for {show(name)} by server {at}, as if server {server} were behind"
    if f == "printStore":
        shown = dict(value)
        what = f"{show(name)}={show(shown[name])}" if name in shown else f"no {show(name)}"
        return f"server {at}'s store shows {what}"
    return f"{f} {' '.join(map(str, value))}".rstrip()


def report(path: Path, verdict: Verdict) -> list[str]:
    """Return the lines to print."""
    if verdict.verdict == "valid":
        lines = [f"valid: {verdict.operations} operations"]
    else:
        lines = [f"{verdict.verdict}: {verdict.why}"]
    if verdict.lines:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                if line in verdict.lines:
                    text = raw.decode("ascii", "replace").rstrip("\n")
                    lines.append(f"  {line}: {text if len(text) <= 300 else text[:297] + '...'}")
    for name, (count, *cases) in verdict.broken.items():
        if cases:
            lines.append(
                f"(not a fault) {name} across keys, which is not promised, did not hold {count} times; {cases[0]}"
            )
    if any(re.search(r"\bline [0-9]", text) for text in lines):
        lines.append(f"(lines are those of {path})")
    return lines
