"""An independent opinion: random scripts, and what a master may print for each of them.

May live here: what the contract says, and scripts to try it with. May not: any module of the store.

The oracle knows nothing of vector clocks, contexts or exchanges: all writes are numbered in the order of the script,
and of two writes to a key the one with the larger number stands. For each server and key it keeps the *set* of writes
that may stand there (0 for none). Without gossip that set always has one element, so every answer is predicted exactly.
With gossip, what a server holds may reach any server that it has been connected to since, at any time up to the next
stabilize; an answer narrows the set down again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from random import Random

NOTHING = 0
"""The number that stands for no write."""

FENCE = b"~fence"
"""Keys that begin with this are never written; a get of one shows where the output of a printStore ends."""

OBSERVER = 900
"""The client that gets the keys of `FENCE`."""


class Mismatch(AssertionError):
    """The master printed what the contract does not allow."""


class Fault(Exception):
    """The command is an error."""


class Oracle:
    """What the cluster may look like after each command."""

    def __init__(self, gossip: bool) -> None:
        self.gossip = gossip
        self.running: set[int] = set()
        self.stores: dict[int, dict[bytes, set[int]]] = {}  # of all servers that ever ran
        self.links: set[frozenset[int]] = set()
        self.clients: dict[int, list[int]] = {}
        self.seen: dict[tuple[int, bytes], int] = {}
        self.values: list[bytes] = [b"ERR_KEY"]  # by the number of the write
        self.answers: deque[bytes] = deque()

    def step(self, line: bytes) -> bool:
        """Carry out a line; returns whether it is an error. Raises Mismatch.

        What the line has printed is taken from `answers`.
        """
        words = re.split(rb"[ \t]+", line.rstrip(b"\n").removesuffix(b"\r").strip(b" \t"))
        if words[0] == b"" or words[0].startswith(b"#"):
            return False
        commands: dict[bytes, tuple[Callable[..., None], int]] = {
            b"joinServer": (self.join_server, 1),
            b"killServer": (self.kill_server, 1),
            b"joinClient": (self.join_client, 2),
            b"breakConnection": (self.break_connection, 2),
            b"createConnection": (self.create_connection, 2),
            b"stabilize": (self.stabilize, 0),
            b"printStore": (self.print_store, 1),
            b"get": (self.get, 2),
        }
        try:
            if words[0] == b"put":
                self.put(line, words)
            else:
                command, count = commands.get(words[0], (None, 0))
                if command is None or len(words) != count + 1:
                    raise Fault
                if words[0] == b"get":
                    command(number(words[1]), words[2])
                else:
                    command(*map(number, words[1:]))
        except Fault:
            return True
        if self.gossip:
            self.spread()
        return False

    # -- topology ------------------------------------------------------------------------------------------

    def join_server(self, server: int) -> None:
        if server in self.clients or server in self.running:
            raise Fault
        self.links |= {frozenset((server, other)) for other in self.running}
        self.running.add(server)
        self.stores.setdefault(server, {})

    def kill_server(self, server: int) -> None:
        self.check_running(server)
        self.running.discard(server)
        self.links = {link for link in self.links if server not in link}

    def join_client(self, client: int, server: int) -> None:
        if client in self.stores:
            raise Fault
        self.check_running(server)
        connections = self.clients.setdefault(client, [])
        if server not in connections:
            connections.append(server)

    def break_connection(self, first: int, second: int) -> None:
        self.check_ends(first, second)
        self.links.discard(frozenset((first, second)))
        for client, server in ((first, second), (second, first)):
            if server in self.clients.get(client, ()):
                self.clients[client].remove(server)

    def create_connection(self, first: int, second: int) -> None:
        self.check_ends(first, second)
        for end in (first, second):
            if end not in self.clients:
                self.check_running(end)
        for client, server in ((first, second), (second, first)):
            if client in self.clients:
                if server not in self.clients[client]:
                    self.clients[client].append(server)
                return
        self.links.add(frozenset((first, second)))

    def check_running(self, server: int) -> None:
        if server not in self.running:
            raise Fault

    def check_ends(self, first: int, second: int) -> None:
        known = self.stores.keys() | self.clients.keys()
        if not known >= {first, second} or first == second or self.clients.keys() >= {first, second}:
            raise Fault

    # -- what moves writes ---------------------------------------------------------------------------------

    def components(self) -> list[set[int]]:
        """Return the sets of servers that can reach each other."""
        left, found = set(self.running), []
        while left:
            component, border = set(), [left.pop()]
            while border:
                server = border.pop()
                component.add(server)
                near = {other for other in left if frozenset((server, other)) in self.links}
                left -= near
                border += near
            found.append(component)
        return found

    def held(self, component: Iterable[int], key: bytes) -> list[set[int]]:
        return [self.stores[server].get(key, {NOTHING}) for server in component]

    def stabilize(self) -> None:
        for component in self.components():
            for key in {key for server in component for key in self.stores[server]}:
                sets = self.held(component, key)
                least = max(map(min, sets))
                for server in component:
                    self.stores[server][key] = {write for write in set().union(*sets) if write >= least}

    def spread(self) -> None:
        """Gossip may have brought every write to every server of a component, but need not have."""
        for component in self.components():
            for key in {key for server in component for key in self.stores[server]}:
                anywhere = set().union(*self.held(component, key))
                for server in component:
                    least = min(self.stores[server].get(key, {NOTHING}))
                    self.stores[server][key] = {write for write in anywhere if write >= least}

    # -- puts and answers ----------------------------------------------------------------------------------

    def usable(self, client: int) -> list[int]:
        servers = [server for server in self.clients.get(client, ()) if server in self.running]
        if not servers:
            raise Fault
        return servers

    def put(self, line: bytes, words: list[bytes]) -> None:
        if len(words) < 4:
            raise Fault
        match = re.match(rb"[ \t]*put[ \t]+[0-9]+[ \t]+[^ \t]+[ \t]+(.*?)[ \t]*\r?\n?\Z", line, re.DOTALL)
        client = number(words[1])
        assert match is not None
        server = self.usable(client)[0]
        self.values.append(match[1])
        self.stores[server][words[2]] = {len(self.values) - 1}
        self.seen[client, words[2]] = len(self.values) - 1

    def get(self, client: int, key: bytes) -> None:
        servers = self.usable(client)
        seen = self.seen.get((client, key), NOTHING)
        answer = self.next_answer(key)
        candidates: list[tuple[int, int]] = []  # (server, write): who may have answered, and with what
        for server in servers:
            possible = self.stores[server].get(key, {NOTHING})
            candidates += [(server, write) for write in possible if write >= seen]
            if min(possible) >= seen:
                break
        else:
            if answer == b"ERR_DEP":
                return
        matching = [(server, write) for server, write in candidates if self.values[write] == answer]
        if not matching:
            allowed = {self.values[write] for _, write in candidates}
            raise Mismatch(f"get {client} {key!r}: {answer!r}; allowed: {allowed}, having seen {self.values[seen]!r}")
        if len(matching) == 1:
            server, write = matching[0]
            self.stores[server][key] = {write}
        self.seen[client, key] = matching[0][1]

    def next_answer(self, key: bytes) -> bytes:
        answer = self.answers.popleft() if self.answers else b"(nothing)"
        if not answer.startswith(key + b":"):
            raise Mismatch(f"{answer!r} instead of a value of {key!r}")
        return answer[len(key) + 1 :]

    def print_store(self, server: int) -> None:
        self.check_running(server)
        store = self.stores[server]
        for key in sorted(store):
            writes = {self.values[write]: write for write in store[key]}
            following = self.answers[0] if self.answers else FENCE
            value = following.removeprefix(key + b":") if following.startswith(key + b":") else b"ERR_KEY"
            if value not in writes and NOTHING in store[key]:
                value = b"ERR_KEY"  # the line is that of another key
            if value not in writes:
                raise Mismatch(f"printStore {server}: {following!r}, but {key!r} has one of {writes}")
            store[key] = {writes[value]}
            if writes[value] != NOTHING:
                self.answers.popleft()

    def check_end(self) -> None:
        """Check that nothing else was printed. Raises Mismatch."""
        if self.answers:
            raise Mismatch(f"no command has asked for {self.answers}")


def number(word: bytes) -> int:
    """Return the id that a word is. Raises Fault."""
    if not re.fullmatch(rb"[0-9]{1,18}", word):
        raise Fault
    return int(word)


def check(script: list[bytes], stdout: bytes, stderr: str, status: int, gossip: bool) -> Oracle:
    """Compare what a master printed for a script with what it may print. Raises Mismatch."""
    oracle = Oracle(gossip)
    *answers, rest = stdout.split(b"\n")
    oracle.answers.extend(answers)
    wrong = []
    for index, line in enumerate(script, 1):
        try:
            if oracle.step(line):
                wrong.append(index)
        except Mismatch as mismatch:
            raise Mismatch(f"line {index}: {mismatch}") from None
    oracle.check_end()
    if rest:
        raise Mismatch(f"the last line has no end: {rest!r}")
    errors = stderr.splitlines()
    if len(errors) != len(wrong):
        reported = {match[0] for match in (re.match(r"error: line \d+", error) for error in errors) if match}
        differing = reported ^ {f"error: line {index}" for index in wrong}
        raise Mismatch(f"{len(errors)} errors instead of {len(wrong)}; they differ in {sorted(differing)}: {stderr}")
    for error, index in zip(errors, wrong, strict=True):
        if not error.startswith(f"error: line {index}: "):
            raise Mismatch(f"{error!r} instead of an error in line {index}: {script[index - 1]!r}")
    if status != bool(wrong):
        raise Mismatch(f"exit status {status}")
    return oracle


# -- scripts -----------------------------------------------------------------------------------------------

SERVERS = (0, 1, 2, 3, 4)
CLIENTS = (10, 11, 12, 13)
KEYS = (b"a", b"b", b"a:b", b"K", b"\xff\x80", "ключ".encode(), b"#", b"0")
BAD_LINES = (
    b"jump 1",
    b"JOINSERVER 1",
    b"joinServer",
    b"joinServer -1",
    b"joinServer 1234567890123456789",
    b"joinServer 0 1",
    b"killServer x",
    b"joinClient 1",
    b"stabilize 1",
    b"printStore",
    b"put 10 a",
    b"put ten a b",
    b"put",
    b"get 10",
    b"get 10 a b",
    b"get 1e1 a",
    b"breakConnection 0",
    b"createConnection 0 1 2",
    b"help",
    b"status",
    b"exit",
    b"\xff\xfe\x00",
    b"joinServer 1\r2",
)
IDLE_LINES = (b"", b"   \t ", b"# a comment", b"  # joinServer 3", b"#")


class Writer:
    """Writes random scripts, most lines of which make sense."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.script: list[bytes] = []
        self.puts = 0
        self.fences = 0

    def line(self, *words: bytes | int) -> None:
        """Add a line, spelled in one of several equivalent ways."""
        blank = (b" ",) * 12 + (b"  ", b"\t", b" \t ")
        spelled = b""
        for word in words:
            text = word if isinstance(word, bytes) else str(word).encode()
            if isinstance(word, int) and self.random.random() < 0.05:
                text = text.zfill(self.random.randint(1, 18))
            spelled += text + self.random.choice(blank)
        if spelled.startswith(b"put"):
            self.puts += 1
            filling = self.random.choice((b"",) * 9 + (b" x  y", b"\0\t\xff", b":", b"\r.", b" x" * 2000))
            spelled += b"v%d" % self.puts + filling
        else:
            spelled = spelled.rstrip()
        if self.random.random() < 0.05:
            spelled = b" \t" + spelled + b"  "
        self.script.append(spelled + (b"\r\n" if self.random.random() < 0.1 else b"\n"))

    def server(self) -> int:
        return self.random.choice(SERVERS)

    def client(self) -> int:
        return self.random.choice(CLIENTS)

    def any_id(self) -> int:
        return self.random.choice((*SERVERS, *SERVERS, *CLIENTS, 77))

    def key(self) -> bytes:
        return self.random.choice(KEYS[: self.random.choice((2, len(KEYS)))])

    def print_store(self, server: int) -> None:
        self.fences += 1
        self.line(b"joinClient", OBSERVER, server)
        self.line(b"printStore", server)
        self.line(b"get", OBSERVER, FENCE + b"%d" % self.fences)

    def add(self, kind: str) -> None:
        if kind == "put":
            self.line(b"put", self.client(), self.key())
        elif kind == "get":
            self.line(b"get", self.client(), self.key())
        elif kind in ("joinServer", "killServer"):
            self.line(kind.encode(), self.server())
        elif kind == "joinClient":
            self.line(b"joinClient", self.client(), self.server())
        elif kind in ("breakConnection", "createConnection"):
            first = self.server()
            self.line(kind.encode(), *self.random.sample((first, self.any_id()), 2))
        elif kind == "stabilize":
            self.line(b"stabilize")
        elif kind == "printStore":
            self.print_store(self.server())
        elif kind == "nonsense":
            self.script.append(self.random.choice(BAD_LINES) + b"\n")
        elif kind == "confusion":
            command = self.random.choice((b"joinServer", b"killServer", b"printStore", b"joinClient", b"get"))
            following: dict[bytes, list[bytes | int]] = {b"joinClient": [self.any_id()], b"get": [self.key()]}
            more = following.get(command, [])
            if command == b"printStore":
                self.print_store(self.any_id())
            else:
                self.line(command, self.any_id(), *more)
        else:
            self.script.append(self.random.choice(IDLE_LINES) + b"\n")

    def write(self, length: int) -> list[bytes]:
        for server in self.random.sample(SERVERS, 3):
            self.line(b"joinServer", server)
            self.line(b"joinClient", self.client(), server)
        weights = {
            "put": 30 * self.random.random() + 5,
            "get": 30 * self.random.random() + 5,
            "joinServer": 6,
            "killServer": 6 * self.random.random(),
            "joinClient": 5,
            "breakConnection": 12 * self.random.random(),
            "createConnection": 8 * self.random.random(),
            "stabilize": 5 * self.random.random(),
            "printStore": 5,
            "nonsense": 1,
            "confusion": 1,
            "idle": 1,
        }
        while len(self.script) < length:
            (kind,) = self.random.choices(list(weights), list(weights.values()))
            for _ in range(self.random.choice((1, 1, 4)) if kind in ("put", "get") else 1):
                self.add(kind)
        self.line(b"stabilize")
        for server in SERVERS:
            self.print_store(server)
        return self.script


def random_script(random: Random, length: int) -> list[bytes]:
    """Return the lines of a random script, with their line ends."""
    return Writer(random).write(length)
