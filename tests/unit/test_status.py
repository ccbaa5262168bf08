"""What `status` shows, and what is suggested while a line is being typed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.status import draw
from console.suggestions import hint, suggestions
from context import Context
from control import commands
from control.overview import ClientOverview, Overview
from vector_clock import Dot, Replica


def context(**known: int) -> Context:
    """The context of a server that has received this many writes of the servers a, b, …"""
    found = Context()
    for name, count in known.items():
        for counter in range(1, count + 1):
            found.add(Dot(Replica(ord(name) - ord("a"), 1), counter))
    return found


def mesh(*parts: range) -> dict[int, frozenset[int]]:
    return {ident: frozenset(set(part) - {ident}) for part in parts for ident in part}


def overview(
    links: dict[int, frozenset[int]], contexts: dict[int, Context] | None = None, killed: tuple[int, ...] = ()
) -> Overview:
    servers = {**{ident: 1000 + ident for ident in links}, **dict.fromkeys(killed)}
    return Overview(servers, links, {}, dict.fromkeys(links, Context()) if contexts is None else contexts, {})


# -- status ------------------------------------------------------------------------------------------------


def test_a_partition_is_a_block_in_the_picture() -> None:
    links = {0: frozenset({2}), 1: frozenset({3}), 2: frozenset({0}), 3: frozenset({1})}
    contexts = {0: context(a=2), 1: context(b=1), 2: context(a=1), 3: context(b=1)}
    assert draw(overview(links, contexts, killed=(4,)), 100) == [
        "server  state   process  links  0 2 1 3  store",
        r"     0  up         1000         \ x . .  lacks 1 write of other partitions",
        r"     2  up         1002         x \ . .  lacks 1 write of its partition, 1 of others",
        r"     1  up         1001         . . \ x  lacks 2 writes of other partitions",
        r"     3  up         1003         . . x \  lacks 2 writes of other partitions",
        "     4  killed",
        "partitions: 0, 2 | 1, 3",
    ]


def test_on_several_machines_each_process_has_its_host() -> None:
    shown = overview({0: frozenset({1}), 1: frozenset({0})}, killed=(2,))
    lines = draw(
        shown._replace(
            clients={5: ClientOverview(1005, (0,))}, hosts={0: "alpha", 1: "beta-2", 2: "beta-2", 5: "alpha"}
        ),
        100,
    )
    assert lines[1].split()[:4] == ["0", "up", "alpha", "1000"]
    assert lines[2].split()[:4] == ["1", "up", "beta-2", "1001"]
    assert lines[-1].split() == ["5", "up", "alpha", "1005", "0"]


def test_many_servers_or_long_ids_are_a_list() -> None:
    lines = draw(overview(mesh(range(11))), 200)
    assert lines[1].split() == ["0", "up", "1000", "1-10", "up", "to", "date"]
    assert lines[6].split()[3:5] == ["0-4,", "6-10"]
    long = 10**17
    links = {long: frozenset({long + 1}), long + 1: frozenset({long}), 3: frozenset()}
    lines = draw(overview(links), 80)
    assert lines[1].split() == ["3", "up", "1003", "none", "up", "to", "date"]
    assert lines[2].split()[3] == str(long + 1)
    assert draw(overview(mesh(range(11))), 200)[0].split() == ["server", "state", "process", "links", "store"]


def test_a_write_is_missing_wherever_its_dot_is_not_known() -> None:
    ahead = context(a=3, b=1)
    behind = context(a=1)
    behind.add(Dot(Replica(0, 1), 3))  # not the second
    lines = draw(overview(mesh(range(2)), {0: ahead, 1: behind}), 80)
    assert lines[1].endswith("up to date")
    assert lines[2].endswith("lacks 2 writes")


def test_what_a_silent_server_has_is_unknown() -> None:
    lines = draw(overview(mesh(range(2)), {0: context(a=3)}), 80)
    assert lines[1].endswith("\\ x  unknown: 1 is silent")
    assert lines[2].endswith("x \\  unknown: silent")
    lines = draw(overview(mesh(range(4)), {0: context(a=3), 2: context(a=3), 3: context(a=2)}), 80)
    assert lines[1].endswith("up to date with 2-3; 1 is silent")
    assert lines[4].endswith("lacks 1 write, perhaps more; 1 is silent")
    lines = draw(overview(mesh(range(2), range(2, 4)), {0: context(a=3), 2: context(a=2)}), 80)
    assert lines[1].endswith("up to date with 2; 1, 3 are silent"), "also one in another partition may have more"
    assert lines[3].endswith("lacks 1 write of other partitions,")
    assert lines[4].strip() == "perhaps more; 1, 3 are silent"


def test_what_a_server_wrongly_believes_that_it_can_reach_is_a_note() -> None:
    shown = overview(mesh(range(3), range(3, 5)))
    believed = {0: frozenset(range(3)), 1: frozenset(range(5)), 2: frozenset({2}), 4: frozenset({3, 4})}
    lines = draw(shown._replace(reachable=believed), 100)
    assert lines[1].endswith("up to date"), "it is right"
    assert lines[2].endswith("up to date (believes that it reaches 0, 2-4)")
    assert lines[3].endswith("up to date (believes that it reaches nobody)")
    assert lines[4].endswith("up to date"), "it has not said anything"
    assert lines[5].endswith("up to date")


def test_many_silent_servers_are_counted_and_not_listed() -> None:
    known = {ident: context(a=1) for ident in range(0, 40, 2)}
    lines = draw(overview(mesh(range(40)), known), 90)
    assert lines[1].endswith("up to date with 19 servers; 20 servers are silent")
    assert lines[2].endswith("unknown: silent")


def test_only_killed_servers() -> None:
    assert [line.split() for line in draw(overview({}, killed=(3, 2)), 80)[1:]] == [["2", "killed"], ["3", "killed"]]


@given(st.integers(0, 14), st.integers(10, 200))
def test_every_server_has_a_line(count: int, width: int) -> None:
    lines = draw(overview(mesh(range(count)), killed=(99,)), width)
    idents = [line.split()[0] for line in lines if re.match(" *[0-9]+  (up|killed)", line)]
    assert idents == [*map(str, range(count)), "99"]


def test_what_does_not_fit_is_wrapped_or_goes_below() -> None:
    links = {0: frozenset({2}), 1: frozenset({3}), 2: frozenset({0}), 3: frozenset({1})}
    contexts = {0: context(a=2), 1: context(b=1), 2: context(a=1), 3: context(b=1)}
    shown = overview(links, contexts, killed=(4,))._replace(clients={5: ClientOverview(1005, (0, 1, 2, 4))})
    assert draw(shown, 64)[:4] == [
        "server  state   process  links  0 2 1 3  store",
        r"     0  up         1000         \ x . .  lacks 1 write of other",
        "                                         partitions",
        r"     2  up         1002         x \ . .  lacks 1 write of its",
    ]
    lines = draw(shown, 40)
    assert lines[:5] == [
        "server  state   process  links  0 2 1 3",
        r"     0  up         1000         \ x . .",
        "        store: lacks 1 write of other",
        "        partitions",
        r"     2  up         1002         x \ . .",
    ]
    assert lines[-7:] == [
        "     4  killed",
        "partitions: 0, 2 | 1, 3",
        "",
        "client  state  process",
        "     5  up        1005",
        "        connections, in order: 0, 1, 2,",
        "        4 (killed)",
    ]


@given(st.integers(0, 14), st.integers(40, 200))
def test_nothing_is_wider_than_the_terminal_and_no_word_is_broken(count: int, width: int) -> None:
    shown = overview(mesh(range(count), range(20, 25)), killed=(99,))
    lines = draw(shown._replace(clients={5: ClientOverview(1005, tuple(range(count)))}), width)
    assert max(map(len, lines)) <= width
    words = {*" ".join(lines).replace(":", "").split()}
    assert words >= {"server", "state", "process", "connections,", "in", "order", "up", "date"}


# -- suggestions -------------------------------------------------------------------------------------------


CLUSTER = Overview(
    servers={0: 100, 1: 101, 2: 102, 3: None},
    links={0: frozenset({1}), 1: frozenset({0}), 2: frozenset()},
    clients={5: ClientOverview(105, (0, 3)), 6: ClientOverview(106, ()), 7: ClientOverview(None, ())},
    contexts={},
    reachable={},
)


@pytest.mark.parametrize(
    ("line", "fitting"),
    [
        ("joinServer", "3"),
        ("killServer", "0 1 2"),
        ("printStore", "0 1 2"),
        ("joinClient", "5 6"),
        ("joinClient 5", "1 2"),
        ("joinClient 8", "0 1 2"),
        ("put", "5 6"),
        ("get", "5 6"),
        ("get 5", "colour shape"),
        ("put 5", "colour shape"),
        ("put 5 colour", ""),
        ("breakConnection", "0 1 3 5"),
        ("breakConnection 0", "1 5"),
        ("breakConnection 5", "0 3"),
        ("breakConnection 3", "5"),
        ("createConnection", "0 1 2 5 6"),
        ("createConnection 0", "2 6"),
        ("createConnection 5", "1 2"),
        ("createConnection 2", "0 1 5 6"),
        ("stabilize", ""),
        ("nonsense", ""),
        ("killServer 0", ""),
        ("status", ""),
    ],
)
def test_words_that_fit(line: str, fitting: str) -> None:
    assert [
        suggestion.word for suggestion in suggestions(line.split(), CLUSTER, ["colour", "shape"])
    ] == fitting.split()


def test_the_words_that_may_begin_a_line() -> None:
    assert {suggestion.word for suggestion in suggestions([], CLUSTER, [])} == {*commands.ALL_WORDS}
    assert {suggestion.word for suggestion in suggestions(["help"], CLUSTER, [])} == {*commands.COMMANDS}


@given(st.text(max_size=30) | st.lists(st.sampled_from(["put", "get", "5", " ", "k", "help"])).map(" ".join))
def test_a_hint_never_fails(text: str) -> None:
    hint(text)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_hint_and_what_is_typed_make_the_usage(name: str) -> None:
    """This holds for every beginning of a command."""
    words = commands.usage(name).split()
    for count in range(1, len(words) + 1):
        typed = " ".join(words[:count])
        for text in (typed, typed + " " * (count < len(words))):
            assert text + "".join(piece.text for piece in hint(text)) == commands.usage(name)
            assert [piece.text for piece in hint(text) if piece.current] == (
                words[count : count + 1] if text != typed else []
            )
