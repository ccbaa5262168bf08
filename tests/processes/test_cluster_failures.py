"""The table of failures in docs/cluster.md, row by row: what a user sees of each, and that nothing is left of it.

Servers 0, 1 and 2, with clients 10, 11 and 12, are on alpha, beta and gamma; failures happen to beta, or to what all
of them need. --hosts TIMES tries each row so many times, each time on new hosts; without it, some are tried once.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.terminal import Terminal

from checking.driver import LIMIT_SECONDS, ROOT, command, wait_until

if TYPE_CHECKING:
    from checking.lab.dask_cluster import DaskCluster
    from checking.lab.driving import ClusterConversation
    from checking.lab.hosts import Host

PLACES = "0: alpha\n1: beta\n2: gamma\n10: alpha\n11: beta\n12: gamma\n"

BEGIN = """
joinServer 0
joinServer 1
joinServer 2
joinClient 10 0
joinClient 11 1
joinClient 12 2
put 11 a 1
stabilize
"""

OFTEN = (
    "the_master_is_killed[",
    "the_master_is_killed_while_agents_start",
    "the_master_is_killed_while_another_host_is_cut_off",
    "a_worker_is_killed[0-worker]",
    "an_agent_is_killed",
    "an_agent_is_frozen[",
    "the_keeper_is_",
    "a_cable_is_cut[",
    "a_host_is_lost",
    "a_later_run",
)
"""How the names of the tests begin that are run without --hosts."""

ONLY_THERE = "breakConnection 0 1\nbreakConnection 1 2\nput 11 b only-there"
"""A put that only server 1 has."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("time", range(max(1, metafunc.config.getoption("--hosts"))))


@pytest.fixture(autouse=True)
def _times(time: int, request: pytest.FixtureRequest) -> None:
    """Each test is run as many times as --hosts says; without that, only some are run."""
    if not request.config.getoption("--hosts") and not request.node.name.removeprefix("test_").startswith(OFTEN):
        pytest.skip("tried with --hosts")


def master(cluster: DaskCluster, *options: str) -> ClusterConversation:
    """A master with three servers and three clients, which keeps their stores."""
    from checking.lab.driving import ClusterConversation

    cluster.driver.path("/tmp/home/places").write_text(PLACES)
    conversation = ClusterConversation(
        cluster, "--gossip-interval", "0", "--host-timeout", "1", "--timeout", "3",
        "--data-dir", "/tmp/home/data", "--place", "/tmp/home/places", *options,
    )  # fmt: skip
    assert conversation.do(BEGIN) == (b"", [])
    assert {"server 1", "watchdog 1", "client 11"} <= conversation.on(beta(cluster))
    return conversation


def beta(cluster: DaskCluster) -> Host:
    return next(host for host in cluster.workers if host.name == "beta")


def agent(conversation: ClusterConversation, host: Host) -> int:
    """The process id of the agent of a host."""
    (found,) = [pid for name, (where, pid) in conversation.where().items() if where is host and "agent" in name]
    return found


def keeper(conversation: ClusterConversation) -> int:
    """The process id of the process that speaks with Dask."""
    (found,) = [pid for name, pid in conversation.pids().items() if name.startswith("keeper")]
    return found


def await_end(conversation: ClusterConversation, host: Host) -> None:
    """Wait until nothing of the run is left on a host."""
    wait_until(lambda: not conversation.on(host), f"the end of the run's processes on {host.name}")


def kill(conversation: ClusterConversation) -> None:
    """Kill the master by SIGKILL, and wait for its end."""
    os.kill(conversation.master, signal.SIGKILL)
    assert conversation.process.wait(60) == -signal.SIGKILL


def deaths(errors: list[str]) -> list[str]:
    """Who has died, according to the errors."""
    return sorted(found[0] for error in errors if (found := re.findall(r"(?:server|client) \d+(?= died)", error)))


def check_the_others_go_on(conversation: ClusterConversation) -> None:
    """Check that server 1 and client 11 count as died, once, and that all others do their work."""
    output = conversation.do("get 10 a\nput 12 c 3\nstabilize\nget 10 c\nprintStore 0")
    assert output.stdout == b"a:1\nc:3\na:1\nc:3\n"
    assert deaths(output.errors) == ["client 11", "server 1"]
    assert len(output.errors) == 2
    assert conversation.do("get 10 a\nprintStore 1\nget 11 a") == (
        b"a:1\n",
        ["printStore: server 1 is not running", "get: client 11 is not running"],
    )


def check_beta_comes_back(conversation: ClusterConversation) -> None:
    """Check that server 1 can be revived on its host, with what it had on its disk."""
    assert conversation.do("joinServer 1\njoinClient 11 1\nprintStore 1") == (b"a:1\nb:only-there\n", [])
    assert {"server 1", "watchdog 1", "client 11"} <= conversation.on(beta(conversation.cluster))
    assert conversation.do("stabilize\nget 10 b\nget 12 b") == (b"b:only-there\nb:only-there\n", [])


# -- the master and its end ----------------------------------------------------------------------------------


def test_the_master_is_killed(fresh_cluster: DaskCluster) -> None:
    with master(fresh_cluster) as conversation:
        kill(conversation)


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_the_master_is_killed_while_agents_start(fresh_cluster: DaskCluster, hosts: int) -> None:
    """It is killed as soon as there is something of the run on so many hosts."""
    from checking.lab.hosts import only_child

    before = {host: len(host.processes()) for host in fresh_cluster.workers}

    def begun() -> bool:
        return sum(len(host.processes()) > before[host] for host in fresh_cluster.workers) >= hosts

    with subprocess.Popen(
        [*fresh_cluster.driver.prefix, *command(*fresh_cluster.options)], stdin=subprocess.PIPE
    ) as run:
        wait_until(begun, f"something on {hosts} hosts")
        os.kill(only_child(run.pid), signal.SIGKILL)
        run.wait(60)
    wait_until(lambda: not fresh_cluster.others(), "the end of all that was started", 5)
    wait_until(lambda: not fresh_cluster.files(), "the removal of its files", 5)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_master_is_ended_by_a_signal(fresh_cluster: DaskCluster, signum: signal.Signals) -> None:
    with master(fresh_cluster) as conversation:
        os.kill(conversation.master, signum)
        assert conversation.process.wait(60) == 128 + signum


def test_the_master_is_killed_while_its_cable_is_cut(fresh_cluster: DaskCluster) -> None:
    with master(fresh_cluster) as conversation:
        fresh_cluster.driver.cut()
        kill(conversation)
        conversation.await_nothing()


def test_the_master_is_killed_while_another_host_is_cut_off(fresh_cluster: DaskCluster) -> None:
    with master(fresh_cluster) as conversation:
        beta(fresh_cluster).cut()
        kill(conversation)
        conversation.await_nothing()


# -- Dask's processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["worker", "nanny", "both"])
def test_a_worker_is_killed(fresh_cluster: DaskCluster, victim: str) -> None:
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        assert conversation.do(ONLY_THERE) == (b"", [])
        registrations = fresh_cluster.registrations(host)
        victims = {"worker": fresh_cluster.worker(host), "nanny": fresh_cluster.nanny(host)}
        for name, pid in victims.items():
            if victim in (name, "both"):
                host.signal(pid, signal.SIGKILL)
        await_end(conversation, host)
        check_the_others_go_on(conversation)
        fresh_cluster.await_worker(host, registrations)
        check_beta_comes_back(conversation)


def test_the_worker_and_the_master_are_killed_together(fresh_cluster: DaskCluster) -> None:
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        host.signal(fresh_cluster.worker(host), signal.SIGKILL)
        kill(conversation)


@pytest.mark.parametrize("victim", ["worker", "nanny"])
def test_a_worker_is_frozen(fresh_cluster: DaskCluster, victim: str) -> None:
    """Nothing depends on it: the agent starts processes, and ends with the master."""
    host = beta(fresh_cluster)
    pid = fresh_cluster.worker(host) if victim == "worker" else fresh_cluster.nanny(host)
    with master(fresh_cluster) as conversation:
        host.signal(pid, signal.SIGSTOP)
        assert conversation.do("killServer 1\njoinServer 1\nput 11 b 2\nstabilize\nget 10 b") == (b"b:2\n", [])


def test_the_scheduler_is_killed(fresh_cluster: DaskCluster) -> None:
    """Dask has its workers end, and so all hosts are lost."""
    with master(fresh_cluster) as conversation:
        for process in fresh_cluster.head.processes():
            fresh_cluster.head.signal(process.pid, signal.SIGKILL)
        for host in fresh_cluster.workers:
            await_end(conversation, host)
        output = conversation.do("get 10 a\njoinServer 1")
        assert output.stdout == b""
        assert deaths(output.errors) == ["client 10", "client 11", "client 12", "server 0", "server 1", "server 2"]
        assert "beta" in output.errors[-1]


@pytest.mark.parametrize("how", ["frozen", "cut off"])
def test_the_scheduler_does_not_answer(fresh_cluster: DaskCluster, how: str) -> None:
    """A run that has its agents needs it no more."""
    head = fresh_cluster.head
    with master(fresh_cluster) as conversation:
        if how == "cut off":
            head.cut()
        else:
            for process in head.processes():
                head.signal(process.pid, signal.SIGSTOP)
        assert conversation.do("killServer 1\njoinServer 1\nput 11 b 2\nstabilize\nget 10 b") == (b"b:2\n", [])


def test_the_scheduler_comes_back(fresh_cluster: DaskCluster) -> None:
    """A connection to it that has failed is not used again."""
    host, head = beta(fresh_cluster), fresh_cluster.head
    with master(fresh_cluster) as conversation:
        head.cut()
        host.signal(agent(conversation, host), signal.SIGKILL)
        await_end(conversation, host)
        first, second = conversation.do("joinServer 1\njoinServer 1").errors[-2:]
        assert "server 1 could not be started: its store is on host beta, which can't be used" in first
        assert "NoneType" not in second
        head.join()
        wait_until(lambda: not conversation.do("joinServer 1").errors, "server 1")


# -- agents --------------------------------------------------------------------------------------------------


def test_the_keeper_is_killed(fresh_cluster: DaskCluster) -> None:
    """Nobody needs it, except for a new agent."""
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        os.kill(keeper(conversation), signal.SIGKILL)
        assert conversation.do(ONLY_THERE) == (b"", [])
        host.signal(agent(conversation, host), signal.SIGKILL)
        await_end(conversation, host)
        check_the_others_go_on(conversation)
        (error,) = conversation.do("joinServer 1").errors
        assert "which can't be used: the process that speaks with Dask has ended" in error


def test_the_keeper_is_frozen(fresh_cluster: DaskCluster) -> None:
    with master(fresh_cluster) as conversation:
        os.kill(keeper(conversation), signal.SIGSTOP)
        assert conversation.do("put 11 b 2\nstabilize\nget 10 b") == (b"b:2\n", [])


def test_the_keeper_is_frozen_and_the_master_is_killed(fresh_cluster: DaskCluster) -> None:
    with master(fresh_cluster) as conversation:
        frozen = keeper(conversation)
        os.kill(frozen, signal.SIGSTOP)
        kill(conversation)
        wait_until(lambda: [*conversation.pids().values()] == [frozen], "the end of all others")
        os.kill(frozen, signal.SIGCONT)


def test_an_agent_is_killed(fresh_cluster: DaskCluster) -> None:
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        assert conversation.do(ONLY_THERE) == (b"", [])
        host.signal(agent(conversation, host), signal.SIGKILL)
        await_end(conversation, host)
        check_the_others_go_on(conversation)
        check_beta_comes_back(conversation)


def test_the_run_is_ended_while_a_host_gets_another_agent(fresh_cluster: DaskCluster) -> None:
    """The master does not know that agent yet; the keeper does."""
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        host.signal(agent(conversation, host), signal.SIGKILL)
        await_end(conversation, host)
        without = len(host.processes())
        conversation.send("joinServer 1\n")
        wait_until(lambda: len(host.processes()) > without, "something on beta")
        os.kill(conversation.master, signal.SIGTERM)
        assert conversation.process.wait(60) == 128 + signal.SIGTERM
        wait_until(lambda: len(host.processes()) <= without, "the end of what was started on beta", 5)


def test_ctrl_c_while_a_host_gets_another_agent(fresh_cluster: DaskCluster, tmp_path: Path) -> None:
    """The agent is ended, since nobody waits for it any more; the next join has another."""
    from checking.lab.hosts import only_child

    host = beta(fresh_cluster)
    options = ("--data-dir", "/tmp/home/data", "--host-timeout", "1", *fresh_cluster.options)
    program = [*fresh_cluster.driver.prefix, *command(*options)]
    with Terminal(tmp_path, program=program) as terminal:
        for line in ("joinServer 0", "joinServer 1", "joinServer 2"):
            terminal.do(line)
        (found,) = [process.pid for process in host.processes() if process.title.startswith("daadkvs agent")]
        host.signal(found, signal.SIGKILL)
        wait_until(lambda: not any("daadkvs" in process.title for process in host.processes()), "its end")
        terminal.do("stabilize")
        without = len(host.processes())
        terminal.type("joinServer 1\r")
        wait_until(lambda: len(host.processes()) > without, "something on beta")
        os.kill(only_child(terminal.process.pid), signal.SIGINT)
        terminal.until_shown("gave up waiting; server 1 was not started")
        assert "error" not in "".join(terminal.do("joinServer 1"))
        agents = [process for process in host.processes() if process.title.startswith("daadkvs agent")]
        assert len(agents) == 1
        terminal.end("exit\r")
    wait_until(lambda: not fresh_cluster.others(), "the end of all", 5)


def test_an_agent_is_frozen_and_others_are_not_waited_for(fresh_cluster: DaskCluster) -> None:
    """What was started early there is let go without an answer."""
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        host.signal(agent(conversation, host), signal.SIGSTOP)
        output = conversation.do("joinClient 20 0\njoinClient 21 99\nput 20 b 2\nstabilize\nget 10 b")
        assert output == (b"b:2\n", ["joinClient: server 99 is not running"])


def test_an_agent_is_frozen(fresh_cluster: DaskCluster) -> None:
    """What runs on its host goes on. It is needed to start something, and is killed by way of Dask at the end."""
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        host.signal(agent(conversation, host), signal.SIGSTOP)
        assert conversation.do("put 11 b 2\nstabilize\nget 10 b") == (b"b:2\n", [])


def test_an_agent_is_frozen_and_something_is_to_be_started(fresh_cluster: DaskCluster) -> None:
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        host.signal(agent(conversation, host), signal.SIGSTOP)
        output = conversation.do("joinClient 13 1\njoinClient 14 1\njoinClient 15 1\nget 10 a\nget 12 a")
        assert output.stdout == b"a:1\na:1\n"
        assert output.errors


def test_an_agent_is_frozen_and_the_master_is_killed(fresh_cluster: DaskCluster) -> None:
    """The servers and clients end at once; the agent does when it is woken."""
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        pid = agent(conversation, host)
        host.signal(pid, signal.SIGSTOP)
        kill(conversation)
        wait_until(lambda: all("agent" in name for name in conversation.where()), "the end of all others")
        host.signal(pid, signal.SIGCONT)


# -- cables --------------------------------------------------------------------------------------------------


def test_a_cable_is_cut(fresh_cluster: DaskCluster) -> None:
    """The host is lost: here its servers and clients count as died, and there they end by themselves."""
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        assert conversation.do(ONLY_THERE) == (b"", [])
        host.cut()
        first = conversation.do("get 11 a")
        assert first.stdout == b""
        await_end(conversation, host)
        second = conversation.do("get 10 a\nput 12 c 3\nstabilize\nget 10 c")
        assert second.stdout == b"a:1\nc:3\n"
        assert deaths(first.errors + second.errors) == ["client 11", "server 1"]
        refused = conversation.do("joinServer 1")
        assert refused.stdout == b""
        assert len(refused.errors) == 1
        assert "beta" in refused.errors[0]
        host.join()
        joined = conversation.do("joinServer 1\njoinClient 11 1\nprintStore 1")
        assert joined == (b"a:1\nb:only-there\n", [])


@pytest.mark.parametrize("options", [(), ("--no-pipeline",)], ids=["early", "one by one"])
def test_a_client_is_to_be_started_on_a_host_that_is_cut_off(fresh_cluster: DaskCluster, options: tuple[str]) -> None:
    from checking.lab.driving import ClusterConversation

    with ClusterConversation(fresh_cluster, "--host-timeout", "1", "--timeout", "3", *options) as conversation:
        conversation.do("stabilize")
        beta(fresh_cluster).cut()
        output = conversation.do("joinServer 0\njoinClient 7 0\njoinClient 8 0\njoinClient 9 0\nput 7 a b")
        assert output.errors == [
            "joinClient: client 7 could not be started: the agent on host beta is gone",
            "put: client 7 is not running",
        ]
        found = {name: host.name for name, (host, _) in conversation.where().items() if "client" in name}
        assert found == {"client 8": "gamma", "client 9": "alpha"}


def test_a_cable_is_cut_while_nothing_is_asked(fresh_cluster: DaskCluster) -> None:
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        host.cut()
        await_end(conversation, host)
        check_the_others_go_on(conversation)


def test_a_host_is_lost_and_servers_elsewhere_keep_no_connection_to_it(fresh_cluster: DaskCluster) -> None:
    """Nobody tells them, since the cable is never mended."""
    host = beta(fresh_cluster)
    alpha = next(other for other in fresh_cluster.workers if other.name == "alpha")
    with master(fresh_cluster) as conversation:
        assert conversation.do("createConnection 11 0\nbreakConnection 11 1\nget 11 a") == (b"a:1\n", [])
        assert alpha.connections_to(host)
        wait_until(lambda: not any(alpha.connections_to(host)), "the acknowledgement of all that was sent")
        host.cut()
        await_end(conversation, host)
        wait_until(lambda: not alpha.connections_to(host), "the end of the connections")
        assert conversation.do("get 10 a").stdout == b"a:1\n"


def test_a_cable_is_cut_for_a_moment(fresh_cluster: DaskCluster) -> None:
    """What is sent meanwhile arrives later."""
    host = beta(fresh_cluster)
    with master(fresh_cluster, "--host-timeout", "20") as conversation:
        host.cut()
        conversation.send("put 11 b 2\nget 11 b\n")
        host.join()
        assert conversation.do("stabilize\nget 10 b") == (b"b:2\nb:2\n", [])


def test_a_host_is_lost_and_the_run_ends(fresh_cluster: DaskCluster) -> None:
    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        host.cut()
        conversation.end()
        conversation.await_nothing()


def test_a_host_is_lost_and_cleanup_ends_the_run(fresh_cluster: DaskCluster) -> None:
    """It names the host of which nobody can tell whether anything is left there."""
    with master(fresh_cluster) as conversation:
        beta(fresh_cluster).cut()
        command = [*fresh_cluster.driver.prefix, str(ROOT / "scripts" / "cleanup.sh")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
        assert conversation.process.wait(60) == -signal.SIGKILL
        assert "ended master " in done.stdout
        left = "what is left there ends by itself 1 s after it was cut off"
        assert done.stderr == f"error: host beta can't be reached; {left}\n"
        assert done.returncode == 1
        conversation.await_nothing()


def test_a_host_is_lost_in_the_middle_of_a_group(fresh_cluster: DaskCluster) -> None:
    """What its server has logged of the group was never acknowledged: it isn't there when the server is revived."""
    host = beta(fresh_cluster)
    with master(fresh_cluster, "--timeout", "60", "--host-timeout", "5") as conversation:
        client = conversation.pids()["client 11"]
        host.signal(client, signal.SIGSTOP)
        conversation.send("put 11 k lost\nput 10 other there\n")
        await_logged(fresh_cluster, 0, b"there")  # and so client 11 has its part as well
        host.cut()
        os.kill(client, signal.SIGCONT)
        await_logged(fresh_cluster, 1, b"lost")
        await_end(conversation, host)
        failed = conversation.do("")
        assert failed.stdout == b""
        assert deaths(failed.errors) == ["client 11", "server 1"]
        assert failed.errors[-1] == "put: client 11 is not running"
        host.join()
        assert conversation.do("joinServer 1\nprintStore 1") == (b"a:1\n", [])
        assert conversation.do("stabilize\nprintStore 1") == (b"a:1\nother:there\n", [])


def await_logged(cluster: DaskCluster, server: int, value: bytes) -> None:
    """Wait until a server has a value in its log."""
    folders = [host.path(f"/tmp/home/data/server-{server}") for host in cluster.workers]
    logs = [path for folder in folders for path in folder.glob("log.*")]
    wait_until(lambda: any(value in path.read_bytes() for path in logs), f"{value!r} in the log of server {server}")


# -- what is lost with a host --------------------------------------------------------------------------------


def test_a_later_run_does_not_start_a_server_elsewhere(fresh_cluster: DaskCluster) -> None:
    """Where a kept store is on a host that is missing, the join says so; on its host, the server has its store."""
    from checking.lab.driving import run_on

    host = beta(fresh_cluster)
    with master(fresh_cluster) as conversation:
        assert conversation.do(ONLY_THERE) == (b"", [])
    keeping = ["--gossip-interval", "0", "--data-dir", "/tmp/home/data"]
    again = run_on(fresh_cluster, "joinServer 1\nprintStore 1\n", *keeping)
    assert (again.stdout, again.stderr, again.status) == (b"a:1\nb:only-there\n", "", 0)
    host.signal(fresh_cluster.nanny(host), signal.SIGKILL)
    wait_until(lambda: not host.processes(), "the end of the worker, which its nanny takes along")
    missing = run_on(fresh_cluster, "joinServer 1\njoinServer 0\nprintStore 0\n", *keeping)
    assert (missing.stdout, missing.status) == (b"a:1\n", 1)
    assert len(missing.errors) == 1
    assert "line 1: joinServer: " in missing.errors[0]
    assert "beta" in missing.errors[0]
