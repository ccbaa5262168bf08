"""The replica: what a put, a get, a printStore and an exchange of updates do to it.

May live here: the store of one replica, and the anti-entropy protocol as functions from values to values.
May not: sockets, threads, locks, files or the time of day. server.py has those, and calls this under a lock.

Theory of operation
-------------------
For each key, the store holds one write: the largest, by `Version.order`, of all writes to this key that the replica
has received. This write is called the *standing* write. The order is total and the same at every replica. Therefore
replicas that have received the same writes hold the same store, in whatever order the writes arrived.

Writes spread by *anti-entropy* (Demers et al., 1987). In each exchange one replica, A, pulls from another, B. A sends
its context, which describes the writes that A knows of. B answers with the standing writes of its own store that this
context does not cover. If these are all of them, B adds its own context.

    A                                            B
    | -- request [A's context, cursor] --------> |   B computes the whole answer at one instant:
    | <- answer [delta [writes, context], next]  |   its standing writes that A lacks, about 1 MiB at most

A *delta* is `[writes, context or nil]`. A applies the writes and adds the dot of each to its own context. Only then
does it join its context with B's, if the delta contains one.

Why does the context come only with an answer that omits nothing? Suppose that B has taken k=1 with dot 1, and then k=2
with dot 2. Only dot 2 is standing, but B's context is {1, 2}. An answer that contains only a part of B's writes may
lack dot 2. If A joined the context nevertheless, A would claim to know of k without having it, and no replica would
ever send it k again.

If the missing writes do not fit into one answer, the answer ends with a cursor, and A continues from there. When A has
reached the end, it asks once more from the start, with everything that it has by then. B remembers nothing between
two answers, so any answer may be lost, duplicated or cut off without harm. B finds the missing writes through an index
by dot. The cost of an exchange is therefore proportional to what A lacks, and independent of the size of the store
(compare van Renesse et al., 2008, "Scuttlebutt").

The log on disk is a sequence of deltas of the same form. Recovery applies them as if a peer had sent them.
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
"""The approximate size of one answer, in bytes of writes: it ends with the write that exceeds this size."""


def pack_delta(writes: Iterable[Write], context: Context | None = None) -> bytes:
    """A delta as bytes: the content of a log record, and of an answer."""
    packed: bytes = msgpack.packb([[write.flat() for write in writes], context.flat() if context else None])
    return packed


def unpack_delta(delta: bytes, from_disk: bool = False) -> tuple[list[Write], Context | None]:
    """The inverse of `pack_delta`. Raises ValueError or TypeError if the bytes are no delta.

    A delta *from_disk* is not checked in detail: it was checked when it was received, and a checksum protects it.
    """
    writes, context = msgpack.unpackb(delta)
    if not from_disk:
        for key, value, timestamp, server, incarnation, counter, seen in writes:
            check_entry(key, value, (timestamp, server, incarnation, counter, *seen))
        if not _is_context(context):
            raise ValueError("not a context")
    return [Write.from_flat(flat) for flat in writes], Context.from_flat(context) if context else None


def largest_number_in(delta: bytes) -> int:
    """The largest timestamp or incarnation in a delta from disk. Raises ValueError or TypeError if it is none."""
    writes, context = unpack_delta(delta, from_disk=True)
    numbers = [write.version.timestamp for write in writes]
    replicas = [write.version.dot.replica for write in writes]
    if context is not None:
        replicas += [*context.vector, *context.cloud]
    return max(numbers + [replica.incarnation for replica in replicas], default=0)


_is_context = checker(tuple[list[tuple[int, int, int]], list[tuple[int, int, list[int]]]] | None)


class _DotIndex:
    """The standing writes that one replica took, by counter. Counters nearly always arrive in ascending order."""

    __slots__ = ("_counters", "keys")

    def __init__(self) -> None:
        self.keys: dict[int, bytes] = {}
        self._counters: list[int] = []  # sorted; those that are not in `keys` are no longer standing

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
        """The standing writes with larger counters, in ascending order. The index must not change meanwhile."""
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
        """The largest timestamp of all versions that the replica has received."""
        self.live_bytes = 0
        """The approximate size, in bytes, of a log that holds only the standing writes."""
        self._store: dict[bytes, Write] = {}
        self._dots: dict[Replica, _DotIndex] = {}

    # -- puts and gets -------------------------------------------------------------------------------------

    def decide(self, operations: Iterable[Operation]) -> tuple[list[Write | Missing], list[Write]]:
        """The results of operations, carried out in order: (an answer for each, the writes that they make).

        The answer to a put is its write. Nothing changes yet: the writes must be logged first, and then applied.
        If the log refuses them, they have never existed, and their dots are used again.
        """
        answers: list[Write | Missing] = []
        writes: list[Write] = []
        counter = self.context.vector.get(self.replica, 0)
        fresh: dict[bytes, Write] = {}
        learnt: dict[tuple[int, bytes], Seen] = {}  # by (session, key), from the preceding operations
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
        """An upper bound, approximately, on the bytes of values in the answers to these operations."""
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
        # Only timestamps are compared: two dots with the same timestamp are the same write, so neither is older.
        if dependency is not None and standing.version.timestamp < dependency[0]:
            return Missing.DEPENDENCY
        return standing

    def get(self, key: bytes, dependency: VersionOrder | None = None) -> Write | Missing:
        """The standing write of *key*, unless it is older than *dependency*."""
        return self._read(self._store.get(key), dependency)

    def put(self, key: bytes, value: bytes, timestamp: int, seen: Seen | None = None) -> Write:
        """Make one write and apply it at once (for replicas without a log)."""
        _, writes = self.decide([Operation(key, value, timestamp, seen)])
        self.apply(writes)
        return writes[0]

    def writes(self, key: bytes | None = None) -> list[Write]:
        """All standing writes, sorted by key: what printStore shows. With a *key*, only its own, if there is one."""
        keys = sorted(self._store) if key is None else [key] if key in self._store else []
        return [self._store[key] for key in keys]

    # -- what a snapshot is made of (compaction.Source) -------------------------------------------------------

    def keys(self) -> list[bytes]:
        """All keys that have a value, in no particular order."""
        return list(self._store)

    def size_of(self, key: bytes) -> int:
        """The approximate size of the standing write of *key* in the log, in bytes."""
        return self._store[key].size

    def delta_of(self, keys: Iterable[bytes]) -> bytes:
        """A delta with the standing writes of *keys*."""
        return pack_delta(self._store[key] for key in keys)

    def context_delta(self) -> bytes:
        """A delta that holds only the context."""
        return pack_delta((), self.context)

    # -- updates -------------------------------------------------------------------------------------------

    def apply(self, writes: Iterable[Write], context: Context | None = None) -> None:
        """Apply writes, except those that are older than the standing ones, and then join a context that they complete.

        The resulting store is the same if writes are applied twice, or in another order.
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
        """The answer to a peer's request `[context, cursor]`: `[delta, cursor to continue from, or nil]`."""
        theirs, cursor = request
        wanted = self._missing_in(Context.from_flat(theirs), Dot.from_flat(cursor) if cursor else None)
        chunk: list[Write] = []
        size = 0
        for write in wanted:
            if size >= CHUNK_BYTES:
                (server, incarnation), counter = chunk[-1].version.dot
                return [pack_delta(chunk), [server, incarnation, counter]]
            chunk.append(write)
            size += write.size
        whole = cursor is None
        return [pack_delta(chunk, self.context if whole else None), None]

    def _missing_in(self, context: Context, after: Dot | None) -> Iterator[Write]:
        """The standing writes after the dot *after* that *context* does not cover, sorted by dot."""
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
    """The asking side of a pull. Until `done`, send `request`, pass the answer to `receive` and apply the delta."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._context = model.context.flat()
        self._cursor: list[int] | None = None
        self._whole = True
        self.done = False
        """Whether this replica has everything that the peer held when it gave its last answer."""

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
