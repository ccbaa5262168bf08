"""What the scripts share: numbers on their command lines, optional packages, the progress of a long run, and how they
end after Ctrl-C or when standard output takes no more.

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
    """End the program with the exit status of *main*, or, after Ctrl-C, with 130 and without a traceback.

    If standard output takes no more, the program ends as `output_gone` describes.
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
    """Say why standard output takes no more, unless its reader has gone away. Returns the exit status, 2."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would report it as well, at its end
    if not isinstance(error, BrokenPipeError):
        print(f"error: standard output: {error.strerror}", file=sys.stderr)
    return 2


def at_least(smallest: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number from *smallest* up."""

    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"not a whole number from {smallest} up: {text!r}")
        return int(text)

    return number


def minutes(text: str) -> float:
    """A type for argparse: a time in minutes, which is returned in seconds."""
    try:
        seconds = 60 * float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"not a number of minutes above 0: {text!r}")
    return seconds


def need(package: str, requirements: str) -> None:
    """End the program if a package is missing, and say how to install it. *requirements*: a file beside this one."""
    if find_spec(package) is None:
        how = f".venv/bin/python -m pip install -r scripts/{requirements}"
        print(f"error: the package {package} is missing: {how}", file=sys.stderr)
        sys.exit(2)


def show_progress(text: str) -> None:
    """Show one line on stderr, if that is a terminal, in place of the last one; an empty text removes the line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
