"""When news is due: after one quiet interval, or after five intervals at the latest; never if there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import PATIENCE_INTERVALS, RumourClock


def test_without_news_nothing_is_ever_due() -> None:
    clock = RumourClock(1.0)
    assert not clock.has_news
    assert clock.due() is None


def test_news_is_due_after_one_quiet_interval() -> None:
    clock = RumourClock(2.0)
    clock.add_news(10.0)
    assert clock.has_news
    assert clock.due() == 12.0


def test_more_news_defers_it() -> None:
    clock = RumourClock(1.0)
    clock.add_news(10.0)
    clock.add_news(10.75)
    assert clock.due() == 11.75


def test_a_stream_of_news_defers_it_by_five_intervals_at_most() -> None:
    clock = RumourClock(1.0)
    for tenth in range(100):
        clock.add_news(20.0 + tenth / 10)
    assert clock.due() == 25.0


def test_what_was_passed_on_is_no_longer_news() -> None:
    clock = RumourClock(1.0)
    clock.add_news(10.0)
    clock.clear()
    assert not clock.has_news
    assert clock.due() is None


def test_the_five_intervals_begin_again_after_news_was_passed_on() -> None:
    clock = RumourClock(1.0)
    clock.add_news(10.0)
    clock.clear()
    clock.add_news(14.5)
    clock.add_news(15.25)
    assert clock.due() == 16.25


def test_news_at_time_zero_counts() -> None:
    clock = RumourClock(1.0)
    clock.add_news(0.0)
    assert clock.due() == 1.0


@pytest.mark.parametrize("interval", [0.05, 1.0, 30.0])
@given(moments=st.lists(st.floats(0, 1000), min_size=1).map(sorted))
def test_news_is_due_within_one_to_five_intervals(interval: float, moments: list[float]) -> None:
    clock = RumourClock(interval)
    for moment in moments:
        clock.add_news(moment)
    quiet, patience = moments[-1] + interval, moments[0] + PATIENCE_INTERVALS * interval
    assert clock.due() == min(quiet, patience)
    assert PATIENCE_INTERVALS == 5


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=30))
def test_a_replica_that_gossips_when_it_is_due_never_keeps_news_for_more_than_five_intervals(
    steps: list[tuple[float, bool]],
) -> None:
    clock, now = RumourClock(1.0), 0.0
    waiting: list[float] = []  # when the news that is still to be passed on has arrived
    for pause, news in steps:
        due = clock.due()
        assert (due is None) == (not waiting)
        if due is not None and due <= now + pause:  # the replica gossips in time
            assert due - waiting[0] <= 5.0 + 1e-9
            clock.clear()
            waiting = []
        now += pause
        if news:
            clock.add_news(now)
            waiting.append(now)
