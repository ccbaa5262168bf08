"""The master's clock: one hybrid logical clock, which issues all timestamps.

May live here: the rules of the clock. May not: files and the time of day, which are handed in.

Theory of operation
-------------------
A timestamp is the time of day in microseconds, or the last timestamp plus one, whichever is larger (Kulkarni et al.,
2014, "Logical physical clocks"). Timestamps therefore increase strictly, even within one microsecond, and even if the
system's clock is set back. If the stores are kept, this must hold over several runs. Therefore, before a timestamp is
issued, a bound that is not below it is reserved on disk, and the next master starts above that bound. The bound is
reserved well ahead, so that it is rarely written.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["HybridClock"]

RESERVE_AHEAD = 10_000_000
"""How far above the present timestamp the bound is reserved, in microseconds."""


class HybridClock:
    """Issues timestamps. Each is larger than all before it, and not below the microseconds since 1970."""

    def __init__(
        self,
        now: Callable[[], int],
        bound: int = 0,
        reserve: Callable[[int], None] | None = None,
    ) -> None:
        """*now* returns the time of day in microseconds.

        *bound*: the bound that an earlier clock has reserved, or 0. *reserve* writes a new bound to disk before it
        returns; None if the timestamps need not be larger than those of earlier runs.
        """
        self._now = now
        self._last = bound
        self._bound = bound
        self._reserve = reserve

    def next(self) -> int:
        """Issue a timestamp. Raises what *reserve* raises; then no timestamp has been issued."""
        timestamp = max(self._last + 1, self._now())
        if self._reserve is not None and timestamp > self._bound:
            bound = timestamp + RESERVE_AHEAD
            self._reserve(bound)
            self._bound = bound
        self._last = timestamp
        return timestamp

    def observe(self, timestamp: int) -> None:
        """From now on, issue only timestamps that are larger than this one."""
        self._last = max(self._last, timestamp)
