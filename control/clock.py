"""The master's clock: one hybrid logical clock that issues all timestamps.

May live here: the rules of the clock. May not: files and the time of day, which are handed in.

Theory of operation
-------------------
A timestamp is the time of day in microseconds, or one more than the last, whichever is larger (Kulkarni et al.,
2014, "Logical physical clocks"). So timestamps rise strictly even within one microsecond, or when somebody sets
the clock back. That must hold over restarts too, where stores are kept: before a timestamp is issued, a bound
above it has been reserved on disk, and the next master starts above the bound. Reserving well ahead keeps the
writes rare.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["HybridClock"]

RESERVE_AHEAD = 10_000_000
"""How far above the timestamp at hand the bound is set: 10 s, or as many timestamps."""


class HybridClock:
    """Issues timestamps (microseconds since 1970, at least), each larger than all before."""

    def __init__(
        self,
        now: Callable[[], int],
        bound: int = 0,
        reserve: Callable[[int], None] | None = None,
    ) -> None:
        """*now* gives the time of day in microseconds.

        *bound* is what an earlier clock had reserved, or 0. *reserve* writes a new bound to disk before it
        returns; without it, nothing outlives this clock.
        """
        self._now = now
        self._last = bound
        self._bound = bound
        self._reserve = reserve

    def next(self) -> int:
        """The next timestamp. Raises what *reserve* raises; then no timestamp was issued."""
        timestamp = max(self._last + 1, self._now())
        if self._reserve is not None and timestamp > self._bound:
            bound = timestamp + RESERVE_AHEAD
            self._reserve(bound)
            self._bound = bound
        self._last = timestamp
        return timestamp

    def observe(self, timestamp: int) -> None:
        """Issue only larger timestamps than this one from now on."""
        self._last = max(self._last, timestamp)
