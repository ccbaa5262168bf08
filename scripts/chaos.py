#!/usr/bin/env python3
"""Runs random scripts on real processes, which are killed, frozen and woken from outside at random instants.

    scripts/chaos.py                        ten minutes, or until something is wrong
    scripts/chaos.py --kills 200            until this many processes have been killed
    scripts/chaos.py --seed 7 --rounds 1    one round; its script and its events depend on the seed alone, but the
                                            instants of the events differ from run to run
    scripts/chaos.py --hosts                on several hosts, whose workers are killed and whose cables are cut as well

Afterwards everything that was acknowledged must be there, all servers must hold the same, no session may have read an
older value after a newer one, and no process or file may be left. What is expected follows from the contract alone:
each value is put only once, so a value that is read names its put. (Jepsen's nemeses do the same.)

A round is one master and some *epochs*; some masters are killed themselves, and another one continues with the same
data directory. In an epoch, a few hundred commands run while faults happen; then all servers are woken, joined,
connected and stabilized, and their stores are compared.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from checking.chaos.answers import Violation
from checking.chaos.rounds import Round, run_rounds
from checking.lab.hosts import LabError
from scripts.shared import at_least, minutes, need, run_main, show_progress


@contextmanager
def rounds_on_hosts() -> Iterator[Callable[[int], Round]]:
    """A function that makes a round on the hosts of a new lab."""
    need("distributed", "requirements-cluster.txt")
    from checking.lab.chaos import ClusterRound
    from checking.lab.dask_cluster import cluster_in_a_lab

    try:
        with cluster_in_a_lab(["alpha", "beta", "gamma"]) as cluster:
            yield lambda seed: ClusterRound(seed, cluster)
    except LabError as error:
        sys.exit(f"error: hosts can't be had here: {error}")


def main() -> int:
    """Returns the exit status: 1 for a violation."""
    parser = argparse.ArgumentParser(
        description="Runs random scripts on real processes, which are killed, frozen and woken at random instants.",
        epilog="The seed decides the scripts and the events, but the instants of the events differ from run to run.",
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="the seed of the first round (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="M",
        help="end after this time (default: 10, unless another limit is given)",
        dest="seconds",
    )
    parser.add_argument("--kills", type=at_least(1), metavar="N", help="end when this many processes have been killed")
    parser.add_argument(
        "--hosts",
        action="store_true",
        help="with servers and clients on three hosts, whose workers are killed and whose cables are cut as well "
        "(only as root, or where user namespaces are allowed; needs scripts/requirements-cluster.txt)",
    )
    parser.add_argument("--rounds", type=at_least(1), metavar="N", help="end after this many rounds")
    options = parser.parse_args()
    endless = float("inf")
    seconds = options.seconds or (endless if options.kills or options.rounds else 600.0)
    begin = time.monotonic()
    show_progress("the first round is running")
    try:
        with ExitStack() as stack:
            make = stack.enter_context(rounds_on_hosts()) if options.hosts else Round
            killed, counts, rounds = run_rounds(
                options.seed, options.rounds or endless, options.kills or endless, seconds, show_progress, make
            )
    except (Violation, AssertionError) as error:
        show_progress("")
        print(f"violation: {error}", *error.__notes__, sep="\n")
        return 1
    show_progress("")
    print(f"{rounds} rounds in {time.monotonic() - begin:.0f} s: no violation")
    print("killed:", ", ".join(f"{count} {name}s" for name, count in sorted(killed.items())))
    print("\n".join(f"{count:>8} {name}" for name, count in counts.most_common()))
    return 0


if __name__ == "__main__":
    run_main(main)
