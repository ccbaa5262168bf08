"""`master.py --json`: an object for each line, events between them, and all of it as docs/json.schema.json says."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest
from support.programs import SCHEMA, commands_of, errors_of, objects_of, stdout_of

from checking.driver import LIMIT_SECONDS, ROOT, Conversation, command, processes, run, run_directory, wait_until
from checking.oracle import random_script
from checking.telling import tell
from checking.traces import read


class Talk:
    """A master that is fed line by line."""

    def __init__(self, *options: str) -> None:
        self.conversation = Conversation("--json", *options)
        self._rest = b""
        self._output = b""
        self.begun = self.next()

    def next(self) -> dict[str, Any]:
        """The next object."""
        stdout = self.conversation.process.stdout
        assert stdout is not None
        while b"\n" not in self._rest:
            assert select.select([stdout], [], [], LIMIT_SECONDS)[0], "no object"
            piece = os.read(stdout.fileno(), 1 << 20)
            assert piece, "the master has ended"
            self._rest += piece
            self._output += piece
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def do(self, line: str | bytes) -> list[dict[str, Any]]:
        """What comes of one line: events, and its object."""
        self.conversation.send(line)
        objects = [self.next()]
        while objects[-1]["type"] in ("died", "warning"):
            objects.append(self.next())
        return objects

    def end(self) -> tuple[list[dict[str, Any]], int]:
        """End the master: all objects, checked, and the exit status."""
        with self.conversation:
            status = self.conversation.end()
        assert self._rest == b""
        return objects_of(self._output), status


def told(line: str, *options: str) -> list[dict[str, Any]]:
    """What comes of a script, piped; without what differs from run to run."""
    result = run(line, "--json", "--gossip-interval", "0", *options)
    assert result.stderr == ""
    return [lasting(found) for found in objects_of(result.stdout)]


def lasting(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in ("time", "took", "timestamp", "timestamps")}


def ok(line: int, text: str, **more: Any) -> dict[str, Any]:
    name, *words = text.split(" ")
    ids = [int(word) for word in words[: 1 if name in ("put", "get") else 2]]
    key = {"key": words[1]} if name in ("put", "get") else {}
    return {"type": "ok", "line": line, "text": text, "f": name, "ids": ids, **key, **more}


# -- each kind of object ---------------------------------------------------------------------------------------------


def test_the_example() -> None:
    script = (
        "joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 colour red\nstabilize\nbreakConnection 0 1\n"
        "put 5 colour blue\ncreateConnection 5 1\nbreakConnection 5 0\nget 5 colour\nget 5 shape\n"
        "createConnection 0 1\nstabilize\nget 5 colour\nprintStore 1\n"
    )
    began, *objects = told(script)
    assert (began["type"], began["json"]) == ("run", 1) and "trace" not in began
    bound = "Client 5 had itself put colour = blue in line 7. It must not read anything older from now on"
    why = [
        f"{bound} (Read Your Writes).",
        "Server 1 had red, put by client 5 in line 4. This value is older, so the server must not answer.",
        "At that moment, server 0 could have answered.",
        "No path of links led from there to the servers that were asked: they were in different partitions.",
    ]
    more: dict[int, dict[str, Any]] = {
        4: {"server": 0},
        7: {"server": 0},
        10: {"answer": "ERR_DEP", "why": why},
        11: {"answer": "ERR_KEY", "server": 1},
        14: {"value": "blue", "server": 1},
        15: {"store": [["colour", "blue"]], "server": 1},
    }
    lines = script.splitlines()
    assert objects == [ok(number, line, **more.get(number, {})) for number, line in enumerate(lines, 1)]


def test_every_line_has_one_object_also_what_is_no_command() -> None:
    script = "\n# a comment \njoinServer 0\r\n  printStore\t0 \nnonsense\nget 5\nget x k\njoinServer 0\nstatus 5\nhelp"
    _, *objects = told(script)
    assert [(found["line"], found["type"], found["text"]) for found in objects] == [
        (1, "skipped", ""),
        (2, "skipped", "# a comment"),
        (3, "ok", "joinServer 0"),
        (4, "ok", "printStore\t0"),
        (5, "error", "nonsense"),
        (6, "error", "get 5"),
        (7, "error", "get x k"),
        (8, "error", "joinServer 0"),
        (9, "error", "status 5"),
        (10, "error", "help"),
    ]
    assert [(found.get("f"), found["error"]) for found in objects[4:]] == [
        (None, "unknown command: nonsense"),
        (None, "get: wrong number of words; usage: get clientId key"),
        (None, "get: not an id: x (an id is a number of 1 to 18 digits)"),
        ("joinServer", "server 0 is already running"),
        (None, "status: wrong number of words; usage: status"),
        (None, "unknown command: help"),
    ]


def test_a_line_that_is_too_long_has_an_object_without_its_text() -> None:
    result = run(b"x" * (70 << 20) + b"\njoinServer 0\n", "--json")
    _, long, after = objects_of(result.stdout)
    assert (long["type"], long["line"], long["text"]) == ("error", 1, "")
    assert "longer than" in long["error"]
    assert (after["type"], after["line"]) == ("ok", 2)


def test_status_tells_servers_partitions_and_clients() -> None:
    _, empty, *_, status = told(
        "status\njoinServer 0\njoinServer 1\njoinServer 2\njoinClient 5 0\nput 5 k v\nbreakConnection 1 2\n"
        "breakConnection 0 2\nkillServer 1\nstatus"
    )
    assert empty["status"] == {"servers": [], "partitions": [], "clients": []}
    found = status["status"]
    pids = [one.pop("pid") for one in (found["servers"][0], found["servers"][2], found["clients"][0])]
    assert len(set(pids)) == 3
    assert found == {
        "servers": [
            {"id": 0, "state": "up", "links": [], "lacks": {"here": 0, "elsewhere": 0}},
            {"id": 1, "state": "killed"},
            {"id": 2, "state": "up", "links": [], "lacks": {"here": 0, "elsewhere": 1}},
        ],
        "partitions": [[0], [2]],
        "clients": [{"id": 5, "state": "up", "connections": [0]}],
    }


def test_shapes_of_links_are_told() -> None:
    script = (
        "joinServer 0\njoinServer 1\njoinClient 5 0\nshapeConnection 5 0 3ms 1ms\nshapeConnection 0 1 2ms 1\nstatus"
    )
    *_, shaped, wrong, status = told(script, "--delay", "4ms", "--loss", "2%")
    assert shaped == ok(4, "shapeConnection 5 0 3ms 1ms", shape="3ms 1ms")
    assert (wrong["type"], wrong["line"]) == ("error", 5)
    assert status["status"]["shape"] == "4ms 2%"
    assert status["status"]["shapes"] == [{"ids": [0, 5], "shape": "3ms 1ms"}]


def test_status_is_unknown_to_plain_scripts() -> None:
    result = run("status")
    assert (result.stdout, result.errors) == (b"", ["error: line 1: unknown command: status"])


def test_bytes_are_as_in_the_history(tmp_path: Path) -> None:
    key, value = b"\xff\xc3k", b"\xe9 gr\xc3\xbcn \x00\x7f"
    script = b"joinServer 0\njoinClient 5 0\nput 5 %s %s\nget 5 %s\nprintStore 0\n# \xfe\n" % (key, value, key)
    result = run(script, "--json", "--history", str(tmp_path / "history"))
    *_, put, get, store, comment = objects_of(result.stdout)
    history = [json.loads(line) for line in (tmp_path / "history").read_text().splitlines()]
    stored = next(line["value"] for line in history if line.get("f") == "put")
    assert [get["key"], get["value"]] == stored == store["store"][0]
    assert get["value"].encode("utf-8", "surrogateescape") == value
    assert put["text"].encode("utf-8", "surrogateescape") == b"put 5 %s %s" % (key, value)
    assert comment["text"] == "# \udcfe"


def test_files_are_named_and_their_lines_counted_by_themselves(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("joinServer 0\nkillServer 7\n")
    second.write_text("printStore 0\nnonsense")
    result = run("", "--json", str(first), str(second))
    _, *objects = objects_of(result.stdout)
    assert [(found["file"], found["line"], found["type"]) for found in objects] == [
        (str(first), 1, "ok"),
        (str(first), 2, "error"),
        (str(second), 1, "ok"),
        (str(second), 2, "error"),
    ]
    assert result.status == 1


# -- what happens by itself ------------------------------------------------------------------------------------------


def test_deaths_are_events_and_an_uncertain_put_is_no_error() -> None:
    talk = Talk("--timeout", "3", "--gossip-interval", "0")
    for line in ("joinServer 0", "joinServer 1", "joinServer 2", "joinClient 5 0", "joinClient 6 1", "put 5 a 1"):
        talk.do(line)
    talk.conversation.signal("server 2", signal.SIGKILL)
    died, listed = talk.do("printStore 1")
    assert lasting(died) == {"type": "died", "line": 7, "ids": [2], "error": "server 2 died"}
    assert (listed["type"], listed["store"]) == ("ok", [])
    talk.conversation.signal("server 0", signal.SIGSTOP)
    died, put = talk.do("put 5 a 2")
    assert lasting(died) == {
        "type": "died",
        "line": 8,
        "ids": [0],
        "error": "server 0 made no progress for 3 s, and was killed",
    }
    why = "uncertain: the server was lost before it answered; the value may stand later"
    assert (put["type"], put["error"], put["key"]) == ("uncertain", why, "a")
    assert type(put["timestamp"]) is int
    talk.conversation.signal("client 6", signal.SIGKILL)
    died, get = talk.do("get 6 a")
    assert (died["ids"], get["error"]) == ([6], "client 6 is not running")
    (status,) = talk.do("status")
    assert status["status"]["clients"][1] == {"id": 6, "state": "died", "connections": []}
    _, exit_status = talk.end()
    assert exit_status == 1


def test_damage_is_a_warning(tmp_path: Path) -> None:
    run("joinServer 0\njoinClient 5 0\nput 5 k v\nput 5 l w\n", "--data-dir", str(tmp_path))
    log = tmp_path / "server-0" / "log.0"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0xFF
    log.write_bytes(data)
    result = run("joinServer 0\n", "--json", "--data-dir", str(tmp_path))
    _, warning, joined = objects_of(result.stdout)
    assert (warning["type"], warning["line"]) == ("warning", 1) and "set aside" in warning["error"]
    assert (joined["type"], result.status, result.stderr) == ("ok", 0, "")


# -- why ---------------------------------------------------------------------------------------------------------------

WHY = {
    "monotonic reads, and gossip that has not come": (
        "joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 0\nput 6 k v\nget 5 k\nbreakConnection 5 0\n"
        "createConnection 5 1\nget 5 k",
        [
            "Client 5 had itself read k = v in line 6. It must not read anything older from now on (Monotonic Reads).",
            "Server 1 had no value for it, which counts as older than any.",
            "At that moment, server 0 could have answered.",
            "Links led from server 0 to the servers that were asked, but neither stabilize nor gossip had moved the "
            "write over them yet.",
        ],
    ),
    "the only one that had it is dead": (
        "joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 k v\ncreateConnection 5 1\nkillServer 0\nget 5 k",
        [
            "Client 5 had itself put k = v in line 4. It must not read anything older from now on (Read Your Writes).",
            "Server 1 had no value for it, which counts as older than any.",
            "At that moment, no running server could have answered.",
            "Server 0 had it, but had been killed (line 6).",
        ],
    ),
}


@pytest.mark.parametrize("case", WHY)
def test_why_a_get_is_err_dep(case: str) -> None:
    script, why = WHY[case]
    *_, get = told(script)
    assert (get["answer"], get["why"]) == ("ERR_DEP", why)


def test_why_also_where_the_disk_was_lost(tmp_path: Path) -> None:
    talk = Talk("--data-dir", str(tmp_path), "--gossip-interval", "0")
    for line in ("joinServer 0", "joinClient 5 0", "put 5 k v", "killServer 0"):
        talk.do(line)
    for path in (tmp_path / "server-0").iterdir():
        path.unlink()
    warning, _ = talk.do("joinServer 0")
    assert warning["type"] == "warning"
    (get,) = talk.do("get 5 k")
    talk.end()
    assert get["why"][1:] == [
        "Server 0 had no value for it, which counts as older than any.",
        "At that moment, no running server could have answered.",
        "Server 0 had it, but came back without it: its disk was lost or damaged.",
        "No server has it any more, so this session gets ERR_DEP until k is written again.",
    ]


LESSONS = sorted(set((ROOT / "examples").glob("*.txt")) - {ROOT / "examples" / "8-rumours.txt"})
"""All but the one with a hundred servers, whose trace takes long to read."""


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_why_is_what_the_report_says(lesson: Path, tmp_path: Path) -> None:
    """Of one and the same run; a report knows more of what became of those that are gone."""
    trace = tmp_path / "trace"
    result = run("", "--json", "--gossip-interval", "0", "--trace", str(trace), str(lesson))
    live = {found["line"]: found["why"] for found in objects_of(result.stdout) if "why" in found}
    story = tell(read(trace))
    reported = {int(done.where.split()[-1]): done.why for done in story.operations if done.outcome == "ERR_DEP"}
    assert live == reported


def moving_script(random: Random) -> list[str]:
    """Clients that move from server to server, which are often parted and sometimes killed."""
    lines = [f"joinServer {server}" for server in range(3)] + [f"joinClient {10 + one} {one % 3}" for one in range(4)]
    lines += [f"breakConnection 0 {server}" for server in (1, 2)]
    for number in range(60):
        client, server, other = random.randint(10, 13), *random.sample(range(3), 2)
        move = [
            f"createConnection {client} {server}",
            *(f"breakConnection {client} {one}" for one in {0, 1, 2} - {server}),
        ]
        lines += [f"put {client} k{number % 3} v{number}", f"get {client} k{random.randrange(3)}"]
        lines += random.choice([[], move, move, move, [f"createConnection {client} {other}"], ["stabilize"]])
        lines += [f"get {client} k{random.randrange(3)}"]
        if number % 15 == 14:
            lines += [
                f"killServer {server}",
                f"get {client} k1",
                f"joinServer {server}",
                f"breakConnection {server} {other}",
            ]
    return lines


@pytest.mark.parametrize("seed", range(6))
def test_why_is_what_the_report_says_of_random_scripts(seed: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    lines = moving_script(Random(seed))
    result = run("\n".join(lines), "--json", "--gossip-interval", "0", "--trace", str(trace))
    live = {found["line"]: found["why"] for found in objects_of(result.stdout) if "why" in found}
    story = tell(read(trace))
    assert live == {int(done.where.split()[-1]): done.why for done in story.operations if done.outcome == "ERR_DEP"}
    assert live


# -- the same as plain output ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_piped_and_line_by_line_it_says_what_plain_output_says(seed: int) -> None:
    lines = [line.rstrip(b"\r\n") for line in random_script(Random(seed), 120)]
    script = b"\n".join(lines)
    plain = run(script, "--gossip-interval", "0")
    piped = run(script, "--gossip-interval", "0", "--json")
    objects = objects_of(piped.stdout)
    assert [found["line"] for found in commands_of(objects)] == list(range(1, len(lines) + 1))
    assert (stdout_of(objects), errors_of(objects), piped.status) == (plain.stdout, plain.errors, plain.status)
    talk = Talk("--gossip-interval", "0")
    one_by_one = [found for line in lines for found in talk.do(line)]
    _, status = talk.end()
    assert (list(map(lasting, one_by_one)), status) == (list(map(lasting, objects[1:])), plain.status)


def test_many_puts_and_gets_are_still_under_way_at_once(tmp_path: Path) -> None:
    lines = [f"joinServer {server}" for server in range(2)] + [f"joinClient {10 + one} {one % 2}" for one in range(4)]
    for number in range(400):
        lines += [f"put {10 + number % 4} k{number % 20} v{number}", f"get {10 + number % 4} k{number % 20}"]
    result = run("\n".join(lines), "--json", "--trace", str(tmp_path / "trace"))
    assert len(commands_of(objects_of(result.stdout))) == len(lines)
    groups = [event for event in read(tmp_path / "trace")["master"] if event.name == "group"]
    assert sum(len(event.details["commands"]) for event in groups) > 600


# -- options and ends --------------------------------------------------------------------------------------------------


def test_a_record_goes_with_the_run() -> None:
    talk = Talk("--record")
    talk.do("joinServer 0")
    talk.do("joinClient 5 0")
    talk.do("put 5 k v")
    trace, history = Path(talk.begun["trace"]), Path(talk.begun["history"])
    assert set(read(trace)) == {"master", "server 0", "client 5"}
    assert [json.loads(line)["type"] for line in history.read_text().splitlines()[1:]] == ["invoke", "ok"] * 3
    talk.end()
    assert not trace.exists() and not history.exists()


def test_a_trace_and_a_history_of_ones_own_stay(tmp_path: Path) -> None:
    options = ("--trace", str(tmp_path / "trace"), "--history", str(tmp_path / "history"), "--record")
    began, *_ = told("joinServer 0", *options)
    assert (began["trace"], began["history"]) == (str(tmp_path / "trace"), str(tmp_path / "history"))
    assert {path.name for path in (tmp_path / "trace").iterdir()} == {"master.trace", "server-0.trace"}
    assert (tmp_path / "history").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--json", "--show"), "argument --show: not allowed with argument --json"),
        (("--record",), "argument --record: only with --json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_do_not_go_together(options: tuple[str, ...], why: str) -> None:
    result = run("", *options)
    assert (result.stdout, result.status) == (b"", 2)
    assert why in result.errors[-1]


def test_at_a_terminal_there_is_no_prompt() -> None:
    inside, outside = os.openpty()
    master = subprocess.Popen(command("--json"), stdin=outside, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(outside)
    os.write(inside, b"joinServer 0\n\x04")
    stdout, stderr = master.communicate(timeout=LIMIT_SECONDS)
    os.close(inside)
    assert [found["type"] for found in objects_of(stdout)] == ["run", "ok"]
    assert (stderr, master.returncode) == (b"", 0)


def test_input_that_cannot_be_read_is_an_error_of_the_run(tmp_path: Path) -> None:
    with open(tmp_path / "written", "wb") as unreadable:
        done = subprocess.run(command("--json"), stdin=unreadable, capture_output=True, check=False)
    _, failure = objects_of(done.stdout)
    assert lasting(failure) == {"type": "error", "error": "standard input: Bad file descriptor"}
    assert (done.returncode, done.stderr) == (1, b"")


def ended(end: Callable[[subprocess.Popen[bytes]], object], *, status: int) -> None:
    """Bring a run with a server about its end; nothing may be left of it, and nothing be said."""
    master = subprocess.Popen(
        command("--json", "--record"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert master.stdin and master.stdout and master.stderr
    master.stdin.write(b"joinServer 0\n")
    master.stdin.flush()
    master.stdout.readline()
    assert b'"ok"' in master.stdout.readline()
    directory = run_directory(master.pid)
    assert directory is not None and len(processes(directory)) == 3
    end(master)
    assert master.wait(LIMIT_SECONDS) == status
    wait_until(lambda: not processes(directory) and not directory.exists(), "the end of the run")
    assert master.stderr.read() == b""
    for stream in (master.stdin, master.stdout, master.stderr):
        try:
            stream.close()
        except BrokenPipeError:
            pass  # what it was to read


def test_ctrl_c_ends_it() -> None:
    ended(lambda master: master.send_signal(signal.SIGINT), status=130)


def test_it_may_be_killed() -> None:
    ended(lambda master: master.kill(), status=-signal.SIGKILL)


def test_nobody_reads_any_more() -> None:
    def end(master: subprocess.Popen[bytes]) -> None:
        assert master.stdin and master.stdout
        master.stdout.close()
        master.stdin.write(b"printStore 0\n")
        master.stdin.flush()

    ended(end, status=128 + signal.SIGPIPE)


# -- the schema --------------------------------------------------------------------------------------------------------

GOOD = {"type": "ok", "line": 1, "text": "get 5 k", "f": "get", "ids": [5], "key": "k", "time": 1, "took": 1}
WRONG = [
    GOOD,
    {**GOOD, "value": "v"},
    {**GOOD, "answer": "ERR_DEP"},
    {**GOOD, "answer": "ERR_KEY", "value": "v", "server": 0, "timestamp": 1},
    {**GOOD, "f": "put", "value": "v", "server": 0, "timestamp": 1},
    {**GOOD, "answer": "ERR_KEY", "server": 0, "more": 1},
    {"type": "error", "time": 1, "took": 1},
    {"type": "died", "error": "x", "time": 1},
    {"type": "nonsense"},
    {},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_the_schema_refuses_what_is_wrong(wrong: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert not validator.is_valid(wrong)
    assert validator.is_valid({**GOOD, "answer": "ERR_KEY", "server": 0})


def test_the_page_names_each_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    page = (ROOT / "docs" / "json.md").read_text()
    fields = {name for part in SCHEMA["$defs"].values() for name in part.get("properties", {})}
    assert fields - set(re.findall(r"`(\w+)`", page)) == set()
