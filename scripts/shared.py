"""What the scripts share: the numbers of their command lines, packages that few need, how far a long run has come, and
an end by Ctrl-C or where nobody takes what is printed.

May live here: nothing that knows what a script is about.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NoReturn

__all__ = ["at_least", "minutes", "need", "output_gone", "run_main", "show_progress"]


def run_main(main: Callable[[], int]) -> NoReturn:
    """End the program with the exit status of *main*; with 130, and no traceback, where Ctrl-C ends it.

    Where what it says can't be printed, `output_gone` says so.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status: Any
    try:
        status = main()
    except KeyboardInterrupt:
        show_progress("")
        status = 130
    except BrokenPipeError as error:
        status = output_gone(error)
    except SystemExit as end:
        status = end.code
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        status = output_gone(error)
    sys.exit(status)


def output_gone(error: OSError) -> int:
    """Say why standard output takes no more, unless its reader has gone away; the exit status for that, 2."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would say it once more, in its own way
    if not isinstance(error, BrokenPipeError):
        print(f"error: standard output: {error.strerror}", file=sys.stderr)
    return 2


def at_least(smallest: int) -> Callable[[str], int]:
    """For argparse: a whole number from *smallest* up."""

    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"not a whole number from {smallest} up: {text!r}")
        return int(text)

    return number


def minutes(text: str) -> float:
    """For argparse: a time, in minutes; returned in seconds."""
    try:
        seconds = 60 * float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"not a number of minutes above 0: {text!r}")
    return seconds


def need(package: str, requirements: str) -> None:
    """End the program where there is no such package, and say how to have it. *requirements*: a file beside this."""
    if find_spec(package) is None:
        how = f".venv/bin/python -m pip install -r scripts/{requirements}"
        print(f"error: the package {package} is missing: {how}", file=sys.stderr)
        sys.exit(2)


def show_progress(text: str) -> None:
    """One line on stderr, where that is a terminal, in the place of the last one; without text there is none."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
