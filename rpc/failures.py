"""How a call between processes can fail.

May live here: the failures that callers catch, and how an error is told in one line. May not: what leads to them.
"""

from __future__ import annotations

__all__ = ["Failure", "NoRoom", "RemoteError", "Silent", "Unreachable", "why"]


class Failure(Exception):
    """A call that has no answer: the connection ended while it was under way, so it may have been carried out."""


class Unreachable(Failure):
    """No connection could be made, so nothing was carried out."""


class Silent(Failure):
    """No answer within the time limit, or no room for the whole of the call; the other side may still carry it out."""


class NoRoom(Unreachable):
    """There was no thread, process or descriptor for what the call takes: nothing was carried out, and later it may be.

    The text says what there was no room for, and on what side.
    """


class RemoteError(Failure):
    """The other side failed in a way that it should not have, or answered what is no answer; the text says how."""


def why(error: BaseException) -> str:
    """What to say of an error that ended what somebody has asked for; one line."""
    if isinstance(error, MemoryError):
        return "no memory is left"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0]
