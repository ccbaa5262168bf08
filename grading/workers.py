"""Many programs at a time, each run by a process of ours that does nothing else.

May live here: the workers, what they are asked for, and the private folder of a run. May not: limits and the end of a
program (grading/sandbox.py), and what its output is worth.

A worker has one thread, so that it may fork and go on in Python, and it is the subreaper of what it runs, so that all
that descends from it belongs to one program.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from grading import namespaces
from grading.processes import become_subreaper, end_descendants, end_with_parent
from grading.sandbox import Limits, Own, Ran, run

__all__ = ["Job", "Workers"]

_ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Job:
    """A program to be run with a script."""

    token: Any
    """Whatever the caller knows it by."""
    command: tuple[str, ...]
    folder: Path | None
    """What is copied to where the program runs; None for an empty folder."""
    script: tuple[bytes, ...]
    limits: Limits = field(default_factory=Limits)
    pause: float | None = None
    awaited: frozenset[int] = frozenset()
    warm: bool = False
    """Whether the workers' own program is run, with what follows the first word of the command as its arguments."""


class Workers:
    """Processes that run jobs; use them in a `with`, which leaves nothing behind."""

    def __init__(
        self,
        number: int,
        isolate: bool = True,
        user: str | None = None,
        own: Own | None = None,
    ) -> None:
        """*isolate*: in namespaces, where they are allowed. *user*: whose rights programs have.

        *own*: the program of jobs that are `warm`.
        """
        self._number = number
        self._isolate = isolate
        self._user = user
        self._own = own
        self._context = multiprocessing.get_context("fork")
        self._workers: dict[Connection, Any] = {}

    def __enter__(self) -> Workers:
        self._folder = Path(tempfile.mkdtemp(prefix="daadkvs-grade-"))
        self._folder.chmod(0o711)  # a program of another user has to get to its own folder within
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._workers.values():
            process.terminate()
        for connection, process in self._workers.items():
            process.join()
            connection.close()
        self._workers.clear()
        _remove(self._folder)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Ran]]:
        """Run all jobs; yields each with what came of it, in the order in which they end."""
        waiting = iter(jobs)
        under_way: dict[Connection, Job] = {}
        idle = list(self._workers)
        done: list[tuple[Job, Ran]] = []
        while True:
            while len(under_way) < self._number and (job := next(waiting, None)) is not None:
                connection = idle.pop() if idle else self._hire()
                connection.send(job)
                under_way[connection] = job
            yield from done  # while the next ones run
            done = []
            if not under_way:
                return
            for ready in wait(list(under_way)):
                assert isinstance(ready, Connection)
                job = under_way.pop(ready)
                try:
                    ran = ready.recv()
                    idle.append(ready)
                except EOFError:
                    self._workers.pop(ready).join()
                    ready.close()
                    ran = Ran(b"", b"", "lost")
                done.append((job, ran))

    def _hire(self) -> Connection:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._folder, self._isolate, self._user, self._own, os.getpid())
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until the worker has handlers of its own
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        self._workers[ours] = process
        return ours


def _work(
    jobs: Connection,
    parent_folder: Path,
    isolate: bool,
    user: str | None,
    own: Own | None,
    parent: int,
) -> None:
    """What a worker does until it is told to end.

    It ends within the handler of the signal: an exception that a handler raises is lost where Python runs it within a
    fork, and a worker forks often.
    """
    end_with_parent(signal.SIGTERM)  # which waits until it is unblocked below
    become_subreaper()
    gc.freeze()  # what is there already stays shared with what is forked
    isolated = isolate and namespaces.are_allowed()
    try:
        room = _Room(Path(tempfile.mkdtemp(dir=parent_folder)), user, own)
    except FileNotFoundError:
        return  # who started us is dead, and another worker has removed the folder

    def leave(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
        _remove(room.folder)
        if os.getppid() != parent:
            _remove(parent_folder)  # nobody else is left to do it
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us ends us
    signal.signal(signal.SIGTERM, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    try:
        while os.getppid() == parent:
            job = jobs.recv()
            jobs.send(room.run(job, isolated))
    except (EOFError, BrokenPipeError):
        pass  # nobody has more to do for us
    finally:
        leave()


class _Room:
    """The private folder of a worker's programs: each finds there what it was handed in with, and nothing else."""

    def __init__(self, folder: Path, user: str | None, own: Own | None) -> None:
        self.folder = folder
        self._user = user
        self._own = own

    def run(self, job: Job, isolated: bool) -> Ran:
        """Run a job in it."""
        work, scratch = self.folder / "submission", self.folder / "tmp"
        try:
            self._prepare(job, work, scratch)
            variables = {"HOME": str(scratch), "TMPDIR": str(scratch)}
            own = self._own if job.warm else None
            isolated = isolated and own is None  # our own program listens on no port, and gets away from nobody
            return run(
                job.command, job.script, work, variables, job.limits, job.pause, job.awaited, isolated, self._user, own
            )
        except OSError as error:
            return Ran(b"", b"", "failed", error.errno or 1)

    def _prepare(self, job: Job, work: Path, scratch: Path) -> None:
        for folder, contents in ((scratch, None), (work, job.folder)):
            if folder.is_dir() and (contents is not None or any(folder.iterdir())):
                _remove(folder)  # what the last one has left
            if contents is not None and contents.is_dir():
                shutil.copytree(contents, folder, symlinks=True)
                continue
            if not folder.is_dir():
                folder.mkdir()
            if contents is not None:
                shutil.copy2(contents, folder)
        if self._user:
            _give(self.folder, pwd.getpwnam(self._user))


def _give(folder: Path, account: pwd.struct_passwd) -> None:
    for place, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(os.path.join(place, name), account.pw_uid, account.pw_gid, follow_symlinks=False)


def _remove(folder: Path) -> None:
    """Remove a folder, also where a program has forbidden that to us in it."""

    def allow(remove: Any, path: str, _: object) -> None:
        try:
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            remove(path)
        except OSError:
            pass

    shutil.rmtree(folder, onerror=allow)
