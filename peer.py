"""A server among its peers: one replica with its log, its links, and what it has told whom.

May live here: what a server does, and in which order: the log before the store, the store before the answer; what
may cross a link, and when; whom to gossip with next. May not: sockets, threads, locks, files or the time of day. The
log and the time are handed in. server.py calls this under one lock; the simulator (checking/simulator/) runs a
thousand of them in one process.

Theory of operation
-------------------
A `Peer` is a `Model` and a `Router` with a log in front: whatever changes the replica is appended to the log first.
Where the log refuses, nothing has happened.

Updates cross a link in an *exchange*, which this server starts and the neighbour answers:

    exchange = peer.exchange(neighbour)
    while not exchange.done:
        answer = the neighbour's answer_pull(exchange.request())
        exchange.receive(answer)

The link is looked up at each of these steps, on both sides: an exchange that was under way when its link was broken
brings nothing more, even if the link has been made anew since. (A link that was made anew is another object.) And none
of them may be taken while a group holds exchanges (groups.py): whoever calls waits until `groups.held` is false.

*Gossip* is rumour-driven (gossip.py). A server with news pulls from each neighbour, and thereby shows it what it
knows; a neighbour that sees that it lacks some of that pulls in turn. Each remembers what the other is known to
know, so nobody asks where nothing can be new. `GossipLoop` says which exchange is next.

The record of a group stays the last in the log until the group is *settled*, that is, until the master can't take it
back any more: it releases the group, or asks for something else. Nothing else changes the replica before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import messages
from context import Context
from gossip import RumourClock
from groups import ANSWER_BYTES, ServerGroups
from messages import Missing, Operation, Write
from model import Model, Pull, pack_delta, unpack_delta
from router import Router
from vector_clock import Replica

__all__ = ["Answer", "Exchange", "GossipLoop", "Held", "Link", "Log", "NotLinked", "Peer", "unpack_request"]


class Log(Protocol):
    """Where changes are written to before they are made; storage.Storage is one."""

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        """Keep *delta*, or raise, and keep nothing."""

    def renew(self, source: Model) -> None:
        """Where the log can't be relied on any more, write all of *source* anew, or raise."""


class Link(NamedTuple):
    """A link to a neighbour, compared by identity: one that was broken and made again is another."""

    address: str


class NotLinked(Exception):
    """The two are not neighbours (yet, or any more), in the eyes of one of them."""


class Held(Exception):
    """An exchange was to go on while a group holds exchanges. Nobody should have asked."""


class Answer(NamedTuple):
    """What a neighbour has answered to a request of an exchange."""

    pull: list[Any]
    """The model's answer: `[delta, cursor or nil]`."""
    writes: list[Write]
    context: Context | None
    records: list[Any]
    """Link records that are news to whoever asked."""

    @classmethod
    def from_bytes(cls, packed: bytes) -> Answer:
        """The inverse of msgpack's packing of what `Peer.answer_pull` returns. Raises ValueError, TypeError."""
        pull, records = messages.unpack(packed, _is_answer)
        return cls(pull, *unpack_delta(pull[0]), records)


def unpack_request(packed: bytes) -> list[Any]:
    """The inverse of msgpack's packing of an `Exchange.request`. Raises ValueError for anything else."""
    request: list[Any] = messages.unpack(packed, _is_request)
    return request


_is_request = messages.checker(
    tuple[
        int,
        bool,
        dict[int, tuple[int, int]],
        tuple[tuple[list[tuple[int, int, int]], list[tuple[int, int, list[int]]]], tuple[int, int, int] | None],
    ]
)
_is_answer = messages.checker(
    tuple[tuple[bytes, tuple[int, int, int] | None], list[tuple[int, tuple[int, int], list[int]]]]
)


class Peer:
    """One server's state. No method blocks, but for the log; none may be called from two threads at once.

    Times are in seconds of any clock that doesn't go backwards. What the log raises is passed on.
    """

    def __init__(self, replica: Replica, gossip_interval: float, group_limit: int = ANSWER_BYTES) -> None:
        """*gossip_interval*: 0 for a server that never gossips. *group_limit*: as in `groups.ServerGroups`."""
        self.model = Model(replica)
        self.router = Router(replica.server, replica.incarnation)
        self.groups = ServerGroups(gossip_interval > 0, group_limit)
        self.links: dict[int, Link] = {}
        self._log: Log
        self._ends_with_group = False  # the log, which the master may still take back
        self._gossips = gossip_interval > 0
        self._rumour = RumourClock(gossip_interval)
        self._know_more: set[int] = set()  # neighbours that have shown that they know more
        self._retries: set[int] = set()  # an exchange with these has failed
        self._have_news: set[int] = set()  # those of the partners that have news for us, or may have
        # What each neighbour knows, or will ask for: a context, and a digest of link records.
        self._known_at: dict[int, tuple[Context, dict[int, list[int]]]] = {}

    # -- start ---------------------------------------------------------------------------------------------

    def recover(self, deltas: Iterable[bytes], damaged: bool) -> None:
        """Take in what the disk has, before anything else. After damage, no context among it is believed."""
        for delta in deltas:
            writes, context = unpack_delta(delta, from_disk=True)
            self.model.apply(writes, None if damaged else context)

    def start(self, log: Log) -> None:
        """Use *log* from now on."""
        self._log = log

    # -- puts and gets -------------------------------------------------------------------------------------

    def execute(self, operations: Iterable[Operation], now: float, group: int | None = None) -> list[Write | Missing]:
        """Carry out operations in order, with one write to the log, which may mark it as that of a *group*."""
        answers, writes = self.model.decide(operations)
        if writes:
            self._log.append(pack_delta(writes), self.model, group)
            self.model.apply(writes)
            self._heard(now)
        self._ends_with_group = group is not None and bool(writes)
        return answers

    def release_group(self) -> None:
        """The group is complete everywhere: exchanges may go on, and nobody takes its record back."""
        self.groups.release()
        self._ends_with_group = False

    def renew_log(self) -> bool:
        """Write the log anew, after a sync has failed; False where that has to wait until a group is settled.

        In a new log, the group could not be told from the rest, and not be taken back.
        """
        if self._ends_with_group:
            return False
        self._log.renew(self.model)
        return True

    # -- links ---------------------------------------------------------------------------------------------

    def link(self, neighbour: int, address: str, now: float) -> None:
        """Have a link to this neighbour; in place of the one that there may be."""
        self.links[neighbour] = Link(address)
        self._known_at.pop(neighbour, None)
        self.router.link(neighbour)
        self._heard(now)

    def unlink(self, neighbour: int) -> None:
        """Have no link to it: from now on nothing from there is taken in, or answered.

        That is no news to gossip about: the others hear of it with the next.
        """
        self.links.pop(neighbour, None)
        self._known_at.pop(neighbour, None)
        self.router.unlink(neighbour)
        self._know_more.discard(neighbour)
        self._retries.discard(neighbour)

    # -- anti-entropy --------------------------------------------------------------------------------------

    def answer_pull(self, request: list[Any]) -> list[Any] | None:
        """Answer an `Exchange.request`; None to anybody but a neighbour. Raises Held."""
        self._check_not_held()
        neighbour, is_gossip, digest, pull_request = request
        if neighbour not in self.links:
            return None
        answer = [self.model.answer(pull_request), self.router.newer_than(digest)]
        if is_gossip and self._gossips:
            theirs = Context.from_flat(pull_request[0])
            self._known_at[neighbour] = theirs, digest
            if self.router.lacks(digest) or not self.model.context.includes(theirs):
                self._know_more.add(neighbour)
        return answer

    def exchange(self, neighbour: int, is_gossip: bool = False) -> Exchange:
        """Begin to learn what a neighbour holds. Raises NotLinked."""
        link = self.links.get(neighbour)
        if link is None:
            raise NotLinked
        return Exchange(self, neighbour, link, is_gossip)

    def take_in(self, answer: Answer, now: float) -> None:
        """Learn what a neighbour has answered. Doing it twice, or late, does no harm. Raises Held."""
        self._check_not_held()
        news = self.model.is_news(answer.writes, answer.context)
        if news:
            self._log.append(answer.pull[0], self.model)
            self.model.apply(answer.writes, answer.context)
            self._ends_with_group = False
        if self.router.merge(answer.records) or news:
            self._heard(now)

    def _check_not_held(self) -> None:
        if self.groups.held:
            raise Held

    # -- gossip --------------------------------------------------------------------------------------------

    def _heard(self, now: float) -> None:
        """Something new has reached the replica."""
        if self._gossips:
            self._rumour.heard(now)

    @property
    def due(self) -> float | None:
        """When to call `partners` again: at once where it is in the past; None where there is no news."""
        return float("-inf") if self._know_more else self._rumour.due()

    def partners(self, now: float) -> list[int]:
        """Whom to gossip with: all neighbours once our news is due, or just those who have some for us.

        Those with whom it has failed last time come last, so that nobody has to wait for them.
        """
        found: set[int] = set()
        failed: set[int] = set()
        due = self._rumour.due()
        if due is not None and due <= now:
            self._rumour.told()
            found = set(self.links)
            failed, self._retries = self._retries & found, set()
        self._have_news, self._know_more = self._know_more | failed, set()
        return [*sorted((found | self._have_news) - failed), *sorted(failed)]

    def gossip(self, neighbour: int) -> Exchange | None:
        """Begin a partner's exchange; None where nothing could be new to either. Raises NotLinked."""
        if neighbour not in self._have_news and self._knows_all(neighbour):
            return None
        return self.exchange(neighbour, is_gossip=True)

    def _knows_all(self, neighbour: int) -> bool:
        """Whether an exchange could bring nothing new to this neighbour; else it would have come by itself."""
        context, digest = self._known_at.get(neighbour, (None, {}))
        return context is not None and context.includes(self.model.context) and not self.router.newer_than(digest)

    def gossiped(self, exchange: Exchange) -> None:
        """An exchange of gossip is done: the neighbour has seen what we know, and asks for what it lacks."""
        if self.links.get(exchange.neighbour) is exchange.link:
            self._known_at[exchange.neighbour] = exchange.telling

    def gossip_failed(self, neighbour: int, now: float) -> None:
        """An exchange of gossip has failed: try again after an interval, as long as there is the link."""
        if neighbour in self.links:
            self._retries.add(neighbour)
            self._heard(now)


class Exchange:
    """The asking side of one exchange."""

    def __init__(self, peer: Peer, neighbour: int, link: Link, is_gossip: bool) -> None:
        self.neighbour = neighbour
        self.link = link
        self.telling = peer.model.context.copy(), peer.router.digest()
        """What the neighbour is shown of this server."""
        self._peer = peer
        self._pull = Pull(peer.model)
        self._is_gossip = is_gossip

    @property
    def done(self) -> bool:
        """Whether everything that the neighbour held, when it answered last, is here."""
        return self._pull.done

    def request(self) -> list[Any]:
        """The next request: `[who asks, is it gossip, its digest of link records, the model's request]`.

        Raises Held.
        """
        peer = self._peer
        peer._check_not_held()
        return [peer.router.server, self._is_gossip, peer.router.digest(), self._pull.request()]

    def receive(self, answer: Answer | None, now: float) -> None:
        """Take in the answer to the last request. Raises NotLinked, Held; what was learnt until then is kept."""
        if answer is None or self._peer.links.get(self.neighbour) is not self.link:
            raise NotLinked
        self._pull.receive(answer.pull)
        self._peer.take_in(answer, now)


class GossipLoop:
    """The exchanges that a server starts of its own accord, one after another.

    While `next` gives one, carry it out until it is done and call `done`, or `failed`.
    """

    def __init__(self, peer: Peer) -> None:
        self.exchange: Exchange | None = None
        """The one that is under way."""
        self._peer = peer
        self._partners: deque[int] = deque()

    def next(self, now: float) -> Exchange | None:
        """Begin the next exchange that is due; None where there is none now (`Peer.due` says when)."""
        while True:
            if not self._partners:
                self._partners.extend(self._peer.partners(now))
                if not self._partners:
                    return None
            neighbour = self._partners.popleft()
            try:
                self.exchange = self._peer.gossip(neighbour)
            except NotLinked:
                continue  # the link was broken meanwhile
            if self.exchange is not None:
                return self.exchange

    def done(self) -> None:
        """The exchange has come to its end."""
        assert self.exchange is not None
        self._peer.gossiped(self.exchange)
        self.exchange = None

    def failed(self, now: float) -> None:
        """The exchange has failed: the neighbour was lost, or silent, or the log has refused."""
        assert self.exchange is not None
        self._peer.gossip_failed(self.exchange.neighbour, now)
        self.exchange = None
