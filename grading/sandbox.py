"""Running one program with a script as its input, so that it can harm nobody and leave nothing behind.

May live here: starting the program, feeding it, the limits, and its end with all that it forked. May not: what its
output is worth.

Theory of operation
-------------------
A worker (grading/workers.py), which is a subreaper and has one thread, runs one program at a time. Where namespaces are
allowed there are two helpers between the two, forks of the worker without an interpreter of their own:

    worker ── gate, which enters the namespaces ── first, process 1 in them ── program ── whatever it forks

The first process takes over orphans, and says with which status the program has ended. When it is killed, the kernel
kills all of its world. Where namespaces aren't allowed, the program is the worker's child, orphans come to the worker,
and it kills whatever descends from it until nothing does.

RLIMIT_NPROC, by which the kernel bounds processes, counts all of a user's, and doesn't bind root. So the worker also
counts, ten times a second, and ends a program that has forked too many.
"""

from __future__ import annotations

import os
import pwd
import resource
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, NoReturn

from grading import namespaces
from grading.processes import (
    await_an_end,
    descendants,
    end_descendants,
    end_with_parent,
    gain_nothing,
    has_children,
    stay_dumpable,
)

__all__ = ["Limits", "Own", "Ran", "run"]

_LOOK_SECONDS = 0.1
"""How often processes are counted."""

_TASKS = 4
"""How many threads a process may have on average. Counting ends a program before, and says why."""

_KEPT_STDERR = 64 << 10
_READ_BYTES = 1 << 16
_MOST_PAUSES = 40
"""How long an answer is awaited that doesn't come, if lines are fed one by one."""

_HELPERS = 2
_GRACE_SECONDS = 0.25
"""How long what a program leaves may take to end by itself."""

_VARIABLES = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "JAVA_HOME", "GOROOT", "LD_LIBRARY_PATH")
"""What a program gets of our environment, which may hold secrets of whoever grades."""


Own = Callable[[Sequence[str]], NoReturn]
"""A program of ours: a function of its arguments, which is called in a forked process instead of executing a file."""


class Limits(NamedTuple):
    """What a program may use. Memory is that of each process; a file may be as large as the output."""

    seconds: float = 10.0
    memory: int = 1 << 30
    processes: int = 256
    output: int = 8 << 20


class Ran(NamedTuple):
    """What came of a program."""

    stdout: bytes
    stderr: bytes
    ending: str
    """"ended" by itself; what it was ended for: "time", "output", "processes"; or "failed", where it didn't begin."""
    status: int = 0
    """The exit status, or minus the number of the signal; where it didn't begin, the number of the error."""
    seconds: float = 0.0
    left: int = 0
    """How many processes it left running when it ended by itself."""


def run(
    command: Sequence[str],
    script: Sequence[bytes],
    folder: Path,
    variables: Mapping[str, str],
    limits: Limits,
    pause: float | None = None,
    awaited: Collection[int] = (),
    isolated: bool = False,
    user: str | None = None,
    own: Own | None = None,
) -> Ran:
    """Run a command in a folder with the lines of a script as its input, and wait for the end.

    *pause* and *awaited*: feed one line at a time, as `feed_slowly` says. *isolated*: in namespaces. *user*: whose
    rights the program has; only root can give it others. *own*: what to run, with the command's arguments, instead of
    the command. Blocks for a little more than the time limit at most. The caller must be a subreaper with one thread
    and no other children: all are ended.
    """
    program = _Program(limits)
    try:
        program.start(command, folder, variables, isolated, user, own)
        lines = [line + b"\n" for line in script]
        if pause is None:
            program.feed(b"".join(lines))
        else:
            program.feed_slowly(lines, pause, awaited)
        program.await_end()
    finally:
        program.end()
    return program.result()


class _Program:
    """One program that runs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._gate = 0  # 0: none, or it has ended
        self._gate_ends = -1  # a descriptor that can be read from then on, where the kernel has such
        self._isolated = False
        self._began = time.monotonic()
        self._deadline = self._began + limits.seconds
        self._next_look = self._began + _LOOK_SECONDS
        self._output = bytearray()
        self._size = 0  # of the output, also of what is too much
        self._stderr = bytearray()
        self._said = bytearray()  # by the gate, the first process, or the program before it was executed
        self._ending = ""
        self._status = 0
        self._may_be_left = 0
        self._left = 0
        self._ended = self._began
        self._stdin = self._stdout = self._errors = self._telling = -1  # until it is started
        self._fds: set[int] = set()  # those of ours that are open

    # -- the beginning -------------------------------------------------------------------------------------

    def start(
        self,
        command: Sequence[str],
        folder: Path,
        variables: Mapping[str, str],
        isolated: bool,
        user: str | None,
        own: Own | None,
    ) -> None:
        """Fork the program."""
        self._isolated = isolated
        account = pwd.getpwnam(user) if user else None
        others = _HELPERS if isolated else _count_processes(account.pw_uid if account else os.geteuid())
        stdin, self._stdin = os.pipe()
        self._stdout, stdout = os.pipe()
        self._errors, stderr = os.pipe()
        self._telling, tell = os.pipe()
        self._fds = {self._stdin, self._stdout, self._errors, self._telling}
        self._gate = os.fork()
        if self._gate == 0:
            try:
                for fd in self._fds:
                    os.close(fd)
                for number, fd in enumerate((stdin, stdout, stderr)):
                    os.dup2(fd, number)
                    os.close(fd)
                _become(command, folder, variables, self._limits, account, tell if isolated else None, others, own)
            except OSError as error:
                os.write(tell, b"failed %d 0\n" % (error.errno or 1))
            finally:
                os._exit(127)
        for fd in (stdin, stdout, stderr, tell):
            os.close(fd)
        for fd in self._fds:
            os.set_blocking(fd, False)
        try:
            self._gate_ends = os.pidfd_open(self._gate)
            self._fds.add(self._gate_ends)
        except OSError:
            pass  # then we look, ten times a second

    # -- the middle ----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Write input, and take output meanwhile; returns when all is written, or nobody reads it any more."""
        with memoryview(data) as view:
            done = 0
            while done < len(view) and not self._ending and self._stdin in self._fds:
                if self._wait(self._deadline, writing=True):
                    try:
                        done += os.write(self._stdin, view[done : done + _READ_BYTES])
                    except BlockingIOError:
                        pass
                    except BrokenPipeError:  # it reads no more, but may print yet
                        self._close(self._stdin)

    def feed_slowly(self, lines: Sequence[bytes], pause: float, awaited: Collection[int]) -> None:
        """Feed one line at a time, the next one when nothing more has been printed for so many seconds.

        After the *awaited* lines, by position, something has to be printed first; that is given up after some pauses.
        """
        for place, line in enumerate(lines):
            if self._stdin not in self._fds:
                break
            before = self._size
            self.feed(line)
            for _ in range(_MOST_PAUSES if place in awaited else 1):
                self._await_silence(pause)
                if self._size != before:
                    break

    def await_end(self) -> None:
        """Close the program's input, and wait until the program has ended or must be ended."""
        self._close(self._stdin)
        while not self._ending:
            self._wait(self._deadline)

    def _await_silence(self, pause: float) -> None:
        """Wait until nothing was printed for so many seconds."""
        until, before = time.monotonic() + pause, self._size
        while time.monotonic() < until and not self._ending:
            self._wait(min(until, self._deadline))
            if self._size != before:
                until, before = time.monotonic() + pause, self._size

    def _wait(self, until: float, writing: bool = False) -> bool:
        """Wait for something to happen, until a time, and deal with it; whether input can be written."""
        poller = select.poll()
        for fd in self._fds - {self._stdin}:
            poller.register(fd, select.POLLIN)
        if writing:
            poller.register(self._stdin, select.POLLOUT)
        now = time.monotonic()
        seconds = max(0.0, min(until, self._next_look) - now)
        events = dict(poller.poll(1000 * seconds + 1))
        for fd in sorted(events.keys() - {self._stdin}, key=lambda fd: fd != self._telling):
            self._read(fd)
        self._look()
        return self._stdin in events

    def _read(self, fd: int) -> None:
        if fd == self._gate_ends:
            self._await_status()
            self._close(fd)
            return
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._close(fd)
        elif fd == self._stdout:
            self._output += data[: max(0, self._limits.output - self._size)]
            self._size += len(data)
            if self._size > self._limits.output:
                self._stop("output")
        elif fd == self._errors:
            self._stderr += data[: _KEPT_STDERR - len(self._stderr)]
        else:
            self._said += data
            self._hear()

    def _look(self) -> None:
        """Check whether the program has ended, has used up its time, or has too many processes."""
        now = time.monotonic()
        if self._ending or now < min(self._next_look, self._deadline):
            return
        self._await_status()
        if now >= self._deadline:
            self._stop("time")
        elif len(descendants(os.getpid())) > self._limits.processes + (_HELPERS if self._isolated else 0):
            self._stop("processes")
        self._next_look = time.monotonic() + _LOOK_SECONDS

    def _hear(self) -> None:
        """Understand the first thing that was told about its end, or why it could not begin."""
        line, end, _ = bytes(self._said).partition(b"\n")
        if end and not self._ending:
            word, *numbers = line.decode().split()
            self._status, self._may_be_left = map(int, numbers)
            self._stop(word)

    def _await_status(self) -> None:
        """Look whether our child has ended: the program itself, or the gate to its world."""
        pid, status = os.waitpid(self._gate, os.WNOHANG) if self._gate else (0, 0)
        if pid:
            self._gate = 0
            if self._telling in self._fds:
                self._read(self._telling)
            if not self._ending:
                self._status = os.waitstatus_to_exitcode(status)
                self._may_be_left = 0 if self._isolated else has_children()
                self._stop("ended")

    def _stop(self, ending: str) -> None:
        if not self._ending:
            self._ending = ending
            self._ended = time.monotonic()

    # -- the end -------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End all that still runs of it, and take what it had printed."""
        self._close(self._stdin)
        if self._ending == "ended" and self._may_be_left:
            self._left = self._count_left()
        if self._isolated and self._gate:
            os.kill(self._gate, signal.SIGKILL)  # The kernel ends the rest, unless that has only just been forked.
        end_descendants()
        for fd in self._fds & {self._stdout, self._errors}:
            before = -1
            while fd in self._fds and before != self._size + len(self._stderr) and self._size <= self._limits.output:
                before = self._size + len(self._stderr)
                self._read(fd)
        for fd in list(self._fds):
            self._close(fd)

    def _count_left(self) -> int:
        """How many processes it has left, which are not about to end anyway."""
        until = time.monotonic() + _GRACE_SECONDS
        while True:
            helpers = _HELPERS if self._isolated and self._gate else 0
            there = descendants(os.getpid())
            left = max(0, len(there) - helpers)
            if not left or time.monotonic() > until:
                return left
            await_an_end(there[-left:], max(0.0, until - time.monotonic()))

    def _close(self, fd: int) -> None:
        if fd in self._fds:
            self._fds.discard(fd)
            os.close(fd)

    def result(self) -> Ran:
        """What came of it."""
        seconds = round(self._ended - self._began, 3)
        return Ran(bytes(self._output), bytes(self._stderr), self._ending, self._status, seconds, self._left)


# -- in the forked processes -------------------------------------------------------------------------------


def _become(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    limits: Limits,
    account: pwd.struct_passwd | None,
    tell: int | None,
    others: int,
    own: Own | None,
) -> NoReturn:
    """Become the program.

    *tell*: where to write what comes of it, if it gets a world of its own. *others*: as for `_limit`. Raises OSError.
    """
    os.setsid()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_DFL)  # what Python or a worker does about them isn't the program's business
    if account is not None and account.pw_uid != os.geteuid():
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        stay_dumpable()
    gain_nothing()
    if tell is not None:
        namespaces.enter()
        first = os.fork()
        if first:
            _wait_as_gate(first)
        end_with_parent()
        namespaces.mount_proc()
        pid = os.fork()
        if pid:
            _wait_as_first(pid, tell)
    else:
        end_with_parent()
    _limit(limits, others)
    os.chdir(folder)
    inherited = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    if own is None:
        os.execvpe(command[0], list(command), {**inherited, **variables})
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(inherited | dict(variables))
    own(command[1:])


def _wait_as_gate(first: int) -> NoReturn:
    end_with_parent()
    _close_streams()
    os.waitpid(first, 0)
    os._exit(0)


def _wait_as_first(program: int, tell: int) -> NoReturn:
    """Process 1 waits for its program and tells of its end, then for the orphans, until it is killed."""
    _close_streams()
    while True:
        pid, status = os.wait()
        if pid == program:
            os.write(tell, b"ended %d %d\n" % (os.waitstatus_to_exitcode(status), has_children()))
            while has_children(wait=True):
                pass
            signal.pause()  # until it is killed


def _close_streams() -> None:
    """Close the standard streams, so that whoever reads the output sees its end while this helper still runs."""
    for fd in range(3):
        os.close(fd)


def _limit(limits: Limits, others: int) -> None:
    """*others*: how many processes are counted besides those of the program."""
    for kind, most in (
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_FSIZE, max(limits.output, 64 << 20)),
        (resource.RLIMIT_NPROC, _TASKS * (limits.processes + others)),  # threads count
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


@lru_cache
def _count_processes(user: int) -> int:
    """How many processes a user had when this was first asked for."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            count += name.isdigit() and os.stat(f"/proc/{name}").st_uid == user
        except OSError:
            pass  # it has just ended
    return count
