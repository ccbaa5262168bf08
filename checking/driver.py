"""Drives a real master from a test or a program: a whole script of commands at once, or step by step.

May live here: starting a master, talking to it, and finding and signalling the processes of its run. May not: what the
answers should be.

`run` pipes a script into a master and waits for its end. `Conversation` feeds a running master: `do` returns when its
commands are done, without sleeping. It sends an unknown word after them, and waits for the error about that word.
"""

from __future__ import annotations

import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = float(os.environ.get("DAADKVS_PATIENCE", "60"))
"""How long is waited for what is bound to come. A test of a deliberate mistake, where it may not come, sets less."""


class Result(NamedTuple):
    """What a master that has ended left: its output and its exit status."""

    stdout: bytes
    stderr: str
    status: int

    @property
    def errors(self) -> list[str]:
        return self.stderr.splitlines()


def command(*options: str) -> list[str]:
    """The command line of a master."""
    return [sys.executable, str(ROOT / "master.py"), *options]


def run(
    script: str | bytes,
    *options: str,
    cwd: Path | None = None,
    timeout: float = LIMIT_SECONDS,
    environment: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Result:
    """Pipe a script into a master and wait for its end.

    *environment*: variables to set besides the inherited ones. *prefix*: a command that becomes the master.
    """
    data = script.encode() if isinstance(script, str) else script
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(
        [*prefix, *command(*options)],
        input=data,
        capture_output=True,
        cwd=cwd,
        timeout=timeout,
        check=False,
        env=variables,
    )
    return Result(done.stdout, done.stderr.decode("utf-8", "surrogateescape"), done.returncode)


class Output(NamedTuple):
    """What commands printed: raw stdout, and the error lines without `error: line N: `."""

    stdout: bytes
    errors: list[str]

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode("utf-8", "surrogateescape").splitlines()


class Conversation:
    """A running master. At the end of its `with` block it is ended, and nothing of it may be left."""

    def __init__(
        self,
        *options: str,
        environment: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        begin: tuple[str, ...] = (),
    ) -> None:
        """*prefix*: a command that becomes the master. *begin*: the command that starts it, before the options."""
        self.process = subprocess.Popen(
            [*prefix, *((*begin, *options) if begin else command(*options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stderr is not None
        self._errors: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        self._marks = 0
        self._sent = 0  # lines
        self._printed = bytearray()
        self.numbers: list[int] = []
        """For each error of the last `do`: its line, counted from 1 for the first one sent; 0 if it names no line."""
        self.run_directory: str | None = None

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.put(line.decode("utf-8", "surrogateescape").rstrip("\n"))
        self._errors.put(None)

    def send(self, script: str | bytes) -> None:
        """Send commands without waiting for them."""
        data = script.encode() if isinstance(script, str) else script
        self.send_raw(data if data.endswith(b"\n") else data + b"\n")

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are. Meanwhile read what is printed, or a master that prints much would wait forever."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._sent += data.count(b"\n")
        stdin = self.process.stdin.fileno()
        os.set_blocking(stdin, False)
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                _, writable, _ = select.select([self.process.stdout], [stdin], [], LIMIT_SECONDS)
                self._printed += self._available()
                if writable:
                    done += os.write(stdin, view[done : done + select.PIPE_BUF])
        os.set_blocking(stdin, True)

    def do(self, script: str | bytes = b"") -> Output:
        """Send commands, wait until all of them are done, and return what they printed."""
        self._marks += 1
        mark = f"mark-{self._marks}"
        data = script.encode() if isinstance(script, str) else script
        before = self._sent
        self.send(data + b"\n" + mark.encode())
        errors: list[str] = []
        self.numbers = []
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            self._printed += self._available()  # or a master that prints much would wait forever
            try:
                line = self._errors.get(timeout=0.02 if self._printed else 0.2)
            except queue.Empty:
                assert time.monotonic() < deadline, f"no answer to {data[:200]!r}; the last errors: {errors[-5:]}"
                continue
            assert line is not None, f"the master ended: {errors}"
            if line.endswith(f"unknown command: {mark}"):
                self._printed += self._available()
                stdout, self._printed = bytes(self._printed), bytearray()
                return Output(stdout, errors)
            match = re.match(r"(?:(?:error|warning): (?:line (\d+): )?)?", line)
            assert match is not None
            errors.append(line[match.end() :])
            self.numbers.append(int(match[1]) - before if match[1] else 0)

    def _available(self) -> bytes:
        """Read what is on stdout now."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        data = bytearray()
        while select.select([fd], [], [], 0)[0]:
            piece = os.read(fd, 1 << 20)
            if not piece:
                break
            data += piece
        return bytes(data)

    # -- failures from outside -----------------------------------------------------------------------------

    def pids(self) -> dict[str, int]:
        """Find the processes of this run: name ("spawner", "watchdog 3", "server 3", "client 5") -> process id."""
        found = {}
        for pid, title in titles().items():
            match = re.match(r"daadkvs (\w+(?: \d+)?) \((\S+)\)", title)
            if match and self._owns(match[2]):
                found[match[1]] = pid
        return found

    def _owns(self, directory: str) -> bool:
        if self.run_directory is None:
            try:
                owner = Path(directory, "owner").read_text().split()
            except OSError:
                return False
            if owner[:3] != ["master", str(self.process.pid), start_time(self.process.pid)]:
                return False
            self.run_directory = directory
        return self.run_directory == directory

    def signal(self, name: str, signum: int) -> None:
        """Send a signal to one process by its name, and wait until it has taken effect."""
        send_signal(self.pids()[name], signum, name)

    # -- the end -------------------------------------------------------------------------------------------

    def end(self) -> int:
        """Close stdin, and return the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._reader.join(LIMIT_SECONDS)  # first, since `wait` with a limit only looks now and then
        return self.process.wait(LIMIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pids()  # learns the run's directory
        try:
            if self.process.poll() is None:
                self.end()
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(LIMIT_SECONDS)
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()
        left = self.pids()
        if self.run_directory is not None:
            wait_until(lambda: not self.pids(), f"the end of {left}")
            assert not Path(self.run_directory).exists()


def run_directory(master: int) -> Path | None:
    """Return the directory of a master's run; None if there is none yet, or none any more."""
    for owner in Path("/tmp").glob(f"daadkvs-{os.geteuid()}-*/owner"):
        try:
            if owner.parent.lstat().st_uid == os.geteuid() and owner.read_text().split()[:3] == [
                "master",
                str(master),
                start_time(master),
            ]:
                return owner.parent
        except OSError:
            pass  # it has just gone
    return None


def start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; "gone" if it has ended.

    Process ids are reused, but a process id together with its start time is not.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "gone"


def processes(directory: Path) -> dict[str, int]:
    """Find the processes of a run, as `Conversation.pids` does; the master is not among them."""
    found = {}
    for pid, title in titles().items():
        match = re.fullmatch(r"daadkvs (\w+(?: \d+)?) \((\S+)\)", title)
        if match and match[2] == str(directory):
            found[match[1]] = pid
    return found


def state(pid: int) -> str:
    """Return the state letter of a process as /proc shows it; "x" if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "x"


def states(pid: int) -> list[str]:
    """Return the state letters of all threads of a process. (One whose first thread has ended may look ended.)"""
    try:
        return [state(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def send_signal(pid: int, signum: int, name: str) -> None:
    """Send SIGKILL, SIGSTOP or SIGCONT to a process, and wait until it has taken effect."""
    os.kill(pid, signum)
    wanted = {signal.SIGKILL: "ZXx", signal.SIGSTOP: "T", signal.SIGCONT: "RSDZ"}[signal.Signals(signum)]
    wait_until(lambda: all(letter in wanted for letter in states(pid)), f"{name} after signal {signum}")


def titles() -> dict[int, str]:
    """Return process id -> command line, for all processes of this machine that are not zombies."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title:
                found[int(entry.name)] = title.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return found


def wait_until(condition: object, what: str, seconds: float = LIMIT_SECONDS, poll_seconds: float = 0.005) -> None:
    """Poll for something that cannot be awaited, such as the end of a process that is not a child of ours.

    Raises AssertionError after *seconds*.
    """
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(poll_seconds)
