"""What a story consists of: who did what, what caused it, and where each write was at every moment.

May live here: the parts of a story, as the page gets them. May not: how it is told from traces (checking/telling.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MASTER", "Arrival", "Asked", "Done", "Life", "Message", "Moment", "Story", "Told"]

MASTER = "master"


@dataclass
class Moment:
    """An event of the story."""

    process: int
    time: float
    """Microseconds since the run began."""
    kind: str
    """As in rpc/tracing.py."""
    clock: dict[int, int]
    """The entries of the process's vector clock, by process, that are new."""
    text: str = ""
    where: str = ""
    operation: int | None = None
    writes: list[int] = field(default_factory=list)
    printed: str = ""
    """By the command."""


@dataclass
class Message:
    """A call or an answer that has arrived: from one event to another."""

    sent: int
    received: int
    name: str
    answer: bool
    operations: list[int] = field(default_factory=list)
    """Those that it is about."""
    writes: list[int] = field(default_factory=list)
    """What it brought that the receiver lacked."""


@dataclass
class Arrival:
    """A write has come to a server."""

    server: int
    event: int
    source: int | None
    """The server that it came from; None for the client that put it."""
    message: int | None
    stood: bool
    """Whether it stood over what was there."""


@dataclass
class Told:
    """A write, as the story tells it."""

    key: str
    value: str
    timestamp: int
    dot: str
    clock: list[str]
    """Its entries, spelled like dots."""
    concurrent: list[int] = field(default_factory=list)
    """The writes that it met on some server, and that knew nothing of it, nor it of them."""
    operation: int | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    """The operations that read it."""


@dataclass
class Asked:
    """A server has carried out an operation."""

    server: int
    event: int
    answer: str
    """stored, value, ERR_KEY or ERR_DEP."""
    standing: int | None
    """The write that it had, and would have answered with."""


@dataclass
class Done:
    """An operation: a put or a get of a client."""

    client: int
    put: bool
    key: str
    value: str
    where: str
    timestamp: int
    began: float
    command: int | None
    ended: float = 0.0
    event: int | None = None
    """The client's, which knows the outcome; None where that never came."""
    outcome: str = ""
    asked: list[Asked] = field(default_factory=list)
    write: int | None = None
    """The write that it made or read."""
    seen: int | None = None
    """The largest write of the key that the session had seen before."""
    seen_by: int | None = None
    """The operation by which it had."""
    why: list[str] = field(default_factory=list)


@dataclass
class Life:
    """A server was there from one event to another, or to the end."""

    process: int
    began: int
    ended: int | None


@dataclass
class Story:
    """Everything, in the order of time. Processes, events, writes and the others are known by their position."""

    version: str = ""
    options: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    """Where the commands came from."""
    length: float = 0.0
    processes: list[str] = field(default_factory=list)
    events: list[Moment] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    operations: list[Done] = field(default_factory=list)
    writes: list[Told] = field(default_factory=list)
    changes: list[tuple[int, int, str, int | None]] = field(default_factory=list)
    """(event, server, key, the write that stands from then on)."""
    lives: list[Life] = field(default_factory=list)
    partitions: list[tuple[int, list[list[int]]]] = field(default_factory=list)
    """(event, the components of the servers from then on)."""
    staleness: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, keys that are not the same on all running servers, those that are not even within a partition)."""

    def plain(self) -> dict[str, Any]:
        """As values for JSON."""
        return asdict(self)
