"""The master's side of the cluster: which processes and connections there are, and how a command changes them.

May live here: what the nine commands do, in terms of calls to other processes; who has died, and what follows.
May not: reading commands and printing results (master.py); what happens inside a server or a client.

Every method that carries out a command blocks until it is done, and raises CommandError where it can't be done;
the state is then as it was. None ever waits for a process without limit: a server that is silent for the time-out
is killed by its watchdog, and counts as killed from then on, like one that died by itself.

At the prompt, Ctrl-C makes each wait of the command raise transport.Interrupted, from then on until the command has
ended. A start is taken back; a kill is carried out by force. Everything else that a command changes stands in the
master's state before anybody is told; all are told before anybody's answer is awaited, and each carries that out before
whatever it is asked next. So there it makes no difference but for the waiting, and Interrupted is passed on.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

import groups
import router
from context import Context
from control.clock import HybridClock
from control.commands import Command, CommandError, Uncertain
from control.run_directory import RunDirectory, check_length
from control.stabilize import stabilize
from groups import Group, MemberAnswer, Undone
from messages import (
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
from rpc.spawner import Spawner
from storage import DamagedClock, DataDirectory, StorageError, cut_group

if TYPE_CHECKING:
    from console.status import Overview

__all__ = ["Cluster", "Settings"]

STABILIZE_LIMITS_SECONDS = (2.0, 0.8, 0.5)
"""How long a server may be silent within stabilize, unless it answers a probe: the first, the second, and each other
one, so that all of it keeps within 5 s even if one server after another freezes."""

PROBE_SECONDS = 0.5
"""How long a probe, an empty call over a connection of its own, may take at most; half the limit is enough."""

SLOWEST_BYTES_PER_SECOND = 8 << 20
"""How fast a client takes a large value in and passes it on, at least, on a machine that has much else to do."""

EXIT_PATIENCE_SECONDS = 2.0
"""How long processes may take to end, before they are all killed by force."""


class Settings(NamedTuple):
    """The options of a run. Times are in seconds; *data_directory* is None for stores that go with the run."""

    data_directory: Path | None = None
    gossip_interval: float = 1.0
    fsync: str = "never"
    timeout: float = 10.0
    history: bool = False
    """Whether printStore must tell which versions stand, not only their values."""
    group_limit: int = groups.ANSWER_BYTES
    """As `server.Options` has it."""


class _Server:
    """A server id: its watchdog, and the server process while there is one."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.watchdog: transport.Remote | None = None
        self.watchdog_pid = 0
        self.pid = 0
        """0 where there is no process, or it isn't started yet."""
        self.address = ""
        self.remote: transport.Remote | None = None
        self.silent = False
        """Whether it was killed because it was silent, and that has not been reported yet."""

    @property
    def running(self) -> bool:
        return self.remote is not None


class _Client:
    """A client id: the client process while there is one, and its connections in order."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.pid = 0
        self.remote: transport.Remote | None = None
        self.silent = False
        self.connections: list[int] = []

    @property
    def running(self) -> bool:
        return self.remote is not None


class Cluster:
    """All processes of one run."""

    def __init__(self, settings: Settings, report: Callable[[int, str], None], warn: Callable[[str], None]) -> None:
        """*report* is told of every death that is noticed (whose, and how), *warn* of damage that was survived.

        Raises StorageError where the data directory can't be used, OSError where no run can begin. Forks: call it
        before starting threads.
        """
        self._settings = settings
        self._report = report
        self._warn = warn
        self._limit = settings.timeout
        self._servers: dict[int, _Server] = {}
        self._clients: dict[int, _Client] = {}
        self._links: dict[int, set[int]] = {}  # of running servers
        self._deaths = select.poll()
        self._watched: dict[int, _Server | _Client] = {}
        self.found: list[str] = []
        """What was found damaged in the data directory, and mended; whoever keeps a record tells it then."""
        data = self._open_data_directory()
        bound, reserve = (self._read_clock(data), data.write_clock) if data else (0, None)
        self._clock = HybridClock(_microseconds, bound, reserve)
        self._group_calls: _GroupCalls
        self._run = RunDirectory()
        self._run_directory = self._run.path
        try:
            self._stores = settings.data_directory or self._run.make_stores()
            check_length(self._stores)
            transport.check_place(self._run_directory)
            self._spawner = Spawner(self._run_directory, self._run.temporary, settings.timeout)
            try:
                self._run.note_spawner(self._spawner.pid)
            except OSError:
                self._spawner.end(EXIT_PATIENCE_SECONDS)
                raise
        except BaseException:
            self._run.remove()
            raise

    def _open_data_directory(self) -> DataDirectory | None:
        path = self._settings.data_directory
        return DataDirectory(path) if path else None

    def _read_clock(self, data: DataDirectory) -> int:
        """The bound that new timestamps must be above. Raises StorageError."""
        try:
            return data.read_clock()
        except DamagedClock as damage:
            bound, unread = data.find_bound(largest_number_in)
            kept = "the file is set aside, and " if data.set_clock_aside(max(_microseconds(), bound + 1)) else ""
            missed = f" (but for {', '.join(unread)}, which can't be read)" if unread else ""
            self.found.append(f"{damage}; {kept}timestamps go on above the largest in all stores there{missed}")
            return bound

    def close(self) -> None:
        """End everything that this run has started, and remove its files."""
        for server in self._servers.values():
            for remote in (server.watchdog, server.remote):
                if remote is not None:
                    remote.close()
        for client in self._clients.values():
            if client.remote is not None:
                client.remote.close()
        self._spawner.end(EXIT_PATIENCE_SECONDS)
        self._run.remove()

    # -- commands ------------------------------------------------------------------------------------------

    def execute(self, command: Command, timestamp: int | None = None) -> Outcome:
        """Carry out a command; returns its outcome, which `printed` understands. Raises CommandError.

        *timestamp*: the one that a put or get was issued with before, in a group that has left it undone.
        """
        self.notice_deaths()
        handlers: dict[str, Callable[[Command], Outcome | None]] = {
            "joinServer": self._join_server,
            "killServer": self._kill_server,
            "joinClient": self._join_client,
            "breakConnection": self._break_connection,
            "createConnection": self._create_connection,
            "stabilize": self._stabilize,
            "printStore": self._print_store,
            "put": lambda command: self._put_or_get(command, timestamp),
            "get": lambda command: self._put_or_get(command, timestamp),
        }
        outcome = handlers[command.name](command)
        return Done() if outcome is None else outcome

    def _join_server(self, command: Command) -> None:
        (ident,) = command.ids
        if ident in self._clients:
            raise CommandError(f"id {ident} is taken by a client")
        server = self._servers.get(ident) or _Server(ident)
        if server.running:
            raise CommandError(f"server {ident} is already running")
        folder = self._folder(server)
        try:
            lost = ident in self._servers and not (folder.is_dir() and any(folder.iterdir()))
            incarnation = self._clock.next()
            self._start_server(server, incarnation)
            self._clock.observe(self._await_recovery(server))
        except (transport.Failure, StorageError, OSError, MemoryError, CommandError) as error:
            self._discard(server)
            raise CommandError(f"server {ident} could not be started: {transport.why(error)}") from error
        except transport.Interrupted:
            self._discard(server)
            raise CommandError(f"gave up; server {ident} was not started") from None
        if lost:
            self._warn(f"{folder}: gone, or empty; what server {ident} had will be fetched from servers that have it")
        self._servers[ident] = server
        self._links[ident] = set()
        self._tell_clients(ident, "server_up", ident, server.address)  # first: from here on it runs, whatever comes
        self._link(ident, [other for other in self._links if other != ident])
        self._running_server(ident)

    def _start_server(self, server: _Server, incarnation: int) -> None:
        if server.watchdog is None:
            address = transport.new_address(self._run_directory, f"watchdog-{server.ident}-{incarnation}")
            server.watchdog_pid = self._spawner.start("watchdog", server.ident, address)
            server.watchdog = transport.Remote(address, self._limit)
            self._watch(server.watchdog, server)
        server.address = transport.new_address(self._run_directory, f"server-{server.ident}-{incarnation}")
        options = {
            "server": server.ident,
            "incarnation": incarnation,
            "folder": str(self._folder(server)),
            "gossip_interval": self._settings.gossip_interval,
            "fsync": self._settings.fsync,
            "timeout": self._settings.timeout,
            "kept": self._settings.data_directory is not None,
            "group_limit": self._settings.group_limit,
        }
        started = server.watchdog.call(
            "start", server.address, msgpack.packb(options, unicode_errors="surrogateescape")
        )
        if isinstance(started, str):
            raise transport.NoRoom(started)
        server.pid = started
        server.remote = transport.Remote(server.address, self._limit)
        self._watch(server.remote, server)

    def _folder(self, server: _Server) -> Path:
        return self._stores / f"server-{server.ident}"

    def _await_recovery(self, server: _Server) -> int:
        """Wait as long as there is progress; returns the largest timestamp found."""
        assert server.remote is not None
        # The server itself waits for a folder that is still held, for one time-out.
        patience = 2 * self._settings.timeout
        progress, since = 0, time.monotonic()
        while True:
            state, *details = server.remote.call("state", min(1.0, self._settings.timeout / 2))
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

    def _kill_server(self, command: Command) -> None:
        (ident,) = command.ids
        self._running_server(ident)
        self._take_down([ident])

    def _join_client(self, command: Command) -> None:
        ident, server_ident = command.ids
        if ident in self._servers:
            raise CommandError(f"id {ident} is taken by a server")
        self._running_server(server_ident)
        client = self._clients.get(ident)
        if client is None or not client.running:
            client = _Client(ident)
            try:
                address = transport.new_address(self._run_directory, f"client-{ident}-{self._clock.next()}")
                client.pid = self._spawner.start("client", ident, address)
                client.remote = transport.Remote(address, self._limit)
            except (transport.Failure, StorageError, MemoryError) as error:
                if client.pid:
                    self._kill_client(client)
                raise CommandError(f"client {ident} could not be started: {transport.why(error)}") from error
            except transport.Interrupted:
                raise CommandError(f"gave up; client {ident} was not started") from None
            self._watch(client.remote, client)
            self._clients[ident] = client
        self._connect(client, server_ident)

    def _break_connection(self, command: Command) -> None:
        first, second = self._ends(command)
        if isinstance(first, _Client):
            self._disconnect(first, second.ident)
        elif isinstance(second, _Client):
            self._disconnect(second, first.ident)
        elif second.ident in self._links.get(first.ident, ()):
            self._links[first.ident].discard(second.ident)
            self._links[second.ident].discard(first.ident)
            self._ask_servers({first.ident: ("unlink", second.ident), second.ident: ("unlink", first.ident)})

    def _create_connection(self, command: Command) -> None:
        first, second = self._ends(command)
        for end in (first, second):
            if isinstance(end, _Server):
                self._running_server(end.ident)
        for end in (first, second):
            if isinstance(end, _Client):
                self._running_client(end.ident)
        if isinstance(first, _Client):
            self._connect(first, second.ident)
        elif isinstance(second, _Client):
            self._connect(second, first.ident)
        elif second.ident not in self._links[first.ident]:
            self._link(first.ident, [second.ident])
            self._running_server(first.ident)
            self._running_server(second.ident)

    def _ends(self, command: Command) -> tuple[_Server | _Client, _Server | _Client]:
        ends: list[_Server | _Client] = []
        for ident in command.ids:
            end = self._servers.get(ident) or self._clients.get(ident)
            if end is None:
                raise CommandError(f"id {ident} is unknown: neither a server nor a client of this run")
            ends.append(end)
        first, second = ends
        if first is second:
            raise CommandError(f"{_name(first)} has no connection to itself")
        if isinstance(first, _Client) and isinstance(second, _Client):
            raise CommandError(f"{_name(first)} and {_name(second)} are both clients; one end must be a server")
        return first, second

    def _print_store(self, command: Command) -> Lines | Store:
        (ident,) = command.ids
        server = self._running_server(ident)
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
            self._lose({ident: failure})
            self._running_server(ident)
        return Store(ident, versions) if self._settings.history else Lines(pieces)

    def _put_or_get(self, command: Command, timestamp: int | None) -> OperationOutcome:
        (ident,) = command.ids
        client = self._running_client(ident)
        assert client.remote is not None
        if timestamp is None:
            timestamp = self._timestamp()
        if tracing.on:
            tracing.event("issued", timestamps=[timestamp])
        value = command.value if command.name == "put" else None
        batch = msgpack.packb([[command.key, value, timestamp]])
        limit = self._limit * (len(client.connections) + 1) + len(batch) / SLOWEST_BYTES_PER_SECOND
        try:
            packed = client.remote.call("execute", batch, timeout=limit)
            (outcome,), noticed = transport.read(packed, answers.of_a_client([value], client.connections))
        except transport.Failure as failure:
            self._lose_client(client, failure)
            text = f"client {ident} is not running"
            if command.name == "put":
                raise Uncertain(f"{text}; uncertain: the value may stand later", timestamp) from failure
            raise CommandError(text) from failure
        self._lose({server: _failure(how) for server, how in noticed})
        return outcome_from_flat(outcome)

    def _timestamp(self) -> int:
        try:
            return self._clock.next()
        except StorageError as error:
            raise CommandError(str(error)) from error

    def printed(self, command: Command, outcome: Outcome) -> list[bytes]:
        """What a command with this outcome prints. Raises CommandError where the outcome is an error."""
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
                raise CommandError(self._why_unusable(self._clients[command.ids[0]]))

    def _why_unusable(self, client: _Client) -> str:
        if not client.connections:
            return f"client {client.ident} has no connection"
        if len(client.connections) == 1:
            return f"client {client.ident} has only server {client.connections[0]}, which is not running"
        listed = ", ".join(map(str, client.connections))
        return f"none of the servers of client {client.ident} is running: {listed}"

    # -- groups --------------------------------------------------------------------------------------------

    def can_group(self, command: Command) -> bool:
        """Whether a command may be under way with others (`groups.may_take_part`)."""
        client = self._clients.get(command.ids[0]) if command.ids else None
        if client is None or client.remote is None:
            return False
        return groups.may_take_part(command, client.connections, lambda server: self._servers[server].running)

    def start_group(self, commands: list[Command]) -> Group | None:
        """Have these commands, which all `can_group`, carried out; `finish_group` waits for that.

        None where no timestamps are to be had; then nothing was started.
        """
        try:
            timestamps = [self._clock.next() for _ in commands]
            number = self._clock.next()
        except StorageError:
            return None
        if tracing.on:
            tracing.event("issued", timestamps=timestamps)
        clients = {command.ids[0] for command in commands}
        group = Group(number, commands, timestamps, {ident: self._clients[ident].connections[0] for ident in clients})
        self._group_calls = _GroupCalls(self, group)
        group.start(self._group_calls)
        return group

    def finish_group(self, group: Group) -> list[OperationOutcome | Undone]:
        """Wait for a group: what has come of each command (`Group.finish`).

        Those that are undone are to be executed one by one, which also reports what has died; then comes
        `release_group`.
        """
        return group.finish(self._group_calls)

    def release_group(self, group: Group) -> None:
        """All commands of the group are done: its servers may exchange updates again, and write their logs anew."""
        if self._settings.gossip_interval > 0 or self._settings.fsync == "interval":
            self._ask_servers(dict.fromkeys(group.members, ("release_group",)))

    # -- stabilize -----------------------------------------------------------------------------------------

    def _stabilize(self, _: Command) -> None:
        stabilize(_Stabilizing(self))
        if tracing.on:
            tracing.event("stable")

    # -- connections ---------------------------------------------------------------------------------------

    def _link(self, ident: int, others: list[int]) -> None:
        for other in others:
            self._links[ident].add(other)
            self._links[other].add(ident)
        server = self._servers[ident]
        calls: dict[int, tuple[Any, ...]] = dict.fromkeys(others, ("link", ((ident, server.address),)))
        calls[ident] = ("link", tuple((other, self._servers[other].address) for other in others))
        self._ask_servers(calls)

    def _connect(self, client: _Client, server: int) -> None:
        if server in client.connections:
            return
        client.connections.append(server)
        self._ask_client(client, "connect", server, self._servers[server].address, self._settings.timeout)
        self._running_client(client.ident)

    def _disconnect(self, client: _Client, server: int) -> None:
        if server in client.connections:
            client.connections.remove(server)
            self._ask_client(client, "disconnect", server)

    # -- calls, and who doesn't answer them ----------------------------------------------------------------

    def _ask_servers(self, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Call running servers, all at the same time; the answers of those that gave one.

        Servers that can't be reached, are silent or fail in the call are lost when this returns. Raises Interrupted
        when all have been called; then, of those that have not answered, only those that are known to be dead are lost.
        """
        answers: dict[int, Any] = {}
        pending: dict[int, transport.Pending] = {}
        lost: dict[int, transport.Failure] = {}
        for ident, (name, *args) in calls.items():
            remote = self._servers[ident].remote
            if remote is not None:
                try:
                    pending[ident] = remote.send(name, *args)
                except transport.Failure as failure:
                    lost[ident] = failure
        patient_until = time.monotonic() + self._settings.timeout
        try:
            silent = self._collect(pending, answers, lost)
            while silent:
                busy = self._probe(silent) if time.monotonic() < patient_until else set()
                lost |= dict.fromkeys(silent - busy, transport.Silent())
                silent = self._collect({ident: pending[ident] for ident in busy}, answers, lost)
        finally:
            self._lose(lost)
        return answers

    def _collect(
        self, pending: Mapping[int, transport.Pending], answers: dict[int, Any], lost: dict[int, transport.Failure]
    ) -> set[int]:
        """Wait for these servers, as long as they may be silent; returns those that still are."""
        silent = set()
        deadline = time.monotonic() + self._limit
        for ident, call in pending.items():
            try:
                answers[ident] = call.wait(max(0.0, deadline - time.monotonic()))
            except transport.Silent:
                silent.add(ident)
            except transport.Failure as failure:
                lost[ident] = failure
        return silent

    def _probe(self, idents: Iterable[int]) -> set[int]:
        """Those of these servers that are alive, busy as they may be.

        They answer an empty call over a connection of its own, or that they have no room for one; and their logs have
        not been writing one thing for as long as a server may be silent. Where a log writes, this waits until it is
        certain which of the two it is.
        """
        limit = min(PROBE_SECONDS, self._limit / 2)
        remotes: dict[int, transport.Remote] = {}
        alive: set[int] = set()
        for ident in idents:
            try:
                remotes[ident] = transport.Remote(self._servers[ident].address, limit)
            except transport.NoRoom:
                alive.add(ident)
            except transport.Failure:
                pass
        try:
            answers = self._ask_probes(remotes, limit, "ping")
            answering = {ident: remotes[ident] for ident in answers}
            answers |= self._ask_probes(answering, self._limit + limit, "is_hung", self._limit)
        finally:
            for remote in remotes.values():
                remote.close()
        return alive | {ident for ident, is_hung in answers.items() if not is_hung}

    def _ask_probes(
        self, remotes: Mapping[int, transport.Remote], limit: float, name: str, *args: Any
    ) -> dict[int, Any]:
        """Call these servers all at the same time; the answers of those that gave one. None: it has no room."""
        answers: dict[int, Any] = {}
        faulty: dict[int, transport.Failure] = {}
        pending: dict[int, transport.Pending] = {}
        for ident, remote in remotes.items():
            try:
                pending[ident] = remote.send(name, *args)
            except transport.Failure:
                pass
        deadline = time.monotonic() + limit
        for ident, call in pending.items():
            try:
                answers[ident] = call.wait(max(0.0, deadline - time.monotonic()))
            except transport.NoRoom:
                answers[ident] = None
            except transport.RemoteError as failure:
                faulty[ident] = failure
            except transport.Failure:
                pass
        self._lose(faulty)
        return answers

    def _ask_client(self, client: _Client, name: str, *args: Any) -> None:
        """Call a client if it runs. One that doesn't answer is lost when this returns."""
        if client.remote is not None:
            try:
                client.remote.call(name, *args)
            except transport.Failure as failure:
                self._lose_client(client, failure)

    def _tell_clients(self, server: int, name: str, *args: Any) -> None:
        """Call all clients that have a connection to *server*, and don't wait.

        Whatever they are asked next comes behind this, on the same connection.
        """
        for client in self._clients.values():
            if server in client.connections and client.remote is not None:
                try:
                    client.remote.tell(name, *args)
                except transport.Failure as failure:
                    self._lose_client(client, failure)

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        """Within this block, silence is judged after *seconds*."""
        usual, self._limit = self._limit, min(seconds, self._limit)
        try:
            yield
        finally:
            self._limit = usual

    # -- deaths --------------------------------------------------------------------------------------------

    def _watch(self, remote: transport.Remote, end: _Server | _Client) -> None:
        self._deaths.register(remote.descriptor, 0)  # its end is always reported
        self._watched[remote.descriptor] = end

    def _unwatch(self, remote: transport.Remote) -> None:
        self._deaths.unregister(remote.descriptor)
        del self._watched[remote.descriptor]
        remote.close()

    def notice_deaths(self) -> None:
        """Report the servers and clients that have died by themselves, and treat them as killed."""
        for fd, _ in self._deaths.poll(0):
            end = self._watched.get(fd)
            if isinstance(end, _Client):
                self._lose_client(end, _ending(end))
            elif isinstance(end, _Server):
                self._lose({end.ident: _ending(end)})
                end.silent = False
                if end.watchdog is not None and not end.watchdog.alive:
                    self._drop_watchdog(end)

    def _lose(self, failures: Mapping[int, transport.Failure]) -> None:
        """Report servers that died, are silent or have failed in a call, and see that they are dead."""
        lost = [ident for ident in failures if self._servers[ident].running]
        for ident in lost:
            if isinstance(failures[ident], transport.Silent):
                self._report(ident, f"server {ident} made no progress for {self._limit:g} s, and was killed")
            elif isinstance(failures[ident], transport.RemoteError):
                self._report(ident, f"server {ident} failed, and was killed: {failures[ident]}")
            else:
                self._report(ident, f"server {ident} died")
        self._take_down(lost)

    def _take_down(self, idents: Iterable[int]) -> None:
        """Kill servers; when this returns they are gone, and everybody knows, or learns it before anything else."""
        gone = [self._servers[ident] for ident in idents]
        self._kill(gone)
        unlinks: list[tuple[int, int]] = []
        for server in gone:
            server.pid = 0
            if server.remote is not None:
                self._unwatch(server.remote)
                server.remote = None
                if tracing.on:
                    tracing.event("killed", server=server.ident)
            for other in self._links.pop(server.ident, set()):
                self._links[other].discard(server.ident)
                unlinks.append((other, server.ident))
        for server in gone:
            told = [other for other, ident in unlinks if ident == server.ident and self._servers[other].running]
            try:
                self._ask_servers(dict.fromkeys(sorted(told), ("unlink", server.ident)))
            except transport.Interrupted:
                pass  # they have been told
            self._tell_clients(server.ident, "server_down", server.ident)

    def _kill(self, servers: Iterable[_Server]) -> None:
        """Have the watchdogs kill their servers, all at the same time. A watchdog that doesn't goes the same way.

        Where nobody wants to wait any more, servers are killed from here; their watchdogs see them off later.
        """
        pending: list[tuple[_Server, transport.Pending | None]] = []
        for server in servers:
            if server.watchdog is not None:
                try:
                    pending.append((server, server.watchdog.send("kill")))
                except transport.Failure:
                    pending.append((server, None))
        deadline = time.monotonic() + self._limit / 2
        for server, call in pending:
            try:
                if call is None:
                    raise transport.Failure
                call.wait(max(0.0, deadline - time.monotonic()))
            except transport.Failure:
                self._drop_watchdog(server)
            except transport.Interrupted:
                if not server.pid or not self._spawner.kill(server.pid, EXIT_PATIENCE_SECONDS):
                    self._drop_watchdog(server)  # what it may have under way ends with it

    def _drop_watchdog(self, server: _Server) -> None:
        """Kill a watchdog that doesn't answer, with its server; the next joinServer starts another."""
        if server.watchdog is None:
            return
        self._unwatch(server.watchdog)
        server.watchdog = None
        if server.pid:
            self._spawner.kill(server.pid, EXIT_PATIENCE_SECONDS)
        self._spawner.kill(server.watchdog_pid, EXIT_PATIENCE_SECONDS)

    def _discard(self, server: _Server) -> None:
        """Take back a start that failed. The watchdog stays where the server has been there before."""
        self._kill([server])
        server.pid = 0
        if server.remote is not None:
            self._unwatch(server.remote)
            server.remote = None
        if server.ident not in self._servers:
            self._drop_watchdog(server)

    def _lose_client(self, client: _Client, failure: transport.Failure) -> None:
        if client.remote is None:
            return
        if isinstance(failure, transport.Silent):
            self._report(
                client.ident, f"client {client.ident} made no progress for {self._settings.timeout:g} s, and was killed"
            )
        elif isinstance(failure, transport.RemoteError):
            self._report(client.ident, f"client {client.ident} failed, and was killed: {failure}")
        else:
            self._report(client.ident, f"client {client.ident} died")
        self._unwatch(client.remote)
        client.remote = None
        client.connections = []
        self._kill_client(client)

    def _kill_client(self, client: _Client) -> None:
        pid, client.pid = client.pid, 0  # once: the id may soon be another's
        if pid:
            self._spawner.kill(pid, EXIT_PATIENCE_SECONDS)

    # -- who is there --------------------------------------------------------------------------------------

    def _running_server(self, ident: int) -> _Server:
        if ident in self._clients:
            raise CommandError(f"id {ident} is a client's, not a server's")
        server = self._servers.get(ident)
        if server is None or not server.running:
            raise CommandError(f"server {ident} is not running")
        return server

    def _running_client(self, ident: int) -> _Client:
        if ident in self._servers:
            raise CommandError(f"id {ident} is a server's, not a client's")
        client = self._clients.get(ident)
        if client is None or not client.running:
            raise CommandError(f"client {ident} is not running")
        return client

    def overview(self) -> Overview:
        """What there is, as far as the master knows; asks nobody."""
        from console import status  # not at the top: only the prompt needs it

        return status.Overview(
            {ident: server.pid if server.running else None for ident, server in self._servers.items()},
            {ident: frozenset(others) for ident, others in self._links.items()},
            {
                ident: status.Client(client.pid if client.running else None, tuple(client.connections))
                for ident, client in self._clients.items()
            },
            {},
        )

    def status(self) -> Overview:
        """What there is, with what each server knows of. A server that is silent is left in peace, and left out.

        So is one that has not answered yet when nobody wants to wait any more.
        """
        self.notice_deaths()
        pending: dict[int, transport.Pending] = {}
        contexts: dict[int, Context] = {}
        lost: dict[int, transport.Failure] = {}
        deadline = time.monotonic() + PROBE_SECONDS
        for ident, server in self._servers.items():
            if server.remote is not None:
                try:
                    pending[ident] = server.remote.send("context")
                except transport.Failure as failure:
                    lost[ident] = failure
        for ident, call in pending.items():
            try:
                packed = call.wait(max(0.0, deadline - time.monotonic()))
                contexts[ident] = Context.from_flat(transport.read(packed, answers.is_context))
            except (transport.Silent, transport.Interrupted):
                pass
            except transport.Failure as failure:
                lost[ident] = failure
        self._lose(lost)
        return self.overview()._replace(contexts=contexts)


class _GroupCalls:
    """What one group needs done: `groups.Calls`."""

    def __init__(self, cluster: Cluster, group: Group) -> None:
        self._cluster = cluster
        self._group = group
        self._pending: dict[int, transport.Pending] = {}
        self._deadline = time.monotonic() + 2 * cluster._settings.timeout

    def send(self, client: int, number: int, members: int, part: bytes) -> None:
        remote = self._cluster._clients[client].remote
        assert remote is not None
        try:
            self._pending[client] = remote.send("execute_group", number, members, part)
        except transport.Failure:
            pass  # it has died; `wait` finds no answer

    def wait(self, client: int) -> MemberAnswer | None:
        end = self._cluster._clients[client]
        try:
            packed = self._pending[client].wait(max(0.0, self._deadline - time.monotonic()))
            expected = answers.of_a_client(self._group.values(client), end.connections, in_group=True)
            outcomes, noticed = transport.read(packed, expected)
        except (KeyError, transport.Failure) as failure:
            end.silent = isinstance(failure, transport.Silent)
            return None
        outcomes = None if outcomes is None else [outcome_from_flat(flat) for flat in outcomes]
        return MemberAnswer(outcomes, noticed[-1][1] if noticed else None)

    def kill_client(self, client: int) -> None:
        self._cluster._kill_client(self._cluster._clients[client])

    def answers_of(self, server: int, number: int, client: int) -> list[Any] | None:
        packed = self._cluster._ask_servers({server: ("group_answers", number, client)}).get(server)
        if packed is None:
            return None
        try:
            return list(transport.read(packed, answers.to_operations(self._group.values(client))))
        except transport.RemoteError as failure:
            self._cluster._lose({server: failure})
            return None

    def is_running(self, server: int) -> bool:
        return self._cluster._servers[server].running

    def take_back(self, server: int, loss: str, number: int) -> None:
        lost = self._cluster._servers[server]
        if lost.running:
            lost.silent = loss == "silent"
            self._cluster._kill([lost])
        try:
            cut_group(self._cluster._folder(lost), number, self._cluster._settings.fsync)
        except StorageError as error:
            self._cluster._warn(f"{error}; server {server} may keep what its clients put last")

    def undo(self, client: int) -> None:
        self._cluster._ask_client(self._cluster._clients[client], "undo_group")


class _Stabilizing:
    """The running servers within one stabilize (`stabilize.Servers`)."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._at_first = len(cluster._links)
        self._accused: set[int] = set()
        self._patience = 0.0

    def graph(self) -> router.Graph:
        return self._cluster._links

    def contexts(self) -> dict[int, bytes] | None:
        running = len(self._cluster._links)
        lost = self._at_first - running
        limit = STABILIZE_LIMITS_SECONDS[min(lost, len(STABILIZE_LIMITS_SECONDS) - 1)]
        self._patience = self._cluster._settings.timeout if self._accused else limit
        with self._cluster._patience(self._patience):
            contexts = self._cluster._ask_servers(dict.fromkeys(self._cluster._links, ("context",)))
        return contexts if len(self._cluster._links) == running else None

    def pull(self, step: dict[int, list[int]]) -> bool:
        with self._cluster._patience(self._patience):
            return self._pull_all(step)

    def _pull_all(self, step: dict[int, list[int]]) -> bool:
        while step:
            patience = self._cluster._limit * 0.75
            calls = {ident: ("pull_from", tuple(neighbours), patience) for ident, neighbours in step.items()}
            pulled = self._cluster._ask_servers(calls)
            suspects = {suspect for _, silent, *_ in pulled.values() for suspect in silent}
            faulty = {ident: transport.RemoteError(how) for *_, failed in pulled.values() for ident, how in failed}
            self._cluster._lose(faulty)
            self._judge(suspects)
            if suspects or faulty or pulled.keys() != step.keys():
                return False
            for ident, (_, _, refusal, *_) in pulled.items():
                if refusal is not None:
                    raise CommandError(f"server {ident}: {refusal}")
            step = {ident: step[ident] for ident, (done, *_) in pulled.items() if not done}
        return True

    def _judge(self, suspects: set[int]) -> None:
        """Kill the servers that a neighbour found silent, and that a probe doesn't find alive.

        One that is alive is accused: it may just have much to send. From then on everybody has all of the time-out.
        """
        suspects = {ident for ident in suspects if self._cluster._servers[ident].running}
        alive = self._cluster._probe(suspects - self._accused)
        self._accused |= alive
        self._cluster._lose(dict.fromkeys(sorted(suspects - alive), transport.Silent()))


def _ending(end: _Server | _Client) -> transport.Failure:
    """How a process whose connection has ended was lost."""
    if end.silent:
        return transport.Silent()
    return transport.Failure() if end.remote is None or end.remote.alive else end.remote.ended()


def _failure(how: str) -> transport.Failure:
    """The loss of a server, as a client tells it."""
    if how == "died":
        return transport.Failure()
    return transport.Silent() if how == "silent" else transport.RemoteError(how)


def _name(end: _Server | _Client) -> str:
    return f"{'server' if isinstance(end, _Server) else 'client'} {end.ident}"


def _microseconds() -> int:
    """The time of day, since 1970."""
    return time.time_ns() // 1000
