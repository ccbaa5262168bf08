"""What a replica knows of: a version vector, and a cloud of dots beyond it.

May live here: the bookkeeping of dots. May not: keys, values, sockets, threads, files or the time of day.

Theory of operation
-------------------
A replica must be able to say "I know all of this" in few bytes, so that a peer sends it only the rest. For
each replica the *version vector* holds a counter up to which everything is known; the *cloud* holds single
dots above that counter (Almeida et al., 2018, "Delta state replicated data types"). Where the cloud's dots
close up with the vector, they move into it:

    A's writes 1, 2, 3 and 5 are known       vector {A: 3}   cloud {A: {5}}
    and now its write 4                      vector {A: 5}   cloud {}

All safety rests on one invariant:

    a replica whose context covers a dot holds that write, or one that stands over it.

So a context may be joined with a peer's only when everything that the peer held is here already.
"""

from __future__ import annotations

from typing import Any

from vector_clock import Dot, Replica

__all__ = ["Context"]


class Context:
    """A mutable set of dots, kept as a version vector and a cloud. Adding is the only change."""

    __slots__ = ("cloud", "vector")

    def __init__(self) -> None:
        self.vector: dict[Replica, int] = {}
        self.cloud: dict[Replica, set[int]] = {}

    def covers(self, dot: Dot) -> bool:
        """Whether *dot* is known."""
        replica, counter = dot
        return counter <= self.vector.get(replica, 0) or counter in self.cloud.get(replica, ())

    def includes(self, other: Context) -> bool:
        """Whether everything that *other* knows is known here."""
        for replica, counter in other.vector.items():
            known = self.vector.get(replica, 0)
            if known < counter and not self.cloud.get(replica, set()).issuperset(range(known + 1, counter + 1)):
                return False
        return all(
            self.covers(Dot(replica, counter)) for replica, counters in other.cloud.items() for counter in counters
        )

    def add(self, dot: Dot) -> None:
        """Learn of one dot."""
        replica, counter = dot
        known = self.vector.get(replica, 0)
        if counter == known + 1:
            self.vector[replica] = counter
            if replica in self.cloud:
                self._close_up(replica)
        elif counter > known:
            self.cloud.setdefault(replica, set()).add(counter)

    def join(self, other: Context) -> None:
        """Learn of everything that *other* knows."""
        for replica, counter in other.vector.items():
            if self.vector.get(replica, 0) < counter:
                self.vector[replica] = counter
        for replica, counters in other.cloud.items():
            self.cloud.setdefault(replica, set()).update(counters)
        for replica in list(self.cloud):
            self._close_up(replica)

    def _close_up(self, replica: Replica) -> None:
        """Move the cloud's dots that follow the vector into it, and forget those that it covers."""
        counter, dots = self.vector.get(replica, 0), self.cloud[replica]
        while counter + 1 in dots:
            counter += 1
        if counter:
            self.vector[replica] = counter
        rest = {dot for dot in dots if dot > counter}
        if rest:
            self.cloud[replica] = rest
        else:
            del self.cloud[replica]

    def flat(self) -> list[Any]:
        """The context as plain lists for the wire and the log; equal contexts give equal lists.

        `[[server, incarnation, counter], …], [[server, incarnation, [counter, …]], …]`, all sorted.
        """
        vector = [[server, life, counter] for (server, life), counter in sorted(self.vector.items())]
        cloud = [[server, life, sorted(dots)] for (server, life), dots in sorted(self.cloud.items())]
        return [vector, cloud]

    @classmethod
    def from_flat(cls, flat: list[Any]) -> Context:
        """The inverse of `flat`."""
        context = cls()
        vector, cloud = flat
        context.vector = {Replica(server, life): counter for server, life, counter in vector}
        context.cloud = {Replica(server, life): set(dots) for server, life, dots in cloud}
        return context

    def copy(self) -> Context:
        """An independent copy."""
        twin = Context()
        twin.vector = dict(self.vector)
        twin.cloud = {replica: set(dots) for replica, dots in self.cloud.items()}
        return twin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self.vector == other.vector and self.cloud == other.cloud

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Context({self.flat()})"
