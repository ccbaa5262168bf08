"""Why a get was answered as it was, in sentences.

May live here: the sentences, made of facts that are handed in, so that a report (checking/reasons.py) and a run that is
still going on (control/witness.py) say it alike. May not: how the facts are found out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "NOBODY_COULD",
    "PARTITIONED",
    "Had",
    "Seen",
    "capital",
    "had",
    "had_but",
    "had_since",
    "line_of",
    "listed",
    "nobody_has",
    "not_moved",
    "place",
    "seen",
    "shown",
    "silent",
    "somebody_could",
    "unbound",
]

NOBODY_COULD = "At that moment, no running server could have answered."

PARTITIONED = "No path of links led from there to the servers that were asked: they were in different partitions."


SHOWN_BYTES = 200
"""How many bytes of a key or a value are shown."""


class Seen(NamedTuple):
    """What a session had seen of a key: the value, whether it had put it itself, and where in the script."""

    value: str
    put: bool
    where: str


class Had(NamedTuple):
    """What a server had that was asked: the value, None for none; who had put it, and where; "" where nobody knows."""

    value: str | None
    author: str = ""
    where: str = ""
    age: str = ""
    """Compared with what the session had seen: "older", "same" or "later"; empty where it had seen nothing."""


def seen(client: str, key: str, what: Seen) -> str:
    """Which guarantee binds the session."""
    how, guarantee = ("put", "Read Your Writes") if what.put else ("read", "Monotonic Reads")
    return (
        f"{capital(client)} had itself {how} {key} = {what.value}{place(what.where)}. "
        f"It must not read anything older from now on ({guarantee})."
    )


def unbound(client: str, key: str) -> str:
    """No guarantee binds the session."""
    return f"{capital(client)} had neither read nor written {key} before, so any value, or none, is right."


def had(server: str, what: Had, bound: bool) -> str:
    """What a server that was asked had, and what follows; *bound*: whether the session had seen something."""
    server = capital(server)
    if what.value is None:
        answer = f"{server} had no value for it"
        return f"{answer}, which counts as older than any." if bound else f"{answer}: ERR_KEY."
    by = f", put by {what.author}{place(what.where)}" if what.author else ""
    endings = {
        "older": ". This value is older, so the server must not answer.",
        "same": ". This is the value that the session had seen.",
        "later": ". This value is later, so the server may answer.",
    }
    return f"{server} had {what.value}{by}{endings.get(what.age, '.')}"


def somebody_could(servers: Iterable[str]) -> str:
    """The sentence that says which servers could have answered."""
    return f"At that moment, {listed(servers)} could have answered."


def not_moved(servers: Iterable[str]) -> str:
    """The sentence for a write that links could have moved, but that nothing had moved yet."""
    return (
        f"Links led from {listed(servers)} to the servers that were asked, "
        "but neither stabilize nor gossip had moved the write over them yet."
    )


def had_but(server: str, end: str, where: str = "") -> str:
    """A server had what was asked for, and can't answer: *end* says what became of it, in the line *where*."""
    line = f" ({line_of(where)})" if where else ""
    return f"{capital(server)} had it, but {end}{line}."


def nobody_has(key: str) -> str:
    """The sentence for a value that no server has any more."""
    return f"No server has it any more, so this session gets ERR_DEP until {key} is written again."


def had_since(server: str, value: str) -> str:
    """A server was behind when it was asked, and isn't any more."""
    return f"{capital(server)} was behind when it was asked; gossip has brought it {value} since then."


def silent(servers: list[str]) -> str:
    """The sentence for servers that run and don't answer, so that they may or may not have had it."""
    are, they, have = ("is", "it", "has") if len(servers) == 1 else ("are", "they", "have")
    return f"{capital(listed(servers))} {are} silent, so what {they} {have} is unknown."


def shown(data: bytes, most: int = SHOWN_BYTES) -> str:
    """Return a key, a value or a line as text: bytes that are not UTF-8 are escaped, and a long text is cut."""
    text = data[:most].decode("utf-8", "backslashreplace")
    return text if len(data) <= most else f"{text}… ({len(data)} bytes)"


def place(where: str) -> str:
    """Return the place of a command in its script, as a part of a sentence."""
    return f" in {line_of(where)}" if where else ""


def line_of(where: str) -> str:
    """Return "line 12" for the place of a command, which is "line 12" or "file: line 12"."""
    return where.rpartition(": ")[2]


def listed(names: Iterable[str]) -> str:
    """List names in a sentence."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def capital(name: str) -> str:
    """Return a text as the beginning of a sentence."""
    return name[:1].upper() + name[1:]
