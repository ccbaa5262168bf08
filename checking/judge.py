"""A judge of small histories that tries every way in which gossip can have run.

May live here: what docs/semantics.md and docs/history.md say, and nothing else: `Judge` is an opinion of its own, which
the tests compare with that of scripts/check.py. May not: anything of checker.py and the rooms that it uses.

For each key, `Judge` keeps *all* states that the servers can be in together. A state says which version each server
holds, and which versions are on their way over a link: each that a server has held since the link was made may still
arrive at its neighbour, however late. Between two lines of the history any number of versions may arrive, and so they
may while a get asks one server after another. States that contradict a line are struck out, and where no state is left,
the history is invalid. That takes exponential time, so it is only for a handful of servers and lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Held = tuple[tuple[int, int], ...]
"""(server, version), sorted."""

Sent = frozenset[tuple[int, int, int]]
"""(source, target, version): what may still arrive at the target, and would raise what it holds."""

State = tuple[Held, Sent]


class _Wrong(Exception):
    """No run can have left this line."""


class Judge:
    """Reads the text of a history, which must be well formed."""

    def __init__(self, text: str) -> None:
        header, *self._lines = map(json.loads, text.splitlines())
        self._gossip = header["gossip_interval"] > 0
        self._running: set[int] = set()
        self._ever: set[int] = set()
        self._died: set[int] = set()
        self._links: set[frozenset[int]] = set()
        self._lingering: set[frozenset[int]] = set()  # of servers that were found dead by the command that runs
        self._clients: dict[int, list[int]] = {}
        self._seen: dict[tuple[int, str], int] = {}
        self._writes: dict[str, dict[int, str]] = {}
        self._states: dict[str, set[State]] = {}
        for line in self._lines:
            if line["f"] in ("put", "get"):
                self._states[line["value"][0]] = {((), frozenset())}
            elif line["f"] == "printStore" and line["type"] == "ok":
                for key, _ in line["value"]:
                    self._states[key] = {((), frozenset())}
        self._changes: dict[str, Callable[..., None]] = {
            "joinServer": self._join_server,
            "killServer": self._kill_server,
            "died": self._find_dead,
            "joinClient": self._join_client,
            "createConnection": self._create_connection,
            "breakConnection": self._break_connection,
            "shapeConnection": lambda *_: None,
            "stabilize": self._stabilize,
        }
        self._answers = {"put": self._put, "get": self._get, "printStore": self._print_store}

    def is_valid(self) -> bool:
        """Whether any run can have left this history."""
        try:
            for line in self._lines:
                if line["type"] == "invoke":
                    self._died.clear()
                else:
                    self._let_gossip()
                    self._take(line)
                    if line["f"] != "died":
                        self._lingering.clear()
        except _Wrong:
            return False
        return True

    def _take(self, line: dict[str, Any]) -> None:
        """Let the line of a finished command take effect. Raises _Wrong."""
        if line["f"] in self._changes:
            self._changes[line["f"]](*line["value"])
        elif line["type"] == "fail":
            if self._usable(line["process"]):
                raise _Wrong
        else:
            self._answers[line["f"]](line)

    # -- servers, links and connections --------------------------------------------------------------------

    def _join_server(self, server: int) -> None:
        for other in self._running:
            self._link(server, other)
        self._running.add(server)
        if server not in self._ever:
            self._ever.add(server)
            for key, states in self._states.items():
                self._states[key] = {(tuple(sorted((*held, (server, 0)))), sent) for held, sent in states}

    def _link(self, one: int, other: int) -> None:
        """Nothing arrives over a new link that was sent over an old one."""
        link = frozenset((one, other))
        if link not in self._links:
            self._links.add(link)
            for key, states in self._states.items():
                self._states[key] = {
                    (held, frozenset(way for way in sent if link != {*way[:2]})) for held, sent in states
                }

    def _kill_server(self, server: int) -> None:
        self._running.discard(server)
        self._links = {link for link in self._links if server not in link}

    def _find_dead(self, server: int) -> None:
        self._died.add(server)
        self._lingering |= {link for link in self._links if server in link}
        self._kill_server(server)

    def _join_client(self, client: int, server: int) -> None:
        self._clients.setdefault(client, [])
        self._connect(client, server)

    def _create_connection(self, one: int, other: int) -> None:
        if not self._connect(one, other) and not self._connect(other, one):
            self._link(one, other)

    def _break_connection(self, one: int, other: int) -> None:
        self._links.discard(frozenset((one, other)))
        for client, server in ((one, other), (other, one)):
            if server in self._clients.get(client, ()):
                self._clients[client].remove(server)

    def _connect(self, client: int, server: int) -> bool:
        if client not in self._clients:
            return False
        if server not in self._clients[client]:
            self._clients[client].append(server)
        return True

    # -- what moves versions -------------------------------------------------------------------------------

    def _let_gossip(self) -> None:
        if not self._gossip:
            return
        ways = {way for one, other in map(tuple, self._links | self._lingering) for way in ((one, other), (other, one))}
        for key, states in self._states.items():
            border = [self._send(dict(held), sent, ways) for held, sent in states]
            found: dict[Held, list[Sent]] = {}
            while border:
                held, sent = border.pop()
                known = found.setdefault(held, [])
                if any(sent <= other for other in known):
                    continue  # whatever this state can become, another one can become as well
                known[:] = [other for other in known if not other <= sent]
                known.append(sent)
                border += [self._send({**dict(held), target: version}, sent, ways) for _, target, version in sent]
            self._states[key] = {(held, sent) for held, known in found.items() for sent in known}

    @staticmethod
    def _send(held: dict[int, int], sent: Sent, ways: set[tuple[int, int]]) -> State:
        """The state in which each server has sent what it holds to its neighbours."""
        on_their_way = {way for way in sent if way[:2] in ways} | {(one, other, held[one]) for one, other in ways}
        return tuple(sorted(held.items())), frozenset(way for way in on_their_way if way[2] > held[way[1]])

    def _stabilize(self) -> None:
        for key, states in self._states.items():
            after = set()
            for held, sent in states:
                state = dict(held)
                for server in self._running:
                    reached = {server}
                    while True:
                        more = {end for link in self._links if link & reached for end in link} - reached
                        if not more:
                            break
                        reached |= more
                    largest = max(state[other] for other in reached)
                    for other in reached:
                        state[other] = largest
                after.add((tuple(sorted(state.items())), sent))
            self._states[key] = after

    # -- puts and answers ----------------------------------------------------------------------------------

    def _usable(self, client: int) -> list[int]:
        return [server for server in self._clients.get(client, ()) if server in self._running]

    def _before(self, client: int, server: int) -> list[int]:
        """The servers that a client must have asked before this one, which may have been found dead since."""
        connections = self._clients.get(client, [])
        if server not in connections or server not in self._running | self._died:
            raise _Wrong
        return [other for other in connections[: connections.index(server)] if other in self._running]

    def _put(self, line: dict[str, Any]) -> None:
        key, value = line["value"]
        version = line["timestamp"]
        if any(version <= other for writes in self._writes.values() for other in writes):
            raise _Wrong
        self._writes.setdefault(key, {})[version] = value
        if line["type"] == "ok":
            if self._before(line["process"], line["server"]):
                raise _Wrong
            self._states[key] = self._with_write(key, line["server"], version)
            self._seen[line["process"], key] = version
        for server in self._died & set(self._clients[line["process"]]):  # it may have logged the put
            self._states[key] |= self._with_write(key, server, version)
        self._let_gossip()  # one that died may have passed it on before

    def _with_write(self, key: str, server: int, version: int) -> set[State]:
        return {(tuple(sorted({**dict(held), server: version}.items())), sent) for held, sent in self._states[key]}

    def _get(self, line: dict[str, Any]) -> None:
        client, (key, value) = line["process"], line["value"]
        usable, seen = self._usable(client), self._seen.get((client, key), 0)
        answer = line.get("answer")
        if answer == "ERR_DEP":
            if not seen or not (usable or self._died & set(self._clients.get(client, ()))):
                raise _Wrong
            self._pass_over(key, usable, seen)
            return
        server = line["server"]
        before = self._before(client, server)
        version = self._version(key, value, 0 if answer else line["timestamp"])
        if version < seen:
            raise _Wrong
        self._pass_over(key, before, seen)
        self._strike(key, lambda state: state[server] == version)
        self._seen[client, key] = version

    def _pass_over(self, key: str, servers: list[int], seen: int) -> None:
        for server in servers:
            self._strike(key, lambda state, server=server: state[server] < seen)
            self._let_gossip()

    def _print_store(self, line: dict[str, Any]) -> None:
        server = line["server"]
        if server not in self._running:
            raise _Wrong
        shown = {
            key: self._version(key, value, version)
            for (key, value), version in zip(line["value"], line["timestamp"], strict=True)
        }
        for key in self._states:
            version = shown.get(key, 0)
            self._strike(key, lambda state, version=version: state[server] == version)

    def _version(self, key: str, value: str | None, version: int) -> int:
        if version and self._writes.get(key, {}).get(version) != value:
            raise _Wrong
        return version

    def _strike(self, key: str, fits: Any) -> None:
        self._states[key] = {state for state in self._states[key] if fits(dict(state[0]))}
        if not self._states[key]:
            raise _Wrong
