#!/usr/bin/env python3
"""A long run: many puts and gets through one master, with topology changes, all answers checked; does anything grow?

    scripts/load.py                         1,000,000 operations, 10 servers, 50 clients, then 200 kills and joins
    scripts/load.py --operations 50000      fewer

It prints a table: the memory of the processes, and how many descriptors and threads they have, as the run goes on.
What each get must print is foretold by checking/oracle.py, which knows nothing of how the store works;
so the servers don't gossip by themselves here. Keys are from a bounded set, so a store has an end, and so must memory.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]  # not there by itself after python -P

import environment

environment.enter(__name__)

import argparse
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from shared import at_least, run_main
from support.driver import Conversation

from checking.oracle import Mismatch, Oracle

SERVERS = tuple(range(10))
CLIENTS = tuple(range(100, 150))
KEYS = 2_000
CHUNK_LINES = 1000
"""How many commands are sent at a time; between them come the topology's."""


class Usage(NamedTuple):
    """What a kind of process uses: memory in MB, of all and of the largest; descriptors and threads of all."""

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
        """Have the master carry these out, and check what it says. Raises Mismatch."""
        output = self._conversation.do(b"\n".join(lines))
        self.oracle.answers.extend(output.stdout.splitlines())
        wrong = [number for number, line in enumerate(lines, 1) if self.oracle.step(line)]
        self.oracle.check_end()
        if self._conversation.numbers != wrong:
            raise Mismatch(
                f"errors {output.errors[:5]}, where these are wrong: {[lines[number - 1] for number in wrong[:5]]}"
            )

    def operations(self, count: int) -> list[bytes]:
        """Random puts and gets."""
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
        """Something changes: a link, or for a while a client's connections, or a server is killed and comes back."""
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
        """Servers are killed and join again, and so on; then everybody talks to whom they always talk to."""
        for cycle in range(count):
            server = SERVERS[cycle % len(SERVERS)]
            self.do([b"killServer %d" % server, b"joinServer %d" % server, *self.operations(20)])
        self.do([b"get %d k0" % client for client in CLIENTS])
        self.do([b"stabilize"])

    def usage(self) -> dict[str, Usage]:
        """What the processes use now, by their kinds."""
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


def show(done: str, usage: dict[str, Usage], kinds: tuple[str, ...] = ("master", "client", "server")) -> None:
    """A row of the table."""
    cells = [f"{usage[kind].memory:.1f} ({usage[kind].largest:.1f})" for kind in kinds]
    counts = [f"{sum(one.descriptors for one in usage.values())}", f"{sum(one.threads for one in usage.values())}"]
    print("|", " | ".join([done, *cells, *counts]), "|", flush=True)


def run(operations: int, cycles: int, seed: int) -> list[str]:
    """Run, and print the table; returns what is wrong. Raises Mismatch for a wrong answer."""
    print("| operations | master, MB | clients, MB (largest) | servers, MB (largest) | descriptors | threads |")
    print("|---|---|---|---|---|---|")
    wrong = []
    with Conversation("--gossip-interval", "0") as conversation:
        load = Load(conversation, seed)
        # As many rows as people like to read; the first tenth fills the stores and the sessions.
        every = max(CHUNK_LINES, operations // 10)
        memory: list[float] = []
        begin, done = time.monotonic(), 0
        while done < operations:
            load.do([*load.operations(CHUNK_LINES), *load.topology()])
            done += CHUNK_LINES
            if done % every < CHUNK_LINES:
                usage = load.usage()
                memory.append(usage["master"].memory)
                show(f"{done:,}", usage)
        seconds = time.monotonic() - begin
        load.cycles(len(SERVERS))  # from here on, nobody has connections from earlier times
        before = load.usage()
        show("before the cycles", before)
        load.cycles(cycles)
        after = load.usage()
        show("behind them", after)
    print(f"\n{done / seconds:,.0f} operations/s with all checks; {cycles} kills and joins; every answer was right")
    if len(memory) > 4 and memory[-1] > 1.1 * memory[len(memory) // 2] + 1:
        wrong.append(f"the master's memory has grown in the second half: {memory}")
    for kind in before:
        if before[kind][2:] != after[kind][2:]:
            wrong.append(
                f"descriptors and threads of {kind}s: {before[kind][2:]}, and {after[kind][2:]} after the cycles"
            )
    return wrong


def main() -> int:
    """Returns the exit status: 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="A long run with many puts and gets; does anything grow?")
    parser.add_argument("--operations", type=at_least(1), default=1_000_000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--cycles", type=at_least(0), default=200, metavar="N", help="kills and joins (default: %(default)s)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    try:
        wrong = run(options.operations, options.cycles, options.seed)
    except (Mismatch, AssertionError) as error:
        wrong = [str(error)]
    for what in wrong:
        print(what)
    return 1 if wrong else 0


if __name__ == "__main__":
    run_main(main)
