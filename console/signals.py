"""The signals that end a run.

May live here: how they are caught and held off. May not: what is to be cleaned up then (master.py); the prompt's Ctrl-C
(console/prompt.py).
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

__all__ = ["SIGNALS", "Stop", "ignore_signals", "install_signals", "restore_signals", "stop", "unraisable"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that end a run; at the prompt, SIGINT does not."""


class Stop(BaseException):
    """A signal that ends the run."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


def restore_signals() -> None:
    """Undo what whoever started this program has ignored: a Ctrl-C ends it, and it can wait for its processes."""
    for signum in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)


def stop(signum: int, _: FrameType | None) -> NoReturn:
    """The handler of a signal that ends the run: raises Stop, once."""
    ignore_signals()
    raise Stop(signum)


def unraisable(found: sys.UnraisableHookArgs) -> None:
    """What is raised where nobody can catch it, in a finalizer for example: no traceback, and a Stop isn't lost."""
    if isinstance(found.exc_value, Stop):
        signum = found.exc_value.signum
        signal.signal(signal.SIGALRM, lambda *_: stop(signum, None))
        # More than once: a signal that comes right before a system call does not end the call.
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.05)
    elif "DAADKVS_DEBUG" in os.environ:
        sys.__unraisablehook__(found)


def ignore_signals() -> None:
    """From now on nothing but SIGKILL ends this process."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def install_signals(interrupt: signal._HANDLER) -> None:
    """Have signals end the run, but for SIGINT, which is *interrupt*'s."""
    signal.signal(signal.SIGINT, interrupt)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(signum, stop)
