"""Chaos on several hosts: workers and agents are killed and cables are cut, while servers and clients die as well.

May live here: what is done to hosts, and rounds on a cluster. May not: scripts and which answers are possible
(checking/chaos/).
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from itertools import count
from random import Random

from checking.chaos.answers import Violation
from checking.chaos.nemesis import Nemesis, wake
from checking.chaos.rounds import Round
from checking.driver import Conversation
from checking.lab.dask_cluster import DaskCluster
from checking.lab.driving import ClusterConversation
from checking.lab.hosts import Host
from checking.verdict import check

__all__ = ["ClusterRound"]

HOST_TIMEOUT_SECONDS = 1.0

CUTS_SECONDS = (0.1, 0.4, HOST_TIMEOUT_SECONDS + 2.0)
"""How long cables are cut. Only the last is long enough for a host to be lost."""

HOST_EVENTS = {True: 0.08, False: 0.03}
"""Calm or not -> which part of all events happens to a host."""

RUNS = count(1)


class ClusterNemesis(Nemesis):
    """Also kills workers and agents, and cuts cables: one host at a time."""

    def __init__(self, conversation: ClusterConversation, random: Random, log: list[str], calm: bool) -> None:
        self._cluster = conversation.cluster
        self._where = conversation.where
        self._hosts_part = HOST_EVENTS[calm]
        self._cut: list[tuple[float, Host]] = []  # (when to mend its cable, host)
        self.settled = 0.0
        """From when on no host is lost any more because of a cable that was cut."""
        self.without_worker: dict[str, int] = {}
        """Host whose worker was killed -> how often a worker had been registered there before."""
        super().__init__(conversation, random, log, calm)

    def _act(self, weights: tuple[int, int, int]) -> None:
        if self._cut or self._random.random() >= self._hosts_part:
            super()._act(weights)
            return
        host = self._random.choice(self._cluster.workers)
        event = self._random.choice((self._kill_worker, self._kill_agent, self._cut_cable, self._cut_cable))
        event(host)

    def _kill_worker(self, host: Host) -> None:
        workers = [process.pid for process in host.processes() if process.title.startswith("dask worker [")]
        if workers and host.name not in self.without_worker:
            self.without_worker[host.name] = self._cluster.registrations(host)
            self._hit(f"worker {host.name}", workers[0], 0.0)

    def _kill_agent(self, host: Host) -> None:
        for name, (where, pid) in self._where().items():
            if where is host and name.startswith("agent"):
                self._hit(name, pid, 0.0)

    def _cut_cable(self, host: Host) -> None:
        seconds = self._random.choice(CUTS_SECONDS)
        host.cut()
        self.kills["cable"] += 1
        self._log.append(f"{time.monotonic():.4f} cut {host.name} for {seconds} s")
        self._cut.append((time.monotonic() + seconds, host))

    def _wake(self, now: float) -> None:
        super()._wake(now)
        for when, host in [cut for cut in self._cut if cut[0] <= now]:
            self._cut.remove((when, host))
            host.join()
            self.settled = time.monotonic() + 2 * HOST_TIMEOUT_SECONDS


class ClusterRound(Round):
    """A round on several hosts. Its stores are kept, since those of a run are gone with the agent of their host.

    The history of its last master must be valid as well.
    """

    def __init__(self, seed: int, cluster: DaskCluster) -> None:
        super().__init__(seed)
        self.plan = self.plan._replace(keep=True, traced=False)
        self._cluster = cluster
        self._nemeses: list[ClusterNemesis] = []
        self._options += ["--host-timeout", str(HOST_TIMEOUT_SECONDS)]
        self._conversation: ClusterConversation

    def _make_folder(self, stack: ExitStack) -> str:
        return f"/tmp/home/chaos-{next(RUNS)}"

    def _start(self) -> Conversation:
        self._nemeses.clear()
        return ClusterConversation(self._cluster, *self._options, "--history", "/tmp/home/history")

    def _nemesis(self, calm: bool) -> Nemesis:
        self._nemeses.append(ClusterNemesis(self._conversation, self.random, self.log, calm))
        return self._nemeses[-1]

    def _run_master(self, epochs: int) -> int:
        left = super()._run_master(epochs)
        if left == 0:
            verdict = check(self._cluster.driver.path("/tmp/home/history"))
            self.judge.counts[f"histories that are {verdict.verdict}"] += 1
            if verdict.verdict == "invalid":
                raise Violation(f"the history is invalid: {verdict.why}")
        return left

    def _heal(self) -> None:
        """Wait until every host has a worker, and until it is clear which hosts are lost."""
        for nemesis in self._nemeses:
            time.sleep(max(0.0, nemesis.settled - time.monotonic()))
            for host in self._cluster.workers:
                if host.name in nemesis.without_worker:
                    self._cluster.await_worker(host, nemesis.without_worker.pop(host.name))

    def _kill(self) -> None:
        os.kill(self._conversation.master, signal.SIGKILL)
        self._conversation.process.wait()
        for pid in self._conversation.pids().values():
            wake(pid)  # a frozen process cannot notice that the master is gone
        self._conversation.await_nothing()
