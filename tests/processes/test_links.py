"""Links with delay and loss between real processes: nothing of what is printed changes, and every wait can be ended.

A delay of a minute stands for one that nobody waits for: a test that had to would exceed the limit of the driver.
"""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

import pytest
from support.terminal import Terminal

from checking.drawing import draw
from checking.driver import Conversation, processes, run, wait_until
from checking.telling import tell
from checking.traces import read
from checking.workload import Plan, Sizes, Workload
from rpc import tracing
from rpc.tracing import Event

NO_GOSSIP = ("--gossip-interval", "0")
TWO = "joinServer 0\njoinServer 1\n"


def events(folder: Path, process: str, name: str) -> list[Event]:
    path = folder / f"{process}.trace"
    return [event for event in tracing.read(path) if event.name == name] if path.exists() else []


def wait_until_under_way(folder: Path, process: str) -> None:
    wait_until(lambda: events(folder, process, "delayed"), "a message to be under way")


# -- what is printed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_random_scripts_print_the_same_with_and_without_shapes(seed: int) -> None:
    plan = Plan(80, 4, 4, ("full", "chain", "tree")[seed], 0.5, 8, "uniform", Sizes("3-9"), 40, 15, 25, 20, seed)
    lines = list(Workload(plan).lines())
    plain = run("\n".join(lines), *NO_GOSSIP)
    chooser = Random(seed)
    first = next(number for number, line in enumerate(lines) if line.startswith("joinClient"))
    for _ in range(12):  # the links of clients as well, and other shapes in between
        client, server, other = 1000 + chooser.randrange(4), chooser.randrange(4), chooser.randrange(3)
        ends = chooser.choice((f"{client} {server}", f"{server} {(server + 1 + other) % 4}"))
        shape = chooser.choice(("0ms", "3ms 1ms", "4ms 4ms 30%", "1ms 40%"))
        lines.insert(chooser.randrange(first + 4, len(lines)), f"shapeConnection {ends} {shape}")
    shaped = run("\n".join(lines), *NO_GOSSIP, "--delay", "3ms", "--jitter", "2ms", "--loss", "5%")
    assert (plain.status, plain.stderr) == (0, "")
    assert (shaped.stdout, shaped.status, shaped.stderr) == (plain.stdout, 0, "")


def test_nobody_is_killed_for_a_slow_link() -> None:
    """Every message takes longer than a process may be silent."""
    script = TWO + "joinClient 5 0\nshapeConnection 5 0 400ms\nput 5 k v\nget 5 k\nstabilize\nprintStore 1\nget 5 k\n"
    done = run(script, *NO_GOSSIP, "--timeout", "0.3", "--delay", "400ms")
    assert (done.stdout, done.stderr) == (b"k:v\nk:v\nk:v\n", "")


# -- what the trace tells ------------------------------------------------------------------------------------


def test_no_message_arrives_early_and_messages_arrive_in_order(tmp_path: Path) -> None:
    script = TWO + "joinClient 5 0\njoinClient 6 1\n"
    for number in range(5):
        script += f"put 5 a{number} x\nput 6 b{number} y\nstabilize\n"
    shape = ("--delay", "8ms", "--jitter", "8ms", "--loss", "20%", "--seed", "1")  # by which some messages are lost
    run(script, *NO_GOSSIP, *shape, "--trace", str(tmp_path))
    delayed = lost = 0
    for caller, called in ((0, 1), (1, 0)):
        calls = {event.number: event for event in events(tmp_path, f"server-{caller}", "call")}
        arrived = [event for event in events(tmp_path, f"server-{called}", "called") if event.details["name"] == "pull"]
        due = {}
        for event in events(tmp_path, f"server-{caller}", "delayed"):
            if event.details["way"] == "call":
                due[event.details["number"]] = event.time + event.details["wait"]
        for event in arrived:
            number = event.details["number"]
            assert calls[number].details["name"] == "pull"
            assert event.time >= due[number] - 1_000_000, "the event is written a little after the wait was measured"
        numbers = [event.details["number"] for event in arrived]
        assert sorted(numbers, key=lambda number: due[number]) == numbers
        delayed += len(due)
        lost += len(events(tmp_path, f"server-{caller}", "lost"))
    assert delayed >= 10
    assert lost > 0
    story = tell(read(tmp_path))
    assert len(story.losses) == lost
    for loss in story.losses:
        caller = loss.receiver if loss.answer else loss.sender
        assert story.events[loss.event].process == caller
        assert {story.processes[loss.sender], story.processes[loss.receiver]} == {"server 0", "server 1"}
    assert draw(story).count("lost</title>") == lost


def test_equal_seeds_lose_the_same_messages(tmp_path: Path) -> None:
    def fates(seed: int) -> list[tuple[str, str]]:
        script = "joinServer 0\njoinClient 5 0\nshapeConnection 5 0 1ms 40%\n" + "put 5 k v\nget 5 k\n" * 8
        run(script, *NO_GOSSIP, "--seed", str(seed), "--trace", str(tmp_path))
        told = [event for event in tracing.read(tmp_path / "client-5.trace") if event.name in ("lost", "delayed")]
        return [(event.name, event.details["way"]) for event in told]

    first = fates(1)
    assert fates(1) == first
    assert fates(2) != first
    assert {"lost", "delayed"} == {name for name, _ in first}
    assert sum(name == "delayed" for name, _ in first) == 32, "each of the 32 messages arrives once"


# -- waits that end at once ----------------------------------------------------------------------------------


def test_a_server_that_dies_ends_the_wait_of_its_client(tmp_path: Path) -> None:
    with Conversation(*NO_GOSSIP, "--trace", str(tmp_path)) as talk:
        talk.do(TWO + "joinClient 5 0\ncreateConnection 5 1\nshapeConnection 5 0 60s\n")
        talk.send("put 5 k v\n")
        wait_until_under_way(tmp_path, "client-5")
        talk.signal("server 0", signal.SIGKILL)
        assert talk.do().errors == ["put: server 0 died"]
        assert talk.do("printStore 1\n").stdout == b"k:v\n"


def test_a_server_that_dies_ends_stabilize(tmp_path: Path) -> None:
    with Conversation(*NO_GOSSIP, "--trace", str(tmp_path)) as talk:
        talk.do(TWO + "joinServer 2\njoinClient 5 0\nshapeConnection 0 1 60s\nshapeConnection 1 2 60s\nput 5 k v\n")
        talk.send("stabilize\n")
        wait_until(
            lambda: events(tmp_path, "server-0", "delayed") or events(tmp_path, "server-1", "delayed"), "a message"
        )
        talk.signal("server 1", signal.SIGKILL)
        assert talk.do().errors == ["stabilize: server 1 died"]
        assert talk.do("printStore 2\n").stdout == b"k:v\n"


def test_the_end_of_the_master_ends_a_client_that_waits(tmp_path: Path) -> None:
    with Conversation(*NO_GOSSIP, "--trace", str(tmp_path)) as talk:
        talk.do("joinServer 0\njoinClient 5 0\nshapeConnection 5 0 60s\n")
        pids = talk.pids()
        talk.send("put 5 k v\n")
        wait_until_under_way(tmp_path, "client-5")
        talk.process.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}/comm").exists() for pid in pids.values()), "all to end")


def test_ctrl_c_and_the_next_command_end_a_put_over_a_slow_link(tmp_path: Path) -> None:
    with Terminal(tmp_path, *NO_GOSSIP, "--trace", str(tmp_path / "trace")) as terminal:
        for line in ("joinServer 0", "joinClient 5 0", "put 5 k v", "shapeConnection 5 0 60s"):
            assert terminal.do(line) == []
        count = terminal.prompts()
        terminal.type("put 5 k w\r")
        wait_until_under_way(tmp_path / "trace", "client-5")
        terminal.type("\x03")
        terminal.until_prompt(count + 1)
        assert terminal.do("breakConnection 5 0") == []
        assert terminal.do("shapeConnection 0 5 0ms") == []
        assert terminal.do("createConnection 5 0") == []
        assert terminal.do("get 5 k") == ["k:v"], "the call had not left the client"
        assert "client 5" in processes(terminal.find_run())
