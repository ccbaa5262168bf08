"""The benchmarks of whole clusters, each with its goal.

May live here: what is run, and what each figure is compared with. May not: how runs are made (runs.py).
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from checking.bench.baseline import bare_put_seconds, batched_put_seconds, parsed_put_seconds
from checking.bench.disks import disk, slow_disk
from checking.bench.pages import report
from checking.bench.programs import many, programs
from checking.bench.runs import (
    Row,
    by_turns,
    cluster,
    conversation,
    cpu_seconds,
    median,
    memory_of,
    peak_of,
    prints,
    puts,
    run_script,
    whole,
)
from checking.bench.scale import gossip_50, large_values, scale_50, scale_200
from checking.bench.several import hosts, hosts_100
from checking.telling import tell
from checking.traces import read

__all__ = ["BENCHMARKS", "profile"]


def _whole_run(name: str, script: str, commands: int, size: int, goal: float) -> list[Row]:
    """A whole run against the bare program; and what the same puts take at the least, to compare with."""
    baselines = {
        "bare two hops": bare_put_seconds,
        "five bare chains, in batches": batched_put_seconds,
        "a dict, in one process": parsed_put_seconds,
    }
    runs: list[float] = []
    bares: dict[str, list[float]] = {what: [] for what in baselines}
    for _ in range(5):
        for what, measure in baselines.items():
            bares[what].append(measure(size))
        runs.append(run_script(script))
    rate = commands / statistics.median(runs)
    rows = []
    for number, (what, seconds) in enumerate(bares.items()):
        ratio = statistics.median(commands * bare / run for bare, run in zip(seconds, runs, strict=True))
        baseline = f"{what}: {1 / statistics.median(seconds):,.0f}/s"
        rows.append(Row(name, f"{rate:,.0f} commands/s", baseline, ratio, "×", None if number else goal, True))
    return rows


def puts_16() -> list[Row]:
    what = "20,000 puts of 16 bytes, 5 + 5, stabilize, print: whole run"
    return _whole_run(what, whole(20000, 1000, 16), 20000, 16, 2.5)


def puts_800() -> list[Row]:
    what = "4,000 puts of 800 bytes, 5 + 5, stabilize, print: whole run"
    return _whole_run(what, whole(4000, 1000, 800), 4000, 800, 1.0)


def mixed() -> list[Row]:
    chance = random.Random(1)
    lines = []
    for number in range(20000):
        client, key = 100 + chance.randrange(25), chance.randrange(40)
        lines.append(f"put {client} k{key} v{number}" if number % 2 else f"get {client} k{key}")
    script = cluster(5, 25) + "\n".join(lines) + "\n"
    return _whole_run("20,000 puts and gets, 25 clients, 5 servers, 40 keys: whole run", script, 20000, 16, 2.0)


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
            f"two bare round trips: {bare * 2e6:,.0f} µs", pair_seconds / bare / 2, "×", 3.5, False),
        Row("lock-step: a lone get", f"{get_seconds * 1e6:,.0f} µs", f"a bare round trip: {bare * 1e6:,.0f} µs",
            get_seconds / bare, "×", 4, False),
    ]  # fmt: skip


def start_up() -> list[Row]:
    def interpreters(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            subprocess.run([sys.executable, "-c", ""], check=True)
        return time.perf_counter() - start

    seconds, bare, ratio = by_turns(lambda: run_script(whole(40, 40, 16)), lambda: interpreters(16), 7)
    empty, two, _ = by_turns(lambda: run_script(""), lambda: interpreters(2), 15)
    return [
        Row("an empty script", f"{empty * 1e3:.1f} ms", f"two bare interpreters: {two * 1e3:.1f} ms",
            (empty - two) * 1e3, "ms more", 20, False),
        Row("5 + 5 up, 40 puts, stabilize, print, exit", f"{seconds * 1e3:,.0f} ms",
            f"16 bare interpreters: {bare * 1e3:,.0f} ms", ratio, "×", 0.8, False),
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
    rows.append(Row("stabilize of 5 with nothing new, 100,000 keys, compared with 1,000",
                    f"{nothing[100000] * 1e3:.2f} ms",
                    f"{nothing[1000] * 1e3:.2f} ms", nothing[100000] / nothing[1000], "×", 1.5, False))  # fmt: skip
    rows.append(Row("stabilize of 5 with 10 new writes, 100,000 keys, compared with 1,000",
                    f"{ten[100000] * 1e3:.2f} ms",
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
        Row("whole run of the chain of 50, with 50 clients and 50 prints", f"{total:.1f} s", "", total, "s", 25, False),
    ]


def profile() -> None:
    """Print the CPU time that a put takes in the processes of each kind, summed over all of that kind."""
    count = 200000
    with conversation("--gossip-interval", "0") as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(1000, 1000, 16, 5))
        kinds = {"master": [talk.process.pid], "clients": talk.pids("client 1"), "servers": talk.pids("server ")}
        before = {kind: cpu_seconds(pids) for kind, pids in kinds.items()}
        seconds = talk.do(puts(count, 1000, 16, 5))
        for kind, pids in kinds.items():
            print(f"{kind}: {(cpu_seconds(pids) - before[kind]) / count * 1e6:.1f} µs of CPU for each put")
        print(f"from end to end: {seconds / count * 1e6:.1f} µs for each put")


def memory() -> list[Row]:
    with conversation("--gossip-interval", "0") as talk:
        talk.do("joinServer 0\njoinClient 99 0\njoinServer 1\nbreakConnection 0 1\njoinClient 100 1")
        full, empty = [pid for number in (1, 0) for pid in talk.pids(f"server {number} ")]
        talk.do(puts(100000, 100000, 16, 1))
        megabytes = (memory_of(full) - memory_of(empty)) / 1e6
    return [Row("memory of 100,000 keys with 16-byte values", f"{megabytes:.0f} MB", "", megabytes, "MB", 100, False)]


def transfer() -> list[Row]:
    """Bring 200 MB to a server that has just joined: the time, and the peak memory of both processes."""
    with conversation("--gossip-interval", "0") as talk:
        talk.do("joinServer 0\njoinClient 99 0\njoinClient 100 0")
        for number in range(20):
            talk.do(puts(1000, 1000, 10000, 1, f"p{number}-"))
        sender = talk.pids("server 0 ")[0]
        before = memory_of(sender)
        talk.do("joinServer 1")
        receiver = talk.pids("server 1 ")[0]
        seconds = talk.do("stabilize")
        after = max(memory_of(sender), before), memory_of(receiver)
        peaks = [peak_of(sender), peak_of(receiver)]
    return [
        Row("200 MB to a server that has just joined", f"{seconds:.1f} s", "", seconds, "s", 30, False),
        Row("peak memory of sender and receiver of these 200 MB", f"{max(peaks) / 1e6:.0f} MB",
            f"at rest {max(after) / 1e6:.0f} MB", max(peaks) / max(after), "×", 1.5, False),
    ]  # fmt: skip


def recovery() -> list[Row]:
    def recover() -> float:
        with conversation("--gossip-interval", "0") as talk:
            talk.do("joinServer 0\njoinServer 1\njoinClient 99 0\njoinClient 100 1\n" + puts(100000, 100000, 16, 1))
            talk.do("killServer 1")
            return talk.do("joinServer 1")

    seconds = median(recover, 3)
    return [Row("revival of a server with 100,000 keys", f"{seconds:.2f} s", "", seconds, "s", 1, False)]


def idle() -> list[Row]:
    with conversation() as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(100, 100, 16, 5))
        time.sleep(3)  # until gossip has come to rest
        pids = [talk.process.pid, *talk.pids("")]
        before = cpu_seconds(pids)
        time.sleep(10)
        seconds = cpu_seconds(pids) - before
    return [Row("CPU of 5 + 5 idle for 10 s", f"{seconds:.2f} s", "", seconds, "s", 0.1, False)]


def delays() -> list[Row]:
    """Between two servers and --delay 20ms: how long each message was under way, measured at its two ends."""
    with tempfile.TemporaryDirectory(prefix="daadkvs-bench-") as folder:
        script = cluster(2, 1) + "".join(f"put 100 k{number} v\nstabilize\n" for number in range(100))
        run_script(script, "--gossip-interval", "0", "--delay", "20ms", "--trace", folder)
        story = tell(read(Path(folder)))
    ends = [(story.events[one.sent], story.events[one.received]) for one in story.messages if one.name == "pull"]
    times = [received.time - sent.time for sent, received in ends]
    off = abs(statistics.median(times) - 20_000) / 1e3
    figure = f"{statistics.median(times) / 1e3:.2f} ms, of {len(times)} messages"
    return [Row("a message under --delay 20ms, from one end to the other", figure, "20 ms", off, "ms off", 2, False)]


def records() -> list[Row]:
    """How much throughput is left with --trace and --history, with many commands under way and with one at a time."""
    rows = []
    grouped, alone = whole(20000, 1000, 16), whole(3000, 1000, 16)
    for option in ("--trace", "--history"):
        for how, script, options in (("pipelined", grouped, ()), ("one by one", alone, ("--no-pipeline",))):
            shares, seconds = [], []
            for _ in range(5):
                with tempfile.TemporaryDirectory() as folder:
                    plain = run_script(script, *options)
                    seconds.append(run_script(script, *options, option, os.path.join(folder, "records")))
                    shares.append(plain / seconds[-1])
            took = f"{statistics.median(seconds):.2f} s"
            share = statistics.median(shares)
            rows.append(Row(f"puts with {option}, {how}", took, "a run without the option", share, "×", 0.7, True))
    return rows


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "puts-16": puts_16,
    "puts-800": puts_800,
    "mixed": mixed,
    "lock-step": lock_step,
    "start-up": start_up,
    "stabilize": stabilize,
    "chain-50": chain_50,
    "scale-50": scale_50,
    "scale-200": scale_200,
    "gossip-50": gossip_50,
    "large-values": large_values,
    "memory": memory,
    "transfer": transfer,
    "recovery": recovery,
    "disk": disk,
    "slow-disk": slow_disk,
    "idle": idle,
    "delays": delays,
    "records": records,
    "report": report,
    "hosts": hosts,
    "hosts-100": hosts_100,
    "programs": programs,
    "many": many,
}
