"""What a script asks for, whatever gossip does: its commands as they concern servers, links and sessions.

May live here: which line is an error and why, who runs, who is linked to whom and when, which server takes a put, and
which servers a get may ask. None of this depends on gossip, so it is found out once for each script. May not: what
servers know of (exchanges.py), and what comes of it (search.py).

Lines are read, parsed and judged by the rooms that the master uses: control/script.py, control/members.py, session.py
and router.py. Only the texts that control/cluster.py has for itself are repeated here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from control import members
from control.commands import Command, CommandError
from control.script import Script
from router import components
from session import Session

__all__ = ["GAP", "Ask", "Change", "Death", "Get", "Life", "Plan", "Print", "Put", "Stabilize", "Step", "make_plan"]

GAP = 1 << 20
"""What happens has the times GAP, 2 * GAP, 3 * GAP, …; exchanges have the times between."""


class Death(NamedTuple):
    """A server dies by itself, just before the command in this line."""

    line: int
    server: int


class Put(NamedTuple):
    """A server takes a value. *number*: its place among all puts of the script, from 1; the larger one stands."""

    line: int
    time: int
    server: int
    client: int
    key: bytes
    value: bytes
    number: int


class Ask(NamedTuple):
    """A client asks a server for a value, unless an earlier server has answered."""

    time: int
    server: int


class Get(NamedTuple):
    """The servers that a client may ask, in this order."""

    line: int
    client: int
    key: bytes
    asks: tuple[Ask, ...]


class Print(NamedTuple):
    """A server prints its store."""

    line: int
    time: int
    server: int


class Stabilize(NamedTuple):
    """All servers of each component learn what any of them knows."""

    line: int
    time: int
    components: tuple[frozenset[int], ...]


Step = Put | Get | Print | Stabilize


What = Literal["start", "kill", "link", "unlink", "connect", "disconnect"]


class Change(NamedTuple):
    """A server starts or is killed; a link is made or ends; a client gets or loses a connection."""

    line: int
    time: int
    what: What
    ids: tuple[int, ...]


class Life(NamedTuple):
    """One life of a link, or of a server: from one time until another."""

    start: int
    end: int

    def covers(self, first: int, last: int) -> bool:
        """Whether it stands from *first* to *last*."""
        return self.start < first and last < self.end


class Plan(NamedTuple):
    """All that a script does."""

    steps: list[Step]
    changes: list[Change]
    puts: list[Put]
    """By number, from 1."""
    links: dict[int, dict[int, list[Life]]]
    """Server -> neighbour -> the lives of their link."""
    servers: dict[int, list[Life]]
    """Each server that ever ran -> its lives."""
    errors: dict[int, str]
    """Line -> why its command can't be carried out."""
    texts: dict[int, bytes]
    """Line -> the command, spelled plainly."""
    critical: list[Death]
    """The last moments at which the death of a server would make a difference to what the script does next."""
    bytes_put: int


class _Server(members.Server):
    """A server id, as members.py knows it, without processes."""

    up = False

    @property
    def running(self) -> bool:
        return self.up


class _Client(members.Client):
    """A client id with its session."""

    def __init__(self, ident: int) -> None:
        super().__init__(ident)
        self.session = Session()

    @property
    def running(self) -> bool:
        return True


def make_plan(script: bytes, deaths: Sequence[Death] = ()) -> Plan:
    """What a script asks for, if these servers die by themselves on the way."""
    return _Planner(deaths).plan(script)


class _Planner:
    def __init__(self, deaths: Sequence[Death]) -> None:
        self._deaths = deaths
        self._members = members.Members()
        self._clients: dict[int, _Client] = {}
        self._plan = Plan([], [], [], {}, {}, {}, {}, [], 0)
        self._time = 0
        self._line = 0
        self._bytes_put = 0

    def plan(self, script: bytes) -> Plan:
        handlers: dict[str, Callable[[Command], None]] = {
            "joinServer": self._join_server,
            "killServer": lambda command: self._kill(self._members.running_server(command.ids[0]).ident),
            "joinClient": self._join_client,
            "breakConnection": self._break_connection,
            "createConnection": self._create_connection,
            "shapeConnection": self._shape_connection,
            "stabilize": self._stabilize,
            "printStore": self._print_store,
            "put": self._put,
            "get": self._get,
        }
        fd = os.memfd_create("script")
        try:
            os.write(fd, script)
            os.lseek(fd, 0, os.SEEK_SET)
            lines = Script(fd, "line")
            while (step := lines.next()) is not None:
                self._line = int(step.where.rpartition(" ")[2])
                for death in self._deaths:
                    if death.line == self._line:
                        self._kill(death.server)
                try:
                    if step.command is None:
                        raise CommandError(step.error)
                    self._plan.texts[self._line] = step.command.line
                    handlers[step.command.name](step.command)
                except CommandError as error:
                    named = f"{step.command.name}: " if step.command else ""
                    self._plan.errors[self._line] = f"{named}{error}"
        finally:
            os.close(fd)
        self._tick()
        for lives in (
            *self._plan.servers.values(),
            *(life for of in self._plan.links.values() for life in of.values()),
        ):
            lives[:] = [Life(start, end or self._time) for start, end in lives]
        return self._plan._replace(bytes_put=self._bytes_put)

    def _tick(self) -> int:
        self._time += GAP
        return self._time

    def _changes(self, what: What, *ids: int) -> int:
        """Note a change, and return its time."""
        time = self._tick()
        self._plan.changes.append(Change(self._line, time, what, ids))
        return time

    def _matters(self, server: int) -> None:
        """From here on it would make a difference if this running server were dead."""
        running = self._members.servers.get(server)
        if running is not None and running.running:
            death = Death(self._line, server)
            if death not in self._plan.critical:
                self._plan.critical.append(death)

    # -- servers and links ---------------------------------------------------------------------------------

    def _join_server(self, command: Command) -> None:
        (ident,) = command.ids
        if ident in self._clients:
            raise CommandError(f"id {ident} is taken by a client")
        self._matters(ident)
        server = self._members.servers.setdefault(ident, _Server(ident))
        assert isinstance(server, _Server)
        if server.running:
            raise CommandError(f"server {ident} is already running")
        server.up = True
        self._plan.servers.setdefault(ident, []).append(Life(self._changes("start", ident), 0))
        self._members.links[ident] = set()
        for client in self._clients.values():
            client.session.mark(ident, True)
        for other in [other for other in self._members.links if other != ident]:
            self._link(ident, other)

    def _kill(self, ident: int) -> None:
        """What killServer does, and an end of its own."""
        server = self._members.servers[ident]
        if not server.running:
            return
        assert isinstance(server, _Server)
        server.up = False
        for other in list(self._members.links[ident]):
            self._unlink(ident, other)
        del self._members.links[ident]
        self._changes("kill", ident)
        self._end(self._plan.servers[ident])
        for client in self._clients.values():
            client.session.mark(ident, False)

    def _link(self, one: int, other: int) -> None:
        lives = [Life(self._changes("link", one, other), 0)]
        for end, far in ((one, other), (other, one)):
            self._members.links[end].add(far)
            neighbours = self._plan.links.setdefault(end, {})
            neighbours[far] = neighbours.get(far, []) + lives

    def _unlink(self, one: int, other: int) -> None:
        self._changes("unlink", one, other)
        for end, far in ((one, other), (other, one)):
            self._members.links[end].discard(far)
            self._end(self._plan.links[end][far])

    def _end(self, lives: list[Life]) -> None:
        lives[-1] = lives[-1]._replace(end=self._time)

    def _break_connection(self, command: Command) -> None:
        first, second = self._members.ends_of_connection(command.ids)
        for client, server in ((first, second), (second, first)):
            if isinstance(client, _Client):
                client.session.disconnect(server.ident)
                self._changes("disconnect", client.ident, server.ident)
        if second.ident in self._members.links.get(first.ident, ()):
            self._unlink(first.ident, second.ident)

    def _shape_connection(self, command: Command) -> None:
        """Late messages and lost ones change nothing of what may be printed."""
        self._members.ends_of_connection(command.ids)

    def _create_connection(self, command: Command) -> None:
        first, second = self._members.ends_of_connection(command.ids)
        for end, other in ((first, second), (second, first)):
            if isinstance(end, _Server):
                if isinstance(other, _Client):
                    self._matters(end.ident)
                self._members.running_server(end.ident)
        for client, server in ((first, second), (second, first)):
            if isinstance(client, _Client):
                self._connect(client, server.ident)
                return
        if second.ident not in self._members.links[first.ident]:
            self._link(first.ident, second.ident)

    def _stabilize(self, _: Command) -> None:
        for server in self._members.servers:
            self._matters(server)
        parts = tuple(frozenset(part) for part in components(self._members.links))
        self._plan.steps.append(Stabilize(self._line, self._tick(), parts))

    def _print_store(self, command: Command) -> None:
        self._matters(command.ids[0])
        server = self._members.running_server(command.ids[0])
        self._plan.steps.append(Print(self._line, self._tick(), server.ident))

    # -- clients -------------------------------------------------------------------------------------------

    def _join_client(self, command: Command) -> None:
        ident, server = command.ids
        if ident in self._members.servers:
            raise CommandError(f"id {ident} is taken by a server")
        self._matters(server)
        self._members.running_server(server)
        client = self._clients.setdefault(ident, _Client(ident))
        self._members.clients[ident] = client
        self._connect(client, server)

    def _connect(self, client: _Client, server: int) -> None:
        if server not in client.session.connections:
            client.session.connect(server)
            self._changes("connect", client.ident, server)
            client.connections = list(client.session.connections)

    def _usable(self, ident: int) -> tuple[int, ...]:
        self._members.running_client(ident)
        session = self._clients[ident].session
        if session.usable:
            return session.usable
        if not session.connections:
            raise CommandError(f"client {ident} has no connection")
        if len(session.connections) == 1:
            raise CommandError(f"client {ident} has only server {session.connections[0]}, which is not running")
        listed = ", ".join(map(str, session.connections))
        raise CommandError(f"none of the servers of client {ident} is running: {listed}")

    def _put(self, command: Command) -> None:
        (client,) = command.ids
        server = self._usable(client)[0]
        self._matters(server)
        number = len(self._plan.puts) + 1
        put = Put(self._line, self._tick(), server, client, command.key, command.value, number)
        self._plan.puts.append(put)
        self._plan.steps.append(put)
        self._bytes_put += len(put.key) + len(put.value)

    def _get(self, command: Command) -> None:
        (client,) = command.ids
        usable = self._usable(client)
        for server in usable:
            self._matters(server)
        asks = tuple(Ask(self._tick(), server) for server in usable)
        self._plan.steps.append(Get(self._line, client, command.key, asks))
