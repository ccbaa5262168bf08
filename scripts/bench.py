#!/usr/bin/env python3
"""Measures Daadkvs on this machine, against bare programs that are measured in the same run.

    scripts/bench.py                    all benchmarks, as a table (a few minutes)
    scripts/bench.py puts-16 start-up   only these
    scripts/bench.py --json             JSON in place of the table, for programs
    scripts/bench.py --profile          what a put costs the master, the clients and the servers
    scripts/bench.py --against COMMAND  the same scripts through another program that reads the nine commands
    scripts/bench.py --plot FILE        throughput and stabilize against the number of servers and of keys, as a picture
                                        (needs matplotlib: make plots)

Machines differ and are shared, so only ratios within one run count: a figure over its baseline. The main baseline is
the *bare two-hop program*: three processes in a row that pass one put at a time over Unix sockets with msgpack, and
wait for its acknowledgement. It does nothing else, so no key-value store that waits for each put can be faster. Each
figure is the median of several runs, by turns with its baseline. Some fixed work before and after all shows how busy
the machine was; where that has changed, the figures don't count, and the last line asks for another try.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
import json

from checking.bench.against import compare
from checking.bench.benchmarks import BENCHMARKS, profile
from checking.bench.calibration import calibrate, warning
from checking.bench.picture import plot
from checking.bench.runs import Row
from scripts.shared import need, run_main


def main() -> int:
    """Run benchmarks; returns the exit status: 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which benchmarks: {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--profile", action="store_true", help="only show what a put costs each kind of process")
    parser.add_argument("--plot", metavar="FILE", help="only draw a picture, as SVG")
    parser.add_argument("--against", metavar="COMMAND", help="only compare with another program, started like this")
    arguments = parser.parse_args()
    if arguments.profile:
        profile()
        return 0
    if arguments.plot:
        need("matplotlib", "requirements-plots.txt")
        plot(arguments.plot)
        return 0
    if unknown := set(arguments.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    before = calibrate()
    print(f"before: {before}", file=sys.stderr)
    if arguments.against:
        print("| script | Daadkvs | the other | other over Daadkvs | |\n|---|---|---|---|---|")
        for comparison in compare(arguments.against):
            print(comparison(), flush=True)
        rows: list[Row] = []
    else:
        rows = _run(arguments.names or list(BENCHMARKS), arguments.json)
    after = calibrate()
    print(f"after: {after}", file=sys.stderr)
    if why := warning(before, after):
        print(f"warning: {why}", file=sys.stderr)
    return 0 if all(row.met for row in rows) else 1


def _run(names: list[str], as_json: bool) -> list[Row]:
    """Run benchmarks, and print what they find."""
    rows: list[Row] = []
    if not as_json:
        print("| what | figure | baseline | measured | goal | met |\n|---|---|---|---|---|---|")
    for name in names:
        for row in BENCHMARKS[name]():
            rows.append(row)
            if not as_json:
                goal = "" if row.goal is None else f"{'≥' if row.at_least else '≤'} {row.goal:g} {row.unit}"
                met = "" if row.goal is None else "yes" if row.met else "NO"
                measured = f"{row.ratio:.2f} {row.unit}"
                print(f"| {row.name} | {row.figure} | {row.baseline} | {measured} | {goal} | {met} |", flush=True)
    if as_json:
        print(json.dumps([row._asdict() | {"met": row.met} for row in rows], indent=2))
    return rows


if __name__ == "__main__":
    run_main(main)
