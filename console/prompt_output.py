"""What the prompt tells of commands, and the reasons of each ERR_DEP, for its word `why`.

May live here: which answers are explained, and for how long that is remembered. May not: how the reasons are found
(control/witness.py) and said (control/explaining.py); the terminal (console/prompt.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from console.witnessed_output import WitnessedOutput
from control.script import Step
from control.witness import Cluster
from messages import Command, Outcome, Unsatisfied

__all__ = ["Explained", "PromptOutput"]

EXPLAINED = 1000
"""The reasons of how many answers are remembered: the last ones."""


class Explained(NamedTuple):
    """Why a get was ERR_DEP, in sentences, and where it stood: `line 12`, or `FILE: line 12`."""

    where: str
    command: Command
    reasons: list[str]


class PromptOutput(WitnessedOutput):
    """Shows answers and errors as text, and finds the reasons of an ERR_DEP as soon as it is shown.

    It finds them then, and not when somebody asks for them, since servers may have learnt more meanwhile. While a
    server is silent, this takes up to half a second (`Cluster.standing`).
    """

    def __init__(self, cluster: Callable[[], Cluster]) -> None:
        """*cluster*: as in `WitnessedOutput`."""
        super().__init__(cluster)
        self.explained: deque[Explained] = deque(maxlen=EXPLAINED)
        self._unexplained: tuple[str, Command] | None = None

    def answer(self, step: Step | None, command: Command, outcome: Outcome, pieces: list[bytes]) -> None:
        super().answer(step, command, outcome, pieces)
        if isinstance(outcome, Unsatisfied):
            self._unexplained = step.where if step else "", command

    def flush(self) -> None:
        super().flush()
        if self._unexplained is not None:
            (where, command), self._unexplained = self._unexplained, None
            self.explained.append(Explained(where, command, self.why(command)))

    def find(self, line: int | None) -> Explained | None:
        """The last ERR_DEP, or the last one in a line with this number. None if there is none."""
        for found in reversed(self.explained):
            if line is None or int(found.where.rpartition(" ")[2]) == line:
                return found
        return None
