"""Groups that are given up: the results are the same.

A server gives its part of a group up where the answers would be too large, where one of its clients is too slow or
dies, or where its log refuses. The commands are carried out one by one then, and outcome, errors, status and stores
must be those of --no-pipeline all the same.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Event
from typing import NamedTuple, TypeVar

import msgpack
import pytest
from support.stalls import SILENCE, run_file, run_stalling, slept

from checking.driver import Conversation, Result, run, state, wait_until
from checking.traces import given_up
from checking.verdict import check
from messages import Operation, pack_operations
from server import Options, Server

EPISODES = 3

USUAL_LIMIT = 60_000
"""The limit for which values are sized if the run has the usual limit."""

T = TypeVar("T")


class Plan(NamedTuple):
    """What makes the servers of a run give groups up."""

    limit: int | None
    """Of the bytes that a group may answer with; None for the usual one, which is never reached here."""
    stops: int
    """How often a process is stopped."""

    @property
    def options(self) -> tuple[str, ...]:
        """Of the master."""
        return () if self.limit is None else ("--group-limit", str(self.limit))

    @property
    def way(self) -> str:
        """A description in one or two words."""
        return " and ".join(["too large"] * (self.limit is not None) + ["too slow"] * bool(self.stops)) or "by chance"


PLANS = (Plan(300, 0), Plan(20_000, 0), Plan(100_000, 0), Plan(None, 6), Plan(60_000, 4))


class Heavy:
    """Writes scripts with values of all sizes, several clients a server, and many gets of the same large values."""

    def __init__(self, random: Random, limit: int) -> None:
        self._random = random
        self._limit = limit
        self._puts = 0

    def lines(self) -> Iterator[str]:
        """A script: some episodes, each with servers and clients of its own."""
        for base in range(0, 100 * EPISODES, 100):
            yield from self._episode(base)

    def _episode(self, base: int) -> Iterator[str]:
        choose, chance = self._random.choice, self._random.random
        servers = [base + number for number in range(self._random.randint(2, 4))]
        clients = [base + 20 + number for number in range(self._random.randint(3, 8))]
        keys = [f"k{number}" for number in range(choose((1, 2, 4)))]
        yield from (f"joinServer {server}" for server in servers)
        for client in clients:
            yield f"joinClient {client} {choose(servers)}"
        for _ in range(self._random.randint(4, 8)):
            for _ in range(self._random.randint(5, 40)):
                client, key = choose(clients), choose(keys)
                yield f"put {client} {key} {self._value()}" if chance() < 0.5 else f"get {client} {key}"
            if chance() < 0.5:
                yield from self._burst(clients, keys)
            yield from self._change(servers, clients)
        yield "stabilize"
        yield from (f"get {client} {key}" for client in clients for key in keys)
        yield from (f"printStore {server}" for server in servers)
        yield from (f"killServer {server}" for server in servers)

    def _value(self) -> str:
        self._puts += 1
        (largest,) = self._random.choices((1, 0.02, 0.2, 0.6), (85, 8, 5, 2))
        size = 1 if largest == 1 else self._random.randint(1, int(self._limit * largest))
        return f"v{self._puts}".ljust(size, "abcdefghij"[self._puts % 10])

    def _burst(self, clients: list[int], keys: list[str]) -> Iterator[str]:
        """A large value, and gets of it that mostly are too much for one group, with puts of others around."""
        choose = self._random.choice
        key, writer = choose(keys), choose(clients)
        size = self._random.randint(self._limit // 10, self._limit // 2)
        self._puts += 1
        yield f"put {writer} {key} " + f"v{self._puts}".ljust(size, "x")
        if self._random.random() < 0.5:
            yield "stabilize"
        for _ in range(2 * self._limit // size):
            if self._random.random() < 0.3:
                yield f"put {choose(clients)} {choose(keys)} {self._value()}"
            yield f"get {choose(clients)} {key}"

    def _change(self, servers: list[int], clients: list[int]) -> Iterator[str]:
        """What ends a group: something moves, or something is looked at."""
        choose, chance = self._random.choice, self._random.random()
        server, client = choose(servers), choose(clients)
        if chance < 0.5:
            yield "stabilize"
        elif chance < 0.6:
            yield f"breakConnection {choose(servers)} {server}"
        elif chance < 0.7:
            yield f"createConnection {choose(servers)} {server}"
        elif chance < 0.8:
            yield f"createConnection {client} {server}"
        elif chance < 0.9:
            yield from (f"breakConnection {client} {other}" for other in servers if other != server)
        else:
            yield choose((f"killServer {server}", f"joinServer {server}", f"printStore {server}"))


class Play(NamedTuple):
    """A random script, run in two ways."""

    together: Result
    one_by_one: Result
    given_up: int
    """How many of the groups were given up."""


def play(seed: int, folder: Path) -> Play:
    """Write a script, and run it pipelined, while what its plan says happens, and one by one."""
    plan, random = PLANS[seed % len(PLANS)], Random(seed)
    folder.mkdir()
    script, trace = folder / "script", folder / "trace"
    script.write_text(heavy_script(random, plan))
    one_by_one = run_file(script, "--gossip-interval", "0", "--no-pipeline")
    options = (*plan.options, "--gossip-interval", "0", "--trace", str(trace))
    together = run_stalling(script, *options, random=random, stops=plan.stops)
    done = Play(together, one_by_one, given_up(trace))
    shutil.rmtree(folder)
    return done


def heavy_script(random: Random, plan: Plan) -> str:
    return "\n".join(Heavy(random, plan.limit or USUAL_LIMIT).lines()) + "\n"


def for_seeds(pytestconfig: pytest.Config, test: Callable[[int], T]) -> Iterator[tuple[int, T]]:
    """Do it for as many seeds as --seeds says, two at a time."""
    seeds = range(pytestconfig.getoption("--seeds"))
    with ThreadPoolExecutor(2) as pool:
        yield from zip(seeds, pool.map(test, seeds), strict=True)


def test_random_scripts_print_the_same_both_ways(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """-rP shows how often each way to give a group up has come up."""
    counts: Counter[str] = Counter()
    wrong = []
    for seed, played in for_seeds(pytestconfig, lambda seed: play(seed, tmp_path / str(seed))):
        counts[PLANS[seed % len(PLANS)].way] += played.given_up
        if played.together != played.one_by_one:
            wrong.append(seed)
    print("groups given up:", ", ".join(f"{count} {way}" for way, count in sorted(counts.items())))
    assert wrong == []
    assert counts["too large"] >= pytestconfig.getoption("--seeds")


def test_random_scripts_with_gossip_leave_valid_histories(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """A failure leaves script and history."""

    def judge(seed: int) -> str:
        plan, random = PLANS[seed % len(PLANS)], Random(seed)
        script, history = tmp_path / f"script-{seed}", tmp_path / f"history-{seed}"
        script.write_text(heavy_script(random, plan))
        options = (*plan.options, "--gossip-interval", "0.003", "--history", str(history))
        result = run_stalling(script, *options, random=random, stops=plan.stops)
        verdict = check(history)
        if verdict.verdict != "valid" or SILENCE.search(result.stderr):
            return f"{verdict.verdict}: {verdict.why} {result.stderr}"
        script.unlink()
        history.unlink()
        return ""

    wrong = {seed: why for seed, why in for_seeds(pytestconfig, judge) if why}
    assert wrong == {}, f"scripts and histories are in {tmp_path}"


def test_a_part_that_comes_too_late_completes_nothing(tmp_path: Path) -> None:
    """The other clients have been told that nothing was carried out, and their gets will be repeated."""
    server = Server(Options(0, 1, str(tmp_path / "server-0"), 0.0, "never", 0.2, False))
    server.recover()
    get, put = Operation(b"k", None, 1, None), Operation(b"k", b"new", 2, None)
    assert server.execute_group(1, 5, 2, pack_operations([get])) is None
    assert server.execute_group(1, 6, 2, pack_operations([put])) is None
    assert server.writes() == []


def test_a_log_whose_sync_has_failed_waits_for_its_group_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(Options(0, 1, str(tmp_path / "server-0"), 0.0, "interval", 10.0, True))
    server.recover()
    real_fsync, failed = os.fsync, Event()

    def fsync(fd: int) -> None:
        if failed.is_set():
            real_fsync(fd)
        else:
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    put = pack_operations([Operation(b"k", b"v", 1, None)])
    assert server.execute_group(1, 5, 1, put) is not None
    assert failed.wait(60)
    log = tmp_path / "server-0" / "log.0"
    time.sleep(1.5)  # in which it is tried again: in vain
    assert log.exists()
    server.release_group()
    wait_until(lambda: not log.exists(), "a new log")
    refusal, nothing = (msgpack.unpackb(server.execute(put))[1] for _ in range(2))
    assert refusal.endswith("Input/output error")
    assert nothing is None


# -- each way by itself ------------------------------------------------------------------------------------


def test_the_last_put_stands_where_answers_were_too_large() -> None:
    """With the usual limit."""
    big = "x" * (6 << 20)
    start = f"joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 big {big}\nstabilize\nget 5 nothing"
    group = "put 5 k old\n" + "get 5 big\n" * 3 + "put 6 k new"
    result = run(f"{start}\n{group}\nstabilize\nget 5 k\nget 6 k\n", "--gossip-interval", "0")
    assert (result.stderr, result.status) == ("", 0)
    assert result.stdout.endswith(b"\nk:new\nk:new\n")
    assert result.stdout.count(b"big:x") == 3


@contextmanager
def two_servers(*options: str) -> Iterator[Conversation]:
    """Clients 5 and 7 are at server 0, and client 6 is at server 1."""
    with Conversation("--gossip-interval", "0", *options) as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\njoinClient 7 0\nput 7 x x")
        yield conversation


LAST = "stabilize\nget 5 k\nget 6 k\nprintStore 0"


@pytest.mark.parametrize("signum", [signal.SIGCONT, signal.SIGKILL])
def test_the_last_put_stands_where_a_client_was_slow(signum: int) -> None:
    """Server 0 gives its part up, since client 7 is stopped; that one goes on then, or is killed."""
    with two_servers("--timeout", "1.5") as conversation:
        first = conversation.pids()["client 5"]
        conversation.signal("client 7", signal.SIGSTOP)
        before = slept(first)
        conversation.send("put 5 k old\nget 7 x\nput 6 k new")
        wait_until(lambda: slept(first) > before + 1 and state(first) == "S", "server 0 to give its part up")
        conversation.signal("client 7", signum)
        output = conversation.do(LAST)
        assert output.lines[-4:] == ["k:new", "k:new", "k:new", "x:x"]
        died = ["client 7 died", "client 7 is not running"] if signum == signal.SIGKILL else []
        assert [error.partition(": ")[2] for error in output.errors] == died


def test_the_last_put_stands_where_a_log_has_refused() -> None:
    """What both clients put is too much for the log of server 0; what client 5 puts isn't."""
    with tempfile.TemporaryDirectory() as folder, two_servers("--data-dir", folder) as conversation:
        size = Path(folder, "server-0", "log.0").stat().st_size
        server = conversation.pids()["server 0"]
        resource.prlimit(server, resource.RLIMIT_FSIZE, (size + 2000, resource.RLIM_INFINITY))
        output = conversation.do("put 5 k old\nput 7 large " + "x" * 3000 + "\nput 6 k new")
        assert output.errors == ["put: server 0: " + output.errors[0].partition("server 0: ")[2]]
        assert output.errors[0].endswith("File too large")
        resource.prlimit(server, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert conversation.do(LAST).lines == ["k:new", "k:new", "k:new", "x:x"]


def test_what_a_session_reads_is_what_stands_where_its_group_was_given_up() -> None:
    """Client 6 moves to server 0 and finds what client 5 had put there too old, as it is."""
    with two_servers("--group-limit", "0") as conversation:
        output = conversation.do("put 5 k old\nget 7 x\nput 6 k new\njoinClient 6 0\nbreakConnection 6 1\nget 6 k")
        assert (output.lines, output.errors) == (["x:x", "k:ERR_DEP"], [])
