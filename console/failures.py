"""What a user is told where a command has failed for a reason that no command gives.

May live here: the words for it. May not: errors of the command language (control/commands.py).
"""

from __future__ import annotations

import os

__all__ = ["given_up", "internal", "is_interruption"]


def internal(error: Exception) -> str:
    """What to say of a mistake of ours."""
    if "DAADKVS_DEBUG" in os.environ:
        import traceback

        traceback.print_exc()
    if isinstance(error, MemoryError):
        return "no memory is left"
    text = str(error).strip().partition("\n")[0]
    return f"internal error: {type(error).__name__}: {text}"


def given_up(name: str) -> str:
    """What to say of a command that nobody waits for any more."""
    return "gave up waiting" + ("" if name in ("get", "printStore") else "; it may still be carried out")


def is_interruption(error: Exception) -> bool:
    from rpc import transport

    if isinstance(error, transport.Interrupted):
        transport.interrupt_taken()
        return True
    return False
