"""The processes that the spawner forks when the master asks for them.

May live here: which those are. May not: what they do.
"""

from __future__ import annotations

from rpc.spawner import Roles

__all__ = ["load"]


def load() -> Roles:
    """Import the main functions of these processes. Only the spawner may call this: the master must start fast."""
    import client
    import server  # noqa: F401 - a watchdog forks it
    import watchdog

    return {"watchdog": watchdog.main, "client": client.main}
