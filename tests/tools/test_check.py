"""scripts/check.py: agrees with real runs, with a judge that tries everything, and catches every tampering."""

from __future__ import annotations

import cProfile
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small import Run, puzzle, spelled, tamper

from checking import explain
from checking.driver import ROOT, run
from checking.judge import Judge
from checking.oracle import random_script
from checking.verdict import Verdict, check

HEADER = {"history": 1, "gossip_interval": 0, "kept_stores": False}
GOSSIP = HEADER | {"gossip_interval": 1}


def verdict_of(text: str, folder: Path) -> Verdict:
    path = folder / "history"
    path.write_text(text)
    return check(path)


# -- real runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", ["0", "0.002", "0.01"])
def test_random_scripts_leave_valid_histories(interval: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """--seeds says how many scripts for each interval: `-k random_scripts --seeds 334` runs a thousand."""

    def judge(seed: int) -> tuple[int, Verdict]:
        path = tmp_path / f"history-{seed}"
        run(b"".join(random_script(Random(seed), 200)), "--gossip-interval", interval, "--history", str(path))
        verdict = check(path)
        path.unlink()
        return seed, verdict

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(judge, range(pytestconfig.getoption("--seeds"))))
    assert [(seed, verdict.why) for seed, verdict in found if verdict.verdict != "valid"] == []
    assert all(verdict.operations > 100 for _, verdict in found)


def test_kept_stores_are_known_from_what_is_read(tmp_path: Path) -> None:
    options = ("--data-dir", str(tmp_path / "data"), "--gossip-interval", "0")
    run("joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 a old\nstabilize\nput 5 b old\n", *options)
    path = tmp_path / "history"
    script = "joinServer 0\njoinServer 1\njoinClient 5 1\nget 5 a\nget 5 b\nput 5 a new\nprintStore 0\nstabilize\n"
    run(f"{script}printStore 1\nget 5 b\nget 5 a\n", *options, "--history", str(path))
    assert check(path).verdict == "valid"
    text = path.read_text()
    assert verdict_of(text.replace('"kept_stores": true', '"kept_stores": false'), tmp_path).verdict == "invalid"
    *lines, _, _, _, _ = text.splitlines(keepends=True)
    shown = json.loads(lines[-1])
    assert shown["value"] == [["a", "new"], ["b", "old"]]
    shown["value"].pop()
    shown["timestamp"].pop()
    tampered = verdict_of("".join([*lines[:-1], json.dumps(shown) + "\n"]), tmp_path)
    assert tampered.verdict == "invalid"
    assert "shows no b" in tampered.why


# -- against the judge that tries everything ---------------------------------------------------------------


@given(random=st.randoms(use_true_random=False), gossips=st.booleans(), is_tampered=st.booleans())
@settings(max_examples=800)
def test_agrees_with_the_judge(
    tmp_path_factory: pytest.TempPathFactory, random: Random, gossips: bool, is_tampered: bool
) -> None:
    text = Run(random, gossips).write(random.randint(3, 16)).text
    if is_tampered:
        text = tamper(text, random)
    verdict = verdict_of(text, tmp_path_factory.getbasetemp())
    assert (verdict.verdict, verdict.why) == ("valid", "") if Judge(text).is_valid() else verdict.verdict == "invalid"


@pytest.mark.parametrize("gossips", [False, True])
def test_agrees_with_the_judge_on_longer_histories(gossips: bool, tmp_path: Path) -> None:
    found: Counter[tuple[str, bool]] = Counter()
    for seed in range(125):
        random = Random(seed)
        text = Run(random, gossips).write(random.randint(15, 35)).text
        if seed % 3:
            text = tamper(text, random)
        verdict = verdict_of(text, tmp_path)
        found[verdict.verdict, Judge(text).is_valid()] += 1
        assert set(found) <= {("valid", True), ("invalid", False)}, f"seed {seed}: {verdict}"
    assert min(found.values()) > 20


def test_agrees_with_the_judge_on_puzzles(tmp_path: Path) -> None:
    found: Counter[tuple[str, bool]] = Counter()
    for seed in range(2000):
        text = puzzle(Random(seed))
        verdict = verdict_of(text, tmp_path)
        found[verdict.verdict, Judge(text).is_valid()] += 1
        assert set(found) <= {("valid", True), ("invalid", False)}, f"seed {seed}: {verdict}"
    assert min(found.values()) > 200


# -- tampering with a real run -----------------------------------------------------------------------------

SCRIPT = """joinServer 0
joinServer 1
joinServer 2
joinClient 10 0
joinClient 11 1
put 10 colour red
stabilize
get 11 colour
breakConnection 0 2
breakConnection 1 2
put 10 colour blue
put 10 shape round
get 10 colour
stabilize
get 11 colour
get 11 shape
printStore 1
printStore 2
createConnection 10 2
breakConnection 10 0
get 10 colour
get 10 size
killServer 1
joinServer 1
printStore 1
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The lines of the history of SCRIPT without gossip."""
    path = tmp_path_factory.mktemp("real") / "history"
    result = run(SCRIPT, "--gossip-interval", "0", "--no-pipeline", "--history", str(path))
    assert (result.stderr, result.status) == ("", 0)
    assert check(path).verdict == "valid"
    return [json.loads(line) for line in path.read_text().splitlines()]


def line_of(command: int) -> int:
    """The line of the history in which a command of SCRIPT ends; both are counted from 1."""
    return 2 * command + 1


def answer(lines: list[dict[str, Any]], command: int) -> dict[str, Any]:
    return lines[line_of(command) - 1]


def read_what(lines: list[dict[str, Any]], reading: int, putting: int) -> None:
    """Have a get read what a put wrote."""
    line, put = answer(lines, reading), answer(lines, putting)
    line.pop("answer", None)
    line |= {"value": put["value"], "timestamp": put["timestamp"], "server": line.get("server", 2)}


def say(lines: list[dict[str, Any]], command: int, text: str) -> None:
    """Have a get print ERR_KEY or ERR_DEP."""
    line = answer(lines, command)
    line.pop("timestamp", None)
    if text == "ERR_DEP":
        line.pop("server", None)
    line |= {"value": [line["value"][0], None], "answer": text}


def without(lines: list[dict[str, Any]], command: int, key: str) -> None:
    """Have a printStore leave a key out."""
    line = answer(lines, command)
    place = [pair[0] for pair in line["value"]].index(key)
    del line["value"][place], line["timestamp"][place]


def store_shows(lines: list[dict[str, Any]], command: int, putting: int) -> None:
    """Have a printStore show what a put wrote."""
    line, put = answer(lines, command), answer(lines, putting)
    store = {pair[0]: (pair, version) for pair, version in zip(line["value"], line["timestamp"], strict=True)}
    store[put["value"][0]] = put["value"], put["timestamp"]
    line["value"] = [store[key][0] for key in sorted(store)]
    line["timestamp"] = [store[key][1] for key in sorted(store)]


def swap(lines: list[dict[str, Any]], one: int, other: int) -> None:
    """Exchange the answers of two gets."""
    first, second = answer(lines, one), answer(lines, other)
    for name in ("value", "timestamp"):
        first[name], second[name] = second[name], first[name]


def alter(lines: list[dict[str, Any]], command: int, **fields: Any) -> None:
    answer(lines, command).update(fields)


@pytest.mark.parametrize(
    ("change", "why", "commands"),
    [
        (
            lambda lines: read_what(lines, 13, 6),
            "line 27: client 10 read colour=red (written in line 13), but it had itself written blue in line 23 "
            "(Read Your Writes)",
            (6, 11, 13),
        ),
        (
            lambda lines: read_what(lines, 15, 6),
            "line 31: client 11 read colour=red from server 1 (put in line 13 at server 0), which is impossible, "
            "because of line 23: client 10 put colour=blue at server 0; line 29: stabilize",
            (6, 11, 14, 15),
        ),
        (
            lambda lines: say(lines, 15, "ERR_KEY"),
            "client 11 got ERR_KEY for colour, but it had itself read red",
            (8, 15),
        ),
        (
            lambda lines: alter(lines, 15, value=["colour", "green"]),
            "which nobody had put there|the value that was put there at that time is another one",
            (11, 15),
        ),
        (
            lambda lines: alter(lines, 15, value=["colour", "green"], timestamp=7),
            "line 31: it shows colour=green, which nobody had put there",
            (15,),
        ),
        (
            lambda lines: alter(lines, 16, value=["shape", "blue"]),
            "the value that was put there at that time is another",
            (12, 16),
        ),
        (
            lambda lines: store_shows(lines, 17, 6),
            "line 35: server 1's store shows colour=red .* line 31: client 11 read",
            (6, 15, 17),
        ),
        (
            lambda lines: store_shows(lines, 18, 11),
            "line 43: client 10 got ERR_DEP for colour, as if server 2 were behind, which is impossible, because of "
            "line 37: server 2's store shows colour=blue",
            (18, 21),
        ),
        (
            lambda lines: without(lines, 17, "shape"),
            "server 1's store shows no shape, .* line 33: client 11 read",
            (16, 17),
        ),
        (
            lambda lines: without(lines, 18, "colour"),
            "server 2's store shows no colour, .* line 15: stabilize",
            (6, 7, 18),
        ),
        (lambda lines: without(lines, 25, "shape"), "line 51: server 1's store shows no shape", (16, 25)),
        (lambda lines: say(lines, 22, "ERR_DEP"), "client 10 got ERR_DEP for size, but it had neither written", (22,)),
        (
            lambda lines: say(lines, 15, "ERR_DEP"),
            "client 11 got ERR_DEP for colour, as if server 1 were behind, which is impossible, because of line 13: "
            "client 10 put colour=red at server 0; line 15: stabilize",
            (6, 7, 15),
        ),
        (lambda lines: read_what(lines, 21, 11), "client 10 read colour=blue from server 2 .* gossip is off", (11, 21)),
        (lambda lines: read_what(lines, 21, 6), r"it had itself written blue .*\(Read Your Writes\)", (6, 11, 21)),
        (lambda lines: swap(lines, 8, 15), "line 17: it shows colour=blue, which nobody had put there", (8,)),
        (lambda lines: alter(lines, 13, server=1), "server 1 answered, but client 10 has no connection to it", (13,)),
        (lambda lines: alter(lines, 22, server=0), "client 10 has no connection to it since line 41", (20, 22)),
        (lambda lines: alter(lines, 11, server=1), "server 1 took the put, but client 10 has no connection", (11,)),
        (lambda lines: alter(lines, 11, timestamp=7), "timestamp 7 is not larger than", (6, 11)),
    ],
    ids=lambda part: part[:60] if isinstance(part, str) else "",
)
def test_tampering_is_found_and_explained(
    real: list[dict[str, Any]],
    change: Callable[[list[dict[str, Any]]], None],
    why: str,
    commands: tuple[int, ...],
    tmp_path: Path,
) -> None:
    lines = json.loads(json.dumps(real))
    change(lines)
    verdict = verdict_of(spelled(lines[0], lines[1:]), tmp_path)
    assert verdict.verdict == "invalid"
    assert re_fits(why, verdict.why), verdict.why
    assert verdict.lines == [line_of(command) for command in commands]


def re_fits(pattern: str, text: str) -> bool:
    """A sentence with .* or | in it is compared as a regular expression."""
    return pattern in text or re.search(pattern, text) is not None


def test_a_monotonic_read_broken_elsewhere_names_all_three_lines(tmp_path: Path) -> None:
    lines = history(
        ("joinServer", [0]),
        ("joinServer", [1]),
        ("joinClient", [10, 0]),
        ("joinClient", [11, 0]),
        ("breakConnection", [0, 1]),
        put(10, 0, "red", 1),
        ("stabilize", []),
        put(10, 0, "blue", 2),
        get(11, 0, "blue", 2),
        ("createConnection", [11, 1]),
        ("breakConnection", [11, 0]),
        get(11, 1, "red", 1),
    )
    verdict = verdict_of(spelled(GOSSIP, lines), tmp_path)
    assert verdict.verdict == "invalid"
    assert verdict.why == (
        "line 25: client 11 read k=red (written in line 13), but it had itself read blue in line 19 (Monotonic Reads)"
    )
    assert verdict.lines == [13, 19, 25]


# -- histories made by hand --------------------------------------------------------------------------------


def put(client: int, server: int, value: str, version: int) -> tuple[str, list[Any], int, dict[str, Any]]:
    return "put", ["k", value], client, {"server": server, "timestamp": version}


def get(client: int, server: int, value: str | None, version: int = 0) -> tuple[str, list[Any], int, dict[str, Any]]:
    more = {"server": server, "timestamp": version} if version else {"server": server, "answer": "ERR_KEY"}
    return "get", ["k", value], client, more


def history(*commands: Any) -> list[dict[str, Any]]:
    """The lines of commands that all succeed: `(f, value)` or `(f, value, process, fields)`."""
    writer = Run(Random(0), gossips=True)
    for f, value, *rest in commands:
        process, more = rest or ("master", {})
        writer.begin(f, [value[0], None] if f == "get" else value, process)
        writer.end(f, value, process, **more)
    return writer.lines


def two_ways(relays: list[int], cut_first: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Version 2 must pass relay 2 early, version 1 one of the relays late: one that has passed 2 can't.

    Server 0 puts 1, server 1 puts 2; server 3 shows 2 and server 4 shows 1.
    """
    servers = [0, 1, 3, 4, *relays]
    commands: list[Any] = [("joinServer", [server]) for server in servers]
    commands += [("joinClient", [10 + server, server]) for server in (0, 1, 3, 4)]
    commands += [
        ("breakConnection", [one, other]) for index, one in enumerate(servers) for other in servers[index + 1 :]
    ]
    commands += [put(10, 0, "one", 1), put(11, 1, "two", 2)]
    commands += [("createConnection", [1, 2]), ("createConnection", [2, 3])]
    commands += [("breakConnection", [1, 2]), ("breakConnection", [2, 3])]
    for relay in relays:
        commands += [("createConnection", [0, relay]), ("createConnection", [relay, 4])]
    commands += [("breakConnection", [*link]) for link in cut_first]
    commands += [get(13, 3, "two", 2), get(14, 4, "one", 1)]
    return history(*commands)


def test_two_versions_that_can_only_come_by_the_same_relay_in_the_wrong_order(tmp_path: Path) -> None:
    """Each by itself has a path."""
    text = spelled(GOSSIP, two_ways([2], []))
    assert not Judge(text).is_valid()
    verdict = verdict_of(text, tmp_path)
    assert verdict.verdict == "invalid"
    assert verdict.why == (
        "line 59: client 14 read k=one from server 4 (put in line 41 at server 0), which is impossible, because of "
        "line 57: client 13 read k=two from server 3; line 21: breakConnection 0 1; line 23: breakConnection 0 3; "
        "line 25: breakConnection 0 4; line 33: breakConnection 1 2; "
        "line 37: breakConnection 3 2; line 39: breakConnection 4 2"
    )
    assert verdict.lines == [21, 23, 25, 33, 37, 39, 41, 57, 59]


def test_the_other_relay_is_found_where_the_first_choice_spoils_it(tmp_path: Path) -> None:
    text = spelled(GOSSIP, two_ways([2, 5], []))
    assert Judge(text).is_valid()
    assert verdict_of(text, tmp_path).verdict == "valid"


def test_with_too_many_orders_of_gossip_the_verdict_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "MOST_STATES", 3)
    verdict = verdict_of(spelled(GOSSIP, two_ways([2, 5], [])), tmp_path)
    assert verdict.verdict == "unknown"
    assert "too many ways" in verdict.why


def test_a_link_does_not_bring_what_has_been_written_over_before(tmp_path: Path) -> None:
    lines = history(
        ("joinServer", [0]),
        ("joinServer", [1]),
        ("joinClient", [10, 0]),
        ("joinClient", [11, 1]),
        ("breakConnection", [0, 1]),
        put(10, 0, "red", 1),
        put(10, 0, "blue", 2),
        ("createConnection", [0, 1]),
        get(11, 1, "red", 1),
    )
    verdict = verdict_of(spelled(GOSSIP, lines), tmp_path)
    assert verdict.verdict == "invalid"
    assert verdict.lines == [11, 13, 15, 19]


def late(*between: Any) -> str:
    """Server 1 has no value yet when server 0 has written over the first one, and shows that first one later."""
    return spelled(
        GOSSIP,
        history(
            ("joinServer", [0]),
            ("joinServer", [1]),
            ("joinClient", [10, 0]),
            ("joinClient", [11, 1]),
            put(10, 0, "red", 1),
            put(10, 0, "blue", 2),
            get(11, 1, None),
            *between,
            get(11, 1, "red", 1),
        ),
    )


def test_what_was_held_once_may_arrive_late_while_the_link_stands(tmp_path: Path) -> None:
    """The answer to an exchange of gossip was made before the second put, and arrives after the first get."""
    assert Judge(late()).is_valid()
    assert verdict_of(late(), tmp_path).verdict == "valid"


@pytest.mark.parametrize(
    "between",
    [
        [("breakConnection", [0, 1]), get(11, 1, None), ("createConnection", [0, 1])],
        [("killServer", [0]), get(11, 1, None), ("joinServer", [0])],
        [("stabilize", [])],
    ],
)
def test_nothing_arrives_late_over_a_link_that_was_made_anew_or_after_stabilize(between: Any, tmp_path: Path) -> None:
    text = late(*between)
    assert not Judge(text).is_valid()
    assert verdict_of(text, tmp_path).verdict == "invalid"


def test_the_break_that_partitioned_servers_is_named(tmp_path: Path) -> None:
    lines = history(
        ("joinServer", [0]),
        ("joinServer", [1]),
        ("joinServer", [2]),
        ("joinClient", [10, 0]),
        ("joinClient", [11, 1]),
        ("breakConnection", [0, 2]),
        ("breakConnection", [1, 2]),
        ("createConnection", [1, 2]),
        ("killServer", [1]),
        put(10, 0, "red", 1),
        ("breakConnection", [11, 1]),
        ("createConnection", [11, 2]),
        get(11, 2, "red", 1),
    )
    verdict = verdict_of(spelled(GOSSIP, lines), tmp_path)
    assert verdict.why == (
        "line 27: client 11 read k=red from server 2 (put in line 21 at server 0), but since then no chain of links "
        "has led from server 0 to server 2 in time, because of line 13: breakConnection 0 2; line 19: killServer 1"
    )
    assert verdict.lines == [13, 19, 21, 27]


def test_a_relay_must_have_kept_what_it_passed_on_and_shared_it_at_stabilize(tmp_path: Path) -> None:
    """Server 3 can have it only from server 1, which would have given it to server 2 as well."""
    commands: list[Any] = [("joinServer", [server]) for server in range(4)]
    commands += [("breakConnection", [one, other]) for other in range(4) for one in range(other)]
    commands += [("joinClient", [10 + server, server]) for server in range(4)]
    commands += [put(10, 0, "red", 1), ("createConnection", [0, 1]), ("createConnection", [1, 3])]
    commands += [("breakConnection", [0, 1]), ("breakConnection", [1, 3])]
    commands += [("createConnection", [1, 2]), ("stabilize", [])]
    both = spelled(GOSSIP, history(*commands, get(12, 2, None), get(13, 3, "red", 1)))
    assert not Judge(both).is_valid()
    assert verdict_of(both, tmp_path).verdict == "invalid"
    for alone in (get(12, 2, None), get(13, 3, "red", 1)):
        assert verdict_of(spelled(GOSSIP, history(*commands, alone)), tmp_path).verdict == "valid"


def asks_two(*more: Any) -> list[dict[str, Any]]:
    """Three servers in a chain, and a client that asks 1 and then 2 for a value that server 0 holds."""
    return history(
        *(("joinServer", [server]) for server in range(3)),
        ("breakConnection", [0, 2]),
        ("joinClient", [10, 0]),
        put(10, 0, "red", 1),
        ("createConnection", [10, 1]),
        ("createConnection", [10, 2]),
        ("breakConnection", [10, 0]),
        *more,
        get(10, 2, "red", 1),
    )


def test_gossip_may_run_while_a_get_asks_one_server_after_another(tmp_path: Path) -> None:
    """Server 1 is behind when it is asked, and passes the value on to server 2 before server 2 is asked."""
    text = spelled(GOSSIP, asks_two())
    assert Judge(text).is_valid()
    assert verdict_of(text, tmp_path).verdict == "valid"
    for header, more in ((GOSSIP, ("breakConnection", [0, 1])), (GOSSIP, ("breakConnection", [1, 2]))):
        text = spelled(header, asks_two(more))
        assert not Judge(text).is_valid()
        assert verdict_of(text, tmp_path).verdict == "invalid"
    assert verdict_of(spelled(HEADER, asks_two()), tmp_path).verdict == "invalid"


def test_gossip_of_a_server_that_is_found_dead_may_have_run_between_two_asks(tmp_path: Path) -> None:
    """Server 1 is asked. Then 0 passes the value on to 2 through 1, and dies before it is asked. Then 2 is asked."""
    writer = Run(Random(0), gossips=True)
    writer.lines = asks_two(("createConnection", [10, 0]), ("breakConnection", [10, 2]), ("createConnection", [10, 2]))
    answer = writer.lines.pop()
    writer.add("info", "died", [0], error="server 0 died")
    writer.lines.append(answer | {"index": len(writer.lines)})
    text = spelled(GOSSIP, writer.lines)
    assert Judge(text).is_valid()
    assert verdict_of(text, tmp_path).verdict == "valid"


def around_a_death(command: Any, ident: int, error: str) -> tuple[str, str]:
    """Two histories: of a command that is answered behind a death, and of one more that only begins there."""
    writer = Run(Random(0), gossips=True)
    writer.lines = asks_two(("stabilize", []), ("breakConnection", [10, 1]), command)[:-2]
    answer = writer.lines.pop()
    writer.add("info", "died", [ident], error=error)
    writer.lines.append(answer | {"index": len(writer.lines)})
    one = spelled(GOSSIP, writer.lines)
    writer.begin(command[0], [*answer["value"][:1], None] if command[0] == "get" else answer["value"], 10)
    writer.lines.append(answer | {"index": len(writer.lines), "timestamp": 3 if command[0] == "put" else 1})
    return one, spelled(GOSSIP, writer.lines)


def test_a_server_may_have_answered_and_be_found_dead_before_that_is_written_down(tmp_path: Path) -> None:
    for command in (get(10, 2, "red", 1), put(10, 2, "blue", 2)):
        text, more = around_a_death(command, 2, "server 2 died")
        assert Judge(text).is_valid()
        assert (verdict_of(text, tmp_path).verdict, verdict_of(text, tmp_path).why) == ("valid", "")
        assert not Judge(more).is_valid()
        assert verdict_of(more, tmp_path).verdict == "invalid"


def test_real_gets_that_ask_several_servers_while_gossip_runs(tmp_path: Path) -> None:
    script = "joinServer 0\njoinServer 1\njoinServer 2\nbreakConnection 0 2\njoinClient 10 0\n"
    for number in range(300):
        script += f"put 10 k{number} v\ncreateConnection 10 1\ncreateConnection 10 2\nbreakConnection 10 0\n"
        script += f"get 10 k{number}\ncreateConnection 10 0\nbreakConnection 10 1\nbreakConnection 10 2\n"
    path = tmp_path / "history"
    for interval in ("0.001", "0.002"):
        run(script, "--gossip-interval", interval, "--history", str(path))
        assert (check(path).verdict, check(path).why) == ("valid", "")


def with_a_dead_server(rounds: int) -> str:
    """Server 3 is killed and stays dead; versions come from 0 to 1 and from there to 2, with many a stabilize."""
    commands: list[Any] = [("joinServer", [server]) for server in range(4)]
    commands += [("joinClient", [10 + server, server]) for server in range(3)]
    commands += [("breakConnection", [0, 2]), ("killServer", [3])]
    for version in range(1, 2 * rounds, 2):
        commands += [put(10, 0, "a", version), get(12, 2, "a", version), ("stabilize", [])]
        commands += [put(12, 2, "b", version + 1), get(10, 0, "b", version + 1)]
    return spelled(GOSSIP, history(*commands))


def test_it_takes_linear_time_although_a_server_stays_dead(tmp_path: Path) -> None:
    def work(rounds: int) -> int:
        text = with_a_dead_server(rounds)
        profile = cProfile.Profile()
        assert profile.runcall(verdict_of, text, tmp_path).verdict == "valid"
        return sum(entry.callcount for entry in profile.getstats())

    assert work(400) < 2.2 * work(200)


def base() -> list[dict[str, Any]]:
    return history(("joinServer", [0]), ("joinClient", [10, 0]), put(10, 0, "red", 1), get(10, 0, "red", 1))


def torn(text: str) -> str:
    return text[:-20]


def dropped(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[:3] + lines[4:])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (torn, "line 9 is torn"),
        (lambda text: "", "there is no header"),
        (lambda text: "nonsense\n" + text, "there is no header"),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), "there is no header"),
        (lambda text: text.replace('"history": 1', '"history": 2'), "the history's format is 2"),
        (lambda text: text + "nonsense\n", "line 10 is not JSON"),
        (lambda text: text + "[" * 100_000 + "\n", "line 10 is not JSON"),
        (lambda text: "[" * 100_000 + "\n", "there is no header"),
        (lambda text: text + "{}\n", "line 10: not a line of a history"),
        (
            lambda text: text.replace('"process": 10', '"process": "10"'),
            "line 6: not a line of a history: put of process",
        ),
        (
            lambda text: text.replace('"process": "master"', '"process": 1'),
            "line 2: not a line of a history: joinServer",
        ),
        (
            lambda text: text.replace('"joinClient", "value": [10, 0]', '"joinClient", "value": [10, "0"]'),
            "line 4: not",
        ),
        (lambda text: text.replace("joinServer", "frobnicate"), 'no command is called "frobnicate"'),
        (
            lambda text: text.replace('"timestamp": 1', '"timestamp": NaN'),
            "line 7: not a line of a history: its server",
        ),
        (
            lambda text: text.replace('"timestamp": 1', '"answer": "ERR_KEY"'),
            "line 7: not a line of a history: put with",
        ),
        (
            lambda text: text[:-20] + text[-20:].replace('"timestamp": 1', '"answer": "ERR_KEY"'),
            'get of ["k", "red"] with the answer ERR_KEY',
        ),
        (
            lambda text: text[:-20] + text[-20:].replace('"timestamp": 1', '"answer": "ERR_DEP"'),
            'get of ["k", "red"] with the answer ERR_DEP',
        ),
        (lambda text: text.replace('"server": 0', '"server": "0"'), "its server or its timestamp is not a number"),
        (
            lambda text: text.replace('"ok", "process": "master"', '"fail", "process": "master"'),
            "line 3: not a line of a history: it gives no error",
        ),
        (lambda text: text.replace('"time": 0', '"time": 5', 1), "line 3: its time is before that of the line before"),
        (lambda text: text.replace('"time": 0', '"time": -1'), "its index or its time is not a number"),
        (lambda text: text + "[1, 2]\n", "line 10: not a line of a history"),
        (dropped, "line 4: its index is 3, not 2"),
        (
            lambda text: text.replace(
                '"invoke", "process": 10, "f": "get"', '"fail", "error": "", "process": 10, "f": "get"'
            ),
            "line 8: the line that began this command is missing",
        ),
        (lambda text: text.replace('"value": ["k", null]', '"value": ["l", null]'), "line 9: it does not match line 8"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_file_that_is_no_complete_history_is_unknown(change: Callable[[str], str], why: str, tmp_path: Path) -> None:
    text = spelled(HEADER, base())
    assert verdict_of(text, tmp_path).verdict == "valid"
    verdict = verdict_of(change(text), tmp_path)
    assert verdict.verdict == "unknown"
    assert why in verdict.why


def test_a_key_that_stands_for_no_bytes_is_unknown(tmp_path: Path) -> None:
    lines = history(*BEGUN, ("printStore", [["\ud800", "v"]], "master", {"server": 0, "timestamp": [1]}))
    lines[-2]["value"] = [0]
    verdict = verdict_of(spelled(HEADER, lines), tmp_path)
    assert (verdict.verdict, verdict.why[:8]) == ("unknown", "line 15:")


def test_what_is_wrong_before_a_torn_end_is_invalid(tmp_path: Path) -> None:
    text = spelled(HEADER, [*base()[:-1], base()[-1] | {"value": ["k", "blue"]}])
    assert verdict_of(text + '{"index"', tmp_path).verdict == "invalid"


BEGUN = (
    ("joinServer", [0]),
    ("joinServer", [1]),
    ("joinClient", [5, 0]),
    ("put", ["k", "red"], 5, {"server": 0, "timestamp": 1}),
    ("createConnection", [5, 1]),
    ("killServer", [1]),
)
"""They end in lines 3, 5, 7, 9, 11 and 13; what the next one ends in is line 15."""


@pytest.mark.parametrize(
    ("f", "value", "process", "error", "why"),
    [
        ("get", ["k", None], 5, "client 5 has no connection", "it has a connection to server 0 since line 7"),
        ("put", ["k", "v"], 5, "none of the servers of client 5 is running: 0, 1", "server 0 since line 7"),
        ("put", ["k", "v"], 5, "client 5 is not running", "client 5 was started in line 7"),
        ("get", ["k", None], 0, "id 0 is a server's, not a client's", None),
        ("get", ["k", None], 9, "client 9 is not running", None),
        ("put", ["k", "v"], 5, "server 0: No space left on device", None),
        ("killServer", [0], "master", "server 0 is not running", "server 0 was started in line 3"),
        ("printStore", [0], "master", "server 0 is not running", "server 0 was started in line 3"),
        ("killServer", [1], "master", "server 1 is not running", None),
        ("killServer", [5], "master", "id 5 is a client's, not a server's", None),
        ("killServer", [0], "master", "id 0 is a client's, not a server's", "it is the id of a server since line 3"),
        ("joinServer", [0], "master", "server 0 is already running", None),
        ("joinServer", [1], "master", "server 1 is already running", "server 1 was killed in line 13"),
        ("joinServer", [7], "master", "server 7 is running already", "server 7 was never started"),
        ("joinServer", [7], "master", "id 7 is taken by a client", "nothing has this id"),
        ("joinServer", [5], "master", "id 5 is taken by a client", None),
        ("joinServer", [7], "master", "server 7 could not be started: its disk is full", None),
        ("breakConnection", [5, 0], "master", "id 5 is unknown: neither a server nor a client", "since line 7"),
        ("breakConnection", [5, 8], "master", "id 8 is unknown: neither a server nor a client", None),
    ],
)
def test_a_command_fails_only_for_a_reason(
    f: str, value: list[Any], process: int | str, error: str, why: str | None, tmp_path: Path
) -> None:
    writer = Run(Random(0), gossips=False)
    writer.lines = history(*BEGUN)
    writer.begin(f, value, process)
    writer.add("fail", f, value, process, error=error)
    verdict = verdict_of(spelled(HEADER, writer.lines), tmp_path)
    assert verdict.verdict == ("valid" if why is None else "invalid")
    assert (why or "") in verdict.why


@pytest.mark.parametrize(
    ("command", "why", "lines"),
    [
        (("joinServer", [5]), "5 cannot be a server: it is the id of a client since line 7", [7, 15]),
        (("joinClient", [1, 0]), "1 cannot be a client: it is the id of a server since line 5", [5, 15]),
        (("createConnection", [0, 0]), "server 0 can have no connection to itself", [15]),
        (("createConnection", [5, 9]), "9 is neither a server nor a client", [15]),
        (("createConnection", [0, 1]), "server 1 was killed in line 13, so this is impossible", [13, 15]),
        (("killServer", [5]), "5 is a client's id, not a server's (line 7)", [7, 15]),
        (("killServer", [9]), "server 9 was never started", [15]),
        (("printStore", [], "master", {"server": 1, "timestamp": []}), "server 1 printed its store, but", [14, 15]),
        (get(6, 0, "red", 1), "client 6 was never started, so it cannot have been answered", [15]),
        (get(5, 1, "red", 1), "server 1 answered, but server 1 was killed in line 13", [13, 15]),
    ],
)
def test_what_can_not_be_done_is_explained(command: Any, why: str, lines: list[int], tmp_path: Path) -> None:
    written = history(*BEGUN, command)
    if command[0] == "printStore":
        written[-2]["value"] = [0]
    verdict = verdict_of(spelled(HEADER, written), tmp_path)
    assert verdict.verdict == "invalid"
    assert why in verdict.why
    assert verdict.lines == lines


def test_the_reason_why_another_server_should_have_answered_names_the_connections(tmp_path: Path) -> None:
    verdict = verdict_of(spelled(GOSSIP, history(*BEGUN[:-1], put(5, 1, "blue", 2))), tmp_path)
    assert verdict.verdict == "invalid"
    assert verdict.why == (
        "line 13: server 1 took the put, but it was server 0's turn, whose connection was made in line 7; that to "
        "server 1 was made in line 11"
    )
    assert verdict.lines == [7, 11, 13]


def test_a_client_that_died_can_have_no_connection(tmp_path: Path) -> None:
    writer = Run(Random(0), gossips=False)
    writer.lines = history(*BEGUN)
    writer.add("info", "died", [5], error="client 5 died")
    for f, why in (("breakConnection", ""), ("createConnection", "line 18: client 5 died in line 14, so")):
        writer.begin(f, [0, 5])
        writer.end(f, [0, 5])
        assert verdict_of(spelled(HEADER, writer.lines), tmp_path).why[: len(why) or None] == why


def test_a_client_may_have_answered_and_be_found_dead_before_that_is_written_down(tmp_path: Path) -> None:
    """In a group, answers are written down in the order of the script, and the end of a client when it is noticed."""
    for command in (get(10, 2, "red", 1), put(10, 2, "blue", 2)):
        text, more = around_a_death(command, 10, "client 10 died")
        verdict = verdict_of(text, tmp_path)
        assert (verdict.verdict, verdict.why) == ("valid", "")
        verdict = verdict_of(more, tmp_path)
        assert verdict.verdict == "invalid"
        assert "client 10 died" in verdict.why


def test_a_process_that_is_not_running_can_not_die(tmp_path: Path) -> None:
    writer = Run(Random(0), gossips=False)
    writer.lines = history(*BEGUN)
    writer.add("info", "died", [1], error="server 1 died")
    verdict = verdict_of(spelled(HEADER, writer.lines), tmp_path)
    assert (verdict.verdict, verdict.lines) == ("invalid", [13, 14])
    writer.lines[-1]["type"] = "ok"
    assert verdict_of(spelled(HEADER, writer.lines), tmp_path).verdict == "unknown"


@pytest.mark.parametrize(
    "doubt",
    [
        {"type": "info", "process": "master", "f": "warning", "value": [], "error": "damage"},
        {"type": "info", "process": "master", "f": "stabilize", "value": [], "error": "gave up waiting"},
    ],
    ids=["damage", "an interrupted command"],
)
def test_what_a_doubt_may_explain_is_unknown(doubt: dict[str, Any], tmp_path: Path) -> None:
    writer = Run(Random(0), gossips=False)
    writer.lines = base()
    if doubt["f"] != "warning":
        writer.begin(doubt["f"], [])
    writer.lines.append(doubt | {"index": len(writer.lines), "time": 0})
    good = spelled(HEADER, writer.lines)
    writer.begin("printStore", [0])
    writer.end("printStore", [], server=0, timestamp=[])
    bad = spelled(HEADER, writer.lines)
    assert verdict_of(good, tmp_path).verdict == "valid"
    verdict = verdict_of(bad, tmp_path)
    assert verdict.verdict == "unknown"
    assert doubt["error"] in verdict.why or "is not known" in verdict.why


def test_an_uncertain_put_may_stand_later_or_not_but_not_elsewhere(tmp_path: Path) -> None:
    def text(shown_at: int, version: int) -> str:
        writer = Run(Random(0), gossips=False)
        writer.lines = history(("joinServer", [0]), ("joinServer", [1]), ("joinClient", [10, 0]), put(10, 0, "red", 1))
        writer.begin("put", ["k", "blue"], 10)
        writer.add("info", "died", [0], error="server 0 died")
        writer.add("info", "put", ["k", "blue"], 10, timestamp=2, error="uncertain")
        writer.join(0)
        writer.begin("printStore", [shown_at])
        writer.end("printStore", [["k", {1: "red", 2: "blue"}[version]]], server=shown_at, timestamp=[version])
        return spelled(HEADER, writer.lines)

    assert verdict_of(text(0, 1), tmp_path).verdict == "valid"
    assert verdict_of(text(0, 2), tmp_path).verdict == "valid"
    assert verdict_of(text(1, 2), tmp_path).verdict == "invalid"


def test_what_is_not_promised_is_reported_as_information(tmp_path: Path) -> None:
    """Client 10 writes a and then b; server 1 gets b by gossip before it has a."""
    lines = history(
        ("joinServer", [0]),
        ("joinServer", [1]),
        ("joinClient", [10, 0]),
        ("joinClient", [11, 1]),
        ("put", ["a", "one"], 10, {"server": 0, "timestamp": 1}),
        ("put", ["b", "two"], 10, {"server": 0, "timestamp": 2}),
        ("get", ["b", "two"], 11, {"server": 1, "timestamp": 2}),
        ("get", ["a", None], 11, {"server": 1, "answer": "ERR_KEY"}),
    )
    verdict = verdict_of(spelled(GOSSIP, lines), tmp_path)
    assert verdict.verdict == "valid"
    count, case = verdict.broken["Monotonic Writes"]
    assert count == "1"
    assert case.startswith("line 17: server 1 has what a client wrote in line 13, but of a not yet")
    assert verdict.broken["Writes Follow Reads"] == ["0"]


# -- the program -------------------------------------------------------------------------------------------


def program(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check.py"), *options], capture_output=True, text=True, check=False
    )


def test_status_and_output(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text(spelled(HEADER, base()))
    result = program(str(path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "valid: 4 operations\n", "")

    path.write_text(spelled(HEADER, [*base()[:-1], base()[-1] | {"value": ["k", "blue"]}]))
    result = program(str(path))
    assert result.returncode == 1
    first, *shown, last = result.stdout.splitlines()
    assert first == "invalid: line 9: it shows k=blue, but the value that was put there at that time is another one"
    assert [line.split()[0] for line in shown] == ["7:", "9:"]
    assert last == f"(lines are those of {path})"
    told = json.loads(program("--json", str(path)).stdout)
    assert (told["verdict"], told["lines"]) == ("invalid", [7, 9])

    path.write_text("")
    assert (program(str(path)).returncode, program(str(tmp_path / "none")).returncode) == (2, 2)
    assert program("--help").returncode == 0


def test_a_closed_standard_output_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text(spelled(HEADER, base()))
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "scripts" / "check.py"), str(path)]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, b"")


def test_the_checker_uses_nothing_of_the_store() -> None:
    """Neither directly nor through its imports."""
    modules = {path.stem for path in ROOT.glob("*.py")} | {"control", "rpc", "console"}
    left, found = {"verdict"}, set()
    while left:
        found.add(name := left.pop())
        for line in (ROOT / "checking" / f"{name}.py").read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                package, _, module = words[1].partition(".")
                assert package not in modules, line
                left |= {module} - found if package == "checking" else set()
    assert {"spread", "checker"} <= found


def test_keys_and_values_of_any_bytes_are_shown_on_any_terminal(tmp_path: Path) -> None:
    """A valid history in which something that is not promised did not hold, and an invalid one with the same keys."""
    key, other = b"k\xff\x1b[2J\xe2\x82\xac", b"other\xfe"
    script = b"joinServer 0\njoinServer 1\njoinServer 2\nbreakConnection 0 2\nbreakConnection 1 2\n"
    script += b"joinClient 5 0\nput 5 %s v\nbreakConnection 5 0\ncreateConnection 5 2\n" % key
    script += b"put 5 %s w\nprintStore 2\njoinClient 6 2\nget 6 %s\n" % (other, key)
    history = tmp_path / "history"
    assert run(script, "--gossip-interval", "0", "--history", str(history)).status == 0
    checker = [sys.executable, str(ROOT / "scripts" / "check.py"), str(history)]
    environment = {**os.environ, "LC_ALL": "C"}

    def verdict() -> str:
        done = subprocess.run(checker, capture_output=True, env=environment, check=False)
        assert done.stderr == b""
        assert b"\x1b" not in done.stdout
        return done.stdout.decode("utf-8")

    assert verdict().startswith("valid: ")
    assert r"but of k\udcff\x1b[2J" in verdict()
    assert verdict().endswith(f"\n(lines are those of {history})\n"), "also of what is not promised"
    lines = history.read_text().splitlines()
    last = json.loads(lines[-1])
    del last["answer"]
    last |= {"value": [last["value"][0], "v"], "timestamp": json.loads(lines[14])["timestamp"]}
    history.write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    assert verdict().startswith("invalid: ")
