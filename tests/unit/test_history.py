"""--history: every line is as docs/history.md describes it, complete, in time, and loses no bytes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from checking.driver import Conversation, run, wait_until
from checking.oracle import random_script
from checking.verdict import check

PAIR = "joinServer 0\njoinServer 1\njoinClient 5 0\n"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines after the header."""
    header, *lines = map(json.loads, path.read_bytes().splitlines())
    assert header["history"] == 1
    assert [line["index"] for line in lines] == list(range(len(lines)))
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    return lines


def brief(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Type, process, f, value, and all other fields except times."""
    known = {"index", "type", "process", "f", "value", "time", "timestamp"}
    return [
        (*[line[name] for name in ("type", "process", "f", "value")], {k: line[k] for k in line.keys() - known})
        for line in lines
    ]


def completions(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [line for line in brief(lines) if line[0] != "invoke"]


def test_the_lines_of_each_command(tmp_path: Path) -> None:
    path = tmp_path / "history"
    script = f"""{PAIR}put 5 colour red
get 5 colour
get 5 shape
breakConnection 0 1
createConnection 5 1
breakConnection 5 0
get 5 colour
createConnection 0 1
stabilize
printStore 1
printStore 7
killServer 1
put 5 colour blue
"""
    run(script, "--gossip-interval", "0", "--history", str(path))
    lines = read(path)
    assert completions(lines) == [
        ("ok", "master", "joinServer", [0], {}),
        ("ok", "master", "joinServer", [1], {}),
        ("ok", "master", "joinClient", [5, 0], {}),
        ("ok", 5, "put", ["colour", "red"], {"server": 0}),
        ("ok", 5, "get", ["colour", "red"], {"server": 0}),
        ("ok", 5, "get", ["shape", None], {"server": 0, "answer": "ERR_KEY"}),
        ("ok", "master", "breakConnection", [0, 1], {}),
        ("ok", "master", "createConnection", [5, 1], {}),
        ("ok", "master", "breakConnection", [5, 0], {}),
        ("ok", 5, "get", ["colour", None], {"answer": "ERR_DEP"}),
        ("ok", "master", "createConnection", [0, 1], {}),
        ("ok", "master", "stabilize", [], {}),
        ("ok", "master", "printStore", [["colour", "red"]], {"server": 1}),
        ("fail", "master", "printStore", [7], {"error": "server 7 is not running"}),
        ("ok", "master", "killServer", [1], {}),
        ("fail", 5, "put", ["colour", "blue"], {"error": "client 5 has only server 1, which is not running"}),
    ]
    assert ("invoke", 5, "get", ["colour", None], {}) in brief(lines)
    assert ("invoke", 5, "put", ["colour", "red"], {}) in brief(lines)
    stamps = [line["timestamp"] for line in lines if "timestamp" in line]
    assert stamps[0] == stamps[1]
    assert stamps[2] == [stamps[0]]


def test_the_header_says_how_the_run_was_started(tmp_path: Path) -> None:
    path = tmp_path / "history"
    options = ("--gossip-interval", "0.5", "--no-pipeline", "--data-dir", str(tmp_path / "data"), "--seed", "5")
    run("", *options, "--history", str(path))
    header = json.loads(path.read_bytes())
    assert header.pop("version")
    assert header == {
        "history": 1,
        "gossip_interval": 0.5,
        "fsync": "never",
        "timeout": 10.0,
        "pipeline": False,
        "kept_stores": True,
        "seed": 5,
    }


def test_bytes_of_every_kind_come_back(tmp_path: Path) -> None:
    path = tmp_path / "history"
    any_byte = bytes(set(range(256)) - {9, 10, 13, 32})
    value = any_byte + "größe 😀".encode() + b"\xed\xb0\x80\xf0\x9f."
    script = (
        PAIR.encode() + b"put 5 " + any_byte + b" " + value + b"\nput 5 a:b c\nput 5 a b:c\nstabilize\nprintStore 1\n"
    )
    run(script, "--gossip-interval", "0", "--history", str(path))
    assert path.read_bytes().isascii()
    shown = read(path)[-1]["value"]
    pairs = [tuple(text.encode("utf-8", "surrogateescape") for text in pair) for pair in shown]
    assert pairs == sorted([(any_byte, value), (b"a", b"b:c"), (b"a:b", b"c")])


@pytest.mark.parametrize("seed", range(4))
def test_a_history_changes_nothing_else_and_is_the_same_with_and_without_pipeline(seed: int, tmp_path: Path) -> None:
    script = b"".join(random_script(Random(seed), 250))
    plain = run(script, "--gossip-interval", "0")
    found = []
    for options in ((), ("--no-pipeline",)):
        path = tmp_path / "history"
        assert run(script, "--gossip-interval", "0", "--history", str(path), *options) == plain
        found.append(completions(read(path)))
    assert found[0] == found[1]


def test_an_invocation_is_there_before_the_command_is_under_way(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with Conversation("--history", str(path)) as conversation:
        conversation.do(PAIR)
        conversation.signal("server 0", signal.SIGSTOP)
        conversation.send("put 5 k v\nput 5 l w\nget 5 k\n")
        wait_until(lambda: path.read_bytes().count(b'"invoke"') > 3, "the invocations")
        assert not any(line[0] != "invoke" for line in brief(read(path))[6:])
        conversation.signal("server 0", signal.SIGCONT)
        conversation.do()
        assert [line[:4] for line in completions(read(path))[3:]] == [
            ("ok", 5, "put", ["k", "v"]),
            ("ok", 5, "put", ["l", "w"]),
            ("ok", 5, "get", ["k", "v"]),
        ]


def test_what_is_printed_stands_in_the_history(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with Conversation("--history", str(path)) as conversation:
        conversation.do(f"{PAIR}put 5 k v")
        conversation.send("get 5 k\nget 5 k\n")
        printed = b""
        while len(printed) < len(b"k:v\nk:v\n"):
            assert conversation.process.stdout is not None
            printed += os.read(conversation.process.stdout.fileno(), 100)
        assert [line[:4] for line in completions(read(path))[4:]] == 2 * [("ok", 5, "get", ["k", "v"])]


def test_a_killed_master_leaves_all_but_the_end_of_its_history(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with Conversation("--history", str(path)) as conversation:
        conversation.do(PAIR)
        data = "".join(f"put 5 k{number % 9} v{number}\nget 5 k{number % 7}\n" for number in range(3000))
        conversation.send(data)
        wait_until(lambda: path.stat().st_size > 100_000, "some of the history")
        conversation.pids()
        conversation.process.kill()
        conversation.process.wait()
        *whole, _ = path.read_bytes().split(b"\n")
        assert [json.loads(line)["index"] for line in whole[1:]] == list(range(len(whole) - 1))
    assert check(path).verdict != "invalid"


def test_a_server_that_died_and_a_put_that_went_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with Conversation("--history", str(path), "--gossip-interval", "0") as conversation:
        conversation.do(f"{PAIR}createConnection 5 1\nput 5 k v")
        conversation.signal("server 0", signal.SIGKILL)
        conversation.do("put 5 k w\nget 5 k\njoinServer 0\nget 5 k\nstabilize\nget 5 k")
    lines = completions(read(path))[5:]
    assert lines[0] == ("info", "master", "died", [0], {"error": "server 0 died"})
    assert lines[1:3] == [
        ("ok", 5, "put", ["k", "w"], {"server": 1}),
        ("ok", 5, "get", ["k", "w"], {"server": 1}),
    ]
    assert check(path).verdict == "valid"


def test_a_put_cut_short_is_info_with_its_timestamp(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with Conversation(
        "--history", str(path), "--gossip-interval", "0", "--timeout", "1", "--no-pipeline"
    ) as conversation:
        conversation.do(f"{PAIR}put 5 k v")
        conversation.signal("server 0", signal.SIGSTOP)
        conversation.do("put 5 k w\njoinServer 0\nget 5 k\nput 5 k x\nget 5 k")
    lines = read(path)
    (uncertain,) = [line for line in lines if line["f"] == "put" and line["type"] == "info"]
    assert uncertain["value"] == ["k", "w"]
    assert uncertain["timestamp"] > next(line["timestamp"] for line in lines if "timestamp" in line)
    assert check(path).verdict == "valid"


def test_a_client_that_died_in_a_put(tmp_path: Path) -> None:
    path = tmp_path / "history"
    with Conversation("--history", str(path), "--gossip-interval", "0") as conversation:
        conversation.do(f"{PAIR}put 5 k v")
        conversation.signal("client 5", signal.SIGKILL)
        conversation.do("put 5 k w\nget 5 k\njoinClient 5 1\nget 5 k\nprintStore 0")
    assert ("info", "master", "died", [5], {"error": "client 5 died"}) in completions(read(path))
    assert check(path).verdict == "valid"


# -- the file ----------------------------------------------------------------------------------------------


def test_an_older_history_is_overwritten_once_the_run_begins(tmp_path: Path) -> None:
    path, data = tmp_path / "history", str(tmp_path / "data")
    path.write_text("x" * 100_000)
    with Conversation("--data-dir", data) as conversation:
        conversation.do("joinServer 0")
        assert run("joinServer 0\n", "--data-dir", data, "--history", str(path)).status == 2
        assert path.read_text() == "x" * 100_000
    run(PAIR, "--history", str(path))
    assert len(read(path)) == 6


@pytest.mark.parametrize("name", ["missing/history", ".", ""])
def test_a_file_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    result = run("joinServer 0\nnonsense\n", "--history", name and str(tmp_path / name))
    assert (result.stdout, result.status) == (b"", 2)
    assert "error" in result.stderr
    assert "nonsense" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_script_is_not_overwritten_by_its_own_history(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(PAIR)
    result = run("", str(script), "--history", str(script))
    assert result.status == 2
    assert script.read_text() == PAIR


def test_a_full_disk_is_one_warning_and_the_run_goes_on() -> None:
    result = run(f"{PAIR}put 5 k v\nget 5 k\n", "--history", "/dev/full")
    assert (result.stdout, result.status) == (b"k:v\n", 0)
    assert result.errors == ["warning: /dev/full: No space left on device; the history ends here"]
