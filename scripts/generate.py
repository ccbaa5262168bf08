#!/usr/bin/env python3
"""Writes a random script to stdout: puts and gets of many clients, with partitions, kills, revivals and moves if asked.

    scripts/generate.py > script                                     10,000 operations on 5 servers
    scripts/generate.py --topology ring --kill-every 500 > script    some of them killed and revived on the way
    scripts/generate.py --clients 15 --value-size 16:90,40000:10 > script    three clients a server, some large values
    ./master.py --history history script > printed
    scripts/check.py history

The script runs without errors: no client ever asks for what can't be done. Equal options and seeds give equal scripts.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]  # not there by itself after python -P

import environment

environment.enter(__name__, ())

import argparse
import random
import re
from collections.abc import Callable, Iterator
from itertools import accumulate

from shared import at_least, output_gone, run_main

from messages import MAX_VALUE

FIRST_CLIENT = 1000
"""The id of the first client, where there are fewer servers."""

TOPOLOGIES = ("full", "chain", "ring", "star", "tree")
ZIPF_EXPONENT = 0.99
"""As in YCSB (Cooper et al., 2010)."""


def topology(name: str, servers: int, chooser: random.Random) -> set[tuple[int, int]]:
    """The links of a connected graph, each with the lower id first. "tree" is a random one."""
    if name == "full":
        return {(one, other) for other in range(servers) for one in range(other)}
    if name == "star":
        return {(0, server) for server in range(1, servers)}
    if name == "tree":
        return {(chooser.randrange(server), server) for server in range(1, servers)}
    links = {(server - 1, server) for server in range(1, servers)}
    return links | {(0, servers - 1)} if name == "ring" and servers > 2 else links


class Workload:
    """A script being written, and what its servers and clients are like at its end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._random = random.Random(options.seed)
        self._planned = topology(options.topology, options.servers, self._random)
        self._links: set[tuple[int, int]] = set()
        self._running: list[int] = []
        self._clients: dict[int, list[int]] = {}
        self._cut: set[tuple[int, int]] = set()
        self._puts = 0
        self._weights: list[float] | None = None
        if options.distribution == "zipf":
            self._weights = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, options.keys + 1)))
        self._keys = [f"key{number}" for number in range(options.keys)]

    def lines(self) -> Iterator[str]:
        """The script, line by line."""
        options = self._options
        yield from self._begin()
        faults: list[tuple[int, Callable[[], Iterator[str]]]] = [
            (options.partition_every, self._partition_or_heal),
            (options.kill_every, self._kill_or_revive),
            (options.move_every, self._move),
        ]
        for number in range(1, options.operations + 1):
            for every, fault in faults:
                if every and self._random.random() < 1 / every:
                    yield from fault()
            yield self._operation()
            if options.stabilize_every and number % options.stabilize_every == 0:
                yield "stabilize"
        yield from self._end()

    def _begin(self) -> Iterator[str]:
        for server in range(self._options.servers):
            yield from self._join(server)
        first = max(FIRST_CLIENT, self._options.servers)
        for number in range(self._options.clients):
            client, server = first + number, number % self._options.servers
            self._clients[client] = [server]
            yield f"joinClient {client} {server}"

    def _end(self) -> Iterator[str]:
        """Everything is whole again, and shown."""
        yield from self._heal()
        for server in self._dead():
            yield from self._join(server)
        yield "stabilize"
        for server in self._running:
            yield f"printStore {server}"

    def _dead(self) -> list[int]:
        return [server for server in range(self._options.servers) if server not in self._running]

    # -- puts and gets -------------------------------------------------------------------------------------

    def _operation(self) -> str:
        client = self._random.choice(list(self._clients))
        (key,) = self._random.choices(self._keys, cum_weights=self._weights)
        if self._random.random() < self._options.reads:
            return f"get {client} {key}"
        return f"put {client} {key} {self._value()}"

    def _value(self) -> str:
        """A new value; where there is room, it begins with a number that no other has."""
        self._puts += 1
        size = self._options.value_size.choose(self._random)
        return f"{self._puts}".ljust(size, "abcdefghij"[self._puts % 10])[:size]

    # -- servers and links ---------------------------------------------------------------------------------

    def _join(self, server: int) -> Iterator[str]:
        yield f"joinServer {server}"
        self._running.append(server)
        for other in self._running:  # it has come with links to all of them
            if other != server:
                link = min(server, other), max(server, other)
                self._links.add(link)
                if link not in self._planned or link in self._cut:
                    yield self._unlink(link)

    def _unlink(self, link: tuple[int, int]) -> str:
        self._links.discard(link)
        return f"breakConnection {link[0]} {link[1]}"

    def _partition_or_heal(self) -> Iterator[str]:
        if self._cut:
            yield from self._heal()
            return
        one_side = {server for server in range(self._options.servers) if self._random.random() < 0.5}
        self._cut = {link for link in self._planned if (link[0] in one_side) != (link[1] in one_side)}
        for link in sorted(self._cut & self._links):
            yield self._unlink(link)

    def _heal(self) -> Iterator[str]:
        for link in sorted(self._cut):
            if link not in self._links and {*link} <= {*self._running}:
                self._links.add(link)
                yield f"createConnection {link[0]} {link[1]}"
        self._cut = set()

    def _kill_or_revive(self) -> Iterator[str]:
        dead = self._dead()
        if dead and (len(self._running) == 1 or self._random.random() < 0.5):
            yield from self._join(self._random.choice(dead))
        elif len(self._running) > 1:
            server = self._random.choice(self._running)
            self._running.remove(server)
            self._links = {link for link in self._links if server not in link}
            for client, connections in self._clients.items():
                if not {*connections} & {*self._running}:
                    yield self._connect(client, self._random.choice(self._running))
            yield f"killServer {server}"

    # -- clients -------------------------------------------------------------------------------------------

    def _move(self) -> Iterator[str]:
        """A client goes to another server, and mostly leaves the one that it had."""
        client = self._random.choice(list(self._clients))
        connections = self._clients[client]
        others = [server for server in self._running if server not in connections]
        if others:
            yield self._connect(client, self._random.choice(others))
            if len(connections) > 2 or self._random.random() < 0.8:
                yield f"breakConnection {client} {connections.pop(0)}"

    def _connect(self, client: int, server: int) -> str:
        self._clients[client].append(server)
        return f"createConnection {client} {server}"


class Sizes:
    """How large values are: sizes, or ranges of them, each with a weight."""

    def __init__(self, text: str) -> None:
        """Raises ArgumentTypeError."""
        self._ranges: list[tuple[int, int]] = []
        self._weights: list[int] = []
        for part in text.split(","):
            found = re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?(?::([0-9]{1,9}))?", part)
            if not found:
                raise argparse.ArgumentTypeError(f"not N, MIN-MAX, nor a list like 16:90,1000-4000:10: {text!r}")
            smallest, largest, weight = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
            if not 0 < smallest <= largest <= MAX_VALUE or not weight:
                reason = f"sizes from 1 to {MAX_VALUE}, the smaller one first, and weights above 0"
                raise argparse.ArgumentTypeError(f"{part!r} isn't possible: {reason}")
            self._ranges.append((smallest, largest))
            self._weights.append(weight)

    def choose(self, chooser: random.Random) -> int:
        """The size of a value."""
        if len(self._ranges) == 1:
            return chooser.randint(*self._ranges[0])
        ((smallest, largest),) = chooser.choices(self._ranges, self._weights)
        return chooser.randint(smallest, largest)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"not a share from 0 to 1: {text!r}")
    return share


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Writes a random script to stdout. It runs without errors; at its end everything is whole again, "
        "stabilized, and printed.",
        epilog="then: ./master.py --history history script > printed; scripts/check.py history",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--operations", type=at_least(0), default=10_000, metavar="N", help="how many puts and gets")
    add("--servers", type=at_least(1), default=5, metavar="N", help="how many servers")
    add("--clients", type=at_least(1), default=5, metavar="N", help="how many clients, spread evenly over the servers")
    add("--topology", choices=TOPOLOGIES, default="full", help="how servers are linked; tree is a random one")
    add("--reads", type=_share, default=0.5, metavar="SHARE", help="the share of gets, from 0 to 1")
    add("--keys", type=at_least(1), default=100, metavar="N", help="how many keys there are")
    add("--distribution", choices=("uniform", "zipf"), default="uniform", help="how often each key is chosen")
    sizes = "of a value: N, or MIN-MAX, or a list of these with weights, like 16:90,1000-4000:9,40000:1"
    add("--value-size", type=Sizes, default="16", metavar="BYTES", help=sizes)
    add("--stabilize-every", type=at_least(0), default=1000, metavar="N", help="operations between two; 0: none")
    every = "operations between two %s, on average; 0: none"
    add("--partition-every", type=at_least(0), default=0, metavar="N", help=every % "partitions or healings")
    add("--kill-every", type=at_least(0), default=0, metavar="N", help=every % "kills or revivals of a server")
    add("--move-every", type=at_least(0), default=0, metavar="N", help=every % "moves of a client to another server")
    add("--seed", type=at_least(0), default=0, metavar="N", help="another seed, another script")
    options = parser.parse_args()
    try:
        for line in Workload(options).lines():
            print(line)
        sys.stdout.flush()
    except OSError as error:
        return output_gone(error)
    return 0


if __name__ == "__main__":
    run_main(main)
