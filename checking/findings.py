"""What the checker of histories finds, and how keys and values are shown in it.

May live here: the kinds of findings. May not: when something is one.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["Impossible", "Invalid", "Unknown", "kept", "show"]

SHORT = 40
"""Longer values are kept as hashes."""


class Invalid(Exception):
    """The history shows something that is not allowed; *lines* are those which show it."""

    def __init__(self, text: str, *lines: int) -> None:
        super().__init__(text)
        self.lines = sorted({line for line in lines if line > 0})


class Impossible(Invalid):
    """A server showed something of a key that it can't have held. The text is made later, from what the lines say."""

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
        """Lines that speak against it, each with the server of which it says something."""
        self.cuts = cuts
        """Lines that have cut the links by which it might have come."""
        self.otherwise = otherwise
        """The reason to give where no line speaks against it."""


class Unknown(Exception):
    """No verdict is possible; the text says why."""


def kept(value: str) -> str | bytes:
    """The value, or a hash of it where it is long."""
    if len(value) <= SHORT:
        return value
    return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def show(value: str | bytes | None) -> str:
    """A key or value as printable text, cut where it is long."""
    if isinstance(value, bytes):
        return "(a long value)"
    text = (value or "").encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."
