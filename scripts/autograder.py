#!/usr/bin/env python3
"""Packs a folder of scripts as an autograder for Gradescope.

    scripts/autograder.py tests/ -o autograder.zip

What each script may print is worked out now; on Gradescope the zip file needs Python 3.11 and nothing else, which its
setup.sh installs where it is missing. docs/grading.md says what to do with the file.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
from pathlib import Path

from grading.explaining import explain
from grading.gradescope.pack import MOST_SECONDS, fitting, pack
from grading.results import points_of, printable
from grading.sandbox import Limits
from grading.suite import NoSuite, read_suite
from scripts.shared import at_least, run_main, show_progress

MIB = 1 << 20


def main() -> int:
    """Returns the exit status: 0, or 2 if not all tests could be packed."""
    parser = argparse.ArgumentParser(
        description="Packs a folder of scripts as an autograder for Gradescope.",
        epilog="docs/grading.md says how tests are written, and what to do with the zip file.",
    )
    add = parser.add_argument
    add("tests", type=Path, metavar="TESTS", help="a folder of scripts, as for grade")
    add("-o", "--output", type=Path, default=Path("autograder.zip"), metavar="FILE", help="(autograder.zip)")
    add("--master", metavar="COMMAND", help="how a submission is started in its folder (./master, or else master.py)")
    add(
        "--memory",
        type=at_least(1),
        default=512,
        metavar="MIB",
        help="memory of each process (512 of Gradescope's 768)",
    )
    add("--processes", type=at_least(1), default=128, metavar="N", help="processes at a time (128)")
    options = parser.parse_args()
    try:
        suite = read_suite(options.tests)
    except NoSuite as error:
        parser.exit(2, "".join(f"error: {printable(line)}\n" for line in str(error).splitlines()))
    for problem in suite.problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    cases, factor = fitting(suite.cases)
    if factor < 1:
        shorter = f"time limits were made shorter, to {factor:.0%}, so that all tests take {MOST_SECONDS:.0f} s at most"
        print(f"warning: {shorter}", file=sys.stderr)
    explained = []
    for number, case in enumerate(cases, 1):
        show_progress(f"working out test {number} of {len(cases)}")
        explained.append(explain(case))
    show_progress("")
    limits = Limits(memory=options.memory * MIB, processes=options.processes)
    try:
        pack(options.output, explained, options.master, limits)
    except OSError as error:
        parser.exit(2, f"error: {options.output}: {error.strerror}\n")
    print(f"{options.output}: {len(cases)} test{'s'[: len(cases) > 1]}, worth {points_of(cases):g} in all")
    return 2 if suite.problems else 0


if __name__ == "__main__":
    run_main(main)
