#!/usr/bin/env python3
"""Says whether a script prints the same bytes however gossip runs, and if not, what it can print, and how that comes.

    scripts/outcomes.py SCRIPT                     text; - is standard input
    scripts/outcomes.py --report page.html SCRIPT  a page as well, which opens in any browser, offline
    scripts/outcomes.py --deaths 1 SCRIPT          also with any server dying by itself between any two commands
    scripts/outcomes.py --json SCRIPT              for programs: docs/outcomes.md

The exit status is 0 if there is just one output, 1 if there are several or it was not decided, 2 for what can't be
read.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__, ("msgpack", "rpyc"))

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from checking.outcomes.analysis import LIMIT, outcomes
from checking.outcomes.telling import page, plain, text
from scripts.shared import at_least, run_main

SHOWN = 20


def main(words: Sequence[str] | None = None, program: str | None = None) -> int:
    """Returns the exit status. *words*: the command line, if it isn't this process's; *program*: its name."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="Says what a script can print, depending on how gossip runs, and how each output comes about.",
        epilog="Exit status: 0 for one output, 1 for several or if it was not decided, 2 for what can't be read.",
    )
    add = parser.add_argument
    add("script", metavar="SCRIPT", help="the script; - for standard input")
    add("--limit", type=at_least(1), default=LIMIT, metavar="N", help="how many outputs at most (default: %(default)s)")
    add("--deaths", type=int, choices=(0, 1), default=0, help="how many servers may die by themselves (default: 0)")
    add(
        "--schedules",
        type=at_least(0),
        default=SHOWN,
        metavar="N",
        help="how many outputs are shown with their schedules (default: %(default)s)",
    )
    add("--json", action="store_true", help="print one JSON object")
    add("--report", type=Path, metavar="FILE", help="write a page")
    arguments = parser.parse_args(words)
    try:
        script = sys.stdin.buffer.read() if arguments.script == "-" else Path(arguments.script).read_bytes()
    except OSError as error:
        print(f"error: {arguments.script}: {error.strerror}", file=sys.stderr)
        return 2
    found = outcomes(script, limit=arguments.limit, deaths=arguments.deaths)
    if arguments.report:
        name = "standard input" if arguments.script == "-" else Path(arguments.script).name
        try:
            arguments.report.write_text(page(found, arguments.schedules, name), "utf-8")
        except OSError as error:
            print(f"error: {arguments.report}: {error.strerror}", file=sys.stderr)
            return 2
    if arguments.json:
        print(json.dumps(plain(found, arguments.schedules)))
    else:
        for line in text(found, arguments.schedules):
            print(line)
    return 0 if found.is_always_the_same else 1


if __name__ == "__main__":
    run_main(main)
