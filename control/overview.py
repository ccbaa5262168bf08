"""The state of a cluster at one moment, as values.

May live here: those values. May not: how they are obtained (control/cluster.py) or shown (console/status.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from context import Context

__all__ = ["ClientOverview", "Overview"]


class ClientOverview(NamedTuple):
    """The state of one client."""

    pid: int | None
    """The id of its process; None if it has died."""
    connections: tuple[int, ...]
    """The servers that it is connected to, in the order in which the connections were made."""


class Overview(NamedTuple):
    """The state of a cluster at one moment."""

    servers: Mapping[int, int | None]
    """Server id -> the id of its process; None if it has been killed."""
    links: Mapping[int, frozenset[int]]
    """Running server -> its neighbours."""
    clients: Mapping[int, ClientOverview]
    contexts: Mapping[int, Context]
    """Running server -> its context, for those servers that have answered."""
    reachable: Mapping[int, frozenset[int]]
    """Running server -> the servers that it believes it can reach, including itself, for those that have answered."""
