"""Vector clocks are a lattice, and the order of versions is total and extends happened-before.

Every clock is held against the plainest thing that it could be: a dict of counters.
"""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_clock import EMPTY_CLOCK, MAX_ENTRIES, Causality, Dot, Replica, VectorClock, Version

# Few replicas and small counters, so that clocks often are equal or one above the other.
REPLICAS = st.builds(Replica, st.integers(0, 2), st.integers(1, 2))
COUNTERS = st.dictionaries(REPLICAS, st.integers(1, 3), max_size=4)
CLOCKS = COUNTERS.map(VectorClock)
DOTS = st.builds(Dot, REPLICAS, st.integers(1, 4))


def naive_le(one: dict[Replica, int], other: dict[Replica, int]) -> bool:
    return all(counter <= other.get(replica, 0) for replica, counter in one.items())


# -- the partial order -------------------------------------------------------------------------------------


@given(CLOCKS)
def test_a_clock_is_not_above_itself(clock: VectorClock) -> None:
    assert clock <= clock
    assert clock.compare(clock) is Causality.EQUAL


@given(CLOCKS, CLOCKS)
def test_two_clocks_that_are_below_each_other_are_equal(one: VectorClock, other: VectorClock) -> None:
    assert (one <= other and other <= one) == (one == other)


@given(CLOCKS, CLOCKS, CLOCKS)
def test_what_is_below_something_below_is_below(a: VectorClock, b: VectorClock, c: VectorClock) -> None:
    for x, y, z in permutations((a, b, c)):
        if x <= y and y <= z:
            assert x <= z
    assert a <= a.merge(b) <= a.merge(b).merge(c)


@given(COUNTERS, COUNTERS)
def test_compare_gives_the_same_relation_as_comparing_dicts(one: dict[Replica, int], other: dict[Replica, int]) -> None:
    expected = {
        (True, True): Causality.EQUAL,
        (True, False): Causality.BEFORE,
        (False, True): Causality.AFTER,
        (False, False): Causality.CONCURRENT,
    }[naive_le(one, other), naive_le(other, one)]
    assert VectorClock(one).compare(VectorClock(other)) is expected


@given(CLOCKS, CLOCKS)
def test_compare_seen_from_the_other_side_is_the_opposite(one: VectorClock, other: VectorClock) -> None:
    opposite = {Causality.BEFORE: Causality.AFTER, Causality.AFTER: Causality.BEFORE}
    causality = one.compare(other)
    assert other.compare(one) is opposite.get(causality, causality)


def test_the_four_cases_by_example() -> None:
    a, b = Replica(0, 1), Replica(1, 1)
    assert EMPTY_CLOCK.compare(VectorClock({a: 1})) is Causality.BEFORE
    assert VectorClock({a: 2, b: 1}).compare(VectorClock({a: 1, b: 1})) is Causality.AFTER
    assert VectorClock({a: 1}).compare(VectorClock({b: 1})) is Causality.CONCURRENT
    assert VectorClock({a: 1, b: 2}).compare(VectorClock({b: 2, a: 1})) is Causality.EQUAL


def test_two_incarnations_of_one_server_are_two_replicas() -> None:
    assert VectorClock({Replica(0, 1): 9}).compare(VectorClock({Replica(0, 2): 1})) is Causality.CONCURRENT


# -- merge: the least upper bound --------------------------------------------------------------------------


@given(CLOCKS, CLOCKS)
def test_a_merge_is_above_both(one: VectorClock, other: VectorClock) -> None:
    merged = one.merge(other)
    assert one <= merged
    assert other <= merged


@given(CLOCKS, CLOCKS, CLOCKS)
def test_nothing_smaller_than_the_merge_is_above_both(one: VectorClock, other: VectorClock, bound: VectorClock) -> None:
    assert (one <= bound and other <= bound) == (one.merge(other) <= bound)


@given(COUNTERS, COUNTERS)
def test_a_merge_takes_the_larger_counter_of_each_replica(one: dict[Replica, int], other: dict[Replica, int]) -> None:
    larger = {replica: max(one.get(replica, 0), other.get(replica, 0)) for replica in one | other}
    assert VectorClock(one).merge(VectorClock(other)) == VectorClock(larger)


@given(CLOCKS, CLOCKS, CLOCKS)
def test_merging_is_commutative_associative_and_idempotent(a: VectorClock, b: VectorClock, c: VectorClock) -> None:
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(a) == a
    assert a.merge(EMPTY_CLOCK) == a == EMPTY_CLOCK.merge(a)


# -- dots --------------------------------------------------------------------------------------------------


@given(CLOCKS, REPLICAS)
def test_with_the_next_dot_a_clock_is_strictly_after_by_one_write(clock: VectorClock, replica: Replica) -> None:
    after = clock.with_dot(Dot(replica, clock.counter(replica) + 1))
    assert after.compare(clock) is Causality.AFTER
    assert after.counter(replica) == clock.counter(replica) + 1
    assert all(after.counter(other) == counter for other, counter in clock.entries if other != replica)


@given(COUNTERS, DOTS)
def test_a_clock_covers_the_dots_up_to_its_counters(counters: dict[Replica, int], dot: Dot) -> None:
    clock = VectorClock(counters)
    assert clock.covers(dot) == (dot.counter <= counters.get(dot.replica, 0))
    assert clock.counter(dot.replica) == counters.get(dot.replica, 0)


@given(CLOCKS, DOTS)
def test_with_a_dot_a_clock_is_the_least_one_that_covers_it(clock: VectorClock, dot: Dot) -> None:
    more = clock.with_dot(dot)
    assert more == clock.merge(VectorClock([dot]))
    assert more.covers(dot)
    assert (more == clock) == clock.covers(dot)


@pytest.mark.parametrize("counter", [0, -1])
def test_a_counter_below_one_is_refused(counter: int) -> None:
    with pytest.raises(ValueError, match="counters of a vector clock begin at 1"):
        VectorClock({Replica(0, 1): counter})


# -- clocks are values -------------------------------------------------------------------------------------


@given(CLOCKS, CLOCKS, DOTS)
def test_no_operation_changes_a_clock(one: VectorClock, other: VectorClock, dot: Dot) -> None:
    before = one.flat(), other.flat()
    one.merge(other)
    one.with_dot(dot)
    one.compare(other)
    assert (one.flat(), other.flat()) == before


@given(st.permutations([(Replica(0, 1), 1), (Replica(1, 1), 2), (Replica(1, 2), 3)]))
def test_equal_clocks_are_one_member_of_a_set(pairs: list[tuple[Replica, int]]) -> None:
    sorted_clock = VectorClock(sorted(pairs))
    assert VectorClock(pairs) == VectorClock(dict(pairs)) == sorted_clock
    assert len({VectorClock(pairs), VectorClock(dict(pairs)), sorted_clock}) == 1


@given(CLOCKS, CLOCKS)
def test_the_same_clock_by_two_ways_has_one_hash(one: VectorClock, other: VectorClock) -> None:
    assert hash(one.merge(other)) == hash(other.merge(one))
    assert one.merge(other).flat() == other.merge(one).flat()


def test_a_clock_equals_nothing_but_clocks() -> None:
    assert VectorClock() != ()
    assert VectorClock() != {}
    assert VectorClock() == EMPTY_CLOCK


@given(CLOCKS)
def test_a_clock_comes_back_from_plain_numbers(clock: VectorClock) -> None:
    numbers = clock.flat()
    assert all(type(number) is int for number in numbers)
    assert len(numbers) == 3 * len(clock.entries)
    assert VectorClock.from_flat(numbers) == clock


def test_the_text_of_a_clock_names_servers_incarnations_and_counters() -> None:
    assert repr(VectorClock({Replica(7, 2): 3, Replica(0, 1): 1})) == "VectorClock({0/1: 1, 7/2: 3})"


# -- the order of versions ---------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[Version]:
    """Versions as replicas issue them: rising timestamps, clocks of some earlier versions and the own dot."""
    versions: list[Version] = []
    counters: dict[Replica, int] = {}
    for timestamp in range(1, draw(st.integers(2, 8)) + 1):
        replica = draw(REPLICAS)
        counters[replica] = counters.get(replica, 0) + 1
        dot = Dot(replica, counters[replica])
        clock = EMPTY_CLOCK
        for seen in draw(st.lists(st.sampled_from(versions), max_size=2)) if versions else ():
            clock = clock.merge(seen.clock)
        versions.append(Version(timestamp, dot, clock.with_dot(dot)))
    return versions


@given(histories())
def test_a_version_that_happened_after_another_is_larger(versions: list[Version]) -> None:
    for one in versions:
        for other in versions:
            if one.clock.compare(other.clock) is Causality.BEFORE:
                assert one.order < other.order


@given(st.lists(st.builds(Version, st.integers(1, 3), DOTS, CLOCKS), min_size=3, max_size=3))
def test_the_order_of_versions_is_total(versions: list[Version]) -> None:
    a, b, c = (version.order for version in versions)
    assert [a < b, a == b, a > b].count(True) == 1
    assert not (a <= b <= c) or a <= c
    assert (a == b) == (versions[0][:2] == versions[1][:2])


def test_the_timestamp_decides_before_the_dot() -> None:
    early = Version(1, Dot(Replica(9, 9), 9), EMPTY_CLOCK)
    late = Version(2, Dot(Replica(0, 1), 1), EMPTY_CLOCK)
    assert early.order < late.order


def test_of_one_timestamp_the_larger_dot_is_kept() -> None:
    dots = [Dot(Replica(0, 1), 2), Dot(Replica(0, 2), 1), Dot(Replica(1, 1), 1), Dot(Replica(1, 1), 2)]
    orders = [Version(5, dot, EMPTY_CLOCK).order for dot in dots]
    assert orders == sorted(orders)
    assert len(set(orders)) == len(dots)


def test_a_clock_drops_the_oldest_incarnations_that_have_ended() -> None:
    """A server is revived a hundred times, beside one that was there all the time."""
    steady = Dot(Replica(0, 1), 1)
    clock = EMPTY_CLOCK.with_dot(steady)
    for life in range(2, 102):
        clock = clock.with_dot(Dot(Replica(1, life), 1))
        assert clock.covers(steady)
        assert clock.covers(Dot(Replica(1, life), 1))
    assert len(clock.entries) == MAX_ENTRIES
    assert clock.covers(Dot(Replica(1, 101 - MAX_ENTRIES + 2), 1))
    assert not clock.covers(Dot(Replica(1, 2), 1))


def test_a_clock_forgets_no_server() -> None:
    clock = EMPTY_CLOCK
    for server in range(3 * MAX_ENTRIES):
        clock = clock.with_dot(Dot(Replica(server, 1), 1))
    assert len(clock.entries) == 3 * MAX_ENTRIES


def test_a_forgetful_clock_is_never_before_one_that_it_followed() -> None:
    clocks = [EMPTY_CLOCK.with_dot(Dot(Replica(1, 1), 1))]
    for life in range(2, 3 * MAX_ENTRIES):
        clocks.append(clocks[-1].with_dot(Dot(Replica(1, life), 1)))
    for earlier, later in pairwise(clocks):
        assert earlier.compare(later) in (Causality.BEFORE, Causality.CONCURRENT)
    assert clocks[0].compare(clocks[MAX_ENTRIES - 1]) is Causality.BEFORE
    assert clocks[0].compare(clocks[-1]) is Causality.CONCURRENT
