"""When a replica gossips: the rumour clock.

May live here: the decision whether it is time. May not: threads and clocks; the time is handed in, in seconds
of any clock that doesn't go backwards.

Theory of operation
-------------------
Gossip is rumour-driven: a replica that has learnt something new exchanges updates with its neighbours, one that
has nothing new stays silent. It waits until things have been quiet for one interval, so that a burst of writes
makes one exchange and not a thousand; but a stream of writes that never pauses must not hold it up for ever, so
after five intervals it goes ahead.
"""

from __future__ import annotations

__all__ = ["RumourClock"]

PATIENCE_INTERVALS = 5


class RumourClock:
    """Says when the news that a replica has is due to be passed on."""

    def __init__(self, interval: float) -> None:
        """*interval* is in seconds, and above 0."""
        self._interval = interval
        self._first: float | None = None
        self._last = 0.0

    @property
    def silent(self) -> bool:
        """Whether there is no news to pass on."""
        return self._first is None

    def heard(self, now: float) -> None:
        """Something new has reached the replica."""
        if self._first is None:
            self._first = now
        self._last = now

    def due(self) -> float | None:
        """When to pass it on; None as long as there is no news."""
        if self._first is None:
            return None
        return min(self._last + self._interval, self._first + PATIENCE_INTERVALS * self._interval)

    def told(self) -> None:
        """The news is being passed on; what arrives from now on is news again."""
        self._first = None
