"""What a teacher may say of a test: its points, limits, and what counts as right.

May live here: the settings, their types and what they may be. May not: where they stand (grading/suite.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["CONFLICTS", "CREDITS", "ORDERS", "VISIBILITIES", "BadSetting", "Settings"]

VISIBILITIES = ("visible", "hidden", "after_due_date", "after_published")
"""As Gradescope names them."""

ORDERS = ("sorted", "free")
CONFLICTS = ("last put", "any, but everywhere the same")
CREDITS = ("answers", "script")


class BadSetting(ValueError):
    """A setting that there isn't, or that can't be so; the text says what."""


@dataclass(frozen=True)
class Settings:
    """How a test is run, and how it counts. docs/grading.md explains each to teachers."""

    points: float = 1.0
    timeout: float = 10.0
    """Seconds."""
    runs: int = 1
    """How often it is run; the score is the mean of all runs."""
    visibility: str = "visible"
    tags: tuple[str, ...] = ()
    credit: str = "answers"
    """"answers": each right one counts; "script": all or nothing."""
    order: str = "sorted"
    """Of the lines of a printStore: "sorted" by key, or "free"."""
    conflicts: str = "last put"
    """Which of several concurrent puts stands."""
    pattern: str = ""
    """A regular expression with the groups `key` and `value`; lines that it doesn't match are not looked at."""
    per_line: float = 0.0
    """Feed one line at a time, with pauses of so many seconds; 0: all at once."""
    comments: bool = False
    """Whether programs are given comments and empty lines, too."""
    errors: bool = False
    """Whether the script has errors in it on purpose."""

    def changed(self, given: Mapping[str, Any]) -> Settings:
        """These settings, with others in the place of some. Raises BadSetting."""
        known = {one.name for one in fields(self)}
        changes = {}
        for name, value in given.items():
            name = name.replace("-", "_")
            if name not in known:
                raise BadSetting(f"there is no setting {name!r}; there are {', '.join(sorted(known))}")
            changes[name] = _checked(name, value, getattr(self, name))
        return replace(self, **changes)


_CHOICES = {"visibility": VISIBILITIES, "order": ORDERS, "conflicts": CONFLICTS, "credit": CREDITS}


def _checked(name: str, value: Any, example: Any) -> Any:
    """The value, as it is kept. Raises BadSetting."""
    if name in _CHOICES and value not in _CHOICES[name]:
        raise BadSetting(f"{name} is one of {', '.join(map(repr, _CHOICES[name]))}, not {value!r}")
    if name == "tags":
        if type(value) is not list or any(type(tag) is not str for tag in value):
            raise BadSetting(f"tags is a list of strings, not {value!r}")
        return tuple(value)
    if type(example) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(example):
        kinds = {float: "a number", int: "a whole number", bool: "true or false", str: "a string"}
        raise BadSetting(f"{name} is {kinds[type(example)]}, not {value!r}")
    least = {"points": 0.0, "timeout": 0.001, "runs": 1, "per_line": 0.0}.get(name)
    if least is not None and not least <= value < 1e6:
        raise BadSetting(f"{name} is at least {least:g}, not {value!r}")
    if name == "pattern" and value:
        try:
            groups = set(re.compile(value).groupindex)
        except re.error as error:
            raise BadSetting(f"the pattern {value!r} is no regular expression: {error}") from None
        if not groups >= {"key", "value"}:
            raise BadSetting(f"the pattern {value!r} lacks a group (?P<key>…) or (?P<value>…)")
    return value
