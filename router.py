"""Who can be reached, over which hops.

May live here: links, what is said of them, and what follows: components, reachable servers, spanning trees.
May not: sockets, threads, files or the time of day.

Theory of operation
-------------------
The links between servers form an undirected graph. The master makes and breaks them, so its graph is always
right; stabilize follows spanning trees of that one.

A server is told only of its own links. What it knows of the others' it learns by gossip, as in link-state
routing (McQuillan et al., 1980; OSPF): each server writes a *record* of its neighbours, numbered, and passes on
whatever records of others it has; the higher number replaces the lower. A link counts when both of its ends
have it in their records, so what a dead server once said connects nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

__all__ = [
    "Graph",
    "Router",
    "SpanningTree",
    "centre",
    "components",
    "gather_and_scatter",
    "reachable",
    "spanning_tree",
]

Graph = Mapping[int, Set[int]]
"""Server id -> ids of its neighbours, symmetric: a link stands under both of its ends."""


class SpanningTree(NamedTuple):
    """A tree over one component."""

    root: int
    parents: dict[int, int]
    """Every server but the root -> the neighbour that is one hop nearer to the root."""
    levels: list[list[int]]
    """The servers by depth, each level sorted; the first holds the root alone."""

    def level(self, depth: int) -> list[int]:
        """The servers that are *depth* hops from the root."""
        return self.levels[depth] if depth < len(self.levels) else []

    def children(self) -> dict[int, list[int]]:
        """Server -> its children, sorted; servers without any are left out."""
        children: dict[int, list[int]] = {}
        for child, parent in sorted(self.parents.items()):
            children.setdefault(parent, []).append(child)
        return children


def spanning_tree(graph: Graph, root: int) -> SpanningTree:
    """The breadth-first tree from *root*: everybody is as near to the root as links allow.

    Of several possible parents the one with the lowest id is taken, so equal graphs give equal trees.
    """
    parents: dict[int, int] = {}
    levels = [[root]]
    found = {root}
    while True:
        level = []
        for parent in levels[-1]:
            for child in sorted(graph[parent] - found):
                parents[child] = parent
                level.append(child)
            found.update(graph[parent])
        if not level:
            return SpanningTree(root, parents, levels)
        levels.append(sorted(level))


def reachable(graph: Graph, start: int) -> set[int]:
    """All servers that *start* can reach over any number of hops, itself included."""
    found, frontier = {start}, {start}
    while frontier:
        frontier = {neighbour for server in frontier for neighbour in graph[server]} - found
        found |= frontier
    return found


def components(graph: Graph) -> list[set[int]]:
    """The sets of servers that can reach each other, by their lowest ids."""
    found: list[set[int]] = []
    rest = set(graph)
    while rest:
        component = reachable(graph, min(rest))
        found.append(component)
        rest -= component
    return found


def centre(graph: Graph, start: int) -> int:
    """A server in the middle of *start*'s component, so that a tree from there is shallow.

    The middle of a longest path: exact in trees, close to it in other graphs.
    """
    end = spanning_tree(graph, start).levels[-1][0]
    tree = spanning_tree(graph, end)
    middle = tree.levels[-1][0]
    for _ in range((len(tree.levels) - 1) // 2):
        middle = tree.parents[middle]
    return middle


def gather_and_scatter(graph: Graph, parts: Iterable[set[int]]) -> list[dict[int, list[int]]]:
    """How all of these components can become equal: steps of server -> the neighbours to pull from.

    First from the leaves of a spanning tree to its root, then back. Within a step all servers, of all components,
    may work at the same time; a step may only begin when the one before is done.
    """
    trees = [spanning_tree(graph, centre(graph, min(part))) for part in parts]
    depth = max((len(tree.levels) for tree in trees), default=0)
    steps: list[dict[int, list[int]]] = []
    for level in range(depth - 2, -1, -1):  # gather: parents from their children, the deepest first
        step: dict[int, list[int]] = {}
        for tree in trees:
            children = tree.children()
            step |= {server: children[server] for server in tree.level(level) if server in children}
        steps.append(step)
    for level in range(1, depth):  # scatter: children from their parents
        steps.append({server: [tree.parents[server]] for tree in trees for server in tree.level(level)})
    return steps


class Router:
    """What one server knows of the links: its own for certain, the others' by hearsay."""

    def __init__(self, server: int, incarnation: int) -> None:
        self.server = server
        self._incarnation = incarnation
        self._records: dict[int, tuple[tuple[int, int], frozenset[int]]] = {}
        self._write_own(frozenset())

    def _write_own(self, neighbours: frozenset[int]) -> None:
        known = self._records.get(self.server)
        number = known[0][1] + 1 if known else 0
        self._records[self.server] = ((self._incarnation, number), neighbours)

    @property
    def neighbours(self) -> frozenset[int]:
        """The servers that this one has a link to."""
        return self._records[self.server][1]

    def link(self, neighbour: int) -> None:
        """Note a link of this server; one that is there already changes nothing."""
        if neighbour not in self.neighbours:
            self._write_own(self.neighbours | {neighbour})

    def unlink(self, neighbour: int) -> None:
        """Forget a link of this server; one that isn't there changes nothing."""
        if neighbour in self.neighbours:
            self._write_own(self.neighbours - {neighbour})

    def digest(self) -> dict[int, list[int]]:
        """Server -> the number of the record that is known of it, for a peer to answer with `newer_than`."""
        return {server: list(number) for server, (number, _) in self._records.items()}

    def newer_than(self, digest: Mapping[int, list[int]]) -> list[Any]:
        """The records that somebody with *digest* lacks: `[[server, [incarnation, number], [neighbour, …]], …]`."""
        return [
            [server, list(number), sorted(neighbours)]
            for server, (number, neighbours) in sorted(self._records.items())
            if server not in digest or tuple(digest[server]) < number
        ]

    def lacks(self, digest: Mapping[int, list[int]]) -> bool:
        """Whether somebody with *digest* knows of a record that is unknown or older here."""
        return any(
            server not in self._records or self._records[server][0] < tuple(number) for server, number in digest.items()
        )

    def merge(self, records: Iterable[Any]) -> bool:
        """Take in records from a peer; returns whether any was news. Nobody else writes this server's own."""
        news = False
        for server, number, neighbours in records:
            numbered = (int(number[0]), int(number[1]))
            known = self._records.get(server)
            if server != self.server and (known is None or known[0] < numbered):
                self._records[server] = (numbered, frozenset(neighbours))
                news = True
        return news

    def graph(self) -> dict[int, set[int]]:
        """The links that both ends have in their records."""
        said = {server: neighbours for server, (_, neighbours) in self._records.items()}
        return {
            server: {other for other in neighbours if server in said.get(other, ())}
            for server, neighbours in said.items()
        }

    def reachable(self) -> set[int]:
        """The servers that this one can reach, as far as it knows, itself included.

        Its own links are certain, also where the record of the other end has not come yet.
        """
        graph = {neighbour: set[int]() for neighbour in self.neighbours} | self.graph()
        graph[self.server] = set(self.neighbours)
        return reachable(graph, self.server)
