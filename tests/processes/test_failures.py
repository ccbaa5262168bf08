"""Failures from outside: processes that are killed or frozen by others."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import msgpack
import pytest

from checking.driver import LIMIT_SECONDS, ROOT, Conversation, Output, run, wait_until
from checking.oracle import Oracle, random_script
from client import _Client
from messages import Operation
from records import pack_record
from rpc import transport
from server import Options, Server, _Service
from session import ServerLost

NO_GOSSIP = ("--gossip-interval", "0")
STABILIZE_SECONDS = 5.0
SLACK_SECONDS = 4.0
"""How much longer than a limit something may take on a busy machine."""

HOW = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}


def wait_until_read(conversation: Conversation) -> None:
    """Wait until the master has taken all that was sent to it."""
    assert conversation.process.stdin is not None
    fd = conversation.process.stdin.fileno()
    wait_until(
        lambda: not int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder), "the master to read"
    )


def assert_clear(output: Output) -> None:
    """Each error is one line, and can be understood by a user."""
    for error in output.errors:
        assert "Traceback" not in error and "internal error" not in error, output
        assert ": " in error, output


# -- whoever fails before whatever command -----------------------------------------------------------------

CLUSTER = """
joinServer 0
joinServer 1
joinServer 3
joinClient 5 0
createConnection 5 1
joinClient 6 1
joinClient 7 0
breakConnection 0 3
put 5 k v
stabilize
"""

COMMANDS = (
    "joinServer 2",
    "joinServer 0",
    "killServer 0",
    "joinClient 8 0",
    "joinClient 8 1",
    "joinClient 6 0",
    "breakConnection 0 1",
    "breakConnection 5 0",
    "createConnection 0 3",
    "createConnection 6 0",
    "stabilize",
    "printStore 0",
    "put 5 k w",
    "get 5 k",
    "put 7 k w",
    "put 5 a b\nget 6 k\nput 7 k w\nget 5 k\nput 6 c d\nget 7 k",
)


@pytest.mark.parametrize("victim", ["server 0", "watchdog 0", "client 5", "spawner"])
@pytest.mark.parametrize("how", HOW)
def test_no_command_hangs(victim: str, how: str) -> None:
    """Each command returns with its answer or a clear error, and the rest of the cluster goes on."""

    def one(command: str) -> None:
        with Conversation(*NO_GOSSIP, "--timeout", "1") as conversation:
            assert conversation.do(CLUSTER) == (b"", [])
            conversation.signal(victim, HOW[how])
            output = conversation.do(command)
            assert_clear(output)
            if command == "get 5 k" and victim != "client 5":
                assert output.lines == ["k:v"], (command, output)
            elif command == "put 5 k w":
                uncertain = [error for error in output.errors if "uncertain" in error]
                assert len(uncertain) == (victim == "client 5" and how == "frozen"), (command, output)
            elif "\n" in command:
                assert "k:v" in output.lines, (command, output)
            assert_the_rest_works(conversation, victim)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, COMMANDS))


def assert_the_rest_works(conversation: Conversation, victim: str) -> None:
    output = conversation.do("put 6 rest works\nget 6 rest\nstabilize\nprintStore 1")
    assert_clear(output)
    assert "rest:works" in output.lines, output
    assert output.lines.count("rest:works") == 2, output
    if victim == "spawner":
        return
    output = conversation.do("get 5 k\njoinServer 0\njoinClient 5 0")  # whichever of them is still missing
    assert_clear(output)
    output = conversation.do("createConnection 0 1\nstabilize\nprintStore 0\nput 5 again x\nget 5 again")
    assert output.errors == []
    assert "rest:works" in output.lines, output
    assert "again:x" in output.lines, output


@pytest.mark.parametrize("line", ["put 7 k w", "get 7 k", "stabilize", "printStore 0"])
@pytest.mark.parametrize("victim", ["server 0", "watchdog 0", "client 7"])
def test_any_process_may_be_killed_during_a_command(victim: str, line: str) -> None:
    """The command waits for a frozen server when somebody is killed."""
    with Conversation(*NO_GOSSIP, "--timeout", "1.5") as conversation:
        assert conversation.do(CLUSTER) == (b"", [])
        conversation.signal("server 0", signal.SIGSTOP)
        conversation.send(line)
        wait_until_read(conversation)
        conversation.signal(victim, signal.SIGKILL)
        output = conversation.do()
        assert_clear(output)
        assert output.errors
        assert output.stdout == b""
        assert_the_rest_works(conversation, victim)


def test_a_command_does_not_wait_for_the_time_out_where_the_server_dies() -> None:
    """With a time-out of a day, it would wait for ever."""
    with Conversation(*NO_GOSSIP, "--timeout", "86400") as conversation:
        assert conversation.do(CLUSTER).errors == []
        for line, printed in (("get 5 k", b"k:v\n"), ("put 5 k v", b""), ("printStore 0", b""), ("stabilize", b"")):
            conversation.signal("server 0", signal.SIGSTOP)
            conversation.send(line)
            wait_until_read(conversation)
            conversation.signal("server 0", signal.SIGKILL)
            output = conversation.do()
            assert output.stdout == printed
            assert sum("server 0 died" in error for error in output.errors) == 1, output
            assert conversation.do("joinServer 0").errors == []


def test_a_death_is_reported_once_by_the_command_that_notices_it() -> None:
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do(CLUSTER).errors == []
        conversation.signal("server 0", signal.SIGKILL)
        assert conversation.do("get 5 k") == (b"k:v\n", ["get: server 0 died"])
        assert conversation.do("get 5 k") == (b"k:v\n", [])
        output = conversation.do("printStore 0")
        assert output == (b"", ["printStore: server 0 is not running"])
        assert conversation.do("joinServer 0\nprintStore 0") == (b"k:v\n", [])


def test_a_server_whose_watchdog_is_killed_dies_and_comes_back() -> None:
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do(CLUSTER).errors == []
        for how in (signal.SIGKILL, signal.SIGCONT):
            server = conversation.pids()["server 0"]
            if how == signal.SIGCONT:  # frozen, the server can't see its watchdog's end
                conversation.signal("server 0", signal.SIGSTOP)
            conversation.signal("watchdog 0", signal.SIGKILL)
            if how == signal.SIGKILL:
                wait_until(lambda: conversation.pids().get("server 0") is None, "the server's end")
            output = conversation.do("printStore 0")
            assert output.stdout == b""
            assert any("server 0" in error for error in output.errors)
            assert conversation.do("joinServer 0\nprintStore 0") == (b"k:v\n", [])
            assert conversation.pids()["server 0"] != server


# -- puts that are cut short -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "silent"])
@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
def test_a_put_that_is_cut_short_is_uncertain(how: str, grouped: bool) -> None:
    with Conversation(*NO_GOSSIP, "--timeout", "1" if how == "silent" else "60") as conversation:
        assert conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 0").errors == []
        conversation.signal("server 0", signal.SIGSTOP)
        conversation.send("put 5 k v\nput 6 l w" if grouped else "put 5 k v")
        wait_until_read(conversation)
        if how == "killed":
            conversation.signal("server 0", signal.SIGKILL)
        errors = conversation.do().errors
        assert_clear(Output(b"", errors))
        assert sum("server 0" in error and ("died" in error or "progress" in error) for error in errors) == 1, errors
        if not grouped:  # in a group, nothing of it is left: then these are errors of the ordinary kind
            assert sum("uncertain" in error for error in errors) == 1, errors
        # It binds no session: another server, which has nothing of it, will do.
        assert conversation.do("createConnection 5 1\nget 5 k") == (b"k:ERR_KEY\n", [])
        assert conversation.do("put 5 k x\njoinServer 0\nstabilize\nprintStore 0\nprintStore 1\nget 5 k").lines[-1] in (
            "k:x",
        )


def test_a_large_put_whose_server_is_killed_under_it() -> None:
    """It is killed at a random moment of the transfer, the write to the log, or the answer."""
    value = "x" * (24 << 20)
    random = Random(3)
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0\nput 5 k before").errors == []
        outcomes = set()
        for turn in range(12):
            pid = conversation.pids()["server 0"]
            key = f"k{turn}"
            sender = threading.Thread(target=conversation.send, args=(f"put 5 {key} {value}",))
            sender.start()
            sender.join()
            time.sleep(random.random() * 0.12)  # any moment will do
            conversation.signal("server 0", signal.SIGKILL)
            errors = [error for error in conversation.do("# the end of it\nget 5 k").errors if "died" not in error]
            assert_clear(Output(b"", errors))
            puts = [error for error in errors if error.startswith("put: ")]
            output = conversation.do(f"joinServer 0\nget 5 k\nget 5 {key}")
            assert conversation.pids()["server 0"] != pid
            assert output.errors == []
            stands = output.lines == ["k:before", f"{key}:{value}"]
            assert stands or output.lines == ["k:before", f"{key}:ERR_KEY"], [line[:50] for line in output.lines]
            uncertain = any("uncertain" in error for error in puts)
            assert uncertain or stands == (not puts), (puts, stands)
            outcomes.add((uncertain, stands))
        assert outcomes


def test_a_put_that_is_cut_short_is_stored_by_the_next_server() -> None:
    with Conversation(*NO_GOSSIP, "--timeout", "1") as conversation:
        assert conversation.do(CLUSTER).errors == []
        for turn, how in enumerate((signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL, signal.SIGSTOP)):
            conversation.signal("server 0", signal.SIGSTOP)
            conversation.send(f"put 5 k {turn}")
            wait_until_read(conversation)
            if how == signal.SIGKILL:
                conversation.signal("server 0", signal.SIGKILL)
            output = conversation.do("get 5 k\nprintStore 1")
            assert output.lines == [f"k:{turn}"] * 2
            assert len(output.errors) == 1, output
            assert "uncertain" not in output.errors[0]
            assert conversation.do("joinServer 0\nstabilize\nprintStore 0") == (f"k:{turn}\n".encode(), [])


# -- what was acknowledged is there ------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "length", "seconds"), [((), 1200, 0.05), (("--no-pipeline",), 300, 0.1)])
def test_no_acknowledged_put_is_lost_when_the_server_is_killed(
    options: tuple[str, ...], length: int, seconds: float
) -> None:
    """It is killed fifty times during a stream of puts. Puts that were refused leave nothing behind."""
    random = Random(1)
    cut = 0
    with Conversation(*NO_GOSSIP, *options) as conversation:
        clients = (5, 6, 7)
        conversation.do("joinServer 0\n" + "\n".join(f"joinClient {client} 0" for client in clients))
        expected: dict[str, str] = {}
        for turn in range(25):
            puts = [(f"k{number}", f"{turn}-{'x' * random.randrange(300)}") for number in range(length)]
            lines = [f"put {random.choice(clients)} {key} {value}" for key, value in puts]
            sender = threading.Thread(target=conversation.send, args=("\n".join(lines),))
            sender.start()
            time.sleep(random.random() * seconds)  # any moment will do
            conversation.signal("server 0", signal.SIGKILL)
            sender.join()
            errors = conversation.do("get 5 x").errors
            uncertain = sum("uncertain" in error for error in errors)
            refused = sum(error.startswith("put: client ") for error in errors)
            output = conversation.do("joinServer 0\nprintStore 0")
            assert output.errors == []
            found = dict(line.split(":", 1) for line in output.lines)
            # All errors are at the end of the stream. Only the first of them may be uncertain.
            assert uncertain <= 1
            acknowledged = length - refused - uncertain
            expected |= dict(puts[:acknowledged])
            if uncertain:
                key, value = puts[acknowledged]
                expected |= {key: value} if found.get(key) == value else {}
            assert found == expected
            cut += 0 < acknowledged < length
        assert cut, "the kills came at the wrong moments"


def test_no_acknowledged_put_is_lost_where_another_server_takes_over() -> None:
    """Clients with two servers: every put of a stream is stored, whatever is killed meanwhile."""
    random = Random(2)
    with Conversation("--gossip-interval", "0.005") as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\ncreateConnection 5 1\njoinClient 6 1")
        conversation.do("createConnection 6 0")
        expected: dict[str, str] = {}
        for turn in range(10):
            lines = []
            for number in range(300):
                key, value = f"k{random.randrange(100):02}", f"{turn}-{number}"
                lines.append(f"put {random.choice((5, 6))} {key} {value}")
                expected[key] = value
            victim = random.choice((0, 1))
            conversation.send("\n".join(lines))
            time.sleep(random.random() * 0.1)  # any moment will do
            conversation.signal(f"server {victim}", signal.SIGKILL)
            output = conversation.do("get 5 k00")
            assert [error.partition(": ")[2] for error in output.errors] == [f"server {victim} died"]
            output = conversation.do(f"joinServer {victim}\nstabilize\nprintStore 0\nprintStore 1")
            assert output.errors == []
            assert output.lines == 2 * [f"{key}:{expected[key]}" for key in sorted(expected)]


@pytest.mark.parametrize("seed", range(4))
def test_random_scripts_with_servers_that_die_by_themselves(seed: int) -> None:
    """The oracle predicts every answer: a server that died counts as killed."""
    random = Random(seed)
    oracle = Oracle(gossip=False)
    with Conversation(*NO_GOSSIP) as conversation:
        died: list[str] = []
        for line in random_script(Random(500 + seed), 120):
            if oracle.running and random.random() < 0.07:
                victim = random.choice(sorted(oracle.running))
                conversation.signal(f"server {victim}", signal.SIGKILL)
                oracle.kill_server(victim)
                died.append(f"server {victim} died")
            output = conversation.do(line)
            oracle.answers.extend(output.stdout.split(b"\n")[:-1])
            told = [error.partition(": ")[2] for error in output.errors]
            for death in [death for death in died if death in told]:
                told.remove(death)
                died.remove(death)
            assert len(told) == oracle.step(line), (line, output.errors)
            oracle.check_end()
        assert died == []


# -- stabilize ---------------------------------------------------------------------------------------------


def warm_up(conversation: Conversation, servers: int) -> None:
    """Start servers, and stabilize once with something to exchange, either way. Their stores stay alike."""
    lines = [f"joinServer {server}\njoinClient {50 + server} {server}" for server in range(servers)]
    lines += [f"put {50 + server} warm v" for server in range(servers)]
    assert conversation.do("\n".join([*lines, "stabilize"])).errors == []


@pytest.mark.parametrize("frozen", [(1,), (0, 1, 2)], ids=str)
def test_the_first_stabilize_with_frozen_servers_returns_in_time(frozen: tuple[int, ...]) -> None:
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do("joinServer 0\njoinServer 1\njoinServer 2").errors == []
        for server in frozen:
            conversation.signal(f"server {server}", signal.SIGSTOP)
        started = time.monotonic()
        conversation.do("stabilize")
        assert time.monotonic() - started < STABILIZE_SECONDS + SLACK_SECONDS


@pytest.mark.parametrize("seed", range(3))
def test_stabilize_with_a_server_that_freezes_in_the_middle(seed: int) -> None:
    """It returns in time, and all others agree."""
    random = Random(seed)
    with Conversation(*NO_GOSSIP) as conversation:
        warm_up(conversation, 5)
        lines = [f"joinClient {10 + server} {server}" for server in range(5)]
        value = "x" * (1 << 20)
        lines += [f"put {10 + server} k{server}-{number} {value}" for server in range(5) for number in range(6)]
        assert conversation.do("\n".join(lines)).errors == []
        victim = random.randrange(5)
        pid = conversation.pids()[f"server {victim}"]
        conversation.send("stabilize")
        started = time.monotonic()
        time.sleep(random.random() * 0.4)  # any moment will do
        conversation.signal(f"server {victim}", signal.SIGSTOP)
        output = conversation.do()
        assert time.monotonic() - started < STABILIZE_SECONDS + SLACK_SECONDS
        assert_clear(output)
        others = [server for server in range(5) if server != victim]
        stores = [conversation.do(f"printStore {server}") for server in others]
        assert all(store.stdout == stores[0].stdout and store.errors == [] for store in stores)
        for server in others:
            for number in range(6):
                assert f"k{server}-{number}:".encode() in stores[0].stdout
        if output.errors:
            assert [error.partition(" made")[0] for error in output.errors] == [f"stabilize: server {victim}"]
            assert conversation.pids().get(f"server {victim}") is None
            assert conversation.do(f"joinServer {victim}\nstabilize").errors == []
            store = conversation.do(f"printStore {victim}").stdout
            assert store == conversation.do(f"printStore {others[0]}").stdout
            assert store.count(b"\n") == 31
        else:  # all was done before it froze
            assert conversation.pids()[f"server {victim}"] == pid
            conversation.signal(f"server {victim}", signal.SIGCONT)
            assert conversation.do(f"printStore {victim}").stdout == stores[0].stdout


@pytest.mark.parametrize("frozen", [(4,), (0, 1, 2), (0, 1, 2, 3, 4)], ids=str)
def test_stabilize_with_frozen_servers_returns_in_time(frozen: tuple[int, ...]) -> None:
    with Conversation(*NO_GOSSIP) as conversation:
        warm_up(conversation, 5)
        lines = [f"joinClient {10 + server} {server}" for server in range(5)]
        lines += [f"put {10 + server} k{server} v" for server in range(5)]
        assert conversation.do("\n".join(lines)).errors == []
        for server in frozen:
            conversation.signal(f"server {server}", signal.SIGSTOP)
        started = time.monotonic()
        output = conversation.do("stabilize")
        assert time.monotonic() - started < STABILIZE_SECONDS + SLACK_SECONDS
        told = sorted(error.partition(" made")[0] for error in output.errors)
        assert told == [f"stabilize: server {server}" for server in frozen]
        running = [server for server in range(5) if server not in frozen]
        expected = "".join(f"k{server}:v\n" for server in running).encode() + b"warm:v\n"
        for server in running:
            assert conversation.do(f"printStore {server}") == (expected, [])
        for server in frozen:
            assert conversation.do(f"joinServer {server}").errors == []
        output = conversation.do("stabilize\nprintStore 0")
        assert output.lines == [*(f"k{server}:v" for server in range(5)), "warm:v"]


def test_stabilize_with_frozen_watchdogs_and_servers() -> None:
    """The watchdogs that would kill the frozen servers are frozen as well."""
    with Conversation(*NO_GOSSIP) as conversation:
        warm_up(conversation, 3)
        lines = [f"joinClient {10 + server} {server}" for server in range(3)]
        lines += [f"put {10 + server} k{server} v" for server in range(3)]
        assert conversation.do("\n".join(lines)).errors == []
        conversation.signal("watchdog 1", signal.SIGSTOP)
        conversation.signal("server 1", signal.SIGSTOP)
        started = time.monotonic()
        output = conversation.do("stabilize")
        assert time.monotonic() - started < STABILIZE_SECONDS + SLACK_SECONDS
        assert_clear(output)
        assert conversation.do("printStore 0\nprintStore 2") == (b"k0:v\nk2:v\nwarm:v\n" * 2, [])
        assert conversation.do("joinServer 1\nstabilize\nprintStore 1") == (b"k0:v\nk1:v\nk2:v\nwarm:v\n", [])


def test_stabilize_does_not_wait_for_frozen_clients() -> None:
    with Conversation(*NO_GOSSIP) as conversation:
        warm_up(conversation, 3)
        conversation.do("joinClient 60 1\njoinClient 61 1\nput 60 k v")
        for name in ("server 1", "client 60", "client 61"):
            conversation.signal(name, signal.SIGSTOP)
        started = time.monotonic()
        output = conversation.do("stabilize")
        assert time.monotonic() - started < STABILIZE_SECONDS + SLACK_SECONDS
        assert [error.partition(" made")[0] for error in output.errors] == ["stabilize: server 1"]


def test_stabilize_with_servers_that_freeze_one_after_another() -> None:
    """The others agree in time, although each of the frozen had answered something before."""
    lines = ["joinServer 0"]
    for server in range(1, 5):
        lines += [f"joinServer {server}", *(f"breakConnection {server} {other}" for other in range(server - 1))]
    lines += ["joinClient 9 0", *(f"put 9 k{number} {'x' * 200000}" for number in range(40))]
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do("\n".join(lines)).errors == []
        pids = conversation.pids()
        os.kill(pids["server 2"], signal.SIGSTOP)
        started = time.monotonic()
        conversation.send("stabilize")
        for server in (0, 4):
            time.sleep(1.4)  # they freeze while others are waited for
            os.kill(pids[f"server {server}"], signal.SIGSTOP)
        output = conversation.do()
        assert time.monotonic() - started < STABILIZE_SECONDS + SLACK_SECONDS
        assert_clear(output)
        frozen = [server for server in (0, 2, 4) if f"server {server}" in conversation.pids()]
        assert "server 2" not in conversation.pids()
        for server in frozen:  # those that froze too late to matter
            conversation.signal(f"server {server}", signal.SIGCONT)
        assert conversation.do("joinServer 2\nstabilize").errors == []


def test_gossip_takes_a_way_around_a_frozen_server() -> None:
    with Conversation("--gossip-interval", "0.01", "--timeout", "1") as conversation:
        lines = ["joinServer 0", "joinServer 1", "joinServer 2", "joinClient 5 0", "joinClient 6 2"]
        assert conversation.do("\n".join(lines)).errors == []
        conversation.signal("server 1", signal.SIGSTOP)
        conversation.do("put 5 k v")
        wait_until(lambda: conversation.do("get 6 k").lines == ["k:v"], "gossip")
        conversation.signal("server 1", signal.SIGCONT)
        conversation.do("joinClient 7 1")
        wait_until(lambda: conversation.do("get 7 k").lines == ["k:v"], "gossip to the one that was frozen")


# -- what waits, and for how long --------------------------------------------------------------------------


def test_a_server_that_is_frozen_under_a_large_put_is_found_silent_and_nobody_else() -> None:
    """The put does not fit into the socket's buffer, so the sending takes too long."""
    with Conversation(*NO_GOSSIP, "--timeout", "1") as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0\nput 5 k before").errors == []
        client = conversation.pids()["client 5"]
        conversation.signal("server 0", signal.SIGSTOP)
        assert conversation.do(f"put 5 k {'x' * (1 << 20)}").errors == [
            "put: server 0 made no progress for 1 s, and was killed",
            "put: uncertain: the server was lost before it answered; the value may stand later",
        ]
        assert conversation.do("joinServer 0\nget 5 k") == (b"k:before\n", [])
        assert conversation.pids()["client 5"] == client


def test_a_client_that_is_told_much_and_asked_nothing_lives_on() -> None:
    """Its answers are read; otherwise it would block once the socket's buffer is full of them."""
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v").errors == []
        assert conversation.do("killServer 0\njoinServer 0\n" * 400).errors == []
        assert conversation.do("get 5 k") == (b"k:v\n", [])


def test_a_frozen_neighbour_does_not_keep_gossip_from_the_others() -> None:
    with Conversation("--gossip-interval", "0.05", "--timeout", "3600") as conversation:
        assert conversation.do("joinServer 0\njoinServer 1\njoinServer 2\nbreakConnection 0 2").errors == []
        assert conversation.do("joinClient 5 1\njoinClient 6 2").errors == []
        conversation.signal("server 0", signal.SIGSTOP)
        conversation.do("put 5 k v")
        wait_until(lambda: conversation.do("get 6 k").stdout == b"k:v\n", "the put to come to server 2")
        conversation.signal("server 0", signal.SIGCONT)
        assert conversation.do("stabilize\nprintStore 0") == (b"k:v\n", [])


def test_a_server_that_cannot_be_started_leaves_nothing(tmp_path: Path) -> None:
    """There is neither a watchdog, nor a process that appears later."""
    obstacle = tmp_path / "server-7"
    obstacle.write_text("no folder")
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path)) as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0").errors == []
        (error,) = conversation.do("joinServer 7").errors
        assert error.startswith("joinServer: server 7 could not be started: ")
        wait_until(lambda: "watchdog 7" not in conversation.pids(), "the end of the watchdog")
        assert conversation.do("put 5 k v\nget 5 k\nput 5 k w\nget 5 k") == (b"k:v\nk:w\n", [])
        obstacle.unlink()
        assert conversation.do("joinServer 7\nstabilize\nprintStore 7") == (b"k:w\n", [])


def test_complete_records_with_invalid_content_are_reported(tmp_path: Path) -> None:
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path)) as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v\nkillServer 0").errors == []
        log = tmp_path / "server-0" / "log.0"
        log.write_bytes(log.read_bytes() + pack_record(log.stat().st_size, b"D", msgpack.packb(["x", None])))
        (error,) = conversation.do("joinServer 0").errors
        assert error.startswith("joinServer: server 0 could not be started: its store can't be read: ")
        assert conversation.do("joinServer 1\nprintStore 1") == (b"", [])


def test_without_descriptors_errors_are_clear() -> None:
    script = "".join(f"joinServer {n}\njoinClient {100 + n} {n}\n" for n in range(30)) + "put 100 k v\nget 100 k\n"
    result = run(script, *NO_GOSSIP, prefix=("sh", "-c", 'ulimit -n 40 && exec "$@"', "sh"))
    assert result.stdout == b"k:v\n"
    assert any("Too many open files" in error for error in result.errors)
    assert_clear(Output(b"", result.errors))


def test_a_ping_is_answered_while_the_server_is_busy() -> None:
    busy = Server(Options(3, 1, "unused", 0.0, "never", 5.0, False))
    service = _Service(busy)
    with busy._lock, ThreadPoolExecutor(1) as pool:
        assert pool.submit(service.called, "ping", ()).result(LIMIT_SECONDS) is None


def test_stabilize_needs_no_other_process_to_kill_silent_servers() -> None:
    """All processes except the master are frozen, including the watchdogs. The time-out is an hour."""
    with Conversation(*NO_GOSSIP, "--timeout", "3600") as conversation:
        conversation.do("".join(f"joinServer {number}\n" for number in range(5)))
        for name in conversation.pids():
            conversation.signal(name, signal.SIGSTOP)
        errors = conversation.do("stabilize").errors
        assert errors == [f"stabilize: server {number} made no progress for 2 s, and was killed" for number in range(5)]
        assert [name for name in conversation.pids() if name.startswith("server")] == []


def test_a_put_that_could_not_be_sent_is_not_uncertain(tmp_path: Path) -> None:
    client = _Client(5, 0)
    client.exposed_connect(0, transport.new_address(str(tmp_path), "nobody"), 1.0)
    with pytest.raises(ServerLost) as lost:
        client._ask(0, Operation(b"k", b"v", 1, None))
    assert not lost.value.cut_short


def test_a_client_that_was_killed_does_not_keep_the_rest_from_ending() -> None:
    with Conversation(*NO_GOSSIP) as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0\njoinClient 6 0\nput 6 k v").errors == []
        conversation.signal("client 5", signal.SIGKILL)
        assert conversation.do("get 5 k").errors == ["get: client 5 died", "get: client 5 is not running"]
        conversation.process.kill()
        conversation.process.wait()
        wait_until(lambda: not conversation.pids(), "the end of all")
        directory = conversation.run_directory
        assert directory is not None
        wait_until(lambda: not Path(directory).exists(), "the end of the run's folder")


def test_a_moment_without_descriptors_makes_no_server_unreachable() -> None:
    with Conversation(*NO_GOSSIP) as conversation:
        conversation.do("joinServer 0\njoinClient 5 0\njoinClient 6 0\njoinClient 7 0\nput 5 k v")
        server = conversation.pids()["server 0"]
        usual = resource.prlimit(server, resource.RLIMIT_NOFILE)
        taken = {int(entry.name) for entry in Path(f"/proc/{server}/fd").iterdir()}
        free = min(set(range(len(taken) + 1)) - taken)
        resource.prlimit(server, resource.RLIMIT_NOFILE, (free, usual[1]))
        conversation.send("get 6 k\nget 7 k")
        wait_until_read(conversation)
        time.sleep(0.3)  # nobody tells when the server has tried to take a connection, and could not
        resource.prlimit(server, resource.RLIMIT_NOFILE, usual)
        assert conversation.do() == (b"k:v\nk:v\n", [])


# -- disks that hang ---------------------------------------------------------------------------------------

HANGING = """
import os, sys, time
sys.path.insert(0, {root!r})
import master, records
usual = records.RecordFile.append
def append(self, kind, body, sync=False):
    while os.path.exists(os.path.join({folder!r}, self.path.parent.name)):
        time.sleep(0.01)
    usual(self, kind, body, sync)
records.RecordFile.append = append
sys.exit(master.main())
"""
"""A master whose servers write nothing to their logs while there is a file of that server's name in *folder*."""


@pytest.mark.parametrize("hung", [(1,), (0,), (1, 3), (0, 2, 4)])
def test_servers_whose_disks_hang_do_not_hold_stabilize_up(hung: tuple[int, ...], tmp_path: Path) -> None:
    """They answer an empty call. With this time-out, waiting for them would take longer than any test may."""
    begin = (sys.executable, "-c", HANGING.format(root=str(ROOT), folder=str(tmp_path)))
    with Conversation(*NO_GOSSIP, "--timeout", str(2 * LIMIT_SECONDS), begin=begin) as conversation:
        joins = "".join(f"joinServer {server}\n" for server in range(5))
        conversation.do(f"{joins}joinClient 9 0\nput 9 k v\njoinClient 8 3\nput 8 l w\nput 8 k x\n")
        for server in hung:
            (tmp_path / f"server-{server}").touch()
        output = conversation.do("stabilize")
        assert_clear(output)
        reported = {error.partition("server ")[2].partition(" ")[0] for error in output.errors}
        assert reported <= {str(server) for server in hung}, output
        assert all("made no progress" in error for error in output.errors), output
        left = [server for server in range(5) if str(server) not in reported]
        stores = [conversation.do(f"printStore {server}").lines for server in left]
        assert all(store == stores[0] for store in stores), output
