"""The exercises of the lessons, in examples/exercises/: each with a script that solves it, and what that prints.

May live here: reading them. May not: how they are shown (checking/lessons.py).

A file has the exercises of one lesson. Each begins with a comment, `# Exercise: …`, and goes on with the commands of
the solution. Behind a command, `> ` stands before each line that it prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["Exercise", "exercises"]

BEGIN = "# Exercise: "


class Exercise(NamedTuple):
    """What is to be done, a script that does it, and what stands in each of its lines and is printed by it."""

    task: str
    lines: list[tuple[str, list[str]]]

    @property
    def script(self) -> str:
        """The solution."""
        return "".join(f"{line}\n" for line, _ in self.lines)

    @property
    def printed(self) -> str:
        """What the solution prints."""
        return "".join(f"{line}\n" for _, printed in self.lines for line in printed)


def exercises(path: Path) -> list[Exercise]:
    """Read the exercises in a file; none if there is no such file."""
    found: list[Exercise] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        if line.startswith(BEGIN):
            found.append(Exercise(line.removeprefix(BEGIN), []))
        elif line.startswith("#"):
            found[-1] = found[-1]._replace(task=f"{found[-1].task} {line[1:].strip()}")
        elif line.startswith("> "):
            found[-1].lines[-1][1].append(line[2:])
        elif line:
            found[-1].lines.append((line, []))
    return found
