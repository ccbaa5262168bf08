"""The hosts of a run with an engine: which there are, and which process is placed on which of them.

May live here: agents on hosts, and who is placed where. May not: Dask (engine/keeper.py), what an agent does for
the master (engine/remote_host.py).

Servers and clients take turns over the hosts, in the order of the hosts' names, as they are started for the first time;
`--place` names a host for some of them. A server stays where its store is, also in later runs with the same data
directory. A host that was lost gets a new agent when a process has to be there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.commands import CommandError
from control.data_directory import DataDirectory
from control.hosts import EngineError, Host, lacking
from control.run_directory import Agent, RunDirectory
from control.settings import Engine, Settings
from engine import code, placement, traces
from engine.found import Found
from engine.keeper import Keeper
from engine.placement import Places, natural
from engine.remote_host import RemoteHost
from engine.terms import Terms
from rpc import tls, tracing, transport
from storage import StorageError, folder_of, holds_store

if TYPE_CHECKING:
    from engine.certificates import Authority

__all__ = ["EngineHosts"]


class EngineHosts:
    """All hosts of a run with an engine (`control.hosts.Hosts`)."""

    def __init__(
        self,
        engine: Engine,
        keeper: Keeper,
        settings: Settings,
        run: RunDirectory,
        data: DataDirectory | None,
        warn: Callable[[str], None],
    ) -> None:
        """Start an agent on each host. *keeper*: ends with this, but for a failure here.

        *warn* is called with a description of what is lost on hosts, later on.

        Raises EngineError, OSError, StorageError.
        """
        self._engine = engine
        self._settings = settings
        self._run = run
        self._data = data
        self._warn = warn
        self._places = _read_places(engine.places)
        self._stores: dict[int, str] = data.read_hosts() if data else {}
        """Server id -> the name of the host with its store."""
        self._clients: dict[int, str] = {}
        self._new = -1
        """The server that is being started for the first time."""
        self._turn = 0
        self._expected: set[int] = set()
        """The ids that were asked about, and will take their turn when they are started."""
        self._hosts: dict[str, RemoteHost] = {}
        """Every host that there has been, by name."""
        self._former: list[RemoteHost] = []
        """Hosts that were lost, and have another agent now."""
        self._lost = 0  # how many hosts had been lost when that was last asked
        self._why: dict[str, str] = {}
        """Why a host could not be used when it was last tried."""
        self.missing: list[str] = []
        """Warnings about hosts that could not be used from the beginning."""
        self._keeper = keeper
        self._authority = _make_authority()  # while the keeper imports Dask
        self._code = code.packed()
        self._start()

    def _start(self) -> None:
        """Start an agent on each host that there is. Raises EngineError."""
        tls.use(self._authority.issue("master"), self._engine.host_timeout)
        try:
            self._start_agents(self._keeper.hosts(), lock_wait=0.0)
        except EngineError:
            self._end_agents()
            raise
        if not self._hosts:
            if not self._why:
                raise EngineError(f"{self._engine.scheduler}: this cluster has no workers")
            name = min(self._why, key=natural)
            raise EngineError(f"host {name}: {self._why[name]}")
        self.missing = [f"host {name} is not used: {why}" for name, why in self._why.items()]

    # -- agents --------------------------------------------------------------------------------------------

    def lost_one(self) -> bool:
        before, self._lost = self._lost, sum(host.is_lost for host in (*self._hosts.values(), *self._former))
        return self._lost > before

    def _start_agents(self, found: Iterable[Found], lock_wait: float) -> None:
        """Start an agent on each of these hosts.

        Raises EngineError, also if another master uses a data directory.
        """
        in_use = ""
        terms = {host: self._pack_terms(host, lock_wait) for host in found}
        begun: list[tuple[Found, dict[str, Any], tls.Handshake]] = []
        for host, about in self._keeper.start_agents(self._code, terms).items():
            if "error" in about:
                self._why[host.name] = about["error"]
                in_use = f"host {host.name}: {about['error']}" if about.get("in use") else in_use
                continue
            try:
                self._run.note_agent(Agent(host.name, *host.endpoint, self._engine.host_timeout))
                begun.append((host, about, tls.Handshake(about["address"], self._settings.timeout)))
            except (transport.Failure, OSError, KeyError, TypeError) as error:
                self._refuse(host, error)
        for host, about, handshake in begun:
            try:
                made = self._take(host, about, handshake)
            except (transport.Failure, OSError, KeyError, TypeError) as error:
                self._refuse(host, error)
                continue
            if host.name in self._hosts:
                self._hosts[host.name].drop_ahead()
                self._former.append(self._hosts[host.name])
            self._hosts[host.name] = made
            self._why.pop(host.name, None)
        self._keeper.agents_taken()
        if in_use:
            raise EngineError(in_use)

    def _take(self, host: Found, about: dict[str, Any], handshake: tls.Handshake) -> RemoteHost:
        """A host, to whose agent a connection has begun. Raises what `RemoteHost` raises."""
        if handshake.is_stale:  # other hosts could not be reached, which took long
            handshake.close()
            handshake = tls.Handshake(about["address"], self._settings.timeout)
        timeouts = self._settings.timeout, self._engine.host_timeout
        return RemoteHost(host, about, handshake, self._keeper, *timeouts, self._connect_ahead)

    def _refuse(self, host: Found, error: Exception) -> None:
        """Note why the agent of a host is not used."""
        self._why[host.name] = f"its agent can't be reached: {transport.why(error)}"

    def _pack_terms(self, host: Found, lock_wait: float) -> bytes:
        terms = Terms(
            host=host.name,
            ip=host.ip,
            credentials=self._authority.issue(host.name),
            data_directory=str(self._settings.data_directory or ""),
            lock_wait=lock_wait,
            traced=tracing.on,
            host_timeout=self._engine.host_timeout,
        )
        return terms.to_bytes()

    def _host(self, name: str) -> RemoteHost | None:
        """The host with this name, with a new agent if it was lost; None if it isn't there, and `_why` says why."""
        host = self._hosts.get(name)
        if host is not None and not host.is_lost:
            return host
        self._why[name] = "it is not in the cluster"
        try:
            # The last agent there may take as long to notice that its master is gone.
            found = [each for each in self._keeper.hosts() if each.name == name]
            if not found or self._answers(found[0]):
                self._start_agents(found, lock_wait=self._engine.host_timeout + 1.0)
        except EngineError as error:
            self._why[name] = str(error)
        host = self._hosts.get(name)
        return None if host is None or host.is_lost else host

    def _answers(self, host: Found) -> bool:
        """Whether a host can be reached, which the cluster notices much later if it can't."""
        try:
            socket.create_connection(host.endpoint, self._engine.host_timeout).close()
            return True
        except OSError as error:
            self._why[host.name] = f"it can't be reached: {transport.why(error)}"
            return False

    # -- places --------------------------------------------------------------------------------------------

    def of_server(self, ident: int) -> Host:
        place, placed = self._stores.get(ident), self._places.of(ident)
        if place is not None:
            if placed not in (None, place):
                raise CommandError(f"its store is on host {place}, but {self._engine.places} places it on {placed}")
            host = self._host(place)
            if host is None:
                raise CommandError(f"its store is on host {place}, which can't be used: {self._why[place]}")
            return host
        host = self._choose(ident, placed)
        self._refuse_local_store(ident, host)
        self._stores[ident] = host.name
        self._new = ident
        self._remember()
        return host

    def _remember(self) -> None:
        """Raises StorageError."""
        if self._data is not None:
            self._data.write_hosts(self._stores)

    def _refuse_local_store(self, ident: int, host: RemoteHost) -> None:
        """Raise CommandError if a server's store is on this machine, and not on its host."""
        folder = self._settings.data_directory and folder_of(self._settings.data_directory, ident)
        if folder and holds_store(folder) and not host.has_store(ident):
            raise CommandError(f"its store is {folder} on this machine, but not on host {host.name}")

    def expected(self, ident: int) -> Host | None:
        name = self._stores.get(ident) or self._clients.get(ident) or self._places.of(ident)
        if name is None:
            names = sorted(self._hosts, key=natural)
            name = names[(self._turn + len(self._expected)) % len(names)]
            self._expected.add(ident)
        host = self._hosts.get(name)
        return None if host is None or host.is_lost else host

    def _connect_ahead(self) -> None:
        """Begin to connect to all that was started early."""
        for host in self._hosts.values():
            host.connect_ahead()

    def drop_early(self) -> bool:
        self._expected.clear()
        dropped = [host.drop_early() for host in self._hosts.values()]
        return any(dropped)

    def forget_server(self, ident: int) -> None:
        if ident == self._new:
            del self._stores[ident]
            self._new = -1
            try:
                self._remember()
            except StorageError:
                pass  # then it is remembered where it would have been

    def of_client(self, ident: int) -> Host:
        host = self._hosts.get(self._clients.get(ident, ""))
        if host is None or host.is_lost:
            host = self._choose(ident, self._places.of(ident))
        self._clients[ident] = host.name
        return host

    def _choose(self, ident: int, placed: str | None) -> RemoteHost:
        """The host that is *placed* for a process, or whose turn it is. Raises CommandError."""
        if placed is not None:
            host = self._host(placed)
            if host is None:
                raise CommandError(f"host {placed} can't be used: {self._why[placed]}")
            return host
        self._expected.discard(ident)
        names = sorted(self._hosts, key=natural)
        for again in (False, True):
            for _ in names:
                name = names[self._turn % len(names)]
                self._turn += 1
                host = self._host(name) if again else self._hosts[name]
                if host is not None and not host.is_lost:
                    return host
        raise CommandError("there is no host left")

    # -- the end -------------------------------------------------------------------------------------------

    def end(self) -> None:
        self._end_agents()
        self._keeper.end()

    def _end_agents(self) -> None:
        there = [host for host in self._hosts.values() if not host.is_lost]
        self._fetch_traces(there)
        for host in there:
            host.tell_end()
        left = [host for host in there if not host.wait_end()]
        left += [host for host in (*self._hosts.values(), *self._former) if host.is_lost and host not in there]
        if left:
            self._end_by_force(left)

    def _fetch_traces(self, hosts: list[RemoteHost]) -> None:
        folder = tracing.folder()
        if folder is None:
            return
        differences: dict[str, int] = {}
        for host in hosts:
            try:
                differences |= host.fetch_traces(folder)
            except (OSError, transport.Failure) as error:
                self._warn(f"the traces of host {host.name} could not be fetched: {transport.why(error)}")
        try:
            traces.agree(folder, differences)
        except (OSError, ValueError, TypeError) as error:
            self._warn(f"the traces in {folder} have the times of several machines: {transport.why(error)}")

    def _end_by_force(self, hosts: list[RemoteHost]) -> None:
        """End agents that have not ended by themselves, or of which that isn't known."""
        ended = self._keeper.end_agents({host.found: host.process for host in hosts})
        for host in hosts:
            if host.found not in ended and not host.can_be_reached:
                seconds = self._engine.host_timeout
                self._warn(f"host {host.name} can't be reached; what is left there ends by itself after {seconds:g} s")


def _make_authority() -> Authority:
    """Raises EngineError."""
    try:
        from engine.certificates import Authority  # not at the top: the keeper is to be at work meanwhile
    except ImportError as error:
        raise lacking(error) from error
    return Authority()


def _read_places(path: Path | None) -> Places:
    """Raises EngineError."""
    if path is None:
        return Places()
    try:
        return placement.parse(path.read_text("utf-8").splitlines())
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise EngineError(f"{path}: {error}") from error
