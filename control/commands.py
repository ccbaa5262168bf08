"""The command language: what a line of a script means.

May live here: the grammar, the limits, the help texts. May not: anything that carries out a command.

A line consists of bytes, and so do keys and values. Only the names of commands and the ids are read as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from messages import MAX_KEY, MAX_VALUE, Command

__all__ = [
    "ALL_WORDS",
    "BLANKS",
    "COMMANDS",
    "MAX_KEY",
    "MAX_LINE",
    "MAX_VALUE",
    "PROMPT_WORDS",
    "STATUS",
    "Command",
    "CommandError",
    "Uncertain",
    "parse",
    "unknown",
    "usage",
]

MAX_LINE = MAX_VALUE + MAX_KEY + (64 << 10)
"""The longest line that is accepted, in bytes: the largest put and 64 KiB of blanks."""

BLANKS = b" \t"
_WORD_END = re.compile(rb"[ \t]+")
_ID_DIGITS = 18


class CommandError(Exception):
    """A command can't be carried out. The text says why, and the state is the same as before."""


class Uncertain(CommandError):
    """A put may have been carried out, and its value, which has this *timestamp*, may appear later."""

    def __init__(self, text: str, timestamp: int) -> None:
        super().__init__(text)
        self.timestamp = timestamp


class Form(NamedTuple):
    """The form of a command: the names of its *words*, of which the first *ids* are ids, and a *summary* for help."""

    ids: int
    words: tuple[str, ...]
    summary: str
    optional: int = 0
    """How many of the words, the last ones, may be missing."""


COMMANDS: dict[str, Form] = {
    "joinServer": Form(1, ("id",), "start server ID, or revive it, and connect it to every running server"),
    "killServer": Form(1, ("id",), "kill server ID at once; what it acknowledged stays on its disk"),
    "joinClient": Form(2, ("clientId", "serverId"), "start client CLIENTID and connect it to server SERVERID"),
    "breakConnection": Form(2, ("id1", "id2"), "cut two servers, or a client and a server, from each other"),
    "createConnection": Form(2, ("id1", "id2"), "connect two servers, or a client and a server"),
    "stabilize": Form(0, (), "return when all servers that can reach each other hold the same store"),
    "printStore": Form(1, ("id",), "print server ID's store, key:value a line, sorted by key"),
    "put": Form(1, ("clientId", "key", "value"), "have the client store the value, which is the rest of the line"),
    "get": Form(
        1,
        ("clientId", "key"),
        "print key:value, key:ERR_KEY (no value) or key:ERR_DEP (the server is behind what this client has seen)",
    ),
    "shapeConnection": Form(
        2,
        ("id1", "id2", "delay", "[jitter]", "[loss]"),
        "an extra beside the nine commands: delay the messages between two servers, or a client and a server, and lose "
        "some of them, such as 200ms 50ms 10%; 0ms ends that",
        optional=2,
    ),
}

STATUS = "status"

PROMPT_WORDS = {
    "help": "list the commands; help COMMAND explains one",
    STATUS: "show servers, links, partitions and clients, and which writes each server lacks",
    "exit": "end everything, like quit or Ctrl-D",
    "quit": "end everything, like exit or Ctrl-D",
}
"""Further commands of the prompt, each with a summary for help. In a script they are unknown."""

_FOR_PROGRAMS = {**COMMANDS, STATUS: Form(0, (), PROMPT_WORDS[STATUS])}
"""The commands of a script whose answers are read by a program: one more has an answer there."""

ALL_WORDS = (*COMMANDS, *PROMPT_WORDS)

LONGEST_MISTAKE = 24
"""The longest unknown word that is compared with the names of commands, in bytes."""

_NAMES = {name.encode(): name for name in _FOR_PROGRAMS}


def usage(name: str) -> str:
    """The usage of the command *name*, for example `put clientId key value`."""
    return " ".join((name, *_FOR_PROGRAMS[name].words))


def parse(line: bytes, for_programs: bool = False) -> Command | None:
    """The command in a line (without its line end); None for an empty line or a comment.

    *for_programs*: `status` is a command as well. Raises CommandError if the line is not a valid command.
    """
    line = line.strip(BLANKS)
    if not line or line.startswith(b"#"):
        return None
    if len(line) > MAX_LINE:
        raise CommandError(f"the line is longer than {MAX_LINE} bytes")
    # At most three words follow a name. A third word is the rest of the line, including its blanks.
    word, *words = _WORD_END.split(line, maxsplit=3)
    name, known = _NAMES.get(word), _FOR_PROGRAMS if for_programs else COMMANDS
    if name not in known:
        raise CommandError(unknown(word, known))
    form = known[name]
    if len(words) != len(form.words) - form.optional:
        raise CommandError(f"{name}: wrong number of words; usage: {usage(name)}")
    ids = tuple([_id(name, word) for word in words[: form.ids]])
    key, value = (*words[form.ids :], b"", b"")[:2]
    if len(key) > MAX_KEY:
        raise CommandError(f"{name}: the key has {len(key)} bytes; at most {MAX_KEY} are allowed")
    if len(value) > MAX_VALUE:
        raise CommandError(f"{name}: the value has {len(value)} bytes; at most {MAX_VALUE} are allowed")
    if name == "shapeConnection":
        key = _shape(name, key)
    return Command(name, ids, key, value)


def _shape(name: str, text: bytes) -> bytes:
    """A shape as it is usually written (`Shape.parse`)."""
    from shape import Shape  # not at the top, since few scripts need it

    try:
        return str(Shape.parse(_shown(_WORD_END.sub(b" ", text)))).encode()
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from error


def unknown(word: bytes, names: Iterable[str]) -> str:
    """An error text about a *word* that is none of these names, which suggests the names that may have been meant."""
    text = f"unknown command: {_shown(word)}"
    meant = _similar(word.decode("ascii", "replace"), tuple(names)) if len(word) <= LONGEST_MISTAKE else ()
    return f"{text}; did you mean {' or '.join(meant)}?" if meant else text


@lru_cache
def _similar(word: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names that may have been meant by *word*, three at most: it is a part of them, or nearly all of one."""
    try:
        import difflib  # not at the top, since few scripts need it
    except (ImportError, OSError):  # there is no descriptor left to read it with
        return ()
    by_letters = {name.lower(): name for name in names}
    word = word.lower()
    if word in by_letters:
        return (by_letters[word],)
    containing = [name for letters, name in by_letters.items() if word in letters] if len(word) > 2 else []
    if containing:
        return tuple(containing) if len(containing) <= 3 else ()
    return tuple(by_letters[letters] for letters in difflib.get_close_matches(word, by_letters, n=1, cutoff=0.7))


def _id(name: str, word: bytes) -> int:
    digits = word.lstrip(b"0") or b"0"
    if not word.isdigit() or len(digits) > _ID_DIGITS:
        raise CommandError(f"{name}: not an id: {_shown(word)} (an id is a number of 1 to {_ID_DIGITS} digits)")
    return int(digits)


def _shown(word: bytes) -> str:
    """A word as an error text shows it: short, and on one line whatever it contains."""
    text = word[:300].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 60 else text[:57] + "..."
