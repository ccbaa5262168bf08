"""Sessions: the order of connections, and the two guarantees, judged by timestamps only."""

from __future__ import annotations

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from messages import Missing, Operation, Refusal, UncertainPut, Unusable, Write
from model import Model, Pull, unpack_delta
from session import Refused, ServerLost, Session
from vector_clock import EMPTY_CLOCK, Dot, Replica, Seen, VectorClock, Version

KEYS = [b"a", b"b"]
DOTS = st.builds(Dot, st.builds(Replica, st.integers(0, 3), st.integers(1, 2)), st.integers(1, 4))
VERSIONS = st.builds(
    lambda timestamp, dot, past: Version(timestamp, dot, VectorClock(past).with_dot(dot)),
    st.integers(1, 9),
    DOTS,
    st.lists(DOTS, max_size=2),
)


# -- connections -------------------------------------------------------------------------------------------


def test_connections_are_in_the_order_in_which_they_were_made() -> None:
    session = Session()
    for server in (3, 1, 2):
        session.connect(server)
    assert session.connections == session.usable == (3, 1, 2)


def test_a_connection_that_exists_keeps_its_place() -> None:
    session = Session()
    for server in (3, 1, 3):
        session.connect(server)
    assert list(session.connections) == [3, 1]


def test_a_connection_that_is_broken_and_made_again_goes_to_the_end() -> None:
    session = Session()
    for server in (3, 1, 2):
        session.connect(server)
    session.disconnect(3)
    assert list(session.connections) == [1, 2]
    session.connect(3)
    assert list(session.connections) == [1, 2, 3]


def test_a_killed_server_keeps_its_place_and_is_not_used() -> None:
    session = Session()
    for server in (3, 1, 2):
        session.connect(server)
    session.mark(3, up=False)
    assert list(session.connections) == [3, 1, 2]
    assert list(session.usable) == [1, 2]
    session.mark(3, up=True)
    assert list(session.usable) == [3, 1, 2]


def test_connecting_again_makes_a_server_usable_in_its_old_place() -> None:
    session = Session()
    session.connect(3)
    session.connect(1)
    session.mark(3, up=False)
    session.connect(3)
    assert list(session.usable) == [3, 1]


def test_a_server_without_a_connection_is_ignored() -> None:
    session = Session()
    session.mark(3, up=True)
    session.disconnect(3)
    assert session.connections == session.usable == ()


def test_a_server_cut_off_while_it_is_down_is_forgotten() -> None:
    session = Session()
    session.connect(3)
    session.mark(3, up=False)
    session.disconnect(3)
    session.mark(3, up=True)
    assert list(session.connections) == []


def test_what_a_failed_batch_read_and_wrote_can_be_forgotten_again() -> None:
    session = Session()
    session.add_seen(b"k", Version(1, Dot(Replica(1, 1), 1), EMPTY_CLOCK))
    before = {key: session.seen(key) for key in (b"k", b"new")}
    for key in before:
        session.add_seen(key, Version(2, Dot(Replica(1, 1), 2), EMPTY_CLOCK))
    session.restore(before)
    assert {key: session.seen(key) for key in before} == before
    assert session.seen(b"new") is None


class ConnectionMachine(RuleBasedStateMachine):
    """A session's connections, compared with a plain list of [server, up]."""

    SERVERS = st.integers(0, 3)

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.plain: list[list[object]] = []

    @rule(server=SERVERS)
    def connect(self, server: int) -> None:
        self.session.connect(server)
        known = [entry for entry in self.plain if entry[0] == server]
        if known:
            known[0][1] = True
        else:
            self.plain.append([server, True])
        self.check()

    @rule(server=SERVERS)
    def disconnect(self, server: int) -> None:
        self.session.disconnect(server)
        self.plain = [entry for entry in self.plain if entry[0] != server]
        self.check()

    @rule(server=SERVERS, up=st.booleans())
    def mark(self, server: int, up: bool) -> None:
        self.session.mark(server, up)
        for entry in self.plain:
            if entry[0] == server:
                entry[1] = up
        self.check()

    def check(self) -> None:
        assert list(self.session.connections) == [server for server, _ in self.plain]
        assert list(self.session.usable) == [server for server, up in self.plain if up]


TestConnectionMachine = ConnectionMachine.TestCase
TestConnectionMachine.settings = settings(max_examples=40, stateful_step_count=20)


# -- memory ------------------------------------------------------------------------------------------------


def test_a_new_session_has_seen_nothing() -> None:
    assert Session().seen(b"k") is None


def test_what_was_seen_of_one_key_does_not_affect_another() -> None:
    session = Session()
    session.add_seen(b"k", Version(1, Dot(Replica(0, 1), 1), EMPTY_CLOCK))
    assert session.seen(b"other") is None


def test_breaking_a_connection_forgets_nothing() -> None:
    session = Session()
    session.connect(1)
    session.add_seen(b"k", Version(1, Dot(Replica(1, 1), 1), EMPTY_CLOCK))
    session.disconnect(1)
    assert session.seen(b"k") is not None


@given(st.lists(VERSIONS, min_size=1))
def test_a_session_remembers_the_largest_version_and_all_clocks(versions: list[Version]) -> None:
    session = Session()
    merged = EMPTY_CLOCK
    for version in versions:
        session.add_seen(b"k", version)
        merged = merged.merge(version.clock)
    assert session.seen(b"k") == Seen(max(version.order for version in versions), merged)


@given(VERSIONS, VERSIONS)
def test_the_order_in_which_versions_are_seen_makes_no_difference(one: Version, other: Version) -> None:
    assert Seen.first(one).then(other) == Seen.first(other).then(one)


@given(st.lists(VERSIONS, min_size=1, max_size=3))
def test_what_was_seen_can_be_packed_and_unpacked(versions: list[Version]) -> None:
    seen = Seen.first(versions[0])
    for version in versions[1:]:
        seen = seen.then(version)
    assert Seen.from_flat(msgpack.unpackb(msgpack.packb(seen.flat()))) == seen


# -- guarantees --------------------------------------------------------------------------------------------


class Judge:
    """Judges answers by the timestamps of puts only, without vector clocks, dots or contexts."""

    def __init__(self) -> None:
        self.floor: dict[tuple[int, bytes], int] = {}
        self.made: dict[int, tuple[bytes, bytes]] = {}

    def put(self, client: int, key: bytes, value: bytes, timestamp: int) -> None:
        self.made[timestamp] = (key, value)
        self.floor[client, key] = timestamp

    def read(self, client: int, key: bytes, answer: Write | Missing, held: int) -> None:
        """*held*: the timestamp of the value that the answering server holds for the key; 0 if it holds none."""
        floor = self.floor.get((client, key), 0)
        if isinstance(answer, Write):
            timestamp = answer.version.timestamp
            assert self.made[timestamp] == (key, answer.value), "a value that was put, under its key"
            assert timestamp >= floor, "never older than what was written or read"
            self.floor[client, key] = timestamp
        elif answer is Missing.KEY:
            assert floor == held == 0, "a missing value is older than any"
        else:
            assert held < floor, "refused only where the server is behind"


class SessionMachine(RuleBasedStateMachine):
    """Sessions that move between servers which learn from each other now and then, and lose their disks."""

    SERVERS = range(3)
    CLIENTS = range(3)

    def __init__(self) -> None:
        super().__init__()
        self.models = {server: Model(Replica(server, 1)) for server in self.SERVERS}
        self.sessions = {client: Session() for client in self.CLIENTS}
        self.judge = Judge()
        self.time = 0

    def run(self, client: int, server: int, operations: list[tuple[bytes, bytes | None]]) -> None:
        """One batch, as a client sends it: each operation with what was seen before the batch."""
        session, m = self.sessions[client], self.models[server]
        asked = []
        for key, value in operations:
            self.time += 1
            asked.append(Operation(key, value, self.time, session.seen(key)))
        answers, writes = m.decide(asked)
        held = {key: self.held(m, key) for key in KEYS}
        for operation, answer in zip(asked, answers, strict=True):
            if operation.value is not None:
                assert isinstance(answer, Write)
                self.judge.put(client, operation.key, operation.value, operation.timestamp)
                held[operation.key] = operation.timestamp
            else:
                self.judge.read(client, operation.key, answer, held[operation.key])
            if isinstance(answer, Write):
                session.add_seen(operation.key, answer.version)
        m.apply(writes)

    @staticmethod
    def held(m: Model, key: bytes) -> int:
        standing = m.get(key)
        return standing.version.timestamp if isinstance(standing, Write) else 0

    @rule(client=st.sampled_from(CLIENTS), server=st.sampled_from(SERVERS), key=st.sampled_from(KEYS))
    def put(self, client: int, server: int, key: bytes) -> None:
        self.run(client, server, [(key, b"%d" % self.time)])

    @rule(client=st.sampled_from(CLIENTS), server=st.sampled_from(SERVERS), key=st.sampled_from(KEYS))
    def get(self, client: int, server: int, key: bytes) -> None:
        self.run(client, server, [(key, None)])

    @rule(
        client=st.sampled_from(CLIENTS),
        server=st.sampled_from(SERVERS),
        operations=st.lists(st.tuples(st.sampled_from(KEYS), st.none() | st.binary(max_size=1)), max_size=5),
    )
    def batch(self, client: int, server: int, operations: list[tuple[bytes, bytes | None]]) -> None:
        self.run(client, server, operations)

    @rule(receiver=st.sampled_from(SERVERS), sender=st.sampled_from(SERVERS))
    def gossip(self, receiver: int, sender: int) -> None:
        going = Pull(self.models[receiver])
        delta = going.receive(self.models[sender].answer(going.request()))
        self.models[receiver].apply(*unpack_delta(delta))
        assert going.done, "so little fits into one answer"

    @rule(server=st.sampled_from(SERVERS))
    def lose_the_disk(self, server: int) -> None:
        self.models[server] = Model(Replica(server, self.models[server].replica.incarnation + 1))

    @rule()
    def stabilize(self) -> None:
        """Afterwards every client reads the last put of each key that any server still holds."""
        for _ in self.SERVERS:
            for receiver in self.SERVERS:
                for sender in self.SERVERS:
                    self.gossip(receiver, sender)
        assert len({tuple(m.writes()) for m in self.models.values()}) == 1


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=100, stateful_step_count=40)


def test_a_session_that_moves_to_a_server_behind_is_refused_until_that_has_caught_up() -> None:
    ahead, behind, session = Model(Replica(0, 1)), Model(Replica(1, 1)), Session()
    session.add_seen(b"k", ahead.put(b"k", b"v", 1).version)
    seen = session.seen(b"k")
    assert seen is not None
    assert behind.get(b"k", seen.order) is Missing.DEPENDENCY
    behind.apply(ahead.writes())
    assert behind.get(b"k", seen.order) == ahead.get(b"k")


def test_a_put_after_a_read_elsewhere_happens_after_it() -> None:
    one, other, session = Model(Replica(0, 1)), Model(Replica(1, 1)), Session()
    session.add_seen(b"k", one.put(b"k", b"v", 1).version)
    write = other.put(b"k", b"w", 2, session.seen(b"k"))
    assert write.version.clock.covers(Dot(Replica(0, 1), 1))


def test_a_put_that_was_cut_short_and_then_refused_is_uncertain() -> None:
    """It may stand on the server that was lost. "Refused" would mean that it stands on none."""

    def ask(server: int, operation: Operation) -> object:
        raise ServerLost(cut_short=True) if server == 0 else Refused("the disk is full")

    def session() -> Session:
        made = Session()
        made.connect(0)
        made.connect(1)
        return made

    assert session().execute(b"k", b"v", 7, ask) == UncertainPut(7)

    def ask_and_lose(server: int, operation: Operation) -> object:
        raise ServerLost(cut_short=server == 0)  # the other one was dead before

    assert session().execute(b"k", b"v", 7, ask_and_lose) == UncertainPut(7)
    assert session().execute(b"k", None, 7, ask_and_lose) == Unusable()
    alone = session()
    alone.disconnect(0)
    assert alone.execute(b"k", b"v", 7, ask) == Refusal("server 1: the disk is full")
