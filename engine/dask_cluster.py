"""The Dask cluster that a user brings: which hosts there are, and how agents get there.

May live here: all that is said to Dask. May not: what an agent is for (engine/agent.py), who is placed where.

Dask lists hosts, starts an agent on each, and is the way to kill one that does not answer. Nothing of a run depends on
its scheduling: a worker's method `run` calls a function at once, and once, as `distributed.Client.run` has it do. All
that is needed are two calls to the scheduler, *identity* and *broadcast*, so they are made with `distributed.rpc`. (A
`Client` is more: it registers with the scheduler, asks all workers for their versions, keeps two connections, and its
import is half of Dask.) Connections to the scheduler are made when they are needed, and stay until `disconnect`.

Dask takes longer to import than all of Daadkvs. So only the keeper imports this room (engine/keeper.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import cloudpickle
import distributed.config  # noqa: F401 - the other modules take their settings from it
from distributed.core import rpc
from distributed.security import Security

from control.hosts import EngineError
from control.run_directory import checkout_hash
from control.settings import Engine
from engine import delivery, limits
from engine.found import Found
from engine.placement import natural
from rpc.failures import why

__all__ = ["DaskCluster"]

T = TypeVar("T")


class DaskCluster:
    """A Dask cluster, which is there already."""

    def __init__(self, engine: Engine) -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # each error is ours to tell, in one line
        logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
        logging.getLogger("tornado").setLevel(logging.CRITICAL + 1)
        cloudpickle.register_pickle_by_value(delivery)
        self._address = engine.scheduler
        security = Security()
        if engine.authority is not None:
            security = Security(
                tls_ca_file=str(engine.authority),
                tls_client_cert=str(engine.certificate),
                tls_client_key=str(engine.key),
                require_encryption=True,
            )
        self._connection = security.get_connection_args("client")
        self._runner = asyncio.Runner()
        self._scheduler: rpc | None = None

    def hosts(self) -> list[Found]:
        """The hosts that there are now, in the order of their names. Blocks. Raises EngineError."""
        return self._run(self._hosts, limits.CONNECT, limits.HOSTS)

    def start_agents(self, code: bytes, terms: Mapping[Found, bytes]) -> dict[Found, dict[str, Any]]:
        """Start an agent on each of these hosts, all at the same time, with packed code and terms.

        Returns for each what `delivery.start_agent` does. Blocks. Raises EngineError.
        """

        async def start(scheduler: rpc, host: Found) -> dict[str, Any]:
            arguments = (code, terms[host], checkout_hash(), limits.START_AGENT)
            about = await _call(scheduler, host, limits.START_AGENT + limits.LONGER, delivery.start_agent, *arguments)
            return dict(about)

        async def start_all(scheduler: rpc) -> dict[Found, dict[str, Any]]:
            answers = await asyncio.gather(*(start(scheduler, host) for host in terms))
            return dict(zip(terms, answers, strict=True))

        return self._run(start_all, limits.CONNECT, limits.START)

    def end_agents(self, agents: Mapping[Found, tuple[int, str, str]]) -> set[Found]:
        """Have workers kill agents, with all their processes; returns the hosts of those that are gone.

        *agents*: host -> the arguments of `delivery.end_agent`. Blocks. Raises nothing: a host that isn't there is left
        out.
        """

        async def end(workers: Mapping[str, Found], scheduler: rpc, host: Found) -> bool:
            worker = workers.get(host.ip)  # perhaps another one than before
            if worker is None:
                return False
            answer = await _call(scheduler, worker, limits.END_AGENT, delivery.end_agent, *agents[host])
            return answer is True

        async def end_all(scheduler: rpc) -> set[Found]:
            workers = {found.ip: found for found in await self._hosts(scheduler)}
            ended = await asyncio.gather(*(end(workers, scheduler, host) for host in agents))
            return {host for host, has_ended in zip(agents, ended, strict=True) if has_ended}

        try:
            return self._run(end_all, limits.END_AGENT, limits.END)
        except EngineError:
            return set()

    async def _hosts(self, scheduler: rpc) -> list[Found]:
        identity = await scheduler.identity(n_workers=-1)
        workers = sorted(
            (natural(str(worker["name"])), worker["host"], address, str(worker["name"]))
            for address, worker in identity["workers"].items()
            if worker["status"] == "running"
        )
        found: dict[str, Found] = {}
        for _, ip, address, name in workers:
            found.setdefault(ip, Found(ip if name == address else name, ip, address))
        return sorted(found.values(), key=lambda host: natural(host.name))

    def _run(self, use: Callable[[rpc], Coroutine[Any, Any, T]], to_connect: float, whole: float) -> T:
        """What *use* returns, with a connection to the scheduler, which stays. Raises EngineError.

        It may take *to_connect* seconds to have a connection, and *whole* in all.
        """

        async def within_limits() -> T:
            if self._scheduler is None:
                self._scheduler = rpc(self._address, timeout=to_connect, connection_args=self._connection)
            return await asyncio.wait_for(use(self._scheduler), whole)

        try:
            return self._runner.run(within_limits())
        except Exception as error:  # Dask, tornado and ssl raise many kinds
            self.disconnect()
            told = "it does not answer" if isinstance(error, TimeoutError) else why(error) or type(error).__name__
            raise EngineError(f"{self._address}: {told}") from error

    def disconnect(self) -> None:
        """Close the connection to the scheduler, if there is one. Blocks `limits.CALL` at most. Raises nothing."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            try:
                self._runner.run(asyncio.wait_for(scheduler.close_rpc(), limits.CALL))
            except Exception:
                pass  # the scheduler is gone


async def _call(scheduler: rpc, host: Found, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns on a host's worker, or {"error": why}."""
    try:
        call = {"op": "run", "function": cloudpickle.dumps(function), "args": cloudpickle.dumps(args)}
        answers = await asyncio.wait_for(scheduler.broadcast(msg=call, workers=[host.worker]), seconds)
        answer = answers[host.worker]
        if answer["status"] != "OK":
            return {"error": f"its worker has failed: {answer['exception_text']}"}
        return answer["result"]
    except TimeoutError:
        return {"error": "its worker does not answer"}
    except Exception as error:
        return {"error": f"its worker has failed: {why(error) or type(error).__name__}"}
