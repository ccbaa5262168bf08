"""The command language: what a line of a script means.

May live here: the grammar, the limits, the texts of help. May not: anything that carries a command out.

A line is bytes, and so are keys and values; only names of commands and ids are looked at as text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["COMMANDS", "MAX_KEY", "MAX_LINE", "MAX_VALUE", "Command", "CommandError", "parse"]

MAX_KEY = 64 << 10
MAX_VALUE = 64 << 20
MAX_LINE = MAX_VALUE + MAX_KEY + (64 << 10)
"""The longest line that is looked at, in bytes: the largest put and 64 KiB of blanks."""

BLANKS = b" \t"
_WORD_END = re.compile(rb"[ \t]+")
_ID = re.compile(rb"0*[0-9]{1,18}")


class CommandError(Exception):
    """A command that can't be carried out; the text says why, and the state is as it was."""


class Command(NamedTuple):
    """One parsed line. *ids* are in the order of the line; *key* and *value* are empty where there is none."""

    name: str
    ids: tuple[int, ...] = ()
    key: bytes = b""
    value: bytes = b""


class Form(NamedTuple):
    """What the words behind a command's name are, and what it does."""

    words: tuple[str, ...]
    summary: str


COMMANDS: dict[str, Form] = {
    "joinServer": Form(("id",), "start server ID, or revive it, and connect it to every running server"),
    "killServer": Form(("id",), "kill server ID at once; what it acknowledged stays on its disk"),
    "joinClient": Form(("clientId", "serverId"), "start client CLIENTID and connect it to server SERVERID"),
    "breakConnection": Form(("id1", "id2"), "cut two servers, or a client and a server, from each other"),
    "createConnection": Form(("id1", "id2"), "connect two servers, or a client and a server"),
    "stabilize": Form((), "return when all servers that can reach each other hold the same store"),
    "printStore": Form(("id",), "print server ID's store, key:value a line, sorted by key"),
    "put": Form(("clientId", "key", "value"), "have the client store the value, which is the rest of the line"),
    "get": Form(("clientId", "key"), "print key:value, key:ERR_KEY (no value) or key:ERR_DEP (server too old)"),
}


def usage(name: str) -> str:
    """A command with the names of its words: `put clientId key value`."""
    return " ".join((name, *COMMANDS[name].words))


def parse(line: bytes) -> Command | None:
    """What a line without its line end means; None for an empty line or a comment.

    Raises CommandError for anything that is no command.
    """
    line = line.strip(BLANKS)
    if not line or line.startswith(b"#"):
        return None
    if len(line) > MAX_LINE:
        raise CommandError(f"the line is longer than {MAX_LINE} bytes")
    word = _WORD_END.split(line, maxsplit=1)[0]
    name = _shown(word)
    form = COMMANDS.get(name)
    if form is None:
        raise CommandError(f"unknown command: {name}")
    # The last word of a put is the rest of the line, blanks and all.
    words = _WORD_END.split(line, maxsplit=len(form.words) if name == "put" else 0)[1:]
    if len(words) != len(form.words):
        raise CommandError(f"{name}: wrong number of words; usage: {usage(name)}")
    ids = tuple(_id(name, word) for word, kind in zip(words, form.words, strict=True) if "id" in kind.lower())
    key, value = b"", b""
    if "key" in form.words:
        key = words[form.words.index("key")]
        if len(key) > MAX_KEY:
            raise CommandError(f"{name}: the key has {len(key)} bytes; at most {MAX_KEY} are allowed")
    if "value" in form.words:
        value = words[-1]
        if len(value) > MAX_VALUE:
            raise CommandError(f"{name}: the value has {len(value)} bytes; at most {MAX_VALUE} are allowed")
    return Command(name, ids, key, value)


def _id(name: str, word: bytes) -> int:
    if not _ID.fullmatch(word):
        raise CommandError(f"{name}: not an id: {_shown(word)} (an id is a number of 1 to 18 digits)")
    return int(word)


def _shown(word: bytes) -> str:
    """A word for an error text: short, and on one line whatever is in it."""
    text = word.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 60 else text[:57] + "..."
