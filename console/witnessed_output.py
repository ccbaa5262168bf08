"""An output that remembers what sessions have seen, so that it can say why a get is ERR_DEP.

May live here: what the witness is told. May not: how the reasons are found (control/witness.py), and how they are shown
(console/json_output.py for programs, console/prompt_output.py at the prompt).
"""

from __future__ import annotations

from collections.abc import Callable

from console.text_output import TextOutput
from control.commands import Uncertain
from control.script import Step
from control.witness import Cluster, Witness
from messages import Command, Outcome
from rpc import transport

__all__ = ["WitnessedOutput"]


class WitnessedOutput(TextOutput):
    """Tells a witness of everything, in order."""

    def __init__(self, cluster: Callable[[], Cluster]) -> None:
        """*cluster*: where to find it; it is asked for nothing before a command is done."""
        super().__init__()
        self.witness = Witness(cluster)
        self._step: Step | None = None

    def under_way(self, step: Step) -> None:
        self._step = step

    def answer(self, step: Step | None, command: Command, outcome: Outcome, pieces: list[bytes]) -> None:
        super().answer(step, command, outcome, pieces)
        self.witness.done(command, outcome, step.where if step else "")

    def why(self, command: Command) -> list[str]:
        """Why a get was ERR_DEP a moment ago, in sentences; none where a server answers nonsense. Asks all servers."""
        try:
            return self.witness.why(command)
        except transport.Failure:  # the next command will notice it
            return []

    def fail(self, text: str, placed: str, uncertain: Exception | None = None) -> None:
        self.note_failure(uncertain)
        super().fail(text, placed, uncertain)

    def note_failure(self, uncertain: Exception | None) -> None:
        """Remember a put that may stand all the same."""
        if isinstance(uncertain, Uncertain) and self._step is not None and self._step.command is not None:
            self.witness.uncertain(self._step.command, uncertain.timestamp, self._step.where)

    def died(self, ident: int, text: str, placed: str) -> None:
        self.witness.died(ident)
        super().died(ident, text, placed)
