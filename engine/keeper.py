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
from engine.found import Found
from rpc import transport
from rpc.forking import fork, reap

if TYPE_CHECKING:
    from engine.dask_cluster import DaskCluster

__all__ = ["Keeper", "KeeperService"]

IMPORT_SECONDS = 60.0
"""How long the first answer may take: on a slow machine, that is how long it takes to import Dask."""

HOSTS_SECONDS = 15.0
START_SECONDS = 40.0
END_SECONDS = 10.0
"""How long answers may take. Dask's own limits (engine/dask_cluster.py) are shorter, as long as it keeps them."""

EXIT_SECONDS = 2.0
"""How long the keeper may take to end."""

DISPENSABLE = ("colorama", "curses", "jinja2", "numpy")
"""What Dask imports where it is there, and can do without: so it is imported in less time."""

IDLE_SECONDS = 1.0
"""How long the connection to the scheduler is kept for another call."""


class KeeperService(transport.Service):
    """What the master asks the keeper for: the methods of `DaskCluster`. A text is the reason for a failure."""

    def __init__(self, engine: Engine) -> None:
        self._cluster: DaskCluster
        self._failure = ""
        """Why there is nothing to speak with Dask; empty if there is."""
        try:
            self._cluster = _import_cluster()(engine)
        except ImportError as error:
            self._failure = str(lacking(error))

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
        try:
            started = self._cluster.start_agents(code, {Found(*host): packed for *host, packed in terms})
            return tuple(json.dumps(about) for about in started.values())
        except EngineError as error:
            return str(error)

    def exposed_end_agents(self, agents: tuple[tuple[str, str, str, int, str, str], ...]) -> tuple[str, ...]:
        """Have workers kill agents; returns the names of the hosts on which they are gone."""
        named = {Found(*agent[:3]): agent[3:] for agent in agents}
        return tuple(host.name for host in self._cluster.end_agents(named))


def _import_cluster() -> type[DaskCluster]:
    """Import Dask, and what uses it. Raises ImportError."""
    import yaml  # type: ignore[import-untyped]

    if yaml.__with_libyaml__:
        yaml.SafeLoader = yaml.CSafeLoader  # Dask reads its settings by it, in a tenth of the time
    sys.modules.update(dict.fromkeys(DISPENSABLE))  # type: ignore[arg-type]  # an import of them fails
    try:
        from engine.dask_cluster import DaskCluster
    except ImportError:  # a later Dask needs one of them
        for name in DISPENSABLE:
            del sys.modules[name]
        from engine.dask_cluster import DaskCluster
    return DaskCluster


class Keeper:
    """The master's end of the keeper. Every method but `end` blocks as long as Dask takes, within limits."""

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
        self._remote = transport.Remote(ours, IMPORT_SECONDS)
        self._has_answered = False
        try:
            run.note_spawner(self._pid)
        except OSError:
            self.end()
            raise

    def hosts(self) -> list[Found]:
        """The hosts of the cluster that there are now, in the order of their names. Raises EngineError."""
        seconds = HOSTS_SECONDS if self._has_answered else IMPORT_SECONDS
        found = [Found(*host) for host in self._call(seconds, "cluster_hosts")]
        self._has_answered = True
        return found

    def start_agents(self, code: bytes, terms: Mapping[Found, bytes]) -> dict[Found, dict[str, Any]]:
        """Start agents (`DaskCluster.start_agents`). Raises EngineError."""
        packed = tuple((*host, packed) for host, packed in terms.items())
        answers = self._call(START_SECONDS, "start_agents", code, packed)
        return dict(zip(terms, map(json.loads, answers), strict=True))

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
            ended = self._remote.call("end_agents", named, timeout=END_SECONDS)
        except (transport.Failure, transport.Interrupted):
            return set()
        return {host for host in agents if host.name in ended}

    def end(self) -> None:
        """Have it remove the run's files, and wait until it has ended. If it is frozen, it is killed."""
        self._remote.close()
        reap(self._pid, EXIT_SECONDS)


def _main(sock: socket.socket, run: RunDirectory, engine: Engine) -> None:
    os.chdir(run.path)
    end = threading.Thread(target=_await_end, args=(sock.fileno(), run))
    end.start()  # first: Dask may keep the other thread busy
    service = KeeperService(engine)
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
        end.join()


def _await_end(fd: int, run: RunDirectory) -> None:
    """Wait for the end of the master; then remove the run's files, and end."""
    poller = select.poll()
    poller.register(fd, transport.ENDED)
    poller.poll()
    run.remove_folders()
    os._exit(0)
