"""Many runs at a time, each carried out by a master that is forked from this process.

May live here: the runs under way, their time limit and their end. May not: what a master does, which is handed in; and
which scripts are run, and what is said about them (scripts/many.py).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

__all__ = ["Job", "Result", "run_all"]

END_PATIENCE_SECONDS = 5.0
"""How long a run may take to end after its time limit, before it is killed."""


class Job(NamedTuple):
    """A script, and where its output goes."""

    script: Path
    out: Path
    err: Path


class Result(NamedTuple):
    """How a run has ended."""

    script: Path
    status: int
    """As a shell has it: 128 + n where signal n has ended the run."""
    seconds: float
    timed_out: bool


class _Run:
    """A run under way."""

    def __init__(self, number: int, job: Job, time_limit: float, be_master: Callable[[], NoReturn]) -> None:
        self.number = number
        self.job = job
        self.started = time.monotonic()
        self.deadline = self.started + time_limit
        self.timed_out = False
        sys.stdout.flush()  # or the fork would have a copy of what stands in its buffer
        self.pid = os.fork()
        if self.pid == 0:
            _carry_out(job, be_master)
        self.ended = os.pidfd_open(self.pid)

    def end(self) -> None:
        """Have it end, by force where it has been asked before."""
        os.kill(self.pid, signal.SIGKILL if self.timed_out else signal.SIGTERM)
        self.timed_out = True
        self.deadline = time.monotonic() + END_PATIENCE_SECONDS

    def result(self) -> Result:
        """How it has ended; blocks until it has."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.ended)
        status = status if status >= 0 else 128 - status
        return Result(self.job.script, status, time.monotonic() - self.started, self.timed_out)


def run_all(jobs: list[Job], at_a_time: int, time_limit: float, be_master: Callable[[], NoReturn]) -> Iterator[Result]:
    """Carry out all, and yield their results in the order of the jobs. Those under way end with the iterator.

    *time_limit*: of each run, in seconds. *be_master*: called in a process that was forked for it, whose standard input
    is the script. This process must have one thread.
    """
    gc.freeze()  # what is there already stays shared with what is forked
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, _Run] = {}
    results: dict[int, Result] = {}
    poller = select.poll()
    try:
        for number in range(len(jobs)):
            while number not in results:
                while waiting and len(running) < at_a_time:
                    run = _Run(*waiting.pop(), time_limit, be_master)
                    running[run.ended] = run
                    poller.register(run.ended, select.POLLIN)
                first = min(run.deadline for run in running.values())
                for ended, _ in poller.poll(max(0.0, 1000 * (first - time.monotonic()))):
                    poller.unregister(ended)
                    run = running.pop(ended)
                    results[run.number] = run.result()
                for run in running.values():
                    if time.monotonic() >= run.deadline:
                        run.end()
            yield results.pop(number)
    finally:
        for run in running.values():
            run.end()
        for run in running.values():
            run.result()


def _carry_out(job: Job, be_master: Callable[[], NoReturn]) -> NoReturn:
    """Be a master that carries out the script, in a process that has just been forked."""
    try:
        for fd, path, flags in (
            (0, job.script, os.O_RDONLY),
            (1, job.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, job.err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            opened = os.open(path, flags, 0o666)
            os.dup2(opened, fd)
            os.close(opened)
        be_master()
    except OSError as error:
        os.write(2, f"error: {error.filename}: {error.strerror}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(2)
