"""Forking: how a process of the run begins, and what it must do first.

May live here: what every forked process has in common. May not: what it then does; who asks for it.

A forked process keeps no descriptor of its parent's except those that it is given. While it held a copy of a socket,
nobody would see that connection end.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable

from rpc import transport
from rpc.library import set_title

__all__ = ["await_end", "fork", "fork_listening", "reap"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
"""The signals that a terminal sends to every process started from it."""


def fork(
    title: str,
    keep: Iterable[int],
    main: Callable[[], object],
    failed: Callable[[BaseException], object],
    leads: bool = False,
) -> int:
    """Fork a process that runs *main* and then ends; returns its id. Raises OSError if no more processes are allowed.

    If the process can't begin, or *main* raises, it calls *failed* with the error, so that somebody is told, and ends.

    *leads*: the process leads a session of its own, and ignores signals that reached its parent's group before that.
    ps shows it as *title*; it holds the descriptors *keep* and no others. Its standard streams are /dev/null, since
    everything that it has to say travels by RPyC. (DAADKVS_DEBUG, for work on Daadkvs itself, leaves it the standard
    error.)
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = -1  # as long as there is none
    try:
        child = os.fork()
    finally:
        if child:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if child:
        return child
    status = 1
    try:
        _forget_parent(title, keep, leads)
        main()
        status = 0
    except (KeyboardInterrupt, SystemExit):
        pass
    except BaseException as error:
        if "DAADKVS_DEBUG" in os.environ:
            sys.excepthook(*sys.exc_info())
        failed(error)
    finally:
        os._exit(status)


def fork_listening(
    title: str, address: str, keep: Iterable[int], main: Callable[[transport.Listener], object]
) -> tuple[int, str] | str:
    """Fork a process that runs *main* with a listener at *address*.

    Returns its id and where it listens, or the reason why it could not be started.

    If the process fails before it has accepted a connection, it tells whoever connects why.
    """
    listener = None
    try:
        listener = made = transport.listen(address)
        pid = fork(
            title,
            (made.fileno(), *keep),
            lambda: main(made),
            lambda error: transport.turn_away(made, error),
        )
        return pid, made.address
    except (OSError, MemoryError) as error:
        if listener is not None:
            transport.discard(address)
        return f"no process can be started: {transport.why(error)}"
    finally:
        if listener is not None:
            listener.close()


def reap(pid: int, patience: float) -> None:
    """Wait for the end of a process that was forked here; kill it if that takes longer than *patience* seconds."""
    process = os.pidfd_open(pid)
    if not await_end(process, patience):
        os.kill(pid, signal.SIGKILL)
    os.close(process)
    os.waitpid(pid, 0)


def await_end(process: int, patience: float) -> bool:
    """Whether the process with this descriptor ends within *patience* seconds."""
    poller = select.poll()
    poller.register(process, select.POLLIN)
    return bool(poller.poll(patience * 1000))


def _forget_parent(title: str, keep: Iterable[int], leads: bool) -> None:
    transport.interrupt_by(None)
    if leads:
        os.setsid()
        for signum in ENDING:
            signal.signal(signum, signal.SIG_IGN)  # which forgets those that came before
    for signum in ENDING:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1) if "DAADKVS_DEBUG" in os.environ else (0, 1, 2):
        os.dup2(null, standard)
    bounds = [2, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for low, high in itertools.pairwise(bounds):
        os.closerange(low + 1, high)
    set_title(title)
