"""The options of a run, as the rooms of control/ need them.

May live here: one value. May not: the command line (console/command_line.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from groups import ANSWER_BYTES

__all__ = ["Engine", "Settings"]


class Engine(NamedTuple):
    """The cluster on which a run takes place (`--engine`)."""

    scheduler: str
    """The address of the Dask scheduler, as Dask takes it."""
    authority: Path | None
    """Certificates for the scheduler in PEM, and the key; None where it is reached without TLS (--insecure-engine)."""
    certificate: Path | None
    key: Path | None
    places: Path | None
    """The file that says which process is on which host; None where they take turns."""
    host_timeout: float
    """After how many seconds without a sign of it a host counts as lost."""


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
    shape: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The delay, jitter and loss of links between servers (`shape.Shape`)."""
    seed: int = 0
    """What delays and losses are drawn from."""
    group_limit: int = ANSWER_BYTES
    """See `rpc.options.Options`."""
    engine: Engine | None = None
    """None for a run on this machine alone."""
