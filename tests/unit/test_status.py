"""What `status` shows, and what is suggested while a line is being typed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.help import TOPICS
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
    """A cluster in which each server that has answered is right about whom it can reach."""
    servers = {**{ident: 1000 + ident for ident in links}, **dict.fromkeys(killed)}
    contexts = dict.fromkeys(links, Context()) if contexts is None else contexts
    found = Overview(servers, links, {}, contexts, {})
    reachable = {ident: frozenset(part) for part in found.partitions() for ident in part if ident in contexts}
    return found._replace(reachable=reachable)


# -- status ------------------------------------------------------------------------------------------------


def test_a_partition_is_a_block_in_the_picture() -> None:
    links = {0: frozenset({2}), 1: frozenset({3}), 2: frozenset({0}), 3: frozenset({1})}
    contexts = {0: context(a=2), 1: context(b=1), 2: context(a=1), 3: context(b=1)}
    assert draw(overview(links, contexts, killed=(4,)), 100) == [
        "server  state   process  links  0 2 1 3  reaches  store",
        r"     0  up         1000         \ x . .  0, 2     lacks 1 write of other partitions",
        r"     2  up         1002         x \ . .  0, 2     lacks 1 write of its partition, 1 of others",
        r"     1  up         1001         . . \ x  1, 3     lacks 2 writes of other partitions",
        r"     3  up         1003         . . x \  1, 3     lacks 2 writes of other partitions",
        "     4  killed",
        "partitions: 0, 2 | 1, 3",
    ]


def test_the_shapes_of_links_are_listed() -> None:
    two = overview(mesh(range(2)))
    assert not any("delay" in line for line in draw(two, 100))
    assert draw(two._replace(usual_shape="20ms"), 100)[-1] == "delay, jitter and loss: all links between servers: 20ms"
    shaped = two._replace(usual_shape="20ms", shapes={(0, 1): "200ms 10%", (0, 5): "0ms"})
    assert draw(shaped, 200)[-1] == (
        "delay, jitter and loss: 0 and 1: 200ms 10%; 0 and 5: 0ms; all others between servers: 20ms"
    )


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
    long = 10**17
    links = {long: frozenset({long + 1}), long + 1: frozenset({long}), 3: frozenset()}
    lines = draw(overview(links), 80)
    assert lines[1].split() == ["3", "up", "1003", "none", "3", "up", "to", "date"]
    assert lines[2].split()[3:5] == ["all", "others"]
    assert draw(overview(mesh(range(11))), 200)[0].split() == [
        "server",
        "state",
        "process",
        "links",
        "reaches",
        "store",
    ]


def test_rows_that_say_the_same_are_folded() -> None:
    assert draw(overview(mesh(range(25))), 80) == [
        "server  state  process  links       reaches  store",
        "  0-24  up              all others  0-24     up to date",
    ]
    contexts = dict.fromkeys(range(25), context(a=2)) | dict.fromkeys((3, 5, 6, 24), context(a=1))
    lines = draw(overview(mesh(range(12), range(12, 25)), contexts, killed=(30, 31)), 80)
    assert [line.split("  ")[-1].strip() for line in lines if line.endswith("lacks 1 write")] == ["lacks 1 write"] * 2
    assert any(re.match(r" *3, 5-6  up +all others  0-11 ", line) for line in lines)
    assert any(re.match(r" *24  up +1024  all others  12-24 ", line) for line in lines), "one alone has its process"
    assert any(line.split() == ["30-31", "killed"] for line in lines)
    clients = {ident: ClientOverview(ident, (0,)) for ident in range(100, 150)}
    lines = draw(overview(mesh(range(25)))._replace(clients=clients), 80)
    assert lines[-1].split() == ["100-149", "up", "0"]


@pytest.mark.parametrize("shape", ["chain", "ring", "star", "mesh", "two halves", "every other one behind"])
def test_25_servers_fit_on_a_usual_terminal(shape: str) -> None:
    chain = {ident: frozenset({ident - 1, ident + 1} & set(range(25))) for ident in range(25)}
    links = {
        "chain": chain,
        "ring": chain | {0: frozenset({1, 24}), 24: frozenset({0, 23})},
        "star": {0: frozenset(range(1, 25)), **dict.fromkeys(range(1, 25), frozenset({0}))},
        "two halves": mesh(range(12), range(12, 25)),
    }.get(shape, mesh(range(25)))
    behind = range(1, 25, 2) if shape == "every other one behind" else ()
    contexts = dict.fromkeys(range(25), context(a=1)) | dict.fromkeys(behind, Context())
    clients = {ident: ClientOverview(ident, (ident - 100,)) for ident in range(100, 105)}
    before = overview(mesh(range(25)), contexts)._replace(clients=clients)
    lines = draw(overview(links, contexts)._replace(clients=clients), 80, 23, before)
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    if shape == "chain":
        assert [line.split()[:3] for line in lines[1:3]] == [["*0,", "24", "up"], ["*1-23", "up", "2"]]


def test_what_has_changed_is_marked() -> None:
    before = overview(mesh(range(3)), killed=(9,))._replace(clients={5: ClientOverview(50, (0,))})
    assert not any("*" in line for line in draw(before, 100, before=before))
    after = overview(mesh(range(2), range(2, 3)), killed=(9,))._replace(clients={5: ClientOverview(50, (0, 1))})
    lines = draw(after, 100, before=before)
    assert [line.split()[0] for line in lines[1:5]] == ["*0", "*1", "*2", "9"]
    assert [line.split()[0] for line in lines[-2:]] == ["*5", "*"]
    assert lines[-1] == "* has changed since the last status"
    news = dict.fromkeys(range(3), Context()) | {1: context(b=1)}
    lines = draw(overview(mesh(range(3)), news, killed=(9,)), 100, before=before)
    assert [line.split()[0] for line in lines[1:4]] == ["*0", "1", "*2"], (
        "1 is up to date as before; the others lack it"
    )
    revived = overview(mesh(range(3)))._replace(servers={0: 1000, 1: 1001, 2: 2002})
    assert [line.split()[0] for line in draw(revived, 100, before=before)[1:4]] == ["0", "1", "*2"], "a new process"


def test_a_write_is_missing_wherever_its_dot_is_not_known() -> None:
    ahead = context(a=3, b=1)
    behind = context(a=1)
    behind.add(Dot(Replica(0, 1), 3))  # not the second
    lines = draw(overview(mesh(range(2)), {0: ahead, 1: behind}), 80)
    assert lines[1].endswith("up to date")
    assert lines[2].endswith("lacks 2 writes")


def test_what_a_silent_server_has_is_unknown() -> None:
    lines = draw(overview(mesh(range(2)), {0: context(a=3)}), 80)
    assert lines[1].endswith("\\ x  0-1      unknown: 1 is silent")
    assert lines[2].endswith("x \\  unknown  unknown: silent")
    lines = draw(overview(mesh(range(4)), {0: context(a=3), 2: context(a=3), 3: context(a=2)}), 90)
    assert lines[1].endswith("up to date with 2-3; 1 is silent")
    assert lines[4].endswith("lacks 1 write, perhaps more; 1 is silent")
    lines = draw(overview(mesh(range(2), range(2, 4)), {0: context(a=3), 2: context(a=2)}), 100)
    assert lines[1].endswith("up to date with 2; 1, 3 are silent"), "also one in another partition may have more"
    assert lines[3].endswith("lacks 1 write of other partitions, perhaps more; 1,")
    assert lines[4].strip() == "3 are silent"


def test_what_a_server_wrongly_believes_that_it_can_reach_is_said_to_be_outdated() -> None:
    shown = overview(mesh(range(3), range(3, 5)))
    believed = {0: frozenset(range(3)), 1: frozenset(range(5)), 2: frozenset({2}), 4: frozenset({3, 4})}
    lines = draw(shown._replace(reachable=believed), 100)
    assert [re.split("  +", line.strip())[-2] for line in lines[1:6]] == [
        "0-2",
        "0-4 (outdated)",
        "2 (outdated)",
        "unknown",
        "3-4",
    ]


def test_many_silent_servers_are_counted_and_not_listed() -> None:
    known = {ident: context(a=1) for ident in range(0, 40, 2)}
    text = "\n".join(draw(overview(mesh(range(40)), known), 120))
    assert "up to date with 19 servers; 20 servers are silent" in text
    assert "unknown: silent" in text
    assert "40 servers" not in text.replace("0-39", "")


def test_only_killed_servers() -> None:
    assert [line.split() for line in draw(overview({}, killed=(3, 2)), 80)[1:]] == [["2", "killed"], ["3", "killed"]]


@given(st.integers(0, 40), st.integers(10, 200), st.sets(st.integers(0, 39)))
def test_every_server_is_in_just_one_row(count: int, width: int, silent: set[int]) -> None:
    contexts = {ident: Context() for ident in range(count) if ident not in silent}
    lines = draw(overview(mesh(range(count)), contexts, killed=(99,)), width)
    heads = [found[1] for line in lines if (found := re.match(" *([0-9][0-9, -]*?)  +(up|killed)", line))]
    idents: list[int] = []
    for span in ", ".join(heads).split(", "):
        low, _, high = span.partition("-")
        idents += range(int(low), int(high or low) + 1)
    assert sorted(idents) == [*range(count), 99]


def test_what_does_not_fit_is_wrapped_or_goes_below() -> None:
    links = {0: frozenset({2}), 1: frozenset({3}), 2: frozenset({0}), 3: frozenset({1})}
    contexts = {0: context(a=2), 1: context(b=1), 2: context(a=1), 3: context(b=1)}
    shown = overview(links, contexts, killed=(4,))._replace(clients={5: ClientOverview(1005, (0, 1, 2, 4))})
    assert draw(shown, 71)[:4] == [
        "server  state   process  links  0 2 1 3  reaches  store",
        r"     0  up         1000         \ x . .  0, 2     lacks 1 write of",
        "                                                  other partitions",
        r"     2  up         1002         x \ . .  0, 2     lacks 1 write of its",
    ]
    lines = draw(shown, 40)
    assert lines[:5] == [
        "server  state   process  links  0 2 1 3",
        r"     0  up         1000         \ x . .",
        "        reaches: 0, 2",
        "        store: lacks 1 write of other",
        "        partitions",
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
    assert {suggestion.word for suggestion in suggestions(["help"], CLUSTER, [])} == {*commands.ALL_WORDS, *TOPICS}


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


@pytest.mark.parametrize("line", ['put 5 "my key" v', "get 5 'k", 'put 5 "'])
def test_a_key_that_begins_with_a_quote_gets_a_hint(line: str) -> None:
    assert "quotes are part of the key" in "".join(piece.text for piece in hint(line))
    assert "quotes" not in "".join(piece.text for piece in hint(line.replace('"', "").replace("'", "")))
