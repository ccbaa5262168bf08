"""Plays a script with a given schedule of exchanges, in the rooms that real servers and clients run.

May live here: `Peer`, `Session` and stabilize without processes, and when they do what. May not: which schedules
there are.

This is what makes an outcome more than an opinion: each schedule that is shown has been played here, and has printed
that output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from checking.outcomes.exchanges import Exchange
from checking.outcomes.plan import Change, Get, Plan, Print, Put, Stabilize
from control.stabilize import stabilize
from messages import NoValue, Operation, OperationOutcome, Unsatisfied, Value, plain_answer
from model import Model
from peer import Answer, Peer, unpack_request
from peer import Exchange as PeerExchange
from router import Graph
from session import Session
from vector_clock import Replica

__all__ = ["play"]

INTERVAL = 1.0
"""The servers gossip, though only when they are told to."""


class _Log:
    """A server's disk, in memory."""

    def __init__(self) -> None:
        self.deltas: list[bytes] = []

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        self.deltas.append(delta)

    def renew(self, source: Model) -> None:
        pass


class _Cluster:
    """The servers and clients of a run; also what `stabilize` asks for."""

    def __init__(self) -> None:
        self.logs: dict[int, _Log] = {}
        self.peers: dict[int, Peer] = {}
        self.sessions: dict[int, Session] = {}
        self.numbers = 0

    def number(self) -> int:
        """A timestamp, or an incarnation: larger than all before."""
        self.numbers += 1
        return self.numbers

    def change(self, change: Change) -> None:
        """Carry out a change of who is there and connected."""
        one, *other = change.ids
        if change.what == "start":
            log = self.logs.setdefault(one, _Log())
            peer = self.peers[one] = Peer(Replica(one, self.number()), INTERVAL)
            peer.recover(list(log.deltas), damaged=False)
            peer.start(log)
            self._mark(one, True)
        elif change.what == "kill":
            del self.peers[one]
            self._mark(one, False)
        elif change.what == "link":
            self.peers[one].link(other[0], "", 0.0)
            self.peers[other[0]].link(one, "", 0.0)
        elif change.what == "unlink":
            self.peers[one].unlink(other[0], 0.0)
            self.peers[other[0]].unlink(one, 0.0)
        elif change.what == "connect":
            self.sessions.setdefault(one, Session()).connect(other[0])
        else:
            self.sessions[one].disconnect(other[0])

    def _mark(self, server: int, up: bool) -> None:
        for session in self.sessions.values():
            session.mark(server, up)

    def ask(self, server: int, operation: Operation) -> Any:
        """What `Session.execute` asks a server by."""
        (answer,) = self.peers[server].execute([operation], 0.0)
        return plain_answer(operation, answer)

    # -- stabilize.Servers ---------------------------------------------------------------------------------

    def graph(self) -> Graph:
        return {server: set(peer.links) for server, peer in self.peers.items()}

    def contexts(self) -> dict[int, bytes] | None:
        return {server: msgpack.packb(peer.model.context.flat()) for server, peer in self.peers.items()}

    def pull(self, step: dict[int, list[int]]) -> bool:
        for server, neighbours in step.items():
            for neighbour in neighbours:
                exchange = self.peers[server].exchange(neighbour)
                while not exchange.done:
                    exchange.receive(self.answer(exchange), 0.0)
        return True

    def answer(self, exchange: PeerExchange) -> Answer | None:
        """What the neighbour answers now."""
        request = unpack_request(msgpack.packb(exchange.request()))
        answer = self.peers[exchange.neighbour].answer_pull(request)
        return None if answer is None else Answer.from_bytes(msgpack.packb(answer))


def play(plan: Plan, schedule: Sequence[Exchange]) -> dict[int, bytes]:
    """What each line that prints prints with these exchanges. Raises NotLinked, KeyError where one can't be."""
    return _Play(plan, schedule).run()


class _Play:
    def __init__(self, plan: Plan, schedule: Sequence[Exchange]) -> None:
        self._plan = plan
        self._cluster = _Cluster()
        points = [
            (time, 2 * number + is_taken, exchange)
            for number, exchange in enumerate(schedule)
            for is_taken, time in enumerate((exchange.shown, exchange.taken))
        ]
        self._points = sorted(points, key=lambda point: point[:2], reverse=True)
        self._under_way: dict[int, tuple[PeerExchange, Answer | None]] = {}
        self._printed: dict[int, bytes] = {}

    def run(self) -> dict[int, bytes]:
        for happening in sorted([*self._plan.changes, *self._plan.steps], key=_time):
            self._exchange_until(_time(happening))
            if isinstance(happening, Change):
                self._cluster.change(happening)
            elif isinstance(happening, Stabilize):
                stabilize(self._cluster)
            elif isinstance(happening, Print):
                writes = self._cluster.peers[happening.server].model.writes()
                self._printed[happening.line] = b"".join(write.key + b":" + write.value + b"\n" for write in writes)
            else:
                self._operate(happening)
        return self._printed

    def _exchange_until(self, time: int) -> None:
        while self._points and self._points[-1][0] < time:
            _, number, exchange = self._points.pop()
            if number % 2 == 0:
                begun = self._cluster.peers[exchange.target].exchange(exchange.source, is_gossip=True)
                self._under_way[number] = begun, self._cluster.answer(begun)
            else:
                begun, answer = self._under_way.pop(number - 1)
                begun.receive(answer, 0.0)

    def _operate(self, step: Put | Get) -> None:
        asked = iter(step.asks if isinstance(step, Get) else ())

        def ask(server: int, operation: Operation) -> Any:
            if isinstance(step, Get):
                self._exchange_until(next(asked).time)
            return self._cluster.ask(server, operation)

        value = step.value if isinstance(step, Put) else None
        outcome = self._cluster.sessions[step.client].execute(step.key, value, self._cluster.number(), ask)
        if isinstance(step, Get):
            self._printed[step.line] = step.key + b":" + _shown(outcome) + b"\n"


def _time(happening: Change | Put | Get | Print | Stabilize) -> int:
    return happening.asks[0].time if isinstance(happening, Get) else happening.time


def _shown(outcome: OperationOutcome) -> bytes:
    """What a get prints behind the key."""
    if isinstance(outcome, Value):
        return outcome.value
    return b"ERR_KEY" if isinstance(outcome, NoValue) else b"ERR_DEP" if isinstance(outcome, Unsatisfied) else b"?"
