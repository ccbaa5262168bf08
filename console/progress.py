"""The progress of a long script: one line on stderr, which is updated from time to time and removed at the end.

May live here: everything that depends on tqdm, which is imported when the line is first drawn. May not: counting.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING

from console.output import REMOVE, ROOM

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "progress_of"]

SILENT_SECONDS = 1.0
"""A script that takes less time than this shows no progress."""

DRAW_SECONDS = 0.1
"""The shortest time between two updates."""

USUAL_COLUMNS = 80
"""The width that is assumed if the terminal does not report one."""

FORM = "{desc} {percentage:3.0f}% |{bar}| {remaining} left"


def progress_of(fd: int) -> Progress | None:
    """A progress line for the script that is read from *fd*.

    None if the size of the script is not known, or stderr is no terminal on which a line can be replaced.
    """
    if os.environ.get("TERM", "") in ("", "dumb", "unknown") or not os.isatty(2):
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return None
    size = status.st_size - os.lseek(fd, 0, os.SEEK_CUR)
    return Progress(size) if size > 0 else None


class Progress:
    """The progress line. Its methods never raise, also if the terminal disappears."""

    def __init__(self, size: int) -> None:
        """*size*: the size of the script, in bytes."""
        self._size = size
        self._commands = 0
        self._started = time.monotonic()
        self._due = self._started + SILENT_SECONDS
        self._bar: tqdm[None] | None = None
        self._drawn = False

    def done(self, commands: int, position: int) -> None:
        """Note that this many more commands are done, and that the script has been read up to *position*, in bytes."""
        self._commands += commands
        now = time.monotonic()
        if now >= self._due:
            self._due = now + DRAW_SECONDS
            self._draw(now - self._started, min(position, self._size))

    def hide(self) -> None:
        """Remove the line, until `done` draws it again."""
        if self._drawn:
            try:
                sys.stderr.write(REMOVE)  # to the end of the terminal's line, not just of the bar's
                sys.stderr.flush()
            except OSError:
                pass
            self._drawn = False  # only now, since a signal may end the run at any moment

    def end(self) -> None:
        """Remove the line, and never draw it again."""
        self._due = float("inf")
        self.hide()

    def _draw(self, seconds: float, position: int) -> None:
        try:
            if self._bar is None:
                self._bar = _bar(self._size)
                self._bar.start_t -= seconds  # the estimate of the time left is based on the whole run
            self._bar.n = position
            self._bar.set_description_str(
                f"{self._commands:,} commands, {self._commands / seconds:,.0f}/s", refresh=False
            )
            self._drawn = True
            self._bar.ncols = _width()
            self._bar.refresh()
        except OSError:
            pass  # the terminal has gone, and the run will end


def _width() -> int:
    try:
        columns = os.get_terminal_size(2).columns  # 0 if it has not been set
    except OSError:
        columns = 0
    return max(1, (columns or USUAL_COLUMNS) - ROOM)


def _bar(size: int) -> tqdm[None]:
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # the default lock is shared between processes
    tqdm.monitor_interval = 0  # tqdm starts no thread
    return tqdm(total=size, file=sys.stderr, leave=False, ncols=_width(), bar_format=FORM, delay=1e9)
