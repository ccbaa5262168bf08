"""What `help WORD` shows at the prompt: an example, the errors that may come, and what else is worth reading.

May live here: texts about words of the prompt, and about topics. May not: the grammar and the one-line summaries
(control/commands.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from console.status import wrapped
from control import commands

__all__ = ["ANSWERS", "TOPICS", "about", "listed"]


class Page(NamedTuple):
    """What is said of a command beside its usage and its summary."""

    example: tuple[str, ...]
    """Lines to type, each followed by what it prints, if it prints something: that is indented."""
    errors: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    more: str = ""
    """What the summary has no room for."""


PAGES = {
    "joinServer": Page(
        ("joinServer 0", "joinServer 1"),
        ("server 0 is already running", "id 5 is taken by a client"),
        ("killServer", "links"),
        "A server that was killed comes back with everything that it had acknowledged.",
    ),
    "killServer": Page(
        ("joinServer 0", "killServer 0"),
        ("server 0 is not running",),
        ("joinServer", "status"),
        "The process gets SIGKILL, and its links are gone. Its clients keep their place for it, and pass it over.",
    ),
    "joinClient": Page(
        ("joinServer 0", "joinClient 5 0"),
        ("server 1 is not running", "id 0 is taken by a server"),
        ("createConnection", "guarantees"),
        "A client that runs already keeps its session, and gets one more connection.",
    ),
    "breakConnection": Page(
        ("joinServer 0", "joinServer 1", "breakConnection 0 1"),
        (
            "id 7 is unknown: neither a server nor a client of this run",
            "client 5 and client 6 are both clients; one end must be a server",
            "server 0 has no connection to itself",
        ),
        ("createConnection", "links", "status"),
        "When it returns, nothing more crosses. The ids may come in either order.",
    ),
    "createConnection": Page(
        ("joinServer 0", "joinServer 1", "breakConnection 0 1", "createConnection 0 1"),
        (
            "server 1 is not running",
            "client 5 and client 6 are both clients; one end must be a server",
        ),
        ("breakConnection", "links"),
    ),
    "shapeConnection": Page(
        ("joinServer 0", "joinServer 1", "shapeConnection 0 1 200ms 50ms 10%", "shapeConnection 0 1 0ms"),
        ("server 0 has no connection to itself",),
        ("links", "status"),
        "Each message takes the delay, more or less by up to the jitter, and so many of them are lost, and sent again. "
        "It works for two servers, or a client and a server; 0ms ends it. No promise changes.",
    ),
    "stabilize": Page(
        ("joinServer 0", "joinServer 1", "joinClient 5 0", "put 5 colour red", "stabilize", "printStore 1"),
        (),
        ("printStore", "guarantees", "links"),
        "It returns when all servers that can reach each other, over any number of hops, hold the same store.",
    ),
    "printStore": Page(
        ("joinServer 0", "joinClient 5 0", "put 5 colour red", "printStore 0", "  colour:red"),
        ("server 1 is not running",),
        ("get", "stabilize"),
        "Each line is key:value. An empty store prints nothing.",
    ),
    "put": Page(
        ("joinServer 0", "joinClient 5 0", "put 5 colour dark red", "get 5 colour", "  colour:dark red"),
        (
            "client 5 is not running",
            "client 5 has no connection",
            "client 5 has only server 0, which is not running",
            "uncertain: the server was lost before it answered; the value may stand later",
        ),
        ("get", "guarantees"),
        "The key is one word; the value may have blanks. It prints nothing.",
    ),
    "get": Page(
        ("joinServer 0", "joinClient 5 0", "get 5 colour", "  colour:ERR_KEY"),
        ("client 5 is not running", "client 5 has only server 0, which is not running"),
        ("why", "put", "guarantees"),
        "ERR_KEY: the server has no value. ERR_DEP: no server of this client is up to what it has written or read.",
    ),
    "status": Page(
        ("joinServer 0", "status"),
        (),
        ("links", "printStore"),
        "It changes nothing. x is a link; reaches is what the server itself believes; what a silent server has is "
        "unknown; * has changed since the last status.",
    ),
    "why": Page(
        ("why", "why 9"),
        (),
        ("get", "guarantees"),
        "Lines are counted as they are typed, and those of a script as in the script.",
    ),
    "run": Page(
        ("run examples/2-sessions.txt", "why 21"),
        (),
        ("step", "why"),
        "Only answers go to stdout. Ctrl-C ends it after the line that runs.",
    ),
    "step": Page(("step examples/2-sessions.txt",), (), ("run", "why")),
    "report": Page(
        ("report", "report page.html"), (), ("why", "status"), "Without FILE, it is report.html in the trace's folder."
    ),
}

USAGE_COLUMNS = 30
"""A longer usage has a line of its own in the list of all words."""

TOPICS = {
    "guarantees": (
        "what a client may read, and what it may not",
        (
            "Read Your Writes: a client that has written a key never reads an older value of it.",
            "Monotonic Reads: a client that has read a key never reads an older value of it.",
            "A server that would break one answers ERR_DEP, and the client asks its next server. Both hold for each "
            "key by itself, and for each client by itself. ERR_KEY only means that the server has no value.",
            "Of two writes to a key, the one that its author made knowing of the other is later. If neither knew of "
            "the other, they are concurrent, and the one with the larger timestamp stands, on every server. So after "
            "stabilize the last put stands.",
            "Nobody promises that another client sees a put before gossip or stabilize has moved it.",
        ),
        ("links", "get", "stabilize"),
    ),
    "links": (
        "how writes get from one server to another",
        (
            "joinServer links a server to every running one; breakConnection and createConnection cut and make single "
            "links. Servers that reach each other, over any number of hops, are one partition: status shows them.",
            "A server that has learnt something tells its neighbours once nothing new has reached it for one second "
            "(--gossip-interval; 0 turns gossip off). stabilize does it at once, within each partition.",
            "Nothing ever crosses a broken link. A client is no link: servers learn nothing over it. shapeConnection "
            "makes a link slow and lossy.",
            "A client's connections have an order. Each command asks the first server, and goes on to the next one "
            "where it is killed, or can't answer without breaking a guarantee.",
        ),
        ("breakConnection", "createConnection", "shapeConnection", "stabilize", "guarantees"),
    ),
}


ANSWERS = {"ERR_DEP": "guarantees", "ERR_KEY": "guarantees"}
"""What a get may answer in place of a value, and the topic that explains it."""


def _usages() -> dict[str, str]:
    """All words of the prompt as they are used, each with its summary."""
    return {commands.usage(name): form.summary for name, form in commands.COMMANDS.items()} | {
        commands.prompt_usage(name): summary for name, summary in commands.PROMPT_WORDS.items()
    }


def listed(width: int) -> Iterator[str]:
    """All words and topics, for a terminal of *width* columns. Summaries stand below usages if there is no room."""
    texts = _usages() | {f"help {name}": summary for name, (summary, _, _) in TOPICS.items()}
    column = max(len(usage) for usage in texts if len(usage) <= USAGE_COLUMNS) + 2
    if column > width // 2:
        column = 2
    for usage, summary in texts.items():
        if len(usage) + 2 > column:
            yield from wrapped("", usage, width)
            usage = ""
        yield from wrapped(f"{usage:{column}}", summary, width)


def about(word: str, width: int) -> Iterator[str]:
    """The page of a word or a topic, for a terminal of *width* columns."""
    word = ANSWERS.get(word, word)
    if word in TOPICS:
        summary, texts, also = TOPICS[word]
        yield from wrapped("", f"{word}: {summary}", width)
        for text in texts:
            yield from wrapped("  ", text, width)
        yield from _also(also, width)
        return
    usage, summary = next((usage, text) for usage, text in _usages().items() if usage.split()[0] == word)
    yield from wrapped("", usage, width)
    yield from wrapped("  ", summary, width)
    page = PAGES.get(word)
    if page is None:
        return
    yield from wrapped("  ", page.more, width) if page.more else ()
    yield from _under("example", page.example)
    if page.errors:
        yield "errors, such as:"
        for error in page.errors:
            yield from wrapped("  ", f"{word}: {error}", width)
    yield from _also(page.also, width)


def _under(head: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"{head}:"
    for line in lines:
        yield f"  {line}"


def _also(words: Iterable[str], width: int) -> list[str]:
    return wrapped("see also: ", ", ".join(words), width) if words else []
