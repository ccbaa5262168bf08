"""What has happened in a simulated cluster, written down from outside of it.

May live here: the record of all writes, and the rules about a single write that hold at the moment when it is logged.
May not: code that the store uses as well (this record must not share its mistakes), and what must hold after a step,
which is in promises.py.
"""

from __future__ import annotations

from messages import Write
from vector_clock import Dot, Replica, VersionOrder

__all__ = ["Truth", "Violation"]


class Violation(AssertionError):
    """Something that must hold does not."""


class Truth:
    """All writes that any log has taken, and what each server and each session must know of."""

    def __init__(self) -> None:
        self.writes: dict[Dot, Write] = {}
        self.held: dict[int, dict[bytes, VersionOrder]] = {}
        """Server -> key -> the largest version that its log has taken, in all its lives since its disk was lost."""
        self.acknowledged: dict[int, dict[bytes, int]] = {}
        """Server -> key -> the timestamp of the last put that it has acknowledged since its disk was lost."""
        self.seen: dict[tuple[int, bytes], int] = {}
        """(Client, key) -> the largest timestamp that the client's session has read or written."""
        self.issued: dict[bytes, int] = {}
        """Value -> the timestamp that its put was issued with. (No two puts have the same value.)"""
        self._executed: set[tuple[int, int]] = set()  # (server, timestamp) of each put that a server has carried out
        self._failed: set[int] = set()  # timestamps of puts that have failed, and are not uncertain

    def write_of(self, value: bytes) -> Write | None:
        """The write that has stored a value, if any log has taken it."""
        return next((write for write in self.writes.values() if write.value == value), None)

    def logged(self, replica: Replica, writes: list[Write]) -> None:
        """A server has logged these writes. Raises Violation."""
        held = self.held.setdefault(replica.server, {})
        for write in writes:
            dot = write.version.dot
            known = self.writes.setdefault(dot, write)
            if known != write:
                raise Violation(f"{dot} names both {known} and {write}")
            if known is write:
                self._check_new(replica, write)
            held[write.key] = max(held.get(write.key, write.version.order), write.version.order)

    def _check_new(self, replica: Replica, write: Write) -> None:
        """A write that no log has taken before must be a put that this server has just carried out."""
        server, timestamp = replica.server, write.version.timestamp
        if write.version.dot.replica != replica:
            raise Violation(f"server {server} has received {write}, which nobody has made")
        if timestamp != self.issued[write.value]:
            raise Violation(f"{write} was issued with the timestamp {self.issued[write.value]}")
        if (server, timestamp) in self._executed:
            raise Violation(f"server {server} has carried out the put of {write} twice")
        if timestamp in self._failed:
            raise Violation(f"server {server} has carried out {write}, whose put has failed")
        self._executed.add((server, timestamp))

    def acknowledge(self, client: int, server: int, key: bytes, timestamp: int) -> None:
        """A client's put was acknowledged by a server."""
        self.seen[client, key] = timestamp
        self.acknowledged.setdefault(server, {})[key] = timestamp

    def fail(self, timestamp: int) -> None:
        """A put was reported as failed: it stands nowhere, now or later. Raises Violation."""
        for write in self.writes.values():
            if write.version.timestamp == timestamp:
                raise Violation(f"{write} stands, though its put has failed")
        self._failed.add(timestamp)

    def take_back(self, server: int, writes: list[Write], held: dict[bytes, VersionOrder]) -> None:
        """These writes of a server, its last, have never happened. *held*: what it held before them."""
        for dot in [dot for dot, write in self.writes.items() if write in writes]:
            del self.writes[dot]
        self._executed -= {(server, write.version.timestamp) for write in writes}
        self.held[server] = held

    def forget_disk(self, server: int) -> None:
        """A server has lost its disk, or part of it: what it had is no longer promised."""
        self.held.pop(server, None)
        self.acknowledged.pop(server, None)

    def forget_session(self, client: int) -> None:
        """A client has died: the next one with its id begins a new session."""
        self.seen = {(owner, key): timestamp for (owner, key), timestamp in self.seen.items() if owner != client}
