"""The shapes of the links of a run: which pairs of ids have one, and the calls by which the two ends learn of it.

May live here: what the master remembers of shapes, and the arguments of those calls. May not: the calls themselves
(control/cluster.py), and what a shape means (shape.py).

A shape belongs to two ids, whether they are connected and run or not. It stays until it is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from shape import NO_SHAPE, Shape

__all__ = ["NO_SHAPING", "Shapes", "Shaping"]


class Shaping(NamedTuple):
    """The options of a run about links."""

    servers: Shape
    """The shape of each link between two servers that has no other."""
    seed: int
    """What all delays and losses of the run are drawn from."""


NO_SHAPING = Shaping(NO_SHAPE, 0)


class Shapes:
    """The shapes of all links."""

    def __init__(self, shaping: Shaping) -> None:
        self._shaping = shaping
        self._of_servers: dict[frozenset[int], Shape] = {}
        self._of_clients: dict[frozenset[int], Shape] = {}

    def set_servers(self, one: int, other: int, shape: Shape) -> None:
        """Note the shape of the link between two servers."""
        self._of_servers[frozenset((one, other))] = shape

    def set_client(self, client: int, server: int, shape: Shape) -> None:
        """Note the shape of the link between a client and a server."""
        self._of_clients[frozenset((client, server))] = shape

    def of_servers(self, one: int, other: int) -> Shape:
        """The shape of the link between two servers."""
        return self._of_servers.get(frozenset((one, other)), self._shaping.servers)

    def of_client(self, client: int, server: int) -> Shape:
        """The shape of the link between a client and a server."""
        return self._of_clients.get(frozenset((client, server)), NO_SHAPE)

    def chosen(self) -> dict[tuple[int, int], Shape]:
        """The links with a shape of their own, each with the lower id first."""
        found = {(min(ends), max(ends)): shape for ends, shape in (self._of_servers | self._of_clients).items()}
        return dict(sorted(found.items()))

    @property
    def usual(self) -> Shape:
        """The shape of links between servers that have no other."""
        return self._shaping.servers

    def client_call(self, client: int, server: int) -> tuple[Any, ...]:
        """The call by which a client learns of the shape of its link to a server."""
        return ("shape", server, *self.of_client(client, server), self._shaping.seed)

    def server_call(self, server: int, others: Iterable[int]) -> tuple[Any, ...]:
        """The call by which a server learns of the shapes of its links to others."""
        return "shape", tuple((other, *self.of_servers(server, other)) for other in others), self._shaping.seed

    def extra_time(self, client: int, servers: Iterable[int]) -> float:
        """How many seconds longer than without shapes a client takes, at most, to ask all these servers."""
        return sum(2 * self.of_client(client, server).longest for server in servers)
