"""A worker: a process of ours that runs one program after another, and does nothing else.

May live here: what a worker does from its start to its end, and the private folder of its programs. May not: limits and
the end of a program (grading/sandbox.py), and who asks for it (grading/workers.py).

A worker has one thread, so that it may fork and go on in Python, and it is the subreaper of what it runs, so that all
that descends from it belongs to one program. It is a Python of its own that imports little: all that a worker has is
copied into each program of ours that starts warm, and into each process of that.
"""

from __future__ import annotations

import gc
import os
import pickle
import pwd
import signal
import socket
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from grading import namespaces
from grading.processes import become_subreaper, end_descendants, end_with_parent
from grading.sandbox import Limits, Own, Ran, run

__all__ = ["ENDING", "Job", "main", "remove"]

ENDING = (signal.SIGINT, signal.SIGTERM)
"""The signals that end a grader. They are blocked in a worker until it can deal with them."""


class Job(NamedTuple):
    """A program to be run with a script."""

    token: Any
    """Whatever the caller knows it by; a worker isn't told."""
    command: tuple[str, ...]
    folder: Path | None
    """What is copied to where the program runs; None for an empty folder."""
    script: tuple[bytes, ...]
    limits: Limits = Limits()
    pause: float | None = None
    awaited: frozenset[int] = frozenset()
    warm: bool = False
    """Whether the workers' own program is run, with what follows the first word of the command as its arguments."""


def main(fd: int, parent_folder: Path, isolate: bool, user: str | None, own: str | None, parent: int) -> None:
    """Be a worker, until whoever is the process *parent* closes the other end of the socket *fd*. Never returns.

    Over the socket come jobs, and back goes what came of each, all pickled. *own*: the module of jobs that are `warm`;
    its `get_ready` is called once, and its `be_master` in each program.

    It ends within the handler of the signal: an exception that a handler raises is lost where Python runs it within a
    fork, and a worker forks often.
    """
    end_with_parent(signal.SIGTERM)  # which waits until it is unblocked below
    become_subreaper()
    isolated = isolate and namespaces.are_allowed()
    folder = parent_folder / str(os.getpid())
    try:
        folder.mkdir(mode=0o700)
    except FileNotFoundError:
        return  # who started us is dead, and another worker has removed the folder

    def leave(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
        remove(folder)
        if os.getppid() != parent:
            remove(parent_folder)  # nobody else is left to do it
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us ends us
    signal.signal(signal.SIGTERM, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    try:
        room = _Room(folder, user, _ready(own))
        gc.freeze()  # what is there stays shared with what is forked
        with socket.socket(fileno=fd) as connection, connection.makefile("rwb") as jobs:
            while os.getppid() == parent:
                job = pickle.load(jobs)
                pickle.dump(room.run(job, isolated), jobs)
                jobs.flush()
    except (EOFError, OSError):
        pass  # nobody has more to do for us
    finally:
        leave()


def _ready(own: str | None) -> Own | None:
    if own is None:
        return None
    module = import_module(own)
    module.get_ready()
    be_master: Own = module.be_master
    return be_master


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
            if own is not None:  # which leaves no files
                variables["TMPDIR"] = os.environ.get("TMPDIR", "/tmp")
            isolated = isolated and own is None  # our own program listens on no port, and gets away from nobody
            return run(
                job.command, job.script, work, variables, job.limits, job.pause, job.awaited, isolated, self._user, own
            )
        except OSError as error:
            return Ran(b"", b"", "failed", error.errno or 1)

    def _prepare(self, job: Job, work: Path, scratch: Path) -> None:
        from shutil import copy2, copytree  # not at the top, with all the archives that it can unpack

        for folder, contents in ((scratch, None), (work, job.folder)):
            if folder.is_dir() and (contents is not None or any(folder.iterdir())):
                remove(folder)  # what the last one has left
            if contents is not None and contents.is_dir():
                copytree(contents, folder, symlinks=True)
                continue
            if not folder.is_dir():
                folder.mkdir()
            if contents is not None:
                copy2(contents, folder)
        if self._user:
            _give(self.folder, pwd.getpwnam(self._user))


def _give(folder: Path, account: pwd.struct_passwd) -> None:
    for place, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(os.path.join(place, name), account.pw_uid, account.pw_gid, follow_symlinks=False)


def remove(folder: Path) -> None:
    """Remove a folder, also where a program has forbidden that to us in it."""

    def allow(remove: Any, path: str, _: object) -> None:
        try:
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            remove(path)
        except OSError:
            pass

    from shutil import rmtree

    rmtree(folder, onerror=allow)
