"""Submissions: where somebody's program is, and how it is started.

May live here: finding out what to run. May not: running it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NoSubmission", "Submission", "by_command", "by_folder"]


class NoSubmission(Exception):
    """There is nothing to grade; the text says why."""


@dataclass(frozen=True)
class Submission:
    """A program to be graded."""

    name: str
    command: tuple[str, ...]
    folder: Path | None = None
    """What was handed in; each run gets a copy of it, and starts there. None: each run starts in an empty folder."""
    warm: bool = False
    """Whether it is our own master, which the workers have imported already."""


def by_command(text: str) -> Submission:
    """The program that a command starts, in which paths count from the current folder. Raises NoSubmission."""
    words = _words(text)
    found = tuple(os.path.abspath(word) if os.path.exists(word) else word for word in words)
    if "/" in words[0]:
        found = (os.path.abspath(words[0]), *found[1:])
    elif shutil.which(words[0]):
        found = (words[0], *found[1:])
    if not shutil.which(found[0]) and not os.path.exists(found[0]):
        raise NoSubmission(f"{words[0]}: no such program")
    named = [word for word in words if os.path.exists(word)] or words
    return Submission(Path(named[0]).name, found)


def by_folder(path: Path, text: str | None = None) -> Submission:
    """What somebody has handed in: a folder, or one file. Raises NoSubmission.

    *text*: the command that starts it, in its folder; otherwise `./master`, or else `master.py` by this Python.
    """
    if not path.exists():
        raise NoSubmission(f"{path}: no such submission")
    path = path.resolve()
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise NoSubmission(f"{path}: it can't be read")
    if text:
        command = _words(text)
    elif path.is_file():
        command = _of_file(path.name, os.access(path, os.X_OK))
    elif (path / "master").exists() or not (path / "master.py").exists():
        command = ("./master",)
    else:
        command = _of_file("master.py", os.access(path / "master.py", os.X_OK))
    return Submission(path.name if path.is_dir() else path.stem, command, path)


def _of_file(name: str, executable: bool) -> tuple[str, ...]:
    return (sys.executable, name) if name.endswith(".py") and not executable else (f"./{name}",)


def _words(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise NoSubmission(f"the command {text!r}: {error}") from None
    if not words:
        raise NoSubmission("the command is empty")
    return words
