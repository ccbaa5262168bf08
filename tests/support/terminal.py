"""A master at a pseudo-terminal, and what a user would see there. The terminal is emulated by pyte."""

from __future__ import annotations

import fcntl
import os
import platform
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pyte

from checking.driver import LIMIT_SECONDS, command, processes, run_directory, wait_until

PROMPT = "daadkvs> "
POLL = {"x86_64": "7", "aarch64": "73"}
"""The number of the system call in which an answer is awaited; a line is awaited in another."""

STEADY_SECONDS = 0.2
ROWS, COLUMNS = 300, 110  # so high that nothing scrolls away


class Terminal:
    """A terminal on which a program runs. Nothing of the run is left after the `with` block.

    Its standard streams may lead to files instead. *home* takes the history; nothing else of the user's is used.
    """

    def __init__(
        self,
        home: Path,
        *options: str,
        term: str = "xterm-256color",
        environment: dict[str, str] | None = None,
        stdin: Path | None = None,
        stdout: Path | None = None,
        stderr: Path | None = None,
        program: list[str] | None = None,
    ) -> None:
        """*program*: what to run instead of `command()`."""
        self.fd, inside = pty.openpty()
        self.resize(ROWS, COLUMNS)
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "XDG_STATE_HOME")}
        variables |= {"HOME": str(home), "TERM": term, **(environment or {})}
        with ExitStack() as files:
            ends = [
                files.enter_context(open(path, mode)) if path else inside
                for path, mode in ((stdin, "rb"), (stdout, "wb"), (stderr, "wb"))
            ]
            self.process = subprocess.Popen(
                [*program, *options] if program else command(*options),
                stdin=ends[0],
                stdout=ends[1],
                stderr=ends[2],
                env=variables,
                preexec_fn=lambda: _take_terminal(inside),
                pass_fds=(inside,),
            )
        os.close(inside)
        self.directory: Path | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                if self.process.poll() is None:
                    self.end("exit\r")
                assert b"Traceback" not in self.raw, self.raw.decode("utf-8", "replace")
                assert b"internal error" not in self.raw
                assert self.directory is None or not self.directory.exists()
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.fd)
            if self.directory is not None:
                wait_until(lambda: not processes(self.directory), "the end")
                shutil.rmtree(self.directory, ignore_errors=True)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    # -- what is shown -------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """The lines on the screen, up to that of the cursor or the last one that is not empty."""
        shown = [self._shown(row) for row in range(max(self.screen.buffer, default=-1) + 1)]
        while shown and not shown[-1] and len(shown) > self.screen.cursor.y + 1:
            shown.pop()
        return shown

    @property
    def line(self) -> str:
        """The line in which the cursor is."""
        return self._shown(self.screen.cursor.y)

    def _shown(self, row: int) -> str:
        cells = self.screen.buffer[row]
        return "".join(cells[column].data for column in range(max(cells, default=-1) + 1)).rstrip()

    def read(self, seconds: float) -> bool:
        """Read what arrives; returns whether anything has arrived, or the end."""
        if not select.select([self.fd], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other end is closed
            data = b""
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until the condition holds for the screen."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            came = self.read(deadline - time.monotonic())
            assert came or condition(), f"still waiting for {what}; the screen:\n" + "\n".join(self.lines)

    def until_shown(self, text: str) -> None:
        self.until(lambda: any(text in line for line in self.lines), text)

    def prompts(self) -> int:
        """How many prompts there are on the screen."""
        return sum(line.startswith(PROMPT.rstrip()) for line in self.lines)

    def until_prompt(self, count: int | None = None) -> None:
        """Wait for an empty prompt, or, with *count*, for the prompt with this number."""
        self.until(
            lambda: self.line == PROMPT.rstrip() and (count is None or self.prompts() == count),
            f"prompt {count or ''}",
        )

    # -- what is typed -------------------------------------------------------------------------------------

    def type(self, text: str | bytes) -> None:
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def do(self, line: str) -> list[str]:
        """Type a line at an empty prompt, and return what is shown below it, up to the next one."""
        self.until_prompt()
        count, row = self.prompts(), self.screen.cursor.y
        self.type(line + "\r")
        self.until_prompt(count + 1)
        below = self.lines[row:-1]
        assert below[0] == (PROMPT + line).rstrip()
        return below[1:]

    def until_it_waits(self) -> None:
        """Wait until the master has been waiting for a while for one answer of another process.

        Ctrl-C is a signal again a moment before the line is taken, and would only drop that.
        """
        path = Path(f"/proc/{self.process.pid}/syscall")
        deadline = time.monotonic() + LIMIT_SECONDS
        since, before = time.monotonic(), ""
        while time.monotonic() - since < STEADY_SECONDS:
            assert time.monotonic() < deadline, "it doesn't wait; the screen:\n" + "\n".join(self.lines)
            now = path.read_text()
            if now != before or now.split()[0] != POLL.get(platform.machine(), now.split()[0]):
                since, before = time.monotonic(), now
            self.read(0.005)

    def find_run(self) -> Path:
        """The directory of the run; its processes are awaited at the end."""
        self.directory = run_directory(self.process.pid)
        assert self.directory is not None
        return self.directory

    def end(self, text: str | bytes = b"") -> int:
        """Type what ends the run; returns the exit status."""
        if text:
            self.type(text)
        deadline = time.monotonic() + LIMIT_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it doesn't end; the screen:\n" + "\n".join(self.lines)
            if not self.read(0.05) and self.process.poll() is None:
                time.sleep(0.005)
        while self.read(0):
            pass
        return self.process.wait(LIMIT_SECONDS)

    def send_signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)


def _take_terminal(inside: int) -> None:
    """In the child process: become the leader of a session with this terminal."""
    os.setsid()
    fcntl.ioctl(inside, termios.TIOCSCTTY, 0)
