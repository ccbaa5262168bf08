"""What a program reads from `master.py --json`: objects, and what plain output and errors would be of them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from checking.driver import ROOT

__all__ = ["SCHEMA", "commands_of", "errors_of", "objects_of", "stdout_of"]

SCHEMA = json.loads((ROOT / "docs" / "json.schema.json").read_text())
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def objects_of(output: bytes) -> list[dict[str, Any]]:
    """The objects, each of which is as the schema says."""
    output.decode("ascii")
    lines = output.split(b"\n")
    assert lines.pop() == b""
    objects = [json.loads(line) for line in lines]
    for found in objects:
        _VALIDATOR.validate(found)
    assert [found["type"] == "run" for found in objects] == [True] + [False] * (len(objects) - 1)
    return objects


def commands_of(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that answer a line."""
    return [found for found in objects if found["type"] in ("ok", "error", "uncertain", "skipped") and "line" in found]


def spelled(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def stdout_of(objects: list[dict[str, Any]]) -> bytes:
    """What a plain run would have printed."""
    printed = b""
    for found in objects:
        if found.get("f") == "get" and found["type"] == "ok":
            printed += spelled(f"{found['key']}:{found.get('value', found.get('answer'))}\n")
        for key, value in found.get("store", ()):
            printed += spelled(f"{key}:{value}\n")
    return printed


def errors_of(objects: list[dict[str, Any]]) -> list[str]:
    """The errors and warnings that a plain run would have written to stderr, without the places of events."""
    lines = []
    for found in objects:
        if found["type"] in ("error", "uncertain"):
            where = f"line {found['line']}: " if "line" in found else ""
            where = f"{found['file']}: {where}" if "file" in found and where else where
            name = f"{found['f']}: " if "f" in found else ""
            lines.append(f"error: {where}{name}{found['error']}")
        elif found["type"] in ("died", "warning"):
            lines.append(f"{'error' if found['type'] == 'died' else 'warning'}: … {found['error']}")
    return lines
