"""stabilize: bring all servers that can reach each other to the same store.

May live here: in which order servers fetch updates from each other, and when this is complete. May not: calls, time
limits, and deaths. These are handed in, by control/stabilizing.py and by the simulator (checking/simulator/calls.py).

Theory of operation
-------------------
Two replicas with equal contexts hold the same store (context.py). In each component whose contexts differ, updates are
gathered along a spanning tree to its root, and then scattered from there. Each step consists of pulls that go on at the
same time, and the number of steps is proportional to the depth of the tree. If a server is lost meanwhile, or the
contexts still differ because something new has arrived, everything is repeated with the links as they are by then.
"""

from __future__ import annotations

from typing import Protocol

from router import Graph, components, gather_and_scatter

__all__ = ["Servers", "stabilize"]


class Servers(Protocol):
    """What stabilize needs from the running servers."""

    def graph(self) -> Graph:
        """The links between the running servers."""

    def contexts(self) -> dict[int, bytes] | None:
        """Server -> its context, as bytes that are equal for equal contexts. None if a server was lost meanwhile."""

    def pull(self, step: dict[int, list[int]]) -> bool:
        """Have each of these servers fetch what these neighbours hold. Returns False if a server was lost meanwhile."""


def stabilize(servers: Servers) -> None:
    """Return once the contexts are equal within each component. Passes on what *servers* raises."""
    while True:
        contexts = servers.contexts()
        if contexts is None:
            continue
        graph = servers.graph()
        differing = [part for part in components(graph) if len({contexts[server] for server in part}) > 1]
        if not differing:
            return
        for step in gather_and_scatter(graph, differing):
            if not servers.pull(step):
                break
