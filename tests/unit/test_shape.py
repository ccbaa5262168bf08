"""Shapes are written and read; the fates of messages follow from them and from the seed, and keep their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape import MOST_LOSSES, NO_SHAPE, RETRANSMISSION_SECONDS, Lane, Lanes, Shape, loss_of, time_of

MICROSECONDS = st.integers(0, 60_000_000)


@given(delay=MICROSECONDS, jitter=MICROSECONDS, loss=st.integers(0, 9000))
def test_a_shape_that_is_written_is_read_again(delay: int, jitter: int, loss: int) -> None:
    if jitter > delay:
        delay, jitter = jitter, delay
    shape = Shape.parse(f"{delay}us {jitter}us {loss / 100}%")
    assert shape == pytest.approx((delay / 1e6, jitter / 1e6, loss / 1e4))
    assert Shape.parse(str(shape)) == pytest.approx(shape)
    assert str(Shape.parse(str(shape))) == str(shape)


@pytest.mark.parametrize(
    ("text", "shape", "written"),
    [
        ("200ms", Shape(0.2), "200ms"),
        ("200ms 50ms", Shape(0.2, 0.05), "200ms 50ms"),
        ("200ms 50ms 10%", Shape(0.2, 0.05, 0.1), "200ms 50ms 10%"),
        ("1500ms 2.5%", Shape(1.5, 0.0, 0.025), "1.5s 2.5%"),
        ("0s 0us 0%", NO_SHAPE, "0ms"),
        ("60s", Shape(60.0), "60s"),
        ("300us", Shape(0.0003), "300us"),
    ],
)
def test_what_shapes_look_like(text: str, shape: Shape, written: str) -> None:
    assert Shape.parse(text) == pytest.approx(shape)
    assert str(Shape.parse(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "5 ms", "5m", "-5ms", "+5ms", "1e3ms", "60.001s", "5%", "5ms 6ms", "5ms 1%x", "5ms 91%", "5ms  1ms"),
        *("5ms 1ms 1ms", "5ms 1% 1ms", "1ms 1% 1%", "nans", "٣ms", "5ms\t1ms", "5ms\n", ".5ms", "5.ms", "0x5ms"),
    ],
)
def test_anything_else_is_no_shape(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a time|not a loss|a shape is|the jitter"):
        Shape.parse(text)


def test_times_and_losses_have_limits() -> None:
    assert (time_of("60s"), loss_of("90%")) == (60.0, 0.9)
    with pytest.raises(ValueError, match="from 0s to 60s"):
        time_of("61s")
    with pytest.raises(ValueError, match="from 0% to 90%"):
        loss_of("90.1%")


@given(
    seed=st.integers(0, 100),
    delay=st.floats(0, 60),
    part=st.floats(0, 1),
    pauses=st.lists(st.floats(0, 10), min_size=1, max_size=50),
)
def test_messages_arrive_within_the_jitter_and_in_their_order(
    seed: int, delay: float, part: float, pauses: list[float]
) -> None:
    lane = Lane(Shape(delay, delay * part, 0.0), str(seed))
    now, last = 0.0, 0.0
    for pause in pauses:
        now += pause
        fate = lane.send(now)
        assert not fate.lost
        assert fate.due >= last
        earliest, latest = now + delay - delay * part, now + delay + delay * part
        assert fate.due == last or earliest - 1e-9 <= fate.due <= latest + 1e-9
        last = fate.due


def test_the_jitter_is_spread_evenly_around_the_delay() -> None:
    lane = Lane(Shape(1.0, 0.5), "any")
    delays = [lane.send(10.0 * number).due - 10.0 * number for number in range(4000)]
    assert sum(delays) / len(delays) == pytest.approx(1.0, abs=0.02)
    assert (min(delays), max(delays)) == pytest.approx((0.5, 1.5), abs=0.01)
    assert sum(delay < 0.75 for delay in delays) / len(delays) == pytest.approx(0.25, abs=0.03)


def test_as_many_messages_are_lost_as_the_shape_says() -> None:
    lane = Lane(Shape(0.0, 0.0, 0.3), "any")
    fates = [lane.send(5.0) for _ in range(4000)]
    assert sum(fate.lost for fate in fates) / len(fates) == pytest.approx(0.3, abs=0.03)
    assert {fate.due for fate in fates if fate.lost} == {5.0 + RETRANSMISSION_SECONDS}


def test_a_message_arrives_at_last_and_no_later_than_the_shape_says() -> None:
    shape = Shape(0.2, 0.1, 0.9)
    for seed in range(200):
        lane, now, losses = Lane(shape, str(seed)), 0.0, 0
        while (fate := lane.send(now, losses)).lost:
            now, losses = fate.due, losses + 1
        assert losses <= MOST_LOSSES
        assert fate.due <= shape.longest + 1e-9
    assert Shape(0.2, 0.1).longest == pytest.approx(0.3)


def test_a_message_that_was_lost_often_enough_is_not_lost_again() -> None:
    lane = Lane(Shape(0.0, 0.0, 0.9), "any")
    assert not any(lane.send(0.0, MOST_LOSSES).lost for _ in range(100))


def test_equal_seeds_give_equal_fates() -> None:
    def fates(seed: int, caller: int, called: int) -> list[tuple[object, object]]:
        lanes = Lanes(Shape(0.2, 0.1, 0.3), seed, caller, called)
        return [(lanes.calls.send(0.0), lanes.answers.send(0.0)) for _ in range(50)]

    assert fates(1, 0, 1) == fates(1, 0, 1)
    assert len({tuple(fates(*ends)) for ends in ((1, 0, 1), (2, 0, 1), (1, 1, 0), (1, 0, 2))}) == 4
    assert all(fates(1, 0, 1)[number][0] != fates(1, 0, 1)[number][1] for number in (0, 1))


def test_nothing_waits_behind_a_message_of_a_link_that_was_broken() -> None:
    lanes = Lanes(Shape(10.0), 1, 0, 1)
    for lane in (lanes.calls, lanes.answers):
        assert lane.send(1000.0).due == 1010.0
        lanes.clear()
        assert lane.send(0.0).due == 10.0


def test_a_shape_that_is_given_again_changes_nothing() -> None:
    shape = Shape(0.2)
    lanes = Lanes.changed(None, shape, 1, 0, 1)
    assert lanes is not None
    assert Lanes.changed(lanes, shape, 1, 0, 1) is lanes
    assert Lanes.changed(lanes, Shape(0.3), 1, 0, 1) not in (None, lanes)
    assert Lanes.changed(lanes, NO_SHAPE, 1, 0, 1) is None
