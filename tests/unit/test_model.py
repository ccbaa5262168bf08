"""One replica's puts and gets, and anti-entropy between replicas that is cut off, doubled and late.

All tests of exchanges pack what crosses between replicas, as the wire does.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import model
from context import Context
from messages import Missing, Operation, Write, pack_operations, unpack_operations
from model import Model, Pull, pack_delta, unpack_delta
from vector_clock import EMPTY_CLOCK, Dot, Replica, Seen, VectorClock, Version

KEYS = [b"a", b"b", b"c", b"d"]


def replica(server: int, life: int = 1) -> Model:
    return Model(Replica(server, life))


def wire(value: list[Any]) -> list[Any]:
    """A message as it arrives at the other side."""
    received: list[Any] = msgpack.unpackb(msgpack.packb(value))
    return received


def step(receiver: Model, sender: Model, pull: Pull) -> list[Write]:
    """One request, one answer, applied; returns the writes that the answer carried."""
    delta = pull.receive(wire(sender.answer(wire(pull.request()))))
    writes, context = unpack_delta(delta)
    receiver.apply(writes, context)
    return writes


def answers(receiver: Model, sender: Model, limit: int = 2000) -> Iterator[list[Write]]:
    """A whole pull: the writes in each answer. The pull must end."""
    going = Pull(receiver)
    for _ in range(limit):
        if going.done:
            return
        yield step(receiver, sender, going)
    raise AssertionError(f"not done after {limit} answers")


def pull(receiver: Model, sender: Model, cut: int | None = None) -> list[Write]:
    """A pull, whole or cut off after so many answers; returns all writes that were sent."""
    return [write for writes in islice(answers(receiver, sender), cut) for write in writes]


def exchange(one: Model, other: Model) -> None:
    pull(one, other)
    pull(other, one)


def store(of: Model) -> dict[bytes, bytes]:
    return {write.key: write.value for write in of.writes()}


def state(of: Model) -> tuple[object, ...]:
    return of.writes(), of.context.flat(), of.largest_timestamp, of.live_bytes


def write_of(key: bytes, value: bytes, timestamp: int, dot: Dot) -> Write:
    return Write(key, value, Version(timestamp, dot, EMPTY_CLOCK.with_dot(dot)))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of one or two writes."""
    monkeypatch.setattr(model, "CHUNK_BYTES", 100)


# -- puts, gets, printStore --------------------------------------------------------------------------------


def test_a_put_is_read_back() -> None:
    m = replica(0)
    write = m.put(b"k", b"v", 1)
    assert m.get(b"k") == write
    assert (write.key, write.value, write.version.timestamp) == (b"k", b"v", 1)


def test_the_last_put_stands() -> None:
    m = replica(0)
    m.put(b"k", b"old", 1)
    m.put(b"k", b"new", 2)
    assert store(m) == {b"k": b"new"}


def test_a_put_that_is_older_than_what_stands_does_not_replace_it() -> None:
    m = replica(0)
    m.put(b"k", b"new", 2)
    m.put(b"k", b"old", 1)
    assert store(m) == {b"k": b"new"}


def test_writes_are_sorted_by_bytes() -> None:
    m = replica(0)
    keys = [b"b", b"a", b"\xff", b"B", b"aa", "ä".encode(), b"\x00", b"10", b"9"]
    for timestamp, key in enumerate(keys, 1):
        m.put(key, b"v", timestamp)
    assert [write.key for write in m.writes()] == sorted(keys)


def test_an_empty_store_has_no_writes() -> None:
    assert replica(0).writes() == []


def test_each_put_has_the_next_dot_and_the_past_of_its_session() -> None:
    m = replica(4, 7)
    seen = Seen((1, Dot(Replica(1, 1), 3)), VectorClock({Replica(1, 1): 3}))
    first, second = m.put(b"k", b"v", 5), m.put(b"k", b"w", 6, seen)
    assert first.version == Version(5, Dot(Replica(4, 7), 1), VectorClock({Replica(4, 7): 1}))
    assert second.version.dot == Dot(Replica(4, 7), 2)
    assert second.version.clock == VectorClock({Replica(1, 1): 3, Replica(4, 7): 2})


# -- what a session may read -------------------------------------------------------------------------------

OLD, MID, NEW = ((timestamp, Dot(Replica(0, 1), timestamp)) for timestamp in (1, 2, 3))


@pytest.mark.parametrize(
    ("standing", "seen", "answer"),
    [
        (None, None, Missing.KEY),
        (None, OLD, Missing.DEPENDENCY),
        (MID, None, MID),
        (MID, OLD, MID),
        (MID, MID, MID),
        (MID, NEW, Missing.DEPENDENCY),
    ],
)
def test_a_get_is_answered_unless_the_session_has_seen_something_newer(
    standing: tuple[int, Dot] | None, seen: tuple[int, Dot] | None, answer: object
) -> None:
    m = replica(9)
    if standing:
        m.apply([write_of(b"k", b"v", *standing)])
    got = m.get(b"k", seen)
    assert got == answer if isinstance(answer, Missing) else isinstance(got, Write) and got.version.order == answer
    operation = Operation(b"k", None, 99, Seen(seen, EMPTY_CLOCK) if seen else None)
    assert m.decide([operation]) == ([got], [])


def test_what_a_session_has_seen_is_asked_of_the_same_key_only() -> None:
    m = replica(0)
    m.put(b"k", b"v", 1)
    assert m.get(b"other") is Missing.KEY
    assert m.get(b"k", OLD) is not Missing.DEPENDENCY


def test_the_missing_answers_have_the_names_that_are_printed() -> None:
    assert Missing.KEY.value == "ERR_KEY"
    assert Missing.DEPENDENCY.value == "ERR_DEP"


def test_the_other_dot_of_the_same_write_satisfies_a_session_that_has_seen_the_larger_one() -> None:
    taken_first, taken_again = Dot(Replica(0, 1), 1), Dot(Replica(1, 1), 1)
    m = replica(2)
    write = write_of(b"k", b"v", 5, taken_first)
    m.apply([write])
    assert m.get(b"k", (5, taken_again)) == write


# -- execute -----------------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(KEYS[:2]), st.one_of(st.none(), st.binary(max_size=2)), st.integers(1, 20)), max_size=8
)


@given(OPERATIONS)
def test_execute_changes_nothing_before_apply(operations: list[tuple[bytes, bytes | None, int]]) -> None:
    m = replica(0)
    m.put(b"a", b"before", 10)
    before = state(m)
    _, writes = m.decide([Operation(key, value, timestamp, None) for key, value, timestamp in operations])
    assert state(m) == before
    assert len(writes) == sum(value is not None for _, value, _ in operations)


@given(OPERATIONS)
def test_a_batch_answers_what_single_operations_would(operations: list[tuple[bytes, bytes | None, int]]) -> None:
    batch, single = replica(0), replica(0)
    for m in (batch, single):
        m.put(b"a", b"before", 10)
    asked = [Operation(key, value, timestamp, None) for key, value, timestamp in operations]
    answers, writes = batch.decide(asked)
    batch.apply(writes)
    one_by_one = []
    for operation in asked:
        answer, made = single.decide([operation])
        single.apply(made)
        one_by_one += answer
    assert answers == one_by_one
    assert state(batch) == state(single)


def test_the_answer_to_a_put_is_its_write() -> None:
    answers, writes = replica(0).decide([Operation(b"k", b"v", 1, None), Operation(b"k", None, 2, None)])
    assert answers == [writes[0], writes[0]]


def test_within_a_batch_each_session_learns_from_its_own_operations_only() -> None:
    m = replica(0)
    operations = [
        Operation(b"k", b"v", 1, None, session=1),
        Operation(b"k", b"w", 2, None, session=2),
        Operation(b"k", None, 3, None, session=2),
        Operation(b"k", b"x", 4, None, session=1),
        Operation(b"k", None, 5, None, session=3),
        Operation(b"k", b"y", 6, None, session=3),
    ]
    answers, writes = m.decide(operations)
    assert [answer.value for answer in answers if isinstance(answer, Write)] == [b"v", b"w", b"w", b"x", b"x", b"y"]
    assert [write.version.dot.counter for write in writes] == [1, 2, 3, 4]
    v, w, x, y = (write.version.clock for write in writes)
    assert v <= x <= y
    assert w.covers(writes[1].version.dot)


def test_within_a_batch_a_session_carries_on_the_past_that_it_had() -> None:
    m, past = replica(0), Dot(Replica(7, 1), 3)
    seen = Seen((1, past), VectorClock([past]))
    _, (first, second) = m.decide([Operation(b"k", b"v", 5, seen, 1), Operation(b"k", b"w", 6, seen, 1)])
    assert first.version.clock == VectorClock([past, first.version.dot])
    assert second.version.clock == VectorClock([past, second.version.dot])
    _, (other,) = m.decide([Operation(b"other", b"v", 7, None, 1)])
    assert other.version.clock == VectorClock([other.version.dot])


def test_dots_of_writes_that_the_log_refused_are_free_again() -> None:
    """Otherwise there would be a gap, above which all later dots would stay in clouds for ever."""
    m = replica(0)
    _, refused = m.decide([Operation(b"k", b"v", 1, None)])
    assert not m.context.covers(refused[0].version.dot)
    assert m.put(b"k", b"v", 2).version.dot == refused[0].version.dot


def test_a_refused_put_does_not_make_contexts_grow_with_every_later_one() -> None:
    m = replica(0)
    m.decide([Operation(b"k", b"v", 1, None)])  # the disk refuses, so it is never applied
    for timestamp in range(2, 1000):
        m.put(b"k", b"v", timestamp)
    assert len(msgpack.packb(m.context.flat())) < 100


# -- one total order ---------------------------------------------------------------------------------------


@st.composite
def some_writes(draw: st.DrawFn) -> list[Write]:
    """Writes with their own dots; some of them share a timestamp and a key, as one put taken twice does."""
    counters = dict.fromkeys(range(3), 0)
    writes = []
    for _ in range(draw(st.integers(1, 10))):
        server = draw(st.integers(0, 2))
        counters[server] += 1
        dot = Dot(Replica(server, 1), counters[server])
        timestamp = draw(st.integers(1, 6))
        writes.append(write_of(draw(st.sampled_from(KEYS[:2])), b"%d" % timestamp, timestamp, dot))
    return writes


@given(some_writes(), st.data())
def test_in_whatever_order_and_however_often_writes_come_the_store_is_the_same(
    writes: list[Write], data: st.DataObject
) -> None:
    one, other = replica(8), replica(9)
    one.apply(writes)
    for write in data.draw(st.permutations(writes + writes[::2])):
        other.apply([write])
    assert state(one) == state(other)
    for key in {write.key for write in writes}:
        assert one.get(key) == max((w for w in writes if w.key == key), key=lambda write: write.version.order)


@given(some_writes())
def test_applying_writes_twice_makes_no_difference(writes: list[Write]) -> None:
    m = replica(9)
    assert m.is_news(writes, None)
    m.apply(writes)
    before = state(m)
    assert not m.is_news(writes, m.context.copy())
    m.apply(writes, m.context.copy())
    assert state(m) == before


def test_of_one_write_taken_twice_the_larger_dot_is_kept_everywhere() -> None:
    first, again, witness = replica(0), replica(1), replica(2)
    for m in (first, again):
        m.put(b"k", b"v", 7)
    for receiver, sender in ((witness, again), (witness, first), (first, witness), (again, first)):
        pull(receiver, sender)
    kept = {m.writes()[0].version.dot for m in (first, again, witness)}
    assert kept == {Dot(Replica(1, 1), 1)}


def test_live_bytes_follow_the_standing_writes() -> None:
    m = replica(0)
    for timestamp, length in enumerate((10, 500, 0, 3), 1):
        m.put(b"k", b"x" * length, timestamp)
        m.put(b"other", b"y", 100 + timestamp)
        assert m.live_bytes == sum(write.size for write in m.writes()) == sum(map(m.size_of, m.keys()))


# -- packing -----------------------------------------------------------------------------------------------

DOTS = st.builds(Dot, st.builds(Replica, st.integers(0, 10**18), st.integers(1, 2**40)), st.integers(1, 2**40))
CLOCKS = st.lists(DOTS, max_size=3).map(VectorClock)
VERSIONS = st.builds(Version, st.integers(0, 2**60), DOTS, CLOCKS).map(
    lambda version: version._replace(clock=version.clock.with_dot(version.dot))
)
WRITES = st.builds(Write, st.binary(max_size=4), st.binary(max_size=4), VERSIONS)
SEEN = st.builds(Seen, st.tuples(st.integers(0, 2**60), DOTS), CLOCKS)


OPERATION = st.builds(
    Operation, st.binary(max_size=4), st.none() | st.binary(max_size=4), st.integers(0, 2**60), st.none() | SEEN
)


@given(st.lists(OPERATION, max_size=5), st.integers(0, 10**18))
def test_operations_come_back_from_bytes_as_those_of_a_session(operations: list[Operation], session: int) -> None:
    assert unpack_operations(pack_operations(operations), session) == [
        operation._replace(session=session) for operation in operations
    ]


@given(st.lists(WRITES), st.none() | st.lists(DOTS, max_size=4))
def test_deltas_come_back_from_bytes(writes: list[Write], dots: list[Dot] | None) -> None:
    context = None
    if dots is not None:
        context = Context()
        for dot in dots:
            context.add(dot)
    assert unpack_delta(pack_delta(writes, context)) == (writes, context)


@given(some_writes(), st.integers(1, 5))
def test_a_snapshot_taken_in_parts_is_the_whole_replica(writes: list[Write], part: int) -> None:
    m, back = replica(9), replica(10)
    m.apply(writes)
    keys = m.keys()
    for first in range(0, len(keys), part):
        back.apply(*unpack_delta(m.delta_of(keys[first : first + part])))
    back.apply(*unpack_delta(m.context_delta()))
    assert state(back)[:2] == state(m)[:2]


# -- anti-entropy ------------------------------------------------------------------------------------------


def test_a_pull_brings_everything() -> None:
    a, b = replica(0), replica(1)
    for timestamp in range(1, 50):
        b.put(b"%d" % (timestamp % 7), b"%d" % timestamp, timestamp)
    pull(a, b)
    assert a.writes() == b.writes()
    assert a.context == b.context


def test_a_pull_from_an_equal_replica_carries_nothing_in_one_answer() -> None:
    a, b = replica(0), replica(1)
    a.put(b"k", b"v", 1)
    exchange(a, b)
    assert list(answers(a, b)) == [[]]


def test_writes_that_were_replaced_are_not_sent() -> None:
    a, b = replica(0), replica(1)
    for timestamp in range(1, 1001):
        b.put(b"k", b"v", timestamp)
    assert len(pull(a, b)) == 1
    assert a.context == b.context


def test_an_answer_stays_near_its_bound_and_is_never_empty_before_the_end(small_chunks: None) -> None:
    a, b = replica(0), replica(1)
    for timestamp in range(1, 30):
        b.put(b"%d" % timestamp, b"v" * (timestamp * 5), timestamp)
    chunks = list(answers(a, b))
    for chunk in chunks[:-1]:
        assert chunk
        assert sum(write.size for write in chunk[:-1]) < model.CHUNK_BYTES
    assert len(chunks) > 10
    assert a.writes() == b.writes()


def test_a_value_larger_than_an_answer_goes_through(small_chunks: None) -> None:
    a, b = replica(0), replica(1)
    for timestamp in (1, 2, 3):
        b.put(b"%d" % timestamp, b"v" * 1000, timestamp)
    pull(a, b)
    assert a.writes() == b.writes()


def test_no_write_is_sent_twice_in_a_pull_of_many_answers(small_chunks: None) -> None:
    a, b = replica(0), replica(1)
    for timestamp in range(1, 100):
        b.put(b"%d" % timestamp, b"v", timestamp)
    assert len(pull(a, b)) == 99


def test_what_arrived_before_a_cut_is_not_sent_again(small_chunks: None) -> None:
    a, b = replica(0), replica(1)
    for timestamp in range(1, 41):
        b.put(b"%d" % timestamp, b"v", timestamp)
    before = pull(a, b, cut=7)
    assert 0 < len(before) < 40
    after = pull(a, b)
    assert len(before) + len(after) == 40
    assert a.context == b.context


def test_a_context_is_not_joined_before_everything_is_there(small_chunks: None) -> None:
    a, b = replica(0), replica(1)
    for timestamp in range(1, 41):
        b.put(b"%d" % (timestamp % 20), b"v", timestamp)
    going, sent = Pull(a), 0
    for _ in range(11):  # two writes each; the last one brings the context
        assert not going.done
        assert a.context.flat()[0] == [], "only the cloud grows"
        sent += len(step(a, b, going))
        assert len(a.writes()) == sent
    assert going.done
    assert sent == 20
    assert a.context.flat() == [[[1, 1, 40]], []]


@pytest.mark.parametrize("server", [0, 1, 2, 9])
def test_a_write_put_in_the_middle_of_a_pull_is_not_lost(small_chunks: None, server: int) -> None:
    # The new writes come from an author before, at or behind the one that the cursor stands at.
    a, b, author = replica(5), replica(1), replica(server, 2)
    for timestamp in range(1, 21):
        b.put(b"%d" % timestamp, b"v", timestamp)
    timestamp = 100
    for _ in answers(a, b):
        if timestamp < 110:
            timestamp += 1
            b.apply([author.put(b"%d" % (timestamp % 30), b"new", timestamp)])
            b.put(b"mine%d" % timestamp, b"new", timestamp + 1000)
    assert a.writes() == b.writes()
    assert a.context == b.context


def test_a_server_that_lost_its_disk_gets_its_own_writes_back() -> None:
    a, b = replica(0, 1), replica(1)
    a.put(b"k", b"v", 1)
    exchange(a, b)
    again = replica(0, 2)
    pull(again, b)
    assert store(again) == {b"k": b"v"}
    assert again.put(b"k", b"w", 2).version.dot == Dot(Replica(0, 2), 1)
    pull(b, again)
    assert store(b) == {b"k": b"w"}


@pytest.mark.parametrize("seed", range(15))
def test_after_a_storm_of_cut_pulls_full_ones_make_all_equal(small_chunks: None, seed: int) -> None:
    chance = random.Random(seed)
    models = [replica(server) for server in range(5)]
    newest: dict[bytes, bytes] = {}
    for timestamp in range(1, 300):
        key, value = b"%d" % chance.randrange(40), b"%d" % timestamp
        chance.choice(models).put(key, value, timestamp)
        newest[key] = value
        receiver, sender = chance.sample(models, 2)
        pull(receiver, sender, chance.randrange(4))
    for near, far in (*pairwise(models), *pairwise(reversed(models))):  # along a chain, there and back
        pull(far, near)
    assert [store(m) for m in models] == [newest] * 5
    assert all(m.context == models[0].context for m in models)


class ReplicaMachine(RuleBasedStateMachine):
    """Replicas that put, pull, are cut off and lose their disks, with the invariant checked after each step."""

    SERVERS = range(4)

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(model, "CHUNK_BYTES", 120)
        self.lives = dict.fromkeys(self.SERVERS, 1)
        self.models = {server: replica(server) for server in self.SERVERS}
        self.made: dict[Dot, Write] = {}
        self.pulls: dict[tuple[int, int], Pull] = {}
        self.late: list[tuple[int, int, bytes]] = []  # answers on their way: receiver, its life, delta
        self.time = 0

    def teardown(self) -> None:
        self.patch.undo()

    @rule(
        server=st.sampled_from(SERVERS),
        key=st.sampled_from(KEYS),
        author=st.sampled_from(SERVERS),
        twice=st.none() | st.sampled_from(SERVERS),
    )
    def put(self, server: int, key: bytes, author: int, twice: int | None) -> None:
        """A session that has read the key at *author* puts it, at a fail-over on two servers."""
        self.time += 1
        read = self.models[author].get(key)
        seen = Seen.first(read.version) if isinstance(read, Write) else None
        for taker in {server, server if twice is None else twice}:
            write = self.models[taker].put(key, b"%d" % self.time, self.time, seen)
            assert write.version.dot not in self.made
            self.made[write.version.dot] = write

    @rule(server=st.sampled_from(SERVERS))
    def refuse(self, server: int) -> None:
        """A put that the disk refuses."""
        self.models[server].decide([Operation(KEYS[0], b"refused", self.time, None)])

    @rule(
        receiver=st.sampled_from(SERVERS), sender=st.sampled_from(SERVERS), fate=st.sampled_from(["ok", "ok", "late"])
    )
    def pull_one_answer(self, receiver: int, sender: int, fate: str) -> None:
        if receiver == sender:
            return
        going = self.pulls.setdefault((receiver, sender), Pull(self.models[receiver]))
        request = wire(going.request())
        answer = wire(self.models[sender].answer(request))
        writes, _ = unpack_delta(answer[0])
        theirs = Context.from_flat(request[0])
        assert not any(theirs.covers(write.version.dot) for write in writes), "only what is missing is sent"
        assert len(writes) <= 2, "two writes pass the mark"
        if fate == "late":
            self.late.append((receiver, self.lives[receiver], answer[0]))
            del self.pulls[receiver, sender]
            return
        delta = going.receive(answer)
        self.models[receiver].apply(*unpack_delta(delta))
        self.late.append((receiver, self.lives[receiver], delta))  # it may come a second time
        if going.done:
            del self.pulls[receiver, sender]

    @rule(receiver=st.sampled_from(SERVERS), sender=st.sampled_from(SERVERS))
    def cut(self, receiver: int, sender: int) -> None:
        self.pulls.pop((receiver, sender), None)

    @rule(data=st.data())
    def deliver_late(self, data: st.DataObject) -> None:
        if self.late:
            receiver, life, delta = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
            if life == self.lives[receiver]:
                self.models[receiver].apply(*unpack_delta(delta))

    @rule(server=st.sampled_from(SERVERS))
    def lose_the_disk(self, server: int) -> None:
        self.lives[server] += 1
        self.models[server] = replica(server, self.lives[server])
        self.pulls = {pair: going for pair, going in self.pulls.items() if pair[0] != server}

    @rule(one=st.sampled_from(SERVERS), other=st.sampled_from(SERVERS))
    def exchange_fully(self, one: int, other: int) -> None:
        exchange(self.models[one], self.models[other])
        assert self.models[one].writes() == self.models[other].writes()
        assert self.models[one].context.flat() == self.models[other].context.flat()

    @invariant()
    def who_covers_a_dot_holds_its_write_or_one_that_stands_over_it(self) -> None:
        for m in self.models.values():
            for dot, write in self.made.items():
                if m.context.covers(dot):
                    held = m.get(write.key)
                    assert isinstance(held, Write)
                    assert held.version.order >= write.version.order

    @invariant()
    def what_is_held_was_made_and_is_covered(self) -> None:
        for m in self.models.values():
            for write in m.writes():
                assert self.made[write.version.dot] == write
                assert m.context.covers(write.version.dot)
                assert m.largest_timestamp >= write.version.timestamp

    @invariant()
    def a_newcomer_could_learn_all_of_it(self) -> None:
        for m in self.models.values():
            newcomer = replica(99)
            pull(newcomer, m)
            assert newcomer.writes() == m.writes()
            assert newcomer.context == m.context


TestReplicaMachine = ReplicaMachine.TestCase
TestReplicaMachine.settings = settings(max_examples=150, stateful_step_count=50)


def covers_all(m: Model, writes: Iterable[Write]) -> bool:
    return all(m.context.covers(write.version.dot) for write in writes)


@given(some_writes(), some_writes(), st.integers(0, 12))
def test_a_pull_between_any_two_stores_reaches_the_join_of_both(
    mine: list[Write], theirs: list[Write], cut: int
) -> None:
    theirs = [w._replace(version=w.version._replace(dot=Dot(Replica(7, 7), i))) for i, w in enumerate(theirs, 1)]
    a, b, both = replica(8), replica(9), replica(10)
    a.apply(mine)
    b.apply(theirs)
    both.apply(mine + theirs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "CHUNK_BYTES", 70)
        pull(a, b, cut)
        exchange(a, b)
    assert a.writes() == b.writes() == both.writes()
    assert a.context == b.context == both.context
    assert covers_all(a, mine + theirs)
