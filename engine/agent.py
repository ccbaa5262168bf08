"""The agent: the process that starts all others of a run on one host, for a master on another machine.

May live here: what an agent does from its start to its end. May not: how it gets to its host (engine/delivery.py), and
the master's side (engine/hosts.py).

The agent does what the spawner does on one machine, and besides what the master does itself there: it kills by process
id, and it looks into the folders of servers. A Dask worker starts it in a session of its own, and holds the other end
of its standard input. The master connects to it; it connects to nobody. When either the master or the worker is gone,
the agent ends every process of the run on this host, and removes the run's files. The system tells the agent when the
master's machine has not been heard of for a while.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import time
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from control import roles
from control.run_directory import RunDirectory, check_length, process
from engine.terms import Terms
from rpc import tls, tracing, transport
from rpc.library import set_title
from rpc.spawner import END_PATIENCE_SECONDS, GC_THRESHOLDS, Roles, SpawnerService, activity, kill_in_session
from storage import Lock, StorageError, cut_group, folder_of, holds_store, make_folder

__all__ = ["AgentService", "main"]

TETHER = 0
"""The descriptor whose other end the worker holds."""

MASTER_SECONDS = 30.0
"""How long an agent waits for its master to connect, which may have to wait for the agents on other hosts."""

TRACE_BYTES = 1 << 20
"""How much of a trace is sent at once."""


class AgentService(SpawnerService):
    """What the master asks an agent for."""

    def __init__(self, loaded: Roles, run_directory: str, alive: int, place: str, stores: Path) -> None:
        super().__init__(loaded, run_directory, alive, place)
        self._stores = stores
        self.ended = False
        """Whether the master has said that the run is over."""

    def exposed_kill_process(self, pid: int, patience: float) -> bool:
        """Kill a process of the run on this host; returns whether it was gone within *patience* seconds."""
        return kill_in_session(os.getpid(), pid, patience)

    def exposed_activity(self, pid: int) -> tuple[int, bool]:
        """What a process on this host does (`spawner.activity`)."""
        return activity(pid)

    def exposed_has_store(self, server: int) -> bool:
        """Whether there is anything in the folder of a server's store."""
        return holds_store(folder_of(self._stores, server))

    def exposed_cut_group(self, server: int, group: int, fsync: str) -> str | None:
        """Take a group back from the log of a server that has ended; returns why that could not be done, if so."""
        try:
            cut_group(folder_of(self._stores, server), group, fsync)
        except StorageError as error:
            return str(error)
        return None

    def exposed_clock(self) -> int:
        """The time by which processes on this host are traced, in nanoseconds."""
        return time.monotonic_ns()

    def exposed_trace_files(self) -> tuple[str, ...]:
        """The names of the traces that processes of this host have written."""
        folder = tracing.folder()
        return () if folder is None else tuple(sorted(path.name for path in folder.glob("*.trace")))

    def exposed_read_trace(self, name: str, offset: int) -> bytes:
        """What follows in a trace from *offset* on; empty at its end."""
        folder = tracing.folder()
        if folder is None or name not in self.exposed_trace_files():
            raise ValueError("there is no such trace")
        with open(folder / name, "rb") as file:
            file.seek(offset)
            return file.read(TRACE_BYTES)

    def exposed_end(self) -> None:
        """Note that the run is over. The agent then ends all processes, removes the run's files, and ends itself."""
        self.ended = True


def main(terms: bytes, folder: str) -> NoReturn:
    """Be the agent of the run with these packed `Terms`, in *folder*. Says on stdout where it listens, or why not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    agent = None
    try:
        agent = _Agent(Terms.from_bytes(terms), folder)
        _say(agent.about())
        agent.serve()
    except BaseException as error:
        if agent is None:
            import shutil  # not at the top: nothing else here needs it

            shutil.rmtree(folder, ignore_errors=True)
            _say({"error": _described(error), "in use": isinstance(error, _InUse)})
    finally:
        os._exit(0)


class _InUse(StorageError):
    """Another master uses the data directory on this host."""


def _described(error: BaseException) -> str:
    named = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else None
    return named or transport.why(error) or type(error).__name__


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


class _Agent:
    def __init__(self, terms: Terms, folder: str) -> None:
        """Raises OSError, StorageError."""
        os.umask(0o077)
        self._terms = terms
        self._run = RunDirectory(folder)
        self._run.note_spawner(os.getpid())
        self._stores = Path(terms.data_directory) if terms.data_directory else self._run.make_stores()
        check_length(self._stores)
        if terms.data_directory:
            self._lock_data_directory()
        if terms.traced:
            tracing.enable(Path(folder, "trace"))
        set_title(f"daadkvs agent ({folder})")
        tls.use(terms.credentials, terms.host_timeout)
        self._gone, self._alive = os.pipe()
        self._place = f"tls:{terms.ip}"
        self._listener = transport.listen(transport.new_address(self._place, "agent"))

    def _lock_data_directory(self) -> None:
        make_folder(self._stores, sync=True)
        self._lock = Lock(self._stores / f"lock-{quote(self._terms.host, safe='')}")
        if not self._lock.acquire(self._terms.lock_wait):
            raise _InUse(f"{self._stores}: in use by another master")

    def about(self) -> dict[str, Any]:
        """What the master has to know of this agent."""
        named = process(os.getpid())
        return {
            "address": self._listener.address,
            "pid": os.getpid(),
            "started": named.started if named else "",
            "folder": self._run.path,
            "stores": str(self._stores),
        }

    def serve(self) -> None:
        """Serve the master until it is gone, or the worker, or the run is over. Then clean up."""
        loaded = roles.load()  # once, for all processes that are forked from here; the master connects meanwhile
        self._service = AgentService(loaded, self._run.path, self._alive, self._place, self._stores)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()
        patience = END_PATIENCE_SECONDS
        try:
            self._serve()
            if not self._service.ended:  # nobody else knows that it is over
                patience = 0.0
        except (EOFError, OSError):
            pass
        finally:
            self._clean_up(patience)

    def _serve(self) -> None:
        """Raises EOFError or OSError when the master is gone; returns when the worker is, or when the run is over."""
        self._listener.settimeout(MASTER_SECONDS)
        sock = transport.accept_only(self._listener)
        tls.detect_loss(sock, self._terms.host_timeout)
        fd, self._serve_call = transport.serve_polled(sock, self._service)  # kept, since its end would wait for answers
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(TETHER, 0)
        while not self._service.ended:
            ready = [readable for readable, _ in poller.poll()]
            if TETHER in ready:
                return
            self._serve_call()

    def _clean_up(self, patience: float) -> None:
        """End all processes of the run on this host, and remove its files.

        For *patience* seconds, processes may end by themselves, as they do when the master is gone.
        """
        os.close(self._alive)
        if patience:
            self._service.end_waiting()
        poller = select.poll()
        poller.register(self._gone, select.POLLIN)
        while not poller.poll(patience * 1000):
            self._kill_all()
            patience = 0.05
        self._run.remove()

    def _kill_all(self) -> None:
        """Kill every other process of this session."""
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    if os.getsid(int(name)) == os.getpid():
                        os.kill(int(name), signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass
