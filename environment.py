"""The environment that `make` sets up in .venv, for programs that were started with another Python.

May live here: finding it. May not: anything that isn't part of Python itself.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["enter"]

_FOLDER = Path(__file__).resolve().parent / ".venv"


def enter(*packages: str) -> None:
    """Go on where there are *packages*, or those that all of Daadkvs needs: here, or else in .venv, begun anew.

    Ends the program where that can't be, and says so.
    """
    if all(find_spec(package) for package in packages or ("rpyc", "msgpack", "setproctitle")):
        return
    python = _FOLDER / "bin" / "python"
    if python.exists() and Path(sys.executable) != python:
        os.execv(python, [str(python), *sys.orig_argv[1:]])
    print("error: this needs the packages in requirements.txt; `make` installs them, for ./master", file=sys.stderr)
    sys.exit(2)
