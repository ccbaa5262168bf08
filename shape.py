"""The shape of a link: how late its messages arrive, and which of them are lost.

May live here: shapes, how they are written, and the fate of each message. May not: waiting, sockets, threads, or the
time of day. Times are handed in, in seconds of any clock that does not go backwards. Servers and clients carry fates
out by rpc/crossing.py, and the simulator by checking/simulator/world.py.

Theory of operation
-------------------
A *shape* belongs to a pair of ids, and holds for both directions. Each message is lost with the same probability. One
that is not lost arrives after the delay, more or less by up to the jitter (uniformly distributed), but never before a
message that was sent earlier in the same direction. (The words are those of Linux's netem.)

Whoever has sent a message that was lost sends it again after `RETRANSMISSION_SECONDS`, until it arrives. The time does
not depend on the delay, as with a link that repeats what it has lost by itself, so a few losses do not make a command
wait for long. Gossip alone does not wait for that: an exchange with a lost message has failed, and is repeated later.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["MOST_LOSSES", "NO_SHAPE", "RETRANSMISSION_SECONDS", "Fate", "Lane", "Lanes", "Shape", "loss_of", "time_of"]

RETRANSMISSION_SECONDS = 0.1
"""After how long a message that was lost is sent again."""

MOST_LOSSES = 50
"""How often one message can be lost. So there is a limit to the time that it takes (`Shape.longest`)."""

LONGEST_SECONDS = 60.0
"""The longest delay."""
LARGEST_LOSS = 90.0
"""The largest loss, in percent. A link that loses everything is one to break."""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_TIME = "([0-9]{1,9}(?:\\.[0-9]{1,9})?)(us|ms|s)"
_LOSS = "([0-9]{1,3}(?:\\.[0-9]{1,9})?)%"


class Shape(NamedTuple):
    """The shape of a link."""

    delay: float = 0.0
    """In seconds, one way."""
    jitter: float = 0.0
    """By how many seconds, at most, the delay of a message is shorter or longer; not more than the delay."""
    loss: float = 0.0
    """The probability with which a message is lost."""

    @classmethod
    def parse(cls, text: str) -> Shape:
        """The shape in a text such as `200ms`, `200ms 50ms` or `200ms 50ms 10%`. Raises ValueError."""
        words = text.split(" ")
        loss = loss_of(words.pop()) if len(words) > 1 and words[-1].endswith("%") else 0.0
        if not 1 <= len(words) <= 2:
            raise ValueError("a shape is a delay, perhaps a jitter, and perhaps a loss, such as 200ms 50ms 10%")
        delay, jitter = (*map(time_of, words), 0.0)[:2]
        return cls.checked(delay, jitter, loss)

    @classmethod
    def checked(cls, delay: float, jitter: float, loss: float) -> Shape:
        """The shape with these values. Raises ValueError if the jitter is longer than the delay."""
        if jitter > delay:
            raise ValueError(f"the jitter, {_written(jitter)}, is longer than the delay, {_written(delay)}")
        return cls(delay, jitter, loss)

    def __str__(self) -> str:
        """The shape as `parse` reads it."""
        words = [_written(self.delay)]
        if self.jitter:
            words.append(_written(self.jitter))
        if self.loss:
            words.append(f"{self.loss * 100:.9g}%")
        return " ".join(words)

    @property
    def longest(self) -> float:
        """The longest time that a message takes, in seconds, if it is sent again whenever it was lost."""
        return self.delay + self.jitter + (MOST_LOSSES * RETRANSMISSION_SECONDS if self.loss else 0.0)


NO_SHAPE = Shape()
"""The shape of a link whose messages arrive at once."""


def time_of(text: str) -> float:
    """The seconds in a text such as `1.5s`, `20ms` or `300us`. Raises ValueError."""
    found = re.fullmatch(_TIME, text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not found or seconds > LONGEST_SECONDS:
        raise ValueError(f"not a time from 0s to {LONGEST_SECONDS:g}s: {_short(text)} (examples: 200ms, 1.5s)")
    return seconds


def loss_of(text: str) -> float:
    """The probability in a text such as `2%`. Raises ValueError."""
    found = re.fullmatch(_LOSS, text)
    if not found or float(found[1]) > LARGEST_LOSS:
        raise ValueError(f"not a loss from 0% to {LARGEST_LOSS:g}%: {_short(text)} (an example: 2%)")
    return float(found[1]) / 100


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _written(seconds: float) -> str:
    """A time as `time_of` reads it, in the unit that suits it."""
    unit = "s" if seconds >= 1 else "ms" if seconds >= 1e-3 or not seconds else "us"
    return f"{seconds / _UNITS[unit]:.9g}{unit}"


# -- messages ----------------------------------------------------------------------------------------------


class Fate(NamedTuple):
    """What becomes of a message that is sent now."""

    lost: bool
    due: float
    """When it arrives; if it is lost, when it can be sent again."""


class Lane:
    """The messages in one direction of a link, between a process that calls and one that answers."""

    def __init__(self, shape: Shape, seed: str) -> None:
        """Equal seeds give equal fates, message by message."""
        self.shape = shape
        from random import Random  # not at the top: most runs have no shapes, and importing it takes long

        self._random = Random(seed)
        self._last = float("-inf")  # when the last of the messages that are under way arrives

    def send(self, now: float, losses: int = 0) -> Fate:
        """Send a message, which has been lost *losses* times before; returns its fate."""
        lost = self._random.random() < self.shape.loss
        delay = self.shape.delay + self.shape.jitter * self._random.uniform(-1.0, 1.0)
        if lost and losses < MOST_LOSSES:
            return Fate(True, now + RETRANSMISSION_SECONDS)
        self._last = max(self._last, now + delay)
        return Fate(False, self._last)

    def clear(self) -> None:
        """Forget the messages that are under way: the link has been broken, and nothing waits for them."""
        self._last = float("-inf")


class Lanes:
    """The two directions of a link, for the calls that one of its ends makes."""

    def __init__(self, shape: Shape, seed: int, caller: int, called: int) -> None:
        """*seed*: that of the run. *caller*, *called*: the ids of the two ends."""
        self.shape = shape
        self.calls = Lane(shape, f"{seed}: {caller} calls {called}")
        self.answers = Lane(shape, f"{seed}: {called} answers {caller}")

    @classmethod
    def changed(cls, known: Lanes | None, shape: Shape, seed: int, caller: int, called: int) -> Lanes | None:
        """The lanes of a link that gets a shape: those *known* from before, if the shape is the same; None for none."""
        if shape == NO_SHAPE:
            return None
        return known if known is not None and known.shape == shape else cls(shape, seed, caller, called)

    def clear(self) -> None:
        """Forget the messages that are under way."""
        self.calls.clear()
        self.answers.clear()
