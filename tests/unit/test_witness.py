"""Which gets a master knows can't be ERR_DEP, and what it says of those that are."""

from __future__ import annotations

from control.overview import ClientOverview, Overview
from control.witness import Witness
from messages import Command, Done, Stored, Unsatisfied, Value

PUT, GET = Command("put", (5,), b"k", b"v"), Command("get", (5,), b"k")


class Three:
    """Servers 0 to 2, of which 0 is killed, and client 5: what a witness asks a cluster."""

    def __init__(self, connections: tuple[int, ...], standing: dict[int, tuple[bytes, int] | None]) -> None:
        self._connections = connections
        self._standing = standing

    def overview(self) -> Overview:
        clients = {5: ClientOverview(50, self._connections)}
        return Overview({0: None, 1: 11, 2: 12}, {1: frozenset({2}), 2: frozenset({1})}, clients, {}, {})

    def connections(self, client: int) -> tuple[int, ...]:
        return self._connections if client == 5 else ()

    def standing(self, key: bytes) -> dict[int, tuple[bytes, int] | None]:
        return self._standing


def witness(connections: tuple[int, ...], standing: dict[int, tuple[bytes, int] | None] | None = None) -> Witness:
    return Witness(lambda: Three(connections, standing or {}))


def test_a_server_that_has_shown_it_can_answer_as_long_as_it_lives() -> None:
    seen = witness((1,))
    assert seen.is_sure(PUT) and seen.is_sure(GET)
    seen.done(PUT, Stored(1, 7), "line 1")
    assert seen.is_sure(GET) and seen.is_sure(GET._replace(key=b"other"))
    seen.done(Command("joinServer", (2,)), Done(), "line 2")
    assert seen.is_sure(GET)
    seen.done(Command("joinServer", (1,)), Done(), "line 3")
    assert not seen.is_sure(GET)
    seen.done(GET, Value(b"v", 1, 7), "line 4")
    assert seen.is_sure(GET)


def test_another_server_may_be_behind() -> None:
    seen = witness((2,))
    seen.done(PUT, Stored(1, 7), "line 1")
    assert not seen.is_sure(GET)
    assert seen.is_sure(GET._replace(ids=(6,)))
    seen.done(GET, Unsatisfied(), "line 2")
    assert not seen.is_sure(GET)
    seen.died(5)
    assert seen.is_sure(GET), "a new session"


def test_what_gossip_has_brought_since_is_said() -> None:
    seen = witness((2,), {1: (b"v", 7), 2: (b"w", 8)})
    seen.done(PUT, Stored(1, 7), "line 1")
    assert seen.why(GET)[1:] == [
        "Server 2 was behind when it was asked; gossip has brought it w since then.",
        "At that moment, server 1 could have answered.",
        "Links led from server 1 to the servers that were asked, but neither stabilize nor gossip had moved the write "
        "over them yet.",
    ]


def test_a_server_that_is_dead_may_be_the_only_one() -> None:
    seen = witness((0, 2), {1: None, 2: (b"u", 3)})
    seen.uncertain(PUT, 3, "line 1")
    seen.done(PUT, Stored(0, 7), "line 2")
    seen.died(0)
    assert seen.why(GET) == [
        "Client 5 had itself put k = v in line 2. It must not read anything older from now on (Read Your Writes).",
        "Server 2 had u, put by client 5 in line 1. This value is older, so the server must not answer.",
        "At that moment, no running server could have answered.",
        "Server 0 had it, but had died.",
    ]


def test_a_server_that_is_silent_may_have_it_still() -> None:
    seen = witness((2,), {2: None})
    seen.done(PUT, Stored(1, 7), "line 1")
    assert seen.why(GET)[1:] == [
        "Server 2 had no value for it, which counts as older than any.",
        "At that moment, no running server could have answered.",
        "Server 1 is silent, so what it has is unknown.",
    ]
