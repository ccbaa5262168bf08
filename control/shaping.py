"""The shapes of the links of a run: which pairs of ids have one, and the calls by which the two ends learn of it.

May live here: what the master remembers of shapes, and the arguments of those calls. May not: the calls themselves
(control/cluster.py), and what a shape means (shape.py).

A shape belongs to two ids, whether they are connected and run or not. It stays until it is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shape import NO_SHAPE, Shape

__all__ = ["Shapes"]


class Shapes:
    """The shapes of all links."""

    def __init__(self, usual: Shape, seed: int) -> None:
        """*seed*: what all delays and losses of the run are drawn from."""
        self.usual = usual
        """The shape of links between servers that have no other."""
        self._seed = seed
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
        return self._of_servers.get(frozenset((one, other)), self.usual)

    def of_client(self, client: int, server: int) -> Shape:
        """The shape of the link between a client and a server."""
        return self._of_clients.get(frozenset((client, server)), NO_SHAPE)

    def shown(self) -> tuple[str, dict[tuple[int, int], str]]:
        """The usual shape, empty if there is none, and those of links with one of their own, as in `Overview`."""
        found = {(min(ends), max(ends)): str(shape) for ends, shape in (self._of_servers | self._of_clients).items()}
        return "" if self.usual == NO_SHAPE else str(self.usual), dict(sorted(found.items()))

    def has_shape(self, client: int, servers: Iterable[int]) -> bool:
        """Whether the link of a client to one of these servers has a shape."""
        return any(self.of_client(client, server) != NO_SHAPE for server in servers)

    def with_shape(self, server: int, others: Iterable[int]) -> list[int]:
        """Those of the other servers to which the link of *server* has a shape."""
        return [other for other in others if self.of_servers(server, other) != NO_SHAPE]

    def client_call(self, client: int, server: int) -> tuple[Any, ...]:
        """The call by which a client learns of the shape of its link to a server."""
        return ("shape", server, *self.of_client(client, server), self._seed)

    def server_call(self, server: int, others: Iterable[int]) -> tuple[Any, ...]:
        """The call by which a server learns of the shapes of its links to others."""
        return "shape", tuple((other, *self.of_servers(server, other)) for other in others), self._seed

    def extra_time(self, client: int, servers: Iterable[int]) -> float:
        """How many seconds longer than without shapes a client takes, at most, to ask all these servers."""
        return sum(2 * self.of_client(client, server).longest for server in servers)
