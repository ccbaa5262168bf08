#!/usr/bin/env python3
"""Says whether a history (master.py --history FILE) is as the contract promises, and if not, which lines show it.

    scripts/check.py FILE             valid, invalid or unknown, and why; the exit status is 0, 1 or 2
    scripts/check.py --json FILE      the same for programs

What is judged: that each client asked the server that it should have; that reads are of values that were written to
that key; Read Your Writes and Monotonic Reads; that ERR_DEP and ERR_KEY were said only where, and always where, they
were due; that after stabilize, servers which can reach each other show the same, the last put that any of them held;
that a server which was killed comes back with what it had. As information: how often a server was seen to break
Monotonic Writes and Writes Follow Reads, which are not promised across keys.

Gossip is not in a history. Where it could explain an answer, the answer is right. docs/history.md has the format, and
says more about the verdicts. None of the store's own modules is used here: this is a second opinion.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

import environment

environment.enter(__name__, ())

import argparse
import io
import json
import re
from bisect import bisect_left
from collections import deque
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from checking.spread import LINE, Contradiction, KeyLog, Timeline, Undecided, explain
from scripts.shared import run_main

FORMAT = 1
SHORT = 40
"""Longer values are kept as hashes."""

IDS = {
    "joinServer": 1,
    "killServer": 1,
    "joinClient": 2,
    "breakConnection": 2,
    "createConnection": 2,
    "stabilize": 0,
    "printStore": 1,
    "died": 1,
    "warning": 0,
}
"""How many ids a command has, or what happened by itself; a put and a get have something else."""

KINDS = frozenset(("invoke", "ok", "fail", "info"))
NAMES = frozenset((*IDS, "put", "get"))

EXCUSES = (
    (r"(?:server|client) (\d+) is not running", "down"),
    (r"server (\d+) (?:runs|is running) already", "up"),
    (r"id (\d+) is (?:taken by a client|a client's, not a server's)", "client"),
    (r"id (\d+) is (?:taken by a server|a server's, not a client's)", "server"),
    (r"id (\d+) is unknown.*", "unknown"),
    (r"client (\d+) has no connection", "unusable"),
    (r"client (\d+) has only server \d+, which is not running", "unusable"),
    (r"none of the servers of client (\d+) is running.*", "unusable"),
)
"""What commands give as reasons why they failed, where the history tells whether it is so. There are other reasons."""


class Invalid(Exception):
    """The history shows something that must not be; *lines* are those which show it."""

    def __init__(self, text: str, *lines: int) -> None:
        super().__init__(text)
        self.lines = sorted({line for line in lines if line > 0})


class Impossible(Invalid):
    """What a server showed of a key, and could not have held; what the lines say is still to be filled in."""

    def __init__(
        self,
        name: str,
        server: int,
        line: int,
        written: int,
        because: list[tuple[int, int]],
        cuts: list[int],
        otherwise: str,
    ) -> None:
        super().__init__("", line, written, *(reason for reason, _ in because), *cuts)
        self.name = name
        self.server = server
        self.line = line
        self.written = written
        self.because = because
        """Lines, and which server it is of which they say something."""
        self.cuts = cuts
        """Lines that have cut the ways by which it might have come."""
        self.otherwise = otherwise
        """What to say where there is nothing else."""


class Unknown(Exception):
    """Nothing can be said; the text says why."""


class Verdict(NamedTuple):
    """What is to be said of a history."""

    verdict: str
    why: str
    lines: list[int]
    operations: int
    broken: dict[str, list[str]]
    """Guarantee that is not promised -> the first few cases where it was seen broken, behind their number."""


class Write(NamedTuple):
    """A put, under its timestamp."""

    line: int
    value: str | bytes
    session: int


class Seen(NamedTuple):
    """The newest version of a key that a session had seen, from this line on."""

    line: int
    version: int
    own: bool
    """Whether it had written it; else it had read it."""


class Key:
    """What is known of a key."""

    def __init__(self) -> None:
        self.writes: dict[int, Write] = {}
        self.log = KeyLog()
        self.sessions: dict[int, list[Seen]] = {}
        """By session, rising."""


class Client:
    """A client's session, and its connections in order."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.connections: dict[int, int] = {}
        """Server -> the line that has made the connection."""
        self.broken: dict[int, int] = {}
        """Server -> the last line that has broken it."""


class Checker:
    """Takes a history line by line. Raises Invalid and Unknown."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.timeline = Timeline(gossips=header["gossip_interval"] > 0)
        self.kept = bool(header["kept_stores"])
        """Whether servers may have begun with something."""
        self.operations = 0
        self.doubt: tuple[int, str] | None = None
        """From which line on the history doesn't say all that happened, and why."""
        self.undecided = 0
        self.broken: dict[str, list[str]] = {"Monotonic Writes": [], "Writes Follow Reads": []}
        self.broken_count = dict.fromkeys(self.broken, 0)
        self.keys: dict[str, Key] = {}
        self._open: dict[str, Key] = {}
        self._clients: dict[int, Client] = {}
        self._sessions = 0
        self._first = 0
        self._newest = 0
        self._newest_line = 0
        self._under_way: dict[object, deque[tuple[int, str, Any]]] = {}
        self._deaths: list[tuple[int, int]] = []
        self._ghosts: dict[int, tuple[int, list[int]]] = {}
        self._kinds: dict[int, tuple[str, int]] = {}  # id -> "server" or "client", and the line that made it one
        self._fates: dict[int, tuple[int, str]] = {}  # id -> what happened to it last, and in which line
        self._time = 0
        self._prints: dict[int, int] = {}
        self._held: dict[int, dict[int, int]] = {}  # server -> session -> line of its newest write that is known there

    # -- lines ---------------------------------------------------------------------------------------------

    def take(self, line: int, said: dict[str, Any]) -> None:
        """Take a line."""
        kind, f, process, value = said["type"], said["f"], said["process"], said["value"]
        if said["index"] != line - 2:
            raise Unknown(f"line {line}: its index is {said['index']}, not {line - 2}: lines are missing, or too many")
        if said["time"] < self._time:
            raise Unknown(f"line {line}: its time is before that of the line before")
        self._time = said["time"]
        if kind == "invoke":
            self._under_way.setdefault(process, deque()).append((line, f, value))
            return
        if f == "died":
            self._died(line, value[0])
            return
        if f == "warning":
            self._doubt(line, said["error"])
            return
        waiting = self._under_way.get(process)
        if not waiting:
            raise Unknown(f"line {line}: what has begun it is missing")
        began, asked_f, asked = waiting.popleft()
        answered = asked if f == "printStore" or (f == "get" and kind == "ok" and value[:1] == asked[:1]) else value
        if (asked_f, asked) != (f, answered):
            raise Unknown(f"line {line}: it doesn't fit line {began}, which has begun it")
        self.operations += 1
        if kind == "ok":
            if f == "get":
                self._get(line, began, process, said)
            elif f == "put":
                self._put(line, began, process, said)
            elif f == "printStore":
                self._print_store(line, began, asked[0], said)
            else:
                self._change(line, f, asked)
        elif kind == "info":
            self._info(line, began, process, said)
        else:
            self._fail(line, f, said["error"])
        self.timeline.settle(LINE * line)

    def finish(self) -> None:
        """There are no more lines."""
        for name, key in self._open.items():
            self._explain(name, key)

    def _doubt(self, line: int, why: str) -> None:
        if self.doubt is None:
            self.doubt = line, why

    # -- topology ------------------------------------------------------------------------------------------

    def _change(self, line: int, f: str, ids: list[int]) -> None:
        time = LINE * line
        timeline = self.timeline
        if f == "stabilize":
            self._stabilize(time)
        elif f == "joinServer":
            self._need_kind(line, ids[0], "server")
            if ids[0] in timeline.running:
                raise Invalid(f"line {line}: server {ids[0]} was started, but it ran already", line)
            timeline.start(ids[0], time)
            self._fates[ids[0]] = line, "was started"
        elif f == "killServer":
            self._need_running(line, ids[0])
            timeline.stop(ids[0], time)
            self._fates[ids[0]] = line, "was killed"
        elif f == "joinClient":
            self._need_kind(line, ids[0], "client")
            self._need_running(line, ids[1])
            if ids[0] not in self._clients:
                self._sessions += 1
                self._clients[ids[0]] = Client(self._sessions)
                self._fates[ids[0]] = line, "was started"
            self._clients[ids[0]].connections.setdefault(ids[1], line)
        else:
            self._change_connection(line, f == "createConnection", *ids)

    def _change_connection(self, line: int, make: bool, one: int, other: int) -> None:
        for ident in (one, other):
            if ident not in self._kinds:
                raise Invalid(f"line {line}: {ident} is neither a server nor a client", line)
        if self._kinds[other][0] == "client":
            one, other = other, one
        client = self._clients.get(one)
        if one == other or self._kinds[other][0] == "client":
            what = "itself" if one == other else "another client"
            raise Invalid(f"line {line}: {self._kinds[one][0]} {one} can have no connection to {what}", line)
        if make:
            self._need_running(line, other)
            if client is not None:
                client.connections.setdefault(other, line)
            else:
                self._need_running(line, one, self._kinds[one][0])
                self.timeline.link(one, other, LINE * line)
        elif client is None:
            self.timeline.unlink(one, other, LINE * line)
        elif client.connections.pop(other, None):
            client.broken[other] = line

    def _need_kind(self, line: int, ident: int, kind: str) -> None:
        """An id once used keeps its kind."""
        known, since = self._kinds.setdefault(ident, (kind, line))
        if known != kind:
            raise Invalid(f"line {line}: {ident} can't be a {kind}: it is a {known}'s since line {since}", since, line)

    def _need_running(self, line: int, ident: int, kind: str = "server") -> None:
        if ident not in self.timeline.running:
            why, since = self._fate_of(ident, kind)
            raise Invalid(f"line {line}: {why}, so this can't be done", since, line)

    def _fate_of(self, ident: int, kind: str) -> tuple[str, int]:
        """What became of a server or client, and the line that says so, or 0."""
        known, since = self._kinds.get(ident, (kind, 0))
        if known != kind:
            return f"{ident} is a {known}'s id, not a {kind}'s (line {since})", since
        since, what = self._fates.get(ident, (0, ""))
        return f"{kind} {ident} {f'{what} in line {since}' if since else 'was never started'}", since

    def _died(self, line: int, ident: int) -> None:
        began = self._under_way.get("master")
        _, f, ids = began[0] if began else (0, "", [])
        is_starting = f in ("joinServer", "joinClient") and ids[0] == ident
        if is_starting:
            self._need_kind(line, ident, "server" if f == "joinServer" else "client")
        if ident not in self.timeline.running and ident not in self._clients:
            if not is_starting:
                why, since = self._fate_of(ident, "server")
                raise Invalid(f"line {line}: {ident} can't have died: {why}", since, line)
            if f == "joinServer":
                self.timeline.start(ident, LINE * line - 2)  # it had its links for a moment
        self._fates[ident] = line, "died"
        client = self._clients.pop(ident, None)
        if client is not None:
            self._ghosts[ident] = line, list(client.connections)
        if ident in self.timeline.running:
            self._deaths.append((line, ident))
            if f == "stabilize":
                self.timeline.burst(LINE * line)  # what had moved until then, has moved
            self.timeline.die(ident, LINE * line)

    def _stabilize(self, time: int) -> None:
        if self.timeline.is_whole():
            for name in [name for name, key in self._open.items() if key.log.can_close()]:
                key = self._open.pop(name)
                self._explain(name, key)
                key.log.close(time)
        self.timeline.stabilize(time)

    def _explain(self, name: str, key: Key) -> None:
        try:
            explain(self.timeline, key.log)
        except Undecided:
            self.undecided += 1
        except Contradiction as contradiction:
            raise self._invalid(name, key, contradiction) from None

    def _fail(self, line: int, f: str, error: str) -> None:
        """A command has done nothing; but what it gives as the reason must be so."""
        if f == "stabilize":
            self.timeline.burst(LINE * line)  # some updates may have moved before it failed
        for pattern, excuse in EXCUSES:
            found = re.fullmatch(pattern, error)
            against = self._speaks_against(excuse, int(found[1])) if found else None
            if against is not None:
                raise Invalid(f'line {line}: {f} failed, because "{error}"; but {against[0]}', against[1], line)

    def _speaks_against(self, excuse: str, ident: int) -> tuple[str, int] | None:
        """What there is against a command's reason, and the line that says so, or 0."""
        kind, since = self._kinds.get(ident, ("nobody", 0))
        is_up = ident in self.timeline.running or ident in self._clients
        if excuse == "down":
            return self._fate_of(ident, kind) if is_up else None
        if excuse == "up":
            return None if ident in self.timeline.running else self._fate_of(ident, "server")
        if excuse == "unusable":
            connections = self._clients[ident].connections if ident in self._clients else {}
            made, server = min(
                ((at, one) for one, at in connections.items() if one in self.timeline.running), default=(0, 0)
            )
            return (f"it has a connection to server {server} since line {made}", made) if made else None
        if kind == ("nobody" if excuse == "unknown" else excuse):
            return None
        return (f"it is a {kind}'s since line {since}" if since else "it is nobody's"), since

    # -- puts and gets -------------------------------------------------------------------------------------

    def _key(self, name: str) -> Key:
        key = self.keys.get(name)
        if key is None:
            key = self.keys[name] = Key()
            if self.kept:
                for server, time in self._prints.items():
                    key.log.saw(server, time, 0, self.timeline)  # the store was printed without it
        return key

    def _usable(self, line: int, began: int, client: int) -> tuple[list[int], list[int]]:
        """The servers that a client could use, and those that it had to; one found dead meanwhile may have answered."""
        if client not in self._clients:
            why, since = self._fate_of(client, "client")
            raise Invalid(f"line {line}: {why}, so it can't be answered", since, line)
        connections, running = self._clients[client].connections, self.timeline.running
        certain = [server for server in connections if server in running]
        died = self._died_since(began)
        return [server for server in connections if server in running or server in died] if died else certain, certain

    def _died_since(self, began: int) -> set[int]:
        if not self._deaths or self._deaths[-1][0] < began:
            return set()
        return {ident for at, ident in self._deaths if at > began}

    def _put(self, line: int, began: int, client: int, said: dict[str, Any]) -> None:
        name, value = said["value"]
        server, version = said["server"], said["timestamp"]
        usable, certain = self._usable(line, began, client)
        if server not in usable or any(other in certain for other in usable[: usable.index(server)]):
            raise self._wrong_turn(line, client, certain, server, "took the put")
        key = self._write(line, client, name, value, version)
        time = LINE * line
        key.log.put(server, time, version, self.timeline)
        for other in self._died_since(began) & self._clients[client].connections.keys() - {server}:
            key.log.may_put(other, time, version, later=False, timeline=self.timeline)
        self.timeline.settle(time + 2)  # one that died may have passed the put on before
        self._open[name] = key
        session = self._clients[client].session
        self._see(key, session, line, version, own=True)
        self._held.setdefault(server, {})[session] = line

    def _write(self, line: int, client: int, name: str, value: str, version: int) -> Key:
        if version <= self._newest:
            text = f"line {line}: timestamp {version} is not larger than that of the put in line {self._newest_line}"
            raise Invalid(text, self._newest_line, line)
        self._first = self._first or version
        self._newest, self._newest_line = version, line
        key = self._key(name)
        session = self._clients[client].session if client in self._clients else 0
        key.writes[version] = Write(line, _kept(value), session)
        return key

    def _info(self, line: int, began: int, client: int, said: dict[str, Any]) -> None:
        if said["f"] != "put" or "timestamp" not in said:
            self._doubt(line, f"whether {said['f']} was carried out is not known")
            return
        name, value = said["value"]
        key = self._write(line, client, name, value, said["timestamp"])
        died_at, connections = self._ghosts.get(client, (0, []))
        if client in self._clients:
            died_at, connections = line, list(self._clients[client].connections)
        died = self._died_since(began)
        for server in connections:
            alive = server in self.timeline.running  # the put may still be on its way there
            if died_at > began and (alive or server in died):
                key.log.may_put(server, LINE * line, said["timestamp"], later=alive, timeline=self.timeline)
        self.timeline.settle(LINE * line + 2)
        self._open[name] = key

    def _get(self, line: int, began: int, client: int, said: dict[str, Any]) -> None:
        name, value = said["value"]
        usable, certain = self._usable(line, began, client)
        session = self._clients[client].session
        key = self._key(name)
        seen = key.sessions.get(session, ())
        dependency = seen[-1].version if seen else 0
        answer = said.get("answer")
        if answer == "ERR_DEP":
            if not dependency:
                text = f"line {line}: client {client} got ERR_DEP for {_shown(name)}"
                raise Invalid(f"{text}, but it had neither written nor read it", line)
            asked = certain
            if not usable:
                raise Invalid(f"line {line}: client {client} has no server to ask", line)
        else:
            server = said["server"]
            asked = [other for other in usable[: usable.index(server)] if other in certain] if server in usable else []
            if server not in usable or (asked and not dependency):
                raise self._wrong_turn(line, client, certain, server, "answered")
        time = LINE * line
        try:
            for other in asked:
                if key.writes or self.kept:
                    key.log.at_most(other, time, dependency - 1, self.timeline)
                    self._open[name] = key
                time += 2  # one after another: gossip may run in between
            self.timeline.settle(time)
            if answer != "ERR_DEP":
                version = 0 if answer == "ERR_KEY" else self._read(line, name, key, value, said["timestamp"])
                self._keep_session(line, client, name, value, version, seen)
                self._observe(line, time, name, key, server, version)
                self._compare(line, name, key, server, version)
                if version:
                    self._see(key, session, line, version, own=False)
        except Contradiction as contradiction:
            raise self._invalid(name, key, contradiction) from None

    def _wrong_turn(self, line: int, client: int, usable: list[int], server: int, what: str) -> Invalid:
        """That a client turned to a server though it should not have, and the lines that say why."""
        connections, broken = self._clients[client].connections, self._clients[client].broken
        if server not in connections:
            since = broken.get(server, 0)
            why = f"client {client} has no connection to it{f' since line {since}' if since else ''}"
        elif server not in self.timeline.running:
            why, since = self._fate_of(server, "server")
        else:
            since = connections[server]
            turn = f"it was server {usable[0]}'s turn, whose connection was made in line {connections[usable[0]]}"
            text = f"{turn}; that to server {server} was made in line {since}"
            return Invalid(f"line {line}: server {server} {what}, but {text}", connections[usable[0]], since, line)
        return Invalid(f"line {line}: server {server} {what}, but {why}", since, line)

    def _read(self, line: int, name: str, key: Key, value: str, version: int) -> int:
        """The version that was read; it must have been written, with that value."""
        write = key.writes.get(version)
        if write is None:
            if self.kept and (not self._first or version < self._first):
                key.writes[version] = Write(0, _kept(value), 0)
                key.log.earlier.add(version)
                return version
            if self.kept:
                raise Unknown(
                    f"line {line}: {_shown(name)}={_shown(value)} is not of this history, and not older than it either"
                )
            raise Invalid(f"line {line}: it shows {_shown(name)}={_shown(value)}, which nobody had put there", line)
        if write.value != _kept(value):
            text = f"line {line}: it shows {_shown(name)}={_shown(value)}"
            raise Invalid(f"{text}, but what was put there at that time is another value", write.line, line)
        return version

    def _keep_session(
        self, line: int, client: int, name: str, value: str | None, version: int, seen: list[Seen] | tuple[()]
    ) -> None:
        if not seen or version >= seen[-1].version:
            return
        before, newest = seen[-1], self.keys[name].writes[seen[-1].version]
        if version:
            written = self.keys[name].writes[version].line
            shown = f"read {_shown(name)}={_shown(value)}{f' (written in line {written})' if written else ''}"
        else:
            written, shown = 0, f"got ERR_KEY for {_shown(name)}"
        verb = "written" if before.own else "read"
        which = "Read Your Writes" if before.own else "Monotonic Reads"
        text = f"line {line}: client {client} {shown}, but it had itself {verb} {_shown(newest.value)}"
        raise Invalid(f"{text} in line {before.line} ({which})", written, before.line, line)

    def _see(self, key: Key, session: int, line: int, version: int, own: bool) -> None:
        seen = key.sessions.setdefault(session, [])
        if not seen or seen[-1].version < version:
            seen.append(Seen(line, version, own))

    def _print_store(self, line: int, began: int, asked: int, said: dict[str, Any]) -> None:
        server = said["server"]
        if server != asked:
            raise Invalid(f"line {line}: server {server} printed its store, but server {asked} was to", began, line)
        self._need_running(line, server)
        shown: dict[str, int] = {}
        last = b""
        for (name, value), version in zip(said["value"], said["timestamp"], strict=True):
            raw = name.encode("utf-8", "surrogateescape")
            if raw <= last:
                raise Invalid(f"line {line}: the store's keys are not sorted, at {_shown(name)}", line)
            last = raw
            shown[name] = self._read(line, name, self._key(name), value, version)
        missing = [name for name in self.keys if name not in shown] if len(shown) < len(self.keys) else []
        time = LINE * line
        for name, version in (*shown.items(), *dict.fromkeys(missing, 0).items()):
            try:
                self._observe(line, time, name, self.keys[name], server, version)
            except Contradiction as contradiction:
                raise self._invalid(name, self.keys[name], contradiction) from None
        for name, version in shown.items():
            self._compare(line, name, self.keys[name], server, version)
        self._prints[server] = time

    def _observe(self, line: int, time: int, name: str, key: Key, server: int, version: int) -> None:
        """A server has shown exactly this version, at one of the line's moments."""
        log = key.log
        if version:
            write = key.writes[version]
            held = self._held.setdefault(server, {})
            if held.get(write.session, 0) < write.line:
                held[write.session] = write.line
        if name not in self._open:
            if not key.writes and not self.kept:
                return
            if not log.tracks and version == log.base_at(server, self.timeline):
                return
            self._open[name] = key
        log.saw(server, time, version, self.timeline)

    def _compare(self, line: int, name: str, key: Key, server: int, version: int) -> None:
        """Does the server lack something that a write which it has came after?"""
        if version == max(key.log.newest, key.log.base):
            return
        for session, until in self._held[server].items() if server in self._held else ():
            seen = key.sessions.get(session)
            if seen and seen[-1].version > version and session:
                place = bisect_left(seen, until, key=lambda one: one.line) - 1
                if place >= 0 and seen[place].version > version:
                    which = "Monotonic Writes" if seen[place].own else "Writes Follow Reads"
                    self.broken_count[which] += 1
                    if len(self.broken[which]) < 3:
                        done = "wrote" if seen[place].own else "read"
                        self.broken[which].append(
                            f"line {line}: server {server} has what a client wrote in line {until}, but of "
                            f"{_shown(name)} not yet what that client {done} before, in line {seen[place].line}"
                        )

    # -- reasons -------------------------------------------------------------------------------------------

    def _invalid(self, name: str, key: Key, found: Contradiction) -> Impossible:
        line, server = found.time // LINE, found.server
        write = key.writes.get(found.version)
        written = write.line if write else 0
        reasons = {(time // LINE, at) for time, at in found.because if time and (time, at) != (found.time, server)}
        if key.log.base and any(time == key.log.base_time for time, _ in found.because):
            reasons.add((key.writes[key.log.base].line, server))
        because = sorted(one for one in reasons if one[0] != written)
        cuts = [time // LINE for time in found.cuts]
        since = key.log.puts.get(found.version)
        if since is None:
            otherwise = f"but nothing has brought it to server {server}"
        elif self.timeline.gossips:
            otherwise = f"but since then no chain of links has led from server {since[0]} to server {server} in time"
        else:
            otherwise = f"but gossip is off, and no stabilize has brought it from server {since[0]} to server {server}"
        return Impossible(name, server, line, written, because, cuts, otherwise)


def _kept(value: str) -> str | bytes:
    if len(value) <= SHORT:
        return value
    return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _shown(value: str | bytes | None) -> str:
    if isinstance(value, bytes):
        return "(a long value)"
    text = (value or "").encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."


# -- reading, and telling ----------------------------------------------------------------------------------


def check(path: Path) -> Verdict:
    """Read a history, and judge it. Raises OSError."""
    checker: Checker | None = None
    undecided: str | None = None
    invalid: Invalid | None = None
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    undecided = (
                        f"line {line} is torn: the history ends in it; there is nothing wrong with what stands before"
                    )
                    break
                if checker is None:
                    checker = _begin(raw)
                else:
                    _take(checker, line, raw)
        if checker is None:
            raise Unknown("there is no header: line 1 must be that of a history")
        checker.finish()
    except Unknown as unknown:
        undecided = str(unknown)
    except Invalid as found:
        invalid = found
    operations = checker.operations if checker else 0
    broken = _broken(checker) if checker else {}
    if invalid is not None:
        doubt = checker.doubt if checker else None
        text = _sentence(path, invalid) if isinstance(invalid, Impossible) else str(invalid)
        if doubt is None or max(invalid.lines) < doubt[0]:
            return Verdict("invalid", text, invalid.lines, operations, broken)
        undecided = f"line {doubt[0]}: {doubt[1]}; that may explain this: {text}"
    if undecided is None and checker is not None and checker.undecided:
        undecided = f"for {checker.undecided} keys there are too many ways in which gossip can have run"
    return Verdict("unknown" if undecided else "valid", undecided or "", [], operations, broken)


def _begin(raw: bytes) -> Checker:
    try:
        header = json.loads(raw)
        found = header["history"]
        if found == FORMAT:
            return Checker(header)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unknown("there is no header: line 1 must be that of a history") from None
    raise Unknown(f"line 1: the history's format is {found!r}; this program knows {FORMAT}")


def _take(checker: Checker, line: int, raw: bytes) -> None:
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        raise Unknown(f"line {line} is not JSON") from None
    wrong = _misshapen(said)
    if wrong:
        raise Unknown(f"line {line}: not a line of a history: {wrong}")
    try:
        checker.take(line, said)
    except UnicodeEncodeError:
        raise Unknown(f"line {line}: not a line of a history: a key that stands for no bytes") from None


def _misshapen(said: Any) -> str:
    """What is wrong with the fields of a line, if anything is. Whoever reads them later relies on this."""
    if type(said) is not dict:
        return "it is no object"
    kind, f, value = said.get("type"), said.get("f"), said.get("value")
    if type(kind) is not str or kind not in KINDS:
        return f"its type is {_short(kind)}"
    if type(f) is not str or f not in NAMES:
        return f"no command is called {_short(f)}"
    is_operation = f in ("put", "get")
    if type(said.get("index")) is not int or type(said.get("time")) is not int or said["time"] < 0:
        return "its index or time is no number"
    process = said.get("process")
    if type(process) is not int if is_operation else process != "master":
        return f"{f} of process {_short(process)}"
    if f in ("died", "warning") and kind != "info":
        return f"{f} of type {kind}, not info"
    if kind in ("fail", "info") and type(said.get("error")) is not str:
        return "it gives no error"
    if type(value) is not list:
        return "its value is no list"
    if f == "printStore" and kind == "ok":
        return _misshapen_store(value, said)
    if is_operation:
        return _misshapen_operation(kind, f, value, said)
    if len(value) != IDS[f] or any(type(ident) is not int for ident in value):
        return f"{f} of {_short(value)}"
    return ""


def _misshapen_store(value: list[Any], said: dict[str, Any]) -> str:
    timestamps = said.get("timestamp")
    if type(said.get("server")) is not int:
        return "it doesn't say which server"
    if not all(type(pair) is list and len(pair) == 2 and type(pair[0]) is type(pair[1]) is str for pair in value):
        return "its value is no list of pairs"
    if type(timestamps) is not list or len(timestamps) != len(value) or not all(map(_is_timestamp, timestamps)):
        return "it has not one timestamp for each pair"
    return ""


def _misshapen_operation(kind: str, f: str, value: list[Any], said: dict[str, Any]) -> str:
    answer = said.get("answer")
    if answer is not None and (kind, f, answer) not in (("ok", "get", "ERR_KEY"), ("ok", "get", "ERR_DEP")):
        return f"{f} with the answer {_short(answer)}"
    has_value = f == "put" or (kind == "ok" and answer is None)
    if len(value) != 2 or type(value[0]) is not str or type(value[1]) is not (str if has_value else type(None)):
        return f"{f} of {_short(value)}{f' with the answer {answer}' if answer else ''}"
    has_server, has_timestamp = "server" in said, "timestamp" in said
    if kind == "ok" and (has_server, has_timestamp) != (answer != "ERR_DEP", answer is None):
        return f"{answer or f} with {'a' if has_server else 'no'} server and {'a' if has_timestamp else 'no'} timestamp"
    if (has_server and type(said["server"]) is not int) or (has_timestamp and not _is_timestamp(said["timestamp"])):
        return "its server or timestamp is no number"
    return ""


def _is_timestamp(found: Any) -> bool:
    return type(found) is int and found > 0


def _short(found: Any) -> str:
    """Something that should not be there, in short."""
    return (
        _shown(json.dumps(found)) if type(found) in (str, int, float, list, type(None)) else f"a {type(found).__name__}"
    )


def _broken(checker: Checker) -> dict[str, list[str]]:
    return {name: [str(checker.broken_count[name]), *cases] for name, cases in checker.broken.items()}


def _sentence(path: Path, found: Impossible) -> str:
    """Why something is impossible, with what the lines say."""
    because, cuts = found.because[:6], found.cuts[:6]
    wanted = {found.line, found.written, *(line for line, _ in because), *cuts}
    with path.open("rb") as file:
        said = {line: json.loads(raw) for line, raw in enumerate(file, 1) if line in wanted}
    text = f"line {found.line}: {_told(said[found.line], found.name, found.server)}"
    if found.written and found.written != found.line:
        text += f" (put in line {found.written} at server {said[found.written].get('server', '?')})"
    reasons = [f"line {line}: {_told(said[line], found.name, server)}" for line, server in because]
    reasons += [f"line {line}: {_told(said[line], found.name, None)}" for line in cuts]
    left = len(found.because) + len(found.cuts) - len(reasons)
    listed = "; ".join([*reasons, f"and {left} more lines"] if left else reasons)
    if found.because:
        return f"{text}, which can't be, because of {listed}"
    return f"{text}, {found.otherwise}{f', because of {listed}' if listed else ''}"


def _told(said: dict[str, Any], name: str, server: int | None) -> str:
    """What a line says of a key, in words."""
    f, process, value, at = said["f"], said["process"], said["value"], said.get("server")
    if f == "put":
        return f"client {process} put {_shown(name)}={_shown(value[1])} at server {at}"
    if f == "get" and said.get("answer") == "ERR_DEP":
        behind = "" if server is None else f", as if server {server} were behind"
        return f"client {process} got ERR_DEP for {_shown(name)}{behind}"
    if f == "get" and said.get("answer") == "ERR_KEY" and server in (None, at):
        return f"client {process} got ERR_KEY for {_shown(name)} from server {at}"
    if f == "get" and server in (None, at):
        return f"client {process} read {_shown(name)}={_shown(value[1])} from server {at}"
    if f == "get":
        return f"client {process} had its answer for {_shown(name)} from server {at}, as if server {server} were behind"
    if f == "printStore":
        shown = dict(value)
        what = f"{_shown(name)}={_shown(shown[name])}" if name in shown else f"no {_shown(name)}"
        return f"server {at}'s store shows {what}"
    return f"{f} {' '.join(map(str, value))}".rstrip()


def _told_of(path: Path, verdict: Verdict) -> list[str]:
    """The lines that tell of it."""
    if verdict.verdict == "valid":
        told = [f"valid: {verdict.operations} operations"]
    else:
        told = [f"{verdict.verdict}: {verdict.why}"]
    if verdict.lines:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                if line in verdict.lines:
                    text = raw.decode("ascii", "replace").rstrip("\n")
                    told.append(f"  {line}: {text if len(text) <= 300 else text[:297] + '...'}")
    for name, (count, *cases) in verdict.broken.items():
        if cases:
            told.append(f"not promised: {name} across keys was seen broken {count} times; {cases[0]}")
    if any(re.search(r"\bline [0-9]", text) for text in told):
        told.append(f"(lines are those of {path})")
    return told


def main() -> int:
    """Returns the exit status: 0 for valid, 1 for invalid, 2 for unknown and for wrong options."""
    parser = argparse.ArgumentParser(
        description="Says whether a history (master.py --history FILE) is as the contract promises.",
        epilog="The exit status is 0 for valid, 1 for invalid, 2 for unknown. docs/history.md says what each means.",
    )
    parser.add_argument("history", metavar="FILE", type=Path, help="what master.py --history FILE has written")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # keys and values may be anything
    try:
        verdict = check(options.history)
    except OSError as error:
        parser.exit(2, f"error: {options.history}: {error.strerror}\n")
    try:
        if options.json:
            print(json.dumps(verdict._asdict()))
        else:
            print("\n".join(_told_of(options.history, verdict)))
        sys.stdout.flush()
    except BrokenPipeError:  # nobody wants to read it; the status says it as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return {"valid": 0, "invalid": 1, "unknown": 2}[verdict.verdict]


if __name__ == "__main__":
    run_main(main)
