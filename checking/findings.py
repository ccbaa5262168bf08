"""The findings of the checker of histories, and how they show keys and values.

May live here: the kinds of findings. May not: the rules that a history may break (checking/checker.py).
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["Impossible", "Invalid", "Unknown", "kept", "show"]

SHORT = 40
"""Longer values are kept as hashes."""


class Invalid(Exception):
    """The history shows something that is not allowed; *lines* are the lines that show it."""

    def __init__(self, text: str, *lines: int) -> None:
        super().__init__(text)
        self.lines = sorted({line for line in lines if line > 0})


class Impossible(Invalid):
    """A server showed a version of a key that it cannot have held.

    `verdict.py` makes the text of it, from what the lines say.
    """

    def __init__(
        self,
        name: str,
        server: int,
        line: int,
        written: int,
        because: list[tuple[int, int]],
        cuts: list[int],
        otherwise: str,
    ) -> None:
        super().__init__("", line, written, *(reason for reason, _ in because), *cuts)
        self.name = name
        self.server = server
        self.line = line
        self.written = written
        self.because = because
        """The lines that contradict it, each with the server that the line speaks about."""
        self.cuts = cuts
        """The lines that have cut the links over which the version might have come."""
        self.otherwise = otherwise
        """The reason to give if no line contradicts it."""


class Unknown(Exception):
    """No verdict is possible; the text says why."""


def kept(value: str) -> str | bytes:
    """Return what is kept of a value: the value itself, or a hash of it if it is long."""
    if len(value) <= SHORT:
        return value
    return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def show(value: str | bytes | None) -> str:
    """Return a key or value as printable text, cut if it is long."""
    if isinstance(value, bytes):
        return "(a long value)"
    text = (value or "").encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."
