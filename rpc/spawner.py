"""The process that starts all others: it has everything imported, and forks.

May live here: forking, and what a forked process must do first. May not: what the processes then do.

Starting Python and importing RPyC takes far longer than a fork. So the master forks this process first of all,
before it opens anything; it imports what every role needs, and then forks watchdogs and clients when the master
asks. (A watchdog forks its server itself, to be its parent.) A forked process keeps no descriptor of its parent's
but those that it is given: while it held a copy of a socket, nobody would see that connection end.

All of them are one process group in a session of their own. So a Ctrl-C at the terminal reaches the master alone.
Their current folder is the run directory: by that and by the session scripts/cleanup.py knows them.
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
from typing import Literal, NoReturn

from rpc import transport

__all__ = ["Spawner", "fork", "fork_listening"]

GC_THRESHOLDS = (100_000, 20, 100)
"""A store is a great many small tuples, none of which is garbage. Looking through them often takes half the time."""

END_PATIENCE_SECONDS = 1.0
"""How long processes may take to end by themselves."""


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
"""What a terminal sends to everything that was started from it."""


def fork(
    title: str,
    keep: Iterable[int],
    main: Callable[[], object],
    failed: Callable[[BaseException], object],
    leads: bool = False,
) -> int:
    """Fork a process that runs *main* and ends; returns its id. Raises OSError where there is no room for one more.

    Where it can't begin, or *main* raises, it calls *failed*, to tell somebody why, and ends.

    *leads*: it leads a session of its own; a signal that reaches all of its parent's before that is not for it.
    It is shown as *title* by ps, and holds the descriptors *keep* and no others. Its standard streams are
    /dev/null: what it has to say, it says by RPyC. (DAADKVS_DEBUG, for working on Daadkvs itself, leaves it
    the standard error.)
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        child = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        raise
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
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
) -> int | str:
    """Fork a process that runs *main* with a listener at *address*; returns its id, or why there is none.

    Where it fails before it has let anybody in, it tells whoever connects why.
    """
    listener = None
    try:
        listener = made = transport.listen(address)
        return fork(
            title,
            (made.fileno(), *keep),
            lambda: main(made),
            lambda error: transport.turn_away(made, error),
        )
    except (OSError, MemoryError) as error:
        if listener is not None:
            os.unlink(listener.path)
        return f"no process can be started: {transport.why(error)}"
    finally:
        if listener is not None:
            listener.close()


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

    def exposed_start(self, role: Literal["watchdog", "client"], ident: int, address: str) -> int | str:
        """Start the "watchdog" of a server or a "client", listening at *address*.

        Returns its process id, or why there is none.
        """
        import client
        import watchdog

        mains = {"watchdog": watchdog.main, "client": client.main}
        self._see_off_the_dead()
        title = f"daadkvs {role} {ident} ({self._run_directory})"
        started = fork_listening(
            title,
            address,
            (self._alive,),
            lambda listener: mains[role](listener, ident, self._run_directory, self._alive),
        )
        if isinstance(started, int):
            self._children.add(started)
            self._newest = (started, address)
        return started

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
    except Exception as error:  # say so first
        transport.farewell(sock, error)
        raise
    finally:
        os.killpg(0, signal.SIGKILL)


class Spawner:
    """The master's end."""

    def __init__(self, run_directory: str, temporary: list[str], timeout: float) -> None:
        """Fork the spawner. To be called while the process has one thread and little open.

        *temporary*: the folders that go with the run, in the order in which they are to be removed. The spawner
        does that where the master can't.
        """
        ours, theirs = socket.socketpair()
        self._gone, alive = os.pipe()
        master = os.getpid()

        def main() -> None:
            os.chdir(run_directory)
            transport.let_in(master)
            _main(theirs, run_directory, temporary, alive)

        self.pid = fork(
            f"daadkvs spawner ({run_directory})",
            (theirs.fileno(), alive),
            main,
            lambda error: transport.farewell(theirs, error),
            leads=True,
        )
        """Its process id, and that of the session that it leads."""
        theirs.close()
        os.close(alive)
        self._remote = transport.Remote(ours, timeout)

    def start(self, role: str, ident: int, address: str) -> int:
        """Start the "watchdog" of a server or a "client"; returns its process id. Raises Failure, Interrupted.

        After either, nothing is left of it: what the spawner starts later all the same, it kills at once.
        """
        try:
            started = self._remote.call("start", role, ident, address)
        except transport.Interrupted:
            self._abandon(address)
            raise
        except transport.Silent as failure:
            self._abandon(address)
            raise transport.Failure("the process that starts all others does not answer") from failure
        except transport.RemoteError as error:
            text = f"the process that starts all others has failed: {error}; start Daadkvs anew"
            raise transport.Failure(text) from error
        except transport.Failure as failure:
            raise transport.Failure("the process that starts all others is gone; start Daadkvs anew") from failure
        if isinstance(started, str):
            raise transport.NoRoom(started)
        return int(started)

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
            if os.getsid(pid) != self.pid:
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
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            poller.poll(patience * 1000)
        os.waitpid(self.pid, 0)
        os.close(self._gone)
