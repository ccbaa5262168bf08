"""What is written to stdout and stderr, whole and in order, also where that is a terminal with a progress line on it.

May live here: writing to standard streams, and what becomes of a run that nobody reads any more. May not: what is said.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from control.script import wait_for

if TYPE_CHECKING:
    from console.progress import Progress

__all__ = ["OutputGone", "dressed_for", "fill_closed_streams", "hidden_when_writing", "output_gone", "say", "write_all"]


class OutputGone(Exception):
    """Nobody reads stdout any more, or it takes no more; the text says why, unless that is an ordinary end."""


def dressed_for(fd: int) -> Callable[[bytes], bytes]:
    """How `--show` shows a line of a script: a command behind `> `, the rest as it is; at a terminal, with colours."""
    is_plain = not os.isatty(fd) or os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("", "dumb", "unknown")
    dim, bold, plain = (b"", b"", b"") if is_plain else (b"\x1b[2m", b"\x1b[1m", b"\x1b[0m")

    def dressed(line: bytes) -> bytes:
        text = line.strip(b" \t")
        if text and not text.startswith(b"#"):
            return dim + b"> " + plain + bold + text + plain + b"\n"
        return dim + line + plain + b"\n" if text else b"\n"

    return dressed


_progress: Progress | None = None
"""The line that is to be taken away before anything else is written to the terminal."""


@contextmanager
def hidden_when_writing(progress: Progress | None) -> Iterator[None]:
    """Within this block, what is written takes the progress line's place; at its end the line is gone."""
    global _progress
    _progress = progress
    try:
        yield
    finally:
        _progress = None
        if progress is not None:
            progress.end()


def say(text: str, dress: Callable[[str], str] = str) -> None:
    """One line on stderr, whatever a file's name may hold; where nobody reads that any more, it is lost."""
    line = "".join(f"\\x{ord(c):02x}" if c < " " else c for c in text)
    try:
        write_all(2, (dress(line) + "\n").encode("utf-8", "surrogateescape"))
    except OutputGone:
        pass


def write_all(fd: int, data: bytes) -> None:
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
    """Say why nothing can be printed any more; the exit status for that."""
    if not str(gone):
        return 128 + signal.SIGPIPE
    say(f"error: standard output: {gone}")
    return 1


def fill_closed_streams() -> None:
    """A closed standard stream would become somebody's socket. What takes its place can't be used either."""
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)
