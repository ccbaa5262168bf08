"""When a replica gossips.

May live here: the decision whether it is time to gossip. May not: threads and clocks. The time is handed in, in seconds
of any clock that does not go backwards.

Theory of operation
-------------------
Gossip is driven by news, as in rumour mongering (Demers et al., 1987, "Epidemic algorithms for replicated database
maintenance"). A replica that has learnt something new exchanges updates with its neighbours, and a replica without news
stays silent. The replica waits until nothing new has reached it for one interval, so that a burst of writes leads to
one exchange and not to a thousand. It gossips after five intervals at the latest, so that a stream of writes that never
pauses does not hold it up for ever.
"""

from __future__ import annotations

__all__ = ["RumourClock"]

PATIENCE_INTERVALS = 5
"""After how many intervals news is passed on, even if there is still more arriving."""


class RumourClock:
    """Decides when the news of a replica is due to be passed on."""

    def __init__(self, interval: float) -> None:
        """*interval* is in seconds, and above 0."""
        self._interval = interval
        self._first: float | None = None  # when the oldest news that is still to be passed on has arrived
        self._last = 0.0

    @property
    def has_news(self) -> bool:
        """Whether there is news to pass on."""
        return self._first is not None

    def add_news(self, now: float) -> None:
        """Note that something new has reached the replica."""
        if self._first is None:
            self._first = now
        self._last = now

    def due(self) -> float | None:
        """The time at which the news is to be passed on; None if there is no news."""
        if self._first is None:
            return None
        return min(self._last + self._interval, self._first + PATIENCE_INTERVALS * self._interval)

    def clear(self) -> None:
        """Note that the news is being passed on. Only what arrives from now on is news."""
        self._first = None
