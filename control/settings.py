"""The options of a run, as the rooms of control/ need them.

May live here: one value. May not: the command line (console/command_line.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from control.shaping import NO_SHAPING, Shaping
from groups import ANSWER_BYTES

__all__ = ["Settings"]


class Settings(NamedTuple):
    """The options of a run; console/options.py has their defaults. Times are in seconds."""

    data_directory: Path | None
    """None for stores that are removed at the end of the run."""
    gossip_interval: float
    fsync: str
    timeout: float
    history: bool
    """Whether the run records a history. Then printStore must fetch the versions, and not only the values."""
    record: bool
    """Whether history and trace are kept in the run's own directory, as long as it lasts."""
    shaping: Shaping = NO_SHAPING
    """The delay and loss of links."""
    group_limit: int = ANSWER_BYTES
    """See `rpc.options.Options`."""
