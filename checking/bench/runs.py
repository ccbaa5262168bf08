"""Runs of Daadkvs for the benchmarks: whole scripts, masters that are fed line by line, and what processes use.

May live here: starting and measuring runs. May not: which figures are compared (benchmarks.py, disks.py).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from checking.driver import ROOT

__all__ = [
    "MASTER",
    "Conversation",
    "Row",
    "by_turns",
    "cluster",
    "conversation",
    "cpu_seconds",
    "median",
    "memory_of",
    "peak_of",
    "prints",
    "puts",
    "run_script",
    "whole",
]


MASTER = ["env", "MALLOC_ARENA_MAX=1", sys.executable, "-E", str(ROOT / "master.py")]
"""The command that starts a master, as ./master does it (scripts/master.sh), with the Python that runs here."""


class Row(NamedTuple):
    """One line of the table. The goal is about *ratio*; *baseline* says what the figure was divided by, if anything.

    Without a goal, the row is only there to compare with.
    """

    name: str
    figure: str
    baseline: str
    ratio: float
    unit: str
    goal: float | None
    at_least: bool

    @property
    def met(self) -> bool:
        if self.goal is None:
            return True
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def run_script(script: str, *options: str, prefix: tuple[str, ...] = ()) -> float:
    """Run a whole script; returns the seconds, start-up and exit included. Raises RuntimeError if it had an error.

    *prefix*: a command that becomes the master.
    """
    start = time.perf_counter()
    command = [*prefix, *MASTER, *options]
    done = subprocess.run(command, input=script.encode(), capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode or done.stderr:
        raise RuntimeError(done.stderr.decode())
    return seconds


class Conversation:
    """A master that is fed line by line."""

    def __init__(self, *options: str, prefix: tuple[str, ...] = ()) -> None:
        command = [*prefix, *MASTER, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin and self.process.stdout
        self._input, self._output = self.process.stdin, self.process.stdout

    def do(self, script: str, client: int = 99) -> float:
        """Carry out commands; returns the seconds until all are done. *client* must be connected to a server."""
        data = memoryview(f"{script}\nget {client} done\n".encode())
        start = time.perf_counter()
        while data:
            data = data[self._input.write(data) :]
        answer = b""
        while not answer.endswith(b"done:ERR_KEY\n"):
            answer = answer[-64:] + os.read(self._output.fileno(), 1 << 20)
        return time.perf_counter() - start

    def pids(self, what: str) -> list[int]:
        """Find the processes of this run whose title begins with "daadkvs " and *what*."""
        found = []
        mine = {self.process.pid}
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    title = (entry / "cmdline").read_text("utf-8", "replace")
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1]), title
                except OSError:
                    continue
        grown = True
        while grown:
            more = {pid for pid, (parent, _) in parents.items() if parent in mine} - mine
            grown = bool(more)
            mine |= more
        for pid in mine:
            if parents[pid][1].startswith(f"daadkvs {what}"):
                found.append(pid)
        return sorted(found)

    def end(self) -> None:
        """Close stdin, and wait for the end of the master."""
        self._input.close()
        self.process.wait()


@contextmanager
def conversation(*options: str, prefix: tuple[str, ...] = ()) -> Iterator[Conversation]:
    talk = Conversation(*options, prefix=prefix)
    try:
        yield talk
    finally:
        talk.end()


def cluster(servers: int, clients: int, first: int = 100) -> str:
    """Return commands that start servers 0, 1, … and clients *first*, …, which are spread over the servers."""
    lines = [f"joinServer {server}" for server in range(servers)]
    lines += [f"joinClient {first + client} {client % servers}" for client in range(clients)]
    return "\n".join(lines) + "\n"


def puts(count: int, keys: int, size: int, clients: int, prefix: str = "k", first: int = 100) -> str:
    """Return puts of *size* bytes, which the clients make in turn; *first*: the id of the first one."""
    fill = "v" * max(0, size - 8)
    return "".join(
        f"put {first + number % clients} {prefix}{number % keys} {number:08d}{fill}\n" for number in range(count)
    )


def prints(servers: int) -> str:
    return "".join(f"printStore {server}\n" for server in range(servers))


def whole(count: int, keys: int, size: int) -> str:
    """Return a whole script: 5 servers and 5 clients, puts, stabilize, and prints of all stores."""
    return cluster(5, 5) + puts(count, keys, size, 5) + "stabilize\n" + prints(5)


def median(measure: Callable[[], float], times: int = 5) -> float:
    return statistics.median(measure() for _ in range(times))


def by_turns(measure: Callable[[], float], baseline: Callable[[], float], times: int = 5) -> tuple[float, float, float]:
    """Measure something and its baseline in turn; returns both medians, and the median of the ratios."""
    pairs = [(measure(), baseline()) for _ in range(times)]
    one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return one, other, statistics.median(measured / base for measured, base in pairs)


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time that these processes have used, in seconds."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    """Return the private memory of a process, in bytes."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1]) << 10
    return total


def peak_of(pid: int) -> int:
    """Return the peak memory of a process, in bytes. Raises ValueError."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise ValueError("no VmHWM")
