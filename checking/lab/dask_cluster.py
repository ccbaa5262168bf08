"""A Dask cluster on the hosts of a lab, with mutual TLS: what a user of `--engine` brings.

May live here: starting, finding and stopping Dask's own processes. May not: Daadkvs, which runs on it. It needs the
packages distributed and cryptography.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from checking.driver import wait_until
from checking.lab.certificates import Authority, Files
from checking.lab.hosts import Host, Lab, Listening, Process

__all__ = ["DaskCluster", "cluster_in_a_lab"]

PORT = 8786
"""Where the scheduler listens."""

START_SECONDS = 90.0
"""How long Dask may take to start. Importing it takes seconds where other work is done."""

_LOG = "/tmp/dask.log"

_DASK = re.compile(r"\bdask (scheduler|worker|nanny)\b|multiprocessing\.(spawn|resource_tracker|forkserver)")
_WORKER = re.compile(r"^dask worker \[|multiprocessing\.spawn")


def _is_of_dask(process: Process) -> bool:
    """Whether a process is Dask's own: a scheduler, a worker, its nanny, or a helper of these."""
    return _DASK.search(process.title) is not None


@contextmanager
def cluster_in_a_lab(workers: Iterable[str], others: Iterable[str] = ()) -> Iterator[DaskCluster]:
    """A running cluster with these workers in a lab of its own. *others*: hosts with no part in it. Raises LabError."""
    workers = [*workers]
    with Lab(["driver", "head", *workers, *others]) as lab:
        cluster = DaskCluster(lab, "head", workers, "driver")
        cluster.start()
        yield cluster


class DaskCluster:
    """A scheduler on one host, and a worker with its nanny on each of some others."""

    def __init__(self, lab: Lab, head: str, workers: Iterable[str], driver: str) -> None:
        self.lab = lab
        self.authority = Authority("the lab's")
        self.driver = lab[driver]
        self.head = lab[head]
        self.workers = [lab[name] for name in workers]
        self.hosts = [self.driver, self.head, *self.workers]
        self._files = {host.name: self._certify(host) for host in self.hosts}
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self.own_ports: set[Listening] = set()
        """What Dask listened at when it had started."""
        self._own_files: dict[str, set[str]] = {}
        """Host -> what was in its /tmp when Dask had started."""
        self.address = f"tls://{self.head.address}:{PORT}"

    def _certify(self, host: Host) -> Files:
        return self.authority.certify(host.name, host.address, host.path("/tmp/tls"), "/tmp/tls")

    @property
    def options(self) -> list[str]:
        """The options with which a master on the driver's host uses this cluster."""
        files = self._files[self.driver.name]
        return [
            "--engine", f"dask:{self.address}",
            "--tls-ca", files.authority, "--tls-cert", files.certificate, "--tls-key", files.key,
        ]  # fmt: skip

    def start(self) -> None:
        """Start the scheduler and all workers, and wait until these are registered."""
        self._start(self.head, "scheduler", "--host", self.head.address, "--port", str(PORT))
        for host in self.workers:
            self._start_worker(host)
        self._await(self.head, "Scheduler at:", 1)
        for host in self.workers:
            self.await_worker(host, 0)
        self._own_files = self._files_in_tmp()
        self.own_ports = {port for host in [self.head, *self.workers] for port in host.listening()}

    def registrations(self, host: Host) -> int:
        """How many workers of a host have been registered so far, one after another."""
        return _told(host).count("Registered to:")

    def await_worker(self, host: Host, registrations: int) -> None:
        """Wait until a host has had more *registrations*: its nanny starts a new worker where one has died.

        If the nanny has ended as well, both are started again.
        """
        if self._programs[host.name].poll() is not None:
            self._start_worker(host)
        self._await(host, "Registered to:", registrations + 1)

    def _start_worker(self, host: Host) -> None:
        self._start(host, "worker", self.address, "--host", host.address, "--name", host.name, "--nthreads", "1")

    def _start(self, host: Host, kind: str, *words: str) -> None:
        authority, certificate, key = self._files[host.name]
        self._programs[host.name] = host.start(
            sys.executable, "-m", "dask", kind, *words, "--dashboard-address", "127.0.0.1:0",
            "--tls-ca-file", authority, "--tls-cert", certificate, "--tls-key", key,
            log=_LOG,
        )  # fmt: skip

    def _await(self, host: Host, text: str, times: int) -> None:
        def found() -> bool:
            assert self._programs[host.name].poll() is None, f"Dask has ended on {host.name}: {_told(host)}"
            return _told(host).count(text) >= times

        wait_until(found, f"{text!r} of Dask on {host.name}", START_SECONDS, 0.05)

    # -- its processes -------------------------------------------------------------------------------------

    def nanny(self, host: Host) -> int:
        """The process id of a worker's nanny, outside of the lab."""
        (found,) = [each.pid for each in host.processes() if _is_of_dask(each) and each.pid == each.session]
        return found

    def worker(self, host: Host) -> int:
        """The process id of a host's worker, outside of the lab."""
        (found,) = [each.pid for each in host.processes() if _WORKER.search(each.title)]
        return found

    def others(self) -> dict[str, list[str]]:
        """The processes on all hosts of the cluster that aren't Dask's: host -> command lines."""
        found = {host.name: [each.title for each in host.processes() if not _is_of_dask(each)] for host in self.hosts}
        return {name: titles for name, titles in found.items() if titles}

    def _files_in_tmp(self) -> dict[str, set[str]]:
        return {host.name: {file.name for file in host.path("/tmp").iterdir()} for host in self.hosts}

    def files(self) -> dict[str, list[str]]:
        """The files in the /tmp of all hosts that neither Dask nor the lab has put there: host -> names."""
        found = {name: files - self._own_files[name] for name, files in self._files_in_tmp().items()}
        return {name: sorted(files) for name, files in found.items() if files}


def _told(host: Host) -> str:
    """What Dask has logged on a host."""
    return host.path(_LOG).read_text(errors="replace")
