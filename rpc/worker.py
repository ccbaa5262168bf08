"""A thread that carries out one task after another, for servers: the master, which must start fast, has no use for it.

May live here: starting it. May not: the tasks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from rpc.failures import NoRoom
from rpc.transport import NO_THREAD

__all__ = ["start_worker"]


def start_worker() -> ThreadPoolExecutor:
    """An executor with one thread, which is already running. Raises NoRoom."""
    worker = ThreadPoolExecutor(1)
    try:
        worker.submit(int).result()  # starts the thread now, and not with the first task
    except RuntimeError as error:
        raise NoRoom(NO_THREAD) from error
    return worker
