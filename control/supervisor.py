"""Calls to the members of a cluster, and what follows when one does not answer.

May live here: who is asked, how long anybody may be silent, who has died, and killing. May not: what a command asks,
and why (control/cluster.py).

Nobody is ever waited for without limit. A server that is silent for the time-out is probed: where it is busy, it is
waited for; else it is killed by its watchdog, and counts as killed from then on, like one that died by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from control.calls import Call, gather, send
from control.members import Client, Members, Server
from rpc import tracing, transport
from rpc.spawner import Spawner

__all__ = ["EXIT_PATIENCE_SECONDS", "PROBE_SECONDS", "Supervisor"]

PROBE_SECONDS = 0.5
"""How long a probe, an empty call over a connection of its own, may take at most; half the limit is enough."""

EXIT_PATIENCE_SECONDS = 2.0
"""How long processes may take to end, before they are all killed by force."""


class Supervisor:
    """Calls members, and sees to it that those that fail in a call are dead."""

    def __init__(self, members: Members, spawner: Spawner, timeout: float, report: Callable[[int, str], None]) -> None:
        """*timeout*: how long anybody may be silent, in seconds. *report* is given each death (whose, and how)."""
        self.limit = timeout
        """How long a server may be silent at the moment (`patience`)."""
        self._members = members
        self._spawner = spawner
        self._timeout = timeout
        self._report = report

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Within this block, silence is judged after *seconds*."""
        usual, self.limit = self.limit, min(seconds, self.limit)
        try:
            yield
        finally:
            self.limit = usual

    # -- servers -------------------------------------------------------------------------------------------

    def ask_servers(self, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Call running servers, all at the same time; the answers of those that gave one.

        Servers that can't be reached, are silent or fail in the call are lost when this returns. Raises Interrupted
        when all have been called; then, of those that have not answered, only those that are known to be dead are lost.
        """
        answers: dict[int, Any] = {}
        lost: dict[int, transport.Failure] = {}
        sent = send(self._to_running(calls))
        patient_until = time.monotonic() + self._timeout
        try:
            while sent:
                gathered = gather(sent, time.monotonic() + self.limit)
                answers |= gathered.answers
                lost |= gathered.failures
                if gathered.interrupted:
                    raise transport.Interrupted
                busy = self.probe(gathered.silent) if time.monotonic() < patient_until else set()
                lost |= dict.fromkeys(gathered.silent - busy, transport.Silent())
                sent = {ident: sent[ident] for ident in busy}
        finally:
            self.lose(lost)
        return answers

    def ask_in_peace(self, *asked: tuple[Any, ...]) -> list[dict[int, Any]]:
        """Call these methods, each with its arguments, of all running servers; the answers to each.

        Blocks for `PROBE_SECONDS` at most.

        A server that is silent is left in peace, and so is one that has not answered when nobody wants to wait any
        more. Others that fail are lost when this returns.
        """
        deadline = time.monotonic() + PROBE_SECONDS
        sent = [send(self._to_running(dict.fromkeys(self._members.servers, call))) for call in asked]
        gathered = [gather(calls, deadline) for calls in sent]
        self.lose({ident: failure for came in gathered for ident, failure in came.failures.items()})
        return [came.answers for came in gathered]

    def _to_running(self, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Call]:
        found = {ident: self._members.servers[ident].remote for ident in calls}
        return {ident: (remote, *calls[ident]) for ident, remote in found.items() if remote is not None}

    def probe(self, idents: Iterable[int]) -> set[int]:
        """Those of these servers that are alive, busy as they may be. Raises Interrupted.

        They answer an empty call over a connection of its own, or that they have no room for one; and their logs have
        not been writing one thing for as long as a server may be silent. Where a log writes, this waits until it is
        certain which of the two it is.
        """
        limit = min(PROBE_SECONDS, self.limit / 2)
        remotes: dict[int, transport.Remote] = {}
        alive: set[int] = set()
        for ident in idents:
            try:
                remotes[ident] = transport.Remote(self._members.servers[ident].address, limit)
            except transport.NoRoom:
                alive.add(ident)
            except transport.Failure:
                pass
        try:
            answers = self._ask_probes(remotes, limit, "ping")
            answering = {ident: remotes[ident] for ident in answers}
            answers |= self._ask_probes(answering, self.limit + limit, "is_hung", self.limit)
        finally:
            for remote in remotes.values():
                remote.close()
        return alive | {ident for ident, is_hung in answers.items() if not is_hung}

    def _ask_probes(
        self, remotes: Mapping[int, transport.Remote], limit: float, name: str, *args: Any
    ) -> dict[int, Any]:
        """Call these servers all at the same time; the answers of those that gave one. None: it has no room.

        A server that fails in the call is lost when this returns.
        """
        sent = send({ident: (remote, name, *args) for ident, remote in remotes.items()})
        gathered = gather(sent, time.monotonic() + limit)
        if gathered.interrupted:
            raise transport.Interrupted
        failures = gathered.failures
        full = {ident for ident, failure in failures.items() if isinstance(failure, transport.NoRoom)}
        self.lose({ident: how for ident, how in failures.items() if isinstance(how, transport.RemoteError)})
        return gathered.answers | dict.fromkeys(full)

    # -- clients -------------------------------------------------------------------------------------------

    def ask_client(self, client: Client, name: str, *args: Any) -> None:
        """Call a client if it runs. One that doesn't answer is lost when this returns."""
        if client.remote is not None:
            try:
                client.remote.call(name, *args)
            except transport.Failure as failure:
                self.lose_client(client, failure)

    def tell_clients(self, server: int, name: str, *args: Any) -> None:
        """Call all clients that have a connection to *server*, and don't wait.

        Whatever they are asked next comes behind this, on the same connection.
        """
        for client in self._members.clients.values():
            if server in client.connections and client.remote is not None:
                try:
                    client.remote.tell(name, *args)
                except transport.Failure as failure:
                    self.lose_client(client, failure)

    # -- deaths --------------------------------------------------------------------------------------------

    def notice_deaths(self) -> None:
        """Report the servers and clients that have died by themselves, and treat them as killed."""
        for end in self._members.ended():
            if isinstance(end, Client):
                self.lose_client(end, _ending(end))
            else:
                self.lose({end.ident: _ending(end)})
                end.loss = None
                if end.watchdog is not None and not end.watchdog.alive:
                    self.drop_watchdog(end)

    def lose(self, failures: Mapping[int, transport.Failure]) -> None:
        """Report servers that died, are silent or have failed in a call, and see to it that they are dead."""
        lost = [ident for ident in failures if self._members.servers[ident].running]
        for ident in lost:
            self._report(ident, _how_lost(self._members.servers[ident], failures[ident], self.limit))
        self.take_down(lost)

    def take_down(self, idents: Iterable[int]) -> None:
        """Kill servers; when this returns they are gone, and everybody knows, or learns it before anything else."""
        servers, links = self._members.servers, self._members.links
        gone = [servers[ident] for ident in idents]
        self.kill(gone)
        unlinks: list[tuple[int, int]] = []
        for server in gone:
            was_running = server.running
            self.forget_process(server)
            if was_running:
                tracing.event("killed", server=server.ident)
            for other in links.pop(server.ident, set()):
                links[other].discard(server.ident)
                unlinks.append((other, server.ident))
        for server in gone:
            neighbours = [other for other, ident in unlinks if ident == server.ident and servers[other].running]
            try:
                self.ask_servers(dict.fromkeys(sorted(neighbours), ("unlink", server.ident)))
            except transport.Interrupted:
                pass  # all of them have been called
            self.tell_clients(server.ident, "server_down", server.ident)

    def kill(self, servers: Iterable[Server]) -> None:
        """Have the watchdogs kill their servers, all at the same time.

        A watchdog that does not do so is killed together with its server.
        Where nobody wants to wait any more, servers are killed from here; their watchdogs see them off later.
        """
        by_ident = {server.ident: server for server in servers}
        watchdogs = {ident: server.watchdog for ident, server in by_ident.items()}
        sent = send({ident: (watchdog, "kill") for ident, watchdog in watchdogs.items() if watchdog is not None})
        gathered = gather(sent, time.monotonic() + self.limit / 2)
        for ident in sent:
            server = by_ident[ident]
            by_force = ident in gathered.interrupted and server.pid
            if by_force and self._spawner.kill(server.pid, EXIT_PATIENCE_SECONDS):
                continue
            if ident not in gathered.answers:
                self.drop_watchdog(server)  # what it may have under way ends with it

    def drop_watchdog(self, server: Server) -> None:
        """Kill a watchdog that doesn't answer, with its server; the next joinServer starts another."""
        if server.watchdog is None:
            return
        self._members.unwatch(server.watchdog)
        server.watchdog = None
        if server.pid:
            self._spawner.kill(server.pid, EXIT_PATIENCE_SECONDS)
        self._spawner.kill(server.watchdog_pid, EXIT_PATIENCE_SECONDS)

    def forget_process(self, server: Server) -> None:
        """A server's process has ended."""
        server.pid = 0
        if server.remote is not None:
            self._members.unwatch(server.remote)
            server.remote = None

    def lose_client(self, client: Client, failure: transport.Failure) -> None:
        """Report a client that died, is silent or has failed in a call, and see to it that it is dead."""
        if client.remote is None:
            return
        self._report(client.ident, _how_lost(client, client.loss or failure, self._timeout))
        self._members.unwatch(client.remote)
        client.remote = None
        client.connections = []
        self.kill_client(client)

    def kill_client(self, client: Client) -> None:
        """Kill a client's process, if there is one."""
        pid, client.pid = client.pid, 0  # once: the id may soon be another's
        if pid:
            self._spawner.kill(pid, EXIT_PATIENCE_SECONDS)


def _ending(end: Server | Client) -> transport.Failure:
    """How a process whose connection has ended was lost."""
    if end.loss is not None:
        return end.loss
    return transport.Failure() if end.remote is None or end.remote.alive else end.remote.ended()


def _how_lost(end: Server | Client, failure: transport.Failure, limit: float) -> str:
    """What to report; *limit*: how long it may be silent, in seconds."""
    if isinstance(failure, transport.Silent):
        return f"{end.kind} {end.ident} made no progress for {limit:g} s, and was killed"
    if isinstance(failure, transport.RemoteError):
        return f"{end.kind} {end.ident} failed, and was killed: {failure}"
    return f"{end.kind} {end.ident} died"
