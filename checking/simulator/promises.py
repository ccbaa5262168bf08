"""What must hold in a simulated cluster: the promises of docs/reliability.md, checked against what has happened.

May live here: checks, each of which compares the state of servers, or an answer, with `Truth`, and raises Violation.
May not: anything that changes a server, and code of the store's own that decides what must come out.
"""

from __future__ import annotations

from checking.simulator.parts import Client, Server
from checking.simulator.truth import Truth, Violation
from messages import (
    Command,
    NoValue,
    OperationOutcome,
    Refusal,
    Stored,
    UncertainPut,
    Unsatisfied,
    Unusable,
    Value,
    Write,
)
from vector_clock import VersionOrder

__all__ = ["Promises"]


class Promises:
    """The checks. What they find to be as it must be becomes part of the truth: an answer that was read, a revival."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    # -- stores --------------------------------------------------------------------------------------------

    def check_state(self, server: Server) -> None:
        """Nothing stands that was not written, nothing goes back, and the context covers only what the store has."""
        store, context = server.store(), server.peer.model.context
        for key, write in store.items():
            if self._truth.writes.get(write.version.dot) != write:
                raise Violation(f"server {server.ident} serves {write}, which nobody has written")
            if not context.covers(write.version.dot):
                raise Violation(f"server {server.ident} holds {write}, but its context does not cover it")
            if write.version.order < self._truth.held.get(server.ident, {}).get(key, write.version.order):
                raise Violation(f"server {server.ident} has gone back to {write}")
        for dot, write in self._truth.writes.items():
            if context.covers(dot) and (write.key not in store or store[write.key].version.order < write.version.order):
                raise Violation(f"the context of server {server.ident} covers {dot}, but it lacks {write}")

    def check_revival(self, server: Server) -> None:
        """All that the log has ever taken is there, unless the disk was lost or damaged; and nothing else."""
        store = server.store()
        for key, order in self._truth.held.get(server.ident, {}).items():
            if key not in store or store[key].version.order != order:
                raise Violation(f"server {server.ident} has come back with {store.get(key)} instead of {order}")
        for write in store.values():
            if self._truth.writes.get(write.version.dot) != write:
                raise Violation(f"server {server.ident} has come back with {write}, which nobody has written")
        self._truth.held[server.ident] = {key: write.version.order for key, write in store.items()}
        self.check_acknowledged(server)

    def check_acknowledged(self, server: Server) -> None:
        """What a server has acknowledged stands there, or a later put of the key."""
        store = server.store()
        for key, timestamp in self._truth.acknowledged.get(server.ident, {}).items():
            if key not in store or store[key].version.timestamp < timestamp:
                raise Violation(f"server {server.ident} had acknowledged a put of {key!r} at {timestamp}; it is lost")

    def check_convergence(self, component: list[Server], before: dict[int, dict[bytes, VersionOrder]]) -> None:
        """All stores of a component are equal, and have the largest version that any of them held *before*."""
        first = min(component, key=lambda server: server.ident)
        store = first.store()
        for server in component:
            if server.store() != store:
                raise Violation(
                    f"servers {first.ident} and {server.ident} know of the same writes, but hold {store} and"
                    f" {server.store()}"
                )
            for key, order in before.get(server.ident, {}).items():
                if key not in store or store[key].version.order < order:
                    raise Violation(f"server {server.ident} held {order} of {key!r}; now all hold {store.get(key)}")
                last = self._truth.issued[self._truth.writes[order[1]].value]
                if self._truth.issued[store[key].value] < last:
                    raise Violation(f"{store[key]} stands instead of a later put, which server {server.ident} held")
            self.check_acknowledged(server)

    def check_hidden(self, server: Server, timestamps: list[int]) -> None:
        """While a group is under way, a server has nothing of what other servers have taken in it.

        *timestamps*: those of the group's commands.
        """
        for write in server.store().values():
            if write.version.timestamp in timestamps and write.version.dot.replica != server.peer.model.replica:
                raise Violation(f"server {server.ident} has received {write} while its group was under way")

    # -- answers -------------------------------------------------------------------------------------------

    def due_answer(self, client: Client, key: bytes, standing: dict[int, Write | None]) -> OperationOutcome:
        """What must come of a get. *standing*: what each server that it may ask holds, in the order of asking."""
        seen = self._truth.seen.get((client.ident, key), 0)
        for server, write in standing.items():
            if write is None and not seen:
                return NoValue(server)
            if write is not None and write.version.timestamp >= seen:
                return Value(write.value, server, write.version.timestamp)
        return Unsatisfied() if standing else Unusable()

    def check_get(self, client: Client, key: bytes, outcome: OperationOutcome, due: OperationOutcome) -> None:
        """A get has had the outcome that was due, and the session guarantees hold."""
        if type(outcome) is not type(due) or (outcome != due and not isinstance(due, Unsatisfied)):
            raise Violation(f"get {client.ident} {key!r}: {outcome}, not {due}")
        if isinstance(outcome, Value):
            self._check_read(client, key, outcome.value)

    def _check_read(self, client: Client, key: bytes, value: bytes) -> None:
        """Read Your Writes and Monotonic Reads."""
        write = self._truth.write_of(value)
        if write is None or write.key != key:
            raise Violation(f"get {client.ident} {key!r}: {value!r}, which nobody has put there")
        seen = self._truth.seen.get((client.ident, key), 0)
        if write.version.timestamp < seen:
            raise Violation(f"get {client.ident} {key!r}: {value!r}, older than what the session has seen")
        self._truth.seen[client.ident, key] = write.version.timestamp

    def check_failed_put(self, client: Client, asked: list[Server], outcome: OperationOutcome) -> None:
        """A put may fail only where no server can take it. *asked*: the servers that ran when it was issued."""
        left = [server for server in asked if server.running]
        if not asked:
            due: type[OperationOutcome] = Unusable
        elif left and not left[0].full:
            due = Stored
        else:  # a server that has died was carrying it out, and may have logged it
            due = UncertainPut if len(left) < len(asked) else Refusal
        if type(outcome) is not due:
            raise Violation(f"a put of {client.ident}: {outcome}, not {due.__name__}")

    def check_member(
        self, client: Client, command: Command, outcome: OperationOutcome, standing: dict[bytes, Write]
    ) -> None:
        """A command of a group has had the outcome that it must have.

        *standing*: what the client's server held before the command; it becomes what it holds afterwards.
        """
        key = command.key
        (server,) = client.connections
        if command.name == "get":
            self.check_get(client, key, outcome, self.due_answer(client, key, {server: standing.get(key)}))
            return
        if not isinstance(outcome, Stored) or outcome.server != server:
            raise Violation(f"a put of {client.ident} in a group: {outcome}")
        self._truth.acknowledge(client.ident, server, key, outcome.timestamp)
        write = self._truth.write_of(command.value)
        if write is None:
            raise Violation(f"a put of {client.ident} in a group: {outcome}, but no log has taken it")
        standing[key] = max(write, standing.get(key, write), key=lambda write: write.version.order)
