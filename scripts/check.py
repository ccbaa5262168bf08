#!/usr/bin/env python3
"""Checks whether a history (master.py --history FILE) is as the contract promises; if not, shows the lines at fault.

    scripts/check.py FILE             valid, invalid or unknown, and why; the exit status is 0, 1 or 2
    scripts/check.py --json FILE      the verdict as JSON, for programs

The checker judges that each client asked the server that it had to ask; that values which are read were written to that
key; Read Your Writes and Monotonic Reads; that ERR_DEP and ERR_KEY were answered exactly when they were due; that after
stabilize, servers which can reach each other show the last put that any of them held; and that a server which was
killed comes back with what it had. For information, it counts how often Monotonic Writes and Writes Follow Reads, which
are not promised across keys, did not hold.

Gossip is not in a history. If gossip could explain an answer, the answer is right. docs/history.md describes the format
and the verdicts. The checker uses no module of the store, since it is a second opinion.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__, ())

import argparse
import io
import json
from pathlib import Path

from checking.verdict import check, report
from scripts.shared import run_main


def main() -> int:
    """Returns the exit status: 0 for valid, 1 for invalid, 2 for unknown and for wrong options."""
    parser = argparse.ArgumentParser(
        description="Checks whether a history (master.py --history FILE) is as the contract promises.",
        epilog="The exit status is 0 for valid, 1 for invalid, 2 for unknown. docs/history.md explains them.",
    )
    parser.add_argument("history", metavar="FILE", type=Path, help="what master.py --history FILE has written")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # keys and values may be anything
    try:
        verdict = check(options.history)
    except OSError as error:
        parser.exit(2, f"error: {options.history}: {error.strerror}\n")
    try:
        if options.json:
            print(json.dumps(verdict._asdict()))
        else:
            print("\n".join(report(options.history, verdict)))
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has gone; the exit status tells the verdict as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return {"valid": 0, "invalid": 1, "unknown": 2}[verdict.verdict]


if __name__ == "__main__":
    run_main(main)
