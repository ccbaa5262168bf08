"""Processes that start before their commands come: nobody can tell, and none is left that is not wanted."""

from __future__ import annotations

import pytest

from checking.driver import Conversation, run, wait_until

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


def test_a_script_that_ends_with_joins_that_fail() -> None:
    result = run("joinServer 0\njoinClient 5 1\njoinClient 6 1\njoinClient 7 1\n", *NO_GOSSIP)
    assert (result.stdout, result.status) == (b"", 1)
    assert result.errors == [f"error: line {line}: joinClient: server 1 is not running" for line in (2, 3, 4)]


def test_a_kill_between_joins() -> None:
    """Server 1 starts early, is killed before its second join, and comes back with its store."""
    before = "joinServer 0\njoinServer 1\njoinClient 5 1\nput 5 k v\n"
    assert run(before + "killServer 1\njoinServer 1\njoinServer 2\nprintStore 1\n", *NO_GOSSIP) == (b"k:v\n", "", 0)
