#!/usr/bin/env python3
"""A long run of puts, gets and topology changes through one master: are all answers right, and does anything grow?

    scripts/load.py                         1,000,000 operations, 10 servers, 50 clients, then 200 kills and joins
    scripts/load.py --operations 50000      fewer

It prints a table: the memory of the processes, and how many descriptors and threads they have, as the run goes on.
What each get must print is predicted by checking/oracle.py, which knows nothing of how the store works. Gossip is off.
The number of keys is bounded, and with it the size of a store; so memory must be bounded as well.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse

from checking.load import run
from checking.oracle import Mismatch
from scripts.shared import at_least, run_main


def main() -> int:
    """Returns the exit status: 1 if anything was wrong."""
    parser = argparse.ArgumentParser(
        description="Checks all answers of a long run of puts and gets, and whether its processes grow."
    )
    parser.add_argument("--operations", type=at_least(1), default=1_000_000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--cycles", type=at_least(0), default=200, metavar="N", help="kills and joins (default: %(default)s)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    try:
        wrong = run(options.operations, options.cycles, options.seed, lambda line: print(line, flush=True))
    except (Mismatch, AssertionError) as error:
        wrong = [str(error)]
    for what in wrong:
        print(what)
    return 1 if wrong else 0


if __name__ == "__main__":
    run_main(main)
