"""The line that says what a command of the prompt is waiting for, while that takes long.

May live here: when this line is shown, and how it is removed. May not: who is waited for (control/members.py); what
Ctrl-C does (console/prompt.py).

The line is drawn by a thread, since the one that carries out the command is waiting then. That thread sleeps until a
command begins; commands that are done within `SILENT_SECONDS` don't wake it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from console.output import REMOVE, ROOM

__all__ = ["Waiting"]

SILENT_SECONDS = 0.5
"""A command that takes less time than this shows no line."""

AGAIN_SECONDS = 0.5
"""After how long it is looked again who is waited for."""


class Waiting:
    """The line. Its methods never block but for the time that it takes to write to the terminal."""

    def __init__(
        self, capable: bool, write: Callable[[str], None], columns: Callable[[], int], whom: Callable[[], str]
    ) -> None:
        """*write* writes to the terminal, which has this many *columns*; *whom* says who is waited for, or "".

        *capable*: whether a line of this terminal can be removed. Otherwise none is drawn.
        """
        self.echoed = False
        """Whether the terminal has echoed a ^C, which is removed like the line."""
        self._capable = capable
        self._write = write
        self._columns = columns
        self._whom = whom
        self._condition = threading.Condition()
        self._since: float | None = None
        self._shown = ""
        self._asleep = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """A command begins."""
        if not self._capable:
            return
        if self._thread is None:
            thread = threading.Thread(target=self._watch, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread is to be had: then nothing is said
                return
            self._thread = thread
        with self._condition:
            self._since = time.monotonic()
            if self._asleep:
                self._condition.notify()

    def hide(self) -> None:
        """Something is to be written: remove the line. It is drawn again if waiting goes on."""
        with self._condition:
            if self._shown or self.echoed:
                self._shown, self.echoed = "", False
                self._write(REMOVE if self._capable else "\n")

    def end(self) -> None:
        """The command is done: remove the line."""
        with self._condition:
            self._since = None
            self.hide()

    def _watch(self) -> None:
        with self._condition:
            while True:
                self._asleep = self._since is None
                if self._since is None:
                    self._condition.wait()
                    continue
                left = self._since + SILENT_SECONDS - time.monotonic()
                if left <= 0:
                    self._draw()
                self._condition.wait(left if left > 0 else AGAIN_SECONDS)

    def _draw(self) -> None:
        try:
            whom = self._whom()
        except Exception:  # a mistake of ours, or the cluster has just changed: the line is not worth an error
            whom = ""
        text = f"waiting{' for ' * bool(whom)}{whom} … Ctrl-C gives up"[: max(1, self._columns() - ROOM)]
        if text != self._shown:
            self._write((REMOVE if self._shown else "") + text)
            self._shown = text
