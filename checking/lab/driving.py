"""A master in a lab: on the driver's host, with servers and clients on the hosts of a Dask cluster.

May live here: starting it, and its processes on all hosts. May not: what it should print.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from checking.driver import Conversation, Result, run, wait_until
from checking.lab import stranger
from checking.lab.dask_cluster import DaskCluster
from checking.lab.hosts import Host, only_child
from checking.lab.stranger import Attempt

__all__ = ["ClusterConversation", "Siege", "Stranger", "ports", "run_on"]


def run_on(cluster: DaskCluster, script: str | bytes, *options: str, timeout: float = 60.0) -> Result:
    """Pipe a script into a master on the driver's host, and wait for its end."""
    return run(script, *cluster.options, *options, prefix=cluster.driver.prefix, timeout=timeout)


def ports(cluster: DaskCluster) -> str:
    """All ports of a cluster's hosts that accept connections from the network, but for Dask's own, a line each."""
    return "".join(
        f"{host.address} {listening.port}\n"
        for host in cluster.hosts
        for listening in host.listening()
        if listening not in cluster.own_ports
    )


class ClusterConversation(Conversation):
    """A running master. At the end of its `with` block it is ended, and nothing of it may be left on any host."""

    def __init__(self, cluster: DaskCluster, *options: str) -> None:
        self.cluster = cluster
        super().__init__(*cluster.options, *options, prefix=cluster.driver.prefix)

    @property
    def master(self) -> int:
        """The process id of the master, outside of the lab."""
        return only_child(self.process.pid)

    def where(self) -> dict[str, tuple[Host, int]]:
        """The processes of the run: name, as "server 3" or "agent alpha" -> host, and process id outside of the lab."""
        found = {}
        for host in self.cluster.hosts:
            for process in host.processes():
                if match := re.match(r"daadkvs (\w+)( \d+)? \(", process.title):
                    found[match[1] + (match[2] or f" {host.name}")] = host, process.pid
        return found

    def pids(self) -> dict[str, int]:
        """The processes of the run: name, as "server 3" or "agent alpha" -> process id outside of the lab."""
        return {name: pid for name, (_, pid) in self.where().items()}

    def signal(self, name: str, signum: int) -> None:
        """Send a signal to one process by its name, and wait until it has taken effect, also on the other hosts."""
        host, pid = self.where()[name]
        host.signal(pid, signum)
        wait_until(lambda: not host.closing(), f"other hosts that know what {name} has closed")

    def on(self, host: Host) -> set[str]:
        """The names of the run's processes on a host."""
        return {name for name, (where, _) in self.where().items() if where is host}

    def __exit__(self, *reason: object) -> None:
        super().__exit__(*reason)
        self.await_nothing()

    def await_nothing(self) -> None:
        """Wait until no process of the run is left on any host that can be reached or not, and no file of it."""
        wait_until(lambda: not self.cluster.others(), f"the end of {self.cluster.others()}")
        wait_until(lambda: not self.cluster.files(), f"the removal of {self.cluster.files()}")


class Siege(subprocess.Popen[bytes]):
    """A program that holds connections to ports until it is killed."""

    held = 0
    """How many it got at first."""


class Stranger:
    """Somebody on a host of the lab that has no part in the run."""

    PROGRAM = str(Path(stranger.__file__))

    def __init__(self, host: Host) -> None:
        self._start = (*host.prefix, sys.executable, "-I", self.PROGRAM)

    def knock(self, ports: str, seconds: float, certificates: list[tuple[str, str]]) -> list[Attempt]:
        """Knock at the ports in all ways; see the program."""
        files = [file for pair in certificates for file in pair]
        command = [*self._start, "try", str(seconds), *files]
        done = subprocess.run(command, input=ports.encode(), stdout=subprocess.PIPE, check=True)
        return [Attempt(*json.loads(line)) for line in done.stdout.splitlines()]

    def besiege(self, ports: str, count: int) -> Siege:
        """Hold connections to the ports, until this program is killed; returns once they stand."""
        siege = Siege([*self._start, "besiege", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert siege.stdin is not None
        assert siege.stdout is not None
        siege.stdin.write(ports.encode())
        siege.stdin.close()
        siege.held = int(siege.stdout.readline())
        return siege
