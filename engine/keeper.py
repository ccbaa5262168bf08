"""The keeper: the process on the master's machine that speaks with Dask, and removes the run's files at its end.

May live here: this process, and the master's end of it. May not: what is said to Dask (engine/dask_cluster.py).

Importing Dask takes longer than anything else at the start of a run. The keeper imports it while the master makes the
run's certificates. In this way the master has no threads and no event loop of Dask's either, and it waits for Dask only
as long as it wants. On one machine the spawner removes the run's files, which a run with an engine does not have there.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from control.hosts import EngineError, lacking
from control.run_directory import RunDirectory
from control.settings import Engine
from engine import limits
from engine.found import Found
from rpc import library, tracing, transport
from rpc.forking import fork, reap

if TYPE_CHECKING:
    from engine.dask_cluster import DaskCluster

__all__ = ["Keeper", "KeeperService"]

EXIT_SECONDS = 2.0
"""How long the keeper may take to end, where it has nothing more to do with Dask."""

LEAVE_SECONDS = limits.END + EXIT_SECONDS
"""How long it may take to have agents killed that nobody needs any more, at the end."""

DISPENSABLE = ("colorama", "curses", "jinja2", "numpy")
"""What Dask imports where it is there, and can do without: so it is imported in less time."""

POSTPONED = ("click", "logging.config", "multiprocessing.pool", "urllib.request", "xml.etree.ElementTree")
"""What Dask imports, and does not use here (`library.postpone`)."""

PACKAGES = ("dask", "distributed")
"""What Dask consists of. Only some modules of them are imported: the packages themselves import all the others."""

IDLE_SECONDS = 1.0
"""How long the connection to the scheduler is kept for another call."""


class KeeperService(transport.Service):
    """What the master asks the keeper for: the methods of `DaskCluster`. A text is the reason for a failure."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cluster: DaskCluster
        self._failure = ""
        """Why there is nothing to speak with Dask; empty if there is."""
        self._started: dict[Found, tuple[int, str, str]] = {}
        """Agents of which it is not certain that the master knows them."""
        self.all_taken = threading.Event()
        """Set unless there are such agents, or may be soon."""
        self.all_taken.set()

    def import_dask(self) -> None:
        """To be called once, before any other method."""
        try:
            self._cluster = _import_cluster()(self._engine)
        except ImportError as error:
            self._failure = str(lacking(error))
        except Exception as error:  # its configuration is wrong, for example
            self._failure = f"Dask can't be used: {type(error).__name__}: {' '.join(str(error).split())}"

    def disconnect(self) -> None:
        """Close the connection to the scheduler: it may be gone when it is needed again."""
        if not self._failure:
            self._cluster.disconnect()

    def exposed_cluster_hosts(self) -> tuple[tuple[str, str, str], ...] | str:
        """The hosts that there are now. To be called before the other methods, since it knows why there is no Dask."""
        if self._failure:
            return self._failure
        try:
            return tuple((host.name, host.ip, host.worker) for host in self._cluster.hosts())
        except EngineError as error:
            return str(error)

    def exposed_start_agents(
        self, code: bytes, terms: tuple[tuple[str, str, str, bytes], ...]
    ) -> tuple[str, ...] | str:
        """Start agents on hosts, with packed code and terms; returns what each says of itself, as JSON."""
        self.all_taken.clear()
        try:
            started = self._cluster.start_agents(code, {Found(*host): packed for *host, packed in terms})
        except EngineError as error:
            return str(error)
        for host, about in started.items():
            if about.keys() >= {"pid", "started", "folder"}:
                self._started[host] = (about["pid"], about["started"], about["folder"])
        return tuple(json.dumps(about) for about in started.values())

    def exposed_agents_taken(self) -> None:
        """Note that the master has connections to all agents that were started, as far as they could be reached."""
        self._started.clear()
        self.all_taken.set()

    def exposed_let_go(self) -> None:
        """Have workers kill the agents that were started and that the master has not taken."""
        left, self._started = self._started, {}
        if left:
            self._cluster.end_agents(left)
        self.all_taken.set()

    def exposed_end_agents(self, agents: tuple[tuple[str, str, str, int, str, str], ...]) -> tuple[str, ...]:
        """Have workers kill agents; returns the names of the hosts on which they are gone."""
        named = {Found(*agent[:3]): agent[3:] for agent in agents}
        return tuple(host.name for host in self._cluster.end_agents(named))


def _import_cluster() -> type[DaskCluster]:
    """Import Dask, and what uses it. Raises ImportError."""
    import yaml  # type: ignore[import-untyped]

    if yaml.__with_libyaml__:
        yaml.SafeLoader = yaml.CSafeLoader  # Dask reads its settings by it, in a tenth of the time
    library.postpone(*POSTPONED)
    sys.modules.update(dict.fromkeys(DISPENSABLE))  # type: ignore[arg-type]  # an import of them fails
    try:
        with library.parts_of(*PACKAGES):
            from engine.dask_cluster import DaskCluster
    except (AttributeError, ImportError):  # a later Dask needs more of itself, or one of the others
        for name in DISPENSABLE:
            del sys.modules[name]
        from engine.dask_cluster import DaskCluster
    return DaskCluster


class Keeper:
    """The master's end of the keeper. All methods but `agents_taken` block as long as Dask takes, within limits."""

    def __init__(self, run: RunDirectory, engine: Engine) -> None:
        """Fork the keeper. To be called while the process has one thread. Raises OSError."""
        ours, theirs = socket.socketpair()
        self._pid = fork(
            f"daadkvs keeper ({run.path})",
            (theirs.fileno(),),
            lambda: _main(theirs, run, engine),
            lambda error: transport.farewell(theirs, error),
            leads=True,
        )
        theirs.close()
        self._remote = transport.Remote(ours, limits.IMPORT, traced=False)  # on one machine there is no keeper
        self._has_answered = False
        self._starts_agents = False
        try:
            run.note_spawner(self._pid)
        except OSError:
            self.end()
            raise

    def hosts(self) -> list[Found]:
        """The hosts of the cluster that there are now, in the order of their names. Raises EngineError."""
        seconds = limits.HOSTS + limits.LONGER if self._has_answered else limits.IMPORT
        found = [Found(*host) for host in self._call(seconds, "cluster_hosts")]
        self._has_answered = True
        return found

    def start_agents(self, code: bytes, terms: Mapping[Found, bytes]) -> dict[Found, dict[str, Any]]:
        """Start agents (`DaskCluster.start_agents`). Raises EngineError."""
        packed = tuple((*host, packed) for host, packed in terms.items())
        self._starts_agents = True
        try:
            answers = self._call(limits.START + limits.LONGER, "start_agents", code, packed)
        except (EngineError, transport.Interrupted):
            self._tell("let_go")  # it may start them all the same, later on
            raise
        return dict(zip(terms, map(json.loads, answers), strict=True))

    def agents_taken(self) -> None:
        """Say that the agents which were started are known here now."""
        self._starts_agents = False
        self._tell("agents_taken")

    def _tell(self, name: str) -> None:
        try:
            self._remote.tell(name)
        except transport.Failure:
            pass  # it has ended

    def _call(self, seconds: float, name: str, *args: Any) -> Any:
        try:
            answer = self._remote.call(name, *args, timeout=seconds)
        except transport.Silent as failure:
            raise EngineError("Dask does not answer") from failure
        except transport.Failure as failure:
            raise EngineError(f"the process that speaks with Dask has ended: {failure}") from failure
        if isinstance(answer, str):
            raise EngineError(answer)
        return answer

    def end_agents(self, agents: Mapping[Found, tuple[int, str, str]]) -> set[Found]:
        """Have workers kill agents (`DaskCluster.end_agents`). Raises nothing."""
        named = tuple((*host, *agent) for host, agent in agents.items())
        try:
            ended = self._remote.call("end_agents", named, timeout=limits.END + limits.LONGER)
        except (transport.Failure, transport.Interrupted):
            return set()
        return {host for host in agents if host.name in ended}

    def end(self) -> None:
        """Have it remove the run's files, and wait until it has ended. If it is frozen, it is killed."""
        self._remote.close()
        reap(self._pid, LEAVE_SECONDS if self._starts_agents else EXIT_SECONDS)


def _main(sock: socket.socket, run: RunDirectory, engine: Engine) -> None:
    os.chdir(run.path)
    tracing.on = False
    service = KeeperService(engine)
    end = threading.Thread(target=_await_end, args=(sock.fileno(), run, service))
    end.start()
    service.import_dask()
    fd, on_readable = transport.serve_polled(sock, service)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    try:
        while True:
            if not poller.poll(IDLE_SECONDS * 1000):
                service.disconnect()
                poller.poll()
            on_readable()
    except EOFError:
        service.exposed_let_go()
        end.join()


def _await_end(fd: int, run: RunDirectory, service: KeeperService) -> None:
    """Wait for the end of the master; then remove the run's files, and end, also if Dask keeps the other thread busy.

    But agents that were being started are killed first.
    """
    poller = select.poll()
    poller.register(fd, transport.ENDED)
    poller.poll()
    run.remove_folders()
    service.all_taken.wait(LEAVE_SECONDS)
    os._exit(0)
