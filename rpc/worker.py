"""A thread that carries out one task after another.

May live here: starting it. May not: the tasks.

A server rarely has tasks for it, and in a short run none. So it starts it with the first of them, and the modules of
Python's standard library that it needs are imported then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["start_worker"]


def start_worker() -> Executor:
    """An executor with one thread, which is already running.

    Raises RuntimeError where no thread can be started; OSError, ImportError and MemoryError where nothing can be
    imported, because no descriptor or no memory is left.
    """
    from concurrent.futures import ThreadPoolExecutor

    worker = ThreadPoolExecutor(1)
    worker.submit(int).result()  # starts the thread now, and not with a task
    return worker
