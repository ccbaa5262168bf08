"""Reading a script: the lines of a descriptor, as they come, and the steps that they are.

May live here: reading and splitting, and looking whether more is waiting. May not: what a command means
(control/commands.py) or does; printing.
"""

from __future__ import annotations

import codecs
import os
import select
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from control import commands

__all__ = ["LineReader", "Script", "Step", "wait_for"]

READ_BYTES = 1 << 20
READY_READS = 4
READY_LINES = 1000
"""How far to look at most whether another command is waiting, while answers wait to be printed."""


class Step(NamedTuple):
    """A line of a script that is a command, or an error; or, for programs, one that is skipped, with neither."""

    where: str
    command: commands.Command | None
    error: str = ""
    number: int = 0
    text: bytes = b""
    """The line without the blanks around it, for programs."""

    @property
    def size(self) -> int:
        """How many bytes its key and value have."""
        return len(self.command.key) + len(self.command.value) if self.command else 0


class Script:
    """The steps of a script, as they are read."""

    def __init__(
        self, fd: int, name: str, show: Callable[[bytes], None] | None = None, for_programs: bool = False
    ) -> None:
        """*show* is given each line, also what is no step, when it is read. *for_programs*: each line is a step."""
        self._lines = LineReader(fd)
        self._name = name
        self._show = show
        self._for_programs = for_programs
        self._number = 0
        self._waiting: Step | None = None
        self.position = 0
        """About how many bytes have been read as steps."""

    def next(self) -> Step | None:
        """The next step; None at the end. Blocks while none is there."""
        step, self._waiting = self._waiting, None
        try:
            while step is None:
                step = self._parse(self._lines.next())
        except EOFError:
            return None
        return step

    @property
    def failure(self) -> str:
        """Why no more could be read; empty at a proper end."""
        return self._lines.failure

    def put_back(self, step: Step) -> None:
        """Have `next` return this step once more."""
        self._waiting = step

    def ready(self) -> bool:
        """Whether another step is waiting already; never blocks, nor looks for one behind any number of comments."""
        for _ in range(READY_LINES):
            if self._waiting is not None or not self._lines.ready():
                break
            self._waiting = self._parse(self._lines.next())
        return self._waiting is not None

    def _parse(self, line: bytes | None) -> Step | None:
        self._number += 1
        self.position += 1 + (commands.MAX_LINE if line is None else len(line))
        where = f"{self._name} {self._number}"
        if line and self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)  # some editors begin files with it
        if line is None:
            return Step(where, None, f"the line is longer than {commands.MAX_LINE} bytes", self._number)
        if self._show is not None:
            self._show(line)
        text = line.strip(commands.BLANKS) if self._for_programs else b""
        try:
            command = commands.parse(line, self._for_programs)
        except commands.CommandError as error:
            return Step(where, None, str(error), self._number, text)
        return Step(where, command, "", self._number, text) if command or self._for_programs else None


class LineReader:
    """The lines of a descriptor, as soon as they are there."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: deque[bytes | None] = deque()
        self._pieces: list[bytes] = []  # of the line whose end has not come yet
        self._size = 0  # of that line, also of what was dropped because it is too long
        self._ended = False
        self.failure = ""

    def next(self) -> bytes | None:
        """The next line without its end; None for one that is too long. Blocks; raises EOFError at the end."""
        while not self._lines:
            if self._ended:
                raise EOFError
            self._read()
        return self._lines.popleft()

    def ready(self) -> bool:
        """Whether a line is waiting; never blocks, nor reads on and on for the end of one."""
        for _ in range(READY_READS):
            if self._lines or self._ended or not wait_for(self._fd, select.POLLIN, 0):
                break
            self._read()
        return bool(self._lines)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            wait_for(self._fd, select.POLLIN)
            return
        except OSError as error:
            self.failure, data = str(error.strerror), b""
        if not data:
            self._ended = True
            if self._size:
                self._lines.append(self._line())
            return
        first, *others = data.split(b"\n")
        self._extend(first)
        if others:
            self._lines.append(_without_cr(self._line()))
            *whole, last = others
            self._lines.extend(map(_without_cr, whole) if b"\r" in data else whole)
            self._pieces, self._size = [], 0
            self._extend(last)

    def _extend(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= commands.MAX_LINE + 1:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _line(self) -> bytes | None:
        return b"".join(self._pieces) if self._size <= commands.MAX_LINE + 1 else None


def wait_for(fd: int, event: int, seconds: float | None = None) -> bool:
    """Wait until a descriptor is ready; whether it is. (select takes no descriptor above 1,023.)"""
    poller = select.poll()
    poller.register(fd, event)
    return bool(poller.poll(None if seconds is None else seconds * 1000))


def _without_cr(line: bytes | None) -> bytes | None:
    return line and line.removesuffix(b"\r")
