"""--trace, what checking/story.py tells of it, and the log for ShiViz."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from support.scripts import FAULTS, SESSIONS, generated
from support.terminal import Terminal

from checking.differing import differences
from checking.driver import ROOT, Conversation, run
from checking.report import SHIVIZ_PARSER, shiviz
from checking.story import Story, StoryOperation
from checking.telling import tell
from checking.traces import read
from control.explaining import shown
from rpc import tracing


def traced(script: str, folder: Path, *options: str) -> tuple[Story, list[str], list[str]]:
    """A run's story, the lines that it printed, and its errors."""
    result = run(script, "--gossip-interval", "0", "--trace", str(folder), *options)
    return tell(read(folder)), result.stdout.decode().splitlines(), result.stderr.splitlines()


def place(story: Story, name: str) -> int:
    return story.processes.index(name)


def operation(story: Story, line: int) -> StoryOperation:
    (found,) = [done for done in story.operations if done.where.endswith(f"line {line}")]
    return found


def store(story: Story, server: int, event: int) -> dict[str, str]:
    """The store of a server after an event, according to the story."""
    held: dict[str, str] = {}
    for changed, where, key, write in story.changes:
        if changed <= event and where == server:
            if write is None:
                del held[key]
            else:
                held[key] = story.writes[write].value
    return held


@pytest.fixture(scope="module", params=[(), ("--no-pipeline",)], ids=["pipeline", "one by one"])
def sessions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    story, printed, errors = traced(SESSIONS, tmp_path_factory.mktemp("trace"), *request.param)
    assert printed == ["password:ERR_DEP", "password:swordfish", "shoesize:ERR_KEY"]
    assert not errors
    return story


def test_processes_are_in_order(sessions: Story) -> None:
    assert sessions.processes == ["master", "client 10", "client 11", "server 0", "server 1"]


def test_an_err_dep_is_explained(sessions: Story) -> None:
    asked = operation(sessions, 11)
    assert (asked.outcome, sessions.processes[asked.client]) == ("ERR_DEP", "client 10")
    assert asked.why == [
        "Client 10 had itself put password = mellon in line 8. "
        "It must not read anything older from now on (Read Your Writes).",
        "Server 1 had swordfish, put by client 10 in line 5. This value is older, so the server must not answer.",
        "At that moment, server 0 could have answered.",
        "No path of links led from there to the servers that were asked: they were in different partitions.",
    ]


def test_each_event_that_has_a_mark_is_told_in_a_sentence(sessions: Story) -> None:
    said = [event.said for event in sessions.events if event.said and event.kind != "printed"]
    for sentence in (
        "Line 1 starts server 0.",
        "Server 0 starts with an empty store.",
        "Line 3 starts client 10, with a connection to server 0.",
        "Line 5 has client 10 put password = swordfish.",
        "Server 0 stores password = swordfish.",
        "Client 10 is told that password = swordfish is stored.",
        "Server 1 learns password = swordfish from server 0.",
        "stabilize is done: servers that can reach each other hold the same.",
        "Line 7 breaks the connection between server 0 and server 1.",
        "Server 0 stores password = mellon, where swordfish stood.",
        "Line 10 connects client 10 and server 1.",
        "Server 1 has only swordfish, which is older; since client 10 has seen a newer one, "
        "it must not answer: ERR_DEP.",
        "Client 10 is answered ERR_DEP: it has put password = mellon in line 8, "
        "and no server that it asked has that or newer.",
        "Server 1 answers that password is swordfish.",
        "Server 1 has no value for shoesize, so it answers ERR_KEY.",
    ):
        assert said.count(sentence) == 1, sentence
    (parted,) = [sentence for sentence in said if "partitions" in sentence]
    assert parted.endswith("The servers are now in 2 partitions: server 0; server 1.")
    calls = ("call", "called", "answer", "answered", "issued", "run")
    assert all(bool(event.said) == (event.kind not in calls) for event in sessions.events)


def test_the_script_is_listed_as_it_ran(sessions: Story) -> None:
    lines = [(line.where, line.text, line.answer) for line in sessions.lines]
    assert [text for _, text, _ in lines] == SESSIONS.splitlines()
    assert [where for where, _, _ in lines] == [f"line {number}" for number in range(1, 14)]
    assert [answer for _, _, answer in lines[10:]] == ["password:ERR_DEP", "password:swordfish", "shoesize:ERR_KEY"]
    assert not any(line.error for line in sessions.lines)
    assert sessions.opening == operation(sessions, 11).event


def test_errors_and_stores_are_listed(tmp_path: Path) -> None:
    script = "joinServer 0\nnonsense\njoinClient 5 0\nput 5 k v\nprintStore 0\nkillServer 3\n"
    story, _, errors = traced(script, tmp_path)
    assert len(errors) == 2
    listed = {line.where: (line.text, line.answer, line.error) for line in story.lines}
    assert listed["line 2"][0] == ""
    assert "unknown command" in listed["line 2"][2]
    assert listed["line 5"] == ("printStore 0", "k:v", "")
    assert listed["line 6"][::2] == ("killServer 3", errors[1].removeprefix("error: line 6: "))
    assert [line.where for line in story.lines] == [f"line {number}" for number in range(1, 7)]


@pytest.mark.parametrize(
    ("script", "opens_on"),
    [
        ("joinServer 0\n", None),
        ("joinServer 0\njoinClient 5 0\nput 5 k v\n", "put k v"),
        ("joinServer 0\njoinServer 1\nbreakConnection 0 1\njoinClient 5 0\nput 5 k v\n", "cut from"),
        (
            "joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 k v\nput 6 k w\nstabilize\n",
            "learns k =",
        ),
    ],
    ids=["nothing", "a put", "a partition", "a conflict"],
)
def test_a_story_opens_on_what_is_worth_seeing(script: str, opens_on: str | None, tmp_path: Path) -> None:
    story, _, _ = traced(script, tmp_path)
    if opens_on is None:
        assert story.opening is None
    else:
        assert story.opening is not None
        assert story.events[story.opening].text.startswith(opens_on)


def test_where_two_runs_begin_to_differ(tmp_path: Path) -> None:
    begin = "joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 k v\n"
    one, _, _ = traced(begin + "stabilize\nget 6 k\n", tmp_path / "one")
    other, _, _ = traced(begin + "get 6 k\n", tmp_path / "other")
    found = differences(one, other)
    assert found["pairs"][5:] == [(5, None), (6, 5)]
    assert found["differing"] == [5, 6]
    assert found["first"] == (5, "Line 6 ran in A alone: stabilize")
    again = differences(one, one)
    assert (again["differing"], again["first"], again["stores"]) == ([], None, None)
    third, _, _ = traced(begin.replace("5 k v", "5 k w") + "stabilize\nget 6 k\n", tmp_path / "third")
    found = differences(one, third)
    assert found["stores"] == (4, "After line 5, server 0 has k = v in A, and has k = w in B.")
    assert found["first"] == (4, "Line 5 is put 5 k v in A, and put 5 k w in B.")
    assert found["differing"] == [4, 6]


def test_answers_are_explained(sessions: Story) -> None:
    assert operation(sessions, 12).why == [
        "Client 11 had neither read nor written password before, so any value, or none, is right.",
        "Server 1 had swordfish, put by client 10 in line 5.",
    ]
    assert operation(sessions, 13).why[1:] == ["Server 1 had no value for it: ERR_KEY."]


def test_a_write_is_followed(sessions: Story) -> None:
    write = operation(sessions, 5).write
    assert write is not None
    swordfish = sessions.writes[write]
    arrivals = [(sessions.processes[arrival.server], arrival.source) for arrival in swordfish.arrivals]
    assert arrivals == [("server 0", None), ("server 1", place(sessions, "server 0"))]
    message = swordfish.arrivals[1].message
    assert message is not None
    assert sessions.messages[message].writes == [write]
    assert sessions.messages[message].name == "pull"
    assert [sessions.operations[number].where[-7:] for number in swordfish.reads] == ["line 12"]
    mellon = sessions.writes[operation(sessions, 8).write or 0]
    assert [arrival.server for arrival in mellon.arrivals] == [place(sessions, "server 0")]
    assert (mellon.dot, mellon.clock) == ("0: 2", ["0: 2"])


def test_partitions_and_staleness(sessions: Story) -> None:
    zero, one = place(sessions, "server 0"), place(sessions, "server 1")
    assert [components for _, components in sessions.partitions] == [[[zero]], [[zero, one]], [[zero], [one]]]
    # swordfish on one of two; on both; mellon on one of two, which are parted
    assert [point[1:] for point in sessions.staleness] == [(0, 0), (1, 1), (0, 0), (1, 0)]


def test_reads_and_writes_of_one_batch_are_causes(tmp_path: Path) -> None:
    story, _, _ = traced(
        "joinServer 0\njoinClient 10 0\njoinClient 11 0\nput 10 k a\nget 11 k\nput 11 k b\nget 11 k\nput 11 k c\n",
        tmp_path,
    )
    assert [write.clock for write in story.writes] == [["0: 1"], ["0: 2"], ["0: 3"]]
    assert all(not write.concurrent for write in story.writes)


def test_concurrent_writes_are_named(tmp_path: Path) -> None:
    script = "joinServer 0\njoinServer 1\njoinClient 10 0\njoinClient 11 1\nput 10 k a\nput 11 k b\nstabilize\n"
    story, _, _ = traced(script, tmp_path)
    assert [write.concurrent for write in story.writes] == [[1], [0]]
    assert operation(story, 5).why[-1] == (
        "It is concurrent with b: neither author had seen the other's write. "
        "By their timestamps, the other one is later, and stands."
    )


@pytest.mark.parametrize("options", [(), ("--no-pipeline",)], ids=["pipeline", "one by one"])
@pytest.mark.parametrize("seed", range(3))
def test_the_story_agrees_with_the_run(seed: int, options: tuple[str, ...], tmp_path: Path) -> None:
    script = generated("--operations", "400", "--keys", "12", "--seed", str(seed), *FAULTS)
    script = script.replace("stabilize\n", "stabilize\nprintStore 0\n")
    # printStore is an error where server 0 is dead; the lines of the others are compared
    story, printed, errors = traced(script, tmp_path / "trace", *options)
    assert all("printStore: server 0 is not running" in error for error in errors)
    assert [done.where for done in story.operations] == [
        f"line {number}" for number, line in enumerate(script.splitlines(), 1) if line.startswith(("put", "get"))
    ]
    told: list[str] = []
    for number, event in enumerate(story.events):
        if event.kind == "command" and event.text.startswith("printStore") and event.printed:
            told += event.printed.splitlines()
            server = place(story, f"server {event.text.split()[1]}")
            held = store(story, server, number)
            assert event.printed.splitlines() == [f"{key}:{held[key]}" for key in sorted(held)]
        elif event.kind == "command" and event.text.startswith("get"):
            assert event.operation is not None
            done = story.operations[event.operation]
            told.append(f"{done.key}:{done.value if done.outcome == 'value' else done.outcome}")
    assert told == printed
    assert story.staleness[-1][1:] == (0, 0)
    assert all(event.outcome != "lost" for event in story.operations)


def test_messages_go_forward_in_time(sessions: Story) -> None:
    assert sessions.messages
    assert all(earlier.time <= later.time for earlier, later in pairwise(sessions.events))
    for message in sessions.messages:
        assert message.sent < message.received
        assert sessions.events[message.sent].process != sessions.events[message.received].process


def test_clocks_say_what_can_have_caused_what(sessions: Story) -> None:
    clocks: list[dict[int, int]] = []
    latest: dict[int, dict[int, int]] = {}
    for event in sessions.events:
        changed = dict(zip(event.clock[::2], event.clock[1::2], strict=True))
        latest[event.process] = {**latest.get(event.process, {}), **changed}
        clocks.append(latest[event.process])
    for message in sessions.messages:
        sender = clocks[message.sent]
        assert all(clocks[message.received].get(process, 0) >= number for process, number in sender.items())


def test_a_lost_disk_and_a_revival_are_in_the_story(tmp_path: Path) -> None:
    script = "joinServer 0\njoinClient 5 0\nput 5 k v\nkillServer 0\njoinServer 0\nput 5 k w\nget 5 k\n"
    story, printed, _ = traced(script, tmp_path)
    assert printed == ["k:w"]
    assert [event.text for event in story.events if event.kind == "started"] == ["starts empty", "revived with 1 write"]
    assert [(life.ended is None) for life in story.lives] == [False, True]
    assert [write.dot for write in story.writes] == ["0: 1", "0, life 2: 1"]
    assert story.writes[1].clock == ["0: 1", "0, life 2: 1"]


def test_a_server_that_is_killed_from_outside_is_in_the_story(tmp_path: Path) -> None:
    with Conversation("--gossip-interval", "0", "--trace", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 k v")
        os.kill(conversation.pids()["server 0"], signal.SIGKILL)
        conversation.do("get 5 k\ncreateConnection 5 1\nget 5 k")
    story = tell(read(tmp_path))
    assert [done.outcome for done in story.operations] == ["stored", "unusable", "ERR_DEP"]
    assert [life.ended is None for life in story.lives] == [False, True]
    assert story.partitions[-1][1] == [[place(story, "server 1")]]
    assert story.operations[1].why[-1] == "No server answered (unusable)."
    assert story.operations[2].why[-2:] == [
        "At that moment, no running server could have answered.",
        "Server 0 had it, but had died.",
    ]


BEHIND = """\
joinServer 0
joinServer 1
joinServer 2
joinClient 5 0
createConnection 5 1
put 5 k v
"""


@pytest.mark.parametrize(
    ("then", "why"),
    [
        (
            "breakConnection 5 0\n",
            [
                "At that moment, server 0 could have answered.",
                "Links led from server 0 to the servers that were asked, "
                "but neither stabilize nor gossip had moved the write over them yet.",
            ],
        ),
        (
            "breakConnection 0 1\nbreakConnection 2 1\nstabilize\nbreakConnection 5 0\n",
            [
                "At that moment, server 0 and server 2 could have answered.",
                "No path of links led from there to the servers that were asked: they were in different partitions.",
            ],
        ),
        (
            "breakConnection 0 1\nbreakConnection 2 0\nbreakConnection 5 0\nput 5 other v\ncreateConnection 5 2\n",
            [
                "At that moment, server 0 could have answered.",
                "No path of links led from there to the servers that were asked: they were in different partitions.",
            ],
        ),
        (
            "killServer 0\n",
            [
                "At that moment, no running server could have answered.",
                "Server 0 had it, but had been killed (line 7).",
            ],
        ),
        (
            "breakConnection 0 1\nbreakConnection 2 1\nstabilize\nkillServer 2\nkillServer 0\n",
            [
                "At that moment, no running server could have answered.",
                "Server 0 had it, but had been killed (line 11).",
                "Server 2 had it, but had been killed (line 10).",
            ],
        ),
    ],
    ids=["links", "parted", "parted from all that were asked", "killed", "two killed"],
)
def test_who_had_it_and_why_it_cannot_answer(then: str, why: list[str], tmp_path: Path) -> None:
    story, printed, errors = traced(f"{BEHIND}{then}get 5 k\n", tmp_path)
    assert (printed, errors) == (["k:ERR_DEP"], [])
    assert story.operations[-1].why[-len(why) :] == why


@pytest.mark.parametrize("other", [False, True], ids=["the only copy", "another one is down"])
def test_a_lost_copy_explains_an_err_dep(other: bool, tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    with Conversation("--gossip-interval", "0", "--data-dir", str(stores), "--trace", str(tmp_path / "t")) as master:
        master.do("joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 k v")
        if other:
            master.do("stabilize\nkillServer 1")
        master.do("killServer 0")
        shutil.rmtree(stores / "server-0")
        master.do("joinServer 0\nget 5 k")
    story = tell(read(tmp_path / "t"))
    assert story.operations[-1].outcome == "ERR_DEP"
    lost = "Server 0 had it, but came back without it: its disk was lost."
    assert [re.sub(r" \(line \d+\)", "", sentence) for sentence in story.operations[-1].why[2:]] == [
        "At that moment, no running server could have answered.",
        *(
            ["Server 1 had it, but had been killed.", lost]
            if other
            else [lost, "No server has it any more, so this session gets ERR_DEP until k is written again."]
        ),
    ]


def test_the_stores_of_an_earlier_run_are_in_the_story(tmp_path: Path) -> None:
    stores = ("--data-dir", str(tmp_path / "stores"))
    run("joinServer 0\njoinClient 5 0\nput 5 k v\n", *stores)
    story, printed, _ = traced("joinServer 0\njoinClient 5 0\nget 5 k\n", tmp_path / "trace", *stores)
    assert printed == ["k:v"]
    (write,) = story.writes
    assert (write.value, write.operation, write.arrivals) == ("v", None, [])
    assert write.dot.startswith("0, earlier run")


def test_a_run_that_is_killed_leaves_a_trace(tmp_path: Path) -> None:
    with Conversation("--trace", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v")
        conversation.process.send_signal(signal.SIGKILL)
        conversation.process.wait()
    story = tell(read(tmp_path))
    assert [done.outcome for done in story.operations] == ["stored"]


def test_a_torn_trace_is_used_up_to_its_last_complete_event(tmp_path: Path) -> None:
    traced(SESSIONS, tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.glob("*.trace")}
    for path, data in whole.items():
        for kept in range(0, len(data), 97):
            path.write_bytes(data[:kept])
            story = tell(read(tmp_path))
            assert len(story.processes) == 5
        path.write_bytes(data)
    (tmp_path / "client-10.trace").unlink()
    assert [done.where for done in tell(read(tmp_path)).operations] == ["line 12"]  # client 11's


def test_an_earlier_trace_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    traced("joinServer 0\njoinServer 7\n", tmp_path)
    story, _, _ = traced("joinServer 0\n", tmp_path)
    assert story.processes == ["master", "server 0"]
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_trace_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("joinServer 0\n", "--trace", str(tmp_path / "file"))
    assert (result.status, result.stdout) == (2, b"")
    assert result.stderr == f"error: {tmp_path / 'file'}: File exists\n"


# -- ShiViz ------------------------------------------------------------------------------------------------------


def test_shiviz_can_read_the_log(tmp_path: Path) -> None:
    """Each host counts its events from 1 without a gap, and knows only existing events, as ShiViz requires."""
    traced(generated("--operations", "150", *FAULTS), tmp_path)
    parser, delimiter, log = "\n".join(shiviz(read(tmp_path))).split("\n", 2)
    assert (parser, delimiter) == (SHIVIZ_PARSER, "")
    numbers: dict[str, int] = {}
    clocks = []
    matches = list(re.finditer(parser.replace("(?<", "(?P<"), log))
    assert 2 * len(matches) == log.count("\n") + 1
    for match in matches:
        clock = json.loads(match["clock"])
        numbers[match["host"]] = numbers.get(match["host"], 0) + 1
        assert clock[match["host"]] == numbers[match["host"]]
        assert match["event"].strip()
        clocks.append(clock)
    assert len(numbers) == 1 + 5 + 5
    for clock in clocks:
        assert all(1 <= number <= numbers[host] for host, number in clock.items())


def test_events_of_a_trace_are_read_as_written(tmp_path: Path) -> None:
    run("joinServer 0\nnonsen\xffse\n".encode("latin-1"), "--trace", str(tmp_path))
    events = [event for event in tracing.read(tmp_path / "master.trace") if event.name in ("command", "error")]
    assert [event.details for event in events] == [
        {"where": "line 1", "text": b"joinServer 0"},
        {"text": "line 2: unknown command: nonsen\\xffse"},
    ]


def test_a_run_at_the_prompt_is_in_the_story(tmp_path: Path) -> None:
    with Terminal(tmp_path, "--trace", str(tmp_path / "trace")) as terminal:
        terminal.until_prompt()
        assert terminal.end("exit\r") == 0
    assert tell(read(tmp_path / "trace")).scripts == ["the prompt"]


def test_a_script_with_an_odd_name_is_traced(tmp_path: Path) -> None:
    (tmp_path / "\udcff.txt").write_text("joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k\n")
    story, printed, errors = traced("", tmp_path / "trace", str(tmp_path / "\udcff.txt"))
    assert (printed, errors) == (["k:v"], [])
    assert story.scripts == [str(tmp_path / "\udcff.txt")]


@pytest.mark.parametrize("key", ["\x0c", "\xa0key", "k" * 60_000], ids=["form feed", "no-break space", "long"])
def test_a_key_may_be_anything(key: str, tmp_path: Path) -> None:
    story, _, errors = traced(f"joinServer 0\njoinClient 5 0\nput 5 {key} v\nget 5 {key}\n", tmp_path)
    assert errors == []
    assert [(done.key, done.value, done.outcome) for done in story.operations] == [
        (shown(key.encode()), "v", "stored"),
        (shown(key.encode()), "v", "value"),
    ]


def test_keys_that_look_alike_are_distinguished(tmp_path: Path) -> None:
    """They are an escaped byte and the text of its escape, and two keys that differ only where they are shortened."""
    long = b"k" * 1000
    script = b"joinServer 0\njoinClient 5 0\nput 5 \xff one\nput 5 %s1 three\n" % long
    path = tmp_path / "script"
    path.write_bytes(script + b"get 5 \\xff\nput 5 \\xff two\nget 5 %s2\nget 5 \xff\nprintStore 0\n" % long)
    run("", "--trace", str(tmp_path / "trace"), str(path))
    story = tell(read(tmp_path / "trace"))
    assert [(done.key, done.outcome) for done in story.operations] == [
        (r"\xff", "stored"),
        (shown(long + b"1"), "stored"),
        (r"\xff [2]", "ERR_KEY"),
        (r"\xff [2]", "stored"),
        (shown(long + b"2") + " [2]", "ERR_KEY"),
        (r"\xff", "value"),
    ]
    assert len({key for _, _, key, _ in story.changes}) == 3


def test_a_trace_that_fills_the_disk_is_reported_at_the_end(tmp_path: Path) -> None:
    script = "joinServer 0\njoinClient 5 0\n" + "put 5 k v\n" * 500 + "get 5 k\n"
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)); "
    limit += "os.execv(sys.argv[1], sys.argv[1:])"
    limited = (sys.executable, "-c", limit)  # enough for the log
    result = run(script, "--trace", str(tmp_path), "--no-pipeline", prefix=limited)
    assert (result.stdout, result.status) == (b"k:v\n", 0)
    assert re.fullmatch(rf"warning: {tmp_path}: .*; the trace ends before the run\n", result.stderr)
    assert len(tell(read(tmp_path)).operations) > 10


LIVES = """
import os, resource, sys
from pathlib import Path
from rpc import tracing

def live(*names, then):
    if os.fork() == 0:
        tracing.begin("server 0")
        for name in names:
            tracing.event(name)
        then()
        os._exit(0)
    os.wait()

def tear():
    os.write(tracing._file, b"\\x94\\xcf\\x00")

def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.fstat(tracing._file).st_size + 100, resource.RLIM_INFINITY))
    for number in range(20):
        tracing.event("full", number=number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    tracing.event("room again")

tracing.enable(Path(sys.argv[1]))
live("one", "two", then=tear)
live("three", then=fill)
live("four", then=lambda: None)
"""


def test_events_after_a_torn_one_are_readable(tmp_path: Path) -> None:
    """A process is killed in the middle of an event, or its disk is full. Later events continue the count."""
    subprocess.run([sys.executable, "-c", LIVES, str(tmp_path)], cwd=ROOT, check=True)
    events = list(tracing.read(tmp_path / "server-0.trace"))
    names = [event.name for event in events]
    assert names[:3] == ["one", "two", "three"]
    assert names[-1] == "four"
    assert 1 < names.count("full") < 20
    assert len(names) == 4 + names.count("full")
    assert [event.number for event in events] == list(range(1, len(events) + 1))
