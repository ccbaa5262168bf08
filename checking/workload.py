"""Random scripts for scripts/generate.py: puts and gets of many clients, with faults in between.

May live here: which commands a script has. May not: what they must print (checking/oracle.py) and how a run is judged
(checking/verdict.py). A script runs without errors: no command asks for what is impossible. Equal plans give equal
scripts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import NamedTuple

from messages import MAX_VALUE
from shape import Shape

__all__ = ["TOPOLOGIES", "Plan", "Sizes", "Workload"]

FIRST_CLIENT = 1000
"""The id of the first client, unless there are more servers than this."""

TOPOLOGIES = ("full", "chain", "ring", "star", "tree")
ZIPF_EXPONENT = 0.99
"""The exponent that YCSB uses (Cooper et al., 2010)."""


def topology(name: str, servers: int, chooser: random.Random) -> set[tuple[int, int]]:
    """Return the links of a connected graph, each with the lower id first. "tree" is a random tree."""
    if name == "full":
        return {(one, other) for other in range(servers) for one in range(other)}
    if name == "star":
        return {(0, server) for server in range(1, servers)}
    if name == "tree":
        return {(chooser.randrange(server), server) for server in range(1, servers)}
    links = {(server - 1, server) for server in range(1, servers)}
    return links | {(0, servers - 1)} if name == "ring" and servers > 2 else links


class Sizes:
    """The sizes of values: single sizes or ranges, each with a weight, as in 16:90,1000-4000:10."""

    def __init__(self, text: str) -> None:
        """Raises ValueError if the text is not such a list."""
        self._ranges: list[tuple[int, int]] = []
        self._weights: list[int] = []
        for part in text.split(","):
            found = re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?(?::([0-9]{1,9}))?", part)
            if not found:
                raise ValueError(f"neither N nor MIN-MAX nor a list like 16:90,1000-4000:10: {text!r}")
            smallest, largest, weight = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
            if not 0 < smallest <= largest <= MAX_VALUE or not weight:
                reason = f"sizes are from 1 to {MAX_VALUE}, the smaller one first, and weights are above 0"
                raise ValueError(f"{part!r} is not possible: {reason}")
            self._ranges.append((smallest, largest))
            self._weights.append(weight)

    def choose(self, chooser: random.Random) -> int:
        """Choose a random size for a value, in bytes."""
        if len(self._ranges) == 1:
            return chooser.randint(*self._ranges[0])
        ((smallest, largest),) = chooser.choices(self._ranges, self._weights)
        return chooser.randint(smallest, largest)


class Plan(NamedTuple):
    """What a script should be like. *…_every*: how many operations lie between two such events, on average; 0: none."""

    operations: int
    """The number of puts and gets."""
    servers: int
    clients: int
    topology: str
    """One of `TOPOLOGIES`."""
    reads: float
    """The share of gets, from 0 to 1."""
    keys: int
    distribution: str
    """The distribution by which keys are chosen: "uniform" or "zipf"."""
    value_size: Sizes
    stabilize_every: int
    partition_every: int
    kill_every: int
    move_every: int
    seed: int
    delay: float = 0.0
    """The longest delay of a link between servers, in seconds; each link has one of its own."""
    loss: float = 0.0
    """The largest probability with which such a link loses a message."""


class Workload:
    """A script being written, and the state of its servers and clients at its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._wanted = topology(plan.topology, plan.servers, self._random)
        self._links: set[tuple[int, int]] = set()
        self._running: list[int] = []
        self._clients: dict[int, list[int]] = {}
        self._cut: set[tuple[int, int]] = set()
        self._puts = 0
        self._weights: list[float] | None = None
        if plan.distribution == "zipf":
            self._weights = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, plan.keys + 1)))
        self._keys = [f"key{number}" for number in range(plan.keys)]

    def lines(self) -> Iterator[str]:
        """Return the script, line by line."""
        plan = self._plan
        yield from self._begin()
        faults: list[tuple[int, Callable[[], Iterator[str]]]] = [
            (plan.partition_every, self._partition_or_heal),
            (plan.kill_every, self._kill_or_revive),
            (plan.move_every, self._move),
        ]
        for number in range(1, plan.operations + 1):
            for every, fault in faults:
                if every and self._random.random() < 1 / every:
                    yield from fault()
            yield self._operation()
            if plan.stabilize_every and number % plan.stabilize_every == 0:
                yield "stabilize"
        yield from self._end()

    def _begin(self) -> Iterator[str]:
        for server in range(self._plan.servers):
            yield from self._join(server)
        first = max(FIRST_CLIENT, self._plan.servers)
        for number in range(self._plan.clients):
            client, server = first + number, number % self._plan.servers
            self._clients[client] = [server]
            yield f"joinClient {client} {server}"
        yield from self._shape()

    def _shape(self) -> Iterator[str]:
        """Give each link between servers a shape."""
        plan, chooser = self._plan, random.Random(f"{self._plan.seed}: shapes")
        if plan.delay or plan.loss:
            for one, other in sorted(self._wanted):
                shape = Shape(round(chooser.uniform(0, plan.delay), 4), 0.0, round(chooser.uniform(0, plan.loss), 3))
                yield f"shapeConnection {one} {other} {shape}"

    def _end(self) -> Iterator[str]:
        """Heal and revive everything, and print all stores."""
        yield from self._heal()
        for server in self._dead():
            yield from self._join(server)
        yield "stabilize"
        for server in self._running:
            yield f"printStore {server}"

    def _dead(self) -> list[int]:
        return [server for server in range(self._plan.servers) if server not in self._running]

    # -- puts and gets -------------------------------------------------------------------------------------

    def _operation(self) -> str:
        client = self._random.choice(list(self._clients))
        (key,) = self._random.choices(self._keys, cum_weights=self._weights)
        if self._random.random() < self._plan.reads:
            return f"get {client} {key}"
        return f"put {client} {key} {self._value()}"

    def _value(self) -> str:
        """Make a new value; if it is long enough, it begins with a number that no other value has."""
        self._puts += 1
        size = self._plan.value_size.choose(self._random)
        return f"{self._puts}".ljust(size, "abcdefghij"[self._puts % 10])[:size]

    # -- servers and links ---------------------------------------------------------------------------------

    def _join(self, server: int) -> Iterator[str]:
        yield f"joinServer {server}"
        self._running.append(server)
        for other in self._running:  # a server that joins is linked to all of them
            if other != server:
                link = min(server, other), max(server, other)
                self._links.add(link)
                if link not in self._wanted or link in self._cut:
                    yield self._unlink(link)

    def _unlink(self, link: tuple[int, int]) -> str:
        self._links.discard(link)
        return f"breakConnection {link[0]} {link[1]}"

    def _partition_or_heal(self) -> Iterator[str]:
        if self._cut:
            yield from self._heal()
            return
        one_side = {server for server in range(self._plan.servers) if self._random.random() < 0.5}
        self._cut = {link for link in self._wanted if (link[0] in one_side) != (link[1] in one_side)}
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
        """Connect a client to another server, and in most cases disconnect it from the one that it had."""
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
