"""The checker of histories: it takes their lines one by one, and finds what the contract does not allow.

May live here: what a line means for keys and sessions. May not: files, and any module of the store, since the checker
is a second opinion. members.py knows who is running and connected; spread.py and explain.py know how versions spread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Any, NamedTuple

from checking.explain import explain
from checking.findings import Impossible, Invalid, Unknown, kept, show
from checking.members import Members
from checking.spread import Contradiction, KeyLog, Undecided
from checking.timeline import LINE, Timeline

__all__ = ["Checker"]


class Write(NamedTuple):
    """A put; its timestamp is its version."""

    line: int
    value: str | bytes
    session: int


class Seen(NamedTuple):
    """The newest version of a key that a session had seen after a line of the history."""

    line: int
    version: int
    own: bool
    """Whether the session had written it rather than read it."""


class Key:
    """What is known of a key."""

    def __init__(self) -> None:
        self.writes: dict[int, Write] = {}
        self.log = KeyLog()
        self.sessions: dict[int, list[Seen]] = {}
        """Session -> the versions that it has seen, in rising order."""


class Checker:
    """Judges a history line by line. Every method raises Invalid, and Unknown where no verdict is possible."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.timeline = Timeline(gossips=header["gossip_interval"] > 0)
        self.kept = bool(header["kept_stores"])
        """Whether servers may have begun with data."""
        self.operations = 0
        self.doubt: tuple[int, str] | None = None
        """The line from which on the history may leave out something that happened, and the reason."""
        self.undecided = 0
        self.broken: dict[str, list[str]] = {"Monotonic Writes": [], "Writes Follow Reads": []}
        self.broken_count = dict.fromkeys(self.broken, 0)
        self.keys: dict[str, Key] = {}
        self._open: dict[str, Key] = {}
        self._members = Members(self.timeline)
        self._first = 0
        self._newest = 0
        self._newest_line = 0
        self._under_way: dict[object, deque[tuple[int, str, Any]]] = {}
        self._time = 0
        self._prints: dict[int, int] = {}
        self._held: dict[int, dict[int, int]] = {}  # server -> session -> the line of its newest write there

    # -- lines ---------------------------------------------------------------------------------------------

    def take(self, line: int, entry: dict[str, Any]) -> None:
        """Take the next line of the history, whose fields are well formed (`lines.wrong_with`)."""
        kind, f, process, value = entry["type"], entry["f"], entry["process"], entry["value"]
        if entry["index"] != line - 2:
            raise Unknown(
                f"line {line}: its index is {entry['index']}, not {line - 2}: a line is missing, or one is too many"
            )
        if entry["time"] < self._time:
            raise Unknown(f"line {line}: its time is before that of the line before")
        self._time = entry["time"]
        if kind == "invoke":
            self._under_way.setdefault(process, deque()).append((line, f, value))
        elif f == "died":
            began = self._under_way.get("master")
            _, during, ids = began[0] if began else (0, "", [])
            self._members.died(line, value[0], during, ids)
        elif f == "warning":
            self._doubt(line, entry["error"])
        else:
            self._complete(line, entry)

    def _complete(self, line: int, entry: dict[str, Any]) -> None:
        """Take the line that ends a command."""
        kind, f, process, value = entry["type"], entry["f"], entry["process"], entry["value"]
        waiting = self._under_way.get(process)
        if not waiting:
            raise Unknown(f"line {line}: the line that began this command is missing")
        began, asked_f, asked = waiting.popleft()
        answered = asked if f == "printStore" or (f == "get" and kind == "ok" and value[:1] == asked[:1]) else value
        if (asked_f, asked) != (f, answered):
            raise Unknown(f"line {line}: it does not match line {began}, which began this command")
        self.operations += 1
        if kind == "info":
            self._info(line, began, process, entry)
        elif kind == "fail":
            self._members.failed(line, f, entry["error"])
        elif f == "get":
            self._get(line, began, process, entry)
        elif f == "put":
            self._put(line, began, process, entry)
        elif f == "printStore":
            self._print_store(line, began, asked[0], entry)
        elif f == "stabilize":
            self._stabilize(LINE * line)
        else:
            self._members.change(line, f, asked)
        self.timeline.settle(LINE * line)

    def finish(self) -> None:
        """Judge what is left once the last line was taken."""
        for name, key in self._open.items():
            self._explain(name, key)

    def _doubt(self, line: int, why: str) -> None:
        if self.doubt is None:
            self.doubt = line, why

    # -- keys -------------------------------------------------------------------------------------------

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
                    key.log.saw(server, time, 0, self.timeline)  # the store was printed without this key
        return key

    def _put(self, line: int, began: int, client: int, entry: dict[str, Any]) -> None:
        name, value = entry["value"]
        server, version = entry["server"], entry["timestamp"]
        asked, usable, certain = self._members.usable(line, began, client)
        if server not in usable or any(other in certain for other in usable[: usable.index(server)]):
            raise self._members.wrong_turn(line, client, asked, certain, server, "took the put")
        key = self._write(line, asked.session, name, value, version)
        time = LINE * line
        key.log.put(server, time, version, self.timeline)
        for other in self._members.died_since(began) & asked.connections.keys() - {server}:
            key.log.may_put(other, time, version, later=False, timeline=self.timeline)
        self.timeline.settle(time + 2)  # a server that died may have passed the put on before
        self._open[name] = key
        self._see(key, asked.session, line, version, own=True)
        self._held.setdefault(server, {})[asked.session] = line

    def _write(self, line: int, session: int, name: str, value: str, version: int) -> Key:
        if version <= self._newest:
            text = f"line {line}: timestamp {version} is not larger than that of the put in line {self._newest_line}"
            raise Invalid(text, self._newest_line, line)
        self._first = self._first or version
        self._newest, self._newest_line = version, line
        key = self._key(name)
        key.writes[version] = Write(line, kept(value), session)
        return key

    def _info(self, line: int, began: int, client: int, entry: dict[str, Any]) -> None:
        if entry["f"] != "put" or "timestamp" not in entry:
            self._doubt(line, f"whether {entry['f']} was carried out is not known")
            return
        name, value = entry["value"]
        asked = self._members.asked(began, client)
        key = self._write(line, 0 if asked is None else asked.session, name, value, entry["timestamp"])
        died = self._members.died_since(began)
        for server in () if asked is None else asked.connections:
            alive = server in self.timeline.running  # the put may still be on its way there
            if alive or server in died:
                key.log.may_put(server, LINE * line, entry["timestamp"], later=alive, timeline=self.timeline)
        self.timeline.settle(LINE * line + 2)
        self._open[name] = key

    def _get(self, line: int, began: int, client: int, entry: dict[str, Any]) -> None:
        name, value = entry["value"]
        who, usable, certain = self._members.usable(line, began, client)
        session = who.session
        key = self._key(name)
        seen = key.sessions.get(session, ())
        dependency = seen[-1].version if seen else 0
        answer = entry.get("answer")
        if answer == "ERR_DEP":
            if not dependency:
                text = f"line {line}: client {client} got ERR_DEP for {show(name)}"
                raise Invalid(f"{text}, but it had neither written nor read it", line)
            asked = certain
            if not usable:
                raise Invalid(f"line {line}: client {client} has no server to ask", line)
        else:
            server = entry["server"]
            asked = [other for other in usable[: usable.index(server)] if other in certain] if server in usable else []
            if server not in usable or (asked and not dependency):
                raise self._members.wrong_turn(line, client, who, certain, server, "answered")
        time = LINE * line
        try:
            for other in asked:
                if key.writes or self.kept:
                    key.log.at_most(other, time, dependency - 1, self.timeline)
                    self._open[name] = key
                time += 2  # one after another: gossip may run in between
            self.timeline.settle(time)
            if answer != "ERR_DEP":
                version = 0 if answer == "ERR_KEY" else self._read(line, name, key, value, entry["timestamp"])
                self._keep_session(line, client, name, value, version, seen)
                self._observe(line, time, name, key, server, version)
                self._compare(line, name, key, server, version)
                if version:
                    self._see(key, session, line, version, own=False)
        except Contradiction as contradiction:
            raise self._invalid(name, key, contradiction) from None

    def _read(self, line: int, name: str, key: Key, value: str, version: int) -> int:
        """Return the version that was read, after a check that it was written with that value."""
        write = key.writes.get(version)
        if write is None:
            if self.kept and (not self._first or version < self._first):
                key.writes[version] = Write(0, kept(value), 0)
                key.log.earlier.add(version)
                return version
            if self.kept:
                text = f"line {line}: {show(name)}={show(value)} was not put in this history"
                raise Unknown(f"{text}, but it is not older than it either")
            raise Invalid(f"line {line}: it shows {show(name)}={show(value)}, which nobody had put there", line)
        if write.value != kept(value):
            text = f"line {line}: it shows {show(name)}={show(value)}"
            raise Invalid(f"{text}, but the value that was put there at that time is another one", write.line, line)
        return version

    def _keep_session(
        self, line: int, client: int, name: str, value: str | None, version: int, seen: list[Seen] | tuple[()]
    ) -> None:
        if not seen or version >= seen[-1].version:
            return
        before, newest = seen[-1], self.keys[name].writes[seen[-1].version]
        if version:
            written = self.keys[name].writes[version].line
            shown = f"read {show(name)}={show(value)}{f' (written in line {written})' if written else ''}"
        else:
            written, shown = 0, f"got ERR_KEY for {show(name)}"
        verb = "written" if before.own else "read"
        which = "Read Your Writes" if before.own else "Monotonic Reads"
        text = f"line {line}: client {client} {shown}, but it had itself {verb} {show(newest.value)}"
        raise Invalid(f"{text} in line {before.line} ({which})", written, before.line, line)

    def _see(self, key: Key, session: int, line: int, version: int, own: bool) -> None:
        seen = key.sessions.setdefault(session, [])
        if not seen or seen[-1].version < version:
            seen.append(Seen(line, version, own))

    def _print_store(self, line: int, began: int, asked: int, entry: dict[str, Any]) -> None:
        server = entry["server"]
        if server != asked:
            raise Invalid(
                f"line {line}: server {server} printed its store, but server {asked} was asked to", began, line
            )
        self._members.need_running(line, server)
        shown: dict[str, int] = {}
        last = b""
        for (name, value), version in zip(entry["value"], entry["timestamp"], strict=True):
            raw = name.encode("utf-8", "surrogateescape")
            if raw <= last:
                raise Invalid(f"line {line}: the store's keys are not sorted, at {show(name)}", line)
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
        """A server has shown exactly this version, at a moment of the line."""
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
        """Count where a server has a write, but lacks what the session had seen of another key before that write."""
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
                            f"{show(name)} not yet what that client {done} before, in line {seen[place].line}"
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
