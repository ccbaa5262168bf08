"""stabilize: have all servers that can reach each other hold the same store.

May live here: in which order servers learn from each other, and when that is done. May not: calls, time limits, who has
died. Those are handed in, by control/cluster.py and by the simulator (checking/simulator/calls.py).

Theory of operation
-------------------
Contexts say whether anything is to be done: two replicas whose contexts are equal hold the same store (context.py). In
each component where they differ, updates are gathered along a spanning tree to its root, and scattered from there.
Each step is a number of pulls that go on at the same time, and there are O(depth) of them. Where a server is lost on
the way, or the contexts still differ because something new has come, it begins again with the links as they are then.
"""

from __future__ import annotations

from typing import Protocol

from router import Graph, components, gather_and_scatter

__all__ = ["Servers", "stabilize"]


class Servers(Protocol):
    """The running servers, as far as stabilize has to do with them."""

    def graph(self) -> Graph:
        """Each server's neighbours."""

    def contexts(self) -> dict[int, bytes] | None:
        """What each server knows of; equal contexts are equal bytes. None where one was lost meanwhile."""

    def pull(self, step: dict[int, list[int]]) -> bool:
        """Have each of these servers learn what these neighbours hold; whether all did, and none was lost."""


def stabilize(servers: Servers) -> None:
    """Return when the contexts agree within each component. Passes on what *servers* raises."""
    while True:
        contexts = servers.contexts()
        if contexts is None:
            continue
        graph = servers.graph()
        apart = [part for part in components(graph) if len({contexts[server] for server in part}) > 1]
        if not apart:
            return
        for step in gather_and_scatter(graph, apart):
            if not servers.pull(step):
                break
