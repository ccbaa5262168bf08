"""What happened to servers and links in a history, and when.

May live here: moments, the lives of servers, links, components, and when stabilize was called. May not: keys and their
versions (checking/spread.py), and what a line says (checking/checker.py).

Each line of a history has LINE moments. What the line reports happens at the first of them, or, if a get
asks several servers, at one even moment after another. Gossip happens at the odd moments.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

__all__ = ["FOREVER", "LINE", "Links", "Stabilize", "Timeline"]

LINE = 1 << 16
"""How many moments a line has: enough for a client with 30,000 connections."""

FOREVER = 1 << 62
"""Later than every moment, and larger than every version."""


class Links:
    """When two servers have been linked: open intervals, in order."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def first(self, time: int) -> int:
        """The first odd moment from *time* on at which they are linked."""
        time |= 1
        place = bisect_right(self.ends, time)
        return max(time, self.starts[place] + 1) if place < len(self.starts) else FOREVER

    def first_late(self, sent: int, until: int, time: int) -> tuple[int, int] | None:
        """The first odd moment from *time* on at which something can arrive, and the first at which it can be sent.

        It is sent at *sent* or later, and before *until*, over a link that then stands until it arrives. Returns
        (sent, arrived), or None if there is no such moment.
        """
        sent |= 1
        for place in range(bisect_right(self.ends, sent), len(self.starts)):
            begun = max(sent, self.starts[place] + 1)
            if begun >= until:
                break
            arrived = max(begun, time | 1)
            if arrived < self.ends[place]:
                return begun, arrived
        return None


class Stabilize(NamedTuple):
    """A call of stabilize: when it took place, and the components of more than one server then."""

    time: int
    topology: int
    """The number of the topology; equal topologies that follow each other have equal numbers."""
    components: list[frozenset[int]]


class Timeline:
    """What happened to servers and links, noted in the order of time."""

    def __init__(self, gossips: bool) -> None:
        """*gossips*: whether links carry updates without stabilize."""
        self.births: dict[int, int] = {}
        self.running: set[int] = set()
        self.stabilizes: list[Stabilize] = []
        self.neighbours: dict[int, dict[int, Links]] = {}
        """The links that may carry updates outside of stabilize. Without gossip these are only the ones of `burst`."""
        self.gossips = gossips
        self._links: dict[int, set[int]] = {}
        self._lingering: list[tuple[Links, int]] = []
        self._topology = 0
        self._components: list[frozenset[int]] | None = None

    def start(self, server: int, time: int) -> None:
        """A server starts, with links to all servers that are running."""
        self.births.setdefault(server, time)
        self.neighbours.setdefault(server, {})
        self._links[server] = set()
        for other in list(self.running):
            self.link(server, other, time)
        self.running.add(server)
        self._changed()

    def stop(self, server: int, time: int) -> None:
        """A server is killed."""
        for other in list(self._links[server]):
            self.unlink(server, other, time)
        self.running.discard(server)
        self._changed()

    def die(self, server: int, time: int) -> None:
        """A server was found dead.

        Nobody knows when it died; so gossip may have crossed its links until `settle`.
        """
        neighbours = self.neighbours[server]
        lingering = [
            (neighbours[other], len(neighbours[other].ends) - 1) for other in self._links[server] if self.gossips
        ]
        self.stop(server, time)
        for links, last in lingering:
            links.ends[last] = FOREVER
        self._lingering += lingering

    def settle(self, time: int) -> None:
        """The command that found servers dead is done: from now on nothing crosses their links."""
        for links, last in self._lingering:
            links.ends[last] = time
        self._lingering.clear()

    def link(self, one: int, other: int, time: int) -> None:
        """Two servers are linked."""
        if other not in self._links[one]:
            self._links[one].add(other)
            self._links[other].add(one)
            self._changed()
            if self.gossips:
                self._open(one, other, time)

    def unlink(self, one: int, other: int, time: int) -> None:
        """Two servers are cut from each other."""
        if other in self._links.get(one, ()):
            self._links[one].discard(other)
            self._links[other].discard(one)
            self._changed()
            if self.gossips:
                self.neighbours[one][other].ends[-1] = time

    def burst(self, time: int) -> None:
        """Links may have carried updates just before this moment, even if gossip is off."""
        if not self.gossips:
            for one, others in self._links.items():
                for other in others:
                    if one < other:
                        self._open(one, other, time - 2).ends[-1] = time

    def stabilize(self, time: int) -> None:
        """stabilize is done: within each component, all servers hold the same at this moment."""
        self.stabilizes.append(Stabilize(time, self._topology, self.components()))

    def is_whole(self) -> bool:
        """Whether all servers that were ever started are running and can reach each other."""
        servers = len(self.births)
        return len(self.running) == servers and (servers == 1 or [servers] == [len(part) for part in self.components()])

    def components(self) -> list[frozenset[int]]:
        """The sets of two or more servers that can reach each other."""
        if self._components is None:
            left, self._components = set(self.running), []
            while left:
                part, border = set(), [left.pop()]
                while border:
                    server = border.pop()
                    part.add(server)
                    border += self._links[server] & left
                    left -= self._links[server]
                if len(part) > 1:
                    self._components.append(frozenset(part))
        return self._components

    def _changed(self) -> None:
        self._topology += 1
        self._components = None

    def _open(self, one: int, other: int, time: int) -> Links:
        links = self.neighbours[one].get(other)
        if links is None:
            links = self.neighbours[one][other] = self.neighbours[other][one] = Links()
        links.starts.append(time)
        links.ends.append(FOREVER)
        return links
