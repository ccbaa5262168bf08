#!/usr/bin/env python3
"""Runs many scripts, each in a run of its own, several at a time, in less time than as many masters take.

    scripts/many.py FOLDER                      all scripts (*.txt) in a folder; a line for each: its status and time
    scripts/many.py -o answers A.txt B.txt      what they print goes to answers/A.out, their errors to answers/A.err
    scripts/many.py FOLDER -- --gossip-interval 0    every run with these options of a master's

Each run starts warm (scripts/warm.py), and is otherwise like any other: it shares nothing with the others, and prints
what `./master < SCRIPT` prints.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import master
from checking.many import Job, Result, run_all
from console.command_line import parse
from scripts.shared import at_least, run_main
from scripts.warm import be_master, get_ready


def main() -> int:
    """Returns the exit status: 1 if any run had an error, 2 for wrong options."""
    own, options = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(
        description="Runs many scripts, each in a run of its own, several at a time.",
        usage="%(prog)s [options] SCRIPT [SCRIPT ...] [-- OPTIONS OF EACH RUN]",
        epilog="The exit status is 0 if every run has ended with the status 0, 1 otherwise, 2 for wrong options.",
    )
    parser.add_argument("scripts", metavar="SCRIPT", nargs="+", type=Path, help="a script, or a folder of *.txt")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="have NAME.out and NAME.err written there")
    parser.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=at_least(1),
        default=len(os.sched_getaffinity(0)),
        help="how many runs are under way at a time (default: as many as there are processors)",
    )
    parser.add_argument(
        "--time-limit", metavar="SECONDS", type=at_least(1), default=60, help="end a longer run (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each run")
    arguments = parser.parse_args(own)
    try:
        jobs = list(_jobs(arguments.scripts, arguments.output))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    _check(options, parser)
    failed = False
    get_ready()
    for result in run_all(jobs, arguments.jobs, arguments.time_limit, lambda: be_master(options)):
        print(_as_json(result) if arguments.json else _as_line(result), flush=True)
        failed = failed or result.status != 0
    return 1 if failed else 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The command line's own words, and those behind `--`."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _check(options: list[str], parser: argparse.ArgumentParser) -> None:
    """End the program if a master can't have these options, or if many runs can't share them."""
    sys.argv = ["master.py", *options]  # which is how a master is called
    said = parse(master.__version__)
    if said.scripts or said.data_dir or said.history or said.trace:
        parser.error("scripts, --data-dir, --history and --trace can't be the same for many runs")


def _jobs(scripts: list[Path], output: Path | None) -> Iterator[Job]:
    """Raises OSError, ValueError."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    names: dict[str, Path] = {}
    for given in scripts:
        found = sorted(given.glob("*.txt")) if given.is_dir() else [given]
        if not found:
            raise ValueError(f"{given}: no *.txt is in there")
        for script in found:
            script.open("rb").close()
            if output is not None and names.setdefault(script.stem, script) != script:
                raise ValueError(f"{script}: what it prints would go where that of {names[script.stem]} goes")
            beside = (output / script.name).with_suffix if output is not None else lambda _: Path(os.devnull)
            yield Job(script, beside(".out"), beside(".err"))


def _as_line(result: Result) -> str:
    ended = "ended, since it took too long" if result.timed_out else f"status {result.status}"
    return f"{result.script}: {ended}, {result.seconds:.2f} s"


def _as_json(result: Result) -> str:
    return json.dumps({**result._asdict(), "script": str(result.script)})


if __name__ == "__main__":
    run_main(main)
