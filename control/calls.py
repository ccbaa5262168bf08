"""Calling many processes at the same time, and waiting for all of them until a deadline.

May live here: sending, waiting, and sorting what comes of each call. May not: who is called, and what follows when
somebody does not answer (control/supervisor.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from rpc import transport

__all__ = ["Call", "Gathered", "Sent", "failure_of", "gather", "send"]

Call = tuple[transport.Remote, str, *tuple[Any, ...]]
"""Whom to call, the method's name, and its arguments."""

Sent = Mapping[int, transport.Pending | transport.Failure]
"""Calls under way by id; where one could not even be sent, why."""


class Gathered(NamedTuple):
    """What has come of each call, by id: every id stands in exactly one of these."""

    answers: dict[int, Any]
    silent: set[int]
    """Those that have not answered by the deadline; one may gather them again."""
    failures: dict[int, transport.Failure]
    interrupted: set[int]
    """Those that nobody wants to wait for any more (`transport.Interrupted`); they have been called."""


def send(calls: Mapping[int, Call]) -> Sent:
    """Begin all these calls; doesn't wait for answers."""
    sent: dict[int, transport.Pending | transport.Failure] = {}
    for ident, (remote, name, *args) in calls.items():
        try:
            sent[ident] = remote.send(name, *args)
        except transport.Failure as failure:
            sent[ident] = failure
    return sent


def gather(calls: Sent, deadline: float) -> Gathered:
    """Wait for all these calls until *deadline* (`time.monotonic`); none of them is raised for."""
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
    """The loss of a server, as a client tells it."""
    if how == "died":
        return transport.Failure()
    return transport.Silent() if how == "silent" else transport.RemoteError(how)
