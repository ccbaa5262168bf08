#!/usr/bin/env python3
"""Writes a random script to stdout: puts and gets of many clients, perhaps with partitions, kills, revivals and moves.

    scripts/generate.py > script                                     10,000 operations on 5 servers
    scripts/generate.py --topology ring --kill-every 500 > script    servers are killed and revived
    scripts/generate.py --delay 50ms --loss 10% > script             links are slow and lossy
    scripts/generate.py --clients 15 --value-size 16:90,40000:10 > script    some large values
    ./master.py --history history script > printed
    scripts/check.py history

The script runs without errors: no command asks for what is impossible. Equal options and seeds give equal scripts.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__, ("msgpack",))

import argparse

from checking.workload import TOPOLOGIES, Plan, Sizes, Workload
from console.command_line import reading
from scripts.shared import at_least, output_gone, run_main
from shape import loss_of, time_of


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
        description="Writes a random script to stdout. The script runs without errors; at its end everything is "
        "healed, stabilized, and printed.",
        epilog="then: ./master.py --history history script > printed; scripts/check.py history",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--operations", type=at_least(0), default=10_000, metavar="N", help="how many puts and gets")
    add("--servers", type=at_least(1), default=5, metavar="N", help="how many servers")
    add("--clients", type=at_least(1), default=5, metavar="N", help="how many clients, spread evenly over the servers")
    add("--topology", choices=TOPOLOGIES, default="full", help="how servers are linked; tree is a random tree")
    add("--reads", type=_share, default=0.5, metavar="SHARE", help="the share of gets among puts and gets, from 0 to 1")
    add("--keys", type=at_least(1), default=100, metavar="N", help="how many keys there are")
    add("--distribution", choices=("uniform", "zipf"), default="uniform", help="how often each key is chosen")
    sizes = "the size of a value: N, or MIN-MAX, or a list of these with weights, like 16:90,1000-4000:9,40000:1"
    add("--value-size", type=reading(Sizes), default="16", metavar="BYTES", help=sizes)
    add(
        "--stabilize-every",
        type=at_least(0),
        default=1000,
        metavar="N",
        help="operations between two calls of stabilize; 0: none",
    )
    every = "operations between two %s, on average; 0: none"
    add("--partition-every", type=at_least(0), default=0, metavar="N", help=every % "partitions or healings")
    add("--kill-every", type=at_least(0), default=0, metavar="N", help=every % "kills or revivals of a server")
    add("--move-every", type=at_least(0), default=0, metavar="N", help=every % "moves of a client to another server")
    add("--delay", type=reading(time_of), default="0ms", metavar="TIME", help="the longest delay of a link")
    add("--loss", type=reading(loss_of), default="0%", metavar="PERCENT", help="the largest loss of such a link")
    add("--seed", type=at_least(0), default=0, metavar="N", help="each seed gives another script")
    options = parser.parse_args()
    try:
        for line in Workload(Plan(**vars(options))).lines():
            print(line)
        sys.stdout.flush()
    except OSError as error:
        return output_gone(error)
    return 0


if __name__ == "__main__":
    run_main(main)
