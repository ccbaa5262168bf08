"""The benchmarks of several hosts, against one machine in the same run.

May live here: what is run on a lab's hosts, and what it is compared with. May not: how hosts are made (checking/lab/).
All hosts share the cores of this machine, so what is measured is what TLS, TCP and agents cost, and no network.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

from checking.bench.runs import Row, by_turns, cluster, conversation, prints, puts, run_script
from checking.lab.hosts import why_not

__all__ = ["hosts", "hosts_100"]


class Place(NamedTuple):
    """Where a master runs: the command that brings it there, and its options."""

    prefix: tuple[str, ...]
    options: tuple[str, ...]


HERE = Place((), ())


def _why_not() -> str | None:
    missing = [name for name in ("distributed", "cryptography") if find_spec(name) is None]
    return f"{' and '.join(missing)} are not installed" if missing else why_not()


@contextmanager
def _hosts(count: int) -> Iterator[Place]:
    """The place of a master whose servers and clients are on *count* hosts."""
    from checking.lab.dask_cluster import cluster_in_a_lab

    with cluster_in_a_lab(f"host{number}" for number in range(count)) as dask:
        yield Place(dask.driver.prefix, tuple(dask.options))


def _compare(there: Place, measure: Callable[[Place], float], times: int = 5) -> tuple[float, float, float]:
    """Measure in turn on the hosts and on one machine; returns both medians, and the median of the ratios."""
    return by_turns(lambda: measure(there), lambda: measure(HERE), times)


def _first_answer(place: Place) -> float:
    start = time.perf_counter()
    with conversation(*place.options, prefix=place.prefix) as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0")
        return time.perf_counter() - start


def _get(place: Place) -> float:
    with conversation(*place.options, prefix=place.prefix) as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0")
        return statistics.median(talk.do("") for _ in range(500))


def _grouped_puts(place: Place) -> float:
    with conversation(*place.options, prefix=place.prefix) as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0")
        return talk.do(puts(20000, 1000, 16, 5))


def _stabilize(place: Place) -> float:
    with conversation("--gossip-interval", "0", *place.options, prefix=place.prefix) as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(4000, 4000, 800, 5))
        return talk.do("stabilize")


def _few_new(place: Place) -> float:
    with conversation("--gossip-interval", "0", *place.options, prefix=place.prefix) as talk:
        talk.do(cluster(5, 5) + "joinClient 99 0\n" + puts(1000, 1000, 16, 5) + "stabilize")
        measured = []
        for _ in range(21):
            talk.do(puts(10, 10, 16, 5))
            measured.append(talk.do("stabilize") - talk.do(""))
        return statistics.median(measured)


def hosts() -> list[Row]:
    """5 servers and 5 clients on 3 hosts."""
    if reason := _why_not():
        print(f"several hosts are not measured: {reason}", file=sys.stderr)
        return []
    rows = []
    with _hosts(3) as there:
        far, near, ratio = _compare(there, _first_answer)
        rows.append(Row("3 hosts: 5 + 5 up, and the first answer", f"{far:.2f} s", f"one machine: {near:.2f} s",
                        ratio, "×", 5, False))  # fmt: skip
        far, near, ratio = _compare(there, _get)
        rows.append(Row("3 hosts: a lone get", f"{far * 1e6:,.0f} µs", f"one machine: {near * 1e6:,.0f} µs",
                        ratio, "×", 2.5, False))  # fmt: skip
        far, near, ratio = _compare(there, _grouped_puts)
        rows.append(Row("3 hosts: 20,000 puts of 16 bytes, in groups", f"{20000 / far:,.0f}/s",
                        f"one machine: {20000 / near:,.0f}/s", 1 / ratio, "×", 0.5, True))  # fmt: skip
        far, near, ratio = _compare(there, _stabilize)
        rows.append(Row("3 hosts: stabilize of 5 with 4,000 new writes of 800 bytes", f"{far:.3f} s",
                        f"one machine: {near:.3f} s", ratio, "×", 2, False))  # fmt: skip
        far, near, ratio = _compare(there, _few_new)
        rows.append(Row("3 hosts: stabilize of 5 with 10 new writes", f"{far * 1e3:.2f} ms",
                        f"one machine: {near * 1e3:.2f} ms", ratio, "×", 2, False))  # fmt: skip
    return rows


def hosts_100() -> list[Row]:
    """100 servers and 100 clients on 4 hosts, fully connected."""
    if reason := _why_not():
        print(f"several hosts are not measured: {reason}", file=sys.stderr)
        return []
    script = cluster(100, 100) + puts(5000, 1000, 16, 100) + "stabilize\n" + prints(100)
    with _hosts(4) as there:
        far, near, ratio = _compare(there, lambda place: run_script(script, *place.options, prefix=place.prefix), 1)
    return [
        Row("4 hosts: 100 + 100, fully connected, 5,000 puts, stabilize, print", f"{far:.1f} s",
            f"one machine: {near:.1f} s", ratio, "×", 5, False)
    ]  # fmt: skip
