"""How long gossip takes over slow and lossy links, in one simulated cluster: how stale a server may be.

May live here: what is measured, and the picture of it. May not: the simulated servers (checking/scaling.py).
"""

from __future__ import annotations

import statistics
from pathlib import Path

from checking.scaling import GOSSIP_INTERVAL, Gossip, topology
from shape import Shape

__all__ = ["DELAYS", "LOSSES", "measure", "plot", "typical"]

DELAYS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""The delays that are compared, in gossip intervals, which are seconds unless --gossip-interval says otherwise."""
LOSSES = (0.0, 0.1, 0.2, 0.4)

SEEDS = 51
"""From how many runs, each with other losses, a median comes."""

SERVERS = 5


def measure(name: str, shape: Shape, seed: int) -> float:
    """Return how long a put at server 0 takes to reach all servers, in seconds, with gossip once a second.

    *name*: the topology of the `SERVERS` servers. *shape*: that of all links. Equal seeds give equal times.
    """
    gossip = Gossip(topology(name, SERVERS), shape, seed)
    gossip.run(lambda: False)
    begin = gossip.now
    everything = gossip.put(0, 1)
    gossip.run(lambda: all(peer.model.context.includes(everything) for peer in gossip.peers.values()))
    return (gossip.now - begin) * GOSSIP_INTERVAL


def typical(name: str, shape: Shape) -> float:
    """Return the median of such times."""
    return statistics.median(measure(name, shape, seed) for seed in range(SEEDS if shape.loss else 1))


def plot(path: Path) -> None:
    """Draw staleness against delay, for several losses. Needs matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "daadkvs"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for panel, name in zip(panels, ("mesh", "chain"), strict=True):
        for loss in LOSSES:
            found = [typical(name, Shape(delay, 0.0, loss)) for delay in DELAYS]
            panel.plot([delay * 1e3 for delay in DELAYS], found, "o-", markersize=3, label=f"{loss:.0%} lost")
        links = "fully connected" if name == "mesh" else "a chain"
        panel.set(title=f"{SERVERS} servers, {links}", xlabel="delay in ms")
        panel.grid(alpha=0.3)
    panels[0].set(ylabel="seconds until all have a put", ylim=(0, None))
    panels[0].legend()
    figure.savefig(path, metadata={"Date": None})
