"""Ends every Daadkvs process of this user that was started from this checkout, even a master that hangs, and removes
their temporary files. It touches nothing else: neither runs of other checkouts nor data directories.

  scripts/cleanup.sh             all runs
  scripts/cleanup.sh --orphans   only runs whose master is gone

A master is recognized by its command line: Python running the master.py of this checkout. A run is recognized by its
directory, /tmp/daadkvs-UID-HASH-…, where HASH is a hash of the path of this checkout. The directory counts only if it
belongs to this user, nobody else can enter it, and it is not a link. Its file `owner` names the master and the session
of the other processes, whose current directory it is.

With an engine, the processes on other hosts end by themselves when their master has ended. A host that can't be reached
is named, since nobody can tell what is left there.
"""

# May live here: finding what is left, ending and removing it. May not: how runs name and mark what belongs to them
# (control/run_directory.py), and anything that is not part of Python itself: this must work where nothing is installed.
#
# Other users may make folders with such names, and replace what is at a path at any moment. So a folder is opened first
# and examined then, and everything is removed below the descriptor that was examined; in the end, only an empty folder
# is removed by its name. In the same way, a process is held by a descriptor before it is examined, and killed through
# it: if it can still be killed, it is the one that was examined.

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from a Ctrl-C

import os
import re
import select
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from control import run_directory
from control.run_directory import Agent, Owner, Process

BEGINNING_SECONDS = 60.0
"""How old a run directory without a note must be for its run to count as one that will never begin."""

KILL_PATIENCE_SECONDS = 10.0
"""How long a killed process may take to end; one that waits for a broken disk may never end."""


def main(arguments: list[str], command: str | None = None) -> int:
    """Clean up; returns the exit status: 1 if something could not be ended or removed.

    *command*: where Daadkvs is installed, the file that starts masters, and, with the word `cleanup`, this program.
    """
    assert __doc__ is not None
    if arguments == ["--help"]:
        _write(1, __doc__)
        return 0
    if arguments not in ([], ["--orphans"]):
        _write(2, f"error: unknown option: {' '.join(arguments)}\n{__doc__}")
        return 2
    cleanup = _Cleanup(bool(arguments), command)
    cleanup.run()
    return 1 if cleanup.failed else 0


def _write(fd: int, text: str) -> None:
    """Write a text; if nobody reads it, cleaning up goes on all the same."""
    try:
        os.write(fd, text.encode("utf-8", "surrogateescape"))
    except OSError:
        pass


def _line(text: str) -> str:
    """Return the text as one line, whatever a file name in it may hold."""
    return "".join(f"\\x{ord(c):02x}" if c < " " else c for c in text) + "\n"


class _Run(NamedTuple):
    """A run directory that has been examined.

    If it was removed already, *parent* is None and *name* is empty.
    """

    folder: int
    parent: int | None
    name: str
    path: str


class _Cleanup:
    """One call of this script."""

    def __init__(self, orphans_only: bool, command: str | None = None) -> None:
        self._orphans_only = orphans_only
        self._command = command
        self.failed = False

    def run(self) -> None:
        """End and remove what is left of runs."""
        agents = _agents(self._orphans_only)  # first, since the directory of a run goes with its master
        if not self._orphans_only:
            for pid in _processes():
                self._end("master", pid, lambda pid: _is_master(pid, self._command))
        for run in _runs():
            try:
                self._end_run(run)
            except OSError as error:
                self._fail(f"{error.filename or run.path}: {error.strerror}")
        for agent in agents:
            self._ask_after(agent)

    def _ask_after(self, agent: Agent) -> None:
        """Say so if the host of an agent can't be reached."""
        try:
            socket.create_connection((agent.ip, agent.port), agent.host_timeout).close()
        except ConnectionRefusedError:
            pass  # by the host itself
        except OSError:
            ends = f"what is left there ends by itself {agent.host_timeout:g} s after it was cut off"
            self._fail(f"host {agent.host} can't be reached; {ends}")

    def _fail(self, text: str) -> None:
        self.failed = True
        _write(2, _line(f"error: {text}"))

    def _end_run(self, run: _Run) -> None:
        owner = run_directory.read_owner(run.folder)
        if self._orphans_only:
            if _has_master(run, owner):
                return
        elif owner is not None:
            self._end("master", owner.master.pid, lambda pid: _is(pid, owner.master))
        if not _is_left(run):
            self._fail(f"{run.path}: its master cannot be ended from here; perhaps it runs in another container")
            return
        while sum(self._end("process", pid, lambda pid: _is_of(pid, run, owner)) for pid in _processes()):
            pass  # again, since they may have started others meanwhile
        if run.parent is not None:
            self._remove(run, run.parent, owner)

    def _end(self, what: str, pid: int, is_meant: Callable[[int], bool]) -> bool:
        """Kill a process of this user if it *is_meant*; returns whether it was, and has ended."""
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if not (_is_ours(pid) and is_meant(pid)):
                return False
            signal.pidfd_send_signal(process, signal.SIGKILL)
            poller = select.poll()
            poller.register(process, select.POLLIN)
            if poller.poll(KILL_PATIENCE_SECONDS * 1000):
                _write(1, _line(f"ended {what} {pid}"))
                return True
            self._fail(f"{what} {pid} was killed, but does not end")
        except OSError:
            pass  # it has ended by itself
        finally:
            os.close(process)
        return False

    def _remove(self, run: _Run, parent: int, owner: Owner | None) -> None:
        if owner is not None and owner.stores_in is not None:
            self._remove_stores(owner.stores_in, run_directory.stores_prefix(run.name))
        _empty(run.folder)
        try:
            os.rmdir(run.name, dir_fd=parent)
        except FileNotFoundError:
            return  # the run itself has removed it
        _write(1, _line(f"removed {run.path}"))

    def _remove_stores(self, base: str, prefix: str) -> None:
        try:
            parent = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return  # gone as a whole
        with _closing(parent):
            for name in os.listdir(parent):
                if not name.startswith(prefix):
                    continue
                try:
                    folder = run_directory.open_private(name, parent)
                except OSError:
                    continue  # somebody else's, or gone
                with _closing(folder):
                    if "owner" not in os.listdir(folder):  # a run directory, whatever it is called
                        _empty(folder)
                        os.rmdir(name, dir_fd=parent)


@contextmanager
def _closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


def _empty(folder: int) -> None:
    """Remove all that is in the folder with this descriptor. Raises OSError, unless somebody else was faster."""
    for name in os.listdir(folder):
        try:
            if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                shutil.rmtree(name, dir_fd=folder)  # follows no links
            else:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass


# -- runs ----------------------------------------------------------------------------------------------------------


def _runs() -> Iterator[_Run]:
    """Find all run directories of this user and this checkout."""
    paths, removed = _paths()
    for path in sorted(paths):
        base, name = os.path.split(path)
        try:
            parent = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        with _closing(parent):
            try:
                folder = run_directory.open_private(name, parent)
            except OSError:
                continue  # somebody else's, or gone
            with _closing(folder):
                yield _Run(folder, parent, name, path)
    for pid in removed:
        try:
            folder = os.open(f"/proc/{pid}/cwd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        with _closing(folder):
            if os.fstat(folder).st_uid == os.geteuid():
                yield _Run(folder, None, "", f"the directory of process {pid}, which has been removed")


def _agents(orphans_only: bool) -> list[Agent]:
    """The agents on other hosts of the runs that are to be ended; of each host the last."""
    found = {}
    for run in _runs():
        owner = run_directory.read_owner(run.folder)
        if owner is not None and not (orphans_only and _has_master(run, owner)):
            found.update({(run.path, agent.host): agent for agent in owner.agents})
    return list(found.values())


def _paths() -> tuple[set[str], list[int]]:
    """Return where run directories may be, and the processes whose run directory has been removed."""
    paths = set()
    for base in run_directory.places():
        try:
            paths |= {os.path.join(base, name) for name in os.listdir(base) if run_directory.holds_run(name)}
        except OSError:
            pass
    removed = []
    for pid in _processes():
        try:
            path = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if run_directory.holds_run(os.path.basename(path)):
            paths.add(path)
        elif run_directory.holds_run(os.path.basename(path.removesuffix(" (deleted)"))):
            removed.append(pid)
    return paths, removed


def _has_master(run: _Run, owner: Owner | None) -> bool:
    """Whether a run has a master, or may be about to begin."""
    if run_directory.is_in_use(run.folder):
        return True
    if owner is not None:
        return _is_ours(owner.master.pid) and _is(owner.master.pid, owner.master)
    return run.parent is not None and time.time() - os.fstat(run.folder).st_mtime < BEGINNING_SECONDS


def _is_left(run: _Run) -> bool:
    """Whether the master has ended. A process that was just being forked may hold its lock a moment longer."""
    for _ in range(50):
        if not run_directory.is_in_use(run.folder):
            return True
        time.sleep(0.02)
    return False


# -- processes -----------------------------------------------------------------------------------------------------
# What is read about a process is true of the one whose descriptor is held, if that can still be killed afterwards.


def _processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _is_ours(pid: int) -> bool:
    """Whether all user ids of a process are those of this user, and it has not ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return False
    ids = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)
    state = re.search(r"^State:\s+(\S)", status, re.MULTILINE)
    return bool(ids and set(ids[1].split()) == {str(os.geteuid())} and state and state[1] not in "ZX")


def _is(pid: int, meant: Process) -> bool:
    return run_directory.process(pid) == meant


def _is_of(pid: int, run: _Run, owner: Owner | None) -> bool:
    """Whether a process belongs to a run, but is not its master."""
    spawner = owner and owner.spawner
    if spawner and _is(pid, spawner):
        return True
    try:
        if not os.path.samestat(os.stat(f"/proc/{pid}/cwd"), os.fstat(run.folder)):
            return False
        if spawner and os.getsid(pid) == spawner.pid:
            return True
        return _words(pid)[0].startswith(b"daadkvs ")  # the note is gone
    except OSError:
        return False


def _words(pid: int) -> list[bytes]:
    """Return the command line of a process. Raises OSError."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _is_master(pid: int, command: str | None) -> bool:
    """Whether a process is a master of this checkout, even if it has no run directory yet, or none any more."""
    try:
        words = _words(pid)
        script = _script(words)
        if script is None or run_directory.holds_run(os.path.basename(os.readlink(f"/proc/{pid}/cwd"))):
            return False  # a process that a master has started, and that may have no title yet
        found = os.stat(os.path.join(os.fsencode(f"/proc/{pid}/cwd"), script))
        if command is not None and os.path.samestat(found, os.stat(command)):
            return words[words.index(script) + 1] != b"cleanup"  # the list ends with an empty word
        return os.path.samestat(found, os.stat(ROOT / "master.py"))
    except (OSError, ValueError):
        return False


def _script(words: list[bytes]) -> bytes | None:
    """Return the file that a Python with this command line runs; None if it is not Python, or runs no file."""
    if not os.path.basename(words[0]).startswith(b"python"):
        return None
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith(b"-"):
            return word or None
        if word == b"--check-hash-based-pycs":
            next(rest, None)
        elif not word.startswith(b"--"):
            option = re.search(b"[cmXW]", word)  # options with an argument, which may be the next word
            if option and option[0] in b"cm":
                return None
            if option and option.end() == len(word):
                next(rest, None)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
