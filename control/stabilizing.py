"""What stabilize needs of the servers (`stabilize.Servers`), by calls to real processes.

May live here: those calls, and how long a server may be silent within stabilize. May not: in which order servers learn
from each other (control/stabilize.py).
"""

from __future__ import annotations

import router
from control.commands import CommandError
from control.members import Members
from control.supervisor import Supervisor
from rpc import transport

__all__ = ["Stabilizing"]

STABILIZE_LIMITS_SECONDS = (2.0, 0.8, 0.5)
"""How long a server may be silent within stabilize, unless it answers a probe: the first, the second, and each other
one, so that all of it keeps within 5 s even if one server after another freezes."""


class Stabilizing:
    """The running servers within one stabilize (`stabilize.Servers`)."""

    def __init__(self, members: Members, supervisor: Supervisor, timeout: float) -> None:
        self._members = members
        self._supervisor = supervisor
        self._timeout = timeout
        self._at_first = len(members.links)
        self._accused: set[int] = set()
        self._patience = 0.0

    def graph(self) -> router.Graph:
        return self._members.links

    def contexts(self) -> dict[int, bytes] | None:
        running = len(self._members.links)
        lost = self._at_first - running
        limit = STABILIZE_LIMITS_SECONDS[min(lost, len(STABILIZE_LIMITS_SECONDS) - 1)]
        self._patience = self._timeout if self._accused else limit
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
            step = {ident: step[ident] for ident, (done, *_) in pulled.items() if not done}
        return True

    def _judge(self, suspects: set[int]) -> None:
        """Kill the servers that a neighbour found silent, and that a probe doesn't find alive.

        One that is alive is accused: it may just have much to send. From then on everybody has all of the time-out.
        """
        suspects = {ident for ident in suspects if self._members.servers[ident].running}
        alive = self._supervisor.probe(suspects - self._accused)
        self._accused |= alive
        self._supervisor.lose(dict.fromkeys(sorted(suspects - alive), transport.Silent()))
