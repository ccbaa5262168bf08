"""Who is running and who is connected to whom, according to a history.

May live here: the lives of servers and clients, their ids and connections, and whether a command could be carried
out or had to fail because of them. May not: keys, values and sessions' guarantees (checking/checker.py).
"""

from __future__ import annotations

import re

from checking.findings import Invalid
from checking.timeline import LINE, Timeline

__all__ = ["Client", "Members"]

EXCUSES = (
    (r"(?:server|client) (\d+) is not running", "down"),
    (r"server (\d+) (?:runs already|is already running|is running already)", "up"),
    (r"id (\d+) is (?:taken by a client|a client's, not a server's)", "client"),
    (r"id (\d+) is (?:taken by a server|a server's, not a client's)", "server"),
    (r"id (\d+) is unknown.*", "unknown"),
    (r"client (\d+) has no connection", "unusable"),
    (r"client (\d+) has only server \d+, which is not running", "unusable"),
    (r"none of the servers of client (\d+) is running.*", "unusable"),
)
"""The reasons of failed commands that a history can confirm or refute; other reasons are believed."""


class Client:
    """A client's session, and its connections in order."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.connections: dict[int, int] = {}
        """Server -> the line that made the connection."""
        self.broken: dict[int, int] = {}
        """Server -> the last line that broke the connection."""


class Members:
    """The servers and clients, as the lines so far describe them."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.clients: dict[int, Client] = {}
        self._ghosts: dict[int, tuple[int, Client]] = {}  # dead client -> the line in which it was found dead, and it
        self._sessions = 0
        self._deaths: list[tuple[int, int]] = []
        self._kinds: dict[int, tuple[str, int]] = {}  # id -> "server" or "client", and the line that made it one
        self._fates: dict[int, tuple[int, str]] = {}  # id -> what happened to it last, and in which line

    def change(self, line: int, f: str, ids: list[int]) -> None:
        """A command that starts or kills a process, or changes a connection, has been carried out. Raises Invalid."""
        if f == "joinServer":
            self._join_server(line, ids[0])
        elif f == "killServer":
            self.need_running(line, ids[0])
            self.timeline.stop(ids[0], LINE * line)
            self._fates[ids[0]] = line, "was killed"
        elif f == "joinClient":
            self._join_client(line, *ids)
        elif f != "shapeConnection":  # late messages and lost ones change nothing of what a run may answer
            self._change_connection(line, f == "createConnection", *ids)

    def _join_server(self, line: int, ident: int) -> None:
        self._need_kind(line, ident, "server")
        if ident in self.timeline.running:
            raise Invalid(f"line {line}: server {ident} was started, but it was already running", line)
        self.timeline.start(ident, LINE * line)
        self._fates[ident] = line, "was started"

    def _join_client(self, line: int, ident: int, server: int) -> None:
        self._need_kind(line, ident, "client")
        self.need_running(line, server)
        if ident not in self.clients:
            self._sessions += 1
            self.clients[ident] = Client(self._sessions)
            self._fates[ident] = line, "was started"
        self.clients[ident].connections.setdefault(server, line)

    def _change_connection(self, line: int, make: bool, one: int, other: int) -> None:
        for ident in (one, other):
            if ident not in self._kinds:
                raise Invalid(f"line {line}: {ident} is neither a server nor a client", line)
        if self._kinds[other][0] == "client":
            one, other = other, one
        client = self.clients.get(one)
        if one == other or self._kinds[other][0] == "client":
            what = "itself" if one == other else "another client"
            raise Invalid(f"line {line}: {self._kinds[one][0]} {one} can have no connection to {what}", line)
        if make:
            self.need_running(line, other)
            if client is not None:
                client.connections.setdefault(other, line)
            else:
                self.need_running(line, one, self._kinds[one][0])
                self.timeline.link(one, other, LINE * line)
        elif client is None:
            self.timeline.unlink(one, other, LINE * line)
        elif client.connections.pop(other, None):
            client.broken[other] = line

    def died(self, line: int, ident: int, f: str, ids: list[int]) -> None:
        """A process was found dead while the master carried out the command *f* with these *ids*. Raises Invalid."""
        is_starting = f in ("joinServer", "joinClient") and ids[0] == ident
        if is_starting:
            self._need_kind(line, ident, "server" if f == "joinServer" else "client")
        if ident not in self.timeline.running and ident not in self.clients:
            if not is_starting:
                why, since = self.fate_of(ident, "server")
                raise Invalid(f"line {line}: {ident} cannot have died: {why}", since, line)
            if f == "joinServer":
                self.timeline.start(ident, LINE * line - 2)  # it had its links for a moment
        self._fates[ident] = line, "died"
        client = self.clients.pop(ident, None)
        if client is not None:
            self._ghosts[ident] = line, client
        if ident in self.timeline.running:
            self._deaths.append((line, ident))
            if f == "stabilize":
                self.timeline.burst(LINE * line)  # updates may have moved until then
            self.timeline.die(ident, LINE * line)

    def _need_kind(self, line: int, ident: int, kind: str) -> None:
        """An id once used keeps its kind."""
        known, since = self._kinds.setdefault(ident, (kind, line))
        if known != kind:
            raise Invalid(
                f"line {line}: {ident} cannot be a {kind}: it is the id of a {known} since line {since}", since, line
            )

    def need_running(self, line: int, ident: int, kind: str = "server") -> None:
        """Raise Invalid if this process is not running."""
        if ident not in self.timeline.running:
            why, since = self.fate_of(ident, kind)
            raise Invalid(f"line {line}: {why}, so this is impossible", since, line)

    def fate_of(self, ident: int, kind: str) -> tuple[str, int]:
        """Say what happened last to a server or client; also returns the line that shows it, or 0."""
        known, since = self._kinds.get(ident, (kind, 0))
        if known != kind:
            return f"{ident} is a {known}'s id, not a {kind}'s (line {since})", since
        since, what = self._fates.get(ident, (0, ""))
        return f"{kind} {ident} {f'{what} in line {since}' if since else 'was never started'}", since

    def failed(self, line: int, f: str, error: str) -> None:
        """A command has failed and done nothing. Raises Invalid if the reason that it gives is not true."""
        if f == "stabilize":
            self.timeline.burst(LINE * line)  # updates may have moved before it failed
        for pattern, excuse in EXCUSES:
            found = re.fullmatch(pattern, error)
            against = self._speaks_against(excuse, int(found[1])) if found else None
            if against is not None:
                raise Invalid(f'line {line}: {f} failed, because "{error}"; but {against[0]}', against[1], line)

    def _speaks_against(self, excuse: str, ident: int) -> tuple[str, int] | None:
        """Say what contradicts a command's reason, if anything; also returns the line that shows it, or 0."""
        kind, since = self._kinds.get(ident, ("nobody", 0))
        is_up = ident in self.timeline.running or ident in self.clients
        if excuse == "down":
            return self.fate_of(ident, kind) if is_up else None
        if excuse == "up":
            return None if ident in self.timeline.running else self.fate_of(ident, "server")
        if excuse == "unusable":
            connections = self.clients[ident].connections if ident in self.clients else {}
            made, server = min(
                ((at, one) for one, at in connections.items() if one in self.timeline.running), default=(0, 0)
            )
            return (f"it has a connection to server {server} since line {made}", made) if made else None
        if kind == ("nobody" if excuse == "unknown" else excuse):
            return None
        return (f"it is the id of a {kind} since line {since}" if since else "nothing has this id"), since

    def usable(self, line: int, began: int, client: int) -> tuple[Client, list[int], list[int]]:
        """Return a client, the servers that it may have used, and those of them that were certainly there.

        A server that was found dead after the line *began* may have answered before it died. Raises Invalid if the
        client is not running.
        """
        asked = self.asked(began, client)
        if asked is None:
            why, since = self.fate_of(client, "client")
            raise Invalid(f"line {line}: {why}, so it cannot have been answered", since, line)
        connections, running = asked.connections, self.timeline.running
        certain = [server for server in connections if server in running]
        died = self.died_since(began)
        usable = [server for server in connections if server in running or server in died] if died else certain
        return asked, usable, certain

    def asked(self, began: int, client: int) -> Client | None:
        """Return the client that was asked in the line *began*; None if there was none.

        It may have been found dead since. In a group it may have answered before, and the answers of a group come into
        the history in the order of the script.
        """
        if client in self.clients:
            return self.clients[client]
        died_at, ghost = self._ghosts.get(client, (0, None))
        return ghost if died_at > began else None

    def died_since(self, began: int) -> set[int]:
        """Return the servers that were found dead after a line."""
        if not self._deaths or self._deaths[-1][0] < began:
            return set()
        return {ident for at, ident in self._deaths if at > began}

    def wrong_turn(self, line: int, client: int, asked: Client, usable: list[int], server: int, what: str) -> Invalid:
        """Return the finding that a client turned to the wrong server, with the lines that show why."""
        connections, broken = asked.connections, asked.broken
        if server not in connections:
            since = broken.get(server, 0)
            why = f"client {client} has no connection to it{f' since line {since}' if since else ''}"
        elif server not in self.timeline.running:
            why, since = self.fate_of(server, "server")
        else:
            since = connections[server]
            turn = f"it was server {usable[0]}'s turn, whose connection was made in line {connections[usable[0]]}"
            text = f"{turn}; that to server {server} was made in line {since}"
            return Invalid(f"line {line}: server {server} {what}, but {text}", connections[usable[0]], since, line)
        return Invalid(f"line {line}: server {server} {what}, but {why}", since, line)
