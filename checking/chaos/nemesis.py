"""The thread that kills, freezes and wakes the processes of a run. (Jepsen calls it a nemesis.)

May live here: what is done to processes, and how often. May not: commands, and what they may answer.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from random import Random

from checking.driver import Conversation, states, wait_until

__all__ = ["TIMEOUT_SECONDS", "Nemesis", "wake"]

TIMEOUT_SECONDS = 1.0

FREEZES_SECONDS = {0.01: 6, 0.05: 6, 0.2: 6, 0.4: 3, 0.6 * TIMEOUT_SECONDS: 4, 1.6 * TIMEOUT_SECONDS: 1}
"""How long processes are frozen, with weights. Some are frozen for more than half a timeout, after which a server goes
on without a client, and some until they are taken for dead."""

EVENTS_PER_SECOND = 25
CALM_EVENTS_PER_SECOND = 8


class Nemesis:
    """Kills, freezes and wakes processes of a run at random instants until `stop` is called."""

    def __init__(self, conversation: Conversation, random: Random, log: list[str], calm: bool) -> None:
        """*calm*: act rarely, and mostly freeze clients."""
        self.kills: Counter[str] = Counter()
        self._conversation = conversation
        self._random = random
        self._log = log
        self._calm = calm
        self._over = threading.Event()
        self._frozen: list[tuple[float, int]] = []  # (when to wake it, process id)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wake every process that is frozen."""
        self._over.set()
        self._thread.join()
        self._wake(float("inf"))

    def _run(self) -> None:
        rate, weights = (CALM_EVENTS_PER_SECOND, (6, 1, 93)) if self._calm else (EVENTS_PER_SECOND, (86, 4, 10))
        while not self._over.wait(self._random.expovariate(rate)):
            self._wake(time.monotonic())
            self._act(weights)

    def _act(self, weights: tuple[int, int, int]) -> None:
        """Hit a process. *weights*: how often those of servers, watchdogs and clients are chosen."""
        found = self._conversation.pids()
        (kind,) = self._random.choices(("server", "watchdog", "client"), weights)
        victims = sorted(name for name in found if name.startswith(kind))
        freeze = self._random.random() < (0.95 if kind == "client" else 0.25)
        (seconds,) = self._random.choices(tuple(FREEZES_SECONDS), tuple(FREEZES_SECONDS.values()))
        if victims:
            self._hit(name := self._random.choice(victims), found[name], seconds if freeze else 0.0)

    def _hit(self, name: str, pid: int, freeze: float) -> None:
        try:
            os.kill(pid, signal.SIGSTOP if freeze else signal.SIGKILL)
        except ProcessLookupError:
            return
        self._log.append(f"{time.monotonic():.4f} {f'freeze for {freeze} s' if freeze else 'kill'} {name}")
        if freeze:
            self._frozen.append((time.monotonic() + freeze, pid))
        else:
            self.kills[name.split()[0]] += 1
            wait_until(lambda: all(state in "ZXx" for state in states(pid)), f"the end of {name}")

    def _wake(self, now: float) -> None:
        for when, pid in [frozen for frozen in self._frozen if frozen[0] <= now]:
            self._frozen.remove((when, pid))
            wake(pid)


def wake(pid: int) -> None:
    """Wake a process, which may be frozen, or gone."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
