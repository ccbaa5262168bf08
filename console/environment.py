"""The environment that `make` sets up in .venv, and nobody else's: what each program that a user starts sees to first.

May live here: finding it, and going on in it. May not: anything that isn't part of Python itself; before it is known
that no variable of the environment has led Python elsewhere, not even that, but for os and sys.

A program that a user starts begins with

    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # not there by itself after python -P

    from console import environment

    environment.enter(__name__)

and then imports what it needs. `./master` starts Python as this would start it anew, so that nothing is to be done.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

__all__ = ["PACKAGES", "culprit", "enter"]

PACKAGES = ("rpyc", "msgpack", "setproctitle", "prompt_toolkit", "tqdm")
"""What Daadkvs needs to run."""

_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), ".venv")


def enter(name: str, packages: Iterable[str] = PACKAGES) -> None:
    """Go on where no variable such as PYTHONPATH counts, and the *packages* are: here, or in .venv, begun anew.

    *name*: the caller's `__name__`. Only a program is begun anew: nothing is done for a module that is imported.
    A virtual environment of the user's own that has the packages is taken as it is; any other Python may have some
    that only bear their names, so .venv comes first. Ends the program where the packages are nowhere, and says so.
    """
    if name != "__main__":
        return
    if not sys.flags.ignore_environment and any(map(_is_pythons, os.environ)):
        _begin_anew(sys.executable)
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from a Ctrl-C before there is something to clean up
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # one that came while Python itself started
    if not packages:
        return
    from importlib.machinery import PathFinder  # lighter than importlib.util

    found = all(map(PathFinder.find_spec, packages))
    if found and sys.prefix != sys.base_prefix:
        return
    python = os.path.join(_FOLDER, "bin", "python")
    here, there = (os.path.realpath(os.path.dirname(path)) for path in (sys.executable, python))
    if here != there and os.access(python, os.X_OK):
        _begin_anew(python)
    if not found:
        _end("this needs the packages in requirements.txt; `make` installs them, for ./master")


def culprit(error: ImportError) -> str:
    """What to say of a package that can't be imported: that it isn't there, or where another of its name was found."""
    from importlib.util import find_spec

    package = (error.name or "").partition(".")[0]
    spec = find_spec(package) if package else None
    if spec is None:
        told = f"the package {package} is missing"
    else:
        where = spec.origin or ", ".join(spec.submodule_search_locations or ["?"])
        told = f"the package {package} in {where} is not the one that this needs: {error}"
    return f"{told}; `make` sets everything up in .venv, and ./master takes it from there"


def _is_pythons(variable: str) -> bool:
    """Whether Python itself heeds it. (PYTHON_VERSION and the like are images' own.)"""
    return variable.startswith("PYTHON") and variable[6:7].isalpha()


def _begin_anew(python: str) -> NoReturn:
    """Start this program again, with *python*, which heeds no variables. A Ctrl-C waits until `enter` is reached."""
    import _signal  # type: ignore[import-not-found]  # signal itself may be somebody else's yet

    _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
    try:
        os.execv(python, [python, "-E", *sys.orig_argv[1:]])
    except OSError as error:
        _end(f"{python}: {error.strerror}; `make` sets up .venv, for ./master")


def _end(why: str) -> NoReturn:
    try:
        os.write(2, f"error: {why}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody listens
    sys.exit(2)
