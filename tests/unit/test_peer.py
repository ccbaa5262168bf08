"""A server without its sockets: what it takes in, what it refuses, and when it has something to tell."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

import msgpack
import pytest

from messages import Operation
from model import Model
from peer import FEW_STRANGERS, Answer, Exchange, GossipLoop, NotLinked, Peer, unpack_request
from router import FEW_RECORDS
from shape import NO_SHAPE, Shape
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


# -- links with a shape --------------------------------------------------------------------------------------


def gossiper() -> tuple[Peer, GossipLoop]:
    """A server with news for neighbours 1 and 2, which is due at time 1."""
    server, _ = peer(0)
    for neighbour in (1, 2):
        server.link(neighbour, "address", 0.0)
    return server, GossipLoop(server)


def begun(loop: GossipLoop, now: float) -> Exchange:
    """The next exchange, which must begin by now."""
    exchange = loop.next(now)
    assert exchange is not None
    return exchange


def test_while_an_exchange_is_under_way_others_begin_and_none_with_the_same_neighbour() -> None:
    server, loop = gossiper()
    assert loop.next(0.5) is None
    first, second = begun(loop, 1.0), begun(loop, 1.0)
    assert {first.neighbour, second.neighbour} == {1, 2}
    server.execute([Operation(b"k", b"v", 1, None)], 2.0)
    assert loop.next(5.0) is None, "both neighbours are busy"
    loop.done(second)
    again = begun(loop, 5.0)
    assert again.neighbour == second.neighbour, "the put came after the exchange had begun"
    loop.done(again)
    assert loop.next(5.0) is None, "nothing is new for this one any more"
    loop.done(first)
    assert begun(loop, 5.0).neighbour == first.neighbour


def test_what_a_neighbour_knows_more_is_asked_for_when_the_exchange_with_it_is_done() -> None:
    server, loop = gossiper()
    first, _ = begun(loop, 1.0), begun(loop, 1.0)
    neighbour, _ = peer(first.neighbour)
    neighbour.link(0, "address", 0.0)
    neighbour.execute([Operation(b"k", b"v", 1, None)], 1.0)
    server.answer_pull(neighbour.exchange(0, is_gossip=True).request())
    assert server.due == float("-inf")
    assert loop.next(2.0) is None
    assert server.due is None, "it is remembered, and keeps nobody busy"
    loop.done(first)
    assert begun(loop, 2.0).neighbour == first.neighbour


def test_an_exchange_that_has_failed_is_not_repeated_at_once() -> None:
    server, loop = gossiper()
    first, _ = begun(loop, 1.0), begun(loop, 1.0)
    server.execute([Operation(b"k", b"v", 1, None)], 1.0)
    assert loop.next(3.0) is None
    loop.failed(first, 3.0)
    assert loop.next(3.5) is None
    assert server.due == 4.0
    assert begun(loop, 4.0).neighbour == first.neighbour


def test_a_link_gets_a_shape_and_keeps_it_over_a_break() -> None:
    server, _ = peer(0)
    server.shape(1, Shape(0.2), 5)
    server.link(1, "address", 0.0)
    lanes = server.links[1].lanes
    assert lanes is not None
    assert lanes.shape == Shape(0.2)
    server.unlink(1, 0.0)
    server.link(1, "address", 0.0)
    assert server.links[1].lanes is lanes
    assert lanes.calls.send(100.0).due == 100.2
    server.link(1, "address", 0.0)
    assert lanes.calls.send(0.0).due == 0.2, "nothing waits behind what was under way before"
    server.link(2, "address", 0.0)
    assert server.links[2].lanes is None


def test_nothing_arrives_that_was_under_way_when_the_shape_changed() -> None:
    teller, hearer, _ = pair()
    hearer.shape(0, Shape(0.2), 5)
    exchange = hearer.exchange(0)
    packed = msgpack.packb(teller.answer_pull(exchange.request()))
    hearer.shape(0, Shape(0.2), 5)  # this changes nothing
    assert hearer.links[0] is exchange.link
    hearer.shape(0, NO_SHAPE, 5)
    with pytest.raises(NotLinked):
        exchange.receive(Answer.from_bytes(packed), 0.0)
    assert hearer.model.writes() == []
    assert hearer.router.neighbours == {0}, "the link is still there"
    pull(teller, hearer, 0.0)
    assert [write.value for write in hearer.model.writes()] == [b"v"]


def linked(servers: int, links: Iterable[tuple[int, int]]) -> list[Peer]:
    """Servers with these links, that know nothing of those of others yet."""
    made = [peer(server)[0] for server in range(servers)]
    for one, other in links:
        made[one].link(other, "address", 0.0)
        made[other].link(one, "address", 0.0)
    return made


def mesh(servers: int) -> list[Peer]:
    """Servers of which each is linked to each, and that know all links; nobody has anything to tell any more."""
    made = linked(servers, itertools.combinations(range(servers), 2))
    gossip_until_silent(made)
    return made


def gossip_until_silent(
    servers: list[Peer], now: float = 0.0, fails: Callable[[int, int, float], bool] = lambda *_: False
) -> list[tuple[int, int]]:
    """Let all servers gossip; returns the exchanges: (who asks, who answers).

    *fails* says of each whether it fails in the end: (who asks, who answers, the time).
    """
    found = []
    loops = [GossipLoop(server) for server in servers]
    while any(server.due is not None for server in servers):
        now += 10.0
        for server, loop in zip(servers, loops, strict=True):
            while (exchange := loop.next(now)) is not None:
                found.append((server.router.server, exchange.neighbour))
                if fails(*found[-1], now):
                    loop.failed(exchange, now)
                else:
                    carry_out(exchange, servers[exchange.neighbour], now)
                    loop.done(exchange)
    return found


def carry_out(exchange: Exchange, neighbour: Peer, now: float) -> list[bytes]:
    """Carry out an exchange; returns the packed requests."""
    requests = []
    while not exchange.done:
        requests.append(msgpack.packb(exchange.request()))
        packed = msgpack.packb(neighbour.answer_pull(unpack_request(requests[-1])))
        exchange.receive(Answer.from_bytes(packed), now)
    return requests


def test_in_a_mesh_news_goes_along_a_tree() -> None:
    servers = mesh(8)
    servers[3].execute([Operation(b"k", b"v", 1, None)], 0.0)
    exchanges = gossip_until_silent(servers)
    assert all(server.model.get(b"k") is not None for server in servers)
    assert len(exchanges) == 2 * (len(servers) - 1), "one to tell and one to ask, for each edge of the tree"


@pytest.mark.parametrize("servers", [20, 60])
def test_servers_that_have_just_been_linked_with_all_others_begin_with_a_few(servers: int) -> None:
    found = linked(servers, itertools.combinations(range(servers), 2))
    for server in found:
        server.execute([Operation(b"k%d" % server.router.server, b"v", 1, None)], 0.0)
    exchanges = gossip_until_silent(found)
    assert all(server.model.context == found[0].model.context for server in found)
    assert all(len(server.router.reachable()) == servers for server in found)
    assert len(exchanges) <= 2 * (FEW_STRANGERS + 1) * servers, "and not with each other"


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_links_and_the_failures_are_all_learn_everything(seed: int) -> None:
    """Some are linked with many and some with few; exchanges fail, for a time all those with the smallest servers."""
    chance = random.Random(seed)
    servers = chance.randrange(FEW_RECORDS + 2, 40)
    tree = {(chance.randrange(server), server) for server in range(1, servers)}
    density = chance.choice([0.0, 0.2, 0.8, 1.0])
    more = {pair for pair in itertools.combinations(range(servers), 2) if chance.random() < density}
    hubs = {(chance.randrange(3), server) for server in range(3, servers) if chance.random() < 0.5}
    found = linked(servers, sorted(tree | more | hubs))
    for server in chance.sample(found, 5):
        server.execute([Operation(b"k%d" % server.router.server, b"v", 1, None)], 0.0)
    frozen_until, share = chance.choice([0.0, 60.0]), chance.choice([0.0, 0.3])

    def fails(one: int, other: int, now: float) -> bool:
        return (min(one, other) < 3 and now < frozen_until) or chance.random() < share

    gossip_until_silent(found, 0.0, fails)
    assert all(server.model.context == found[0].model.context for server in found)
    assert all(len(server.model.writes()) == 5 for server in found)


def test_what_was_to_cross_a_broken_link_of_the_tree_goes_another_way() -> None:
    servers = mesh(4)
    (middle,) = servers[3].router.tree_neighbours()
    servers[3].execute([Operation(b"k", b"v", 1, None)], 0.0)
    servers[3].partners(50.0)  # its news is about to be told to the middle
    assert servers[3].due is None
    servers[3].unlink(middle, 50.0)
    servers[middle].unlink(3, 50.0)
    assert servers[3].due == 51.0
    gossip_until_silent(servers)
    assert all(server.model.get(b"k") is not None for server in servers)


def test_a_link_beside_the_tree_that_breaks_is_news_as_well() -> None:
    """It may be part of the trees of others."""
    servers = mesh(4)
    one, other, *_ = [server for server in servers if len(server.router.tree_neighbours()) == 1]
    one.unlink(other.router.server, 50.0)
    assert one.due == 51.0
    one.partners(60.0)
    one.unlink(other.router.server, 70.0)
    assert one.due is None, "there was no link any more"


def test_an_exchange_with_a_neighbour_beside_the_tree_that_fails_is_tried_again() -> None:
    """The neighbour has shown that it knows more, and believes that it will be asked."""
    servers = mesh(4)
    one, other, *_ = [server for server in servers if len(server.router.tree_neighbours()) == 1]
    other.execute([Operation(b"k", b"v", 1, None)], 0.0)
    carry_out(other.exchange(one.router.server, is_gossip=True), one, 50.0)
    loop = GossipLoop(one)
    exchange = loop.next(50.0)
    assert exchange is not None
    assert exchange.neighbour == other.router.server
    loop.failed(exchange, 50.0)
    again = loop.next(60.0)
    found = []
    while again is not None:
        found.append(again.neighbour)
        carry_out(again, servers[again.neighbour], 60.0)
        loop.done(again)
        again = loop.next(60.0)
    assert other.router.server in found
    assert one.model.get(b"k") is not None


def test_many_records_of_links_are_listed_only_for_a_neighbour_that_knows_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.FEW_RECORDS", 2)
    servers = mesh(3)
    request = servers[0].exchange(1).request()
    assert isinstance(request[2], bytes)
    assert len(carry_out(servers[0].exchange(1), servers[1], 50.0)) == 1
    servers[1].unlink(2, 50.0)
    requests = carry_out(servers[0].exchange(1), servers[1], 50.0)
    assert [type(unpack_request(packed)[2]) for packed in requests] == [bytes, dict]
    assert servers[0].router.digest() == servers[1].router.digest()


def test_a_neighbour_that_asks_for_the_list_again_and_again_gets_it_once() -> None:
    (one, _), (other, _) = peer(0), peer(1)
    one.link(1, "address", 0.0)
    other.link(0, "address", 0.0)
    exchange = one.exchange(1)
    for _ in range(2):
        assert not exchange.done
        pulled, _ = other.answer_pull(exchange.request()) or []
        exchange.receive(Answer.from_bytes(msgpack.packb([pulled, None])), 0.0)
    assert exchange.done
