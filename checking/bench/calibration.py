"""How busy the machine is: some fixed work, timed before the benchmarks and after them.

May live here: that work, and what is said about it. May not: anything of Daadkvs.

The ratio of two programs changes with the load, since programs that wait for each other suffer more from it than one
that computes. So figures count only if the machine was idle, from the beginning to the end.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from typing import NamedTuple

__all__ = ["Calibration", "calibrate", "difference", "warning"]

TRIES = 15
MOST_DIFFERENCE = 0.1
BUSY_SHARE = 0.15
"""How large a part of its processors others may use during a calibration."""


class Calibration(NamedTuple):
    """What the fixed work took, and what others did meanwhile."""

    compute: float
    """Seconds for a loop in Python; the median of several tries."""
    wake: float
    """Seconds for a thousand round trips between two processes; the median of several tries."""
    others: float
    """The part of all processors, from 0 to 1, that other programs used, with what a hypervisor has withheld."""

    def __str__(self) -> str:
        return (
            f"a loop {self.compute * 1e3:.1f} ms, 1,000 round trips {self.wake * 1e3:.1f} ms, "
            f"others use {self.others:.0%} of the processors"
        )


def calibrate() -> Calibration:
    """Do the fixed work. Blocks for about a second."""
    began, used, own = time.monotonic(), _used(), sum(os.times()[:4])
    compute = statistics.median(_loop() for _ in range(TRIES))
    wake = statistics.median(_round_trips() for _ in range(TRIES))
    others = _used() - used - (sum(os.times()[:4]) - own)
    return Calibration(compute, wake, max(0.0, others) / (time.monotonic() - began) / (os.cpu_count() or 1))


def _loop() -> float:
    start = time.perf_counter()
    total = 0
    for number in range(200_000):
        total += number & 7
    return time.perf_counter() - start


def _round_trips() -> float:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        while data := theirs.recv(64):
            theirs.send(data)
        os._exit(0)
    theirs.close()
    start = time.perf_counter()
    for _ in range(1000):
        ours.send(b"ping")
        ours.recv(64)
    seconds = time.perf_counter() - start
    ours.close()
    os.waitpid(pid, 0)
    return seconds


def _used() -> float:
    """How many seconds all processors together have been busy, or withheld, since the system started."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, interrupt, soft, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + interrupt + soft + steal) / os.sysconf("SC_CLK_TCK")


def difference(before: Calibration, after: Calibration) -> float:
    """By how much the two differ, from 0 on; 0.1 is ten per cent."""
    pairs = (before.compute, after.compute), (before.wake, after.wake)
    return max(max(pair) / min(pair) - 1 for pair in pairs)


def warning(before: Calibration, after: Calibration) -> str | None:
    """Why these figures should not be published, if so."""
    changed = difference(before, after)
    if changed > MOST_DIFFERENCE:
        return f"the machine's speed changed by {changed:.0%} meanwhile; please try again when it is idle"
    if max(before.others, after.others) > BUSY_SHARE:
        return "other programs were busy on this machine; please try again when it is idle"
    return None
