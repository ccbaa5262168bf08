"""The virtual environment that `make` sets up in .venv, which every program that a user starts has to run in.

May live here: finding this environment, and continuing in it. May not: imports other than os and sys, until it is
certain that no environment variable makes Python import modules from elsewhere; imports from outside of Python's
standard library at any time.

A program that a user starts begins with

    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # python -P leaves it out

    from console import environment

    environment.enter(__name__)

and then imports what it needs. `./master` starts Python in this environment already, so `enter` changes nothing there.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

__all__ = ["PACKAGES", "advice", "culprit", "enter"]

PACKAGES = ("rpyc", "msgpack", "setproctitle", "prompt_toolkit", "tqdm")
"""The packages that Daadkvs needs to run."""

_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_VENV = os.path.join(_ROOT, ".venv")


def enter(name: str, packages: Iterable[str] = PACKAGES) -> None:
    """Make sure that the program runs where the *packages* are, and without variables such as PYTHONPATH.

    If necessary, the program is started again, with the Python in .venv. A virtual environment of the user's own that
    has the packages is used as it is. In any other Python, a package may be a different one of the same name, so .venv
    is preferred. If the packages are nowhere, the program ends with an error. *name*: the caller's `__name__`; nothing
    is done if the caller is an imported module, and not a program.
    """
    if name != "__main__":
        return
    if not sys.flags.ignore_environment and any(map(_is_used_by_python, os.environ)):
        _start_again(sys.executable)
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C must not show a traceback
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # a Ctrl-C may have come while Python was starting
    if not packages:
        return
    from importlib.machinery import PathFinder  # lighter than importlib.util

    missing = [package for package in packages if not PathFinder.find_spec(package)]
    if not missing and sys.prefix != sys.base_prefix:
        return
    python = os.path.join(_VENV, "bin", "python")
    here, there = (os.path.realpath(os.path.dirname(path)) for path in (sys.executable, python))
    if here != there and os.access(python, os.X_OK):
        _start_again(python)
    if missing:
        _end(f"packages that this needs are missing; {advice(missing)}")


def culprit(error: ImportError) -> str:
    """A description of why a package can't be imported: it is missing, or another package of its name was found."""
    from importlib.util import find_spec

    package = (error.name or "").partition(".")[0]
    spec = find_spec(package) if package else None
    if spec is None:
        problem = f"the package {package} is missing"
    else:
        where = spec.origin or ", ".join(spec.submodule_search_locations or ["?"])
        problem = f"the package {package} in {where} is not the one that this needs: {error}"
    return f"{problem}; {advice()}"


def advice(missing: Iterable[str] = ()) -> str:
    """What a user can do if packages are missing. *missing*: their names, if some may be others than `PACKAGES`."""
    if not os.path.exists(os.path.join(_ROOT, "Makefile")):
        return "reinstall Daadkvs"
    if all(package in PACKAGES for package in missing):
        return "`make` installs everything in .venv, for ./master"
    return f"`make check` adds {', '.join(missing)} to .venv, with all that tests need"


def _is_used_by_python(variable: str) -> bool:
    """Whether Python itself uses this environment variable. (Container images have others, such as PYTHON_VERSION.)"""
    return variable.startswith("PYTHON") and variable[6:7].isalpha()


def _start_again(python: str) -> NoReturn:
    """Start this program again, with this Python, which then ignores environment variables.

    A Ctrl-C is held back until the new program calls `enter`.
    """
    import _signal  # type: ignore[import-not-found]  # `signal` may still be a module from elsewhere

    _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
    try:
        os.execv(python, [python, "-E", *sys.orig_argv[1:]])
    except OSError as error:
        _end(f"{python}: {error.strerror}; {advice()}")


def _end(why: str) -> NoReturn:
    try:
        os.write(2, f"error: {why}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # stderr is closed
    sys.exit(2)
