"""How a write spreads by gossip over a hundred simulated servers, for the lesson about it.

May live here: what the lesson shows of that. May not: the simulation (checking/scaling.py).
"""

from __future__ import annotations

from functools import cache
from html import escape

from checking.scaling import Figures, spread, topology

__all__ = ["EXPLAINED", "SERVERS", "picture", "table"]

SERVERS = 100

SHOWN = ("star", "random", "tree", "grid")
"""The topologies. A full mesh of so many servers would take longer than these, and a chain a hundred intervals."""

COLOURS = ("#1b6ca8", "#b3541e", "#2e7d32", "#7b3fa0")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 340, 56, 44, 16, 92

EXPLAINED = (
    "This is no run of processes but a simulation of the same code that each server runs. Its time is counted in "
    "gossip intervals, and it comes out the same each time. One server takes a write, and the curves show how many "
    "servers have it. A server waits for one interval before it tells its neighbours. In a star, the one that takes "
    "the write is the middle, so all others hear it at once. In a tree or a grid, each hop takes an interval more; in "
    "a chain it would take a hundred. A message is a question to a neighbour, or an answer; those that come after "
    "everybody has heard are counted as well."
)


@cache
def _spread() -> dict[str, tuple[Figures, list[tuple[float, int]]]]:
    return {name: spread(topology(name, SERVERS), 1) for name in SHOWN}


def table() -> str:
    """How long it takes, and how much is said, for each topology."""
    rows = [
        "| topology | links | intervals until all have heard | messages | for each server |",
        "|---|---|---|---|---|",
    ]
    for name, ((rounds, messages, _), _) in _spread().items():
        links = sum(map(len, topology(name, SERVERS).values())) // 2
        rows.append(f"| {name} | {links:,} | {rounds:.1f} | {messages:,} | {messages / SERVERS:.1f} |")
    return "\n".join(rows)


def picture() -> str:
    """The curves, as SVG."""
    curves = {name: curve for name, (_, curve) in _spread().items()}
    end = max(time for curve in curves.values() for time, _ in curve) * 1.05
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(time: float) -> float:
        return LEFT + across * time / end

    def y(count: int) -> float:
        return TOP + down * (1 - count / SERVERS)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>How many of {SERVERS} servers have a write, by time in gossip intervals</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for count in range(0, SERVERS + 1, SERVERS // 4):
        parts.append(f'<path d="M{LEFT} {y(count):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(count) + 4:.1f}" text-anchor="end">{count}</text>')
    for time in range(int(end) + 1):
        parts.append(f'<text x="{x(time):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{time}</text>')
    for name, colour in zip(SHOWN, COLOURS, strict=True):
        path = "".join(f"H{x(time):.1f}V{y(count):.1f}" for time, count in curves[name][1:])
        parts.append(f'<path d="M{x(0):.1f} {y(1):.1f}{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for place, (name, colour) in enumerate(zip(SHOWN, COLOURS, strict=True)):
        at, row = WIDTH - RIGHT + 12, TOP + 12 + 18 * place
        parts.append(f'<path d="M{at} {row - 4}h16" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{at + 22}" y="{row}">{escape(name)}</text>')
    parts.append(f'<text x="{LEFT + across / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">gossip intervals</text>')
    middle = TOP + down // 2
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        "servers that have it</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"
