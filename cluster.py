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

import os
import select
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

import router
import tracing
import transport
from clock import HybridClock
from commands import Command, CommandError, Uncertain
from context import Context
from spawner import Spawner
from storage import DataDirectory, StorageError, cut_group

if TYPE_CHECKING:
    from status import Overview

__all__ = ["Cluster", "Group", "Settings"]

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


class Group:
    """Consecutive puts and gets that are under way together."""

    def __init__(self, commands: list[Command]) -> None:
        self.commands = commands
        self.number = 0
        self.timestamps: list[int] = []
        self.outcomes: list[list[Any] | None] = [None] * len(commands)
        self.positions: dict[int, list[int]] = {}  # client -> the places of its commands
        self.pending: dict[int, transport.Pending] = {}
        self.servers: dict[int, list[int]] = {}  # server -> the clients that have a part there


class Cluster:
    """All processes of one run."""

    def __init__(self, settings: Settings, report: Callable[[int, str], None], warn: Callable[[str], None]) -> None:
        """*report* is told of every death that is noticed (whose, and how), *warn* of damage that was survived.

        Raises StorageError where the data directory can't be used. Forks: call it before starting threads.
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
        data = self._open_data_directory()
        bound, reserve = (data.read_clock(), data.write_clock) if data else (0, None)
        self._clock = HybridClock(lambda: time.time_ns() // 1000, bound, reserve)
        self._temporary: list[str] = []
        try:
            self._run_directory = _make_run_directory(self._temporary)
            self._stores = settings.data_directory or _make_stores(self._run_directory, self._temporary)
            self._spawner = Spawner(self._run_directory, self._temporary, settings.timeout)
        except BaseException:
            self._remove_temporary()
            raise

    def _open_data_directory(self) -> DataDirectory | None:
        path = self._settings.data_directory
        return DataDirectory(path) if path else None

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
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        for folder in self._temporary:
            shutil.rmtree(folder, ignore_errors=True)

    # -- commands ------------------------------------------------------------------------------------------

    def execute(self, command: Command) -> list[Any]:
        """Carry out a command; returns its outcome, which `printed` understands. Raises CommandError.

        For puts and gets as in `Session.execute`; for printStore `["lines", piece, …]`, or with a history
        `["store", server, [[key, value, timestamp], …]]`; else `["done"]`.
        """
        self.notice_deaths()
        handlers: dict[str, Callable[[Command], list[Any] | None]] = {
            "joinServer": self._join_server,
            "killServer": self._kill_server,
            "joinClient": self._join_client,
            "breakConnection": self._break_connection,
            "createConnection": self._create_connection,
            "stabilize": self._stabilize,
            "printStore": self._print_store,
            "put": self._put_or_get,
            "get": self._put_or_get,
        }
        return handlers[command.name](command) or ["done"]

    def _join_server(self, command: Command) -> None:
        (ident,) = command.ids
        if ident in self._clients:
            raise CommandError(f"id {ident} is taken by a client")
        server = self._servers.get(ident) or _Server(ident)
        if server.running:
            raise CommandError(f"server {ident} runs already")
        folder = self._folder(server)
        try:
            lost = ident in self._servers and not (folder.is_dir() and any(folder.iterdir()))
            incarnation = self._clock.next()
            self._start_server(server, incarnation)
            self._clock.observe(self._await_recovery(server))
        except (transport.Failure, transport.RemoteError, StorageError, OSError, CommandError) as error:
            self._discard(server)
            raise CommandError(f"server {ident} could not be started: {error}") from error
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
        }
        server.pid = server.watchdog.call(
            "start", server.address, msgpack.packb(options, unicode_errors="surrogateescape")
        )
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
            except (transport.Failure, transport.RemoteError, StorageError) as error:
                if client.pid:
                    self._kill_client(client)
                raise CommandError(f"client {ident} could not be started: {error}") from error
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

    def _print_store(self, command: Command) -> list[Any]:
        (ident,) = command.ids
        server = self._running_server(ident)
        assert server.remote is not None
        pieces = []
        try:
            piece = server.remote.call("print_versions" if self._settings.history else "print_store")
            while piece:
                pieces.append(piece)
                piece = server.remote.call("print_more")
        except transport.Failure as failure:
            self._lose({ident: failure})
            self._running_server(ident)
        if self._settings.history:
            return ["store", ident, [version for piece in pieces for version in msgpack.unpackb(piece)]]
        return ["lines", *pieces]

    def _put_or_get(self, command: Command) -> list[Any]:
        (ident,) = command.ids
        client = self._running_client(ident)
        assert client.remote is not None
        timestamp = self._timestamp()
        if tracing.on:
            tracing.event("issued", timestamps=[timestamp])
        batch = msgpack.packb([[command.key, _value(command), timestamp]])
        limit = self._limit * (len(client.connections) + 1) + len(batch) / SLOWEST_BYTES_PER_SECOND
        try:
            outcomes, noticed = msgpack.unpackb(client.remote.call("execute", batch, timeout=limit))
        except transport.Failure as failure:
            self._lose_client(client, failure)
            text = f"client {ident} is not running"
            if command.name == "put":
                raise Uncertain(f"{text}; uncertain: the value may stand later", timestamp) from failure
            raise CommandError(text) from failure
        self._lose({server: transport.Silent() if how == "silent" else transport.Failure() for server, how in noticed})
        return list(outcomes[0])

    def _timestamp(self) -> int:
        try:
            return self._clock.next()
        except StorageError as error:
            raise CommandError(str(error)) from error

    def printed(self, command: Command, outcome: list[Any]) -> list[bytes]:
        """What a command with this outcome prints. Raises CommandError where the outcome is an error."""
        what, *details = outcome
        if what in ("stored", "done"):
            return []
        if what == "value":
            return [command.key, b":", details[0], b"\n"]
        if what == "lines":
            return details
        if what == "store":
            return [part for key, value, _ in details[1] for part in (key, b":", value, b"\n")]
        if what == "refused":
            raise CommandError(details[0])
        if what == "uncertain":
            raise Uncertain("uncertain: the server was lost before it answered; the value may stand later", *details)
        if what == "unusable":
            raise CommandError(self._why_unusable(self._clients[command.ids[0]]))
        return [command.key, b":", what.encode(), b"\n"]

    def _why_unusable(self, client: _Client) -> str:
        if not client.connections:
            return f"client {client.ident} has no connection"
        if len(client.connections) == 1:
            return f"client {client.ident} has only server {client.connections[0]}, which is not running"
        listed = ", ".join(map(str, client.connections))
        return f"none of the servers of client {client.ident} is running: {listed}"

    # -- groups --------------------------------------------------------------------------------------------

    def can_group(self, command: Command) -> bool:
        """Whether a command may be under way with others: a put or get of a client with one running server.

        A client that might fail over could not tell how far it had come.
        """
        if command.name not in ("put", "get"):
            return False
        client = self._clients.get(command.ids[0])
        if client is None or client.remote is None or len(client.connections) != 1:
            return False
        return self._servers[client.connections[0]].remote is not None

    def start_group(self, commands: list[Command]) -> Group | None:
        """Have these commands, which all `can_group`, carried out; `finish_group` waits for that.

        None where no timestamps are to be had; then nothing was started.

        Each client gets its part in one call, all at the same time; so does each server, and it carries out
        all parts that it gets in the order of their timestamps, which is that of the script.
        """
        group = Group(commands)
        parts: dict[int, list[tuple[bytes, bytes | None, int]]] = {}
        try:
            for position, command in enumerate(commands):
                (ident,) = command.ids
                group.timestamps.append(self._clock.next())
                parts.setdefault(ident, []).append((command.key, _value(command), group.timestamps[-1]))
                group.positions.setdefault(ident, []).append(position)
            group.number = self._clock.next()
        except StorageError:
            return None
        if tracing.on:
            tracing.event("issued", timestamps=group.timestamps)
        for ident in parts:
            group.servers.setdefault(self._clients[ident].connections[0], []).append(ident)
        for clients in group.servers.values():
            for ident in clients:
                remote = self._clients[ident].remote
                assert remote is not None
                packed = msgpack.packb(parts[ident])
                try:
                    group.pending[ident] = remote.send("execute_group", group.number, len(clients), packed)
                except transport.Failure:
                    pass  # it has died; `finish_group` finds no answer
        return group

    def finish_group(self, group: Group) -> list[list[Any] | None]:
        """Wait for a group: for each command its outcome, or None where it was not carried out.

        Those are to be executed one by one, which also reports what has died; then comes `release_group`. A
        server that was lost on the way has carried out nothing of the group: what it may have logged is cut
        off, and its clients forget what they heard from it.
        """
        dead: list[int] = []
        lost: dict[int, bool] = {}
        answered: dict[int, list[Any]] = {}
        deadline = time.monotonic() + 2 * self._settings.timeout
        for server, clients in group.servers.items():
            for ident in clients:
                try:
                    packed = group.pending[ident].wait(max(0.0, deadline - time.monotonic()))
                except (KeyError, transport.Failure, transport.RemoteError) as failure:
                    self._clients[ident].silent = isinstance(failure, transport.Silent)
                    dead.append(ident)
                    continue
                outcomes, noticed = msgpack.unpackb(packed)
                for _, how in noticed:
                    lost[server] = how == "silent"
                if outcomes is not None:
                    answered[ident] = outcomes
        for ident in dead:
            self._kill_client(self._clients[ident])
            server = self._clients[ident].connections[0]
            if server not in lost:
                packed = self._ask_servers({server: ("group_answers", group.number, ident)}).get(server)
                if packed is not None:
                    issued = [group.timestamps[position] for position in group.positions[ident]]
                    answered[ident] = list(map(_outcome, repeat(server), issued, msgpack.unpackb(packed)))
                elif not self._servers[server].running:
                    lost[server] = False  # it has been lost just now, which is reported
        for server, silent in lost.items():
            self._take_group_back(self._servers[server], silent, group)
            for ident in group.servers[server]:
                if answered.pop(ident, None) is not None and ident not in dead:
                    self._ask_client(self._clients[ident], "undo_group")
        for ident, outcomes in answered.items():
            for position, outcome in zip(group.positions[ident], outcomes, strict=True):
                group.outcomes[position] = outcome
        return group.outcomes

    def _take_group_back(self, server: _Server, silent: bool, group: Group) -> None:
        """See that a lost server is dead, and that nothing of the group is left on its disk."""
        if server.running:
            server.silent = silent
            self._kill([server])
        try:
            cut_group(self._folder(server), group.number, self._settings.fsync)
        except StorageError as error:
            self._warn(f"{error}; server {server.ident} may keep what its clients put last")

    def release_group(self, group: Group) -> None:
        """All commands of the group are done: its servers may exchange updates again."""
        if self._settings.gossip_interval > 0:
            self._ask_servers(dict.fromkeys(group.servers, ("release_group",)))

    # -- stabilize -----------------------------------------------------------------------------------------

    def _stabilize(self, _: Command) -> None:
        """Gather to the root of a spanning tree of each component, then scatter, until contexts agree.

        All components, and all servers of one depth, work at the same time: O(depth) steps.
        """
        accused: set[int] = set()
        at_first = len(self._links)
        while True:
            lost = at_first - len(self._links)
            limit = STABILIZE_LIMITS_SECONDS[min(lost, len(STABILIZE_LIMITS_SECONDS) - 1)]
            with self._patience(self._settings.timeout if accused else limit):
                contexts = self._ask_servers(dict.fromkeys(self._links, ("context",)))
                if len(self._links) < at_first - lost:
                    continue  # somebody was lost meanwhile
                apart = [
                    component
                    for component in router.components(self._links)
                    if len({contexts[ident] for ident in component}) > 1
                ]
                if not apart:
                    if tracing.on:
                        tracing.event("stable")
                    return
                self._gather_and_scatter(apart, accused)

    def _gather_and_scatter(self, components: Iterable[set[int]], accused: set[int]) -> None:
        """One pass over these components; it ends early where a server is lost on the way."""
        for step in router.gather_and_scatter(self._links, components):
            if not self._pull_all(step, accused):
                return

    def _pull_all(self, step: dict[int, list[int]], accused: set[int]) -> bool:
        """Have each server pull from these neighbours of its; returns whether all did, and none was lost."""
        while step:
            patience = self._limit * 0.75
            answers = self._ask_servers({ident: ("pull_from", tuple(step[ident]), patience) for ident in step})
            suspects = {suspect for _, lost, _, _ in answers.values() for suspect in lost}
            self._judge(suspects, accused)
            if suspects or answers.keys() != step.keys():
                return False
            for ident, (_, _, refusal, _) in answers.items():
                if refusal is not None:
                    raise CommandError(f"server {ident}: {refusal}")
            step = {ident: step[ident] for ident, (done, _, _, _) in answers.items() if not done}
        return True

    def _judge(self, suspects: set[int], accused: set[int]) -> None:
        """Kill the servers that a neighbour found silent, and that don't answer a probe either.

        One that does is accused: it may just have much to send. From then on everybody has all of the time-out.
        """
        suspects = {ident for ident in suspects if self._servers[ident].running}
        alive = self._probe(suspects - accused)
        accused |= alive
        self._lose(dict.fromkeys(sorted(suspects - alive), transport.Silent()))

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

        Servers that can't be reached or are silent are lost when this returns. Raises Interrupted when all have been
        called; then, of those that have not answered, none is lost but those that are known to be dead.
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
        deadline = time.monotonic() + self._limit
        silent: dict[int, transport.Silent] = {}
        try:
            for ident, call in pending.items():
                try:
                    answers[ident] = call.wait(max(0.0, deadline - time.monotonic()))
                except transport.Silent as failure:
                    silent[ident] = failure
                except transport.Failure as failure:
                    lost[ident] = failure
            busy = self._probe(silent) if self._limit < self._settings.timeout else set()
            for ident in busy:
                try:
                    answers[ident] = pending[ident].wait(self._settings.timeout)
                except transport.Failure as failure:
                    lost[ident] = failure
            lost |= {ident: failure for ident, failure in silent.items() if ident not in busy}
        finally:
            self._lose(lost)
        return answers

    def _probe(self, idents: Iterable[int]) -> set[int]:
        """Those of these servers that answer anything at all, busy as they may be."""
        limit = min(PROBE_SECONDS, self._limit / 2)
        answered = set()
        probes: list[tuple[int, transport.Remote, transport.Pending]] = []
        for ident in idents:
            try:
                remote = transport.Remote(self._servers[ident].address, limit)
                probes.append((ident, remote, remote.send("ping")))
            except transport.Failure:
                pass
        deadline = time.monotonic() + limit
        try:
            for ident, _, call in probes:
                try:
                    call.wait(max(0.0, deadline - time.monotonic()))
                    answered.add(ident)
                except transport.Failure:
                    pass
        finally:
            for _, remote, _ in probes:
                remote.close()
        return answered

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
                self._lose_client(end, transport.Silent() if end.silent else transport.Failure())
            elif isinstance(end, _Server):
                self._lose({end.ident: transport.Silent() if end.silent else transport.Failure()})
                end.silent = False
                if end.watchdog is not None and not end.watchdog.alive:
                    self._drop_watchdog(end)

    def _lose(self, failures: Mapping[int, transport.Failure]) -> None:
        """Report servers that died or are silent, and see that they are dead."""
        lost = [ident for ident in failures if self._servers[ident].running]
        for ident in lost:
            if isinstance(failures[ident], transport.Silent):
                self._report(ident, f"server {ident} made no progress for {self._limit:g} s, and was killed")
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
        import status  # not at the top: only the prompt needs it

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
                contexts[ident] = Context.from_flat(msgpack.unpackb(packed))
            except (transport.Silent, transport.Interrupted, transport.RemoteError):
                pass
            except transport.Failure as failure:
                lost[ident] = failure
        self._lose(lost)
        return self.overview()._replace(contexts=contexts)


def _value(command: Command) -> bytes | None:
    """A put's value, None for a get."""
    return command.value if command.name == "put" else None


def _outcome(server: int, issued: int, answer: Any) -> list[Any]:
    """The outcome that a server's answer makes, as the client would have told it."""
    if isinstance(answer, str):
        return [answer, server]
    return ["stored", server, issued] if isinstance(answer[0], int) else ["value", answer[0], server, answer[1]]


def _name(end: _Server | _Client) -> str:
    return f"{'server' if isinstance(end, _Server) else 'client'} {end.ident}"


# -- the run's own files -----------------------------------------------------------------------------------


def _make_run_directory(temporary: list[str]) -> str:
    """A private directory with a short path, for sockets; `owner` in it tells scripts/cleanup.sh whose it is.

    Its name holds a hash of this checkout's path, and so do the titles of all processes of the run. It is added to
    *temporary* as soon as it is there. Raises OSError, StorageError.
    """
    checkout = Path(__file__).resolve().parent
    mark = sha256(os.fsencode(checkout)).hexdigest()[:10]
    base = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()
    directory = tempfile.mkdtemp(prefix=f"daadkvs-{os.getuid()}-{mark}-", dir=base)
    _check_private(directory)
    temporary.append(directory)
    Path(directory, "owner").write_text(f"master {os.getpid()} {_start_time(os.getpid())}\n", "ascii")
    return directory


def _check_private(directory: str) -> None:
    """Raise StorageError unless this is a folder of this user's that nobody else can enter, and no link to one."""
    found = os.lstat(directory)
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_ours or found.st_mode & 0o777 != 0o700:
        raise StorageError(f"{directory}: not a folder that this user alone can enter")


def _make_stores(run_directory: str, temporary: list[str]) -> Path:
    """The same for stores that go with the run, where TMPDIR says; `owner` in the run's directory names it."""
    if tempfile.gettempdir() == os.path.dirname(run_directory):
        return Path(run_directory, "stores")
    stores = tempfile.mkdtemp(prefix=f"{os.path.basename(run_directory)}-stores-")
    temporary.append(stores)
    with Path(run_directory, "owner").open("ab") as owner:
        owner.write(b"stores " + os.fsencode(stores) + b"\n")
    return Path(stores)


def _start_time(pid: int) -> str:
    """When a process started, in the system's own unit: with its id, that names it for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "unknown"
