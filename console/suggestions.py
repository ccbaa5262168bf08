"""What may come next in a line that is being typed at the prompt: the words that fit, and a hint about what is missing.

May live here: what follows from the beginning of a line and the state of the cluster. May not: terminals, calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from console.help import TOPICS
from control import commands
from control.overview import Overview

__all__ = ["QUOTED", "Hint", "Suggestion", "hint", "is_quoted", "split", "suggestions"]

QUOTED = "(quotes are part of the key, which is one word)"
"""What is said of a key that `is_quoted`."""

NUMBERS = ("id", "id1", "id2", "clientId", "serverId")


class Suggestion(NamedTuple):
    """A word that fits, a note about it, and whether *more* words follow it."""

    word: str
    note: str = ""
    more: bool = False


class Hint(NamedTuple):
    """A part of the hint after the cursor. *current*: whether it is the word that is to be typed next."""

    text: str
    current: bool = False


def is_quoted(key: str) -> bool:
    """Whether a key looks as if its author thought that quotes hold words together."""
    return key.startswith(('"', "'"))


def split(text: str) -> tuple[list[str], str]:
    """The complete words of a line's beginning, and the word that is being typed, which may be empty."""
    *whole, typed = re.split("[ \t]+", text.lstrip(" \t"))
    return whole, typed


# -- words that fit ----------------------------------------------------------------------------------------


def suggestions(whole: list[str], overview: Overview, keys: Iterable[str]) -> list[Suggestion]:
    """What may follow these complete words. *keys*: the keys that have been put."""
    if not whole:
        of_all = [Suggestion(name, form.summary, bool(form.words)) for name, form in commands.COMMANDS.items()]
        return of_all + [
            Suggestion(name, summary, commands.prompt_usage(name) != name)
            for name, summary in commands.PROMPT_WORDS.items()
        ]
    name, *given = whole
    if name == "help" and not given:
        of_all = [Suggestion(command, form.summary) for command, form in commands.COMMANDS.items()]
        of_all += [Suggestion(word, summary) for word, summary in commands.PROMPT_WORDS.items()]
        return of_all + [Suggestion(topic, summary) for topic, (summary, _, _) in TOPICS.items()]
    words = commands.COMMANDS[name].words if name in commands.COMMANDS else ()
    if len(given) >= len(words):
        return []
    more = len(given) + 1 < len(words)
    wanted = words[len(given)]
    if wanted in NUMBERS:
        fitting = _ids(name, wanted, given, overview)
        return [Suggestion(str(ident), _kind(ident, overview), more) for ident in fitting]
    return [Suggestion(key, "", more) for key in keys] if wanted == "key" else []


def _ids(name: str, wanted: str, given: list[str], overview: Overview) -> list[int]:
    """The ids for which a command has an effect at this position."""
    running = sorted(overview.links)
    clients = sorted(ident for ident, client in overview.clients.items() if client.pid is not None)
    if name == "joinServer":
        return sorted(overview.servers.keys() - overview.links.keys())
    if wanted == "clientId":
        return clients
    if wanted in ("id", "serverId"):
        connected = _partners(given[0], overview) if given else set()
        return [ident for ident in running if ident not in connected]
    if name in ("breakConnection", "shapeConnection"):
        if wanted == "id2":
            return sorted(_partners(given[0], overview))
        return [ident for ident in sorted({*overview.servers, *clients}) if _partners(str(ident), overview)]
    ends = [*running, *clients]
    if wanted == "id2":
        ends = running if _number(given[0]) in overview.clients else ends
        return [end for end in ends if end not in {_number(given[0]), *_partners(given[0], overview)}]
    return ends


def _partners(word: str, overview: Overview) -> set[int]:
    """The ids that this one is connected to."""
    ident = _number(word)
    if ident in overview.clients:
        return set(overview.clients[ident].connections)
    clients = {number for number, client in overview.clients.items() if ident in client.connections}
    return clients.union(overview.links.get(ident, ()))


def _number(word: str) -> int:
    return int(word) if re.fullmatch("[0-9]{1,18}", word) else -1


def _kind(ident: int, overview: Overview) -> str:
    if ident in overview.clients:
        return "client"
    return "server" if overview.servers.get(ident) is not None else "killed server"


# -- hints -------------------------------------------------------------------------------------------------


def hint(text: str) -> list[Hint]:
    """What to show after the line that has been typed so far: the words that are missing, or what is wrong."""
    if text.lstrip(" \t").startswith("#"):
        return []
    whole, typed = split(text)
    name, *given = [*whole, typed]
    if name in commands.PROMPT_WORDS:
        _, _, wanted = commands.prompt_usage(name).partition(" ")
        return [Hint(wanted, True)] if given == [""] and wanted else []
    if name not in commands.COMMANDS:
        # As long as no blank follows the name, it may still become the name of a command.
        return [Hint("  " + commands.unknown(name.encode("utf-8", "replace"), commands.ALL_WORDS))] if given else []
    words = commands.COMMANDS[name].words
    if "key" in words and len(given) > 1 and is_quoted(given[1]):
        return [Hint(f"  {QUOTED}")]
    if len(given) > len(words):
        too_many = any(given[len(words) :]) and "value" not in words
        return [Hint(f"  usage: {commands.usage(name)}")] if too_many else []
    coming = [Hint(f" {word}") for word in words[len(given) :]]
    return [Hint(words[len(given) - 1], True), *coming] if given and not typed else coming
