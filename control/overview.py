"""What there is in a cluster at one moment, as values.

May live here: those values, and what follows from them alone. May not: how they are found out (control/cluster.py) or
drawn (console/status.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import router
from context import Context

__all__ = ["ClientOverview", "Lacking", "Overview"]


class ClientOverview(NamedTuple):
    """A client: its process, None where it has died, and its connections in order."""

    pid: int | None
    connections: tuple[int, ...]


class Lacking(NamedTuple):
    """How many writes have not reached a server: those that others of its partition know of, and others yet.

    Writes are counted, also those that others have overtaken, and only those that a server knows of which has answered.
    """

    here: int
    elsewhere: int


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
