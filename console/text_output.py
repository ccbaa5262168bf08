"""What a run tells of its commands: answers on stdout, everything else on stderr.

May live here: how that is spelled. May not: when it is told, and what has been counted as an error (master.py); writing
to streams (console/output.py). console/json_output.py tells the same to programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from console.output import say, write_all
from control.overview import Overview
from control.script import Step
from messages import Command, Outcome
from rpc import tracing

__all__ = ["TextOutput"]


class TextOutput:
    """Is told of everything in the order in which it is to be shown. What is answered is shown by `flush`."""

    dress: Callable[[str], str] = str
    """How an error or a warning is shown: the prompt has colours for them."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def begin_run(self, **facts: Any) -> None:
        """The run has begun; *facts* are for programs."""

    def begin_file(self, name: str | None) -> None:
        """Steps are of this file from now on; None for standard input."""

    def begin(self, steps: Sequence[Step]) -> None:
        """These steps are under way from now on."""

    def under_way(self, step: Step) -> None:
        """What is told next is about this step."""

    def may_group(self, command: Command) -> bool:
        """Whether a command may be under way with others, as far as this is concerned."""
        return True

    def answer(self, step: Step | None, command: Command, outcome: Outcome, pieces: list[bytes]) -> None:
        """A command is done; the *pieces* are what stdout shows of it."""
        self._pieces += pieces

    def status(self, step: Step, overview: Overview) -> None:
        """What there is, for the command `status`, which is only a program's."""

    def skip(self, step: Step) -> None:
        """A line that is no command; only programs are told of it."""

    def fail(self, text: str, placed: str, uncertain: Exception | None = None) -> None:
        """Report an error. *text*: the error alone; *placed*: the error with its place and its command before it.

        *uncertain*: where something may have been done all the same, why that is so.
        """
        self.say(f"error: {placed}")

    def died(self, ident: int, text: str, placed: str) -> None:
        """A process was found dead."""
        self.say(f"error: {placed}")

    def warn(self, text: str, placed: str) -> None:
        """Report damage, or a loss, that the run survives."""
        self.say(f"warning: {placed}")

    def say(self, text: str) -> None:
        """One line on stderr."""
        say(text, self.dress)

    def flush(self) -> None:
        """Show what has been answered."""
        write_all(1, self.trace_printed())

    def trace_printed(self) -> bytes:
        """What has been answered since the last time, which the trace is told."""
        if not self._pieces:
            return b""
        printed, self._pieces = b"".join(self._pieces), []
        tracing.event("printed", text=printed)
        return printed
