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
import gc
import json
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import master
from console.command_line import parse
from scripts.shared import at_least, run_main
from scripts.warm import be_master, get_ready

END_PATIENCE_SECONDS = 5.0
"""How long a run may take to end after its time limit, before it is killed."""


class Job(NamedTuple):
    """A script, and where its output goes."""

    script: Path
    out: Path
    err: Path


class Result(NamedTuple):
    """How a run has ended."""

    script: Path
    status: int
    """As a shell has it: 128 + n where signal n has ended the run."""
    seconds: float
    timed_out: bool


class _Run:
    """A run under way."""

    def __init__(self, number: int, job: Job, time_limit: float) -> None:
        self.number = number
        self.job = job
        self.started = time.monotonic()
        self.deadline = self.started + time_limit
        self.timed_out = False
        sys.stdout.flush()  # or the fork would have a copy of what stands in its buffer
        self.pid = os.fork()
        if self.pid == 0:
            _be_master(job)
        self.ended = os.pidfd_open(self.pid)

    def end(self) -> None:
        """Have it end, by force where it has been asked before."""
        os.kill(self.pid, signal.SIGKILL if self.timed_out else signal.SIGTERM)
        self.timed_out = True
        self.deadline = time.monotonic() + END_PATIENCE_SECONDS

    def result(self) -> Result:
        """How it has ended; blocks until it has."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.ended)
        status = status if status >= 0 else 128 - status
        return Result(self.job.script, status, time.monotonic() - self.started, self.timed_out)


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
    for result in _run_all(jobs, arguments.jobs, arguments.time_limit):
        print(_as_json(result) if arguments.json else _as_line(result), flush=True)
        failed = failed or result.status != 0
    return 1 if failed else 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The command line's own words, and those behind `--`."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _check(options: list[str], parser: argparse.ArgumentParser) -> None:
    """From here on this process is called like a master with these options. Ends the program where they are wrong."""
    sys.argv = ["master.py", *options]
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


def _run_all(jobs: list[Job], at_a_time: int, time_limit: float) -> Iterator[Result]:
    """Carry out all, and yield their results in the order of the jobs. Those under way end with the iterator."""
    get_ready()
    gc.freeze()
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, _Run] = {}
    results: dict[int, Result] = {}
    poller = select.poll()
    try:
        for number in range(len(jobs)):
            while number not in results:
                while waiting and len(running) < at_a_time:
                    run = _Run(*waiting.pop(), time_limit)
                    running[run.ended] = run
                    poller.register(run.ended, select.POLLIN)
                first = min(run.deadline for run in running.values())
                for ended, _ in poller.poll(max(0.0, 1000 * (first - time.monotonic()))):
                    poller.unregister(ended)
                    run = running.pop(ended)
                    results[run.number] = run.result()
                for run in running.values():
                    if time.monotonic() >= run.deadline:
                        run.end()
            yield results.pop(number)
    finally:
        for run in running.values():
            run.end()
        for run in running.values():
            run.result()


def _be_master(job: Job) -> NoReturn:
    """In a process that has just been forked: be a master that carries out the script."""
    try:
        for fd, path, flags in (
            (0, job.script, os.O_RDONLY),
            (1, job.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, job.err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            opened = os.open(path, flags, 0o666)
            os.dup2(opened, fd)
            os.close(opened)
        be_master(sys.argv[1:])
    except OSError as error:
        os.write(2, f"error: {error.filename}: {error.strerror}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(2)


def _as_line(result: Result) -> str:
    ended = "ended, since it took too long" if result.timed_out else f"status {result.status}"
    return f"{result.script}: {ended}, {result.seconds:.2f} s"


def _as_json(result: Result) -> str:
    return json.dumps({**result._asdict(), "script": str(result.script)})


if __name__ == "__main__":
    run_main(main)
