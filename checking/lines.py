"""Checks whether the fields of a history's lines are as docs/history.md describes them.

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
    "shapeConnection": 2,
    "stabilize": 0,
    "printStore": 1,
    "died": 1,
    "warning": 0,
}
"""How many ids a command or a notice (died, warning) has; puts and gets have keys and values instead."""

KINDS = frozenset(("invoke", "ok", "fail", "info"))
OPERATIONS = frozenset(("put", "get"))
NAMES = OPERATIONS | IDS.keys()


def wrong_with(entry: Any) -> str:
    """Say what is wrong with the fields of a line; empty if nothing is. The rest of the checker relies on this."""
    if type(entry) is not dict:
        return "it is not an object"
    kind: Any = entry.get("type")
    f: Any = entry.get("f")
    value = entry.get("value")
    wrong = _wrong_names(kind, f) or _wrong_frame(entry) or _wrong_origin(kind, f, entry)
    if wrong:
        return wrong
    if type(value) is not list:
        return "its value is not a list"
    if f == "printStore" and kind == "ok":
        return _wrong_store(value, entry)
    if f in OPERATIONS:
        return _wrong_operation(kind, f, value, entry)
    if len(value) != IDS[f] or any(type(ident) is not int for ident in value):
        return f"{f} of {_short(value)}"
    return ""


def _wrong_names(kind: Any, f: Any) -> str:
    if type(kind) is not str or kind not in KINDS:
        return f"its type is {_short(kind)}"
    if type(f) is not str or f not in NAMES:
        return f"no command is called {_short(f)}"
    return ""


def _wrong_frame(entry: dict[str, Any]) -> str:
    """Every line has an index and a time."""
    if type(entry.get("index")) is not int or type(entry.get("time")) is not int or entry["time"] < 0:
        return "its index or its time is not a number"
    return ""


def _wrong_origin(kind: str, f: str, entry: dict[str, Any]) -> str:
    process = entry.get("process")
    if type(process) is not int if f in OPERATIONS else process != "master":
        return f"{f} of process {_short(process)}"
    if f in ("died", "warning") and kind != "info":
        return f"{f} of type {kind}, not info"
    if kind in ("fail", "info") and type(entry.get("error")) is not str:
        return "it gives no error"
    return ""


def _wrong_store(value: list[Any], entry: dict[str, Any]) -> str:
    timestamps = entry.get("timestamp")
    if type(entry.get("server")) is not int:
        return "it does not say which server"
    if not all(type(pair) is list and len(pair) == 2 and type(pair[0]) is type(pair[1]) is str for pair in value):
        return "its value is not a list of pairs"
    if type(timestamps) is not list or len(timestamps) != len(value) or not all(map(_is_timestamp, timestamps)):
        return "it does not have one timestamp for each pair"
    return ""


def _wrong_operation(kind: str, f: str, value: list[Any], entry: dict[str, Any]) -> str:
    answer = entry.get("answer")
    if answer is not None and (kind, f, answer) not in (("ok", "get", "ERR_KEY"), ("ok", "get", "ERR_DEP")):
        return f"{f} with the answer {_short(answer)}"
    has_value = f == "put" or (kind == "ok" and answer is None)
    if len(value) != 2 or type(value[0]) is not str or type(value[1]) is not (str if has_value else type(None)):
        return f"{f} of {_short(value)}{f' with the answer {answer}' if answer else ''}"
    has_server, has_timestamp = "server" in entry, "timestamp" in entry
    if kind == "ok" and (has_server, has_timestamp) != (answer != "ERR_DEP", answer is None):
        return f"{answer or f} with {'a' if has_server else 'no'} server and {'a' if has_timestamp else 'no'} timestamp"
    if (has_server and type(entry["server"]) is not int) or (has_timestamp and not _is_timestamp(entry["timestamp"])):
        return "its server or its timestamp is not a number"
    return ""


def _is_timestamp(found: Any) -> bool:
    return type(found) is int and found > 0


def _short(found: Any) -> str:
    """Something unexpected, abbreviated."""
    return (
        show(json.dumps(found)) if type(found) in (str, int, float, list, type(None)) else f"a {type(found).__name__}"
    )
