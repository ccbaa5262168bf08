"""The Dask cluster that a user brings: which hosts there are, and how agents get there.

May live here: all that is said to Dask. May not: what an agent is for (engine/agent.py), who is placed where.

Dask lists hosts, starts an agent on each, and is the way to kill one that does not answer. Nothing of a run depends on
its scheduling: the operation *run* of a worker calls a function at once, and once, as `distributed.Client.run` has it
do. All that is needed are two operations of the scheduler, *identity* and *broadcast*, so they are called by
`distributed.rpc`. (A `Client` does more: it registers with the scheduler, compares versions, keeps two connections, and
imports half of Dask.) Connections to the scheduler are made when they are needed, and stay until `disconnect`.

Even so, Dask takes longer to import than all of Daadkvs. So only the keeper imports this room (engine/keeper.py).
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import distributed.config  # noqa: F401 - the other modules take their settings from it
from distributed.core import CommClosedError, clean_exception, rpc
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
        self._address = engine.scheduler
        self._security = Security()
        if engine.authority is not None:
            self._security = Security(
                tls_ca_file=str(engine.authority),
                tls_client_cert=str(engine.certificate),
                tls_client_key=str(engine.key),
                require_encryption=True,
            )
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
                certificates = self._security.get_connection_args("client")  # as they are now
                self._scheduler = rpc(self._address, connection_args=certificates)
            self._scheduler.timeout = to_connect
            return await asyncio.wait_for(use(self._scheduler), whole)

        try:
            return self._runner.run(within_limits())
        except Exception as error:  # Dask, tornado and ssl raise many kinds
            self.disconnect()
            raise EngineError(f"{self._address}: {_reason(error)}") from error

    def disconnect(self) -> None:
        """Close the connection to the scheduler, if there is one. Blocks `limits.CALL` at most. Raises nothing."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            try:
                self._runner.run(asyncio.wait_for(scheduler.close_rpc(), limits.CALL))
            except Exception:
                pass  # the scheduler is gone


async def _call(scheduler: rpc, host: Found, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """What a function of engine/delivery.py returns on a host's worker, or {"error": why}."""
    try:
        call = {"op": "run", "function": pickle.dumps(_Source(function.__name__)), "args": pickle.dumps(args)}
        answering = scheduler.broadcast(msg=call, workers=[host.worker], on_error="return_pickle")
        answer = (await asyncio.wait_for(answering, seconds))[host.worker]
        if isinstance(answer, bytes):  # the scheduler could not reach the worker
            raise pickle.loads(answer)
        if answer["status"] != "OK":
            _, raised, _ = clean_exception(**answer)
            raise raised
        return answer["result"]
    except TimeoutError:
        return {"error": "its worker does not answer"}
    except Exception as error:
        return {"error": f"its worker has failed: {_reason(error)}"}


class _Source:
    """A function of engine/delivery.py which is pickled as its source, so that it is the worker that compiles it.

    (cloudpickle would send what this Python has compiled. A worker with another Python crashes at that.)
    """

    _TEXT = Path(delivery.__file__).read_text("utf-8")

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        names = {"__name__": delivery.__name__, "source": self._TEXT, "wanted": self._name}
        return eval, ("exec(source, globals()) or globals()[wanted]", names)


def _reason(error: BaseException) -> str:
    """Why something that Dask was asked for has failed. (Of a connection, `rpc` itself says only what it was for.)"""
    if isinstance(error, CommClosedError) and error.__cause__ is not None:
        error = error.__cause__
    return why(error) or ("it does not answer" if isinstance(error, TimeoutError) else type(error).__name__)
