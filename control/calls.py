"""Calling many processes at the same time, and waiting for all of them until a deadline.

May live here: sending calls, waiting for them, and sorting them by their result. May not: who is called, and what
follows when a process does not answer (control/supervisor.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from rpc import transport

__all__ = ["Call", "Gathered", "Sent", "failure_of", "gather", "send"]

Call = tuple[transport.Remote, str, *tuple[Any, ...]]
"""A call that is to be made: the process, the name of its method, and the arguments."""

Sent = Mapping[int, transport.Pending | transport.Failure]
"""Server id -> its call, which is under way, or the reason why it could not be sent."""


class Gathered(NamedTuple):
    """The results of calls, by server id. Each id is in exactly one of these collections."""

    answers: dict[int, Any]
    silent: set[int]
    """Servers that have not answered by the deadline. Their calls may be gathered again."""
    failures: dict[int, transport.Failure]
    interrupted: set[int]
    """Servers for which waiting was interrupted (`transport.Interrupted`). The calls have been sent."""


def send(calls: Mapping[int, Call]) -> Sent:
    """Send all these calls, without waiting for answers."""
    sent: dict[int, transport.Pending | transport.Failure] = {}
    for ident, (remote, name, *args) in calls.items():
        try:
            sent[ident] = remote.send(name, *args)
        except transport.Failure as failure:
            sent[ident] = failure
    return sent


def gather(calls: Sent, deadline: float) -> Gathered:
    """Wait for all these calls until *deadline* (in seconds of `time.monotonic`). Raises nothing."""
    gathered = Gathered({}, set(), {}, set())
    for ident, call in calls.items():
        if isinstance(call, transport.Failure):
            gathered.failures[ident] = call
            continue
        try:
            gathered.answers[ident] = call.wait(max(0.0, deadline - time.monotonic()))
        except transport.Silent:
            gathered.silent.add(ident)
        except transport.Failure as failure:
            gathered.failures[ident] = failure
        except transport.Interrupted:
            gathered.interrupted.add(ident)
    return gathered


def failure_of(how: str) -> transport.Failure:
    """The failure by which a server was lost, from a client's description of it: "died", "silent" or any other text."""
    if how == "died":
        return transport.Failure()
    return transport.Silent() if how == "silent" else transport.RemoteError(how)
