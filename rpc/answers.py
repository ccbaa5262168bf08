"""What each call between processes is answered with.

May live here: the shapes of answers. May not: who asks, and what an answer leads to; sockets, threads, files.

Whoever calls checks the answer before anything of it is used, as whoever is called checks what comes with the call
(messages.py). `fits` does that for every call (rpc/transport.py asks it); where an answer is packed, its reader names
one of the checks below. The hints of ANSWERS are those that the methods themselves, named exposed_…, return; a test
holds that.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Literal

from messages import Check, are_numbers, checker, is_flat_outcome, unpack

__all__ = [
    "ANSWERS",
    "Faulty",
    "State",
    "fits",
    "is_context",
    "is_versions",
    "of_a_client",
    "of_a_server",
    "to_operations",
]

State = (
    tuple[Literal["recovering"], int] | tuple[Literal["failed"], str] | tuple[Literal["ready"], int, tuple[str, ...]]
)
"""Of a server that starts: ("recovering", progress), ("failed", why) or ("ready", largest timestamp, damages)."""

Faulty = tuple[tuple[int, str], ...]
"""Servers that have failed in a call, each with how."""

ANSWERS: dict[str, Any] = {
    # by the spawner and the watchdogs
    "start": int | str,
    "abandon": None,
    "kill": None,
    # by clients
    "connect": None,
    "disconnect": None,
    "server_up": None,
    "server_down": None,
    "undo_group": None,
    # by servers and clients
    "execute": bytes,
    "execute_group": bytes | None,
    # by servers
    "state": State,
    "link": None,
    "unlink": None,
    "ping": None,
    "is_hung": bool,
    "reachable": tuple[int, ...],
    "context": bytes,
    "pull_from": tuple[bool, tuple[int, ...], str | None, bytes, Faulty],
    "print_store": bytes,
    "print_versions": bytes,
    "print_version": bytes,
    "print_more": bytes,
    "group_answers": bytes | None,
    "release_group": None,
    "pull": bytes | None,
}
"""By the method's name. What is packed in bytes is for `of_a_client` and the like."""

_checks = {name: checker(hint) for name, hint in ANSWERS.items()}

LARGEST_PID = 1 << 22
"""The system's own limit."""


def fits(name: str, args: Sequence[Any], answer: Any) -> bool:
    """Whether the method *name*, called with these arguments, may answer so."""
    if not _checks[name](answer):
        return False
    if name == "context":
        return _is_packed_context(answer)
    if name == "pull_from":  # it speaks of those that it was asked about
        named = (*answer[1], *(ident for ident, _ in answer[4]))
        return _is_packed_context(answer[3]) and all(ident in args[0] for ident in named)
    return name != "start" or type(answer) is str or 0 < answer <= LARGEST_PID


# -- packed ones -------------------------------------------------------------------------------------------

is_context: Check = checker(tuple[list[tuple[int, int, int]], list[tuple[int, int, list[int]]]])
"""What `Context.flat` makes."""


def _is_packed_context(packed: bytes) -> bool:
    try:
        unpack(packed, is_context)
    except ValueError:
        return False
    return True


is_versions: Check = checker(list[tuple[bytes, bytes, int]])
"""A piece of a store with timestamps: `[[key, value, timestamp], …]`."""

_is_missing = checker(Literal["ERR_KEY", "ERR_DEP"])
_is_version = checker(tuple[bytes, int, tuple[int, int, int], list[int]])
_is_refused = checker(tuple[list[int], str])


def _is_answer(value: bytes | None, answer: Any) -> bool:
    """Whether a server may answer so to a put of *value*, or to a get where that is None."""
    if value is not None:
        return (type(answer) is list and len(answer) == 3 and are_numbers(answer)) or bool(answer == "ERR_DEP")
    return _is_missing(answer) or (_is_version(answer) and len(answer[3]) % 3 == 0)


def to_operations(values: Sequence[bytes | None]) -> Check:
    """A check of a server's answers (`messages.plain_answer`) to puts of these values, and gets where they are None."""
    return lambda answers: (
        type(answers) is list and len(answers) == len(values) and all(map(_is_answer, values, answers))
    )


def of_a_server(values: Sequence[bytes | None]) -> Check:
    """A check of what a server answers to "execute": `[[answer, …], nil]` or `[[], why]`."""
    are_answers = to_operations(values)
    return lambda answer: (
        type(answer) is list
        and len(answer) == 2
        and ((answer[1] is None and are_answers(answer[0])) or (_is_refused(answer) and not answer[0]))
    )


_FINAL = ("stored", "value", "ERR_KEY", "ERR_DEP")
"""Outcomes in a group: whatever could not be carried out there has none."""


def of_a_client(values: Sequence[bytes | None], servers: Container[int], in_group: bool = False) -> Check:
    """A check of what a client answers to "execute", or to "execute_group".

    `[[outcome, …], [[server, how], …]]`, in a group perhaps nil for the outcomes: for puts of these values, and gets
    where they are None. *servers*: of which ones it may have noticed something.
    """

    def is_expected(answer: Any) -> bool:
        if type(answer) is not list or len(answer) != 2:
            return False
        outcomes, noticed = answer
        if not _is_noticed(noticed) or not all(server in servers for server, _ in noticed):
            return False
        return (in_group and outcomes is None) or (
            type(outcomes) is list
            and len(outcomes) == len(values)
            and all(map(is_flat_outcome, values, outcomes))
            and not (in_group and any(outcome[0] not in _FINAL for outcome in outcomes))
        )

    return is_expected


_is_noticed = checker(list[tuple[int, str]])
