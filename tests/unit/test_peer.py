"""A server without its sockets: what it takes in, what it refuses, and when it has something to tell."""

from __future__ import annotations

import msgpack
import pytest

from messages import Operation
from model import Model
from peer import Answer, Peer
from storage import StorageError
from vector_clock import Replica


class Disk:
    """A log that is full, or not; what is written to it doesn't matter here."""

    full = False
    renewed = 0

    def renew(self, source: Model) -> None:
        self.renewed += 1

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        if self.full:
            raise StorageError("the disk is full")


def peer(server: int) -> tuple[Peer, Disk]:
    made, disk = Peer(Replica(server, 1), gossip_interval=1.0), Disk()
    made.start(disk)
    return made, disk


def pair() -> tuple[Peer, Peer, Disk]:
    """Two linked servers, of which the first has a put and a further link to tell; and the disk of the second."""
    (teller, _), (hearer, disk) = peer(0), peer(1)
    teller.link(1, "address", 0.0)
    hearer.link(0, "address", 0.0)
    teller.link(2, "address", 0.0)
    teller.model.put(b"k", b"v", 1)
    assert hearer.partners(2.0) == [0]  # it has told of its link, and has no news any more
    return teller, hearer, disk


def pull(teller: Peer, hearer: Peer, now: float) -> None:
    """One exchange: the hearer learns what the teller knows."""
    exchange = hearer.exchange(0)
    while not exchange.done:
        packed = msgpack.packb(teller.answer_pull(exchange.request()))
        exchange.receive(Answer.from_bytes(packed), now)


def test_what_a_full_disk_refuses_is_not_known_by_half() -> None:
    """Found by scripts/simulate.py: links were taken note of, though the writes that came along were refused; when
    these came again, the links were no news any more, and never told to anybody."""
    teller, hearer, disk = pair()
    disk.full = True
    with pytest.raises(StorageError):
        pull(teller, hearer, 10.0)
    assert 0 not in hearer.router.digest()
    assert hearer.model.writes() == []
    assert hearer.due is None
    disk.full = False
    pull(teller, hearer, 20.0)
    assert [write.value for write in hearer.model.writes()] == [b"v"]
    assert hearer.due == 21.0


def test_a_log_is_written_anew_only_when_its_group_is_settled() -> None:
    """And then it is: until that has been done, storage.py refuses every put."""
    server, disk = peer(0)
    assert server.renew_log()
    server.groups.of(1, 1)
    server.execute([Operation(b"k", b"v", 1, None)], 0.0, group=1)
    assert not server.renew_log()
    server.release_group()
    assert server.renew_log()
    assert disk.renewed == 2
