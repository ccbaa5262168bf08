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

import argparse
import io
import json
import sys
from bisect import bisect_left
from collections import deque
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from spread import LINE, Contradiction, KeyLog, Timeline, Undecided, explain

FORMAT = 1
SHORT = 40
"""Longer values are kept as hashes."""


class Invalid(Exception):
    """The history shows something that must not be; *lines* are those which show it."""

    def __init__(self, text: str, *lines: int) -> None:
        super().__init__(text)
        self.lines = sorted({line for line in lines if line > 0})


class Impossible(Invalid):
    """What a server showed of a key, and could not have held; what the lines say is still to be filled in."""

    def __init__(self, name: str, server: int, line: int, written: int, because: list[int], otherwise: str) -> None:
        super().__init__("", line, written, *because)
        self.name = name
        self.server = server
        self.line = line
        self.written = written
        self.because = because
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
        self.connections: list[int] = []


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
        self._prints: dict[int, int] = {}
        self._held: dict[int, dict[int, int]] = {}  # server -> session -> line of its newest write that is known there

    # -- lines ---------------------------------------------------------------------------------------------

    def take(self, line: int, said: dict[str, Any]) -> None:
        """Take a line."""
        kind, f, process, value = said["type"], said["f"], said["process"], said["value"]
        if said["index"] != line - 2:
            raise Unknown(f"line {line}: its index is {said['index']}, not {line - 2}: lines are missing, or too many")
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
                self._get(line, process, said)
            elif f == "put":
                self._put(line, began, process, said)
            elif f == "printStore":
                self._print_store(line, said)
            else:
                self._change(line, f, asked)
        elif kind == "info":
            self._info(line, began, process, said)
        elif kind == "fail":
            if f == "stabilize":
                self.timeline.burst(LINE * line)
        else:
            raise Unknown(f"line {line}: no type of line is called {kind!r}")
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
            if ids[0] in timeline.running:
                raise Invalid(f"line {line}: server {ids[0]} was started, but it ran already", line)
            timeline.start(ids[0], time)
        elif f == "killServer":
            self._need_running(line, ids[0])
            timeline.stop(ids[0], time)
        elif f == "joinClient":
            self._need_running(line, ids[1])
            if ids[0] not in self._clients:
                self._sessions += 1
                self._clients[ids[0]] = Client(self._sessions)
            self._connect(*ids)
        else:
            self._change_connection(line, f == "createConnection", *ids)

    def _change_connection(self, line: int, make: bool, one: int, other: int) -> None:
        for client, server in ((one, other), (other, one)):
            if client in self._clients:
                if make:
                    self._need_running(line, server)
                    self._connect(client, server)
                elif server in self._clients[client].connections:
                    self._clients[client].connections.remove(server)
                return
        if make:
            self._need_running(line, one)
            self._need_running(line, other)
            self.timeline.link(one, other, LINE * line)
        else:
            self.timeline.unlink(one, other, LINE * line)

    def _connect(self, client: int, server: int) -> None:
        connections = self._clients[client].connections
        if server not in connections:
            connections.append(server)

    def _need_running(self, line: int, server: int) -> None:
        if server not in self.timeline.running:
            raise Invalid(f"line {line}: server {server} isn't running, so this can't be done", line)

    def _died(self, line: int, ident: int) -> None:
        client = self._clients.pop(ident, None)
        if client is not None:
            self._ghosts[ident] = line, client.connections
            return
        began = self._under_way.get("master")
        if began and began[0][1:] == ("joinServer", [ident]) and ident not in self.timeline.running:
            self.timeline.start(ident, LINE * line - 2)  # it had its links for a moment
        self._deaths.append((line, ident))
        if ident in self.timeline.running:
            if began and began[0][1] == "stabilize":
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

    # -- puts and gets -------------------------------------------------------------------------------------

    def _key(self, name: str) -> Key:
        key = self.keys.get(name)
        if key is None:
            key = self.keys[name] = Key()
            if self.kept:
                for server, time in self._prints.items():
                    key.log.saw(server, time, 0, self.timeline)  # the store was printed without it
        return key

    def _usable(self, line: int, client: int) -> list[int]:
        if client not in self._clients:
            raise Invalid(f"line {line}: client {client} isn't running, so it can't be answered", line)
        return [server for server in self._clients[client].connections if server in self.timeline.running]

    def _put(self, line: int, began: int, client: int, said: dict[str, Any]) -> None:
        name, value = said["value"]
        server, version = said["server"], said["timestamp"]
        usable = self._usable(line, client)
        if usable[:1] != [server]:
            raise Invalid(f"line {line}: server {server} took the put, but {_turn(client, usable)}", line)
        key = self._write(line, client, name, value, version)
        time = LINE * line
        key.log.put(server, time, version, self.timeline)
        if self._deaths and self._deaths[-1][0] > began:
            died = {ident for at, ident in self._deaths if at > began}
            for other in died & set(self._clients[client].connections):
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
            died_at, connections = line, self._clients[client].connections
        died = {ident for at, ident in self._deaths if at > began}
        for server in connections:
            alive = server in self.timeline.running  # the put may still be on its way there
            if died_at > began and (alive or server in died):
                key.log.may_put(server, LINE * line, said["timestamp"], later=alive, timeline=self.timeline)
        self.timeline.settle(LINE * line + 2)
        self._open[name] = key

    def _get(self, line: int, client: int, said: dict[str, Any]) -> None:
        name, value = said["value"]
        usable = self._usable(line, client)
        session = self._clients[client].session
        key = self._key(name)
        seen = key.sessions.get(session, ())
        dependency = seen[-1].version if seen else 0
        answer = said.get("answer")
        if answer == "ERR_DEP":
            if not dependency:
                text = f"line {line}: client {client} got ERR_DEP for {_shown(name)}"
                raise Invalid(f"{text}, but it had neither written nor read it", line)
            asked = usable
            if not asked:
                raise Invalid(f"line {line}: client {client} has no server to ask", line)
        else:
            server = said["server"]
            if server not in usable or (not dependency and usable[0] != server):
                raise Invalid(f"line {line}: server {server} answered, but {_turn(client, usable)}", line)
            asked = usable[: usable.index(server)]
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

    def _print_store(self, line: int, said: dict[str, Any]) -> None:
        server = said["server"]
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
        reasons = {time // LINE for time in found.because if 0 < time != found.time}
        if key.log.base and key.log.base_time in found.because:
            reasons.add(key.writes[key.log.base].line)
        because = sorted(reasons)
        since = key.log.puts.get(found.version)
        if since is None:
            otherwise = f"but nothing has brought it to server {server}"
        elif self.timeline.gossips:
            otherwise = f"but since then no chain of links has led from server {since[0]} to server {server} in time"
        else:
            otherwise = f"but gossip is off, and no stabilize has brought it from server {since[0]} to server {server}"
        return Impossible(name, server, line, write.line if write else 0, because, otherwise)


def _turn(client: int, usable: list[int]) -> str:
    return f"it was server {usable[0]}'s turn" if usable else f"client {client} had no server that it could use"


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
    except (ValueError, KeyError, TypeError):
        raise Unknown("there is no header: line 1 must be that of a history") from None
    raise Unknown(f"line 1: the history's format is {found!r}; this program knows {FORMAT}")


def _take(checker: Checker, line: int, raw: bytes) -> None:
    try:
        said = json.loads(raw)
    except ValueError:
        raise Unknown(f"line {line} is not JSON") from None
    try:
        checker.take(line, said)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Unknown(f"line {line}: not a line of a history ({type(error).__name__}: {error})") from error


def _broken(checker: Checker) -> dict[str, list[str]]:
    return {name: [str(checker.broken_count[name]), *cases] for name, cases in checker.broken.items()}


def _sentence(path: Path, found: Impossible) -> str:
    """Why something is impossible, with what the lines say."""
    wanted = {found.line, found.written, *found.because[:6]}
    with path.open("rb") as file:
        said = {line: json.loads(raw) for line, raw in enumerate(file, 1) if line in wanted}
    text = f"line {found.line}: {_told(said[found.line], found.name, found.server)}"
    if found.written and found.written != found.line:
        text += f" (put in line {found.written} at server {said[found.written].get('server', '?')})"
    if not found.because:
        return f"{text}, {found.otherwise}"
    reasons = "; ".join(f"line {line}: {_told(said[line], found.name, None)}" for line in found.because[:6])
    more = f"; and {len(found.because) - 6} more lines" if len(found.because) > 6 else ""
    return f"{text}, which can't be, because of {reasons}{more}"


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


def _print_verdict(path: Path, verdict: Verdict) -> None:
    if verdict.verdict == "valid":
        print(f"valid: {verdict.operations} operations")
    else:
        print(f"{verdict.verdict}: {verdict.why}")
    if verdict.lines:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                if line in verdict.lines:
                    text = raw.decode("ascii", "replace").rstrip("\n")
                    print(f"  {line}: {text if len(text) <= 300 else text[:297] + '...'}")
    for name, (count, *cases) in verdict.broken.items():
        if cases:
            print(f"not promised: {name} across keys was seen broken {count} times; {cases[0]}")


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
    if options.json:
        print(json.dumps(verdict._asdict()))
    else:
        _print_verdict(options.history, verdict)
    return {"valid": 0, "invalid": 1, "unknown": 2}[verdict.verdict]


if __name__ == "__main__":
    sys.exit(main())
