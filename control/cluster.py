"""The master's side of the cluster: what the commands do.

May live here: how each command changes the processes and connections of a run, by calls to other
processes, and which bytes its outcome prints. May not: reading commands, and writing to stdout or stderr (master.py);
what follows when a process does not answer (control/supervisor.py); what happens inside a server or a client.

Every method that carries out a command blocks until the command is done. It raises CommandError if the command can't be
carried out, and the state is then the same as before. No method waits for a process without limit
(control/supervisor.py).

At the prompt, Ctrl-C makes every wait raise transport.Interrupted until the command has ended. A start is then undone,
and a kill is carried out by force. Every other command first changes the master's state, then sends all its calls, and
only then waits for answers. Each process carries these calls out before any later ones. Therefore an interruption saves
only the waiting, and Interrupted is passed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

import groups
from context import Context
from control.calls import failure_of
from control.clock import HybridClock
from control.commands import CommandError, Uncertain
from control.data_directory import DamagedClock, DataDirectory
from control.group_calls import GroupCalls
from control.hosts import Hosts, ThisMachine
from control.members import Client, Members, Server
from control.overview import Overview
from control.run_directory import RunDirectory
from control.settings import Settings
from control.stabilize import stabilize
from control.stabilizing import Stabilizing
from control.starting import Starter
from control.supervisor import Supervisor
from groups import Group, Undone
from messages import (
    Command,
    Done,
    Lines,
    Missing,
    NoValue,
    OperationOutcome,
    Outcome,
    Refusal,
    Store,
    Stored,
    UncertainPut,
    Unsatisfied,
    Unusable,
    Value,
    outcome_from_flat,
)
from model import largest_number_in
from rpc import answers, tracing, transport
from storage import StorageError

if TYPE_CHECKING:
    from control.shaping import Shapes

__all__ = ["Cluster"]

SLOWEST_BYTES_PER_SECOND = 8 << 20
"""How fast a client receives a large value and sends it on, at least, on a busy machine."""


class Cluster:
    """All processes of one run."""

    def __init__(self, settings: Settings, report: Callable[[int, str], None], warn: Callable[[str], None]) -> None:
        """Start the run's first process, the spawner, or with an engine its agents.

        *report* is called with the id of each process that is found dead, and a description. *warn* is called with a
        description of damage that the run survives. Raises StorageError if the data directory can't be used, and
        OSError if the run can't begin for another reason. Forks, so it must be called before any thread is started.
        """
        self._handlers: dict[str, Callable[[Command], Outcome | None]] = {
            "joinServer": self._join_server,
            "killServer": self._kill_server,
            "joinClient": self._join_client,
            "breakConnection": self._break_connection,
            "createConnection": self._create_connection,
            "stabilize": self._stabilize,
            "printStore": self._print_store,
            "shapeConnection": self._shape_connection,
        }
        self._settings = settings
        self._warn = warn
        self.found: list[str] = []
        """Warnings about what was found at the start, such as damage that was repaired in the data directory. They are
        shown once they can be recorded as well."""
        data = self._open_data_directory()
        bound, reserve = (self._read_clock(data), data.write_clock) if data else (0, None)
        self._clock = HybridClock(_microseconds, bound, reserve)
        self._group_calls: GroupCalls
        self._members = Members()
        if any(settings.shape):
            self._have_shapes()
        self._run = RunDirectory()
        self.record = Path(self._run.path, "record")
        """The folder of the history and the trace that are removed at the end of the run."""
        try:
            if settings.record:
                self.record.mkdir()
                if not tracing.on:
                    tracing.enable(self.record)
            self._hosts = self._open_hosts(data)
        except BaseException:
            self._run.remove()
            raise
        self._supervisor = Supervisor(self._members, settings.timeout, report)
        self._starter = Starter(settings, self._members, self._supervisor, self._hosts, self._clock.next, warn)

    def _open_hosts(self, data: DataDirectory | None) -> Hosts:
        """Raises EngineError, OSError, StorageError."""
        engine = self._settings.engine
        if engine is None:
            return ThisMachine(self._settings, self._run, data.read_hosts() if data else {})
        from engine.keeper import Keeper  # not at the top: most runs have no engine

        keeper = Keeper(self._run, engine)  # first, since it takes longer to get ready than all the rest
        try:
            from engine.hosts import EngineHosts

            hosts = EngineHosts(engine, keeper, self._settings, self._run, data, self._warn)
        except BaseException:
            keeper.end()
            raise
        self.found += hosts.missing
        return hosts

    def _open_data_directory(self) -> DataDirectory | None:
        path = self._settings.data_directory
        return DataDirectory(path) if path else None

    def _read_clock(self, data: DataDirectory) -> int:
        """The bound that all new timestamps must exceed. Raises StorageError."""
        try:
            return data.read_clock()
        except DamagedClock as damage:
            bound, unread = data.find_bound(largest_number_in)
            kept = "the file is set aside, and " if data.set_clock_aside(max(_microseconds(), bound + 1)) else ""
            missed = f" (except {', '.join(unread)}, which can't be read)" if unread else ""
            self.found.append(f"{damage}; {kept}timestamps continue above the largest one in all stores there{missed}")
            return bound

    def close(self) -> None:
        """End all processes that this run has started, and remove its files. Blocks until they are gone."""
        for server in self._members.servers.values():
            for remote in (server.watchdog, server.remote):
                if remote is not None:
                    remote.close()
        for client in self._members.clients.values():
            if client.remote is not None:
                client.remote.close()
        self._hosts.end()
        self._run.remove()
        for ident, server in self._members.servers.items():
            if server.uncut is not None and self._settings.data_directory is not None:
                self._warn(f"server {ident}, whose host was lost, may keep the last puts of its clients")

    # -- commands ------------------------------------------------------------------------------------------

    def execute(self, command: Command, timestamp: int | None = None) -> Outcome:
        """Carry out a command; returns its outcome, from which `printed` makes what is printed. Raises CommandError.

        *timestamp*: the timestamp of a put or get that has been issued before, in a group that left it undone.
        """
        self.notice_deaths()
        handler = self._handlers.get(command.name)
        try:
            outcome = handler(command) if handler else self._put_or_get(command, timestamp)
        finally:
            if self._hosts.lost_one():  # whatever was there is reported at once, not one by one as it is needed
                self.notice_deaths()
        return Done() if outcome is None else outcome

    def expect(self, coming: Iterable[Command]) -> None:
        """Have the processes get ready that the next commands will start (`Starter.start_early`)."""
        self._starter.start_early(coming)

    def _join_server(self, command: Command) -> None:
        (ident,) = command.ids
        if ident in self._members.clients:
            raise CommandError(f"id {ident} is taken by a client")
        server = self._members.servers.get(ident) or Server(ident)
        if server.running:
            raise CommandError(f"server {ident} is already running")
        try:
            server.host = self._hosts.of_server(ident)
            lost = ident in self._members.servers and not server.host.has_store(ident)
            self._clock.observe(self._starter.start_server(server))
        except (transport.Failure, StorageError, OSError, MemoryError, CommandError) as error:
            self._starter.discard(server)
            raise CommandError(f"server {ident} could not be started: {transport.why(error)}") from error
        except transport.Interrupted:
            self._starter.discard(server)
            raise CommandError(f"gave up waiting; server {ident} was not started") from None
        if lost:
            folder = server.host.folder(ident)
            self._warn(f"{folder}: missing or empty; what server {ident} had will be fetched from servers that have it")
        self._members.servers[ident] = server
        self._members.links[ident] = set()
        # This comes first, since the server is running from here on, whatever happens next.
        self._supervisor.tell_clients(ident, "server_up", ident, server.address)
        self._link(ident, [other for other in self._members.links if other != ident])
        self._members.running_server(ident)

    def _kill_server(self, command: Command) -> None:
        (ident,) = command.ids
        self._members.running_server(ident)
        self._supervisor.take_down([ident])

    def _join_client(self, command: Command) -> None:
        ident, server_ident = command.ids
        if ident in self._members.servers:
            raise CommandError(f"id {ident} is taken by a server")
        self._members.running_server(server_ident)
        client = self._members.clients.get(ident)
        if client is None or not client.running:
            try:
                client = self._starter.start_client(ident)
            except (transport.Failure, StorageError, MemoryError, CommandError) as error:
                raise CommandError(f"client {ident} could not be started: {transport.why(error)}") from error
            except transport.Interrupted:
                raise CommandError(f"gave up waiting; client {ident} was not started") from None
            self._members.clients[ident] = client
        self._connect(client, server_ident)

    def _break_connection(self, command: Command) -> None:
        first, second = self._members.ends_of_connection(command.ids)
        if isinstance(first, Client):
            self._disconnect(first, second.ident)
        elif isinstance(second, Client):
            self._disconnect(second, first.ident)
        elif second.ident in self._members.links.get(first.ident, ()):
            self._members.links[first.ident].discard(second.ident)
            self._members.links[second.ident].discard(first.ident)
            unlinks = {first.ident: ("unlink", second.ident), second.ident: ("unlink", first.ident)}
            self._supervisor.ask_servers(unlinks)

    def _create_connection(self, command: Command) -> None:
        first, second = self._members.ends_of_connection(command.ids)
        for end in (first, second):
            if isinstance(end, Server):
                self._members.running_server(end.ident)
        for end in (first, second):
            if isinstance(end, Client):
                self._members.running_client(end.ident)
        if isinstance(first, Client):
            self._connect(first, second.ident)
        elif isinstance(second, Client):
            self._connect(second, first.ident)
        elif second.ident not in self._members.links[first.ident]:
            self._link(first.ident, [second.ident])
            self._members.running_server(first.ident)
            self._members.running_server(second.ident)

    def _shape_connection(self, command: Command) -> None:
        from shape import Shape

        first, second = self._members.ends_of_connection(command.ids)
        shape, shapes = Shape.parse(command.key.decode()), self._have_shapes()
        if isinstance(first, Server) and isinstance(second, Server):
            shapes.set_servers(first.ident, second.ident, shape)
            self._shape_links(shapes, first.ident, [second.ident])
        else:
            client, server = (first, second) if isinstance(first, Client) else (second, first)
            assert isinstance(client, Client)
            shapes.set_client(client.ident, server.ident, shape)
            self._supervisor.ask_client(client, *shapes.client_call(client.ident, server.ident))

    def _print_store(self, command: Command) -> Lines | Store:
        (ident,) = command.ids
        server = self._members.running_server(ident)
        assert server.remote is not None
        pieces: list[bytes] = []
        versions: list[tuple[bytes, bytes, int]] = []
        try:
            piece = server.remote.call("print_versions" if self._settings.history else "print_store")
            while piece:
                if self._settings.history:
                    versions += transport.read(piece, answers.is_versions)
                else:
                    pieces.append(piece)
                piece = server.remote.call("print_more")
        except transport.Failure as failure:
            self._supervisor.lose({ident: failure})
            self._members.running_server(ident)
        return Store(ident, versions) if self._settings.history else Lines(pieces)

    def _put_or_get(self, command: Command, timestamp: int | None) -> OperationOutcome:
        (ident,) = command.ids
        client = self._members.running_client(ident)
        assert client.remote is not None
        if timestamp is None:
            timestamp = self._timestamp()
        tracing.event("issued", timestamps=[timestamp])
        value = command.value if command.name == "put" else None
        batch = msgpack.packb([[command.key, value, timestamp]])
        limit = self._supervisor.limit * (len(client.connections) + 1) + len(batch) / SLOWEST_BYTES_PER_SECOND
        if self._members.shapes is not None:
            limit += self._members.shapes.extra_time(ident, client.connections)
        try:
            packed = client.remote.call("execute", batch, timeout=limit)
            (outcome,), losses = transport.read(packed, answers.of_a_client([value], client.connections))
        except transport.Failure as failure:
            self._supervisor.lose_client(client, failure)
            text = f"client {ident} is not running"
            if command.name == "put":
                raise Uncertain(f"{text}; uncertain: the value may stand later", timestamp) from failure
            raise CommandError(text) from failure
        self._supervisor.lose({server: failure_of(how) for server, how in losses})
        return outcome_from_flat(outcome)

    def _timestamp(self) -> int:
        try:
            return self._clock.next()
        except StorageError as error:
            raise CommandError(str(error)) from error

    def printed(self, command: Command, outcome: Outcome) -> list[bytes]:
        """The pieces that a command with this outcome prints. Raises CommandError if the outcome is an error."""
        match outcome:
            case Stored() | Done():
                return []
            case Value(value):
                return [command.key, b":", value, b"\n"]
            case NoValue():
                return [command.key, b":", Missing.KEY.value.encode(), b"\n"]
            case Unsatisfied():
                return [command.key, b":", Missing.DEPENDENCY.value.encode(), b"\n"]
            case Lines(pieces):
                return pieces
            case Store(_, entries):
                return [part for key, value, _ in entries for part in (key, b":", value, b"\n")]
            case Refusal(reason):
                raise CommandError(reason)
            case UncertainPut(timestamp):
                why = "uncertain: the server was lost before it answered; the value may stand later"
                raise Uncertain(why, timestamp)
            case Unusable():
                raise CommandError(self._why_unusable(self._members.clients[command.ids[0]]))

    def _why_unusable(self, client: Client) -> str:
        if not client.connections:
            return f"client {client.ident} has no connection"
        if len(client.connections) == 1:
            return f"client {client.ident} has only server {client.connections[0]}, which is not running"
        listed = ", ".join(map(str, client.connections))
        return f"none of the servers of client {client.ident} is running: {listed}"

    # -- groups --------------------------------------------------------------------------------------------

    def can_group(self, command: Command) -> bool:
        """Whether a command may be under way together with others (`groups.may_take_part`)."""
        client = self._members.clients.get(command.ids[0]) if command.ids else None
        if client is None or client.remote is None:
            return False
        shapes = self._members.shapes
        if shapes is not None and shapes.has_shape(client.ident, client.connections):
            return False  # one slow client would keep all others waiting
        return groups.may_take_part(command, client.connections, lambda server: self._members.servers[server].running)

    def start_group(self, commands: list[Command]) -> Group | None:
        """Start these commands, for each of which `can_group` holds. Does not wait; `finish_group` does.

        Returns None if no timestamps can be issued; then nothing has been started.
        """
        try:
            timestamps = [self._clock.next() for _ in commands]
            number = self._clock.next()
        except StorageError:
            return None
        tracing.event("issued", timestamps=timestamps)
        clients = {command.ids[0] for command in commands}
        server_of = {ident: self._members.clients[ident].connections[0] for ident in clients}
        group = Group(number, commands, timestamps, server_of)
        self._group_calls = GroupCalls(group, self._settings, self._members, self._supervisor, self._warn)
        group.start(self._group_calls)
        return group

    def finish_group(self, group: Group) -> list[OperationOutcome | Undone]:
        """Wait until a group has ended; returns what has become of each command (`Group.finish`).

        The caller must `execute` the commands that are undone, one by one, which also reports the processes that have
        died. Then it must call `release_group`.
        """
        return group.finish(self._group_calls)

    def release_group(self, group: Group) -> None:
        """Let the servers of a group exchange updates and replace their logs again, since all its commands are done."""
        if self._settings.gossip_interval > 0 or self._settings.fsync == "interval":
            self._supervisor.ask_servers(dict.fromkeys(group.members, ("release_group",)))

    # -- stabilize -----------------------------------------------------------------------------------------

    def _stabilize(self, _: Command) -> None:
        stabilize(Stabilizing(self._members, self._supervisor, self._settings.timeout))
        tracing.event("stable")

    # -- connections ---------------------------------------------------------------------------------------

    def _have_shapes(self) -> Shapes:
        """The shapes of links. They are not imported before a link has one, since most runs have none."""
        from control.shaping import Shapes
        from shape import Shape

        if self._members.shapes is None:
            self._members.shapes = Shapes(Shape(*self._settings.shape), self._settings.seed)
        return self._members.shapes

    def _shape_links(self, shapes: Shapes, ident: int, others: list[int]) -> None:
        """Have these servers learn of the shapes of the links between one of them and the others."""
        calls = {other: shapes.server_call(other, [ident]) for other in others}
        self._supervisor.ask_servers(calls | {ident: shapes.server_call(ident, others)})

    def _link(self, ident: int, others: list[int]) -> None:
        shapes = self._members.shapes
        if shapes is not None and (shaped := shapes.with_shape(ident, others)):
            self._shape_links(shapes, ident, shaped)
        for other in others:
            self._members.links[ident].add(other)
            self._members.links[other].add(ident)
        server = self._members.servers[ident]
        calls: dict[int, tuple[Any, ...]] = dict.fromkeys(others, ("link", ((ident, server.address),)))
        calls[ident] = ("link", tuple((other, self._members.servers[other].address) for other in others))
        self._supervisor.ask_servers(calls)

    def _connect(self, client: Client, server: int) -> None:
        if server in client.connections:
            return
        client.connections.append(server)
        shapes = self._members.shapes
        if shapes is not None and shapes.has_shape(client.ident, [server]):
            self._supervisor.ask_client(client, *shapes.client_call(client.ident, server))
        self._supervisor.ask_client(
            client, "connect", server, self._members.servers[server].address, self._settings.timeout
        )
        self._members.running_client(client.ident)

    def _disconnect(self, client: Client, server: int) -> None:
        if server in client.connections:
            client.connections.remove(server)
            self._supervisor.ask_client(client, "disconnect", server)

    # -- the state of the cluster --------------------------------------------------------------------------

    def notice_deaths(self) -> None:
        """Report the servers and clients that have died by themselves, and treat them as killed."""
        self._supervisor.notice_deaths()

    def overview(self) -> Overview:
        """The state of the cluster, as far as the master knows without asking other processes."""
        return self._members.overview()

    def awaited(self) -> str:
        """Whose answer is waited for, as text; empty where that is not known. May be called by any thread."""
        return self._members.awaited()

    def connections(self, client: int) -> tuple[int, ...]:
        """A client's servers, in order; none where there is no such client."""
        found = self._members.clients.get(client)
        return tuple(found.connections) if found else ()

    def status(self) -> Overview:
        """The state of the cluster, with the contexts of the servers, and the servers that each believes it can reach.

        Blocks for `PROBE_SECONDS` at most. A server that does not answer in time, or before Ctrl-C, is left out of the
        contexts, and is not killed.
        """
        self.notice_deaths()
        packed, reachable = self._supervisor.ask_without_killing(("context",), ("reachable",))
        return self.overview()._replace(
            contexts={
                ident: Context.from_flat(transport.read(flat, answers.is_context)) for ident, flat in packed.items()
            },
            reachable={ident: frozenset(others) for ident, others in reachable.items()},
        )

    def standing(self, key: bytes) -> dict[int, tuple[bytes, int] | None]:
        """What running servers have under a key: value and timestamp, None for nothing. Silent ones are left out."""
        (packed,) = self._supervisor.ask_without_killing(("print_version", key))
        found: dict[int, tuple[bytes, int] | None] = {}
        for ident, piece in packed.items():
            entries = transport.read(piece, answers.is_versions) if piece else []
            found[ident] = next(((value, timestamp) for _, value, timestamp in entries), None)
        return found


def _microseconds() -> int:
    """The time of day, in microseconds since 1970."""
    return time.time_ns() // 1000
