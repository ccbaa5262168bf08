"""A context is a set of dots, however it is represented: each is compared with a plain set."""

from __future__ import annotations

from collections.abc import Iterable

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from context import Context
from vector_clock import Dot, Replica

REPLICAS = [Replica(0, 1), Replica(0, 2), Replica(3, 1)]
DOTS = st.builds(Dot, st.sampled_from(REPLICAS), st.integers(1, 6))
ALL_DOTS = {Dot(replica, counter) for replica in REPLICAS for counter in range(1, 8)}


def context_of(dots: Iterable[Dot]) -> Context:
    context = Context()
    for dot in dots:
        context.add(dot)
    return context


def covered(context: Context) -> set[Dot]:
    return {dot for dot in ALL_DOTS if context.covers(dot)}


@given(st.lists(DOTS))
def test_a_context_covers_just_the_dots_that_were_added(dots: list[Dot]) -> None:
    assert covered(context_of(dots)) == set(dots)


@given(st.lists(DOTS).flatmap(lambda dots: st.tuples(st.just(dots), st.permutations(dots))))
def test_the_order_of_adding_makes_no_difference(orders: tuple[list[Dot], list[Dot]]) -> None:
    one, other = map(context_of, orders)
    assert one == other
    assert one.flat() == other.flat()


@given(st.sets(DOTS), st.sets(DOTS))
def test_contexts_are_equal_when_their_dots_are(one: set[Dot], other: set[Dot]) -> None:
    assert (context_of(one) == context_of(other)) == (one == other)
    assert (context_of(one).flat() == context_of(other).flat()) == (one == other)


@given(st.sets(DOTS), st.sets(DOTS))
def test_a_join_is_the_union(one: set[Dot], other: set[Dot]) -> None:
    context, joined = context_of(one), context_of(other)
    context.join(joined)
    assert covered(context) == one | other
    assert context.flat() == context_of(one | other).flat()
    assert covered(joined) == other


@given(st.sets(DOTS), st.sets(DOTS))
def test_a_context_includes_another_exactly_if_it_is_a_superset(one: set[Dot], other: set[Dot]) -> None:
    assert context_of(one).includes(context_of(other)) == (one >= other)


@given(st.sets(DOTS), st.sets(DOTS))
def test_what_was_joined_is_included(one: set[Dot], other: set[Dot]) -> None:
    context = context_of(one)
    context.join(context_of(other))
    assert context.includes(context_of(other))
    assert context.includes(context_of(one))


@given(st.sets(DOTS))
def test_joining_itself_changes_nothing(dots: set[Dot]) -> None:
    context = context_of(dots)
    context.join(context)
    assert context.flat() == context_of(dots).flat()


@given(st.sets(DOTS))
def test_a_context_comes_back_from_plain_lists_over_the_wire(dots: set[Dot]) -> None:
    context = context_of(dots)
    back = Context.from_flat(msgpack.unpackb(msgpack.packb(context.flat())))
    assert back == context
    assert covered(back) == dots


@given(st.sets(DOTS), DOTS)
def test_a_copy_is_independent(dots: set[Dot], dot: Dot) -> None:
    context = context_of(dots)
    copied = context.copy()
    assert copied == context
    copied.add(dot)
    copied.add(Dot(REPLICAS[0], 7))
    assert covered(context) == dots
    assert covered(copied) == dots | {dot, Dot(REPLICAS[0], 7)}


def test_dots_without_gaps_need_no_cloud() -> None:
    context = context_of(Dot(REPLICAS[0], counter) for counter in (3, 1, 4, 2))
    assert context.flat() == [[[0, 1, 4]], []]


def test_a_gap_keeps_the_dots_behind_it_in_the_cloud() -> None:
    context = context_of(Dot(REPLICAS[0], counter) for counter in (1, 3, 5, 6))
    assert context.flat() == [[[0, 1, 1]], [[0, 1, [3, 5, 6]]]]
    context.add(Dot(REPLICAS[0], 2))
    assert context.flat() == [[[0, 1, 3]], [[0, 1, [5, 6]]]]


def test_a_joined_vector_swallows_the_cloud_that_it_covers_and_what_follows() -> None:
    context = context_of(Dot(REPLICAS[0], counter) for counter in (2, 4, 6))
    context.join(context_of(Dot(REPLICAS[0], counter) for counter in (1, 2, 3)))
    assert context.flat() == [[[0, 1, 4]], [[0, 1, [6]]]]


def test_a_cloud_can_include_a_vector_beyond_a_lower_one() -> None:
    mine = context_of(Dot(REPLICAS[0], counter) for counter in (2, 3))
    theirs = context_of([Dot(REPLICAS[0], 1)])
    assert not mine.includes(theirs)
    mine.add(Dot(REPLICAS[0], 1))
    assert mine.includes(theirs)


def test_a_context_is_not_equal_to_other_things() -> None:
    assert Context() != [[], []]
    assert Context() == Context()


class ContextMachine(RuleBasedStateMachine):
    """Any sequence of adds, joins, copies and round trips, beside a set that undergoes the same."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts = [Context(), Context()]
        self.sets: list[set[Dot]] = [set(), set()]

    @rule(which=st.integers(0, 1), dot=DOTS)
    def add(self, which: int, dot: Dot) -> None:
        self.contexts[which].add(dot)
        self.sets[which].add(dot)

    @rule(which=st.integers(0, 1))
    def join(self, which: int) -> None:
        self.contexts[which].join(self.contexts[1 - which])
        self.sets[which] |= self.sets[1 - which]

    @rule(which=st.integers(0, 1))
    def go_round(self, which: int) -> None:
        self.contexts[which] = Context.from_flat(self.contexts[which].copy().flat())

    @rule(which=st.integers(0, 1))
    def forget(self, which: int) -> None:
        self.contexts[which] = Context()
        self.sets[which] = set()

    @invariant()
    def behaves_like_the_set(self) -> None:
        for context, dots in zip(self.contexts, self.sets, strict=True):
            assert covered(context) == dots
            assert context.flat() == context_of(sorted(dots)).flat()
        assert self.contexts[0].includes(self.contexts[1]) == (self.sets[0] >= self.sets[1])


TestContextMachine = ContextMachine.TestCase
TestContextMachine.settings = settings(max_examples=60, stateful_step_count=30)
