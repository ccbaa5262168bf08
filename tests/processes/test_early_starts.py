"""Processes that start before their commands come: nobody can tell, and none is left that is not wanted."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checking.driver import Conversation, run, send_signal, states, wait_until
from rpc import tracing

NO_GOSSIP = ("--gossip-interval", "0")

FAILING = """joinServer 0
joinClient 7 3
joinServer 0
joinClient 0 0
joinClient 6 0
joinServer 6
joinServer 5
joinClient 5 0
"""

ERRORS = [
    "joinClient: server 3 is not running",
    "joinServer: server 0 is already running",
    "joinClient: id 0 is taken by a server",
    "joinServer: id 6 is taken by a client",
    "joinClient: id 5 is taken by a server",
]


@pytest.mark.parametrize("options", [(), ("--no-pipeline",)], ids=["early", "one by one"])
def test_joins_that_fail_leave_no_process(options: tuple[str, ...]) -> None:
    with Conversation(*NO_GOSSIP, *options) as conversation:
        assert conversation.do(FAILING).errors == ERRORS
        wanted = {"spawner", "watchdog 0", "server 0", "client 6", "watchdog 5", "server 5"}
        wait_until(lambda: conversation.pids().keys() == wanted, "the end of what is not wanted")
        again = conversation.do("joinServer 7\nput 6 k v\nstabilize\nprintStore 7\njoinClient 3 7\nget 3 k")
        assert again == (b"k:v\nk:v\n", [])


def test_what_is_not_wanted_leaves_no_trace(tmp_path: Path) -> None:
    result = run(f"{FAILING}put 6 k v\njoinClient 9 3\njoinClient 8 3\n", *NO_GOSSIP, "--trace", str(tmp_path))
    assert len(result.errors) == len(ERRORS) + 2
    assert {path.stem for path in tmp_path.glob("*.trace")} == {"master", "server-0", "client-6", "server-5"}
    commands = [event for event in tracing.read(tmp_path / "master.trace") if event.name == "command"]
    for name, line in (("server-5", "joinServer 5"), ("client-6", "joinClient 6 0")):
        (command,) = (event for event in commands if event.details["text"] == line.encode())
        first = next(event for event in tracing.read(tmp_path / f"{name}.trace") if event.name == "called")
        assert first.details["by"] == "master"
        assert first.details["number"] > command.number


def test_a_trace_that_cannot_be_begun_is_told_of(tmp_path: Path) -> None:
    with Conversation(*NO_GOSSIP, "--trace", str(tmp_path / "trace")) as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v").errors == []
        shutil.rmtree(tmp_path / "trace")
        server, client, *more = conversation.do("joinServer 1\njoinClient 6 0\nget 5 k").errors
        assert server.endswith(f"{tmp_path}/trace/server-1.trace: No such file or directory")
        assert client == "joinClient: client 6 failed, and was killed: FileNotFoundError: No such file or directory"
        assert more == ["joinClient: client 6 is not running"]
        wait_until(lambda: "server 1" not in conversation.pids(), "the end of server 1")


def test_a_script_that_ends_with_joins_that_fail() -> None:
    result = run("joinServer 0\njoinClient 5 1\njoinClient 6 1\njoinClient 7 1\n", *NO_GOSSIP)
    assert (result.stdout, result.status) == (b"", 1)
    assert result.errors == [f"error: line {line}: joinClient: server 1 is not running" for line in (2, 3, 4)]


def test_a_kill_between_joins() -> None:
    """Server 1 starts early, is killed before its second join, and comes back with its store."""
    before = "joinServer 0\njoinServer 1\njoinClient 5 1\nput 5 k v\n"
    assert run(before + "killServer 1\njoinServer 1\njoinServer 2\nprintStore 1\n", *NO_GOSSIP) == (b"k:v\n", "", 0)


@contextmanager
def waiting() -> Iterator[tuple[Conversation, dict[str, int]]]:
    """A master that waits for server 0, which is frozen, in the join of server 1; others have started early.

    Gives the processes as well, by name.
    """
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do("joinServer 0\njoinClient 9 0").errors == []
        frozen = conversation.pids()["server 0"]
        send_signal(frozen, signal.SIGSTOP, "server 0")
        try:
            conversation.send("joinServer 1\njoinServer 2\njoinClient 5 2")
            early = {"watchdog 2", "server 2", "client 5"}
            wait_until(lambda: early <= conversation.pids().keys(), "what starts early")
            yield conversation, conversation.pids()
        finally:
            if set(states(frozen)) - set("ZXx"):
                os.kill(frozen, signal.SIGCONT)


@pytest.mark.parametrize("lost", ["watchdog 2", "server 2", "client 5"])
def test_what_was_lost_before_its_command_is_started_again(lost: str) -> None:
    with waiting() as (conversation, pids):
        send_signal(pids[lost], signal.SIGKILL, lost)
        send_signal(pids["server 0"], signal.SIGCONT, "server 0")
        assert conversation.do("put 5 k v\nstabilize\nget 9 k") == (b"k:v\n", [])


def test_all_of_it_ends_where_master_and_spawner_are_killed() -> None:
    with waiting() as (conversation, pids):
        for name in ("spawner", "server 0"):
            send_signal(pids[name], signal.SIGKILL, name)
        conversation.process.kill()
        conversation.process.wait()
        wait_until(lambda: not any(set(states(pid)) - set("ZXx") for pid in pids.values()), "the end of all", 5.0)
        assert conversation.run_directory is not None
        shutil.rmtree(conversation.run_directory)  # as cleanup.sh would


def test_two_roles_for_one_id() -> None:
    result = run("joinServer 0\njoinClient 0 0\njoinClient 5 0\njoinServer 5\nput 5 k v\nget 5 k\n", *NO_GOSSIP)
    assert (result.stdout, len(result.errors), result.status) == (b"k:v\n", 2, 1)
