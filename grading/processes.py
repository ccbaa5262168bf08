"""The processes that descend from one of ours: finding them, and ending them all.

May live here: what is read off /proc, and signals to processes that were found there. May not: what is run, and why it
is to end.

A process whose parent has ended becomes a child of its next *subreaper* (prctl(2)), so a program that forks twice, and
leaves its session and its process group, still descends from whoever asked to be the subreaper.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterable

__all__ = [
    "await_an_end",
    "become_subreaper",
    "descendants",
    "end_descendants",
    "end_with_parent",
    "gain_nothing",
    "has_children",
    "stay_dumpable",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_LIBRARY = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _LIBRARY.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Have descendants whose parents have ended become children of this process. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(signum: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that forked it ends. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def gain_nothing() -> None:
    """Have nothing that this process executes gain privileges, as set-user-ID programs do. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def stay_dumpable() -> None:
    """Let this process write to its own files in /proc, although it has changed its user. Raises OSError."""
    _prctl(_PR_SET_DUMPABLE, 1)


def descendants(ancestor: int) -> list[int]:
    """The ids of all processes that descend from one, without zombies, parents before their children.

    A process that is forked meanwhile may be missing.
    """
    children = _children if _LISTS_CHILDREN else _every_parent().__getitem__
    found, border = [], [ancestor]
    while border:
        border = [child for parent in border for child in children(parent)]
        found += border
    return [pid for pid in found if not _is_zombie(pid)]


_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether the kernel lists the children of a thread (proc(5)); most do. Where it doesn't, we look at every process."""


def _children(parent: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", "rb", buffering=0) as file:
                found += map(int, file.readall().split())
    except OSError:
        pass  # it has just ended
    return found


def _every_parent() -> defaultdict[int, list[int]]:
    """The children of every process on this machine."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := _state(int(name))):
            children[int(found[1])].append(int(name))
    return children


def _is_zombie(pid: int) -> bool:
    found = _state(pid)
    return found is None or found[0] in b"ZX"


def _state(pid: int) -> list[bytes] | None:
    """The state of a process, and its parent's id; None where it has just ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read().rpartition(b")")[2].split(maxsplit=2)[:2]
    except OSError:
        return None


def has_children(wait: bool = False) -> bool:
    """Whether this process has children that run, after it has taken leave of those that have ended.

    *wait*: block until one ends, if any runs.
    """
    try:
        while os.waitpid(-1, 0 if wait else os.WNOHANG)[0]:
            wait = False
        return True
    except ChildProcessError:
        return False


def await_an_end(pids: Iterable[int], seconds: float) -> None:
    """Wait until one of these processes has ended, for so many seconds at most, or as long as the kernel can tell."""
    poller = select.poll()
    opened = []
    try:
        for pid in pids:
            opened.append(os.pidfd_open(pid))
            poller.register(opened[-1], select.POLLIN)
        poller.poll(seconds * 1000)
    except OSError:  # one has ended, or no descriptor is left, or the kernel has none of this kind
        time.sleep(min(seconds, 0.01))
    finally:
        for fd in opened:
            os.close(fd)


def end_descendants() -> None:
    """Kill all that descends from this process, which must be a subreaper, and wait until nothing is left.

    Each round first stops what it finds, so that fewer fork meanwhile; who was forked between is found in the next one.
    """
    while has_children():
        found = descendants(os.getpid())
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                try:
                    os.kill(pid, signum)
                except ProcessLookupError:
                    pass
        has_children(wait=True)
