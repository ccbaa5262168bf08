"""The lines of a history, as docs/history.md has them: are their fields what they must be?

May live here: names, types and numbers of fields. May not: what lines mean together (checking/checker.py).
"""

from __future__ import annotations

import json
from typing import Any

from checking.findings import show

__all__ = ["wrong_with"]

IDS = {
    "joinServer": 1,
    "killServer": 1,
    "joinClient": 2,
    "breakConnection": 2,
    "createConnection": 2,
    "stabilize": 0,
    "printStore": 1,
    "died": 1,
    "warning": 0,
}
"""How many ids a command has, or an event that is no command; a put and a get have other values."""

KINDS = frozenset(("invoke", "ok", "fail", "info"))
OPERATIONS = frozenset(("put", "get"))
NAMES = OPERATIONS | IDS.keys()


def wrong_with(said: Any) -> str:
    """What is wrong with the fields of a line; empty if nothing is. All who read the fields later rely on this."""
    if type(said) is not dict:
        return "it is no object"
    kind: Any = said.get("type")
    f: Any = said.get("f")
    value = said.get("value")
    wrong = _wrong_names(kind, f) or _wrong_frame(said) or _wrong_origin(kind, f, said)
    if wrong:
        return wrong
    if type(value) is not list:
        return "its value is no list"
    if f == "printStore" and kind == "ok":
        return _wrong_store(value, said)
    if f in OPERATIONS:
        return _wrong_operation(kind, f, value, said)
    if len(value) != IDS[f] or any(type(ident) is not int for ident in value):
        return f"{f} of {_short(value)}"
    return ""


def _wrong_names(kind: Any, f: Any) -> str:
    if type(kind) is not str or kind not in KINDS:
        return f"its type is {_short(kind)}"
    if type(f) is not str or f not in NAMES:
        return f"no command is called {_short(f)}"
    return ""


def _wrong_frame(said: dict[str, Any]) -> str:
    """Every line has an index and a time."""
    if type(said.get("index")) is not int or type(said.get("time")) is not int or said["time"] < 0:
        return "its index or time is no number"
    return ""


def _wrong_origin(kind: str, f: str, said: dict[str, Any]) -> str:
    process = said.get("process")
    if type(process) is not int if f in OPERATIONS else process != "master":
        return f"{f} of process {_short(process)}"
    if f in ("died", "warning") and kind != "info":
        return f"{f} of type {kind}, not info"
    if kind in ("fail", "info") and type(said.get("error")) is not str:
        return "it gives no error"
    return ""


def _wrong_store(value: list[Any], said: dict[str, Any]) -> str:
    timestamps = said.get("timestamp")
    if type(said.get("server")) is not int:
        return "it doesn't say which server"
    if not all(type(pair) is list and len(pair) == 2 and type(pair[0]) is type(pair[1]) is str for pair in value):
        return "its value is no list of pairs"
    if type(timestamps) is not list or len(timestamps) != len(value) or not all(map(_is_timestamp, timestamps)):
        return "it has not one timestamp for each pair"
    return ""


def _wrong_operation(kind: str, f: str, value: list[Any], said: dict[str, Any]) -> str:
    answer = said.get("answer")
    if answer is not None and (kind, f, answer) not in (("ok", "get", "ERR_KEY"), ("ok", "get", "ERR_DEP")):
        return f"{f} with the answer {_short(answer)}"
    has_value = f == "put" or (kind == "ok" and answer is None)
    if len(value) != 2 or type(value[0]) is not str or type(value[1]) is not (str if has_value else type(None)):
        return f"{f} of {_short(value)}{f' with the answer {answer}' if answer else ''}"
    has_server, has_timestamp = "server" in said, "timestamp" in said
    if kind == "ok" and (has_server, has_timestamp) != (answer != "ERR_DEP", answer is None):
        return f"{answer or f} with {'a' if has_server else 'no'} server and {'a' if has_timestamp else 'no'} timestamp"
    if (has_server and type(said["server"]) is not int) or (has_timestamp and not _is_timestamp(said["timestamp"])):
        return "its server or timestamp is no number"
    return ""


def _is_timestamp(found: Any) -> bool:
    return type(found) is int and found > 0


def _short(found: Any) -> str:
    """Something unexpected, abbreviated."""
    return (
        show(json.dumps(found)) if type(found) in (str, int, float, list, type(None)) else f"a {type(found).__name__}"
    )
