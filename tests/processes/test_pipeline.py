"""Several commands that are under way at once give the same results as one at a time.

The same scripts run both ways, and stdout, errors and status must be the same bytes. Where a process dies while a group
is under way, some instant of its death must explain what was printed and what is stored.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from support.stalls import slept

from checking.driver import Conversation, run, state, wait_until
from checking.oracle import random_script

EPISODES = 12


def dense_script(random: Random) -> str:
    """Episodes of many puts and gets between few other commands; each starts servers and clients of its own."""
    lines: list[str] = []
    for base in range(0, 100 * EPISODES, 100):
        servers = [base + number for number in range(random.randint(1, 4))]
        clients = [base + 20 + number for number in range(random.randint(1, 5))]
        keys = [f"k{number}" for number in range(random.choice((1, 2, 5)))]
        lines += [f"joinServer {server}" for server in servers]
        lines += [f"joinClient {client} {random.choice(servers)}" for client in clients]
        for number in range(random.randint(20, 200)):
            client, key, chance = random.choice(clients), random.choice(keys), random.random()
            if chance < 0.45:
                lines.append(f"put {client} {key} v{number}")
            elif chance < 0.9:
                lines.append(f"get {client} {key}")
            elif chance < 0.92:
                lines.append(random.choice((f"put {client} {key}", f"get {base + 19} {key}", "# nothing", "nonsense")))
            else:
                server = random.choice(servers)
                lines.append(
                    random.choice(
                        (
                            f"breakConnection {random.choice(servers + clients)} {server}",
                            f"createConnection {random.choice(servers + clients)} {server}",
                            f"createConnection {random.choice(servers + clients)} {server}",
                            f"killServer {server}",
                            f"joinServer {server}",
                            f"joinServer {server}",
                            "stabilize",
                            f"printStore {server}",
                        )
                    )
                )
        lines += ["stabilize", *(f"printStore {server}" for server in servers)]
        lines += [f"killServer {server}" for server in servers]
    return "\n".join(lines) + "\n"


def assert_same_for_seeds(write: Callable[[Random], str | bytes], seeds: int) -> None:
    def compare(seed: int) -> int | None:
        script = write(Random(seed))
        together = run(script, "--gossip-interval", "0")
        one_by_one = run(script, "--gossip-interval", "0", "--no-pipeline")
        return None if together == one_by_one else seed

    with ThreadPoolExecutor(2) as pool:
        assert [seed for seed in pool.map(compare, range(seeds)) if seed is not None] == []


def test_dense_scripts_print_the_same_both_ways(pytestconfig: pytest.Config) -> None:
    """Each run has 12 random scripts, one after another. --seeds is the number of runs."""
    assert_same_for_seeds(dense_script, pytestconfig.getoption("--seeds"))


def test_mixed_scripts_print_the_same_both_ways(pytestconfig: pytest.Config) -> None:
    assert_same_for_seeds(lambda random: b"".join(random_script(random, 300)), pytestconfig.getoption("--seeds"))


def test_a_get_sees_what_another_client_put_just_before_and_not_what_it_puts_just_after() -> None:
    lines = ["joinServer 0", "joinClient 1 0", "joinClient 2 0"]
    expected = b""
    for number in range(500):
        lines += [f"put 1 key before-{number}", "get 2 key", f"put 1 key after-{number}"]
        expected += b"key:before-%d\n" % number
    assert run("\n".join(lines)).stdout == expected


def test_no_later_put_reaches_an_earlier_get_by_gossip() -> None:
    """Client 11 asks server 0 for a key, and then client 12 puts it at server 1, in one group, over and over.

    Server 1 may be done before server 0 has begun, and gossips every 2 ms. A get must never see a put that
    stands behind it in the script.
    """
    lines = ["joinServer 0", "joinServer 1", "joinClient 11 0", "joinClient 12 1", "put 12 key 0"]
    for number in range(1, 6000):
        lines += ["get 11 key"] + [f"get 11 other{number % 50}"] * (number % 3) + [f"put 12 key {number}"]
    printed = run("\n".join(lines), "--gossip-interval", "0.002").stdout.split()
    seen = [line.partition(b":")[2] for line in printed if line.startswith(b"key:")]
    assert len(seen) == 5999
    newest = 0
    for number, value in enumerate(seen, 1):
        if value != b"ERR_KEY":
            assert newest <= int(value) < number
            newest = int(value)
    assert newest > 0, "gossip never ran in between"


def test_gossip_waits_for_the_whole_group(tmp_path: Path) -> None:
    """Client 11 is asked to get what client 12 puts after it, and is frozen until client 12's server has done so.

    Server 1 could gossip the put to server 0 meanwhile, as it does every 2 ms; server 0's log would show it.
    """
    with Conversation("--gossip-interval", "0.002", "--data-dir", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 11 0\njoinClient 12 1")
        conversation.signal("client 11", signal.SIGSTOP)
        conversation.send("get 11 key\nput 12 key value")
        logs = [tmp_path / f"server-{ident}" / "log.0" for ident in (0, 1)]
        wait_until(lambda: b"value" in logs[1].read_bytes(), "the put at server 1")
        deadline = time.monotonic() + 1
        while b"value" not in logs[0].read_bytes() and time.monotonic() < deadline:
            time.sleep(0.002)
        conversation.signal("client 11", signal.SIGCONT)
        assert conversation.do("stabilize\nget 11 key") == (b"key:ERR_KEY\nkey:value\n", [])


@contextmanager
def lost_on_the_way(
    script: list[str], name: str, after: int, *options: str
) -> Iterator[tuple[Conversation, list[str], list[str]]]:
    """Feed a script, and kill a process once *after* bytes have been printed; yields lines printed, and errors."""
    with Conversation("--gossip-interval", "0", *options) as conversation:
        conversation.do("\n".join(script[:10]))
        pid = conversation.pids()[name]
        with ThreadPoolExecutor(1) as pool:
            fed = pool.submit(conversation.send, "\n".join(script[10:]))
            assert conversation.process.stdout is not None
            read = b""
            while len(read) < after:
                read += os.read(conversation.process.stdout.fileno(), 1 << 16)
            os.kill(pid, signal.SIGKILL)
            drained = pool.submit(conversation.do)  # behind `fed`, on the one thread
            output = drained.result(60)
            fed.result(60)
        yield conversation, (read + output.stdout).decode().splitlines(), output.errors


def group_script() -> list[str]:
    """Clients 10, 11 and 12 put keys of their own and read them; 10 and 11 share server 0, 12 is at server 1."""
    lines = ["joinServer 0", "joinServer 1", "joinClient 10 0", "joinClient 11 0", "joinClient 12 1", *["# start"] * 5]
    for number in range(3000):
        client = 10 + number % 3
        lines += [f"put {client} k{number} v{number}", f"get {client} k{number}"]
    return lines


@pytest.mark.parametrize("after", range(0, 24000, 1500))
def test_a_server_killed_in_a_group_has_died_at_some_instant(after: int) -> None:
    """From some command on, all commands at server 0 fail, and all others work. What was printed before is valid."""
    script = group_script()
    with lost_on_the_way(script, "server 0", after) as (conversation, printed, errors):
        got = {int(line.partition(":v")[2]) for line in printed}
        assert {number for number in range(3000) if number % 3 == 2} <= got
        mine = sorted(number for number in got if number % 3 != 2)
        everything = [number for number in range(3000) if number % 3 != 2]
        assert mine == everything[: len(mine)]
        uncertain = sum("uncertain" in error for error in errors)
        assert uncertain <= 1
        if len(mine) < len(everything):
            assert sum(error.endswith("server 0 died") for error in errors) == 1
        stored = conversation.do("joinServer 0\nprintStore 0\nput 10 again x\nget 10 again").lines
        assert stored.pop() == "again:x"
        kept = {int(line.partition(":v")[2]) for line in stored}
        assert set(mine) <= kept
        assert len(kept - set(mine)) <= 1 + uncertain  # a put whose get found the server gone, and an uncertain one


@pytest.mark.parametrize("after", range(0, 24000, 4000))
def test_a_client_killed_in_a_group_leaves_what_was_printed(after: int) -> None:
    with lost_on_the_way(group_script(), "client 10", after, "--timeout", "2") as (conversation, printed, errors):
        got = {int(line.partition(":v")[2]) for line in printed}
        assert {number for number in range(3000) if number % 3} <= got
        mine = sorted(number for number in got if number % 3 == 0)
        assert mine == list(range(0, 3000, 3))[: len(mine)]
        if len(mine) < 1000:
            assert sum(error.endswith("client 10 died") for error in errors) == 1
        kept = {int(line.partition(":v")[2]) for line in conversation.do("printStore 0").lines}
        assert got - {number for number in got if number % 3 == 2} <= kept
        assert len({number for number in kept if number % 3 == 0} - set(mine)) <= 2


def test_a_client_and_its_server_that_are_lost_together_leave_no_put_that_has_failed(tmp_path: Path) -> None:
    """The server has logged the group, and no client has an answer. A put that failed must not stand later."""
    log = tmp_path / "server-0" / "log.0"
    filling = "z" * 900
    for _ in range(6):
        shutil.rmtree(tmp_path / "server-0", ignore_errors=True)
        with Conversation("--gossip-interval", "0", "--data-dir", str(tmp_path)) as conversation:
            assert conversation.do("joinServer 0\njoinClient 5 0").errors == []
            client, server = conversation.pids()["client 5"], conversation.pids()["server 0"]
            size = log.stat().st_size
            conversation.send("\n".join(f"put 5 k{number} {filling}" for number in range(900)))
            wait_until(lambda size=size: log.stat().st_size > size, "a group to be logged", poll_seconds=0)
            for signum in (signal.SIGSTOP, signal.SIGKILL):
                for pid in (client, server):
                    os.kill(pid, signum)
            errors = conversation.do().errors
            failed = [error for error in errors if "died" not in error and "uncertain" not in error]
            uncertain = sum("uncertain" in error for error in errors)
            stand = len(conversation.do("joinServer 0\nprintStore 0").lines)
            assert 900 - len(failed) - uncertain <= stand <= 900 - len(failed), (len(failed), uncertain, stand)


def test_a_put_of_a_group_that_was_taken_back_binds_no_session(tmp_path: Path) -> None:
    """Client 10 has heard that its put was stored; client 11 has not heard its answer, which doesn't fit into a
    socket, when their server is killed. So nothing of the group has happened."""
    with Conversation("--gossip-interval", "0", "--data-dir", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinClient 10 0\njoinClient 11 0\nput 10 k0 old\nput 11 big " + "x" * (8 << 20))
        first, second = conversation.pids()["client 10"], conversation.pids()["client 11"]
        conversation.signal("client 10", signal.SIGSTOP)
        before = slept(second)
        conversation.send("put 10 k new\nget 11 big")
        wait_until(lambda: slept(second) > before and state(second) == "S", "client 11 to hand its part in")
        conversation.signal("client 11", signal.SIGSTOP)
        before = slept(first)
        conversation.signal("client 10", signal.SIGCONT)
        log = tmp_path / "server-0" / "log.0"
        wait_until(lambda: log.read_bytes()[-200:].count(b"new"), "the group to be carried out")
        wait_until(lambda: slept(first) > before + 1 and state(first) == "S", "client 10 to have its answer")
        conversation.signal("server 0", signal.SIGKILL)
        conversation.signal("client 11", signal.SIGCONT)
        assert len(conversation.do().errors) == 3
        assert conversation.do("joinServer 0\nget 10 k") == (b"k:ERR_KEY\n", [])


def test_a_file_of_many_large_values_is_more_than_one_group(tmp_path: Path) -> None:
    script = tmp_path / "script"
    lines = [f"put 5 k{number % 7} {number:0500000d}" for number in range(200)]
    script.write_text("\n".join(["joinServer 0", "joinClient 5 0", *lines, "get 5 k1"]))
    result = run("", "--gossip-interval", "0", str(script))
    assert (result.stdout, result.stderr, result.status) == (f"k1:{197:0500000d}\n".encode(), "", 0)


def test_what_was_answered_before_a_refusal_is_printed_before_it() -> None:
    with Conversation("--gossip-interval", "0") as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 z end\nput 6 m middle")
        resource.prlimit(conversation.pids()["server 0"], resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        output = conversation.do("get 6 m\nput 5 b x\nget 5 z\nget 6 m")
        assert output.lines == ["m:middle", "z:end", "m:middle"]
        assert [error.rpartition(": ")[2] for error in output.errors] == ["File too large"]


def test_a_frozen_server_in_a_group_is_killed_and_the_others_go_on() -> None:
    script = group_script()
    with Conversation("--gossip-interval", "0", "--timeout", "1") as conversation:
        conversation.do("\n".join(script[:10]))
        conversation.signal("server 0", signal.SIGSTOP)
        output = conversation.do("\n".join(script[10:70]))
        assert output.errors[0] == "put: server 0 made no progress for 1 s, and was killed"
        assert len(output.errors) == 41
        assert len(output.lines) == 10
        assert conversation.do("joinServer 0\nprintStore 0").lines == []


def test_a_line_that_comes_alone_is_answered_at_once() -> None:
    """This also holds after other lines, before an incomplete line, and before a comment."""
    with Conversation() as conversation:
        conversation.do("joinServer 0\njoinClient 1 0")
        for waiting in (b"put 1 k v\nget 1 k\n", b"put 1 k v\nget 1 k\n# and", b"\nget 1 k\n# x\n\nge"):
            conversation.send_raw(waiting)
            answer = bytearray()

            def answered(answer: bytearray = answer) -> bool:
                answer.extend(conversation._available())
                return bytes(answer) == b"k:v\n"

            wait_until(answered, f"the answer to {waiting!r}")
            conversation.send_raw(b"t 1 nothing\n" if waiting.endswith(b"ge") else b"\n")


def test_answers_that_are_too_large_for_one_message_come_one_by_one() -> None:
    value = "x" * (20 << 20)
    result = run(f"joinServer 0\njoinClient 5 0\nput 5 k {value}\n" + "get 5 k\n" * 5, "--gossip-interval", "0")
    assert (result.stderr, result.status) == ("", 0)
    assert result.stdout == f"k:{value}\n".encode() * 5


def test_large_keys_are_not_more_than_a_message_holds() -> None:
    keys = [f"{number:065000d}" for number in range(1500)]
    script = "joinServer 0\njoinClient 5 0\n" + "".join(f"get 5 {key}\n" for key in keys)
    result = run(script, "--gossip-interval", "0")
    assert (result.stderr, result.status) == ("", 0)
    assert result.stdout == "".join(f"{key}:ERR_KEY\n" for key in keys).encode()


def test_an_answer_does_not_wait_for_the_end_of_the_comments_behind_it() -> None:
    """Comments keep arriving, and the driver needs the answer to a command that precedes them."""
    with Conversation() as conversation:
        conversation.do("joinServer 0\njoinClient 1 0\nput 1 k v")
        assert conversation.process.stdin is not None and conversation.process.stdout is not None
        stdin, stdout = conversation.process.stdin.fileno(), conversation.process.stdout.fileno()
        os.write(stdin, b"get 1 k\nget 1 k\n")
        os.set_blocking(stdin, False)
        comments, written = b"# and more\n" * 6000, 0
        deadline = time.monotonic() + 60
        while not select.select([stdout], [], [], 0)[0]:
            assert time.monotonic() < deadline, "no answer while comments come"
            if select.select([], [stdin], [], 0.01)[1]:
                written = (written + os.write(stdin, comments[written % 11 :])) % 11
        os.set_blocking(stdin, True)
        os.write(stdin, b"\n")
        assert os.read(stdout, 100).startswith(b"k:v\n")
