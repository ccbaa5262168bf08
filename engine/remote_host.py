"""One host of a cluster, as the master has it: the agent there, and all connections to that host.

May live here: what is asked of an agent, and noticing that it can't be asked any more. May not: which hosts there are
(engine/hosts.py).

The master's thread may be waiting for a server when the server's host is lost. So a thread for each host waits for the
end of the connection to the agent, and then ends all other connections to that host. This is the only thing that the
threads do.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control.hosts import EXIT_PATIENCE_SECONDS
from engine.found import Found
from engine.keeper import Keeper
from rpc import tls, transport
from rpc.spawner import Starts
from storage import StorageError, folder_of

__all__ = ["RemoteHost"]

UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN)
"""How the system says that nothing is heard of a machine."""


AHEAD_SECONDS = 0.1
"""How long another machine may take to accept a connection that is made ahead."""

ACTIVITY_SECONDS = 0.5
"""How long an agent may take to say what a process does."""


class RemoteHost:
    """A host with an agent (`control.hosts.Host`)."""

    def __init__(
        self,
        found: Found,
        about: dict[str, Any],
        handshake: tls.Handshake,
        keeper: Keeper,
        timeout: float,
        host_timeout: float,
        connect_all_ahead: Callable[[], None],
    ) -> None:
        """Take an agent, *about* which this is known (`_Agent.about`). Raises Failure, OSError, KeyError, TypeError.

        *handshake*: the connection to it, which has begun. *timeout* of each call, *host_timeout* until the host counts
        as lost, in seconds. *connect_all_ahead* calls `connect_ahead` of all hosts; it is called while another process
        does its part of a handshake.
        """
        self.found = found
        self.process: tuple[int, str, str] = (about["pid"], about["started"], about["folder"])
        """The agent's process id, its start time, and its folder."""
        self.can_be_reached = True
        """False if it was lost since nothing was heard of its machine."""
        self._stores = Path(about["stores"])
        self._keeper = keeper
        self._timeout = timeout
        self._connect_all_ahead = connect_all_ahead
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._remotes: weakref.WeakSet[transport.Remote] = weakref.WeakSet()
        self._ahead: dict[str, tls.Handshake] = {}
        """Connections that were begun ahead, by address."""
        self._is_near = True
        """Whether connections can be begun ahead without waiting for long."""
        sock = handshake.finish(timeout)
        tls.detect_loss(sock, host_timeout)
        watched = socket.socket(fileno=os.dup(sock.fileno()))
        self._agent = transport.Remote(sock, timeout)
        self._starts = Starts(self._agent, f"the agent on host {self.name}", waits=False)
        threading.Thread(target=self._watch, args=(watched,), daemon=True).start()

    @property
    def name(self) -> str:
        return self.found.name

    # -- the loss of the host ------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        with self._lock:  # so that all connections have ended, if it is
            return self._ended.is_set()

    def _watch(self, watched: socket.socket) -> None:
        """Wait for the end of the connection to the agent, and then end all others to this host."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        poller = select.poll()
        poller.register(watched, transport.ENDED)
        poller.poll()
        with watched:
            if watched.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in UNREACHABLE:
                self.can_be_reached = False
        with self._lock:
            for remote in self._remotes:
                remote.abort()
            self._ended.set()

    def connect_ahead(self) -> None:
        """Begin to connect to what was started early: the handshakes go on while other processes are started."""
        for handshake in self._ahead.values():
            handshake.go_on()
        for address in self._starts.early_addresses():
            if address not in self._ahead and self._is_near:
                try:
                    self._ahead[address] = tls.Handshake(address, AHEAD_SECONDS)
                except transport.Failure:
                    self._is_near = False  # or it has ended, which `connect` will show

    def drop_ahead(self) -> None:
        """Close what was begun ahead."""
        for handshake in self._ahead.values():
            handshake.close()
        self._ahead.clear()

    def connect(self, address: str, timeout: float) -> transport.Remote:
        if self.is_lost:
            raise transport.Unreachable(f"host {self.name} is gone")
        remote = self._connect(address, timeout)
        with self._lock:
            if not self._ended.is_set():
                self._remotes.add(remote)
                return remote
        remote.close()
        raise transport.Unreachable(f"host {self.name} is gone")

    def _connect(self, address: str, timeout: float) -> transport.Remote:
        """A connection, which may have been begun ahead. Raises Failure."""
        ahead = self._ahead.pop(address, None)
        if ahead is not None and ahead.is_stale:
            ahead.close()
        elif ahead is not None:
            remote = self._finish(ahead, timeout)
            if remote.alive:
                return remote
            remote.close()  # its process has ended since, as the next attempt will show
        return self._finish(tls.Handshake(address, timeout), timeout)

    def _finish(self, handshake: tls.Handshake, timeout: float) -> transport.Remote:
        self._connect_all_ahead()
        return transport.Remote(handshake.finish(timeout), timeout)

    # -- what is done there --------------------------------------------------------------------------------

    def start(self, role: str, ident: int, name: str) -> tuple[int, str]:
        return self._starts.start(role, ident, name)

    def start_early(self, role: str, ident: int, order: bytes) -> None:
        self._starts.start_early(role, ident, order)

    def drop_early(self) -> bool:
        """Kill the processes that were started early, and are not wanted; returns whether there were any."""
        self.drop_ahead()
        return self._starts.drop_early()

    def new_address(self, name: str) -> str:
        return transport.new_address(f"tls:{self.found.ip}", name)

    def kill(self, pid: int, patience: float) -> bool:
        """If the agent does not answer, it is ended, with all that is on its host."""
        try:
            return bool(self._agent.call("kill_process", pid, patience, timeout=2 * patience))
        except transport.Interrupted:
            return True  # the agent has the call, and carries it out before anything that it is asked later
        except transport.Silent:
            return self.end_by_force()
        except transport.Failure:
            return True  # the agent is gone, and with it what it has started

    def activity(self, pid: int) -> tuple[int, bool]:
        try:
            time, wants = self._agent.call("activity", pid, timeout=ACTIVITY_SECONDS)
            return time, wants
        except (transport.Failure, transport.Interrupted):
            return 0, False

    def end_by_force(self) -> bool:
        """Have the worker kill the agent and all that it has started; returns whether that is certain. Blocks."""
        self._agent.abort()
        return self.found in self._keeper.end_agents({self.found: self.process})

    def folder(self, server: int) -> str:
        return str(folder_of(self._stores, server))

    def has_store(self, server: int) -> bool:
        return bool(self._agent.call("has_store", server))

    def cut_group(self, server: int, group: int, fsync: str) -> None:
        why = self._agent.call("cut_group", server, group, fsync)
        if why is not None:
            raise StorageError(why)

    # -- the end of the run --------------------------------------------------------------------------------

    def fetch_traces(self, folder: Path) -> dict[str, int]:
        """Copy the traces of this host to a folder here. Blocks. Raises OSError, Failure.

        Returns what must be added to the times in each file, to have them in the time of this machine.
        """
        difference = self._difference()
        names = self._agent.call("trace_files")
        for name in names:
            with open(folder / os.path.basename(name), "wb") as file:
                while piece := self._agent.call("read_trace", name, file.tell()):
                    file.write(piece)
        return dict.fromkeys(names, difference)

    def _difference(self) -> int:
        """What must be added to this host's time, in nanoseconds; 0 if its clock is that of this machine. Blocks."""
        sent = time.monotonic_ns()
        there = int(self._agent.call("clock"))
        received = time.monotonic_ns()
        return 0 if sent <= there <= received else (sent + received) // 2 - there

    def tell_end(self) -> None:
        """Tell the agent that the run is over. Does not wait."""
        self.drop_ahead()  # who has no connection ends by itself
        try:
            self._agent.tell("end")
        except transport.Failure:
            pass  # it is gone

    def wait_end(self) -> bool:
        """Wait until the agent is gone; returns whether that was in time."""
        gone = self._ended.wait(EXIT_PATIENCE_SECONDS)
        self._agent.close()
        return gone
