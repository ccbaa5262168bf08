"""What a cluster whose processes are killed and frozen may answer, by the contract alone.

May live here: which answers and errors are possible. May not: processes. Each value is put once, so a value that is
read names its put.
"""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["Judge", "Violation"]

NOTICES = re.compile(
    r"\w+: (server|client) (\d+) (died(?: with its host, \S+)?|made no progress for \S+ s, and was killed)"
)
"""Errors about other processes, after which the command itself went on."""

FAILURES = re.compile(
    r"(put|get): ("
    r"client \d+ is not running(?P<cut>; uncertain: the value may stand later)?|"
    r"client \d+ has no connection|"
    r"client \d+ has only server \d+, which is not running|"
    r"none of the servers of client \d+ is running: .*|"
    r"(?P<uncertain>uncertain: the server was lost before it answered; the value may stand later))"
)
"""The reasons for which a put or get may fail."""

TOPOLOGY_FAILURES = re.compile(
    r"joinServer: server \d+ (is already running|is not running|could not be started: .*)|"
    r"joinClient: (client \d+ could not be started: .*|client \d+ is not running|server \d+ is not running)|"
    r"(kill|print)\w+: server \d+ is not running|"
    r"(break|create)Connection: (server|client) \d+ is not running|"
    r"(break|create)Connection: id \d+ is unknown: .*"
)


class Violation(Exception):
    """The master printed something that the contract does not allow."""


class Judge:
    """Knows what was put, acknowledged and seen. Its methods raise Violation if an answer cannot be true."""

    def __init__(self) -> None:
        self.last = 0  # put
        self.puts: dict[bytes, tuple[bytes, int]] = {}  # value -> its key, and the number of its put
        self.acknowledged: dict[bytes, int] = {}  # key -> the last put that certainly stands
        self.uncertain: dict[bytes, set[int]] = {}  # key -> puts that may stand
        self.seen: dict[tuple[int, bytes], int] = {}  # (client, key) -> the last put that the client has made or read
        self.counts: Counter[str] = Counter()

    def put(self, key: bytes, value: bytes) -> None:
        """Note a put that is going to be sent. No value may be put twice."""
        self.last += 1
        self.puts[value] = key, self.last

    def outcome(self, line: bytes, errors: list[str], answers: list[bytes]) -> None:
        """Judge a command that is done. *errors*: its own; its answer is taken from *answers*, the rest of stdout."""
        failure = self._take_errors(line, errors)
        self.counts["commands"] += 1
        word, *words = line.split(b" ", 3)
        if word == b"put":
            self._conclude_put(int(words[0]), words[1], words[2], failure)
        elif word == b"get" and failure is None:
            if not answers:
                raise Violation(f"{line!r} has printed nothing")
            self._conclude_get(int(words[0]), words[1], answers.pop(0))

    def _take_errors(self, line: bytes, errors: list[str]) -> re.Match[str] | None:
        """Judge the error lines of a command; returns why it failed, or None."""
        failure = None
        for error in errors:
            notice = NOTICES.fullmatch(error)
            if notice is not None:
                if notice[1] == "client":
                    self.forget(int(notice[2]))
                self.counts[re.sub(r"\d+ ", "", error.partition(": ")[2]).partition(" for ")[0]] += 1
                continue
            allowed = FAILURES if line.startswith((b"put", b"get")) else TOPOLOGY_FAILURES
            match = allowed.fullmatch(error)
            if match is None or failure is not None or not error.startswith(line.split()[0].decode()):
                raise Violation(f"{line!r}: {error}")
            failure = match
        return failure

    def forget(self, client: int) -> None:
        """Forget a client that has died: the next one with its id begins a new session."""
        for seen in [seen for seen in self.seen if seen[0] == client]:
            del self.seen[seen]

    def _conclude_put(self, client: int, key: bytes, value: bytes, failure: re.Match[str] | None) -> None:
        number = self.puts[value][1]
        if failure is None:
            self.acknowledged[key] = self.seen[client, key] = number
            self.counts["acknowledged puts"] += 1
        elif failure["uncertain"] or failure["cut"]:
            self.doubt(key, value)
        else:
            del self.puts[value]  # it was not carried out, so no client may ever read it

    def doubt(self, key: bytes, value: bytes) -> None:
        """Note that it is unknown whether this put was carried out."""
        self.uncertain.setdefault(key, set()).add(self.puts[value][1])
        self.counts["uncertain puts"] += 1

    def _number(self, key: bytes, value: bytes, where: str) -> int:
        known, number = self.puts.get(value, (b"", 0))
        if known != key:
            raise Violation(f"{where}: {value!r}, which was never put there")
        return number

    def _conclude_get(self, client: int, key: bytes, answer: bytes) -> None:
        where = f"get {client} {key.decode()}"
        if not answer.startswith(key + b":"):
            raise Violation(f"{where}: {answer!r}")
        value, seen = answer[len(key) + 1 :], self.seen.get((client, key), 0)
        if value in (b"ERR_KEY", b"ERR_DEP"):
            if bool(seen) != (value == b"ERR_DEP"):
                raise Violation(f"{where}: {value.decode()}, where the session had seen put {seen}")
            return
        number = self._number(key, value, where)
        if number < seen:
            raise Violation(f"{where}: put {number}, where the session had seen put {seen}")
        self.seen[client, key] = number

    def stores(self, stores: dict[int, list[bytes]]) -> None:
        """Judge the stores of all servers, as printStore shows them after these were connected and stabilized."""
        first = stores[min(stores)]
        for server, store in stores.items():
            if store != first:
                differing = [line[:40] for line in sorted(set(store) ^ set(first))]
                raise Violation(f"servers {min(stores)} and {server} differ after stabilize: {differing}")
        found = dict(line.split(b":", 1) for line in first)
        if list(found) != sorted(found) or len(found) != len(first):
            raise Violation(f"printStore is not sorted: {first}")
        for key in sorted({*found, *self.acknowledged}):
            number = self._number(key, found[key], "printStore") if key in found else 0
            last = self.acknowledged.get(key, 0)
            if number != last and not (number > last and number in self.uncertain.get(key, ())):
                raise Violation(f"printStore: {key!r} has put {number}; put {last} had been acknowledged")
            self.acknowledged[key] = number
        self.uncertain.clear()
