#!/usr/bin/env python3
"""Runs simulated clusters: by the thousand, to find mistakes, or a large one, to see how gossip scales.

    scripts/simulate.py                      10,000 random schedules; what docs/reliability.md promises is checked
    scripts/simulate.py --seed 37            only the schedules of one seed, which a failure names
    scripts/simulate.py --replay FILE        one schedule, a step a line; the steps are explained in
                                             checking/simulator/simulation.py
    scripts/simulate.py --servers 1000 --topology random
                                             rounds, messages and bytes until a write has reached all servers
    scripts/simulate.py --plot FILE          a picture of these figures for several topologies and sizes (needs
                                             matplotlib: make plots)
    scripts/simulate.py --plot-delay FILE    a picture of how long gossip takes over slow and lossy links

The real code runs in one process, with a network, disks and a time of day that a seed decides. A
failure is shrunk to the smallest schedule that still fails (by hypothesis) and printed with its seed.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__, ("msgpack", "hypothesis"))

import argparse
import math
import time
from pathlib import Path

from checking.scaling import TOPOLOGIES, TOPOLOGY, WRITES, measure_gossip, measure_stabilize, plot, topology
from checking.seeds import SCHEDULES_PER_SEED, STEPS, check_seeds, run_in_memory
from checking.simulator.schedule import Step
from checking.staleness import plot as plot_delay
from scripts.shared import at_least, need, run_main, show_progress


def check(options: argparse.Namespace) -> int:
    """Run random schedules and print the result; returns the exit status."""
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
    """Run the schedule in a file, and show each step; returns the exit status."""
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
    """Read the schedule in a file. Raises OSError, and ValueError if a line is not a step."""
    schedule = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if line.strip() and not line.strip().startswith("#"):
            try:
                schedule.append(Step.parse(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return schedule


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


def main() -> int:
    """Returns the exit status: 0, or 1 if a promise was broken, or 2 for wrong options."""
    parser = argparse.ArgumentParser(
        description="Runs simulated clusters: thousands to find mistakes, or a large one to see how gossip scales.",
        epilog="checking/simulator/simulation.py explains what is simulated, and what the steps of a schedule do.",
    )
    schedules = parser.add_argument_group("many random schedules")
    schedules.add_argument(
        "--schedules", type=at_least(1), default=10_000, metavar="N", help="how many (default: %(default)s)"
    )
    schedules.add_argument("--seed", type=at_least(0), metavar="N", help=f"only the {SCHEDULES_PER_SEED} of this seed")
    schedules.add_argument(
        "--jobs", type=at_least(1), default=os.cpu_count(), metavar="N", help="processes (default: %(default)s)"
    )
    schedules.add_argument("--no-shrink", action="store_true", help="show a failure as it was found")
    schedules.add_argument("--replay", type=Path, metavar="FILE", help="one schedule: a step a line, # for comments")
    scaling = parser.add_argument_group("one large cluster")
    scaling.add_argument("--servers", type=at_least(1), metavar="N", help="how many; 1,000 take about a minute")
    scaling.add_argument("--topology", choices=TOPOLOGIES, help=f"default: {TOPOLOGY}")
    scaling.add_argument("--writes", type=at_least(1), metavar="N", help=f"how many writes (default: {WRITES})")
    scaling.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw all topologies, up to --servers (default: 200)"
    )
    scaling.add_argument("--plot-delay", type=Path, metavar="FILE", help="draw how long gossip takes over slow links")
    options = parser.parse_args()
    if (options.topology or options.writes) and (options.plot or not options.servers):
        parser.error("--topology and --writes are for one large cluster: --servers says how large")
    if options.plot:
        need("matplotlib", "requirements-plots.txt")
        plot(options.plot, options.servers or 200)
        return 0
    if options.plot_delay:
        need("matplotlib", "requirements-plots.txt")
        plot_delay(options.plot_delay)
        return 0
    if options.servers:
        return scale(options)
    return replay(options.replay) if options.replay else check(options)


if __name__ == "__main__":
    run_main(main)
