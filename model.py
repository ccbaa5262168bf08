"""The replica: what a put, a get, a printStore and an exchange of updates do to it.

May live here: the store of one replica, and the anti-entropy protocol as values in, values out.
May not: sockets, threads, locks, files or the time of day. server.py has those, and calls this under a lock.

Theory of operation
-------------------
The store holds, per key, the one write that stands over all others that the replica has met, by
`Version.order`. Because that order is total and the same everywhere, replicas that have met the same writes
hold the same store, in whatever order the writes came.

Writes move by *anti-entropy* (Demers et al., 1987), as pulls: A sends its context; B answers with writes that
stand in B's store and that A's context doesn't cover, and, when these are all of them, with its own context.

    A                                            B
    | -- request [A's context, cursor] --------> |   all that follows is computed at one instant:
    | <- answer [delta [writes, context], next]  |   B's standing writes that A lacks, at most ~1 MiB

A *delta* is `[writes, context or nil]`. A applies the writes, adding each one's dot to its own context, and only
then joins B's context, if there is one. A context comes only with an answer that leaves nothing out. For say B took
k=1 with its dot 1, then k=2 with its dot 2: dot 2 alone still stands, and B's context is {1, 2}. An answer with just
a part of B's writes may be without dot 2; had A joined the context all the same, it would claim to know of k without
having it, and nobody would ever send it.

If B has more than fits, the answer ends with a cursor, and A asks on from there; having reached the end it asks once
more from the start, with all it has by then. B keeps nothing between answers, so any of them may be lost, doubled or
cut off without harm. What is never sent again is what is not missing: B finds the missing writes through an index by
dot, so the cost follows what A lacks, not the size of the store (compare van Renesse et al., 2008, "Scuttlebutt").

The log on disk is a sequence of the same deltas. Recovery applies them as if a peer had sent them.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Any

import msgpack

from context import Context
from messages import Missing, Operation, Write, check_entry, checker
from vector_clock import EMPTY_CLOCK, Dot, Replica, Seen, Version, VersionOrder

__all__ = [
    "CHUNK_BYTES",
    "Model",
    "Pull",
    "largest_number_in",
    "pack_delta",
    "unpack_delta",
]

CHUNK_BYTES = 1 << 20
"""About how many bytes of writes one answer carries: it ends with the write that passes this mark."""


def pack_delta(writes: Iterable[Write], context: Context | None = None) -> bytes:
    """A delta as bytes: what a log record holds, and what an answer carries."""
    packed: bytes = msgpack.packb([[write.flat() for write in writes], context.flat() if context else None])
    return packed


def unpack_delta(delta: bytes, from_disk: bool = False) -> tuple[list[Write], Context | None]:
    """The inverse of `pack_delta`. Raises ValueError or TypeError for anything else.

    What comes *from_disk* is not looked at closely: it was when it came, and has a checksum.
    """
    writes, context = msgpack.unpackb(delta)
    if not from_disk:
        for key, value, timestamp, server, life, counter, seen in writes:
            check_entry(key, value, (timestamp, server, life, counter, *seen))
        if not _is_context(context):
            raise ValueError("not a context")
    return [Write.from_flat(flat) for flat in writes], Context.from_flat(context) if context else None


def largest_number_in(delta: bytes) -> int:
    """The largest timestamp or incarnation in a delta from the disk. Raises ValueError or TypeError if it is none."""
    writes, context = unpack_delta(delta, from_disk=True)
    numbers = [write.version.timestamp for write in writes]
    replicas = [write.version.dot.replica for write in writes]
    if context is not None:
        replicas += [*context.vector, *context.cloud]
    return max(numbers + [replica.incarnation for replica in replicas], default=0)


_is_context = checker(tuple[list[tuple[int, int, int]], list[tuple[int, int, list[int]]]] | None)


class _DotIndex:
    """The standing writes of one replica, by counter. Counters nearly always arrive in rising order."""

    __slots__ = ("_counters", "keys")

    def __init__(self) -> None:
        self.keys: dict[int, bytes] = {}
        self._counters: list[int] = []  # sorted; those that are not in `keys` stand no more

    def add(self, counter: int, key: bytes) -> None:
        self.keys[counter] = key
        if not self._counters or counter > self._counters[-1]:
            self._counters.append(counter)
        else:
            insort(self._counters, counter)

    def remove(self, counter: int) -> None:
        del self.keys[counter]
        if len(self._counters) > 2 * len(self.keys) + 64:
            self._counters = sorted(self.keys)

    def above(self, counter: int) -> Iterator[tuple[int, bytes]]:
        """The standing writes with larger counters, rising. The index must not change meanwhile."""
        for position in range(bisect_right(self._counters, counter), len(self._counters)):
            candidate = self._counters[position]
            if candidate in self.keys:
                yield candidate, self.keys[candidate]


class Model:
    """One replica. No method blocks; none is safe to call from two threads at once."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.context = Context()
        self.largest_timestamp = 0
        """Of all versions that the replica has met."""
        self.live_bytes = 0
        """About what a log of just the standing writes would take."""
        self._store: dict[bytes, Write] = {}
        self._dots: dict[Replica, _DotIndex] = {}

    # -- puts and gets -------------------------------------------------------------------------------------

    def decide(self, operations: Iterable[Operation]) -> tuple[list[Write | Missing], list[Write]]:
        """What comes of operations, carried out in order: (an answer for each, the writes that they make).

        The answer to a put is its write. Nothing changes yet: first the writes go into the log, then into `apply`.
        Writes that the log refuses have never been: their dots are free again.
        """
        answers: list[Write | Missing] = []
        writes: list[Write] = []
        counter = self.context.vector.get(self.replica, 0)
        fresh: dict[bytes, Write] = {}
        learnt: dict[tuple[int, bytes], Seen] = {}  # by the sessions, from the operations before
        for key, value, timestamp, before, session in operations:
            seen = learnt.get((session, key), before)
            standing = fresh.get(key) or self._store.get(key)
            if value is None:
                answer = self._read(standing, seen.order if seen else None)
                if isinstance(answer, Write):
                    learnt[session, key] = seen.then(answer.version) if seen else Seen.first(answer.version)
                answers.append(answer)
                continue
            counter += 1
            dot = Dot(self.replica, counter)
            write = Write(key, value, Version(timestamp, dot, (seen.clock if seen else EMPTY_CLOCK).with_dot(dot)))
            learnt[session, key] = Seen.first(write.version)
            if standing is None or write.version.order > standing.version.order:
                fresh[key] = write
            writes.append(write)
            answers.append(write)
        return answers, writes

    def answer_bytes(self, operations: Iterable[Operation]) -> int:
        """About how many bytes of values the answers to these operations have together, at most."""
        put: dict[bytes, int] = {}
        total = 0
        for key, value, *_ in operations:
            if value is not None:
                put[key] = max(len(value), put.get(key, 0))
            else:
                standing = self._store.get(key)
                total += max(len(standing.value) if standing else 0, put.get(key, 0))
        return total

    @staticmethod
    def _read(standing: Write | None, dependency: VersionOrder | None) -> Write | Missing:
        if standing is None:
            return Missing.KEY if dependency is None else Missing.DEPENDENCY
        # Not by the whole order: two dots with one timestamp are the same write, so neither is older.
        if dependency is not None and standing.version.timestamp < dependency[0]:
            return Missing.DEPENDENCY
        return standing

    def get(self, key: bytes, dependency: VersionOrder | None = None) -> Write | Missing:
        """The write that stands for *key*, unless it is older than *dependency*."""
        return self._read(self._store.get(key), dependency)

    def put(self, key: bytes, value: bytes, timestamp: int, seen: Seen | None = None) -> Write:
        """Take one write and apply it at once (for replicas without a log)."""
        _, writes = self.decide([Operation(key, value, timestamp, seen)])
        self.apply(writes)
        return writes[0]

    def writes(self) -> list[Write]:
        """All standing writes, sorted by key: what printStore shows."""
        return [self._store[key] for key in sorted(self._store)]

    # -- what a snapshot is made of (storage.Source) -------------------------------------------------------

    def keys(self) -> list[bytes]:
        """All keys that have a value, in no order."""
        return list(self._store)

    def size_of(self, key: bytes) -> int:
        """About what the standing write of *key* takes in the log, in bytes."""
        return self._store[key].size

    def delta_of(self, keys: Iterable[bytes]) -> bytes:
        """A delta with the standing writes of *keys*."""
        return pack_delta(self._store[key] for key in keys)

    def context_delta(self) -> bytes:
        """A delta with the context alone."""
        return pack_delta((), self.context)

    # -- learning ------------------------------------------------------------------------------------------

    def apply(self, writes: Iterable[Write], context: Context | None = None) -> None:
        """Take in writes, each unless one stands over it, and then a context that they complete.

        Doing it twice, or in another order, makes no difference to the store.
        """
        for write in writes:
            self.context.add(write.version.dot)
            self.largest_timestamp = max(self.largest_timestamp, write.version.timestamp)
            standing = self._store.get(write.key)
            if standing is None or standing.version.order < write.version.order:
                self._stand(write, standing)
        if context is not None:
            self.context.join(context)

    def _stand(self, write: Write, fallen: Write | None) -> None:
        if fallen is not None:
            self._dots[fallen.version.dot.replica].remove(fallen.version.dot.counter)
            self.live_bytes -= fallen.size
        replica, counter = write.version.dot
        index = self._dots.get(replica)
        if index is None:
            index = self._dots[replica] = _DotIndex()
        index.add(counter, write.key)
        self._store[write.key] = write
        self.live_bytes += write.size

    def is_news(self, writes: Iterable[Write], context: Context | None) -> bool:
        """Whether `apply` would change anything: the store, or the context."""
        if context is not None and not self.context.includes(context):
            return True
        return any(not self.context.covers(write.version.dot) for write in writes)

    # -- anti-entropy --------------------------------------------------------------------------------------

    def answer(self, request: list[Any]) -> list[Any]:
        """Answer a peer's pull `[context, cursor]`: `[delta, cursor to go on from or nil]`."""
        theirs, cursor = request
        wanted = self._missing_in(Context.from_flat(theirs), Dot.from_flat(cursor) if cursor else None)
        chunk: list[Write] = []
        size = 0
        for write in wanted:
            if size >= CHUNK_BYTES:
                (server, life), counter = chunk[-1].version.dot
                return [pack_delta(chunk), [server, life, counter]]
            chunk.append(write)
            size += write.size
        whole = cursor is None
        return [pack_delta(chunk, self.context if whole else None), None]

    def _missing_in(self, context: Context, after: Dot | None) -> Iterator[Write]:
        """The standing writes behind the dot *after* that *context* doesn't cover, sorted by dot."""
        for replica in sorted(self._dots):
            known = context.vector.get(replica, 0)
            if after is not None:
                if replica < after.replica:
                    continue
                if replica == after.replica:
                    known = max(known, after.counter)
            cloud = context.cloud.get(replica, ())
            for counter, key in self._dots[replica].above(known):
                if counter not in cloud:
                    yield self._store[key]


class Pull:
    """A's side of one pull: send `request`, hand the answer to `receive`, apply its delta, until `done`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._context = model.context.flat()
        self._cursor: list[int] | None = None
        self._whole = True
        self.done = False
        """Whether everything that the peer held, when it answered last, is here."""

    def request(self) -> list[Any]:
        """The next request."""
        if self._cursor is None and not self._whole:
            self._context, self._whole = self._model.context.flat(), True
        return [self._context, self._cursor]

    def receive(self, answer: list[Any]) -> bytes:
        """The delta in *answer*. It must be applied before the next `request`."""
        delta, self._cursor = answer
        if self._cursor is not None:
            self._whole = False
        self.done = self._cursor is None and self._whole
        return bytes(delta)
