"""The process that starts all others: it has everything imported, and forks.

May live here: forking, and what a forked process must do first. May not: what the processes then do.

Starting Python and importing RPyC takes far longer than a fork. So the master forks this process first of all,
before it opens anything; it imports what every role needs, and then forks watchdogs and clients when the master
asks. (A watchdog forks its server itself, to be its parent.) A forked process keeps no descriptor of its parent's
but those that it is given: while it held a copy of a socket, nobody would see that connection end.

All of them are one process group in a session of their own. So a Ctrl-C at the terminal reaches the master alone.
When the master is gone, however it went, each sees its connection end: watchdogs kill their servers and end,
clients end, the spawner sees them all off, removes the run's folders, and kills what is left of the group, since a
frozen process can't see anything. Each holds the write end of one pipe: when the master reads its end, all are gone.
"""

from __future__ import annotations

import errno
import gc
import itertools
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import transport

__all__ = ["Spawner", "fork"]

GC_THRESHOLDS = (100_000, 20, 100)
"""A store is a great many small tuples, none of which is garbage. Looking through them often takes half the time."""

END_PATIENCE_SECONDS = 1.0
"""How long processes may take to end by themselves."""


def fork(title: str, keep: Iterable[int], main: Callable[[], object]) -> int:
    """Fork a process that runs *main* and ends; returns its id.

    It is shown as *title* by ps, and holds the descriptors *keep* and no others. Its standard streams are
    /dev/null: what it has to say, it says by RPyC. (DAADKVS_DEBUG, for working on Daadkvs itself, leaves it
    the standard error.)
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        _forget_parent(title, keep)
        main()
        status = 0
    except (KeyboardInterrupt, SystemExit):
        pass
    except BaseException:
        if "DAADKVS_DEBUG" in os.environ:
            sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _forget_parent(title: str, keep: Iterable[int]) -> None:
    transport.interrupt_by(None)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1) if "DAADKVS_DEBUG" in os.environ else (0, 1, 2):
        os.dup2(null, standard)
    bounds = [2, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for low, high in itertools.pairwise(bounds):
        os.closerange(low + 1, high)
    _set_title(title)


def _set_title(title: str) -> None:
    import setproctitle  # not at the top: the master, which must start fast, has no use for it

    setproctitle.setproctitle(title)


class _Service(transport.Service):
    """What the master asks the spawner for."""

    def __init__(self, run_directory: str, alive: int) -> None:
        self._run_directory = run_directory
        self._alive = alive
        self._children: set[int] = set()
        self._newest = (0, "")  # the child that was started last, and its address

    def exposed_start(self, role: str, ident: int, address: str) -> int:
        """Start the "watchdog" of a server or a "client", listening at *address*; returns its process id."""
        import client
        import watchdog

        mains = {"watchdog": watchdog.main, "client": client.main}
        self._see_off_the_dead()
        listener = transport.listen(address)
        pid = fork(
            f"daadkvs {role} {ident} ({self._run_directory})",
            (listener.fileno(), self._alive),
            lambda: mains[role](listener, ident, self._run_directory, self._alive),
        )
        listener.close()
        self._children.add(pid)
        self._newest = (pid, address)
        return pid

    def exposed_abandon(self, address: str) -> None:
        """Kill what was started last, if it was for *address*: whoever asked for it has given up waiting."""
        pid, newest = self._newest
        if address == newest and pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._children.remove(pid)
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)

    def _see_off_the_dead(self) -> None:
        """Those that the master has killed: no process stays listed for the rest of the run."""
        for pid in list(self._children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._children.remove(pid)

    def see_off(self, temporary: list[str]) -> NoReturn:
        """Wait until all children have ended, `END_PATIENCE_SECONDS` at most, and remove the run's folders."""

        def finish(*_: object) -> NoReturn:
            for folder in temporary:
                shutil.rmtree(folder, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)
            raise AssertionError("unreachable")

        signal.signal(signal.SIGALRM, finish)
        signal.setitimer(signal.ITIMER_REAL, END_PATIENCE_SECONDS)
        for pid in self._children:
            os.waitpid(pid, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        finish()


def _main(sock: socket.socket, run_directory: str, temporary: list[str], alive: int) -> None:
    import client  # noqa: F401 - loaded here once, for all that are forked from here
    import server  # noqa: F401
    import watchdog  # noqa: F401

    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    service = _Service(run_directory, alive)
    fd, on_readable = transport.serve_polled(sock, service)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    try:
        while True:
            poller.poll()
            on_readable()
    except EOFError:
        service.see_off(temporary)
    finally:
        os.killpg(0, signal.SIGKILL)


class Spawner:
    """The master's end."""

    def __init__(self, run_directory: str, temporary: list[str], timeout: float) -> None:
        """Fork the spawner. To be called while the process has one thread and little open.

        *temporary*: the folders that go with the run. The spawner removes them where the master can't.
        """
        ours, theirs = socket.socketpair()
        self._gone, alive = os.pipe()
        master = os.getpid()

        def main() -> None:
            os.setsid()
            transport.let_in(master)
            _main(theirs, run_directory, temporary, alive)

        self._pid = fork(f"daadkvs spawner ({run_directory})", (theirs.fileno(), alive), main)
        theirs.close()
        os.close(alive)
        self._remote = transport.Remote(ours, timeout)

    def start(self, role: str, ident: int, address: str) -> int:
        """Start the "watchdog" of a server or a "client"; returns its process id. Raises Failure, Interrupted.

        After either, nothing is left of it: what the spawner starts later all the same, it kills at once.
        """
        try:
            return int(self._remote.call("start", role, ident, address))
        except transport.Interrupted:
            self._abandon(address)
            raise
        except transport.Silent as failure:
            self._abandon(address)
            raise transport.Failure("the process that starts all others does not answer") from failure
        except transport.Failure as failure:
            raise transport.Failure("the process that starts all others is gone; start Daadkvs anew") from failure

    def _abandon(self, address: str) -> None:
        """The spawner carries this out right behind the start, whenever it comes to that."""
        try:
            self._remote.tell("abandon", address)
        except transport.Failure:
            pass  # with it, all are gone that came from it

    def kill(self, pid: int, patience: float) -> bool:
        """Kill a process of this run, whoever started it; returns whether it was gone within *patience* seconds.

        For where the process that should do it doesn't. Nobody needs to answer: not even the spawner.
        """
        try:
            process = os.pidfd_open(pid)
        except OSError as error:
            return error.errno == errno.ESRCH
        try:
            if os.getsid(pid) != self._pid:
                return True  # it has gone, and the id is somebody else's by now
            signal.pidfd_send_signal(process, signal.SIGKILL)
            poller = select.poll()
            poller.register(process, select.POLLIN)
            return bool(poller.poll(patience * 1000))
        except ProcessLookupError:
            return True
        finally:
            os.close(process)

    def end(self, patience: float) -> None:
        """Wait until every process that came from here is gone; their connections to the master are closed.

        Kills what is left after *patience* seconds.
        """
        self._remote.close()
        poller = select.poll()
        poller.register(self._gone, select.POLLIN)
        if not poller.poll(patience * 1000):
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            poller.poll(patience * 1000)
        os.waitpid(self._pid, 0)
        os.close(self._gone)
