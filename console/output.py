"""Writing to stdout and stderr, completely and in order, also if a terminal shows a progress line at the same time.

May live here: writing to standard streams, and what follows if they can't be written to. May not: what is written.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from control.script import wait_for

__all__ = [
    "REMOVE",
    "ROOM",
    "Hidden",
    "OutputGone",
    "dressed_for",
    "fill_closed_streams",
    "hidden_when_writing",
    "output_gone",
    "say",
    "write_all",
]


class OutputGone(Exception):
    """Standard output can't be written to. The text says why; it is empty if the reader has closed it."""


def dressed_for(fd: int) -> Callable[[bytes], bytes]:
    """A function that formats a line of a script for `--show`: a command follows `> `, other lines stay as they are.

    If the descriptor *fd* is a terminal, colours are used.
    """
    is_plain = not os.isatty(fd) or os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("", "dumb", "unknown")
    dim, bold, plain = (b"", b"", b"") if is_plain else (b"\x1b[2m", b"\x1b[1m", b"\x1b[0m")

    def dressed(line: bytes) -> bytes:
        text = line.strip(b" \t")
        if text and not text.startswith(b"#"):
            return dim + b"> " + plain + bold + text + plain + b"\n"
        return dim + line + plain + b"\n" if text else b"\n"

    return dressed


REMOVE = "\r\x1b[K"
"""Removes the line in which the cursor is, on terminals that are capable of it."""

ROOM = 8
"""Columns that a hidden line leaves free at the right for the ^C that the terminal echoes. Without them, the line would
wrap, and only a part of it would be removed."""


class Hidden(Protocol):
    """A line on the terminal that is removed at the end, and before anything else is written."""

    def hide(self) -> None:
        """Remove the line, for the moment."""

    def end(self) -> None:
        """Remove the line."""


_progress: Hidden | None = None
"""The progress line that has to be hidden before anything else is written to the terminal."""


@contextmanager
def hidden_when_writing(progress: Hidden | None) -> Iterator[None]:
    """Within this block, the progress line is hidden whenever something is written. At its end the line is removed."""
    global _progress
    before, _progress = _progress, progress
    try:
        yield
    finally:
        _progress = before
        if progress is not None:
            progress.end()


def say(text: str, dress: Callable[[str], str] = str) -> None:
    """Write one line to stderr. Control characters are escaped. If stderr can't be written to, the line is lost."""
    line = "".join(f"\\x{ord(c):02x}" if c < " " else c for c in text)
    try:
        write_all(2, (dress(line) + "\n").encode("utf-8", "surrogateescape"))
    except OutputGone:
        pass


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*, and block until that is done. Raises OutputGone."""
    if _progress is not None and data:
        _progress.hide()
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            try:
                done += os.write(fd, view[done:])
            except BlockingIOError:
                wait_for(fd, select.POLLOUT)
            except OSError as error:
                raise OutputGone("" if error.errno == errno.EPIPE else error.strerror) from error


def output_gone(gone: OutputGone) -> int:
    """Report why nothing can be printed any more; returns the exit status for that."""
    if not str(gone):
        return 128 + signal.SIGPIPE
    say(f"error: standard output: {gone}")
    return 1


def fill_closed_streams() -> None:
    """Replace closed standard streams by ones that can't be used, so that no socket gets their descriptors."""
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)
