"""The router: which servers can reach each other, and over which links.

May live here: links, what servers know of each other's links, and what follows from that: components, reachable
servers, spanning trees. May not: sockets, threads, files or the time of day.

Theory of operation
-------------------
The links between servers form an undirected graph. The master makes and breaks all links, so the master's graph is
always correct. stabilize follows spanning trees of that graph.

The master informs a server of its own links only. A server learns of the links of other servers by gossip, as in
link-state routing (McQuillan et al., 1980; OSPF). Each server writes a numbered *record* of its neighbours, and passes
on the records of other servers that it has. A record replaces one with a lower number. A link counts if the records of
both ends contain it. Therefore the last record of a dead server, which nobody will replace, connects nobody.

From these links each server derives a spanning tree, along which it passes on its news. The idea is that of epidemic
broadcast trees (Leitão et al., 2007), which find their tree by trying. Servers that know the same records derive the
same tree, so in a full mesh of n servers news takes n - 1 exchanges each way, and not one for every link. A tree that
is out of date does no harm. Let a server know as much as any other, and let its neighbours in its tree know as much as
it does. Then they know the same records, so they have the same tree, and so on, to the end of that tree. Since each
server's own links are right in it, it spans the component. So as long as somebody lacks something, somebody has a
neighbour in its tree to tell. It does tell it, since every change of a server's records is news to that server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

__all__ = [
    "FEW_RECORDS",
    "MOST_CHILDREN",
    "Graph",
    "Router",
    "SpanningTree",
    "centre",
    "components",
    "covers",
    "gather_and_scatter",
    "reachable",
    "spanning_tree",
]

Graph = Mapping[int, Set[int]]
"""Server id -> ids of its neighbours. The graph is symmetric: each end of a link has the other as a neighbour."""


class SpanningTree(NamedTuple):
    """A spanning tree of one component."""

    root: int
    parents: dict[int, int]
    """Every server except the root -> the neighbour that is one hop nearer to the root."""
    levels: list[list[int]]
    """The servers by depth, each level sorted by id; the first level contains only the root."""

    def level(self, depth: int) -> list[int]:
        """The servers that are *depth* hops from the root; none if the tree is not that deep."""
        return self.levels[depth] if depth < len(self.levels) else []

    def children(self) -> dict[int, list[int]]:
        """Server -> its children, sorted by id; servers without children are left out."""
        children: dict[int, list[int]] = {}
        for child, parent in sorted(self.parents.items()):
            children.setdefault(parent, []).append(child)
        return children


MOST_CHILDREN = 64
"""How many children a server has in a spanning tree, at most, as long as others can be their parents. There is a
connection to each, with a thread of its own."""


def spanning_tree(graph: Graph, root: int) -> SpanningTree:
    """The breadth-first tree from *root*, in which every server is as near to the root as the links allow.

    But a server with more than `MOST_CHILDREN` neighbours takes only so many at first. Once these have taken what they
    can of the others, it takes the rest. So a server is at most twice as far from the root as it has to be.

    Of several possible parents the one with the lowest id is chosen, so equal graphs give equal trees.
    """
    parents: dict[int, int] = {}
    depths = {root: 0}
    found = {root}
    level, full = [root], list[int]()
    while level or full:
        children: list[int] = []
        left: list[int] = []
        for parent in (*level, *full):
            free = sorted(graph[parent] - found)
            if len(free) > MOST_CHILDREN and parent not in full:
                left.append(parent)
                del free[MOST_CHILDREN:]
            for child in free:
                parents[child], depths[child] = parent, depths[parent] + 1
            found.update(free)
            children += free
        level, full = sorted(children), left
    levels: list[list[int]] = [[] for _ in range(max(depths.values()) + 1)]
    for server, depth in sorted(depths.items()):
        levels[depth].append(server)
    return SpanningTree(root, parents, levels)


def reachable(graph: Graph, start: int) -> set[int]:
    """All servers that *start* can reach over any number of hops, including itself."""
    found, frontier = {start}, {start}
    while frontier:
        frontier = {neighbour for server in frontier for neighbour in graph[server]} - found
        found |= frontier
    return found


def components(graph: Graph) -> list[set[int]]:
    """The sets of servers that can reach each other, sorted by the lowest id in each."""
    found: list[set[int]] = []
    rest = set(graph)
    while rest:
        component = reachable(graph, min(rest))
        found.append(component)
        rest -= component
    return found


def centre(graph: Graph, start: int) -> int:
    """A server in the middle of *start*'s component, so that a breadth-first tree from there is shallow.

    It is the middle of a long path, found by two breadth-first searches. In a tree this is a longest path and the
    result is exact; in other graphs it is an approximation.
    """
    end = spanning_tree(graph, start).levels[-1][0]
    tree = spanning_tree(graph, end)
    middle = tree.levels[-1][0]
    for _ in range((len(tree.levels) - 1) // 2):
        middle = tree.parents[middle]
    return middle


def gather_and_scatter(graph: Graph, parts: Iterable[set[int]]) -> list[dict[int, list[int]]]:
    """The steps in which the servers of each of these components come to hold the same store.

    Each step maps servers to the neighbours that they have to pull from. The updates move from the leaves of a spanning
    tree to its root, and then back. Within a step all servers of all components may work at the same time. A step may
    begin only when the preceding one has ended.
    """
    trees = [spanning_tree(graph, centre(graph, min(part))) for part in parts]
    depth = max((len(tree.levels) for tree in trees), default=0)
    steps: list[dict[int, list[int]]] = []
    for level in range(depth - 2, -1, -1):  # gather: parents pull from their children, the deepest level first
        step: dict[int, list[int]] = {}
        for tree in trees:
            children = tree.children()
            step |= {server: children[server] for server in tree.level(level) if server in children}
        steps.append(step)
    for level in range(1, depth):  # scatter: children pull from their parents
        steps.append({server: [tree.parents[server]] for tree in trees for server in tree.level(level)})
    return steps


FEW_RECORDS = 16
"""Up to how many records are listed in each request for updates. Beyond that, a fingerprint of the list comes first."""


class Router:
    """What one server knows of the links: its own for certain, those of others from the records that it received."""

    def __init__(self, server: int, incarnation: int) -> None:
        self.server = server
        self._incarnation = incarnation
        self._records: dict[int, tuple[tuple[int, int], frozenset[int]]] = {}
        self._tree: frozenset[int] | None = None  # `tree_neighbours`, unless a record has changed since
        self._fingerprint: bytes | None = None  # likewise
        self._write_own(frozenset())

    def _write_own(self, neighbours: frozenset[int]) -> None:
        known = self._records.get(self.server)
        number = known[0][1] + 1 if known else 0
        self._records[self.server] = ((self._incarnation, number), neighbours)
        self._tree = self._fingerprint = None

    @property
    def neighbours(self) -> frozenset[int]:
        """The servers that this one has a link to."""
        return self._records[self.server][1]

    def link(self, neighbour: int) -> None:
        """Add a link of this server. Adding one that exists changes nothing."""
        if neighbour not in self.neighbours:
            self._write_own(self.neighbours | {neighbour})

    def unlink(self, neighbour: int) -> None:
        """Remove a link of this server. Removing one that does not exist changes nothing."""
        if neighbour in self.neighbours:
            self._write_own(self.neighbours - {neighbour})

    def digest(self) -> dict[int, list[int]]:
        """Server -> the number of its record that is known here. A peer answers it with the result of `newer_than`."""
        return {server: list(number) for server, (number, _) in self._records.items()}

    def fingerprint(self) -> bytes:
        """A short text that is the same for all servers that know the same records."""
        if self._fingerprint is None:
            from hashlib import blake2b  # not at the top: small clusters have no use for it, and must start fast

            listed = sorted((server, *number) for server, (number, _) in self._records.items())
            self._fingerprint = blake2b(repr(listed).encode(), digest_size=16).digest()
        return self._fingerprint

    def summary(self) -> dict[int, list[int]] | bytes:
        """What a request for updates says of the records that are known here: the digest, or its fingerprint."""
        return self.digest() if len(self._records) <= FEW_RECORDS else self.fingerprint()

    def newer_than(self, digest: Mapping[int, list[int]]) -> list[Any]:
        """The records that a server with this digest lacks: `[[server, [incarnation, number], [neighbour, …]], …]`."""
        return [
            [server, list(number), sorted(neighbours)]
            for server, (number, neighbours) in sorted(self._records.items())
            if server not in digest or tuple(digest[server]) < number
        ]

    def lacks(self, digest: Mapping[int, list[int]]) -> bool:
        """Whether a server with this digest has a record that is newer than the one here, or is unknown here."""
        return any(
            server not in self._records or self._records[server][0] < tuple(number) for server, number in digest.items()
        )

    def merge(self, records: Iterable[Any]) -> bool:
        """Adopt those records from a peer that are newer than the ones here; returns whether there were any.

        Records of this server itself are ignored, since no other server can know its links better.
        """
        news = False
        for server, number, neighbours in records:
            numbered = (int(number[0]), int(number[1]))
            known = self._records.get(server)
            if server != self.server and (known is None or known[0] < numbered):
                self._records[server] = (numbered, frozenset(neighbours))
                self._tree = self._fingerprint = None
                news = True
        return news

    def graph(self) -> dict[int, set[int]]:
        """The links that are contained in the records of both ends."""
        recorded = {server: neighbours for server, (_, neighbours) in self._records.items()}
        return {
            server: {other for other in neighbours if server in recorded.get(other, ())}
            for server, neighbours in recorded.items()
        }

    def has_confirmed(self, neighbour: int) -> bool:
        """Whether a record of this neighbour is known that contains the link to it."""
        return neighbour in self._records and self.server in self._records[neighbour][1]

    def strangers(self) -> set[int]:
        """The neighbours that have not confirmed their link yet; none where there are but a few neighbours."""
        if len(self.neighbours) <= FEW_RECORDS:
            return set()
        return {neighbour for neighbour in self.neighbours if not self.has_confirmed(neighbour)}

    def tree_neighbours(self) -> frozenset[int]:
        """The neighbours to which news has to be passed on, so that it reaches everybody.

        They are those in the breadth-first tree of all links that are known, from a server in their middle; and those
        that have not confirmed their link yet.
        """
        if self._tree is None:
            graph = self.graph()
            tree = spanning_tree(graph, centre(graph, min(reachable(graph, self.server))))
            on_tree = {child for child, parent in tree.parents.items() if parent == self.server}
            if self.server != tree.root:
                on_tree.add(tree.parents[self.server])
            self._tree = frozenset(on_tree | (self.neighbours - graph[self.server]))
        return self._tree

    def reachable(self) -> set[int]:
        """The servers that this one can reach, as far as it knows, including itself.

        Its own links count even before the record of the other end has arrived.
        """
        graph = {neighbour: set[int]() for neighbour in self.neighbours} | self.graph()
        graph[self.server] = set(self.neighbours)
        return reachable(graph, self.server)


def covers(digest: Mapping[int, list[int]], other: Mapping[int, list[int]]) -> bool:
    """Whether who has the link records of the first digest (`Router.digest`) has those of the other, too."""
    return all(server in digest and tuple(digest[server]) >= tuple(number) for server, number in other.items())
