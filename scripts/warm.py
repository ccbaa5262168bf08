"""Masters that start warm: forked from a process that has everything imported, instead of started by an interpreter.

May live here: being such a master. May not: how many there are, and who waits for them.

Most of a short run is the start of Python and the import of RPyC, so a warm start takes less time. Such a run has a run
directory, a spawner and servers of its own, like any other, and shares nothing with others but unchanged memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import master
from control import roles

__all__ = ["be_master", "get_ready"]


def get_ready() -> None:
    """Import what a run imports, also in the processes that it starts."""
    import control.cluster  # noqa: F401

    roles.load()


def be_master(options: Sequence[str]) -> NoReturn:
    """Be a master that was called with these options, in a process that was forked for it and has its streams open."""
    status: object = 2
    try:
        sys.argv = ["master.py", *options]
        status = master.main()
    except SystemExit as end:
        status = end.code
    finally:
        os._exit(status if isinstance(status, int) else 1)
