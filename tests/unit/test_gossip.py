"""When news are due: after one quiet interval, or after five at the latest; never while there are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import PATIENCE_INTERVALS, RumourClock


def test_without_news_nothing_is_ever_due() -> None:
    clock = RumourClock(1.0)
    assert clock.silent
    assert clock.due() is None


def test_news_are_due_after_one_quiet_interval() -> None:
    clock = RumourClock(2.0)
    clock.heard(10.0)
    assert not clock.silent
    assert clock.due() == 12.0


def test_more_news_put_it_off() -> None:
    clock = RumourClock(1.0)
    clock.heard(10.0)
    clock.heard(10.75)
    assert clock.due() == 11.75


def test_a_stream_of_news_puts_it_off_to_five_intervals_at_most() -> None:
    clock = RumourClock(1.0)
    for tenth in range(100):
        clock.heard(20.0 + tenth / 10)
    assert clock.due() == 25.0


def test_what_was_told_is_no_news_any_more() -> None:
    clock = RumourClock(1.0)
    clock.heard(10.0)
    clock.told()
    assert clock.silent
    assert clock.due() is None


def test_after_telling_the_five_intervals_count_anew() -> None:
    clock = RumourClock(1.0)
    clock.heard(10.0)
    clock.told()
    clock.heard(14.5)
    clock.heard(15.25)
    assert clock.due() == 16.25


def test_news_at_the_very_start_of_time_count() -> None:
    clock = RumourClock(1.0)
    clock.heard(0.0)
    assert clock.due() == 1.0


@pytest.mark.parametrize("interval", [0.05, 1.0, 30.0])
@given(moments=st.lists(st.floats(0, 1000), min_size=1).map(sorted))
def test_news_are_due_within_one_to_five_intervals(interval: float, moments: list[float]) -> None:
    clock = RumourClock(interval)
    for moment in moments:
        clock.heard(moment)
    quiet, patience = moments[-1] + interval, moments[0] + PATIENCE_INTERVALS * interval
    assert clock.due() == min(quiet, patience)
    assert PATIENCE_INTERVALS == 5


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=30))
def test_whoever_tells_whenever_it_is_due_never_keeps_news_longer_than_five_intervals(
    steps: list[tuple[float, bool]],
) -> None:
    clock, now = RumourClock(1.0), 0.0
    waiting: list[float] = []  # when the news that were not told yet were heard
    for pause, news in steps:
        due = clock.due()
        assert (due is None) == (not waiting)
        if due is not None and due <= now + pause:  # somebody wakes up in time
            assert due - waiting[0] <= 5.0 + 1e-9
            clock.told()
            waiting = []
        now += pause
        if news:
            clock.heard(now)
            waiting.append(now)
