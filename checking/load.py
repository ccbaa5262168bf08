"""A long run through one master: all of its answers are checked, and its processes must not grow.

May live here: the load, and measuring what the processes use. May not: what a command must print (checking/oracle.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from checking.driver import Conversation
from checking.oracle import Mismatch, Oracle

__all__ = ["run"]

SERVERS = tuple(range(10))
CLIENTS = tuple(range(100, 150))
KEYS = 2_000
CHUNK_LINES = 1000
"""How many puts and gets are sent at a time; after them comes a change of the topology."""


class Usage(NamedTuple):
    """What the processes of one kind use: memory in MB (the sum, and the largest), descriptors and threads (sums)."""

    memory: float
    largest: float
    descriptors: int
    threads: int


class Load:
    """The run: a master, and an oracle that follows it."""

    def __init__(self, conversation: Conversation, seed: int) -> None:
        self.oracle = Oracle(gossip=False)
        self._conversation = conversation
        self._random = Random(seed)
        self._puts = 0
        self.do([b"joinServer %d" % server for server in SERVERS])
        self.do([b"joinClient %d %d" % (client, SERVERS[client % len(SERVERS)]) for client in CLIENTS])

    def do(self, lines: list[bytes]) -> None:
        """Have the master carry out these commands, and check what it prints. Raises Mismatch."""
        output = self._conversation.do(b"\n".join(lines))
        self.oracle.answers.extend(output.stdout.splitlines())
        wrong = [number for number, line in enumerate(lines, 1) if self.oracle.step(line)]
        self.oracle.check_end()
        if self._conversation.numbers != wrong:
            wrong_lines = [lines[number - 1] for number in wrong[:5]]
            raise Mismatch(f"the errors are {output.errors[:5]}, but the wrong lines are {wrong_lines}")

    def operations(self, count: int) -> list[bytes]:
        """Make random puts and gets."""
        lines = []
        for client, key, is_put in zip(
            self._random.choices(CLIENTS, k=count),
            self._random.choices(range(KEYS), k=count),
            self._random.choices((True, False), k=count),
            strict=True,
        ):
            self._puts += is_put
            lines.append(b"put %d k%d v%d" % (client, key, self._puts) if is_put else b"get %d k%d" % (client, key))
        return lines

    def topology(self) -> list[bytes]:
        """Choose a change: of a link, of a client's connections for a while, or a kill and a revival of a server."""
        one, other = self._random.sample(SERVERS, 2)
        client = self._random.choice(CLIENTS)
        home = SERVERS[client % len(SERVERS)]
        away = SERVERS[(client + self._random.randrange(1, len(SERVERS))) % len(SERVERS)]
        return self._random.choice(
            [
                [b"breakConnection %d %d" % (one, other)],
                [b"createConnection %d %d" % (one, other)],
                [b"joinClient %d %d" % (client, away), *self.operations(50), b"breakConnection %d %d" % (client, away)],
                [b"breakConnection %d %d" % (client, home), *self.operations(50), b"joinClient %d %d" % (client, home)],
                [b"killServer %d" % one, *self.operations(50), b"joinServer %d" % one],
                [b"stabilize"],
            ]
        )

    def cycles(self, count: int) -> None:
        """Kill servers and let them join again, *count* times; then have each client use its connection once more."""
        for cycle in range(count):
            server = SERVERS[cycle % len(SERVERS)]
            self.do([b"killServer %d" % server, b"joinServer %d" % server, *self.operations(20)])
        self.do([b"get %d k0" % client for client in CLIENTS])
        self.do([b"stabilize"])

    def usage(self) -> dict[str, Usage]:
        """Measure what the processes of each kind use now."""
        pids = {"master": [self._conversation.process.pid]}
        for name, pid in self._conversation.pids().items():
            pids.setdefault(name.split()[0], []).append(pid)
        return {kind: _usage(found) for kind, found in sorted(pids.items())}


def _usage(pids: list[int]) -> Usage:
    memory, descriptors, threads = [], 0, 0
    for pid in pids:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        memory.append(int(status["VmRSS"].split()[0]) / 1024)
        threads += int(status["Threads"])
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    return Usage(sum(memory), max(memory), descriptors, threads)


def row(done: str, usage: dict[str, Usage], kinds: tuple[str, ...] = ("master", "client", "server")) -> str:
    """Format a row of the table."""
    cells = [f"{usage[kind].memory:.1f} ({usage[kind].largest:.1f})" for kind in kinds]
    counts = [f"{sum(one.descriptors for one in usage.values())}", f"{sum(one.threads for one in usage.values())}"]
    return f"| {' | '.join([done, *cells, *counts])} |"


def run(operations: int, cycles: int, seed: int, show: Callable[[str], None] = print) -> list[str]:
    """Run the load, and *show* the lines of the table. Returns what has grown; raises Mismatch for a wrong answer."""
    show("| operations | master, MB | clients, MB (largest) | servers, MB (largest) | descriptors | threads |")
    show("|---|---|---|---|---|---|")
    wrong = []
    with Conversation("--gossip-interval", "0") as conversation:
        load = Load(conversation, seed)
        # About ten rows; the first tenth of the operations fills the stores and the sessions.
        every = max(CHUNK_LINES, operations // 10)
        memory: list[float] = []
        begin, done = time.monotonic(), 0
        while done < operations:
            load.do([*load.operations(CHUNK_LINES), *load.topology()])
            done += CHUNK_LINES
            if done % every < CHUNK_LINES:
                usage = load.usage()
                memory.append(usage["master"].memory)
                show(row(f"{done:,}", usage))
        seconds = time.monotonic() - begin
        load.cycles(len(SERVERS))  # from here on, no process has connections from before
        before = load.usage()
        show(row("before the cycles", before))
        load.cycles(cycles)
        after = load.usage()
        show(row("after the cycles", after))
    show(f"\n{done / seconds:,.0f} operations/s with all checks; {cycles} kills and joins; every answer was right")
    if len(memory) > 4 and memory[-1] > 1.1 * memory[len(memory) // 2] + 1:
        wrong.append(f"the master's memory has grown in the second half: {memory}")
    for kind in before:
        if before[kind][2:] != after[kind][2:]:
            counts = f"{before[kind][2:]} before the cycles, {after[kind][2:]} after them"
            wrong.append(f"descriptors and threads of {kind}s: {counts}")
    return wrong
