"""Calls over links with delay and loss (shape.py), and the exchanges of a thread that are under way over such links.

May live here: when a message of a call leaves and arrives, and waiting for that. May not: the fate of a message
(shape.py); what is called, and what follows.

Theory of operation
-------------------
Both messages of a call, the call itself and its answer, are held back by the calling process: it sends the call when it
is due to arrive at the other side, and takes notice of the answer when that is due. The other side is therefore busy no
longer than without a delay, nothing of its own waits, and no time-out has to allow for the link.

A call is a generator, which yields the time at which it goes on. So one thread can have many of them under way: a
server's gossip (`Courier`), in which a slow link does not hold up the others. A client has one, for which it waits
(`wait_out`). No lock is held meanwhile.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection, Generator, Iterator
from typing import TYPE_CHECKING, Any

from peer import Exchange
from rpc import tracing, transport

if TYPE_CHECKING:
    from shape import Fate, Lane, Lanes

__all__ = ["AT_ONCE", "Courier", "Displaced", "Draw", "call", "wait_out"]

Draw = Callable[["Lane", int], "Fate"]
"""A function that sends a message over a lane now, which has been lost so many times before, as `Lane.send`."""

AT_ONCE = float("-inf")
"""The time at which a step goes on that waits for nothing."""


class Displaced(Exception):
    """Waiting for a call was given up, since somebody has asked for something else meanwhile."""


def call(
    connect: Callable[[], transport.Remote],
    lanes: Lanes,
    draw: Draw,
    patient: bool,
    called: str,
    name: str,
    *args: Any,
) -> Generator[float, None, Any]:
    """Call the method *name* of a process over a link. Yields times at which to go on; returns the answer.

    *connect* is called when the call leaves. *patient*: whether a message that was lost is sent again; otherwise the
    call fails. *called*: the name of the process, for the trace. Raises what `Pending.wait` raises; it is Unreachable
    if the call has not been carried out.
    """
    stamp = tracing.stamp("call", name) if tracing.on else None
    try:
        yield from _cross(lanes.calls, draw, patient, ["call", name, called, stamp])
    except transport.Unreachable:
        raise
    except transport.Failure as failure:
        raise transport.Unreachable(str(failure)) from failure
    pending = connect().send(name, *args, stamp=stamp)
    answer = pending.receive()
    yield from _cross(lanes.answers, draw, patient, ["answer", name, called, pending.stamp])
    pending.arrived()
    return answer


def _cross(lane: Lane, draw: Draw, patient: bool, told: list[Any]) -> Iterator[float]:
    losses = 0
    while True:
        fate = draw(lane, losses)
        if tracing.on:
            _trace(fate, *told)
        yield fate.due
        if not fate.lost:
            return
        if not patient:
            raise transport.Failure("a message was lost")
        losses += 1


def _trace(fate: Fate, way: str, name: str, called: str, stamp: tracing.Stamp) -> None:
    wait = max(0, round((fate.due - time.monotonic()) * 1e9))
    event = "lost" if fate.lost else "delayed"
    tracing.event(event, way=way, name=name, peer=called, number=stamp[1], wait=wait)


# -- one at a time -----------------------------------------------------------------------------------------


def wait_out(under_way: Generator[float, None, Any], connection: int, others: int) -> Any:
    """Carry out a call, and return its answer. Blocks as long as that takes.

    *connection*: the descriptor of the connection that it is made over; when this ends, the call fails. *others*: a
    descriptor that is readable when there is something else to do; this raises Displaced.
    """
    poller = select.poll()
    poller.register(connection, transport.ENDED)
    poller.register(others, select.POLLIN)
    try:
        due = next(under_way)
        while True:
            left = due - time.monotonic()
            events = [descriptor for descriptor, _ in poller.poll(max(0, int(left * 1000)))]
            if others in events:
                under_way.close()
                raise Displaced
            if connection in events:
                due = under_way.throw(transport.Failure("the connection has ended"))
            else:
                time.sleep(max(0.0, due - time.monotonic()))  # less than a millisecond, the unit of poll
                due = next(under_way)
    except StopIteration as end:
        return end.value


# -- many at a time ----------------------------------------------------------------------------------------


class Courier:
    """The exchanges of one thread that are under way, at most one with each neighbour.

    The steps of an exchange are a generator, which yields the time at which to go on.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, tuple[float, Exchange, Generator[float, None, None]]] = {}

    @property
    def neighbours(self) -> tuple[int, ...]:
        """The neighbours with which there is an exchange."""
        return tuple(self._under_way)

    def add(self, exchange: Exchange, steps: Generator[float, None, None]) -> None:
        """Begin an exchange; its first step is due at once."""
        self._under_way[exchange.neighbour] = AT_ONCE, exchange, steps

    @property
    def due(self) -> float | None:
        """When to call `step`; None if nothing is under way."""
        return min((due for due, *_ in self._under_way.values()), default=None)

    def step(self) -> tuple[Exchange, Exception | None] | None:
        """Take the next step of the exchange whose turn it is. Blocks as long as that takes.

        Returns the exchange if it has ended by that, and what it has raised.
        """
        neighbour = min(self._under_way, key=lambda neighbour: self._under_way[neighbour][0])
        _, exchange, steps = self._under_way[neighbour]
        failure = None
        try:
            self._under_way[neighbour] = next(steps), exchange, steps
            return None
        except StopIteration:
            pass
        except Exception as error:
            failure = error
        del self._under_way[neighbour]
        return exchange, failure

    def drop(self, is_over: Callable[[Exchange], bool]) -> Collection[Exchange]:
        """Give up the exchanges that are over; returns them."""
        dropped = [exchange for _, exchange, _ in self._under_way.values() if is_over(exchange)]
        for exchange in dropped:
            self._under_way.pop(exchange.neighbour)[2].close()
        return dropped
