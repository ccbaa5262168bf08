"""A run's history: what was asked and what came of it, as JSON Lines in the vocabulary of Jepsen.

May live here: how a history is spelled, and writing it to a file. May not: what a command means, or who carries it
out. docs/history.md has each field; scripts/check.py says whether a history keeps the contract.

A line says that an operation begins (*invoke*) or what came of it: *ok*, *fail* (it certainly did nothing) or *info*
(it may have done something). The lines stand in the file before the command is under way, and before anything of
its answer is printed; for several that are under way at once, one write has all of them. So a run that is killed
leaves a history of all that it did, with a torn last line at worst.

JSON has no bytes. Keys and values are UTF-8, and each byte that isn't becomes a lone surrogate, as PEP 383 has it
(Python's surrogateescape); lines are ASCII. That loses nothing, and reads well for text.
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
"""The version of this format, in the first line of each history."""

MASTER = '"master"'
"""The process of all that no client does."""


class History(NoHistory):
    """A history under way. Nothing is in the file before `flush`."""

    def __init__(self, path: Path, options: dict[str, Any], warn: Callable[[str], None]) -> None:
        """Begin a file anew; *options* are those of the run. Raises OSError where it can't be written.

        A later failure is told to *warn*, once, and nothing more is written.
        """
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self.path = path
        self._warn = warn
        self._start = time.monotonic_ns()
        self._index = 0
        self.under_way = 0
        """How many commands have been invoked whose end is not written yet."""
        self._lines = [json.dumps({"history": FORMAT, **options}) + "\n"]
        self.flush()

    # -- lines ---------------------------------------------------------------------------------------------

    def invoke(self, commands: Iterable[Command]) -> None:
        """These commands, in this order, will be under way once this returns."""
        now = time.monotonic_ns() - self._start
        for command in commands:
            self._add("invoke", command, _asked(command), now)
            self.under_way += 1
        self.flush()

    def complete(self, command: Command, outcome: Outcome) -> None:
        """A command has done what it should, with this outcome."""
        value, more = _asked(command), ""
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
        """A command was an error."""
        if isinstance(error, Uncertain):
            self._failed("info", command, f"{error}", f', "timestamp": {error.timestamp}')
        else:
            self._failed("fail", command, f"{error}")

    def lose_sight(self, command: Command, why: str) -> None:
        """Whether a command was carried out, or still will be, is not known."""
        self._failed("info", command, why)

    def notice(self, what: str, ids: Iterable[int], text: str) -> None:
        """Something has happened by itself; this is written at once."""
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
        self._add(kind, command, _asked(command), now, f'{more}, "error": {_text(error)}')
        self.flush()

    def _add(self, kind: str, command: Command, value: str, now: int, more: str = "") -> None:
        process = command.ids[0] if command.name in ("put", "get") else MASTER
        self._lines.append(
            f'{{"index": {self._index}, "type": "{kind}", "process": {process}, "f": "{command.name}", '
            f'"value": {value}, "time": {now}{more}}}\n'
        )
        self._index += 1

    # -- the file ------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what has been added, at once."""
        data, self._lines = "".join(self._lines).encode("ascii"), []
        try:
            while data and self._fd is not None:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._warn(f"{self.path}: {error.strerror}; the history ends here")
            self.close()

    def close(self) -> None:
        """Nothing is written from now on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _asked(command: Command) -> str:
    """The value of an invocation."""
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
    """A string of JSON, in ASCII."""
    return quoted(text)
