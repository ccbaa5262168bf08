"""One large simulated cluster: the cost of bringing a write to all servers, by gossip and by stabilize.

May live here: topologies, and counting messages. May not: failures, which checking/simulator/ simulates.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

import router
from context import Context
from messages import Operation
from model import Model
from peer import Answer, Exchange, GossipLoop, Peer, unpack_request
from vector_clock import Replica

__all__ = ["TOPOLOGIES", "TOPOLOGY", "WRITES", "Figures", "measure_gossip", "measure_stabilize", "plot", "topology"]

TOPOLOGIES = ("chain", "ring", "star", "tree", "grid", "random", "mesh")
TOPOLOGY, WRITES = "random", 10  # the defaults
GOSSIP_INTERVAL = 1.0
LATENCY = 0.001
"""How long a message takes, in gossip intervals."""


def topology(name: str, servers: int) -> router.Graph:
    """Return a connected graph. "tree" is a binary tree; in "random" each server has links to two earlier ones."""
    links: set[tuple[int, int]] = set()
    width = max(1, math.isqrt(servers))
    chooser = random.Random(servers)
    for server in range(1, servers):
        if name in ("chain", "ring"):
            links.add((server - 1, server))
        elif name == "star":
            links.add((0, server))
        elif name == "tree":
            links.add(((server - 1) // 2, server))
        elif name == "grid":
            if server % width:
                links.add((server - 1, server))
            if server >= width:
                links.add((server - width, server))
        elif name == "random":
            links |= {(chooser.randrange(server), server) for _ in range(2)}
        else:
            links |= {(other, server) for other in range(server)}
    if name == "ring" and servers > 2:
        links.add((0, servers - 1))
    graph: dict[int, set[int]] = {server: set() for server in range(servers)}
    for one, other in links:
        graph[one].add(other)
        graph[other].add(one)
    return graph


class NoLog:
    """A log that keeps nothing."""

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        pass

    def renew(self, source: Model) -> None:
        pass


class Figures(NamedTuple):
    """The cost until all servers had the writes; of gossip, messages and bytes until all were silent again."""

    rounds: float
    """Gossip intervals, or steps of stabilize."""
    messages: int
    bytes: int


class Gossip:
    """Servers that gossip; each message takes the same short time."""

    def __init__(self, graph: router.Graph) -> None:
        self.graph = graph
        self.peers = {server: Peer(Replica(server, 1), GOSSIP_INTERVAL) for server in graph}
        self.now = 0.0
        self.messages = 0
        self.bytes = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._busy: set[int] = set()
        self._planned: dict[int, float] = {}
        self._loops = {server: GossipLoop(peer) for server, peer in self.peers.items()}
        for server, peer in self.peers.items():
            peer.start(NoLog())
            for neighbour in graph[server]:
                peer.link(neighbour, "", 0.0)

    def put(self, server: int, writes: int) -> Context:
        """Put this many writes at one server; returns the context that covers them all."""
        peer = self.peers[server]
        peer.execute([Operation(b"%d" % n, b"." * 16, n + 1, None) for n in range(writes)], self.now)
        return peer.model.context.copy()

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (when, self._numbers, what))

    def _send(self, message: Any, receive: Callable[[bytes], None]) -> None:
        packed = msgpack.packb(message)
        self.messages += 1
        self.bytes += len(packed)
        self._at(self.now + LATENCY, lambda: receive(packed))

    def run(self, until: Callable[[], bool]) -> None:
        """Let gossip go on until all servers are silent, or *until* returns true."""
        for server in self.peers:
            self._plan(server)
        while self._events and not until():
            self.now, _, event = heapq.heappop(self._events)
            event()

    def _plan(self, server: int) -> None:
        """Plan that a server looks for a neighbour to ask when its gossip is due."""
        due = self.peers[server].due
        if due is not None and server not in self._busy and self._planned.get(server) != due:
            self._planned[server] = due
            self._at(max(due, self.now), lambda: self._look(server, due))

    def _look(self, server: int, due: float) -> None:
        if server in self._busy or self._planned.get(server) != due:
            return
        self._planned.pop(server)
        self._busy.add(server)
        self._next(server)

    def _next(self, server: int) -> None:
        exchange = self._loops[server].next(self.now)
        if exchange is not None:
            self._ask(server, exchange)
        else:
            self._busy.discard(server)
            self._plan(server)

    def _ask(self, server: int, exchange: Exchange) -> None:
        neighbour = self.peers[exchange.neighbour]

        def answered(packed: bytes) -> None:
            exchange.receive(Answer.from_bytes(packed), self.now)
            if exchange.done:
                self._loops[server].done(exchange)
                self._next(server)
            else:
                self._ask(server, exchange)

        def asked(packed: bytes) -> None:
            self._send(neighbour.answer_pull(unpack_request(packed)), answered)
            self._plan(exchange.neighbour)

        self._send(exchange.request(), asked)


def measure_gossip(graph: router.Graph, writes: int) -> Figures:
    """Measure how gossip brings *writes* of one server to all servers, which know all links already."""
    gossip = Gossip(graph)
    gossip.run(lambda: False)
    gossip.messages = gossip.bytes = 0
    begin = gossip.now
    everything = gossip.put(min(graph), writes)
    lacking = set(graph)

    def reached_all() -> bool:
        while lacking and gossip.peers[next(iter(lacking))].model.context.includes(everything):
            lacking.pop()
        return not lacking

    gossip.run(reached_all)
    rounds = (gossip.now - begin) / GOSSIP_INTERVAL
    gossip.run(lambda: False)
    return Figures(rounds, gossip.messages, gossip.bytes)


def measure_stabilize(graph: router.Graph, writes: int) -> Figures:
    """Measure how stabilize brings *writes* of one server to all servers."""
    gossip = Gossip(graph)
    gossip.run(lambda: False)
    gossip.put(min(graph), writes)
    messages = size = 0
    steps = router.gather_and_scatter(graph, router.components(graph))
    for step in steps:
        for server, neighbours in step.items():
            for neighbour in neighbours:
                exchange = gossip.peers[server].exchange(neighbour)
                while not exchange.done:
                    request = exchange.request()
                    answer = msgpack.packb(gossip.peers[neighbour].answer_pull(request))
                    exchange.receive(Answer.from_bytes(answer), 0.0)
                    messages += 2
                    size += len(msgpack.packb(request)) + len(answer)
    return Figures(len(steps), messages, size)


def plot(path: Path, largest: int) -> None:
    """Draw how gossip scales in several topologies, up to *largest* servers. Needs matplotlib."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    sizes = [size for size in (10, 20, 50, 100, 200, 500, 1000, 2000) if size <= largest]
    for name in ("chain", "ring", "star", "tree", "grid", "random", "mesh"):
        possible = [size for size in sizes if name != "mesh" or size <= 100]
        found = [measure_gossip(topology(name, size), WRITES) for size in possible]
        print(f"{name}: {found}", file=sys.stderr, flush=True)
        series = (
            [figures.rounds for figures in found],
            [figures.messages / size for figures, size in zip(found, possible, strict=True)],
            [figures.bytes / size / 1024 for figures, size in zip(found, possible, strict=True)],
        )
        for panel, values in zip(panels, series, strict=True):
            panel.plot(possible, values, marker="o", markersize=3, label=name)
    titles = ("gossip intervals until all have it", "messages per server", "KiB per server")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="servers", xscale="log", yscale="log")
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(path)
