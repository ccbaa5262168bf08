"""Starting servers and clients, and undoing a start that has failed.

May live here: starting the processes of one id, until they can be called. May not: links, connections, and who learns
of them (control/cluster.py).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgpack

from control.commands import CommandError
from control.hosts import Host, Hosts
from control.members import Client, Members, Server
from control.settings import Settings
from control.supervisor import Supervisor
from messages import Command
from rpc import transport
from rpc.spawner import StarterFailed

__all__ = ["Starter"]

FEW_PROCESSES = 1000
"""Where a user or a container may have fewer processes than this, nothing is started early: it might take the room of
something else. (Other hosts are not asked.)"""

ROLES = {"joinServer": "watchdog", "joinClient": "client"}
"""The process that the spawner, or an agent, starts for a command."""

Order = tuple[str, bytes]
"""The arguments of a watchdog's `start`: where its server is to listen, and its packed options."""

EARLY_STARTS = 10
"""How many processes are started early, at most, so that few are in the way of others where room is scarce."""


T = TypeVar("T")


class Starter:
    """Starts the processes of servers and clients."""

    def __init__(
        self,
        settings: Settings,
        members: Members,
        supervisor: Supervisor,
        hosts: Hosts,
        stamp: Callable[[], int],
        warn: Callable[[str], None],
    ) -> None:
        """*stamp* returns a number that is larger than all before, or raises StorageError.

        *warn* is called with a description of damage that a server has survived.
        """
        self._settings = settings
        self._members = members
        self._supervisor = supervisor
        self._hosts = hosts
        self._stamp = stamp
        self._warn = warn
        self._early: dict[int, tuple[Host, Order | None]] = {}
        """Where each process was started early, by its id, and of servers how."""

    def start_early(self, coming: Iterable[Command]) -> None:
        """Have the processes started that the next commands will start, so that they get ready beside each other.

        *coming*: the commands that come next, as far as they are known; only the joins at their beginning count. Does
        not wait. Nobody can tell: no other process learns of a server or client before its own command is carried out,
        and what is not wanted in the end is killed. The trace of a process begins with its first connection.
        """
        joins = itertools.takewhile(lambda command: command.name in ROLES, coming)
        wanted: dict[int, str] = {}
        for join in itertools.islice(joins, EARLY_STARTS):
            wanted.setdefault(join.ids[0], ROLES[join.name])
        if not wanted:
            self.drop_early()
        elif len(wanted) > 1 and (self._settings.engine is not None or _has_room()):
            for ident, role in wanted.items():
                if not (ident in self._early or ident in self._members.servers or ident in self._members.clients):
                    self._start_early(role, ident)

    def _start_early(self, role: str, ident: int) -> None:
        host, order = self._hosts.expected(ident), None
        if host is None:
            return
        if role == "watchdog" and self._settings.data_directory is None:  # a store that is kept is looked at before
            order = self._order(ident, host)
        self._early[ident] = (host, order)
        host.start_early(role, ident, msgpack.packb(order) if order else b"")

    def drop_early(self) -> bool:
        """Kill the processes that were started early, and are not wanted; returns whether there were any."""
        self._early.clear()
        return self._hosts.drop_early()

    def _order(self, ident: int, host: Host) -> Order:
        """How a server is to be started on a host."""
        incarnation = self._stamp()
        options = {
            "server": ident,
            "incarnation": incarnation,
            "folder": host.folder(ident),
            "gossip_interval": self._settings.gossip_interval,
            "fsync": self._settings.fsync,
            "timeout": self._settings.timeout,
            "kept": self._settings.data_directory is not None,
            "group_limit": self._settings.group_limit,
        }
        packed = msgpack.packb(options, unicode_errors="surrogateescape")
        return host.new_address(f"server-{ident}-{incarnation}"), packed

    def start_server(self, server: Server) -> int:
        """Start a server on its host, and wait until it is ready; returns the largest timestamp in its store.

        Raises Failure, StorageError, OSError, CommandError, MemoryError or Interrupted; then call `discard`.
        """

        def undo() -> None:
            self._supervisor.kill([server])
            self._supervisor.forget_process(server)
            self._supervisor.drop_watchdog(server)

        return self._twice(server.ident, lambda: self._start_server(server), undo)

    def _twice(self, ident: int, start: Callable[[], T], undo: Callable[[], None]) -> T:
        """What *start* returns, which starts the processes of *ident*.

        If it fails, it may be because what was started early was lost meanwhile, or has taken the room of these
        processes. Then *undo* is called, and *start* once more, with nothing started early.
        """
        was_early = ident in self._early
        try:
            return start()
        except StarterFailed:
            raise
        except transport.Failure:
            if not self.drop_early() and not was_early:
                raise
        undo()
        return start()

    def _start_server(self, server: Server) -> int:
        host = server.host
        assert host is not None
        if server.uncut is not None and host.has_store(server.ident):
            host.cut_group(server.ident, server.uncut, self._settings.fsync)
        server.uncut = None
        expected, order = self._early.pop(server.ident, (host, None))
        if order is None or expected is not host:
            order = self._order(server.ident, host)
        if server.watchdog is None:
            name = f"watchdog-{server.ident}-{self._stamp()}"
            server.watchdog_pid, address = host.start("watchdog", server.ident, name)
            server.watchdog = host.connect(address, self._supervisor.limit)
            self._members.watch(server.watchdog, server)
        started = server.watchdog.call("start", *order)
        if isinstance(started, str):
            raise transport.NoRoom(started)
        server.pid, server.address = started
        server.remote = host.connect(server.address, self._supervisor.limit)
        self._members.watch(server.remote, server)
        return self._await_recovery(server.remote)

    def _await_recovery(self, remote: transport.Remote) -> int:
        """Wait until a server has recovered, as long as it makes progress; returns the largest timestamp found."""
        # A server waits for up to one time-out if another process still holds its folder.
        patience = 2 * self._settings.timeout
        progress, since = 0, time.monotonic()
        while True:
            state, *details = remote.call("state", min(1.0, self._settings.timeout / 2))
            if state == "failed":
                raise CommandError(details[0])
            if state == "ready":
                largest, damages = details
                for damage in damages:
                    self._warn(
                        f"{damage}; the file is set aside, and what is lost will be fetched from servers that have it"
                    )
                return int(largest)
            if details[0] != progress:
                progress, since = details[0], time.monotonic()
            elif time.monotonic() - since > patience:
                raise CommandError("no progress in reading its store")

    def discard(self, server: Server) -> None:
        """Undo a start that has failed. A server that is known from before keeps its watchdog."""
        self._supervisor.kill([server])
        self._supervisor.forget_process(server)
        if server.ident not in self._members.servers:
            self._supervisor.drop_watchdog(server)
            self._hosts.forget_server(server.ident)

    def start_client(self, ident: int) -> Client:
        """Start a client. Raises Failure, CommandError, StorageError, MemoryError or Interrupted.

        Then no process of it remains.
        """
        host = self._hosts.of_client(ident)
        return self._twice(ident, lambda: self._start_client(ident, host), lambda: None)

    def _start_client(self, ident: int, host: Host) -> Client:
        client, name = Client(ident), f"client-{ident}-{self._stamp()}"
        self._early.pop(ident, None)
        client.host = host
        try:
            client.pid, address = host.start("client", ident, name)
            client.remote = host.connect(address, self._settings.timeout)
        except (transport.Failure, MemoryError):
            self._supervisor.kill_client(client)
            raise
        self._members.watch(client.remote, client)
        return client


@cache
def _has_room() -> bool:
    """Whether the system lets this run have as many processes as it likes, as far as that can be known."""
    import resource  # not at the top: many runs have no joins that follow each other

    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    limits = [] if soft == resource.RLIM_INFINITY else [soft]
    try:
        limits.append(int(Path("/sys/fs/cgroup/pids.max").read_text()))
    except (OSError, ValueError):
        pass  # there is no such limit, or it is "max"
    return min(limits, default=FEW_PROCESSES) >= FEW_PROCESSES
