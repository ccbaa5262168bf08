"""The state of a cluster at one moment, as values.

May live here: those values, and what follows from them alone. May not: how they are obtained (control/cluster.py) or
shown (console/status.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import router
from context import Context

__all__ = ["ClientOverview", "Lacking", "Overview"]


class ClientOverview(NamedTuple):
    """The state of one client."""

    pid: int | None
    """The id of its process; None if it has died."""
    connections: tuple[int, ...]
    """The servers that it is connected to, in the order in which the connections were made."""


class Lacking(NamedTuple):
    """How many writes have not reached a server: those that others of its partition know of, and others yet.

    Writes are counted, also those that others have overtaken, and only those that a server knows of which has answered.
    """

    here: int
    elsewhere: int


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
    usual_shape: str = ""
    """The shape of links between servers that have no other, such as `20ms 5ms 2%`; empty if they have none."""
    shapes: Mapping[tuple[int, int], str] = {}
    """The ends of links whose shape is another than the usual one, the lower id first -> the shape."""
    hosts: Mapping[int, str] = {}
    """Server or client -> the name of its host; empty where all processes are on one machine."""

    def partitions(self) -> list[list[int]]:
        """The running servers that can reach each other, each part sorted."""
        return sorted(sorted(part) for part in router.components(self.links))

    def lacking(self, ident: int, part: Iterable[int]) -> Lacking | None:
        """What a running server lacks, which is in this *part*. None where it has not answered."""
        own = self.contexts.get(ident)
        if own is None:
            return None
        reachable = _joined(self.contexts[other] for other in part if other in self.contexts)
        everything = _joined(self.contexts.values())
        return Lacking(_count(reachable) - _count(own), _count(everything) - _count(reachable))


def _joined(contexts: Iterable[Context]) -> Context:
    joined = Context()
    for context in contexts:
        joined.join(context)
    return joined


def _count(context: Context) -> int:
    """How many writes a context covers."""
    return sum(context.vector.values()) + sum(map(len, context.cloud.values()))
