"""The calls to servers that stabilize needs (`stabilize.Servers`).

May live here: those calls, and how long a server may be silent within stabilize. May not: in which order servers fetch
updates from each other (control/stabilize.py).
"""

from __future__ import annotations

import router
from control.commands import CommandError
from control.members import Members
from control.supervisor import Supervisor
from rpc import transport

__all__ = ["Stabilizing"]

STABILIZE_LIMITS_SECONDS = (2.0, 0.8, 0.5)
"""How long a server may be silent within stabilize, unless it answers a probe: before any server has been lost, after
one has been lost, and after several. With these limits stabilize ends within 5 s even if five servers freeze, one after
another."""


class Stabilizing:
    """The running servers, within one stabilize (`stabilize.Servers`)."""

    def __init__(self, members: Members, supervisor: Supervisor, timeout: float) -> None:
        self._members = members
        self._supervisor = supervisor
        self._timeout = timeout
        self._running_at_first = len(members.links)
        self._busy: set[int] = set()
        self._patience = 0.0

    def graph(self) -> router.Graph:
        return self._members.links

    def contexts(self) -> dict[int, bytes] | None:
        running = len(self._members.links)
        lost = self._running_at_first - running
        limit = STABILIZE_LIMITS_SECONDS[min(lost, len(STABILIZE_LIMITS_SECONDS) - 1)]
        self._patience = self._timeout if self._busy else limit
        with self._supervisor.patience(self._patience):
            contexts = self._supervisor.ask_servers(dict.fromkeys(self._members.links, ("context",)))
        return contexts if len(self._members.links) == running else None

    def pull(self, step: dict[int, list[int]]) -> bool:
        with self._supervisor.patience(self._patience):
            return self._pull_all(step)

    def _pull_all(self, step: dict[int, list[int]]) -> bool:
        while step:
            patience = self._supervisor.limit * 0.75
            calls = {ident: ("pull_from", tuple(neighbours), patience) for ident, neighbours in step.items()}
            pulled = self._supervisor.ask_servers(calls)
            suspects = {suspect for _, silent, *_ in pulled.values() for suspect in silent}
            faulty = {ident: transport.RemoteError(how) for *_, failed in pulled.values() for ident, how in failed}
            self._supervisor.lose(faulty)
            self._judge(suspects)
            if suspects or faulty or pulled.keys() != step.keys():
                return False
            for ident, (_, _, refusal, *_) in pulled.items():
                if refusal is not None:
                    raise CommandError(f"server {ident}: {refusal}")
            step = {ident: list(left) for ident, (left, *_) in pulled.items() if left}
            if step and self._some_died():
                return False
        return True

    def _some_died(self) -> bool:
        """Whether servers have died by themselves meanwhile: over a slow link, their neighbours learn of it late."""
        running = len(self._members.links)
        self._supervisor.notice_deaths()
        return len(self._members.links) < running

    def _judge(self, suspects: set[int]) -> None:
        """Probe the servers that a neighbour has found silent, and kill those that do not answer.

        A server that answers is not probed again, since it may have much to send. From then on the limit of silence is
        the whole time-out.
        """
        suspects = {ident for ident in suspects if self._members.servers[ident].running}
        alive = self._supervisor.probe(suspects - self._busy)
        self._busy |= alive
        self._supervisor.lose(dict.fromkeys(sorted(suspects - alive), transport.Silent()))
