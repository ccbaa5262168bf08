"""The parts of a simulated cluster: a server with its disk, a client, and a message of gossip.

May live here: the state that each of them has, and how a disk fails. May not: what connects them (world.py), and a
second copy of what the real parts do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from checking.simulator.truth import Truth
from messages import Write
from model import Model, unpack_delta
from peer import GossipLoop, Peer
from records import HEADER
from session import Session
from storage import Storage, StorageError
from vector_clock import VersionOrder

__all__ = ["Asked", "Client", "Crash", "Disk", "Message", "Server"]


class Crash(Exception):
    """A server process has died in the middle of what it was doing."""


class Asked(NamedTuple):
    """A request that a server waits for the answer of."""

    number: int
    at: float


class Server:
    """A server id: its folder, and its process while it has one."""

    def __init__(self, ident: int, folder: Path) -> None:
        self.ident = ident
        self.folder = folder
        self.peer: Peer
        self.disk: Disk | None = None
        self.full = False
        """Whether its disk refuses every write."""
        self.fuse: int | None = None
        """Where in its next write to the log the server will die: the second number of the step `fuse`."""
        self.freeze: int | None = None
        """When it will fall silent in its next group: one of the moments in calls.py."""
        self.unsync = False
        """Whether the sync of its log will fail in its next group."""
        self.last_group: int | None = None
        """The group that the last record of the log belongs to, if any; `last_writes` are the writes in that record."""
        self.last_writes: list[Write] = []
        self.held_before_group: dict[bytes, VersionOrder] = {}
        # the thread that gossips:
        self.gossip: GossipLoop
        self.asked: dict[int, Asked] = {}
        """Neighbour -> the last request of the exchange with it."""

    @property
    def running(self) -> bool:
        return self.disk is not None

    def store(self) -> dict[bytes, Write]:
        """What stands in its store, by key."""
        return {write.key: write for write in self.peer.model.writes()}


class Disk:
    """A server's log, which may be full, or be the end of the server. It reports to *truth* what it has taken."""

    def __init__(self, server: Server, log: Storage, truth: Truth) -> None:
        self._server = server
        self._log = log
        self._truth = truth

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        """Log a record, as `Storage.append` does. Raises StorageError; Crash where the fuse says so."""
        self._server.last_group = None
        if self._server.full:
            raise StorageError("no space left on device")
        fuse, self._server.fuse = self._server.fuse, None
        if fuse is None or fuse % 3 == 2:
            writes = unpack_delta(delta)[0]
            self._server.held_before_group = dict(self._truth.held.get(self._server.ident, {}))
            self._server.last_group, self._server.last_writes = group, writes
            self._log.append(delta, source, group)
            self._truth.logged(self._server.peer.model.replica, writes)
        elif fuse % 3 == 1:
            self._tear(delta, source, fuse)
        if fuse is not None:
            raise Crash

    def renew(self, source: Model) -> None:
        """Begin a new log, as `Storage.renew` does. Raises StorageError."""
        if self._server.full:
            raise StorageError("no space left on device")
        self._log.renew(source)

    def fail_to_sync(self) -> None:
        """Sync the log on a device that reports an error."""
        with _failing_fsync():
            try:
                self._log.sync()
            except StorageError:
                pass

    def close(self) -> None:
        self._log.close()

    def _tear(self, delta: bytes, source: Model, where: int) -> None:
        """Leave only the beginning of the record in the file."""
        self._log.append(delta, source)
        logs = [path for path in self._server.folder.glob("log.*") if path.suffix[1:].isdigit()]
        path = max(logs, key=lambda path: int(path.suffix[1:]))
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(size - 1 - where % (len(delta) + HEADER.size))


@contextmanager
def _failing_fsync() -> Iterator[None]:
    """Within this block, nothing can be brought to the device itself."""

    def fail(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    usual = os.fsync
    vars(os).update(fsync=fail)
    try:
        yield
    finally:
        vars(os).update(fsync=usual)


class Message(NamedTuple):
    """A message of gossip, from one life of a server to a life of another."""

    sender: Peer
    receiver: Peer
    number: int
    """Pairs an answer with its request."""
    is_request: bool
    body: bytes | None
    link: int
    """The number of the link that it was sent over; each link that is made, or gets another shape, has a new number."""
    due: float
    """When it arrives, at the earliest."""


class Client:
    """A client id: the session, and what its connections must be."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.session = Session()
        self.connections: list[int] = []
        self.late: int | None = None
        """What will become of its part of the next group: one of the mishaps in calls.py."""
