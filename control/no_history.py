"""The interface of a history, and the history of a run that records none, so that callers need not distinguish the two.

May live here: the methods of a history, which do nothing here. May not: writing (control/history.py); imports that take
time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from messages import Command, Outcome

__all__ = ["NoHistory"]


class NoHistory:
    """A history whose methods do nothing."""

    path: Path | None = None
    """The file; None where there is none."""
    under_way = 0
    """How many operations have begun whose end has not been recorded."""

    def invoke(self, commands: Iterable[Command]) -> None:
        """Record that these commands begin, in this order."""

    def complete(self, command: Command, outcome: Outcome) -> None:
        """Record that a command has succeeded, with this outcome."""

    def fail(self, command: Command, error: Exception) -> None:
        """Record that a command was an error."""

    def lose_sight(self, command: Command, why: str) -> None:
        """Record that it is not known whether a command was or will be carried out."""

    def notice(self, what: str, ids: Iterable[int], text: str) -> None:
        """Record an event that no command has caused."""

    def flush(self) -> None:
        """Make sure that everything recorded so far survives the end of this process."""
