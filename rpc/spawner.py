"""The process that starts all others: it has everything imported, and forks.

May live here: the spawner and the master's end of it. May not: what the processes that it starts then do, nor an
import of them: they are handed in.

Starting Python and importing RPyC takes far longer than a fork. So the master forks this process first of all,
before it opens anything. The spawner imports what every role needs, and then forks watchdogs and clients when the
master asks for them. (A watchdog forks its server itself, in order to be its parent.)

All of them are one process group in a session of their own, so a Ctrl-C at the terminal reaches the master alone.
Their current folder is the run directory; scripts/cleanup.py recognizes them by that folder and by the session.
When the master is gone, for whatever reason, each process sees its connection end: watchdogs kill their servers and
end, clients end, and the spawner waits for them all, removes the run's folders, and kills what is left of the group,
since a frozen process can't see anything. Each process holds the write end of one pipe: when the master reads the end
of that pipe, all of them are gone.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Literal, NoReturn

from rpc import transport
from rpc.forking import await_end, fork, fork_listening, reap

__all__ = [
    "END_PATIENCE_SECONDS",
    "GC_THRESHOLDS",
    "Role",
    "Roles",
    "Spawner",
    "SpawnerService",
    "StarterFailed",
    "Starts",
    "activity",
    "kill_in_session",
]

Role = Callable[[transport.Listener, int, str, int, bytes], object]
"""The main function of a forked process: of (listener, id, run directory, descriptor of the pipe to hold, order)."""

Roles = Mapping[str, Role]
"""By name: "watchdog" and "client"."""

GC_THRESHOLDS = (100_000, 20, 100)
"""A store is a great many small tuples, none of which is garbage. Collecting often would take half of the time."""

END_PATIENCE_SECONDS = 1.0
"""How long processes may take to end by themselves."""


class SpawnerService(transport.Service):
    """What the master asks the spawner for."""

    def __init__(self, roles: Roles, run_directory: str, alive: int, place: str = "") -> None:
        """*place*: where processes listen, as `transport.new_address` takes it (default: the run directory)."""
        self._roles = roles
        self._run_directory = run_directory
        self._alive = alive
        self._place = place or run_directory
        self._children: dict[str, tuple[int, str]] = {}
        """By the name of each child: its process id, and its address."""

    def exposed_start(
        self, role: Literal["watchdog", "client"], ident: int, name: str, order: bytes
    ) -> tuple[int, str] | str:
        """Start the "watchdog" of a server or a "client". No other process of the run has the same *name*.

        *order*: what a watchdog will be asked for (`watchdog.main`), if that is known already.

        Returns its process id and its address, or the reason why it could not be started.
        """
        self._reap()
        title = f"daadkvs {role} {ident} ({self._run_directory})"
        started = fork_listening(
            title,
            transport.new_address(self._place, name),
            (self._alive,),
            lambda listener: self._roles[role](listener, ident, self._run_directory, self._alive, order),
        )
        if not isinstance(started, str):
            self._children[name] = started
        return started

    def exposed_abandon(self, name: str) -> None:
        """Have the process with this name end, if there is one, with all that it has started: nobody wants it."""
        if name in self._children:
            pid, address = self._children.pop(name)
            patience = END_PATIENCE_SECONDS
            try:
                transport.connect(address, patience).close()  # it ends when its first connection does
            except (transport.Failure, OSError):
                patience = 0.0
            reap(pid, patience)
            transport.discard(address)

    def _reap(self) -> None:
        """Reap the processes that the master has killed, so that none of them stays listed for the rest of the run."""
        for name, (pid, _) in list(self._children.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._children[name]

    def end_waiting(self) -> None:
        """Have those children end that still wait for the master to connect."""
        for _, address in self._children.values():
            try:
                transport.connect(address, END_PATIENCE_SECONDS).close()
            except (transport.Failure, OSError):
                pass  # it has had its connection

    def see_off(self, remove_folders: Callable[[], None]) -> NoReturn:
        """Wait until all children have ended, `END_PATIENCE_SECONDS` at most, and remove the run's folders."""

        def finish(*_: object) -> NoReturn:
            remove_folders()
            os.killpg(0, signal.SIGKILL)
            raise AssertionError("unreachable")

        signal.signal(signal.SIGALRM, finish)
        signal.setitimer(signal.ITIMER_REAL, END_PATIENCE_SECONDS)
        self.end_waiting()
        for pid, _ in self._children.values():
            os.waitpid(pid, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        finish()


def _main(
    sock: socket.socket,
    load_roles: Callable[[], Roles],
    run_directory: str,
    remove_folders: Callable[[], None],
    alive: int,
) -> None:
    roles = load_roles()  # once, for all processes that are forked from here
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    service = SpawnerService(roles, run_directory, alive)
    fd, on_readable = transport.serve_polled(sock, service)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    try:
        while True:
            poller.poll()
            on_readable()
    except EOFError:
        service.see_off(remove_folders)
    except Exception as error:  # tell the master first
        transport.farewell(sock, error)
        raise
    finally:
        os.killpg(0, signal.SIGKILL)


class StarterFailed(transport.Failure):
    """Who should start a process is gone, is silent, or has failed: it is no use to ask it again."""


class Starts:
    """The master's end of a `SpawnerService`: it has processes started, some of them before they are wanted."""

    def __init__(self, remote: transport.Remote, starter: str, advice: str = "", waits: bool = True) -> None:
        """For errors: *starter* is who starts them, and *advice* what to do where it is gone.

        *waits*: whether `drop_early` waits until there is room for others.
        """
        self._remote = remote
        self._starter = starter
        self._advice = advice
        self._waits = waits
        self._early: dict[tuple[str, int], tuple[str, transport.Pending]] = {}
        """By role and id: the name of a process that was started early, and the call that starts it."""
        self._count = 0

    def start(self, role: str, ident: int, name: str) -> tuple[int, str]:
        """Start the "watchdog" of a server or a "client"; returns its process id and address.

        No other process of the run has the same *name*. Takes the process that was started early, if there is one.
        Raises Failure, Interrupted. After either, no process remains: if it is started later, it is killed at once.
        """
        early = self._early.pop((role, ident), None)
        name, begun = early or (name, None)
        try:
            return self._wait_for(begun or self._remote.send("start", role, ident, name, b""))
        except transport.Interrupted:
            self._abandon(name)
            raise
        except transport.Silent as failure:
            self._abandon(name)
            raise StarterFailed(f"{self._starter} does not answer") from failure
        except transport.RemoteError as error:
            raise StarterFailed(f"{self._starter} has failed: {error}{self._advice}") from error
        except transport.NoRoom:
            if not self.drop_early() and early is None:
                raise
        except transport.Failure as failure:
            raise StarterFailed(f"{self._starter} is gone{self._advice}") from failure
        return self.start(role, ident, name)  # now that there may be room

    def _wait_for(self, begun: transport.Pending) -> tuple[int, str]:
        started = begun.wait()
        if isinstance(started, str):
            raise transport.NoRoom(started)
        pid, address = started
        return pid, address

    def _abandon(self, name: str) -> None:
        """Have the process killed right after it has been started, whenever that is."""
        try:
            self._remote.tell("abandon", name)
        except transport.Failure:
            pass  # who should start it is gone, and every process with it

    def start_early(self, role: str, ident: int, order: bytes) -> None:
        """Have a process started that `start` will soon be called for. Does not wait for it. Raises nothing.

        *order*: as for `SpawnerService`.
        """
        if (role, ident) not in self._early:
            self._count += 1
            name = f"{role}-{ident}-early-{self._count}"
            try:
                self._early[role, ident] = (name, self._remote.send("start", role, ident, name, order))
            except transport.Failure:
                pass  # who should start it is gone, as whoever calls `start` will be told

    def early_addresses(self) -> list[str]:
        """Where the processes listen that were started early, as far as they are there by now. Never blocks."""
        addresses = []
        try:
            self._remote.read_answers()
            for _, begun in self._early.values():
                if begun.is_answered and not isinstance(started := begun.receive(), str):
                    addresses.append(started[1])
        except transport.Failure:
            pass  # whoever calls `start` will be told
        return addresses

    def drop_early(self) -> bool:
        """Have the processes killed that were started early, and are not wanted; returns whether there were any."""
        dropped, self._early = self._early, {}
        try:
            for name, _ in dropped.values():
                if self._waits:
                    self._remote.call("abandon", name)
                else:
                    self._remote.tell("abandon", name)
        except transport.Failure:
            pass  # who has started them is gone, and every process with it
        return bool(dropped)


def kill_in_session(leader: int, pid: int, patience: float) -> bool:
    """Kill a process, if the process *leader* leads its session; returns whether it was gone within *patience* s."""
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        return error.errno == errno.ESRCH
    try:
        if os.getsid(pid) != leader:
            return True  # it has ended, and another process has the id now
        signal.pidfd_send_signal(process, signal.SIGKILL)
        return await_end(process, patience)
    except ProcessLookupError:
        return True
    finally:
        os.close(process)


def activity(pid: int) -> tuple[int, bool]:
    """What a process does: the processor time that its threads have had, and whether one of them wants more.

    The time is in nanoseconds. A thread wants a processor if it runs, or would if others did not use all of them. (0,
    False) if there is no such process, or /proc does not show it.
    """
    time, wants = 0, False
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as file:
                time += int(file.read().split()[0])
            with open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                wants = wants or file.read().rpartition(b") ")[2].startswith(b"R")
    except (OSError, IndexError):
        pass  # it has ended, or a thread of it has
    return time, wants


class Spawner:
    """The master's end."""

    def __init__(
        self,
        load_roles: Callable[[], Roles],
        run_directory: str,
        remove_folders: Callable[[], None],
        timeout: float,
    ) -> None:
        """Fork the spawner. To be called while the process has one thread and little open.

        *load_roles* is called in the spawner, and imports what is to be started: the master, which must start fast,
        doesn't need it. *remove_folders* removes the run's folders at its end; the spawner does so in any case, since
        the master may be killed. *timeout* of each call, in seconds.
        """
        ours, theirs = socket.socketpair()
        self._gone, alive = os.pipe()
        master = os.getpid()

        def main() -> None:
            os.chdir(run_directory)
            transport.let_in(master)
            _main(theirs, load_roles, run_directory, remove_folders, alive)

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
        self._starts = Starts(self._remote, "the process that starts all others", "; start Daadkvs anew")
        self._asked = False

    def start(self, role: str, ident: int, name: str) -> tuple[int, str]:
        """As `Starts.start`."""
        self._asked = True
        return self._starts.start(role, ident, name)

    def start_early(self, role: str, ident: int, order: bytes) -> None:
        """As `Starts.start_early`."""
        self._asked = True
        self._starts.start_early(role, ident, order)

    def drop_early(self) -> bool:
        """As `Starts.drop_early`."""
        return self._starts.drop_early()

    def kill(self, pid: int, patience: float) -> bool:
        """Kill a process of this run, whoever started it; returns whether it was gone within *patience* seconds.

        This is for when the process that should do it doesn't. No other process has to answer, not even the spawner.
        """
        return kill_in_session(self.pid, pid, patience)

    def end(self, patience: float) -> None:
        """Wait until every process that came from here is gone; their connections to the master are closed.

        Kills what is left after *patience* seconds.
        """
        self._remote.close()
        if not self._asked:
            os.kill(self.pid, signal.SIGKILL)  # it has started nothing, and may still import what it would start
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
