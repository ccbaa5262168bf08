"""How a run's trace and history begin, as the options have it.

May live here: their beginning, and why they can't be begun. May not: writing them (rpc/tracing.py, control/history.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from console.options import Arguments, CannotBegin, absolute
from control.no_history import NoHistory
from rpc import tracing

__all__ = ["begin_history", "begin_trace", "enable_trace"]


def enable_trace(folder: Path) -> None:
    """Have all processes of the run traced. Raises CannotBegin."""
    try:
        tracing.enable(absolute(folder))
    except OSError as error:
        raise CannotBegin(f"{folder}: {error.strerror}") from error


def begin_trace() -> None:
    """Begin the trace of this process, if the run is traced. Raises CannotBegin where the file can't be written."""
    try:
        tracing.clear()
        tracing.begin("master")
    except OSError as error:
        raise CannotBegin(f"{error.filename}: {error.strerror}") from error


def begin_history(path: Path, arguments: Arguments, facts: Mapping[str, Any], warn: Callable[[str], None]) -> NoHistory:
    """Begin a history. *facts*: what is to stand in it about the run, besides its options. *warn*: as for `History`.

    Raises CannotBegin where the file can't be written, or is one of the scripts.
    """
    from control.history import History

    try:
        scripts = [name for name in arguments.scripts if name != "-"]
        if any(os.path.exists(path) and os.path.samefile(path, name) for name in scripts):
            raise CannotBegin(f"{path}: this is a script to run; its history would overwrite it")
        options = {
            "gossip_interval": arguments.gossip_interval,
            "fsync": arguments.fsync,
            "timeout": arguments.timeout,
            "kept_stores": arguments.data_dir is not None,
            "seed": arguments.seed,
        }
        return History(path, {**facts, **options}, warn)
    except OSError as error:
        raise CannotBegin(f"{path}: {error.strerror}") from error
