"""What a server process is started with, as the master sends it to the watchdog.

May live here: the options and their check. May not: what they do.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_type_hints

import messages
from groups import ANSWER_BYTES

__all__ = ["Options", "unpack"]


class Options(NamedTuple):
    """What a server process is started with."""

    server: int
    incarnation: int
    folder: str
    gossip_interval: float
    fsync: str
    timeout: float
    kept: bool
    """Whether the folder outlives the run."""
    group_limit: int = ANSWER_BYTES
    """A group whose answers contain more bytes than this is given up. Only tests set a lower limit."""


_checks = {name: messages.checker(hint) for name, hint in get_type_hints(Options).items()}


def _are_options(value: Any) -> bool:
    return (
        type(value) is dict and value.keys() == _checks.keys() and all(_checks[name](value[name]) for name in _checks)
    )


def unpack(packed: bytes) -> Options:
    """The options in these bytes: a packed map from names to values. Raises ValueError for anything else."""
    return Options(**messages.unpack(packed, _are_options, "surrogateescape"))
