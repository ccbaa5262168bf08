"""The exchanges of a server with its neighbours: those of gossip, and those that stabilize asks for.

May live here: carrying exchanges out, when a thread goes on with one, and waiting for that. May not: what an exchange
does to the replica, and with whom to gossip (peer.py).

Theory of operation
-------------------
Two threads carry out exchanges: the one that gossips, and the one that serves the master. Over a link without a shape,
an exchange goes on until it is done. Over one with a delay it has to wait, and its thread goes on with others meanwhile
(`crossing.Courier`). So each thread waits in one place only, which `end_waits` wakes up when a link has changed.

An exchange of stabilize goes on only while the master asks for it. So nothing crosses a link after stabilize has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from peer import Answer, Exchange, GossipLoop, NotLinked, Peer
from rpc import answers, tracing, transport
from rpc.crossing import AT_ONCE, Courier
from rpc.neighbours import Neighbours

if TYPE_CHECKING:
    from shape import Fate, Lane

__all__ = ["Exchanges", "Pulled"]

STABILIZE_SLICE_SECONDS = 0.25
"""How long one `pull_from` goes on before it reports to the master that there is more to fetch."""

GOSSIP_PATIENCE_SECONDS = 2.0
"""How long a neighbour may be silent in gossip before it is the turn of the others. It is asked again later."""


class Pulled(NamedTuple):
    """What has come of a `pull_from`."""

    left: tuple[int, ...]
    """The neighbours from which there is more to fetch."""
    lost: tuple[int, ...]
    """The neighbours that were silent or could not be reached."""
    refusal: str | None
    """Why the disk refused, or what was exhausted."""
    faulty: answers.Faulty
    """The neighbours that failed."""


class Exchanges:
    """The exchanges that are under way, and the two threads' waiting for them."""

    def __init__(
        self,
        peer: Peer,
        lock: threading.Lock,
        timeout: float,
        refused: type[Exception],
        released: Callable[[], None],
        appended: Callable[[], None],
    ) -> None:
        """*lock* guards the peer. *timeout*: how long a neighbour may be silent, in seconds.

        *refused*: what the log raises if it does not take a record. The two functions are called with the lock held:
        *released* waits until no group holds exchanges, and *appended* is told that there may be a new record.
        """
        self._peer = peer
        self._lock = lock
        self._refused = refused
        self._released = released
        self._appended = appended
        self._for_master = Neighbours(timeout, self._send)
        self._pulls = Courier()
        self._pulls_changed = threading.Condition(lock)
        self._for_gossip = Neighbours(min(timeout, GOSSIP_PATIENCE_SECONDS), self._send)
        self._gossip = GossipLoop(peer)
        self._gossips = Courier()
        self._wake = threading.Condition(lock)
        self._wakes_at = float("-inf")  # when the thread that gossips will wake up by itself

    # -- links ---------------------------------------------------------------------------------------------

    def abort(self, neighbour: int) -> None:
        """End the calls to a neighbour to which there is no link any more, and wake the threads that wait for others.

        The caller holds the lock.
        """
        self._for_gossip.abort(neighbour)
        self._for_master.abort(neighbour)
        self.end_waits()

    def end_waits(self) -> None:
        """Give up waiting for messages over links that are broken, or have another shape. The caller holds the lock."""
        self._wake.notify()
        self._pulls_changed.notify()

    def _is_over(self, exchange: Exchange) -> bool:
        """Whether the link that an exchange goes over is broken, or has another shape by now."""
        return self._peer.links.get(exchange.neighbour) is not exchange.link

    # -- an exchange ---------------------------------------------------------------------------------------

    def _carry_out(self, neighbours: Neighbours, exchange: Exchange, patient: bool) -> Generator[float, None, None]:
        """Carry out an exchange in steps; yields the times at which to go on.

        *patient*: as in `crossing.call`. Raises Failure, NotLinked or what the log raises; what has been applied by
        then remains in effect.
        """
        while not exchange.done:
            with self._lock:
                self._released()
                asked = exchange.request()
            request = msgpack.packb(asked)
            packed = yield from neighbours.call(exchange.neighbour, exchange.link, patient, "pull", request)
            try:
                answer = None if packed is None else Answer.from_bytes(packed)
            except (TypeError, ValueError) as error:
                raise transport.RemoteError("a malformed answer") from error
            with self._lock:
                self._released()
                exchange.receive(answer, time.monotonic())
                self._appended()
                if tracing.on and answer is not None and answer.writes:
                    tracing.event("learnt", neighbour=exchange.neighbour, delta=answer.pull[0])
            yield AT_ONCE

    def _send(self, lane: Lane, losses: int) -> Fate:
        """Send a message over a link with a shape (`crossing.Draw`)."""
        with self._lock:
            return lane.send(time.monotonic(), losses)

    # -- stabilize -----------------------------------------------------------------------------------------

    def pull_from(self, neighbours: Iterable[int], patience: float) -> Pulled:
        """Fetch what these neighbours hold, or go on with that. Blocks for `STABILIZE_SLICE_SECONDS`, and a call.

        *patience*: how long each neighbour may be silent, in seconds.
        """
        self._for_master.timeout = patience
        deadline = time.monotonic() + STABILIZE_SLICE_SECONDS
        self._begin_pulls(neighbours)
        lost, faulty = [], []
        refusal = None
        while refusal is None and self._await_pull(deadline):
            ended, failure = self._pulls.step() or (None, None)
            if ended is None or failure is None or isinstance(failure, NotLinked):
                continue
            if isinstance(failure, transport.NoRoom):
                refusal = f"no updates can be fetched from server {ended.neighbour}: {failure}"
            elif isinstance(failure, transport.RemoteError):
                faulty.append((ended.neighbour, str(failure)))
            elif isinstance(failure, transport.Failure):
                lost.append(ended.neighbour)
            elif isinstance(failure, self._refused):
                refusal = str(failure)
            else:
                raise failure
        return Pulled(self._pulls.neighbours, tuple(lost), refusal, tuple(faulty))

    def _begin_pulls(self, neighbours: Iterable[int]) -> None:
        """Begin those pulls from these neighbours that are not yet under way, and give up all others."""
        with self._lock:
            self._pulls.drop(lambda exchange: exchange.neighbour not in neighbours or self._is_over(exchange))
            for neighbour in neighbours:
                if neighbour not in self._pulls.neighbours and neighbour in self._peer.links:
                    exchange = self._peer.exchange(neighbour)
                    self._pulls.add(exchange, self._carry_out(self._for_master, exchange, patient=True))

    def _await_pull(self, deadline: float) -> bool:
        """Wait until one of the pulls can go on. Returns False if none does so before the deadline, or is left."""
        with self._lock:
            while True:
                self._pulls.drop(self._is_over)
                due, now = self._pulls.due, time.monotonic()
                if due is None or now > deadline:
                    return False
                if due <= now:
                    return True
                self._pulls_changed.wait(min(due, deadline) - now)

    # -- gossip --------------------------------------------------------------------------------------------

    def wake_up(self) -> None:
        """Wake the thread that gossips, if it would wake up too late by itself. The caller holds the lock."""
        due = self._peer.due
        if due is not None and due < self._wakes_at:
            self._wake.notify()

    def gossip_forever(self) -> None:
        """Gossip. Raises MemoryError; then an answer may be half applied."""
        while True:
            self._await_gossip()
            ended, failure = self._gossips.step() or (None, None)
            if ended is None:
                continue
            with self._lock:
                if failure is None:
                    self._gossip.done(ended)
                elif isinstance(failure, (transport.Failure, NotLinked, self._refused)):
                    self._gossip.failed(ended, time.monotonic())
                else:
                    raise failure

    def _await_gossip(self) -> None:
        """Wait until an exchange can go on, perhaps one that is begun now."""
        with self._wake:
            while True:
                now = time.monotonic()
                for over in self._gossips.drop(self._is_over):
                    self._gossip.failed(over, now)
                going_on = self._gossips.due
                if going_on is not None and going_on <= now:
                    return
                exchange = self._gossip.next(now)
                if exchange is not None:
                    self._gossips.add(exchange, self._carry_out(self._for_gossip, exchange, patient=False))
                    return
                if going_on is None:
                    self._for_gossip.trim()
                due = min((due for due in (self._peer.due, going_on) if due is not None), default=None)
                self._wakes_at = float("inf") if due is None else due
                self._wake.wait(None if due is None else max(0.0, due - time.monotonic()))
                self._wakes_at = float("-inf")
