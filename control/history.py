"""The history of a run: its operations and their outcomes, as JSON Lines in the vocabulary of Jepsen.

May live here: the format of a history, and writing it to a file. May not: what a command means, and who carries it out.
docs/history.md describes each field; scripts/check.py decides whether a history keeps the contract.

A line records that an operation begins (*invoke*) or how it has ended: *ok*, *fail* (it has certainly done nothing) or
*info* (it may have done something). The first line is written to the file before the operation is under way, and the
second before anything of its answer is printed. Several operations that are under way at once are recorded by one
write. A run that is killed therefore leaves a complete history of what it did, and at worst the last line is torn.

JSON has no bytes. Keys and values are read as UTF-8, and each byte that is not valid becomes a lone surrogate (PEP 383,
Python's surrogateescape). This loses nothing, and text remains readable. The lines themselves are ASCII.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any

from control.commands import Uncertain
from control.no_history import NoHistory
from messages import Command, Missing, NoValue, Outcome, Store, Stored, Unsatisfied, Value

__all__ = ["FORMAT", "History"]

FORMAT = 1
"""The version of the format, which the first line of each history contains."""

MASTER = '"master"'
"""The process of all operations that do not belong to a client."""


class History(NoHistory):
    """The history of a run, as it is written. The lines are in the file once `flush` has returned."""

    def __init__(self, path: Path, options: dict[str, Any], warn: Callable[[str], None]) -> None:
        """Create or overwrite the file. *options*: those of the run. Raises OSError if the file can't be written.

        If it can't be written later, *warn* is called once with a description, and nothing more is written.
        """
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self.path = path
        self._warn = warn
        self._start = time.monotonic_ns()
        self._index = 0
        self.under_way = 0
        """How many operations have begun whose end has not been recorded."""
        self._lines = [json.dumps({"history": FORMAT, **options}) + "\n"]
        self.flush()

    # -- lines ---------------------------------------------------------------------------------------------

    def invoke(self, commands: Iterable[Command]) -> None:
        """Record that these commands begin, in this order, and flush."""
        now = time.monotonic_ns() - self._start
        for command in commands:
            self._add("invoke", command, _invoked(command), now)
            self.under_way += 1
        self.flush()

    def complete(self, command: Command, outcome: Outcome) -> None:
        """Record that a command has succeeded, with this outcome. Does not flush."""
        value, more = _invoked(command), ""
        match outcome:
            case Stored(server, timestamp):
                more = f', "server": {server}, "timestamp": {timestamp}'
            case Value(read, server, timestamp):
                value, more = _pair(command.key, read), f', "server": {server}, "timestamp": {timestamp}'
            case NoValue(server):
                more = f', "server": {server}, "answer": "{Missing.KEY.value}"'
            case Unsatisfied():
                more = f', "answer": "{Missing.DEPENDENCY.value}"'
            case Store(server, entries):
                value = f"[{', '.join(_pair(key, read) for key, read, _ in entries)}]"
                more = f', "server": {server}, "timestamp": {[timestamp for _, _, timestamp in entries]}'
        self.under_way -= 1
        self._add("ok", command, value, time.monotonic_ns() - self._start, more)

    def fail(self, command: Command, error: Exception) -> None:
        """Record that a command was an error, and flush. After `Uncertain` it may have been carried out."""
        if isinstance(error, Uncertain):
            self._failed("info", command, f"{error}", f', "timestamp": {error.timestamp}')
        else:
            self._failed("fail", command, f"{error}")

    def lose_sight(self, command: Command, why: str) -> None:
        """Record that it is not known whether a command was or will be carried out, and flush."""
        self._failed("info", command, why)

    def notice(self, what: str, ids: Iterable[int], text: str) -> None:
        """Record an event that no command has caused, such as a death, and flush. *what*: the kind of event."""
        now = time.monotonic_ns() - self._start
        self._lines.append(
            f'{{"index": {self._index}, "type": "info", "process": {MASTER}, "f": "{what}", '
            f'"value": {list(ids)}, "time": {now}, "error": {_text(text)}}}\n'
        )
        self._index += 1
        self.flush()

    def _failed(self, kind: str, command: Command, error: str, more: str = "") -> None:
        now = time.monotonic_ns() - self._start
        self.under_way -= 1
        self._add(kind, command, _invoked(command), now, f'{more}, "error": {_text(error)}')
        self.flush()

    def _add(self, kind: str, command: Command, value: str, now: int, more: str = "") -> None:
        process = command.ids[0] if command.name in ("put", "get") else MASTER
        if command.name == "shapeConnection":
            more += f', "shape": {_bytes(command.key)}'
        self._lines.append(
            f'{{"index": {self._index}, "type": "{kind}", "process": {process}, "f": "{command.name}", '
            f'"value": {value}, "time": {now}{more}}}\n'
        )
        self._index += 1

    # -- the file ------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all lines that have been added so far. Does not raise: a failure is reported by *warn*."""
        data, self._lines = "".join(self._lines).encode("ascii"), []
        try:
            while data and self._fd is not None:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._warn(f"{self.path}: {error.strerror}; the history ends here")
            self.close()

    def close(self) -> None:
        """Close the file. Nothing is written from now on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _invoked(command: Command) -> str:
    """The field *value* of a line about a command, as long as its result is not known."""
    if command.name == "put":
        return _pair(command.key, command.value)
    if command.name == "get":
        return f"[{_bytes(command.key)}, null]"
    return f"{list(command.ids)}"


def _pair(key: bytes, value: bytes) -> str:
    return f"[{_bytes(key)}, {_bytes(value)}]"


def _bytes(data: bytes) -> str:
    return _text(data.decode("utf-8", "surrogateescape"))


def _text(text: str) -> str:
    """A JSON string, in ASCII."""
    return quoted(text)
