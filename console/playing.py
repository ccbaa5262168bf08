"""Running a script at the prompt: `run` and `step`.

May live here: which line of the script comes next, how it is shown, and the keys that step waits for. May not: what a
line does (master.py).
"""

from __future__ import annotations

import os
import select
import stat
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from console.output import REMOVE, dressed_for
from console.status import wrapped
from control.script import Script, Step

__all__ = ["Player", "Stage", "read_terminal"]

ENTER, ESCAPE, CTRL_D = b"\r\n", b"\x1b", b"\x04"

SEQUENCE_SECONDS = 0.05
"""How soon the rest of a key follows that sends Escape and more, such as an arrow."""

ASKED = "Enter runs it, Esc ends "


class Stage(Protocol):
    """Where a script is played."""

    terminal: int
    """The descriptor of the terminal to write to."""
    capable: bool
    """Whether a line of it can be removed."""
    woken: int
    """A descriptor that is readable after a signal."""

    def interrupted(self) -> bool:
        """Whether there was a Ctrl-C since the script began."""

    def columns(self) -> int:
        """How wide the terminal is."""

    def show(self, text: str) -> None:
        """Write to the terminal."""

    def carry_out(self, step: Step) -> None:
        """Carry out one step, and show its answer or error."""


class Player:
    """Plays a script on a stage."""

    def __init__(self, stage: Stage, name: str, stepping: bool) -> None:
        """*stepping*: wait for Enter before each line. Raises OSError if there is no such file."""
        self._stage = stage
        self._name = name
        self._stepping = stepping
        self._fd = _open(name)
        self._dress = dressed_for(stage.terminal)
        self._script = Script(self._fd, f"{name}: line", self._show)

    def play(self) -> str:
        """Run the script, until its end, Ctrl-C or Esc; returns why it can't be read on, if that is so."""
        try:
            while True:
                step = self._script.next()
                if step is None:
                    return self._script.failure
                if self._stage.interrupted() or (self._stepping and not self._may_go_on()):
                    self._stage.show(f"({self._name} ends here; line {self._script.number} and the rest are not run)\n")
                    return ""
                self._stage.carry_out(step)
        finally:
            os.close(self._fd)

    def _show(self, line: bytes) -> None:
        """Show a line with its number, which `why` understands. Comments are broken between words."""
        text = "".join(c if c.isprintable() else " " for c in line.decode("utf-8", "replace"))
        number = f"{self._script.number:3} "
        shown = [text]
        if text.lstrip().startswith("#"):
            shown = [part.strip() for part in wrapped(" " * len(number), text.strip(), self._stage.columns())]
        for part in shown:
            self._stage.show((number if text.strip() else "") + self._dress(part.encode()).decode())
            number = " " * len(number)

    # -- keys ----------------------------------------------------------------------------------------------

    def _may_go_on(self) -> bool:
        """Wait for a key; returns whether it was Enter."""
        with _single_keys():
            self._stage.show(ASKED)
            goes_on = self._key() in ENTER
        self._stage.show(REMOVE if self._stage.capable else "\n")
        return goes_on

    def _key(self) -> bytes:
        """Enter or Escape, which Ctrl-C, Ctrl-D and the end of the terminal count as. Other keys do nothing."""
        while True:
            ready = select.select([0, self._stage.woken], [], [])[0]
            if self._stage.woken in ready:
                if self._stage.interrupted():
                    return ESCAPE
                os.read(self._stage.woken, 4096)
                continue
            key = read_terminal(1)
            if key == ESCAPE and select.select([0], [], [], SEQUENCE_SECONDS)[0]:
                _skip_sequence()
            elif key in (b"", ESCAPE, CTRL_D):
                return ESCAPE
            elif key in ENTER:
                return key


def read_terminal(most: int) -> bytes:
    """At most so many bytes that have been typed; none at the end of the terminal. Blocks."""
    try:
        return os.read(0, most)
    except OSError:
        return b""  # the terminal has disappeared


def _skip_sequence() -> None:
    """Read what follows an Escape: a letter, or `[` or `O` and what ends with a letter or `~`."""
    key = read_terminal(1)
    while key in (b"[", b"O") or b" " <= key < b"@":
        key = read_terminal(1)


def _open(name: str) -> int:
    """Open a file to read from. Raises OSError for anything else as well, since that might be waited for for ever."""
    fd = os.open(os.path.expanduser(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise OSError(0, "is a directory" if stat.S_ISDIR(mode) else "is no file")
    return fd


@contextmanager
def _single_keys() -> Iterator[None]:
    """Within this block, keys arrive one by one, and the terminal doesn't show them; Ctrl-C stays a signal."""
    try:
        before = termios.tcgetattr(0)
    except termios.error:  # the terminal has disappeared
        yield
        return
    changed = [*before]
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(0, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        except termios.error:
            pass
