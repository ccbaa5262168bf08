"""Connections from a server to its neighbours.

May live here: when a connection is opened, kept and closed. May not: what is asked over it.

A link is logical. A connection for it is opened when it is first needed, and closed when the link is broken. Therefore
50 servers that are all linked to each other do not need 2,450 open connections.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from peer import Link
from rpc import crossing, transport

__all__ = ["Neighbours"]

KEPT_CONNECTIONS = 8
"""How many connections at most a server keeps open between two rounds of gossip."""


class Neighbours:
    """The connections of one thread."""

    def __init__(self, timeout: float, draw: crossing.Draw) -> None:
        self.timeout = timeout
        self._draw = draw
        self._remotes: dict[int, tuple[Link, transport.Remote]] = {}

    def call(self, neighbour: int, link: Link, patient: bool, name: str, *args: Any) -> Generator[float, None, Any]:
        """Call the method *name* of a neighbour; returns its answer.

        If the link has a shape, this yields the times at which to go on. Each step blocks up to `timeout` seconds.
        Raises Failure. *patient*: as in `crossing.call`.
        """
        try:
            if link.lanes is None:
                return self._remote(neighbour, link).call(name, *args)

            def connect() -> transport.Remote:
                return self._remote(neighbour, link)

            called = f"server {neighbour}"
            return (yield from crossing.call(connect, link.lanes, self._draw, patient, called, name, *args))
        except transport.Failure:
            known = self._remotes.get(neighbour)
            if known is not None and known[0] is link:
                known[1].close()
            raise

    def _remote(self, neighbour: int, link: Link) -> transport.Remote:
        """The connection for a link, which is opened if there is none. Raises Unreachable."""
        known = self._remotes.get(neighbour)
        if known is None or known[0] is not link or not known[1].alive:
            if known is not None:
                known[1].close()
            self._drop_dead()
            self._remotes[neighbour] = known = (link, transport.Remote(link.address, self.timeout))
        known[1].timeout = self.timeout
        return known[1]

    def _drop_dead(self) -> None:
        for neighbour, (_, remote) in list(self._remotes.items()):
            if not remote.alive:
                remote.close()
                del self._remotes[neighbour]

    def trim(self) -> None:
        """Close all connections if there are more of them than are worth keeping."""
        if len(self._remotes) > KEPT_CONNECTIONS:
            for _, remote in self._remotes.values():
                remote.close()
            self._remotes.clear()

    def abort(self, neighbour: int) -> None:
        """End the connection to a neighbour, even while a call is under way. May be called from any thread."""
        known = self._remotes.get(neighbour)
        if known is not None:
            known[1].abort()
