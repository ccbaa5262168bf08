"""The benchmarks of many servers on one machine, and of a server with much data.

May live here: what grows with the number of servers, or with the size of a store. May not: how runs are made (runs.py).
"""

from __future__ import annotations

import random
import subprocess
import time

from checking.bench.runs import MASTER, Row, cluster, conversation, cpu_seconds, median, memory_of, prints, puts

__all__ = ["gossip_50", "large_values", "scale_50", "scale_200"]

CLIENTS = 1000
"""The id of the first client; the servers have smaller ones."""


def scale_50() -> list[Row]:
    """50 servers, 50 clients, 5,000 puts, stabilize and 50 prints: as a full mesh, and as a random tree."""
    return _whole_runs(50, 25, 3)


def scale_200() -> list[Row]:
    """The same with 200 servers and 200 clients, and what memory each server has of its own."""
    rows = _whole_runs(200, 30, 1)
    with conversation("--gossip-interval", "0") as talk:
        talk.do(cluster(200, 200, CLIENTS) + "joinClient 999 0\n" + _writes(200) + "stabilize", 999)
        found = sorted(memory_of(pid) / 1e6 for pid in talk.pids("server "))
    for which, megabytes in (("a server in the middle", found[100]), ("the largest server", found[-1])):
        rows.append(Row(f"200 + 200: private memory of {which}", f"{megabytes:.1f} MB", "", megabytes, "MB", 15, False))
    return rows


def _whole_runs(servers: int, goal: float, times: int) -> list[Row]:
    rows = []
    for name, start in (("fully connected", cluster(servers, servers, CLIENTS)), ("in a random tree", _tree(servers))):
        script = start + _writes(servers) + "stabilize\n" + prints(servers)
        seconds = median(lambda: _run(script, servers), times)  # noqa: B023
        what = f"{servers} + {servers}, {name}, 5,000 puts, stabilize, print"
        rows.append(Row(what, f"{seconds:.1f} s", "", seconds, "s", goal, False))
    return rows


def _tree(servers: int) -> str:
    """Return commands that start servers which form a random tree, and a client at each of them."""
    chance = random.Random(1)
    lines = []
    for server in range(servers):
        parent = chance.randrange(server) if server else None
        lines.append(f"joinServer {server}\n")
        lines += [f"breakConnection {server} {other}\n" for other in range(server) if other != parent]
    lines += [f"joinClient {CLIENTS + client} {client}\n" for client in range(servers)]
    return "".join(lines)


def _writes(servers: int) -> str:
    return puts(5000, 500, 16, servers, first=CLIENTS)


def _run(script: str, servers: int) -> float:
    """Run a whole script; returns the seconds. Raises RuntimeError unless every server prints all last puts."""
    last = dict(line.split()[2:] for line in script.splitlines() if line.startswith("put "))
    store = "".join(f"{key}:{value}\n" for key, value in sorted(last.items()))
    start = time.perf_counter()
    done = subprocess.run(MASTER, input=script, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.stderr or done.stdout != store * servers:
        raise RuntimeError(done.stderr or "a store is not what it should be")
    return seconds


def gossip_50() -> list[Row]:
    """What a round of gossip costs all servers of a full mesh of 50, after a burst of puts."""
    with conversation("--gossip-interval", "1") as talk:
        talk.do(cluster(50, 50, CLIENTS) + "joinClient 999 0\nstabilize", 999)
        time.sleep(4)  # until gossip has come to rest
        servers = talk.pids("server ")

        def round_of_gossip() -> float:
            talk.do(puts(500, 500, 16, 50, first=CLIENTS), 999)
            before = cpu_seconds(servers)
            time.sleep(5)
            return cpu_seconds(servers) - before

        seconds = median(round_of_gossip)
    what = "gossip of 50 servers, fully connected, after 500 puts: CPU of all servers"
    return [Row(what, f"{seconds:.2f} s", "", seconds, "s", 0.5, False)]


def large_values() -> list[Row]:
    """10,000 values of 64 KiB in one server, put one by one, and 2,000 of them again: the longest that a put took."""
    value = "v" * (64 << 10)
    with conversation("--gossip-interval", "0") as talk:
        talk.do("joinServer 0\njoinClient 99 0")
        times = [talk.do(f"put 99 k{number % 10000} {value}") for number in range(12000)]
    usual, longest = sorted(times)[len(times) // 2] * 1e3, max(times) * 1e3
    what = "10,000 values of 64 KiB in a server, 2,000 put again: the longest put"
    return [Row(what, f"{longest:.0f} ms", f"the usual one: {usual:.1f} ms", longest, "ms", 500, False)]
