"""What the story of a run consists of: who did what, what caused it, and where each write was at every moment.

May live here: the parts of a story, as the page receives them. May not: how a story is made from traces
(checking/telling.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "MASTER",
    "Arrival",
    "Life",
    "Loss",
    "Message",
    "ServerAnswer",
    "Story",
    "StoryEvent",
    "StoryOperation",
    "StoryWrite",
]

MASTER = "master"


@dataclass
class StoryEvent:
    """An event of the story."""

    process: int
    time: float
    """Microseconds since the run began."""
    kind: str
    """The name of the event, as in rpc/tracing.py."""
    clock: dict[int, int]
    """Process -> number, for each entry of the process's vector clock that is new or has changed."""
    text: str = ""
    where: str = ""
    operation: int | None = None
    writes: list[int] = field(default_factory=list)
    printed: str = ""
    """What the command printed."""


@dataclass
class Message:
    """A call or an answer that has arrived: from one event to another."""

    sent: int
    received: int
    name: str
    answer: bool
    operations: list[int] = field(default_factory=list)
    """The operations that it is about."""
    writes: list[int] = field(default_factory=list)
    """The writes that it brought and that the receiver lacked."""


@dataclass
class Loss:
    """A call or an answer that was lost on its way, over a link with a shape. It may have been sent again."""

    event: int
    """The event of the process that calls; at its time, the message was sent."""
    sender: int
    receiver: int
    name: str
    answer: bool


@dataclass
class Arrival:
    """A write has come to a server."""

    server: int
    event: int
    source: int | None
    """The server that it came from; None if a client put it here."""
    message: int | None
    stood: bool
    """Whether it replaced what was there."""


@dataclass
class StoryWrite:
    """A write."""

    key: str
    value: str
    timestamp: int
    dot: str
    clock: list[str]
    """The entries of its vector clock, spelled like dots."""
    concurrent: list[int] = field(default_factory=list)
    """The concurrent writes that it met at some server."""
    operation: int | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    """The operations that read it."""


@dataclass
class ServerAnswer:
    """A server has carried out an operation."""

    server: int
    event: int
    answer: str
    """"stored", "value", "ERR_KEY" or "ERR_DEP"."""
    standing: int | None
    """The write of the key that the server held before."""


@dataclass
class StoryOperation:
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
    """The event at the client, which knows the outcome; None if no outcome ever reached it."""
    outcome: str = ""
    asked: list[ServerAnswer] = field(default_factory=list)
    write: int | None = None
    """The write that it made or read."""
    seen: int | None = None
    """The largest write of the key that the session had seen before."""
    seen_by: int | None = None
    """The operation in which the session saw that write."""
    why: list[str] = field(default_factory=list)


@dataclass
class Life:
    """One life of a server: it ran from one event to another, or to the end."""

    process: int
    began: int
    ended: int | None


@dataclass
class Story:
    """The whole story, in the order of time. Processes, events, writes and so on are numbered by their position."""

    version: str = ""
    options: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    """Where the commands came from."""
    length: float = 0.0
    processes: list[str] = field(default_factory=list)
    events: list[StoryEvent] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    operations: list[StoryOperation] = field(default_factory=list)
    writes: list[StoryWrite] = field(default_factory=list)
    changes: list[tuple[int, int, str, int | None]] = field(default_factory=list)
    """(event, server, key, the write that stands from then on)."""
    lives: list[Life] = field(default_factory=list)
    partitions: list[tuple[int, list[list[int]]]] = field(default_factory=list)
    """(event, the components of the running servers from then on)."""
    staleness: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, how many keys differ between running servers, how many of them differ even within a partition)."""

    def lose(self, event: int, caller: int, called: int, name: str, answer: bool) -> None:
        """Add a message that was lost."""
        sender, receiver = (called, caller) if answer else (caller, called)
        self.losses.append(Loss(event, sender, receiver, name, answer))

    def plain(self) -> dict[str, Any]:
        """Return the story as values for JSON."""
        return asdict(self)
