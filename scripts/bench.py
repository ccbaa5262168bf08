#!/usr/bin/env python3
"""Measures Daadkvs on this machine, against bare programs that are measured in the same run.

    scripts/bench.py                    all benchmarks, as a table (a few minutes)
    scripts/bench.py puts-16 start-up   only these
    scripts/bench.py --json             the same for programs
    scripts/bench.py --profile          what a put costs the master, the clients and the servers
    scripts/bench.py --plot FILE        throughput and stabilize against the number of servers and of keys, as a picture
                                        (needs matplotlib: make plots)

Machines differ and are shared, so what counts are ratios within one run: a figure over its baseline. The main
baseline is the *bare two-hop program*: three processes in a row that pass one put at a time over Unix sockets with
msgpack, and wait for its acknowledgement. It does nothing else; no key-value store that waits for each put can beat
it. Each figure is a median of several runs.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]  # not there by itself after python -P

import environment

environment.enter(__name__)

import argparse
import json
import random
import shutil
import socket
import stat
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

ROOT = Path(__file__).resolve().parent.parent

import msgpack
from shared import need, run_main

from messages import Operation
from model import Model, pack_delta
from storage import Storage
from vector_clock import Replica

LENGTH = struct.Struct("<I")


class Row(NamedTuple):
    """One line of the table. *ratio* is what the goal is about; *baseline* says what it is over, if anything."""

    name: str
    figure: str
    baseline: str
    ratio: float
    unit: str
    goal: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


# -- the bare two-hop program ------------------------------------------------------------------------------


def _read_exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _receive(sock: socket.socket) -> object:
    return msgpack.unpackb(_read_exactly(sock, LENGTH.unpack(_read_exactly(sock, LENGTH.size))[0]))


def _send(sock: socket.socket, message: object) -> None:
    packed = msgpack.packb(message)
    sock.sendall(LENGTH.pack(len(packed)) + packed)


@contextmanager
def _two_hops() -> Iterator[socket.socket]:
    """A socket to a process that passes each message on to another, which stores it."""
    ours, near = socket.socketpair()
    far, last = socket.socketpair()
    pids = []
    for role in ("pass", "store"):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        try:
            ours.close()
            store: dict[bytes, bytes] = {}
            while True:
                if role == "pass":
                    _send(far, _receive(near))
                    _send(near, _receive(far))
                else:
                    key, value = cast(list[bytes], _receive(last))
                    store[key] = value
                    _send(last, True)
        except BaseException:
            os._exit(0)
    for sock in (near, far, last):
        sock.close()
    try:
        yield ours
    finally:
        ours.close()
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def bare_put_seconds(size: int, puts: int = 5000) -> float:
    """What one put takes in the bare two-hop program, on average."""
    value = b"v" * size
    with _two_hops() as sock:
        for _ in range(100):
            _send(sock, (b"key", value))
            _receive(sock)
        start = time.perf_counter()
        for number in range(puts):
            _send(sock, (b"key%d" % (number % 1000), value))
            _receive(sock)
        return (time.perf_counter() - start) / puts


# -- running Daadkvs ---------------------------------------------------------------------------------------


def run_script(script: str, *options: str) -> float:
    """Seconds for a whole run, start-up and exit included. Raises where it printed an error."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, ROOT / "master.py", *options], input=script.encode(), capture_output=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode or done.stderr:
        raise RuntimeError(done.stderr.decode())
    return seconds


class Conversation:
    """A master that is fed line by line."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "master.py", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin and self.process.stdout
        self._input, self._output = self.process.stdin, self.process.stdout

    def do(self, script: str) -> float:
        """Seconds until these commands are done. Client 99 must have a server."""
        data = memoryview((script + "\nget 99 done\n").encode())
        start = time.perf_counter()
        while data:
            data = data[self._input.write(data) :]
        answer = b""
        while not answer.endswith(b"done:ERR_KEY\n"):
            answer = answer[-64:] + os.read(self._output.fileno(), 1 << 20)
        return time.perf_counter() - start

    def pids(self, what: str) -> list[int]:
        """The processes of this run whose title begins with "daadkvs *what*"."""
        found = []
        mine = {self.process.pid}
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    title = (entry / "cmdline").read_text("utf-8", "replace")
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1]), title
                except OSError:
                    continue
        grown = True
        while grown:
            more = {pid for pid, (parent, _) in parents.items() if parent in mine} - mine
            grown = bool(more)
            mine |= more
        for pid in mine:
            if parents[pid][1].startswith(f"daadkvs {what}"):
                found.append(pid)
        return sorted(found)

    def end(self) -> None:
        """Close stdin, and wait for the end."""
        self._input.close()
        self.process.wait()


@contextmanager
def conversation(*options: str) -> Iterator[Conversation]:
    talk = Conversation(*options)
    try:
        yield talk
    finally:
        talk.end()


def cluster(servers: int, clients: int) -> str:
    """Commands that start servers 0, 1, … and clients 100, 101, …, one after another at the servers."""
    lines = [f"joinServer {server}" for server in range(servers)]
    lines += [f"joinClient {100 + client} {client % servers}" for client in range(clients)]
    return "\n".join(lines) + "\n"


def puts(count: int, keys: int, size: int, clients: int, prefix: str = "k") -> str:
    """Puts of *size* bytes, rotating over the clients."""
    fill = "v" * max(0, size - 8)
    return "".join(
        f"put {100 + number % clients} {prefix}{number % keys} {number:08d}{fill}\n" for number in range(count)
    )


def prints(servers: int) -> str:
    return "".join(f"printStore {server}\n" for server in range(servers))


# -- the benchmarks ----------------------------------------------------------------------------------------


def median(measure: Callable[[], float], times: int = 5) -> float:
    return statistics.median(measure() for _ in range(times))


def _whole_run(name: str, script: str, commands: int, size: int, goal: float) -> Row:
    ratios, runs, bares = [], [], []
    for _ in range(5):
        bare = bare_put_seconds(size)
        seconds = run_script(script)
        bares.append(bare)
        runs.append(seconds)
        ratios.append(commands * bare / seconds)
    rate, bare_rate = commands / statistics.median(runs), 1 / statistics.median(bares)
    return Row(
        name,
        f"{rate:,.0f} commands/s",
        f"bare two hops: {bare_rate:,.0f}/s",
        statistics.median(ratios),
        "×",
        goal,
        True,
    )


def puts_16() -> list[Row]:
    script = cluster(5, 5) + puts(20000, 1000, 16, 5) + "stabilize\n" + prints(5)
    return [_whole_run("20,000 puts of 16 bytes, 5 + 5, stabilize, print: whole run", script, 20000, 16, 1.0)]


def puts_800() -> list[Row]:
    script = cluster(5, 5) + puts(4000, 1000, 800, 5) + "stabilize\n" + prints(5)
    return [_whole_run("4,000 puts of 800 bytes, likewise", script, 4000, 800, 0.7)]


def mixed() -> list[Row]:
    chance = random.Random(1)
    lines = []
    for number in range(20000):
        client, key = 100 + chance.randrange(25), chance.randrange(40)
        lines.append(f"put {client} k{key} v{number}" if number % 2 else f"get {client} k{key}")
    script = cluster(5, 25) + "\n".join(lines) + "\n"
    return [_whole_run("20,000 puts and gets, 25 clients, 5 servers, 40 keys: whole run", script, 20000, 16, 0.3)]


def lock_step() -> list[Row]:
    pairs, gets, bares = [], [], []
    for _ in range(5):
        bares.append(bare_put_seconds(16))
        with conversation() as talk:
            talk.do("joinServer 0\njoinServer 1\njoinClient 99 0\njoinClient 5 0")
            pair, get = [], []
            for number in range(500):
                start = time.perf_counter()
                talk._input.write(b"put 5 k v%015d\nget 5 k\n" % number)
                talk._output.read(1 << 16)
                middle = time.perf_counter()
                talk._input.write(b"get 5 k\n")
                talk._output.read(1 << 16)
                pair.append(middle - start)
                get.append(time.perf_counter() - middle)
        pairs.append(statistics.median(pair))
        gets.append(statistics.median(get))
    bare, pair_seconds, get_seconds = map(statistics.median, (bares, pairs, gets))
    return [
        Row("lock-step: put and get of a key", f"{pair_seconds * 1e6:,.0f} µs",
            f"two bare round trips: {bare * 2e6:,.0f} µs", pair_seconds / bare / 2, "×", 10, False),
        Row("lock-step: a lone get", f"{get_seconds * 1e6:,.0f} µs", f"a bare round trip: {bare * 1e6:,.0f} µs",
            get_seconds / bare, "×", 10, False),
    ]  # fmt: skip


def start_up() -> list[Row]:
    script = cluster(5, 5) + puts(40, 40, 16, 5) + "stabilize\n" + prints(5)

    def interpreters() -> float:
        start = time.perf_counter()
        for _ in range(16):
            subprocess.run([sys.executable, "-c", ""], check=True)
        return time.perf_counter() - start

    ratios, runs, bares = [], [], []
    for _ in range(7):
        bares.append(interpreters())
        runs.append(run_script(script))
        ratios.append(runs[-1] / bares[-1])
    return [
        Row("5 + 5 up, 40 puts, stabilize, print, exit", f"{statistics.median(runs) * 1e3:,.0f} ms",
            f"16 bare interpreters: {statistics.median(bares) * 1e3:,.0f} ms",
            statistics.median(ratios), "×", 1.5, False)
    ]  # fmt: skip


def stabilize() -> list[Row]:
    rows = []
    nothing: dict[int, float] = {}
    ten: dict[int, float] = {}
    for keys in (1000, 100000):
        with conversation("--gossip-interval", "0") as talk:
            talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(keys, keys, 16, 5) + "stabilize")
            nothing[keys] = median(lambda: talk.do("stabilize") - talk.do(""), 21)
            some = []
            for _ in range(11):
                talk.do(puts(10, 10, 16, 5))
                some.append(talk.do("stabilize") - talk.do(""))
            ten[keys] = statistics.median(some)
    rows.append(Row("stabilize of 5 with nothing new, 100,000 keys", f"{nothing[100000] * 1e3:.2f} ms", "",
                    nothing[100000] * 1e3, "ms", 10, False))  # fmt: skip
    rows.append(Row("the same, over 1,000 keys", f"{nothing[100000] * 1e3:.2f} ms", f"{nothing[1000] * 1e3:.2f} ms",
                    nothing[100000] / nothing[1000], "×", 1.5, False))  # fmt: skip
    rows.append(Row("stabilize of 5 with 10 new writes, 100,000 keys over 1,000", f"{ten[100000] * 1e3:.2f} ms",
                    f"{ten[1000] * 1e3:.2f} ms", ten[100000] / ten[1000], "×", 1.5, False))  # fmt: skip

    def new_writes() -> float:
        with conversation("--gossip-interval", "0") as talk:
            talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(4000, 4000, 800, 5))
            return talk.do("stabilize")

    seconds = median(new_writes)
    rows.append(
        Row("stabilize of 5 with 4,000 new writes of 800 bytes", f"{seconds:.3f} s", "", seconds, "s", 0.25, False)
    )
    return rows


def chain_50() -> list[Row]:
    lines = []
    for server in range(50):
        lines.append(f"joinServer {server}")
        lines += [f"breakConnection {server} {other}" for other in range(server - 1)]
    lines += [f"joinClient {100 + client} {client}" for client in range(50)]
    start_script = "\n".join(lines) + "\njoinClient 99 0\n" + puts(500, 500, 16, 50)
    steps, totals = [], []
    for _ in range(3):
        start = time.perf_counter()
        with conversation() as talk:
            talk.do(start_script)
            steps.append(talk.do("stabilize"))
            talk.do(prints(50))
        totals.append(time.perf_counter() - start)
    step, total = statistics.median(steps), statistics.median(totals)
    return [
        Row("stabilize of a chain of 50 with 500 new writes", f"{step:.2f} s", "", step, "s", 2, False),
        Row("that whole script, with 50 clients and 50 prints", f"{total:.1f} s", "", total, "s", 25, False),
    ]


def scale_50() -> list[Row]:
    """50 servers, 50 clients, 5,000 puts, stabilize and 50 prints: as a full mesh, and as a random tree."""
    body = puts(5000, 500, 16, 50) + "stabilize\n" + prints(50)
    chance = random.Random(1)
    tree = []
    for server in range(50):
        parent = chance.randrange(server) if server else None
        tree.append(f"joinServer {server}\n")
        tree += [f"breakConnection {server} {other}\n" for other in range(server) if other != parent]
    tree += [f"joinClient {100 + client} {client}\n" for client in range(50)]
    rows = []
    for name, start in (("fully connected", cluster(50, 50)), ("in a random tree", "".join(tree))):
        seconds = median(lambda: run_script(start + body), 3)  # noqa: B023
        rows.append(
            Row(f"50 + 50, {name}, 5,000 puts, stabilize, print", f"{seconds:.1f} s", "", seconds, "s", 25, False)
        )
    return rows


def profile() -> None:
    """Print what the processes of each kind need for a put: CPU time, summed over all of that kind."""
    count = 200000
    with conversation("--gossip-interval", "0") as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(1000, 1000, 16, 5))
        kinds = {"master": [talk.process.pid], "clients": talk.pids("client 1"), "servers": talk.pids("server ")}
        before = {kind: _cpu_seconds(pids) for kind, pids in kinds.items()}
        seconds = talk.do(puts(count, 1000, 16, 5))
        for kind, pids in kinds.items():
            print(f"{kind}: {(_cpu_seconds(pids) - before[kind]) / count * 1e6:.1f} µs of CPU a put")
        print(f"in all: {seconds / count * 1e6:.1f} µs a put")


def _cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    """What a process has for itself alone, in bytes."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1]) << 10
    return total


def memory() -> list[Row]:
    with conversation("--gossip-interval", "0") as talk:
        talk.do("joinServer 0\njoinClient 99 0\njoinServer 1\nbreakConnection 0 1\njoinClient 100 1")
        full, empty = [pid for number in (1, 0) for pid in talk.pids(f"server {number} ")]
        talk.do(puts(100000, 100000, 16, 1))
        megabytes = (_memory(full) - _memory(empty)) / 1e6
    return [Row("memory of 100,000 keys with 16-byte values", f"{megabytes:.0f} MB", "", megabytes, "MB", 100, False)]


def transfer() -> list[Row]:
    """200 MB to a server that has just joined; what the two processes need for it at most."""
    with conversation("--gossip-interval", "0") as talk:
        talk.do("joinServer 0\njoinClient 99 0\njoinClient 100 0")
        for number in range(20):
            talk.do(puts(1000, 1000, 10000, 1, f"p{number}-"))
        sender = talk.pids("server 0 ")[0]
        before = _memory(sender)
        talk.do("joinServer 1")
        receiver = talk.pids("server 1 ")[0]
        seconds = talk.do("stabilize")
        after = max(_memory(sender), before), _memory(receiver)
        peaks = [_peak(sender), _peak(receiver)]
    return [
        Row("200 MB to a server that has just joined", f"{seconds:.1f} s", "", seconds, "s", 30, False),
        Row("peak memory of sender and receiver meanwhile", f"{max(peaks) / 1e6:.0f} MB",
            f"at rest {max(after) / 1e6:.0f} MB", max(peaks) / max(after), "×", 1.5, False),
    ]  # fmt: skip


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise ValueError("no VmHWM")


def recovery() -> list[Row]:
    def recover() -> float:
        with conversation("--gossip-interval", "0") as talk:
            talk.do("joinServer 0\njoinServer 1\njoinClient 99 0\njoinClient 100 1\n" + puts(100000, 100000, 16, 1))
            talk.do("killServer 1")
            return talk.do("joinServer 1")

    seconds = median(recover, 3)
    return [Row("revival of a server with 100,000 keys", f"{seconds:.2f} s", "", seconds, "s", 1, False)]


def disk() -> list[Row]:
    """A million overwrites of 1,000 keys, straight into storage: the files against the live data, and pauses."""
    folder = Path(tempfile.mkdtemp(prefix="daadkvs-bench-"))
    try:
        model = Model(Replica(0, 1))
        storage = Storage(folder / "server-0", 1)
        if list(storage.recover().deltas):
            raise AssertionError("a store that was never written has something in it")
        storage.start(model)
        worst, slowest, timestamp, encoded = 0.0, 0.0, 0, 0
        for batch in range(10000):
            operations = []
            for number in range(100):
                timestamp += 1
                key = b"key%d" % ((batch * 100 + number) % 1000)
                operations.append(Operation(key, b"value%011d" % timestamp, timestamp, None))
            _, writes = model.decide(operations)
            start = time.perf_counter()
            storage.append(pack_delta(writes), model)
            slowest = max(slowest, time.perf_counter() - start)
            model.apply(writes)
            size = sum(path.stat().st_size for path in (folder / "server-0").iterdir())
            if batch % 1000 == 10:  # from here on, all keys have values of one size
                encoded = len(model.delta_of(model.keys()))
            if encoded:
                worst = max(worst, size / (3 * encoded + (1 << 20)))
        storage.close()
    finally:
        shutil.rmtree(folder)
    return [
        Row("largest size of the files, 1,000,000 overwrites of 1,000 keys", f"{worst:.2f} of the bound",
            "3 × live data + 1 MiB", worst, "×", 1, False),
        Row("longest pause of an append", f"{slowest * 1e3:.1f} ms", "", slowest * 1e3, "ms", 50, False),
    ]  # fmt: skip


def slow_disk() -> list[Row]:
    """Overwrites of 128 MB, straight into storage, on a disk that takes 100 ms to sync 10 MB: the longest pause."""
    real_fsync = os.fsync
    synced: dict[int, int] = {}

    def slow_fsync(fd: int) -> None:
        real_fsync(fd)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            time.sleep(max(0, found.st_size - synced.get(found.st_ino, 0)) / 1e8)
            synced[found.st_ino] = found.st_size

    folder = Path(tempfile.mkdtemp(prefix="daadkvs-bench-"))
    slowest, timestamp = 0.0, 0
    snapshots: set[str] = set()
    os.fsync = slow_fsync  # type: ignore[assignment]
    try:
        with ThreadPoolExecutor(1) as background:
            model = Model(Replica(0, 1))
            storage = Storage(folder / "server-0", 1, kept=True, executor=background)
            assert not list(storage.recover().deltas)
            storage.start(model)
            while len(snapshots) < 2:
                timestamp += 1
                operation = Operation(b"key%d" % (timestamp % 2000), b"v" * 64000, timestamp, None)
                _, writes = model.decide([operation])
                start = time.perf_counter()
                storage.append(pack_delta(writes), model)
                slowest = max(slowest, time.perf_counter() - start)
                model.apply(writes)
                if timestamp % 100 == 0:
                    snapshots |= {path.name for path in (folder / "server-0").glob("snapshot.?")}
            storage.close()
    finally:
        os.fsync = real_fsync
        shutil.rmtree(folder)
    return [
        Row("longest pause of an append, 128 MB live, a disk of 100 MB/s", f"{slowest * 1e3:.1f} ms",
            "a sync of all: 1,280 ms", slowest * 1e3, "ms", 100, False),
    ]  # fmt: skip


def idle() -> list[Row]:
    with conversation() as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(100, 100, 16, 5))
        time.sleep(3)  # until gossip has come to rest
        pids = [talk.process.pid, *talk.pids("")]
        before = _cpu_seconds(pids)
        time.sleep(10)
        seconds = _cpu_seconds(pids) - before
    return [Row("CPU of 5 + 5 idle for 10 s", f"{seconds:.2f} s", "", seconds, "s", 0.1, False)]


def records() -> list[Row]:
    """What --trace and --history take of the throughput, with many commands under way and with one at a time."""
    rows = []
    many = cluster(5, 5) + puts(20000, 1000, 16, 5) + "stabilize\n" + prints(5)
    alone = cluster(5, 5) + puts(3000, 1000, 16, 5) + "stabilize\n" + prints(5)
    for option in ("--trace", "--history"):
        for how, script, options in (("pipelined", many, ()), ("one by one", alone, ("--no-pipeline",))):
            shares, seconds = [], []
            for _ in range(5):
                with tempfile.TemporaryDirectory() as folder:
                    plain = run_script(script, *options)
                    seconds.append(run_script(script, *options, option, os.path.join(folder, "records")))
                    shares.append(plain / seconds[-1])
            took = f"{statistics.median(seconds):.2f} s"
            share = statistics.median(shares)
            rows.append(Row(f"puts with {option}, {how}", took, "the same without", share, "×", 0.7, True))
    return rows


# -- the picture -------------------------------------------------------------------------------------------


def plot(path: str) -> None:
    """Draw how throughput and stabilize go with the number of servers, and of keys."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    servers = [1, 2, 5, 10, 20, 35, 50]
    keys = [100, 1000, 10000, 100000]
    rates, fresh, idle_checks, few = [], [], [], []
    for count in servers:
        with conversation("--gossip-interval", "0") as talk:
            talk.do(cluster(count, count) + "joinClient 99 0")
            rates.append(20000 / talk.do(puts(20000, 1000, 16, count)))
            fresh.append(talk.do("stabilize") * 1e3)
            idle_checks.append(median(lambda: talk.do("stabilize") - talk.do("")) * 1e3)
    rates_by_keys = []
    for count in keys:
        with conversation("--gossip-interval", "0") as talk:
            talk.do(cluster(5, 5) + "joinClient 99 0")
            talk.do(puts(count, count, 16, 5) + "stabilize")
            rates_by_keys.append(20000 / talk.do(puts(20000, count, 16, 5)))
            talk.do("stabilize")

            def few_writes() -> float:
                talk.do(puts(10, 10, 16, 5))
                return talk.do("stabilize")

            few.append(median(few_writes, 11) * 1e3)
    figure, ((a, b), (c, d)) = pyplot.subplots(2, 2, figsize=(10, 6.5), layout="constrained")
    a.plot(servers, rates, "o-")
    a.set(xlabel="servers, each with a client", ylabel="puts a second", title="Throughput: 20,000 puts of 16 bytes")
    b.plot(servers, fresh, "o-", label="after 20,000 puts over 1,000 keys")
    b.plot(servers, idle_checks, "s--", label="with nothing new")
    b.set(xlabel="servers, fully connected", ylabel="ms", title="stabilize", yscale="log")
    b.legend()
    c.semilogx(keys, rates_by_keys, "o-")
    c.set(xlabel="keys in the store", ylabel="puts a second", title="Throughput: 5 servers, 5 clients")
    d.semilogx(keys, few, "o-")
    d.set(xlabel="keys in the store", ylabel="ms", title="stabilize with 10 new writes, 5 servers")
    for axes in (a, c, d):
        axes.set_ylim(bottom=0)
    for axes in (a, b, c, d):
        axes.grid(alpha=0.3)
    matplotlib.rcParams["svg.hashsalt"] = "daadkvs"
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "puts-16": puts_16,
    "puts-800": puts_800,
    "mixed": mixed,
    "lock-step": lock_step,
    "start-up": start_up,
    "stabilize": stabilize,
    "chain-50": chain_50,
    "scale-50": scale_50,
    "memory": memory,
    "transfer": transfer,
    "recovery": recovery,
    "disk": disk,
    "slow-disk": slow_disk,
    "idle": idle,
    "records": records,
}


def main() -> int:
    """Run; returns 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which benchmarks: {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--profile", action="store_true", help="show what a put costs each kind of process instead")
    parser.add_argument("--plot", metavar="FILE", help="draw a picture instead, as SVG")
    arguments = parser.parse_args()
    if arguments.profile:
        profile()
        return 0
    if arguments.plot:
        need("matplotlib", "requirements-plots.txt")
        plot(arguments.plot)
        return 0
    if unknown := set(arguments.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    if not arguments.json:
        print("| what | figure | baseline | measured | goal | met |\n|---|---|---|---|---|---|")
    for name in arguments.names or BENCHMARKS:
        for row in BENCHMARKS[name]():
            rows.append(row)
            if not arguments.json:
                goal = f"{'≥' if row.at_least else '≤'} {row.goal:g} {row.unit}"
                met = "yes" if row.met else "NO"
                measured = f"{row.ratio:.2f} {row.unit}"
                print(f"| {row.name} | {row.figure} | {row.baseline} | {measured} | {goal} | {met} |", flush=True)
    if arguments.json:
        print(json.dumps([row._asdict() | {"met": row.met} for row in rows], indent=2))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    run_main(main)
