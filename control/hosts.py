"""The hosts of a run: on which machine each process is, and what the master has done there.

May live here: what a host can be asked for, and the one host of a run without an engine: this machine. May not: other
machines (engine/); what follows from the death of a process (control/supervisor.py).

Whatever depends on the id of a process, or on a folder or file of a server, is done on the host of that process, and
therefore goes through these methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from control import roles
from control.commands import CommandError
from control.run_directory import RunDirectory, check_length
from control.settings import Settings
from rpc import transport
from rpc.spawner import Spawner, activity
from storage import cut_group, folder_of, holds_store

__all__ = ["EXIT_PATIENCE_SECONDS", "EngineError", "Host", "Hosts", "ThisMachine", "lacking"]

EXIT_PATIENCE_SECONDS = 2.0
"""How long processes may take to end before they are killed by force."""


class EngineError(Exception):
    """The cluster of an engine, or a host of it, can't be used; the text says why."""


def lacking(error: ImportError) -> EngineError:
    """What is raised where a package of the extra `cluster` can't be imported."""
    package = (error.name or str(error)).partition(".")[0]
    return EngineError(f"--engine needs the package {package}, which is missing; `pip install .[cluster]` installs it")


class Host(Protocol):
    """A machine on which processes of the run are."""

    @property
    def name(self) -> str:
        """What users call it; empty for the machine of a run without an engine."""

    @property
    def is_lost(self) -> bool:
        """Whether it can't be reached any more, so that all its processes count as dead."""

    def start(self, role: str, ident: int, name: str) -> tuple[int, str]:
        """Start the "watchdog" of a server or a "client"; returns its process id and address.

        No other process of the run has the same *name*. Raises Failure, Interrupted; then no process remains.
        """

    def start_early(self, role: str, ident: int, order: bytes) -> None:
        """Start a process that `start` will soon be called for, if that can be done without waiting.

        *order*: what the watchdog of a server will be asked for (`watchdog.main`), if it may begin with that.
        """

    def new_address(self, name: str) -> str:
        """Where a server is to listen; its watchdog then says where it does."""

    def connect(self, address: str, timeout: float) -> transport.Remote:
        """A connection to a process on this host; it ends when the host is lost. Raises Failure."""

    def kill(self, pid: int, patience: float) -> bool:
        """Kill a process of this run; returns whether it was gone within *patience* seconds, or can't be reached."""

    def activity(self, pid: int) -> tuple[int, bool]:
        """What a process of this run does (`spawner.activity`); (0, False) if the host does not answer."""

    def folder(self, server: int) -> str:
        """The path of the folder with a server's store, on this host."""

    def has_store(self, server: int) -> bool:
        """Whether there is anything in that folder. Raises OSError, Failure."""

    def cut_group(self, server: int, group: int, fsync: str) -> None:
        """Take a group back from the log of a server that has ended (`storage.cut_group`).

        Raises StorageError, and Failure if the host can't be asked.
        """


class Hosts(Protocol):
    """All hosts of a run."""

    def of_server(self, ident: int) -> Host:
        """Where a server is to be started: where its store is, or, without one, where it is its turn.

        Raises CommandError if that host is not there.
        """

    def of_client(self, ident: int) -> Host:
        """Where a client is to be started. Raises CommandError if there is no host."""

    def expected(self, ident: int) -> Host | None:
        """Where a new server or client will be started, if no other is started before than those asked about.

        None where that is not known. To be asked about each id only once, until it is started or `drop_early` called.
        """

    def drop_early(self) -> bool:
        """Kill the processes that were started early, and are not wanted; returns whether there were any."""

    def lost_one(self) -> bool:
        """Whether a host has been lost since this was last asked."""

    def forget_server(self, ident: int) -> None:
        """A server that was to be started for the first time has not been started."""

    def end(self) -> None:
        """End what is left of the run on all hosts, remove its files there, and fetch its traces. Blocks."""


class ThisMachine:
    """The one host of a run without an engine. It is `Host` and `Hosts`."""

    name = ""
    is_lost = False

    def __init__(self, settings: Settings, run: RunDirectory, elsewhere: Mapping[int, str]) -> None:
        """Start the run's first process, the spawner. Raises OSError. Forks, so no thread may have been started.

        *elsewhere*: server id -> the host on which an earlier run has left its store, if that was another machine.
        """
        self._run = run
        self._elsewhere = elsewhere
        self._stores = settings.data_directory or run.make_stores()
        check_length(self._stores)
        transport.check_place(run.path)
        self._spawner = Spawner(roles.load, run.path, run.remove_folders, settings.timeout)
        try:
            run.note_spawner(self._spawner.pid)
        except OSError:
            self.end()
            raise

    def start(self, role: str, ident: int, name: str) -> tuple[int, str]:
        return self._spawner.start(role, ident, name)

    def start_early(self, role: str, ident: int, order: bytes) -> None:
        self._spawner.start_early(role, ident, order)

    def new_address(self, name: str) -> str:
        return transport.new_address(self._run.path, name)

    def connect(self, address: str, timeout: float) -> transport.Remote:
        return transport.Remote(address, timeout)

    def kill(self, pid: int, patience: float) -> bool:
        return self._spawner.kill(pid, patience)

    def activity(self, pid: int) -> tuple[int, bool]:
        return activity(pid)

    def folder(self, server: int) -> str:
        return str(folder_of(self._stores, server))

    def has_store(self, server: int) -> bool:
        return holds_store(folder_of(self._stores, server))

    def cut_group(self, server: int, group: int, fsync: str) -> None:
        cut_group(folder_of(self._stores, server), group, fsync)

    def of_server(self, ident: int) -> Host:
        if ident in self._elsewhere:
            raise CommandError(f"its store is on host {self._elsewhere[ident]}, which takes --engine")
        return self

    def of_client(self, ident: int) -> Host:
        return self

    def expected(self, ident: int) -> Host | None:
        return None if ident in self._elsewhere else self

    def drop_early(self) -> bool:
        return self._spawner.drop_early()

    def lost_one(self) -> bool:
        return False

    def forget_server(self, ident: int) -> None:
        pass

    def end(self) -> None:
        self._spawner.end(EXIT_PATIENCE_SECONDS)
