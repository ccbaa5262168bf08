"""What there is in a cluster at one moment, as values.

May live here: those values. May not: how they are found out (control/cluster.py) or drawn (console/status.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from context import Context

__all__ = ["ClientOverview", "Overview"]


class ClientOverview(NamedTuple):
    """A client: its process, None where it has died, and its connections in order."""

    pid: int | None
    connections: tuple[int, ...]


class Overview(NamedTuple):
    """A cluster at one moment."""

    servers: Mapping[int, int | None]
    """Each server id's process, None where it is killed."""
    links: Mapping[int, frozenset[int]]
    """Each running server's neighbours."""
    clients: Mapping[int, ClientOverview]
    contexts: Mapping[int, Context]
    """What the running servers know of, those that have answered."""
    reachable: Mapping[int, frozenset[int]]
    """The servers that each running server believes that it can reach, itself included; of those that have answered."""
