"""The shapes of the answers to all calls between processes, and their checks.

May live here: the shapes of answers. May not: who calls, and what follows from an answer; sockets, threads, files.

The caller checks an answer before any part of it is used, just as the other side checks the arguments of the call
(messages.py). rpc/transport.py checks every answer by `fits`. If an answer contains packed bytes, whoever unpacks them
names one of the checks below. The type hints in ANSWERS are the return types of the methods named exposed_…, which a
test verifies.
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
"""The state of a server's start: ("recovering", progress), ("failed", why) or ("ready", largest timestamp, damages)."""

Faulty = tuple[tuple[int, str], ...]
"""Servers that have failed in a call, each with a description of the failure."""

ANSWERS: dict[str, Any] = {
    # of the spawner and the watchdogs
    "start": tuple[int, str] | str,
    "abandon": None,
    "kill": None,
    # of agents
    "kill_process": bool,
    "has_store": bool,
    "cut_group": str | None,
    "clock": int,
    "trace_files": tuple[str, ...],
    "read_trace": bytes,
    "end": None,
    # of the keeper
    "cluster_hosts": tuple[tuple[str, str, str], ...] | str,
    "start_agents": tuple[str, ...] | str,
    "end_agents": tuple[str, ...],
    "agents_taken": None,
    "let_go": None,
    # of clients and servers
    "shape": None,
    # of clients
    "connect": None,
    "disconnect": None,
    "server_up": None,
    "server_down": None,
    "undo_group": None,
    # of servers and clients
    "execute": bytes,
    "execute_group": bytes | None,
    # of servers
    "state": State,
    "link": None,
    "unlink": None,
    "ping": None,
    "is_hung": bool,
    "activity": tuple[int, bool],
    "reachable": tuple[int, ...],
    "context": bytes,
    "pull_from": tuple[tuple[int, ...], tuple[int, ...], str | None, bytes, Faulty],
    "print_store": bytes,
    "print_versions": bytes,
    "print_version": bytes,
    "print_more": bytes,
    "group_answers": bytes | None,
    "release_group": None,
    "pull": bytes | None,
}
"""The name of a method -> the type of its answer. The content of packed bytes is checked where they are unpacked."""

_checks = {name: checker(hint) for name, hint in ANSWERS.items()}

LARGEST_PID = 1 << 22
"""The largest process id that the system can use."""


def fits(name: str, args: Sequence[Any], answer: Any) -> bool:
    """Whether this may be the answer of the method *name* to a call with these arguments."""
    if not _checks[name](answer):
        return False
    if name == "context":
        return _is_packed_context(answer)
    if name == "pull_from":  # the answer may name only servers that the arguments name
        named = (*answer[0], *answer[1], *(ident for ident, _ in answer[4]))
        return _is_packed_context(answer[3]) and all(ident in args[0] for ident in named)
    return name != "start" or type(answer) is str or 0 < answer[0] <= LARGEST_PID


# -- packed answers ----------------------------------------------------------------------------------------

is_context: Check = checker(tuple[list[tuple[int, int, int]], list[tuple[int, int, list[int]]]])
"""Whether this is a flat context (`Context.flat`)."""


def _is_packed_context(packed: bytes) -> bool:
    try:
        unpack(packed, is_context)
    except ValueError:
        return False
    return True


is_versions: Check = checker(list[tuple[bytes, bytes, int]])
"""Whether this is a piece of a store with timestamps: `[[key, value, timestamp], …]`."""

_is_missing = checker(Literal["ERR_KEY", "ERR_DEP"])
_is_refused = checker(tuple[list[int], str])


def _is_answer(value: bytes | None, answer: Any) -> bool:
    """Whether this may be a server's answer to a put of *value*, or to a get if that is None."""
    if value is not None:
        return (type(answer) is list and len(answer) == 3 and are_numbers(answer)) or bool(answer == "ERR_DEP")
    return _is_missing(answer) or _is_version(answer)


def _is_version(answer: Any) -> bool:
    """Whether this is `[value, timestamp, dot, clock]`. Three times as fast as a `messages.checker`."""
    if type(answer) is not list or len(answer) != 4:
        return False
    value, timestamp, dot, clock = answer
    return (
        type(value) is bytes
        and type(dot) is list
        and len(dot) == 3
        and type(clock) is list
        and len(clock) % 3 == 0
        and are_numbers((timestamp, *dot, *clock))
    )


def to_operations(values: Sequence[bytes | None]) -> Check:
    """A check of a server's answers (`messages.plain_answer`) to puts of these values; None stands for a get."""
    return lambda answers: (
        type(answers) is list and len(answers) == len(values) and all(map(_is_answer, values, answers))
    )


def of_a_server(values: Sequence[bytes | None]) -> Check:
    """A check of a server's answer to "execute": `[[answer, …], nil]` or `[[], why]`. *values*: see `to_operations`."""
    are_answers = to_operations(values)
    return lambda answer: (
        type(answer) is list
        and len(answer) == 2
        and ((answer[1] is None and are_answers(answer[0])) or (_is_refused(answer) and not answer[0]))
    )


_FINAL = ("stored", "value", "ERR_KEY", "ERR_DEP")
"""The outcomes that occur in a group. A command that could not be carried out in the group has no outcome."""


def of_a_client(values: Sequence[bytes | None], servers: Container[int], in_group: bool = False) -> Check:
    """A check of a client's answer to "execute", or to "execute_group" if *in_group*.

    The answer is `[[outcome, …], [[server, how], …]]`: the outcomes of puts of these values (None stands for a get),
    and the servers that were lost, each with a description. In a group, nil may stand in place of the outcomes.
    *servers*: those that the client may have lost.
    """

    def is_expected(answer: Any) -> bool:
        if type(answer) is not list or len(answer) != 2:
            return False
        outcomes, losses = answer
        if not _are_losses(losses) or not all(server in servers for server, _ in losses):
            return False
        return (in_group and outcomes is None) or (
            type(outcomes) is list
            and len(outcomes) == len(values)
            and all(map(is_flat_outcome, values, outcomes))
            and not (in_group and any(outcome[0] not in _FINAL for outcome in outcomes))
        )

    return is_expected


_are_losses = checker(list[tuple[int, str]])
