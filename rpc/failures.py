"""How a call between processes can fail.

May live here: the failures that callers catch, and the description of an error in one line. May not: their causes.
"""

from __future__ import annotations

__all__ = ["Failure", "NoRoom", "RemoteError", "Silent", "Unreachable", "why"]


class Failure(Exception):
    """A call that has no answer: the connection ended while it was under way, so it may have been carried out."""


class Unreachable(Failure):
    """No connection could be made, so the call was not carried out."""


class Silent(Failure):
    """There was no answer in time, or the peer did not take the whole call; it may still carry the call out."""


class NoRoom(Unreachable):
    """No thread, process or descriptor was left for the call. It was not carried out; it may succeed later.

    The text says what there was no room for, and on which side.
    """


class RemoteError(Failure):
    """The other side failed as it never should, or its answer was not an answer to the call; the text says how."""


def why(error: BaseException) -> str:
    """A description of an error, in one line without its type."""
    if isinstance(error, MemoryError):
        return "no memory is left"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0]
