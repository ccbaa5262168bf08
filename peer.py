"""A server without its sockets and threads: one replica with its log, its links, and what its neighbours know.

May live here: what a server does, and in which order (the log before the store, and the store before the answer); what
may cross a link, and when; which neighbour to gossip with next. May not: sockets, threads, locks, files or the time of
day. The log and the time are handed in. server.py calls this under one lock; the simulator (checking/simulator/)
runs many peers in one process.

Theory of operation
-------------------
A `Peer` consists of a `Model` and a `Router` with a log in front of them. Every change of the replica is appended to
the log first. If the log refuses it, the change does not happen.

Updates cross a link in an *exchange*, which this server starts and the neighbour answers:

    exchange = peer.exchange(neighbour)
    while not exchange.done:
        answer = the neighbour's answer_pull(exchange.request())
        exchange.receive(answer)

Both sides look up the link at each of these steps. An exchange that was under way when its link was broken therefore
transfers nothing more, even if the link has been made again since then, because the new link is another object. While a
group holds exchanges (groups.py), none of these steps may be taken: the caller waits until `groups.held` is false.

*Gossip* is driven by news (gossip.py). A server with news pulls from its neighbours in the spanning tree (router.py),
and thereby shows each its own context. A neighbour that finds that it lacks something pulls in turn, whether the other
is in its own tree or not. Each remembers what the other knows, so that no server starts an exchange that can't transfer
anything new. `GossipLoop` chooses the next exchange.

Both sides of an exchange also bring each other up to date about links (router.py). If a server knows many link records,
its first request has only a fingerprint of them. Where that of the neighbour differs, the neighbour answers without
records, and a further request has the whole list.

The record of a group remains the last one in the log until the group is *settled*. This is the case once the master has
released the group, or has asked for something else, since it can't take the group back after that. Nothing else changes
the replica before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import messages
from context import Context
from gossip import RumourClock
from groups import ANSWER_BYTES, ServerGroups
from messages import Missing, Operation, Write
from model import Model, Pull, pack_delta, unpack_delta
from router import Router, covers
from vector_clock import Replica

if TYPE_CHECKING:
    from shape import Lanes, Shape

__all__ = [
    "FEW_STRANGERS",
    "Answer",
    "Exchange",
    "GossipLoop",
    "Held",
    "Link",
    "Log",
    "NotLinked",
    "Peer",
    "unpack_request",
]


FEW_STRANGERS = 4
"""With how many strangers (`Router.strangers`) a server gossips in the first round after it was linked with many."""


class Log(Protocol):
    """The log that changes are written to before they are made. `storage.Storage` is one."""

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        """Append *delta*, with the number of its *group* if it has one. If this raises, nothing has been appended.

        *source*: the replica before the change, in case the log has to be replaced by a snapshot.
        """

    def renew(self, source: Model) -> None:
        """Replace the log, which is no longer reliable, by a new one that holds all of *source*. May raise."""


class Link(NamedTuple):
    """A link to a neighbour. Links are compared by identity: one that was broken and made again is a different link."""

    address: str
    lanes: Lanes | None = None
    """How messages cross the link, if it has a shape."""


class NotLinked(Exception):
    """The two servers are not neighbours, according to at least one of them."""


class Held(Exception):
    """A step of an exchange was taken while a group holds exchanges. The caller should have waited."""


class Answer(NamedTuple):
    """A neighbour's answer to a request of an exchange."""

    pull: list[Any]
    """The model's answer: `[delta, cursor or nil]`."""
    writes: list[Write]
    context: Context | None
    records: list[Any] | None
    """The link records that the asking server lacks (`Router.newer_than`); None if it has to list those it knows."""

    @classmethod
    def from_bytes(cls, packed: bytes) -> Answer:
        """The answer in these bytes: the packed result of `Peer.answer_pull`. Raises ValueError or TypeError."""
        pull, records = messages.unpack(packed, _is_answer)
        return cls(pull, *unpack_delta(pull[0]), records)


def unpack_request(packed: bytes) -> list[Any]:
    """The request in these bytes: the packed result of `Exchange.request`. Raises ValueError for anything else."""
    request: list[Any] = messages.unpack(packed, _is_request)
    return request


_is_request = messages.checker(
    tuple[
        int,
        bool,
        dict[int, tuple[int, int]] | bytes,
        tuple[tuple[list[tuple[int, int, int]], list[tuple[int, int, list[int]]]], tuple[int, int, int] | None],
    ]
)
_is_answer = messages.checker(
    tuple[tuple[bytes, tuple[int, int, int] | None], list[tuple[int, tuple[int, int], list[int]]] | None]
)


class Peer:
    """The state of one server. Only calls of the log may block. No two threads may use it at the same time.

    Times are in seconds of any clock that does not go backwards. What the log raises is passed on.
    """

    def __init__(self, replica: Replica, gossip_interval: float, group_limit: int = ANSWER_BYTES) -> None:
        """*gossip_interval*: in seconds; 0 for a server that never gossips.

        *group_limit*: the *answer_bytes* of `groups.ServerGroups`.
        """
        self.model = Model(replica)
        self.router = Router(replica.server, replica.incarnation)
        self.groups = ServerGroups(gossip_interval > 0, group_limit)
        self.links: dict[int, Link] = {}
        self._lanes: dict[int, Lanes] = {}
        self._log: Log
        self._ends_with_group = False  # whether the log ends with a group that the master may still take back
        self._gossips = gossip_interval > 0
        self._rumour = RumourClock(gossip_interval)
        self._ahead: set[int] = set()  # neighbours that have shown that they know something more than this server
        self._failed: set[int] = set()  # neighbours with which the last exchange has failed
        self._strangers: set[int] = set()  # `Router.strangers` when news was due the last time
        self._strangers_at_once = FEW_STRANGERS
        self._may_have_news: set[int] = set()  # those partners that may know something more than this server
        # Neighbour -> what it knows, or will ask for: a context, and a digest of link records.
        self._knowledge: dict[int, tuple[Context, dict[int, list[int]]]] = {}

    # -- start ---------------------------------------------------------------------------------------------

    def recover(self, deltas: Iterable[bytes], damaged: bool) -> None:
        """Apply the deltas from the disk; to be called before anything else.

        *damaged*: whether some of them may be missing. If so, the contexts among them are ignored, since they may cover
        writes that are lost. Raises what `unpack_delta` raises.
        """
        for delta in deltas:
            writes, context = unpack_delta(delta, from_disk=True)
            self.model.apply(writes, None if damaged else context)

    def start(self, log: Log) -> None:
        """Append all changes to *log* from now on."""
        self._log = log

    # -- puts and gets -------------------------------------------------------------------------------------

    def execute(self, operations: Iterable[Operation], now: float, group: int | None = None) -> list[Write | Missing]:
        """Carry out operations in order, with one append to the log; returns an answer to each.

        *group*: the number of the group that they belong to. Raises what the log raises; then nothing has changed.
        """
        answers, writes = self.model.decide(operations)
        if writes:
            self._log.append(pack_delta(writes), self.model, group)
            self.model.apply(writes)
            self._note_news(now)
        self._ends_with_group = group is not None and bool(writes)
        return answers

    def release_group(self) -> None:
        """Settle the latest group, which is complete at all servers: exchanges may go on."""
        self.groups.release()
        self._ends_with_group = False

    def renew_log(self) -> bool:
        """Replace the log after a sync has failed. Returns False if this must wait until a group is settled.

        In the new log, the writes of the group would not be separate from the others, so the master could not take them
        back.
        """
        if self._ends_with_group:
            return False
        self._log.renew(self.model)
        return True

    # -- links ---------------------------------------------------------------------------------------------

    def link(self, neighbour: int, address: str, now: float) -> None:
        """Make a link to this neighbour, which replaces an existing one. The new link counts as news."""
        lanes = self._lanes.get(neighbour)
        if lanes is not None:
            lanes.clear()
        self.links[neighbour] = Link(address, lanes)
        self._knowledge.pop(neighbour, None)
        self.router.link(neighbour)
        self._note_news(now)

    def unlink(self, neighbour: int, now: float) -> None:
        """Remove the link to this neighbour: from now on nothing from there is applied or answered.

        This counts as news, also if the link is not part of this server's spanning tree: it may be part of the trees of
        others, and what was to be passed on over it must go another way.
        """
        if self.links.pop(neighbour, None) is not None:
            self._note_news(now)
        self._knowledge.pop(neighbour, None)
        self.router.unlink(neighbour)
        self._ahead.discard(neighbour)
        self._failed.discard(neighbour)
        self._may_have_news.discard(neighbour)

    def shape(self, neighbour: int, shape: Shape, seed: int) -> None:
        """Give the link to this neighbour a shape, now or when it is made. *seed*: that of the run.

        An exchange that is under way over a link whose shape changes has failed, as if its messages were lost.
        """
        from shape import Lanes  # not at the top, since most links have no shape

        known = self._lanes.pop(neighbour, None)
        lanes = Lanes.changed(known, shape, seed, self.router.server, neighbour)
        if lanes is not None:
            self._lanes[neighbour] = lanes
        link = self.links.get(neighbour)
        if link is not None and lanes is not known:
            self.links[neighbour] = Link(link.address, lanes)

    # -- anti-entropy --------------------------------------------------------------------------------------

    def answer_pull(self, request: list[Any]) -> list[Any] | None:
        """The answer to an `Exchange.request`; None if the server that asks is not a neighbour. Raises Held."""
        self._check_not_held()
        neighbour, is_gossip, summary, pull_request = request
        if neighbour not in self.links:
            return None
        digest = self._listed(summary)
        records = None if digest is None else self.router.newer_than(digest)
        if is_gossip and self._gossips and digest is not None:
            theirs = Context.from_flat(pull_request[0])
            self._knowledge[neighbour] = theirs, digest
            if self.router.lacks(digest) or not self.model.context.includes(theirs):
                self._ahead.add(neighbour)
        return [self.model.answer(pull_request), records]

    def _listed(self, summary: dict[int, list[int]] | bytes) -> dict[int, list[int]] | None:
        """The digest of link records that a neighbour means; None if it has to list it."""
        if not isinstance(summary, bytes):
            return summary
        return self.router.digest() if summary == self.router.fingerprint() else None

    def exchange(self, neighbour: int, is_gossip: bool = False) -> Exchange:
        """A new exchange, which fetches what a neighbour has and this server lacks. Raises NotLinked."""
        link = self.links.get(neighbour)
        if link is None:
            raise NotLinked
        return Exchange(self, neighbour, link, is_gossip)

    def take_in(self, answer: Answer, now: float) -> None:
        """Log and apply a neighbour's answer. It does no harm to do this twice, or late.

        Raises Held, and what the log raises; then nothing has changed.
        """
        self._check_not_held()
        news = self.model.is_news(answer.writes, answer.context)
        if news:
            self._log.append(answer.pull[0], self.model)
            self.model.apply(answer.writes, answer.context)
            self._ends_with_group = False
        if self.router.merge(answer.records or ()) or news:
            self._note_news(now)

    def _check_not_held(self) -> None:
        if self.groups.held:
            raise Held

    # -- gossip --------------------------------------------------------------------------------------------

    def _note_news(self, now: float) -> None:
        """Note that something new has reached this server."""
        if self._gossips:
            self._rumour.add_news(now)

    @property
    def due(self) -> float | None:
        """When to call `partners` again. A time in the past means at once, and None that there is nothing to do."""
        return float("-inf") if self._ahead else self._rumour.due()

    def partners(self, now: float) -> list[int]:
        """The neighbours to gossip with now: those in the tree if news is due, and those that know something more.

        Neighbours with which the last exchange has failed come last, so that the others do not wait for them.
        """
        found: set[int] = set()
        failed: set[int] = set()
        due = self._rumour.due()
        if due is not None and due <= now:
            self._rumour.clear()
            found = set(self.router.tree_neighbours()) - self._put_off()
            failed, self._failed = self._failed, set()
        ahead, self._ahead = self._ahead, set()
        self._may_have_news |= ahead | failed
        return [*sorted((found | ahead) - failed), *sorted(failed)]

    def _put_off(self) -> set[int]:
        """The strangers that have their turn in a later round; in each round, it is the turn of twice as many.

        Where n servers have just been linked with each other, all would else exchange with all. In this way all begin
        with the same few, from which they learn of the others, and mostly of the tree. There is a later round: an
        exchange with a stranger brings its record, which is news, or fails, and then it is tried again.
        """
        self._strangers = self.router.strangers()
        later = sorted(self._strangers)[self._strangers_at_once :]
        self._strangers_at_once = 2 * self._strangers_at_once if later else FEW_STRANGERS
        return set(later)

    def gossip(self, neighbour: int) -> Exchange | None:
        """A new exchange with a partner; None if it could bring nothing new to either side. Raises NotLinked."""
        if neighbour not in self._may_have_news and (self._knows_all(neighbour) or self._has_met(neighbour)):
            return None
        exchange = self.exchange(neighbour, is_gossip=True)
        self._may_have_news.discard(neighbour)
        return exchange

    def _knows_all(self, neighbour: int) -> bool:
        """Whether this neighbour knows everything that this server knows, or will ask for it by itself."""
        context, digest = self._knowledge.get(neighbour, (None, {}))
        return context is not None and context.includes(self.model.context) and not self.router.newer_than(digest)

    def _has_met(self, neighbour: int) -> bool:
        """Whether the record of this neighbour, a stranger before, has come from somebody else meanwhile.

        That record is news itself. So there will be another round, in which this neighbour has its turn if it is in the
        tree.
        """
        return neighbour in self._strangers and self.router.has_confirmed(neighbour)

    def gossip_done(self, exchange: Exchange) -> None:
        """Note that an exchange of gossip is done: the neighbour has been shown what this server knows."""
        if self.links.get(exchange.neighbour) is not exchange.link:
            return
        context, digest = exchange.shown
        known, known_digest = self._knowledge.get(exchange.neighbour, (Context(), {}))
        if not (known.includes(context) and covers(known_digest, digest)):  # it may have shown that it knows more
            self._knowledge[exchange.neighbour] = exchange.shown

    def gossip_failed(self, neighbour: int, now: float) -> None:
        """Note that an exchange of gossip has failed. If the link still exists, it is repeated after an interval."""
        if neighbour in self.links:
            self._failed.add(neighbour)
            self._note_news(now)


class Exchange:
    """The asking side of one exchange (`Peer.exchange` makes one)."""

    def __init__(self, peer: Peer, neighbour: int, link: Link, is_gossip: bool) -> None:
        self.neighbour = neighbour
        self.link = link
        self.shown = peer.model.context.copy(), peer.router.digest()
        """What the neighbour learns about this server's knowledge: its context, and its digest of link records."""
        self._peer = peer
        self._pull = Pull(peer.model)
        self._is_gossip = is_gossip
        self._must_list = False  # whether the neighbour has asked for the digest of link records

    @property
    def done(self) -> bool:
        """Whether this server has everything that the neighbour held when it gave its last answer."""
        return self._pull.done and not self._must_list

    def request(self) -> list[Any]:
        """The next request: `[the asking server, whether it is gossip, Router.summary or digest, Pull.request]`.

        Raises Held.
        """
        peer = self._peer
        peer._check_not_held()
        summary = peer.router.digest() if self._must_list else peer.router.summary()
        return [peer.router.server, self._is_gossip, summary, self._pull.request()]

    def receive(self, answer: Answer | None, now: float) -> None:
        """Log and apply the answer to the last request; None is the answer of a server that is not a neighbour.

        Raises NotLinked, Held, and what the log raises. The earlier answers of the exchange remain in effect.
        """
        if answer is None or self._peer.links.get(self.neighbour) is not self.link:
            raise NotLinked
        self._pull.receive(answer.pull)
        self._must_list = answer.records is None and not self._must_list  # it is not listed twice
        self._peer.take_in(answer, now)
        if self._must_list and self._pull.done:
            self._pull = Pull(self._peer.model)  # which asks only for what is still missing


class GossipLoop:
    """The exchanges that a server starts of its own accord, at most one with each neighbour at a time.

    When `next` returns an exchange, carry it out, and then call `done` or `failed`. Over a link with a shape this takes
    a while, in which `next` may be called for further ones.
    """

    def __init__(self, peer: Peer) -> None:
        self.under_way: dict[int, Exchange] = {}
        """Neighbour -> the exchange with it that is under way."""
        self._peer = peer
        self._partners: deque[int] = deque()
        self._again: set[int] = set()  # neighbours whose turn has come again while an exchange with them is under way

    def next(self, now: float) -> Exchange | None:
        """Begin the next exchange that is due; None if none is due now (`Peer.due` is the time of the next)."""
        while True:
            if not self._partners:
                self._partners.extend(self._peer.partners(now))
                if not self._partners:
                    return None
            neighbour = self._partners.popleft()
            if neighbour in self.under_way:
                self._again.add(neighbour)
                continue
            try:
                exchange = self._peer.gossip(neighbour)
            except NotLinked:
                continue  # the link was broken meanwhile
            if exchange is not None:
                self.under_way[neighbour] = exchange
                return exchange

    def done(self, exchange: Exchange) -> None:
        """Note that an exchange is complete."""
        self._peer.gossip_done(exchange)
        del self.under_way[exchange.neighbour]
        if exchange.neighbour in self._again:
            self._again.discard(exchange.neighbour)
            self._partners.append(exchange.neighbour)

    def failed(self, exchange: Exchange, now: float) -> None:
        """Note that an exchange has failed: the neighbour was lost or silent, a message was, or the log has refused."""
        self._peer.gossip_failed(exchange.neighbour, now)
        del self.under_way[exchange.neighbour]
        self._again.discard(exchange.neighbour)
