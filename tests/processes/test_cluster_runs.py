"""Runs on several hosts: who is placed where, what is printed, traces and histories."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from checking import traces
from checking.driver import ROOT, Result, run, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from checking.lab.dask_cluster import DaskCluster
    from checking.lab.driving import ClusterConversation


def conversation_on(cluster: DaskCluster, *options: str) -> ClusterConversation:
    from checking.lab.driving import ClusterConversation

    return ClusterConversation(cluster, *options)


def run_on(cluster: DaskCluster, script: str | bytes, *options: str) -> Result:
    from checking.lab import driving

    return driving.run_on(cluster, script, *options)


def hosts_of(conversation: ClusterConversation) -> dict[str, str]:
    """Server or client -> host."""
    found = conversation.where()
    return {name: host.name for name, (host, _) in found.items() if name.startswith(("server", "client"))}


def test_processes_take_turns_over_the_hosts_and_stay_where_they_are(cluster: DaskCluster) -> None:
    with conversation_on(cluster) as conversation:
        conversation.do("joinServer 5\njoinServer 3\njoinClient 10 5\njoinServer 4\njoinClient 11 3")
        placed = {
            "server 5": "alpha", "server 3": "beta", "client 10": "gamma", "server 4": "alpha", "client 11": "beta",
        }  # fmt: skip
        assert hosts_of(conversation) == placed
        conversation.do("killServer 3\njoinServer 3\nkillServer 5\njoinServer 5")
        assert hosts_of(conversation) == placed


JOINS_THAT_FAIL = """joinServer 0
joinClient 7 3
joinServer 0
joinClient 6 0
joinServer 6
joinServer 5
joinClient 5 0
joinServer 8
"""


@pytest.mark.parametrize("options", [(), ("--no-pipeline",)], ids=["early", "one by one"])
def test_joins_that_fail_take_no_turn_and_leave_no_process(cluster: DaskCluster, options: tuple[str, ...]) -> None:
    with conversation_on(cluster, *options) as conversation:
        assert len(conversation.do(JOINS_THAT_FAIL).errors) == 4
        placed = {"server 0": "alpha", "client 6": "beta", "server 5": "gamma", "server 8": "alpha"}
        wait_until(lambda: hosts_of(conversation) == placed, "the end of what is not wanted")
        assert conversation.do("put 6 k v\nstabilize\nprintStore 8") == (b"k:v\n", [])
        kinds = sorted(name.partition(" ")[0] for host in cluster.hosts for name in conversation.on(host))
        assert kinds == ["agent"] * 3 + ["client", "keeper"] + ["server"] * 3 + ["watchdog"] * 3


def test_a_run_that_ends_with_joins_that_fail(cluster: DaskCluster) -> None:
    result = run_on(cluster, "joinServer 0\njoinClient 5 1\njoinClient 6 1\njoinClient 7 1\n")
    assert (result.stdout, len(result.errors), result.status) == (b"", 3, 1)


def test_a_file_says_who_is_where(cluster: DaskCluster) -> None:
    cluster.driver.path("/tmp/home/places").write_text("# all but one\n0-99: gamma\n1: alpha\n7: delta\n")
    with conversation_on(cluster, "--place", "/tmp/home/places") as conversation:
        output = conversation.do("joinServer 0\njoinServer 1\njoinServer 7\njoinClient 10 0\njoinClient 100 0")
        assert output.errors == [
            "joinServer: server 7 could not be started: host delta can't be used: it is not in the cluster"
        ]
        assert hosts_of(conversation) == {
            "server 0": "gamma", "server 1": "alpha", "client 10": "gamma", "client 100": "alpha",
        }  # fmt: skip


def test_status_tells_the_hosts(cluster: DaskCluster) -> None:
    result = run_on(cluster, "joinServer 0\njoinServer 1\njoinClient 5 1\nstatus\n", "--json")
    status = json.loads(result.stdout.splitlines()[-1])["status"]
    assert [server["host"] for server in status["servers"]] == ["alpha", "beta"]
    assert [client["host"] for client in status["clients"]] == ["gamma"]


def test_the_tour_prints_the_same_bytes(cluster: DaskCluster) -> None:
    script = (ROOT / "examples" / "tour.txt").read_bytes()
    assert run_on(cluster, script) == run(script)


@pytest.mark.parametrize("lost", ["watchdog 2", "server 2", "client 5"])
def test_what_was_lost_before_its_command_is_started_again(cluster: DaskCluster, lost: str) -> None:
    """Connections to it may have begun by then. The master waits for server 0, which is frozen, in a join before."""
    with conversation_on(cluster, "--gossip-interval", "0") as conversation:
        assert conversation.do("joinServer 0\njoinClient 9 0").errors == []
        conversation.signal("server 0", signal.SIGSTOP)
        conversation.send("joinServer 1\njoinServer 2\njoinClient 5 2")
        early = {"watchdog 2", "server 2", "client 5"}
        wait_until(lambda: early <= conversation.pids().keys(), "what starts early")
        conversation.signal(lost, signal.SIGKILL)
        conversation.signal("server 0", signal.SIGCONT)
        assert conversation.do("put 5 k v\nstabilize\nget 9 k") == (b"k:v\n", [])


SCRIPT = """
joinServer 0
joinServer 1
joinServer 2
joinClient 5 0
joinClient 6 1
put 5 colour red
put 6 colour blue
killServer 2
joinServer 2
stabilize
get 5 colour
printStore 2
"""


def test_a_run_leaves_its_traces_and_its_history(cluster: DaskCluster) -> None:
    home = cluster.driver.path("/tmp/home")
    result = run_on(cluster, SCRIPT, "--trace", "/tmp/home/trace", "--history", "/tmp/home/history")
    assert (result.stdout, result.stderr, result.status) == (b"colour:blue\ncolour:blue\n", "", 0)
    found = traces.read(home / "trace")
    assert found.keys() == {"master", "client 5", "client 6", "server 0", "server 1", "server 2"}
    assert [event.name for event in found["server 2"]].count("started") == 2
    learnt = {event.details["neighbour"] for event in found["server 2"] if event.name == "learnt"}
    assert learnt
    assert (home / "history").read_text().count("\n") == 1 + 2 * SCRIPT.strip().count("\n") + 2
    numbers = {(process, event.number): event for process in found for event in found[process]}
    for events in found.values():
        for event in events:
            if event.details.get("by"):
                assert numbers[event.details["by"], event.details["number"]].time < event.time


def test_the_masters_trace_has_the_events_of_one_machine(cluster: DaskCluster, tmp_path: Path) -> None:
    """But an agent is asked for the store of a server that is revived, and at the end for its traces."""
    script = SCRIPT.replace("killServer 2\njoinServer 2\n", "")
    run_on(cluster, script, "--no-pipeline", "--trace", "/tmp/home/same")
    run(script, "--no-pipeline", "--trace", str(tmp_path))
    there, here = (
        [(event.name, event.details.get("name"), event.number) for event in traces.read(folder)["master"]]
        for folder in (cluster.driver.path("/tmp/home") / "same", tmp_path)
    )
    assert len(here) > 50
    assert there[: len(here)] == here
