#!/usr/bin/env python3
"""Grades anybody's master: runs it with a folder of scripts, and judges what it prints.

    scripts/grade.py tests/ --master ./master                              one submission
    scripts/grade.py tests/ --submissions handed-in/* --csv marks.csv      a class
    scripts/grade.py tests/ --init                                         write tests/tests.toml, to begin with

docs/grading.md says how tests are written, how answers count, and what the formats have in them.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
import json
import pwd
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grading.cases import Case
from grading.explaining import explain
from grading.formats.github import github
from grading.formats.plain import plain
from grading.formats.table import table
from grading.formats.tap import tap
from grading.formats.text import text
from grading.grader import Grader, collect
from grading.results import SubmissionResult, points_of, printable
from grading.sandbox import Limits
from grading.submissions import NoSubmission, Submission, by_command, by_folder
from grading.suite import FILE, NoSuite, read_suite, start_file
from grading.workers import Workers
from scripts.shared import at_least, need, run_main, show_progress

MIB = 1 << 20


def main() -> int:
    """Returns the exit status: 0 if everything was graded, 1 below --fail-under, 2 if something could not be graded."""
    parser = _parser()
    options = parser.parse_args()
    if options.junit:
        need("junitparser", "requirements-grading.txt")
    if options.init:
        return _init(options.tests)
    if options.user and (why := _why_not(options.user)):
        return _refuse(why)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left
    try:
        suite = read_suite(options.tests, options.only, _overrides(options))
    except NoSuite as error:
        return _refuse(str(error))
    problems = list(suite.problems)
    submissions, refused = _submissions(options)
    problems += [result.problem for result in refused]
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    if not submissions and not refused:
        return _refuse("there is nothing to grade: give --master COMMAND or --submissions PATH …")
    results = [*_graded(options, suite.cases, submissions), *refused]
    if not options.quiet and "-" not in _outputs(options):
        for result in refused:
            print("\n".join(text(result)))
    try:
        _write(options, results, suite.cases, problems)
    except OSError as error:
        return _refuse(f"{error.filename or 'standard output'}: {error.strerror}")
    if problems:
        return 2
    most = points_of(suite.cases)
    return int(options.fail_under is not None and any(100 * one.score < options.fail_under * most for one in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Grades any program that reads the nine commands, by a folder of scripts.",
        epilog="The exit status is 0 if everything was graded, whatever the marks; 1 if a score is below --fail-under; "
        "2 if something could not be graded. docs/grading.md says more.",
    )
    add = parser.add_argument
    add(
        "tests",
        type=Path,
        metavar="TESTS",
        help="a folder of scripts, with expected outputs and tests.toml, or without",
    )
    add("--master", metavar="COMMAND", help="how the program is started; with --submissions, within each of them")
    add("--submissions", type=Path, nargs="+", default=[], metavar="PATH", help="folders or files that were handed in")
    add("--init", action="store_true", help="only write TESTS/tests.toml, with all settings, to begin with")
    add("--only", nargs="+", default=[], metavar="NAME", help="only these tests")
    add("--runs", type=at_least(1), metavar="N", help="run each test so often, whatever its settings say")
    add(
        "--timeout",
        type=_number(0.001),
        metavar="SECONDS",
        help="the time limit of each run, whatever its settings say",
    )
    add(
        "--per-line",
        type=_number(0.001),
        nargs="?",
        const=0.05,
        metavar="SECONDS",
        help="feed one line at a time, with pauses (0.05)",
    )
    limits = parser.add_argument_group("what a program may use")
    add = limits.add_argument
    add("--memory", type=at_least(1), default=1024, metavar="MIB", help="memory of each process (1024)")
    add("--processes", type=at_least(1), default=256, metavar="N", help="processes at a time (256)")
    add("--output", type=at_least(1), default=8, metavar="MIB", help="what it prints (8)")
    add("--user", metavar="NAME", help="whose rights it has; only root can give it others")
    add("--no-namespaces", action="store_true", help="do not give it a network and process ids of its own")
    add("--jobs", type=at_least(1), default=os.cpu_count() or 1, metavar="N", help="programs at a time (one a core)")
    formats = parser.add_argument_group(
        "formats, besides text on standard output", "FILE may be -, for standard output"
    )
    add = formats.add_argument
    add("--json", metavar="FILE", help="all results, for programs")
    add("--csv", metavar="FILE", help="a row for each submission")
    add("--junit", metavar="FILE", help="JUnit XML")
    add("--tap", metavar="FILE", help="Test Anything Protocol")
    add(
        "--summary",
        metavar="FILE",
        help="Markdown, for GitHub: --summary $GITHUB_STEP_SUMMARY; added to the file's end",
    )
    add("--quiet", action="store_true", help="no text")
    parser.add_argument(
        "--fail-under", type=_number(0, 100), metavar="PERCENT", help="exit status 1 if a score is below"
    )
    return parser


def _number(least: float, most: float = 1e6) -> Callable[[str], float]:
    """For argparse: a number within bounds."""

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"not a number from {least:g} to {most:g}: {text!r}")
        return found

    return number


def _why_not(user: str) -> str:
    """Why programs can't have this user's rights; empty if they can."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return f"there is no user {user}"
    return "" if os.geteuid() in (0, account.pw_uid) else "only root can give programs the rights of another user"


def _refuse(why: str) -> int:
    for line in why.splitlines():
        print(f"error: {printable(line)}", file=sys.stderr)
    return 2


def _init(folder: Path) -> int:
    path = folder / FILE
    try:
        start = start_file(folder)
        with path.open("x", encoding="utf-8") as file:
            file.write(start)
    except NoSuite as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{path}: {error.strerror}")
    print(f"{path} has the settings of all tests; change what you like")
    return 0


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {"runs": options.runs, "timeout": options.timeout, "per_line": options.per_line}
    return {name: value for name, value in given.items() if value is not None}


def _submissions(options: argparse.Namespace) -> tuple[list[Submission], list[SubmissionResult]]:
    """What to grade, and what can't be."""
    found: list[Submission] = []
    refused: list[SubmissionResult] = []
    for path in options.submissions or ([None] if options.master else []):
        try:
            found.append(by_folder(path, options.master) if path is not None else _warm(by_command(options.master)))
        except NoSubmission as error:
            refused.append(SubmissionResult(path.name if path else options.master, (), str(error)))
    return found, refused


def _warm(submission: Submission) -> Submission:
    """Have our own master start warm: that takes less than half of the time."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    own = [os.path.realpath(os.path.join(root, name)) for name in ("master", "master.py")]
    return replace(submission, warm=True) if os.path.realpath(submission.command[0]) in own else submission


def _graded(
    options: argparse.Namespace, cases: Sequence[Case], submissions: Sequence[Submission]
) -> Iterator[SubmissionResult]:
    """Grade everything, and print text about each submission as soon as it is done."""
    limits = Limits(memory=options.memory * MIB, processes=options.processes, output=options.output * MIB)
    shows = not options.quiet and "-" not in _outputs(options)
    most = len(cases) * len(submissions)
    own = "scripts.warm" if any(submission.warm for submission in submissions) else None
    with Workers(options.jobs, not options.no_namespaces, options.user, own) as workers:
        grader = Grader(cases, workers, limits, explain)

        def counted() -> Iterator[tuple[int, Any]]:
            for number, result in enumerate(grader.grade(submissions), 1):
                show_progress(f"graded {number} of {most} tests")
                yield result

        for result in collect(submissions, counted(), len(cases)):
            if shows:
                show_progress("")
                print("\n".join(text(result)), flush=True)
            yield result
    show_progress("")


def _outputs(options: argparse.Namespace) -> list[str | None]:
    return [options.json, options.csv, options.junit, options.tap, options.summary]


def _write(
    options: argparse.Namespace, results: Sequence[SubmissionResult], cases: Sequence[Case], problems: Sequence[str]
) -> None:
    """Write the formats that were asked for. Raises OSError."""
    if options.json:
        _put(options.json, json.dumps(plain(results, problems), indent=1) + "\n")
    if options.csv:
        _put(options.csv, table(results, cases))
    if options.junit:
        from grading.formats.junit import junit  # its package is needed for this alone

        _put(options.junit, junit(results))
    if options.tap:
        _put(options.tap, "\n".join(tap(results)) + "\n")
    if options.summary:
        _put(options.summary, "\n".join(github(results)) + "\n", mode="a")


def _put(name: str, text: str, mode: str = "w") -> None:
    if name == "-":
        print(text, end="", flush=True)
        return
    with open(name, mode, encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    run_main(main)
