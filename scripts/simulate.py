#!/usr/bin/env python3
"""Runs simulated clusters: by the thousand, to find mistakes, or a large one, to see how gossip scales.

    scripts/simulate.py                      10,000 random schedules; what docs/reliability.md promises is checked
    scripts/simulate.py --seed 37            only the schedules of one seed, which a failure has named
    scripts/simulate.py --replay FILE        one schedule, a step a line (what each step means: checking/simulation.py)
    scripts/simulate.py --servers 1000 --topology random
                                             rounds, messages and bytes until a write has reached everybody
    scripts/simulate.py --plot FILE          the same for several topologies and sizes, as a picture (needs matplotlib:
                                             make plots)

The code that is run is the real one, in one process, with a network, disks and a time of day that a seed decides. A
failure is shrunk to the smallest schedule that still fails (by hypothesis) and printed with its seed.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]  # not there by itself after python -P

import environment

environment.enter(__name__, ("msgpack", "hypothesis"))

import argparse
import heapq
import math
import multiprocessing
import random
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import msgpack
from hypothesis import strategies as st
from shared import at_least, need, run_main, show_progress

import router
from checking.simulation import Step, decode, run
from context import Context
from messages import Operation
from model import Model
from peer import Answer, Exchange, GossipLoop, Peer, unpack_request
from vector_clock import Replica

SCHEDULES_PER_SEED = 100
STEPS = 60
"""The length of a random schedule, idle steps included."""


# -- many schedules ----------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """A schedule that fails, and why."""

    seed: int
    schedule: list[Step]
    why: str

    def __str__(self) -> str:
        steps = "".join(f"    {step}\n" for step in self.schedule)
        return f"seed {self.seed}: {self.why}\n{steps}again: scripts/simulate.py --seed {self.seed}"


def check_seed(seed: int, shrink: bool = True) -> Failure | None:
    """Run the random schedules of one seed; returns the smallest that fails, if any does."""
    failure: Failure | None = None
    generate, shrinking = hypothesis.Phase.generate, hypothesis.Phase.shrink

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=SCHEDULES_PER_SEED,
        phases=(generate, shrinking) if shrink else (generate,),
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(st.binary(min_size=3 * STEPS, max_size=3 * STEPS))
    def every_schedule_holds(noise: bytes) -> None:
        nonlocal failure
        schedule = decode(noise)
        try:
            run_in_memory(schedule)
        except Exception as error:
            failure = Failure(seed, schedule, f"{type(error).__name__}: {error}")
            raise

    try:
        every_schedule_holds()
    except Exception:
        assert failure is not None
    return failure


def run_in_memory(schedule: list[Step], observe: Callable[[Step], None] = lambda _: None) -> None:
    """Run a schedule on a disk in memory, where there is one. Raises what is wrong."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="daadkvs-simulation-", dir=memory) as folder:
        run(schedule, Path(folder, "disks"), observe)


def check_seeds(
    seeds: range, jobs: int, shrink: bool = True, progress: Callable[[int], None] = lambda _: None
) -> Failure | None:
    """Run the schedules of many seeds, *jobs* at a time, and return the first failure.

    *progress* is told how many schedules are done.
    """
    # Ctrl-C is for this process alone, which ends the others: they keep what is blocked while they are made.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    with multiprocessing.Pool(jobs) as pool:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        for done, failure in enumerate(pool.imap_unordered(partial(check_seed, shrink=shrink), seeds), 1):
            if failure is not None:
                return failure
            progress(done * SCHEDULES_PER_SEED)
    return None


def check(options: argparse.Namespace) -> int:
    """Run random schedules, and say what came of it; returns the exit status."""
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    else:
        seeds = range(math.ceil(options.schedules / SCHEDULES_PER_SEED))
    begin = time.monotonic()
    failure = check_seeds(seeds, options.jobs, not options.no_shrink, lambda done: show_progress(f"{done:,} schedules"))
    show_progress("")
    if failure is not None:
        print(failure)
        return 1
    seconds = time.monotonic() - begin
    print(f"{len(seeds) * SCHEDULES_PER_SEED} schedules of {STEPS} steps in {seconds:.0f} s: all promises held")
    return 0


def replay(path: Path) -> int:
    """Run the schedule in a file, and show how far it comes; returns the exit status."""
    try:
        schedule = _read(path)
    except OSError as error:
        print(f"error: {path}: {error.strerror}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {path}: {error}", file=sys.stderr)
        return 2
    try:
        run_in_memory(schedule, lambda step: print(step, flush=True))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    print("all promises held")
    return 0


def _read(path: Path) -> list[Step]:
    """The schedule in a file. Raises OSError, and ValueError where something else stands in it."""
    schedule = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if line.strip() and not line.strip().startswith("#"):
            try:
                schedule.append(Step.parse(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return schedule


# -- one large cluster -------------------------------------------------------------------------------------

TOPOLOGIES = ("chain", "ring", "star", "tree", "grid", "random", "mesh")
TOPOLOGY, WRITES = "random", 10  # where nothing else is said
GOSSIP_INTERVAL = 1.0
LATENCY = 0.001
"""How long a message takes, in gossip intervals."""


def topology(name: str, servers: int) -> router.Graph:
    """A connected graph. "tree" is binary; in "random" each server has made links to two others."""
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
    """A disk for those who don't need one."""

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        pass

    def renew(self, source: Model) -> None:
        pass


class Figures(NamedTuple):
    """What it took until everybody had the writes, and (by gossip) until all were silent again."""

    rounds: float
    """Gossip intervals, or steps of stabilize."""
    messages: int
    bytes: int


class Gossip:
    """Servers that gossip, each message taking the same short time."""

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
        """Writes at one server; returns the context that has them all."""
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
        """Let gossip go on until all are silent, or *until* says so."""
        for server in self.peers:
            self._plan(server)
        while self._events and not until():
            self.now, _, event = heapq.heappop(self._events)
            event()

    def _plan(self, server: int) -> None:
        """Have a server look for partners when it is time."""
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
                self._loops[server].done()
                self._next(server)
            else:
                self._ask(server, exchange)

        def asked(packed: bytes) -> None:
            self._send(neighbour.answer_pull(unpack_request(packed)), answered)
            self._plan(exchange.neighbour)

        self._send(exchange.request(), asked)


def measure_gossip(graph: router.Graph, writes: int) -> Figures:
    """Gossip *writes* of one server to all, once all know of the links."""
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
    """Bring *writes* of one server to all by stabilize."""
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


def scale(options: argparse.Namespace) -> int:
    """Measure one large cluster; returns the exit status."""
    name, writes = options.topology or TOPOLOGY, options.writes or WRITES
    graph = topology(name, options.servers)
    links = sum(map(len, graph.values())) // 2
    print(f"{options.servers} servers, {links} links ({name}), {writes} writes at one server")
    print("| how | rounds | messages | a server | bytes | a server |")
    print("|---|---|---|---|---|---|")
    for name, measure in (("gossip", measure_gossip), ("stabilize", measure_stabilize)):
        show_progress(f"{name} …")
        rounds, messages, size = measure(graph, writes)
        show_progress("")
        each = f"{messages / options.servers:.1f} | {size:,} | {size / options.servers:,.0f}"
        print(f"| {name} | {rounds:.2f} | {messages:,} | {each} |", flush=True)
    return 0


def plot(path: Path, largest: int) -> int:
    """Draw how gossip scales in several topologies; returns the exit status."""
    need("matplotlib", "requirements-plots.txt")
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
    return 0


def main() -> int:
    """Returns the exit status: 0, 1 for a promise that was broken, 2 for wrong options."""
    parser = argparse.ArgumentParser(
        description="Runs simulated clusters: thousands to find mistakes, or a large one to see how gossip scales.",
        epilog="checking/simulation.py says what is simulated, and what the steps of a schedule mean.",
    )
    checking = parser.add_argument_group("many random schedules")
    checking.add_argument(
        "--schedules", type=at_least(1), default=10_000, metavar="N", help="how many (default: %(default)s)"
    )
    checking.add_argument("--seed", type=at_least(0), metavar="N", help=f"only those {SCHEDULES_PER_SEED} of this seed")
    checking.add_argument(
        "--jobs", type=at_least(1), default=os.cpu_count(), metavar="N", help="processes (default: %(default)s)"
    )
    checking.add_argument("--no-shrink", action="store_true", help="show a failure as it was found")
    checking.add_argument("--replay", type=Path, metavar="FILE", help="one schedule: a step a line, # for comments")
    scaling = parser.add_argument_group("one large cluster")
    scaling.add_argument("--servers", type=at_least(1), metavar="N", help="how many; 1,000 take about a minute")
    scaling.add_argument("--topology", choices=TOPOLOGIES, help=f"default: {TOPOLOGY}")
    scaling.add_argument("--writes", type=at_least(1), metavar="N", help=f"how many writes (default: {WRITES})")
    scaling.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw all topologies, up to --servers (default: 200)"
    )
    options = parser.parse_args()
    if (options.topology or options.writes) and (options.plot or not options.servers):
        parser.error("--topology and --writes are for one large cluster: --servers says how large")
    if options.plot:
        return plot(options.plot, options.servers or 200)
    if options.servers:
        return scale(options)
    return replay(options.replay) if options.replay else check(options)


if __name__ == "__main__":
    run_main(main)
