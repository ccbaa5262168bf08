"""Many programs at a time, each run by a worker (grading/worker.py).

May live here: starting workers, and who gets which job. May not: what a worker does, and what an output is worth.
"""

from __future__ import annotations

import io
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from grading.sandbox import Ran
from grading.worker import ENDING, Job, remove

__all__ = ["Job", "Workers"]

BEGIN = """
import sys
root, fd, folder, isolate, user, own, parent = sys.argv[1:]
sys.path = [root, *filter(None, sys.path)]
from pathlib import Path
from grading.worker import main
main(int(fd), Path(folder), isolate == "True", user or None, own or None, int(parent))
"""
"""The program of a worker; its arguments are those of `worker.main`, after the folder that Daadkvs is in."""

ROOT = Path(__file__).resolve().parent.parent


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    stream: io.BufferedRWPair

    def send(self, job: Job) -> None:
        """Have it carry out a job. Raises OSError if it has ended."""
        pickle.dump(job._replace(token=None), self.stream)
        self.stream.flush()


class Workers:
    """Processes that run jobs; use them in a `with`, which leaves nothing behind."""

    def __init__(
        self,
        number: int,
        isolate: bool = True,
        user: str | None = None,
        own: str | None = None,
    ) -> None:
        """*isolate*: in namespaces, where they are allowed. *user*: whose rights programs have.

        *own*: the module of jobs that are `warm` (`worker.main`).
        """
        self._number = number
        self._isolate = isolate
        self._user = user
        self._own = own
        self._workers: dict[int, _Worker] = {}
        """By the descriptor of the socket to each."""

    def __enter__(self) -> Workers:
        self._folder = Path(tempfile.mkdtemp(prefix="daadkvs-grade-"))
        self._folder.chmod(0o711)  # a program of another user has to get to its own folder within
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        for fd in [*self._workers]:
            self._part_with(fd)
        remove(self._folder)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Ran]]:
        """Run all jobs; yields each with what came of it, in the order in which they end."""
        waiting = iter(jobs)
        under_way: dict[int, Job] = {}
        idle = list(self._workers)
        done: list[tuple[Job, Ran]] = []
        poller = select.poll()
        while True:
            while len(under_way) < self._number and (job := next(waiting, None)) is not None:
                fd = idle.pop() if idle else self._hire()
                under_way[fd] = job
                poller.register(fd, select.POLLIN)
                try:
                    self._workers[fd].send(job)
                except OSError:
                    pass  # it has ended, which is seen below
            yield from done  # while the next ones run
            done = []
            if not under_way:
                return
            for fd, _ in poller.poll():
                poller.unregister(fd)
                try:
                    ran = pickle.load(self._workers[fd].stream)
                    idle.append(fd)
                except (EOFError, OSError):
                    self._part_with(fd)
                    ran = Ran(b"", b"", "lost")
                done.append((under_way.pop(fd), ran))

    def _hire(self) -> int:
        ours, theirs = socket.socketpair()
        options = (ROOT, theirs.fileno(), self._folder, self._isolate, self._user or "", self._own or "", os.getpid())
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # until the worker has handlers of its own
        try:
            process = subprocess.Popen(
                [sys.executable, "-E", "-c", BEGIN, *map(str, options)], pass_fds=[theirs.fileno()]
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
        fd = ours.fileno()
        self._workers[fd] = _Worker(process, ours.makefile("rwb"))
        ours.close()  # once the stream is closed as well
        return fd

    def _part_with(self, fd: int) -> None:
        """Wait for the end of a worker."""
        worker = self._workers.pop(fd)
        worker.process.wait()
        try:
            worker.stream.close()
        except OSError:
            pass  # what it was sent last is lost with it
