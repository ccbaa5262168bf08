"""The picture in docs/performance.md: throughput and stabilize against the number of servers and of keys.

May live here: matplotlib, imported where it is needed. May not: goals (benchmarks.py).
"""

from __future__ import annotations

from checking.bench.runs import cluster, conversation, median, puts

__all__ = ["plot"]


def plot(path: str) -> None:
    """Draw throughput and stabilize against the number of servers and of keys, into a file. Needs matplotlib."""
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
    a.set(xlabel="servers, each with a client", ylabel="puts per second", title="Throughput: 20,000 puts of 16 bytes")
    b.plot(servers, fresh, "o-", label="after 20,000 puts over 1,000 keys")
    b.plot(servers, idle_checks, "s--", label="with nothing new")
    b.set(xlabel="servers, fully connected", ylabel="ms", title="stabilize", yscale="log")
    b.legend()
    c.semilogx(keys, rates_by_keys, "o-")
    c.set(xlabel="keys in the store", ylabel="puts per second", title="Throughput: 5 servers, 5 clients")
    d.semilogx(keys, few, "o-")
    d.set(xlabel="keys in the store", ylabel="ms", title="stabilize with 10 new writes, 5 servers")
    for axes in (a, c, d):
        axes.set_ylim(bottom=0)
    for axes in (a, b, c, d):
        axes.grid(alpha=0.3)
    matplotlib.rcParams["svg.hashsalt"] = "daadkvs"
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
