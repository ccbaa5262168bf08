"""The Dask cluster that a user brings: which hosts there are, and how agents get there.

May live here: all that is said to Dask. May not: what an agent is for (engine/agent.py), who is placed where.

Dask lists hosts, starts an agent on each, and is the way to kill one that does not answer. Nothing of a run depends on
its scheduling: `Client.run` calls a function at once, and once. A connection to the scheduler is made when it is
needed, and closed again.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import tarfile
from collections.abc import Callable, Coroutine, Iterable, Mapping
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

if "numpy" not in sys.modules:
    sys.modules["numpy"] = None  # type: ignore[assignment]  # Dask can do without, and then is imported in less time

import cloudpickle
from distributed import Client, Security

if sys.modules["numpy"] is None:
    del sys.modules["numpy"]

from control.hosts import EngineError
from control.run_directory import checkout_hash
from control.settings import Engine
from engine import delivery
from engine.placement import natural
from rpc.failures import why

__all__ = ["DaskCluster", "Found"]

CONNECT_SECONDS = 10.0
"""How long the scheduler may take to answer."""

START_SECONDS = 20.0
"""How long an agent may take to start."""

END_SECONDS = 4.0
"""How long the scheduler, and then a worker, may take to end an agent."""

ROOT = Path(__file__).resolve().parent.parent

CODE = ("*.py", "rpc/*.py", "control/*.py", "engine/*.py")
"""What an agent is made of, except for `NOT_FOR_AGENTS`."""

NOT_FOR_AGENTS = ("master.py", "daadkvs.py")

T = TypeVar("T")


class Found(NamedTuple):
    """A host of the cluster: what it is called, where it is, and the worker through which it is reached."""

    name: str
    ip: str
    worker: str

    @property
    def endpoint(self) -> tuple[str, int]:
        """The IP address and port at which the worker listens."""
        ip, _, port = self.worker.rpartition("://")[2].rpartition(":")
        return ip.strip("[]"), int(port)


class DaskCluster:
    """A Dask cluster, which is there already."""

    def __init__(self, engine: Engine) -> None:
        """Raises EngineError if a certificate can't be read."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # each error is ours to tell, in one line
        logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
        logging.getLogger("tornado").setLevel(logging.CRITICAL + 1)
        cloudpickle.register_pickle_by_value(delivery)
        self._address = engine.scheduler
        self._security = None
        if engine.authority is not None:
            self._security = Security(
                tls_ca_file=str(engine.authority),
                tls_client_cert=str(engine.certificate),
                tls_client_key=str(engine.key),
                require_encryption=True,
            )
        self._code = b""

    def hosts(self) -> list[Found]:
        """The hosts that there are now, in the order of their names. Blocks. Raises EngineError."""
        return self._run(self._hosts)

    def start_agents(
        self, pack_terms: Callable[[Found], bytes], hosts: Iterable[Found] | None = None
    ) -> dict[Found, dict[str, Any]]:
        """Start an agent on each of these hosts, or on all that there are, all at the same time, with packed terms.

        Returns for each what `delivery.start_agent` does. Blocks. Raises EngineError.
        """
        self._code = self._code or _packed_code()

        async def start(client: Client, host: Found) -> dict[str, Any]:
            arguments = (self._code, pack_terms(host), checkout_hash(), START_SECONDS)
            about = await _call(client, host, START_SECONDS + 5.0, delivery.start_agent, *arguments)
            return dict(about)

        async def start_all(client: Client) -> dict[Found, dict[str, Any]]:
            found = await self._hosts(client) if hosts is None else [*hosts]
            answers = await asyncio.gather(*(start(client, host) for host in found))
            return dict(zip(found, answers, strict=True))

        return self._run(start_all)

    def end_agents(self, agents: Mapping[Found, tuple[int, str, str]]) -> set[Found]:
        """Have workers kill agents, with all their processes; returns the hosts of those that are gone.

        *agents*: host -> the arguments of `delivery.end_agent`. Blocks. Raises nothing: a host that isn't there is left
        out.
        """

        async def end(workers: Mapping[str, Found], client: Client, host: Found) -> bool:
            worker = workers.get(host.ip)  # perhaps another one than before
            if worker is None:
                return False
            answer = await _call(client, worker, END_SECONDS, delivery.end_agent, *agents[host])
            return answer is True

        async def end_all(client: Client) -> set[Found]:
            workers = {found.ip: found for found in await self._hosts(client)}
            ended = await asyncio.gather(*(end(workers, client, host) for host in agents))
            return {host for host, has_ended in zip(agents, ended, strict=True) if has_ended}

        try:
            return self._run(end_all, END_SECONDS)
        except EngineError:
            return set()

    async def _hosts(self, client: Client) -> list[Found]:
        identity = await client.scheduler.identity(n_workers=-1)
        workers = sorted(
            (natural(str(worker["name"])), worker["host"], address, str(worker["name"]))
            for address, worker in identity["workers"].items()
            if worker["status"] == "running"
        )
        found: dict[str, Found] = {}
        for _, ip, address, name in workers:
            found.setdefault(ip, Found(ip if name == address else name, ip, address))
        return sorted(found.values(), key=lambda host: natural(host.name))

    def _run(self, use: Callable[[Client], Coroutine[Any, Any, T]], patience: float = CONNECT_SECONDS) -> T:
        """What *use* returns, with a connection to the scheduler. Raises EngineError."""

        async def connected() -> T:
            async with Client(
                self._address,
                security=self._security,
                timeout=patience,
                asynchronous=True,
                set_as_default=False,
            ) as client:
                return await use(client)

        try:
            return asyncio.run(connected())
        except Exception as error:  # Dask, tornado and ssl raise many kinds
            raise EngineError(f"{self._address}: {why(error) or type(error).__name__}") from error


async def _call(client: Client, host: Found, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns on a host's worker, or {"error": why}."""
    try:
        answers = await asyncio.wait_for(client.run(function, *args, workers=[host.worker]), seconds)
        return answers[host.worker]
    except TimeoutError:
        return {"error": "its worker does not answer"}
    except Exception as error:
        return {"error": f"its worker has failed: {why(error) or type(error).__name__}"}


def _packed_code() -> bytes:
    """The code of an agent as a tar file, with what Python has compiled of it: the same Python needn't do so again."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as files:
        for pattern in CODE:
            for path in sorted(ROOT.glob(pattern)):
                if path.name in NOT_FOR_AGENTS:
                    continue
                compiled = Path(cache_from_source(path))
                for each in (path, compiled) if compiled.exists() else (path,):
                    files.add(each, each.relative_to(ROOT), recursive=False)
    return packed.getvalue()
