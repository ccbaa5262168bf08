"""What a master has seen of its sessions, and why a get is ERR_DEP.

May live here: remembering what each session has put and read, and where; finding the reasons of an ERR_DEP when it is
answered. May not: the sentences (control/explaining.py); what is written where.

A report has the traces of all processes (checking/reasons.py). Here is only what the master itself has seen, and what
the servers say when they are asked, right after the answer. Gossip may have moved something in between, and then that
is said. So that nothing else may have, `is_sure` says which gets can't be ERR_DEP: others should be under way alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import router
from control import explaining
from control.explaining import shown
from control.overview import Overview
from messages import Command, Outcome, Stored, Value

__all__ = ["Cluster", "Witness"]

PUTS = 100_000
"""Of how many puts it is remembered who made them: the last ones."""


class Cluster(Protocol):
    """What is asked of a cluster (`control.cluster.Cluster`)."""

    def overview(self) -> Overview:
        """What there is, as far as the master knows."""

    def connections(self, client: int) -> tuple[int, ...]:
        """A client's servers, in order; none where there is no such client."""

    def standing(self, key: bytes) -> Mapping[int, tuple[bytes, int] | None]:
        """What running servers have under a key: value and timestamp, None for nothing; of those that answer."""


class _Seen(NamedTuple):
    """The largest version that a session has seen of a key, whether it has put it itself, and in which line."""

    timestamp: int
    put: bool
    value: str
    where: str
    server: int
    """The server that last showed the session this version, or a later one."""
    life: int
    """In which of that server's lives it did so."""


class Witness:
    """Remembers what each session has put and read. It must be told of all outcomes, in the order of their effects."""

    def __init__(self, cluster: Callable[[], Cluster]) -> None:
        self._cluster = cluster
        self._sessions: dict[int, dict[bytes, _Seen]] = {}
        self._lives: dict[int, int] = {}
        self._ends: dict[int, tuple[str, str]] = {}
        """How a server's last life has ended, and where in the script."""
        self._known: dict[bytes, dict[int, int]] = {}
        """The largest timestamp that a server is known to have had, by key."""
        self._authors: dict[int, tuple[int, str]] = {}
        """The client that made a put, and the line of that put, by the put's timestamp."""
        self._order: deque[int] = deque()

    # -- what happens --------------------------------------------------------------------------------------

    def done(self, command: Command, outcome: Outcome, where: str) -> None:
        """A command was carried out, in the line *where* of the script."""
        if command.name == "joinServer":
            self._lives[command.ids[0]] = self._lives.get(command.ids[0], 0) + 1
        elif command.name == "killServer":
            self._ends[command.ids[0]] = ("had been killed", where)
        elif isinstance(outcome, Stored):
            self._remember_author(outcome.timestamp, command.ids[0], where)
            self._saw(command, outcome.server, outcome.timestamp, command.value, True, where)
        elif isinstance(outcome, Value):
            self._saw(command, outcome.server, outcome.timestamp, outcome.value, False, where)

    def uncertain(self, command: Command, timestamp: int, where: str) -> None:
        """A put may have been carried out."""
        self._remember_author(timestamp, command.ids[0], where)

    def died(self, ident: int) -> None:
        """A server or a client has died by itself. A client's session is gone with it."""
        self._sessions.pop(ident, None)
        self._ends[ident] = ("had died", "")

    def _remember_author(self, timestamp: int, client: int, where: str) -> None:
        self._authors[timestamp] = client, where
        self._order.append(timestamp)
        if len(self._order) > PUTS:
            self._authors.pop(self._order.popleft(), None)

    def _saw(self, command: Command, server: int, timestamp: int, value: bytes, put: bool, where: str) -> None:
        session = self._sessions.setdefault(command.ids[0], {})
        before, life = session.get(command.key), self._lives.get(server, 0)
        if before is not None and before.timestamp == timestamp:  # it goes on to owe this to the first sight of it
            session[command.key] = before._replace(server=server, life=life)
        else:
            session[command.key] = _Seen(timestamp, put, shown(value), where, server, life)
        self._known.setdefault(command.key, {})[server] = timestamp

    # -- questions -----------------------------------------------------------------------------------------

    def is_sure(self, command: Command) -> bool:
        """Whether a put, or a get of a client with one connection, can't be ERR_DEP.

        A server has all that it has shown to a session, as long as it lives.
        """
        if command.name == "put":
            return True
        (client,) = command.ids
        seen = self._sessions.get(client, {}).get(command.key)
        return seen is None or (
            self._cluster().connections(client) == (seen.server,) and seen.life == self._lives.get(seen.server, 0)
        )

    def why(self, command: Command) -> list[str]:
        """Why a get was ERR_DEP a moment ago, in sentences. Asks all servers."""
        cluster = self._cluster()
        standing = cluster.standing(command.key)
        overview = cluster.overview()
        return list(self._reasons(command, standing, overview))

    def _reasons(
        self, command: Command, standing: Mapping[int, tuple[bytes, int] | None], overview: Overview
    ) -> Iterator[str]:
        (client,), key = command.ids, shown(command.key)
        seen = self._sessions.get(client, {}).get(command.key)
        if seen is None:
            return
        yield explaining.seen(f"client {client}", key, explaining.Seen(seen.value, seen.put, seen.where))
        asked = [server for server in self._cluster().connections(client) if server in overview.links]
        for server in asked:
            if server in standing:
                yield self._had(server, standing[server], seen)
        able = [
            server
            for server, found in sorted(standing.items())
            if found is not None and found[1] >= seen.timestamp and server not in asked
        ]
        if able:
            yield from self._where(able, asked, overview)
        elif not any(found is not None and found[1] >= seen.timestamp for found in standing.values()):
            yield explaining.NOBODY_COULD
            yield from self._lost(command.key, seen, standing, overview)
        silent = sorted(overview.links.keys() - standing.keys())
        if silent and not able:
            yield explaining.silent(_names(silent))

    def _had(self, server: int, found: tuple[bytes, int] | None, seen: _Seen) -> str:
        if found is None:
            return explaining.had(f"server {server}", explaining.Had(None), bound=True)
        value, timestamp = found
        if timestamp >= seen.timestamp:
            return explaining.had_since(f"server {server}", shown(value))
        author, where = self._authors.get(timestamp, (None, ""))
        by = "" if author is None else f"client {author}"
        return explaining.had(f"server {server}", explaining.Had(shown(value), by, where, "older"), bound=True)

    @staticmethod
    def _where(able: list[int], asked: list[int], overview: Overview) -> Iterator[str]:
        """Sentences that say why a value that other servers have had not reached the servers that were asked."""
        yield explaining.somebody_could(_names(able))
        parts = router.components(overview.links)
        near = [server for server in able if any(server in part and not part.isdisjoint(asked) for part in parts)]
        yield explaining.not_moved(_names(near)) if near else explaining.PARTITIONED

    def _lost(
        self, key: bytes, seen: _Seen, standing: Mapping[int, tuple[bytes, int] | None], overview: Overview
    ) -> Iterator[str]:
        """What became of the servers that are known to have had it."""
        having = False
        for server, timestamp in sorted(self._known.get(key, {}).items()):
            if timestamp < seen.timestamp:
                continue
            if overview.servers.get(server) is None:
                having = True
                yield explaining.had_but(f"server {server}", *self._ends.get(server, ("had died", "")))
            elif server in standing:
                yield explaining.had_but(f"server {server}", "came back without it: its disk was lost or damaged")
            else:
                having = True  # it is silent: nobody knows
        if not having:
            yield explaining.nobody_has(shown(key))


def _names(servers: list[int]) -> list[str]:
    return [f"server {server}" for server in servers]
