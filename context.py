"""The context of a replica: the dots of all writes that it knows of, as a version vector and a cloud.

May live here: the bookkeeping of dots. May not: keys, values, sockets, threads, files or the time of day.

Theory of operation
-------------------
A replica must be able to describe in few bytes which writes it knows, so that a peer sends it only the others. The
*version vector* holds, for each replica, a counter up to which all writes of that replica are known. The *cloud* holds
single dots above that counter (Almeida et al., 2018, "Delta state replicated data types"). Dots of the cloud that
follow the vector without a gap move into the vector:

    A's writes 1, 2, 3 and 5 are known       vector {A: 3}   cloud {A: {5}}
    A's write 4 becomes known as well        vector {A: 5}   cloud {}

All safety rests on one invariant:

    a replica whose context covers a dot holds the write with that dot, or one that stands over it.

Therefore a replica may join a peer's context with its own only after it has received all writes that the peer held.
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
        """Whether this context covers every dot that *other* covers."""
        for replica, counter in other.vector.items():
            known = self.vector.get(replica, 0)
            if known < counter and not self.cloud.get(replica, set()).issuperset(range(known + 1, counter + 1)):
                return False
        return all(
            self.covers(Dot(replica, counter)) for replica, counters in other.cloud.items() for counter in counters
        )

    def add(self, dot: Dot) -> None:
        """Add one dot."""
        replica, counter = dot
        known = self.vector.get(replica, 0)
        if counter == known + 1:
            self.vector[replica] = counter
            if replica in self.cloud:
                self._close_up(replica)
        elif counter > known:
            self.cloud.setdefault(replica, set()).add(counter)

    def join(self, other: Context) -> None:
        """Add every dot that *other* covers."""
        for replica, counter in other.vector.items():
            if self.vector.get(replica, 0) < counter:
                self.vector[replica] = counter
        for replica, counters in other.cloud.items():
            self.cloud.setdefault(replica, set()).update(counters)
        for replica in list(self.cloud):
            self._close_up(replica)

    def _close_up(self, replica: Replica) -> None:
        """Move the dots of the cloud that follow the vector without a gap into it, and drop those that it covers."""
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
        """The context as plain lists, for messages and the log; equal contexts give equal lists.

        The lists are `[[server, incarnation, counter], …]` and `[[server, incarnation, [counter, …]], …]`, all sorted.
        """
        vector = [[server, incarnation, counter] for (server, incarnation), counter in sorted(self.vector.items())]
        cloud = [[server, incarnation, sorted(dots)] for (server, incarnation), dots in sorted(self.cloud.items())]
        return [vector, cloud]

    @classmethod
    def from_flat(cls, flat: list[Any]) -> Context:
        """The inverse of `flat`."""
        context = cls()
        vector, cloud = flat
        context.vector = {Replica(server, incarnation): counter for server, incarnation, counter in vector}
        context.cloud = {Replica(server, incarnation): set(dots) for server, incarnation, dots in cloud}
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
