"""The history of a run that keeps none: whoever tells a history need not ask whether there is one.

May live here: what can be told, as methods that do nothing. May not: writing (control/history.py); imports that take
time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from messages import Command, Outcome

__all__ = ["NoHistory"]


class NoHistory:
    """Told of everything, it does nothing."""

    path: Path | None = None
    """The file; None where there is none."""
    under_way = 0
    """How many commands have been invoked whose end is not written yet."""

    def invoke(self, commands: Iterable[Command]) -> None:
        """These commands, in this order, will be under way once this returns."""

    def complete(self, command: Command, outcome: Outcome) -> None:
        """A command has done what it should."""

    def fail(self, command: Command, error: Exception) -> None:
        """A command was an error."""

    def lose_sight(self, command: Command, why: str) -> None:
        """Whether a command was carried out, or still will be, is not known."""

    def notice(self, what: str, ids: Iterable[int], text: str) -> None:
        """Something has happened by itself."""

    def flush(self) -> None:
        """All that has been told so far must be kept from now on."""
