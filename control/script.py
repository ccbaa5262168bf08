"""Reading a script: the lines that arrive on a descriptor, and the steps that they contain.

May live here: reading, splitting into lines, and checking whether more input is waiting. May not: what a command means
(control/commands.py) or does; printing.
"""

from __future__ import annotations

import codecs
import itertools
import os
import select
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from control import commands

__all__ = ["LineReader", "Script", "Step", "wait_for"]

READ_BYTES = 64 << 10  # larger buffers are handed out page by page, which takes 40 µs for each read
READY_READS = 64
READY_LINES = 1000
"""How many reads and lines may be spent on finding out whether another command is waiting, since answers may be waiting
to be printed meanwhile."""


class Step(NamedTuple):
    """A line of a script that contains a command, or an error; or, for programs, a line with neither."""

    where: str
    """The place in the script, for example "line 12"."""
    command: commands.Command | None
    error: str = ""
    number: int = 0
    text: bytes = b""
    """The line without the blanks around it, for programs."""

    @property
    def size(self) -> int:
        """The size of the command's key and value, in bytes."""
        return len(self.command.key) + len(self.command.value) if self.command else 0


class Script:
    """The steps of a script, as they are read."""

    def __init__(
        self, fd: int, name: str, show: Callable[[bytes], None] | None = None, for_programs: bool = False
    ) -> None:
        """*fd*: the descriptor to read from. *name*: the beginning of `Step.where`, before the line number.

        *show* is called with each line that is read, including comments and empty lines. *for_programs*: each line is a
        step.
        """
        self._lines = LineReader(fd)
        self._name = name
        self._show = show
        self._for_programs = for_programs
        self._number = 0
        self._waiting: Step | None = None
        self.position = 0
        """How many bytes of the script have been read as lines so far, approximately."""

    def next(self) -> Step | None:
        """The next step; None at the end of the script. Blocks until one has arrived."""
        step, self._waiting = self._waiting, None
        try:
            while step is None:
                step = self._parse(self._lines.next())
        except EOFError:
            return None
        return step

    @property
    def number(self) -> int:
        """The number of the line that was read last."""
        return self._number

    @property
    def failure(self) -> str:
        """Why reading has failed; empty if it has not."""
        return self._lines.failure

    @property
    def is_over(self) -> bool:
        """Whether it has no steps at all, as far as that is known already. Never blocks."""
        return not self.ready() and self._lines.is_over

    def put_back(self, step: Step) -> None:
        """Have `next` return this step once more. There must be no other step that is put back."""
        self._waiting = step

    def ready(self) -> bool:
        """Whether another step has already arrived. Never blocks, and gives up after `READY_LINES` comments."""
        for _ in range(READY_LINES):
            if self._waiting is not None or not self._lines.ready():
                break
            self._waiting = self._parse(self._lines.next())
        return self._waiting is not None

    def upcoming(self) -> Iterator[commands.Command]:
        """The commands that come next, as far as their lines have been read, and up to the first error."""
        if self._waiting is not None and self._waiting.command is not None:
            yield self._waiting.command
        for line in itertools.takewhile(lambda line: line is not None, self._lines.arrived):
            try:
                command = commands.parse(line or b"", self._for_programs)
            except commands.CommandError:
                return
            if command is not None:
                yield command

    def _parse(self, line: bytes | None) -> Step | None:
        self._number += 1
        self.position += 1 + (commands.MAX_LINE if line is None else len(line))
        where = f"{self._name} {self._number}"
        if line and self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)  # some editors write it at the beginning of files
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
    """The lines that arrive on a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._readable = select.poll()
        self._readable.register(fd, select.POLLIN)
        self.arrived: deque[bytes | None] = deque()
        """The lines that `next` will return, as far as they have been read."""
        self._pieces: list[bytes] = []  # the pieces of a line whose end has not arrived
        self._size = 0  # the size of that line, including what was dropped because it is too long
        self._ended = False
        self.failure = ""
        """Why reading has failed; empty if it has not. A failure ends the lines."""

    def next(self) -> bytes | None:
        """The next line without its line end; None for a line that is too long. Blocks. Raises EOFError at the end."""
        while not self.arrived:
            if self._ended:
                raise EOFError
            self._read()
        return self.arrived.popleft()

    def ready(self) -> bool:
        """Whether a line has already arrived. Never blocks, and gives up after `READY_READS` reads."""
        for _ in range(READY_READS):
            if self.arrived or self._ended or not self._readable.poll(0):
                break
            self._read()
        return bool(self.arrived)

    @property
    def is_over(self) -> bool:
        """Whether `next` has reached the end of what could be read without a failure."""
        return self._ended and not self.arrived and not self.failure

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
                self.arrived.append(self._line())
            return
        first, *others = data.split(b"\n")
        self._extend(first)
        if others:
            self.arrived.append(_without_cr(self._line()))
            *whole, last = others
            self.arrived.extend(map(_without_cr, whole) if b"\r" in data else whole)
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


def wait_for(fd: int, event: int) -> None:
    """Wait until a descriptor is ready. *event*: `select.POLLIN` or `select.POLLOUT`."""
    poller = select.poll()  # select.select accepts no descriptor above 1,023
    poller.register(fd, event)
    poller.poll()


def _without_cr(line: bytes | None) -> bytes | None:
    return line and line.removesuffix(b"\r")
