"""Calls to the members of a cluster, and what follows if one does not answer.

May live here: which members are called, how long they may be silent, which have died, and killing. May not: what a
command calls for, and why (control/cluster.py).

No process is waited for without limit. A server that has been silent for the time-out is probed. If it is busy, waiting
goes on. Otherwise its watchdog kills it, and it counts as killed from then on, like a server that died by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from control.calls import Call, gather, send
from control.hosts import EXIT_PATIENCE_SECONDS
from control.members import Client, Members, Server
from rpc import tracing, transport

__all__ = ["PROBE_SECONDS", "Supervisor"]

PROBE_SECONDS = 0.5
"""How long a probe may take at most. (It never takes more than half of the limit of silence.)"""


FEW_SERVERS = 20
"""How many servers answer a probe in time if nothing is wrong with them, however few processors they share."""


class Supervisor:
    """Calls members, and makes sure that those that fail in a call are dead."""

    def __init__(self, members: Members, timeout: float, report: Callable[[int, str], None]) -> None:
        """*timeout*: how long a member may be silent, in seconds.

        *report* is called with the id of each member that has died, and a description.
        """
        self.limit = timeout
        """How long a server may be silent at present, in seconds; `patience` changes it."""
        self._members = members
        self._timeout = timeout
        self._report = report

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Within this block, a server may be silent for *seconds* only."""
        usual, self.limit = self.limit, min(seconds, self.limit)
        try:
            yield
        finally:
            self.limit = usual

    # -- servers -------------------------------------------------------------------------------------------

    def ask_servers(self, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Call running servers, all at the same time; returns the answers of those that gave one.

        *calls*: server id -> the method's name and its arguments. When this returns, servers that can't be reached, are
        silent, or fail in the call have been reported and killed (`lose`). Raises Interrupted, but only after all calls
        have been sent; then only servers that are known to be dead have been reported.
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

    def ask_without_killing(self, *asked: tuple[Any, ...]) -> list[dict[int, Any]]:
        """Call these methods, each with its arguments, of all running servers.

        Returns, for each method, the answers by server id.

        Blocks for `PROBE_SECONDS` at most, or until Ctrl-C. A server that has not answered by then is not killed. When
        this returns, servers that failed in another way have been reported and killed.
        """
        deadline = time.monotonic() + PROBE_SECONDS
        sent = [send(self._to_running(dict.fromkeys(self._members.servers, call))) for call in asked]
        gathered = [gather(calls, deadline) for calls in sent]
        self.lose({ident: failure for results in gathered for ident, failure in results.failures.items()})
        return [results.answers for results in gathered]

    def _to_running(self, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Call]:
        found = {ident: self._members.servers[ident].remote for ident in calls}
        return {ident: (remote, *calls[ident]) for ident, remote in found.items() if remote is not None}

    def probe(self, idents: Collection[int]) -> set[int]:
        """Those of these servers that are alive, though they may be busy. Raises Interrupted.

        A server is alive if it answers an empty call over a connection of its own (or answers that it has no room for
        the connection), and if no write to its log has taken as long as a server may be silent. If a write to a log is
        under way, this blocks until it has ended or has taken that long. A server that does not answer, but has had
        processor time meanwhile, or waits for it, is alive as well if there are more than `FEW_SERVERS`.
        """
        activities = {ident: self._activity(ident) for ident in idents} if self._has_many_servers() else {}
        limit = min(PROBE_SECONDS, self.limit / 2)
        remotes: dict[int, transport.Remote] = {}
        alive: set[int] = set()
        for ident in idents:
            try:
                server = self._members.servers[ident]
                assert server.host is not None
                remotes[ident] = server.host.connect(server.address, limit)
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
        alive |= {ident for ident, is_hung in answers.items() if not is_hung}
        return alive | {ident for ident in activities.keys() - answers.keys() if self._is_active(ident, activities)}

    def _has_many_servers(self) -> bool:
        return len(self._members.links) > FEW_SERVERS

    def _is_active(self, ident: int, before: Mapping[int, tuple[int, bool]]) -> bool:
        """Whether a server does anything, or would if it had a processor. *before*: what it did a moment ago."""
        (earlier, _), (time, wants) = before[ident], self._activity(ident)
        return wants or time > earlier

    def _activity(self, ident: int) -> tuple[int, bool]:
        server = self._members.servers[ident]
        return server.host.activity(server.pid) if server.host is not None and server.pid else (0, False)

    def _ask_probes(
        self, remotes: Mapping[int, transport.Remote], limit: float, name: str, *args: Any
    ) -> dict[int, Any]:
        """Call these servers, all at the same time; returns the answers of those that gave one.

        The answer of a server without room for the call counts as None. When this returns, servers that failed in the
        call have been reported and killed.
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
        """Call a client, if it is running, and wait for the answer. A client that does not answer is killed."""
        if client.remote is not None:
            try:
                client.remote.call(name, *args)
            except transport.Failure as failure:
                self.lose_client(client, failure)

    def tell_clients(self, server: int, name: str, *args: Any) -> None:
        """Call all clients that have a connection to *server*, without waiting for answers.

        The clients carry this call out before any later one, since it comes over the same connection.
        """
        for client in self._members.clients.values():
            if server in client.connections and client.remote is not None:
                try:
                    client.remote.tell(name, *args)
                except transport.Failure as failure:
                    self.lose_client(client, failure)

    # -- deaths --------------------------------------------------------------------------------------------

    def notice_deaths(self) -> None:
        """Report the servers and clients that have died by themselves. From then on they count as killed."""
        for end in self._members.ended():
            if isinstance(end, Client):
                self.lose_client(end, _ending(end))
            else:
                self.lose({end.ident: _ending(end)})
                end.loss = None
                if end.watchdog is not None and not end.watchdog.alive:
                    self.drop_watchdog(end)

    def lose(self, failures: Mapping[int, transport.Failure]) -> None:
        """Report servers that have died, are silent or have failed in a call, and make sure that they are dead."""
        lost = [ident for ident in failures if self._members.servers[ident].running]
        for ident in lost:
            self._report(ident, _how_lost(self._members.servers[ident], failures[ident], self.limit))
        if lost:  # it is empty for nearly every command
            self.take_down(lost)

    def take_down(self, idents: Iterable[int]) -> None:
        """Kill servers. When this returns, they are gone, their neighbours have removed the links to them, and each
        client learns of it before any later call."""
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

        A watchdog that does not do so is killed together with its server. If waiting is interrupted, the servers are
        killed from here, and their watchdogs reap them later.
        """
        by_ident = {server.ident: server for server in servers}
        watchdogs = {ident: server.watchdog for ident, server in by_ident.items()}
        sent = send({ident: (watchdog, "kill") for ident, watchdog in watchdogs.items() if watchdog is not None})
        gathered = gather(sent, time.monotonic() + self.limit / 2)
        for ident in sent:
            server = by_ident[ident]
            by_force = ident in gathered.interrupted and server.pid
            if by_force and _kill(server, server.pid):
                continue
            if ident not in gathered.answers:
                self.drop_watchdog(server)  # the call that it may still be carrying out ends as well

    def drop_watchdog(self, server: Server) -> None:
        """Kill a watchdog, together with its server. The next joinServer starts another watchdog."""
        if server.watchdog is None:
            return
        self._members.unwatch(server.watchdog)
        server.watchdog = None
        if server.pid:
            _kill(server, server.pid)
        _kill(server, server.watchdog_pid)

    def forget_process(self, server: Server) -> None:
        """Note that a server's process has ended."""
        server.pid = 0
        if server.remote is not None:
            self._members.unwatch(server.remote)
            server.remote = None

    def lose_client(self, client: Client, failure: transport.Failure) -> None:
        """Report a client that has died, is silent or has failed in a call, and make sure that it is dead."""
        if client.remote is None:
            return
        self._report(client.ident, _how_lost(client, client.loss or failure, self._timeout))
        self._members.unwatch(client.remote)
        client.remote = None
        client.connections = []
        self.kill_client(client)

    def kill_client(self, client: Client) -> None:
        """Kill a client's process, if there is one."""
        pid, client.pid = client.pid, 0  # only once, since the system may soon give the id to another process
        if pid:
            _kill(client, pid)


def _kill(end: Server | Client, pid: int) -> bool:
    """Kill a process of a member; returns whether it is gone, as far as it can be known."""
    assert end.host is not None
    return end.host.kill(pid, EXIT_PATIENCE_SECONDS)


def _ending(end: Server | Client) -> transport.Failure:
    """How a member whose connection has ended was lost."""
    if end.loss is not None:
        return end.loss
    return transport.Failure() if end.remote is None or end.remote.alive else end.remote.ended()


def _how_lost(end: Server | Client, failure: transport.Failure, limit: float) -> str:
    """The description of a loss, for the user. *limit*: how long the member was allowed to be silent, in seconds."""
    if end.host is not None and end.host.is_lost:
        return f"{end.kind} {end.ident} died with its host, {end.host.name}"
    if isinstance(failure, transport.Silent):
        return f"{end.kind} {end.ident} made no progress for {limit:g} s, and was killed"
    if isinstance(failure, transport.RemoteError):
        return f"{end.kind} {end.ident} failed, and was killed: {failure}"
    return f"{end.kind} {end.ident} died"
