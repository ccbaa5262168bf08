"""The steps of a schedule: how they are written down, and how random bytes become steps.

May live here: the words of steps, how often each comes in a random schedule, and the text of a step. May not: what a
step does. The table at the top of simulation.py explains that.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["WEIGHTS", "Step", "decode"]

WEIGHTS = {
    "join": 14,
    "kill": 6,
    "fuse": 6,
    "wipe": 2,
    "damage": 3,
    "full": 2,
    "restart": 1,
    "connect": 12,
    "disconnect": 5,
    "link": 8,
    "cut": 8,
    "put": 44,
    "get": 28,
    "group": 18,
    "late": 6,
    "freeze": 3,
    "unsync": 3,
    "tick": 24,
    "deliver": 40,
    "double": 5,
    "lose": 5,
    "stabilize": 8,
    "shape": 4,
}
"""How often each step comes in a random schedule, out of 256; the rest are steps that do nothing."""


class Step(NamedTuple):
    """One step of a schedule."""

    word: str
    first: int
    second: int

    def __str__(self) -> str:
        return f"{self.word} {self.first} {self.second}"

    @classmethod
    def parse(cls, line: str) -> Step:
        """The inverse of `str`. Raises ValueError."""
        match = re.fullmatch(r"\s*(\S+)\s+([0-9]+)\s+([0-9]+)\s*", line)
        if match is None:
            raise ValueError(f"a step is a word and two whole numbers, like put 0 1; not {line.strip()[:40]!r}")
        if match[1] not in WEIGHTS:
            raise ValueError(f"no step is called {match[1][:40]!r}; there are {', '.join(WEIGHTS)}")
        return cls(match[1], int(match[2]), int(match[3]))


_WORDS = [word for word, weight in WEIGHTS.items() for _ in range(weight)]


def decode(noise: bytes) -> list[Step]:
    """Make a schedule from random bytes, three for each step.

    Smaller bytes make simpler schedules; zeros make none.
    """
    return [
        Step(_WORDS[word - 1], first, second)
        for word, first, second in zip(noise[0::3], noise[1::3], noise[2::3], strict=True)
        if 0 < word <= len(_WORDS)
    ]
