"""The servers and clients of a run: their ids, their processes, and their connections to each other.

May live here: what the master remembers of them, questions about that, and the detection of connections that have
ended. May not: calls to other processes; what follows from a death (control/supervisor.py).
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import TYPE_CHECKING

from control.commands import CommandError
from control.hosts import Host
from control.overview import ClientOverview, Overview
from rpc import transport

if TYPE_CHECKING:
    from control.shaping import Shapes

__all__ = ["Client", "Members", "Server"]


class Server:
    """A server id, with its watchdog and its server process, as long as these exist."""

    kind = "server"

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.host: Host | None = None
        """Where its processes are, or were last."""
        self.watchdog: transport.Remote | None = None
        self.watchdog_pid = 0
        self.pid = 0
        """The id of the server process; 0 if there is none."""
        self.address = ""
        self.remote: transport.Remote | None = None
        self.loss: transport.Failure | None = None
        """How it was lost within a group, until this has been reported. None also if it died by itself."""
        self.uncut: int | None = None
        """The group that must be taken back from its log before it is started again, where its host was lost."""

    @property
    def running(self) -> bool:
        return self.remote is not None


class Client:
    """A client id, with its process, as long as that exists, and its connections in order."""

    kind = "client"

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.host: Host | None = None
        """Where its process is, or was last."""
        self.pid = 0
        self.remote: transport.Remote | None = None
        self.loss: transport.Failure | None = None
        """How it was lost within a group, until this has been reported. None also if it died by itself."""
        self.connections: list[int] = []

    @property
    def running(self) -> bool:
        return self.remote is not None


class Members:
    """All servers and clients that have been started in this run, including those that are dead."""

    def __init__(self) -> None:
        self.shapes: Shapes | None = None
        """The shapes of links; None as long as none has one."""
        self.servers: dict[int, Server] = {}
        self.clients: dict[int, Client] = {}
        self.links: dict[int, set[int]] = {}
        """Each running server's neighbours."""
        self._ends = select.poll()
        self._watched: dict[int, Server | Client] = {}

    # -- questions -----------------------------------------------------------------------------------------

    def running_server(self, ident: int) -> Server:
        """The server with this id. Raises CommandError if it is not running."""
        if ident in self.clients:
            raise CommandError(f"id {ident} is a client's, not a server's")
        server = self.servers.get(ident)
        if server is None or not server.running:
            raise CommandError(f"server {ident} is not running")
        return server

    def running_client(self, ident: int) -> Client:
        """The client with this id. Raises CommandError if it is not running."""
        if ident in self.servers:
            raise CommandError(f"id {ident} is a server's, not a client's")
        client = self.clients.get(ident)
        if client is None or not client.running:
            raise CommandError(f"client {ident} is not running")
        return client

    def ends_of_connection(self, idents: Sequence[int]) -> tuple[Server | Client, Server | Client]:
        """The members with these two ids, running or not. Raises CommandError if they can't be connected."""
        ends: list[Server | Client] = []
        for ident in idents:
            end = self.servers.get(ident) or self.clients.get(ident)
            if end is None:
                raise CommandError(f"id {ident} is unknown: neither a server nor a client of this run")
            ends.append(end)
        first, second = ends
        if first is second:
            raise CommandError(f"{first.kind} {first.ident} has no connection to itself")
        if isinstance(first, Client) and isinstance(second, Client):
            raise CommandError(
                f"client {first.ident} and client {second.ident} are both clients; one end must be a server"
            )
        return first, second

    def overview(self) -> Overview:
        """The state of the cluster, as far as the master knows."""
        return Overview(
            {ident: server.pid if server.running else None for ident, server in self.servers.items()},
            {ident: frozenset(others) for ident, others in self.links.items()},
            {
                ident: ClientOverview(client.pid if client.running else None, tuple(client.connections))
                for ident, client in self.clients.items()
            },
            {},
            {},
            *(self.shapes.shown() if self.shapes is not None else ("", {})),
            self._hosts(),
        )

    def awaited(self) -> str:
        """Whose answer is waited for, as text; empty where that is nobody's here. May be called by any thread."""
        for server in [*self.servers.values()]:
            if server.remote is not None and server.remote.waiting:
                return f"server {server.ident}"
            if server.watchdog is not None and server.watchdog.waiting:
                return f"the watchdog of server {server.ident}"
        for client in [*self.clients.values()]:
            if client.remote is not None and client.remote.waiting:
                asked = [str(server) for server in [*client.connections] if self.servers[server].running]
                return f"client {client.ident}" + (f", which asks server {' or '.join(asked)}" if asked else "")
        return ""

    def _hosts(self) -> dict[int, str]:
        members: dict[int, Server | Client] = {**self.servers, **self.clients}
        hosts = {ident: member.host for ident, member in members.items()}
        return {ident: host.name for ident, host in hosts.items() if host is not None and host.name}

    # -- connections that end ------------------------------------------------------------------------------

    def watch(self, remote: transport.Remote, end: Server | Client) -> None:
        """From now on, `ended` returns *end* once this connection to its process has ended."""
        self._ends.register(remote.descriptor, transport.ENDED)
        self._watched[remote.descriptor] = end

    def unwatch(self, remote: transport.Remote) -> None:
        """Stop watching a connection, and close it."""
        self._ends.unregister(remote.descriptor)
        del self._watched[remote.descriptor]
        remote.close()

    def ended(self) -> list[Server | Client]:
        """The members to which a connection has ended, for a server also that to its watchdog. Never blocks."""
        return [self._watched[descriptor] for descriptor, _ in self._ends.poll(0)]
