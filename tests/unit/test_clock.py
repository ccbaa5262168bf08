"""Timestamps increase strictly, whatever happens to the system's clock, and also after restarts of the master."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.clock import RESERVE_AHEAD, HybridClock


class Wall:
    """The time of day, as a test sets it."""

    def __init__(self, now: int = 1_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Disk:
    """The disk that keeps a bound. It can be full."""

    def __init__(self) -> None:
        self.bound = 0
        self.writes = 0
        self.full = False

    def __call__(self, bound: int) -> None:
        if self.full:
            raise OSError("disk full")
        self.bound = bound
        self.writes += 1


def test_a_timestamp_is_the_time_of_day() -> None:
    wall = Wall()
    clock = HybridClock(wall)
    assert clock.next() == 1_000_000
    wall.now = 2_000_000
    assert clock.next() == 2_000_000


def test_within_one_microsecond_timestamps_rise_by_one() -> None:
    clock = HybridClock(Wall())
    assert [clock.next() for _ in range(3)] == [1_000_000, 1_000_001, 1_000_002]


def test_a_clock_that_is_set_back_does_not_set_timestamps_back() -> None:
    wall = Wall()
    clock = HybridClock(wall)
    clock.next()
    wall.now = 5
    assert clock.next() == 1_000_001


@given(st.lists(st.integers(0, 10**16), min_size=2))
def test_timestamps_rise_strictly_under_any_time_of_day(times: list[int]) -> None:
    wall = Wall()
    clock = HybridClock(wall)
    issued = []
    for wall.now in times:
        issued.append(clock.next())
    assert all(early < late for early, late in pairwise(issued))
    assert all(timestamp >= now for timestamp, now in zip(issued, times, strict=True))


def test_what_was_observed_is_exceeded() -> None:
    clock = HybridClock(Wall())
    clock.observe(7_000_000)
    assert clock.next() == 7_000_001


def test_observing_the_past_changes_nothing() -> None:
    clock = HybridClock(Wall())
    issued = clock.next()
    clock.observe(3)
    assert clock.next() == issued + 1


def test_the_first_timestamp_is_reserved_before_it_is_issued() -> None:
    disk = Disk()
    timestamp = HybridClock(Wall(), 0, disk).next()
    assert disk.bound == timestamp + RESERVE_AHEAD


def test_the_reserve_is_not_written_for_every_timestamp() -> None:
    disk = Disk()
    clock = HybridClock(Wall(), 0, disk)
    for _ in range(1000):
        clock.next()
    assert disk.writes == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["next", "observe", "restart"]),
            st.integers(0, 4 * RESERVE_AHEAD),
            st.booleans(),
        )
    )
)
def test_in_any_order_of_events_each_timestamp_is_new_and_reserved(steps: list[tuple[str, int, bool]]) -> None:
    wall, disk = Wall(), Disk()
    clock = HybridClock(wall, disk.bound, disk)
    largest = 0
    for action, number, disk.full in steps:
        if action == "observe":
            clock.observe(number)
            largest = max(largest, number)
        elif action == "restart":
            clock = HybridClock(wall, disk.bound, disk)
            clock.observe(largest)  # the stores that join tell what they hold
        else:
            wall.now = number
            try:
                timestamp = clock.next()
            except OSError:
                assert disk.full
                continue
            assert timestamp > largest
            assert timestamp <= disk.bound
            largest = timestamp


def test_a_restart_continues_above_the_bound_even_if_the_system_clock_was_set_back() -> None:
    wall, disk = Wall(), Disk()
    before = HybridClock(wall, 0, disk)
    issued = [before.next() for _ in range(5)]
    wall.now = 1
    assert HybridClock(wall, disk.bound, disk).next() > max(issued)


def test_a_restart_continues_above_everything_reserved_and_not_only_above_what_was_issued() -> None:
    wall, disk = Wall(), Disk()
    HybridClock(wall, 0, disk).next()
    reserved = disk.bound
    assert HybridClock(wall, reserved, disk).next() > reserved


def test_a_reserve_that_fails_issues_nothing() -> None:
    wall, disk = Wall(), Disk()
    clock = HybridClock(wall, 0, disk)
    disk.full = True
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            clock.next()
    assert disk.bound == 0
    disk.full = False
    assert clock.next() == 1_000_000
    assert disk.bound == 1_000_000 + RESERVE_AHEAD


def test_a_full_disk_does_not_matter_as_long_as_the_reserve_lasts() -> None:
    wall, disk = Wall(), Disk()
    clock = HybridClock(wall, 0, disk)
    clock.next()
    disk.full = True
    wall.now = disk.bound
    assert clock.next() == disk.bound
    with pytest.raises(OSError, match="disk full"):
        clock.next()


def test_an_observed_timestamp_beyond_the_bound_is_reserved_anew() -> None:
    disk = Disk()
    clock = HybridClock(Wall(), 0, disk)
    clock.next()
    clock.observe(disk.bound + 5)
    timestamp = clock.next()
    assert timestamp <= disk.bound
    assert disk.writes == 2
