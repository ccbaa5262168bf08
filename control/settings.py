"""The options of a run, as the rooms of control/ need them.

May live here: one value. May not: the command line (console/command_line.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from groups import ANSWER_BYTES

__all__ = ["Settings"]


class Settings(NamedTuple):
    """The options of a run. Times are in seconds."""

    data_directory: Path | None = None
    """None for stores that are removed at the end of the run."""
    gossip_interval: float = 1.0
    fsync: str = "never"
    timeout: float = 10.0
    history: bool = False
    """Whether the run records a history. Then printStore must fetch the versions, and not only the values."""
    record: bool = False
    """Whether history and trace are kept in the run's own directory, as long as it lasts."""
    group_limit: int = ANSWER_BYTES
    """See `rpc.options.Options`."""
