"""The options of a run, as the rooms of control/ need them.

May live here: one value. May not: the command line (master.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from groups import ANSWER_BYTES

__all__ = ["Settings"]


class Settings(NamedTuple):
    """The options of a run. Times are in seconds; *data_directory* is None for stores that go with the run."""

    data_directory: Path | None = None
    gossip_interval: float = 1.0
    fsync: str = "never"
    timeout: float = 10.0
    history: bool = False
    """Whether printStore must tell which versions stand, not only their values."""
    record: bool = False
    """Whether history and trace are kept in the run's own directory, as long as it lasts."""
    group_limit: int = ANSWER_BYTES
    """As `server.Options` has it."""
