"""Starting servers and clients, and undoing a start that has failed.

May live here: starting the processes of one id, until they can be called. May not: links, connections, and who learns
of them (control/cluster.py).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable

import msgpack

from control.commands import CommandError
from control.hosts import Hosts
from control.members import Client, Members, Server
from control.settings import Settings
from control.supervisor import Supervisor
from messages import Command
from rpc import tracing, transport

__all__ = ["Starter"]

ROLES = {"joinServer": "watchdog", "joinClient": "client"}
"""The process that the spawner starts for a command."""

EARLY_STARTS = 10
"""How many processes are started early, at most, so that few are in the way of others where room is scarce."""


class Starter:
    """Starts the processes of servers and clients."""

    def __init__(
        self,
        settings: Settings,
        members: Members,
        supervisor: Supervisor,
        hosts: Hosts,
        warn: Callable[[str], None],
    ) -> None:
        """*warn* is called with a description of damage that a server has survived."""
        self._settings = settings
        self._members = members
        self._supervisor = supervisor
        self._hosts = hosts
        self._warn = warn

    def start_early(self, command: Command, following: Iterable[Command]) -> None:
        """Have the processes started that these commands will start, so that they get ready beside each other.

        Of those *following*, only the joins count that come right behind *command*. Does not wait. Nobody can tell: what
        a process has to know, it learns when its command is carried out; and a process that is not wanted in the end is
        killed. A trace shows when each process starts, so in a traced run all start when their commands come.
        """
        joins = itertools.takewhile(lambda each: each.name in ROLES, itertools.chain([command], following))
        wanted = [(ROLES[join.name], join.ids[0]) for join in itertools.islice(joins, EARLY_STARTS)]
        if len(wanted) > 1 and not tracing.on:
            for role, ident in wanted:
                if ident not in self._members.servers and ident not in self._members.clients:
                    self._hosts.start_early(role, ident)
        elif not wanted:
            self._hosts.drop_early()

    def start_server(self, server: Server, incarnation: int) -> int:
        """Start a server on its host, and wait until it is ready; returns the largest timestamp in its store.

        Raises Failure, StorageError, OSError, CommandError, MemoryError or Interrupted; then call `discard`.
        """
        host = server.host
        assert host is not None
        if server.uncut is not None and host.has_store(server.ident):
            host.cut_group(server.ident, server.uncut, self._settings.fsync)
        server.uncut = None
        if server.watchdog is None:
            name = f"watchdog-{server.ident}-{incarnation}"
            server.watchdog_pid, address = host.start("watchdog", server.ident, name)
            server.watchdog = host.connect(address, self._supervisor.limit)
            self._members.watch(server.watchdog, server)
        options = {
            "server": server.ident,
            "incarnation": incarnation,
            "folder": host.folder(server.ident),
            "gossip_interval": self._settings.gossip_interval,
            "fsync": self._settings.fsync,
            "timeout": self._settings.timeout,
            "kept": self._settings.data_directory is not None,
            "group_limit": self._settings.group_limit,
        }
        address = host.new_address(f"server-{server.ident}-{incarnation}")
        call = "start", address, msgpack.packb(options, unicode_errors="surrogateescape")
        started = server.watchdog.call(*call)
        if isinstance(started, str) and self._hosts.drop_early():  # they may have taken its room
            started = server.watchdog.call(*call)
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

    def start_client(self, ident: int, stamp: int) -> Client:
        """Start a client; *stamp* makes its name unique.

        Raises Failure, CommandError, MemoryError or Interrupted; then no process of it remains.
        """
        client = Client(ident)
        client.host = self._hosts.of_client(ident)
        try:
            client.pid, address = client.host.start("client", ident, f"client-{ident}-{stamp}")
            client.remote = client.host.connect(address, self._settings.timeout)
        except (transport.Failure, MemoryError):
            self._supervisor.kill_client(client)
            raise
        self._members.watch(client.remote, client)
        return client
