"""Makes random schedules for the simulator from seeds, and shrinks one that fails.

May live here: hypothesis. May not: what a schedule means, and what must hold, which are explained in
checking/simulator/simulation.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import hypothesis
from hypothesis import strategies as st

from checking.simulator.schedule import Step, decode
from checking.simulator.simulation import run

__all__ = ["SCHEDULES_PER_SEED", "STEPS", "Failure", "check_seed", "check_seeds", "run_in_memory"]

SCHEDULES_PER_SEED = 100
STEPS = 60
"""The number of steps in a random schedule, including steps that do nothing."""


class Failure(NamedTuple):
    """A schedule that fails, and the reason."""

    seed: int
    schedule: list[Step]
    why: str

    def __str__(self) -> str:
        steps = "".join(f"    {step}\n" for step in self.schedule)
        return f"seed {self.seed}: {self.why}\n{steps}to run it again: scripts/simulate.py --seed {self.seed}"


def check_seed(seed: int, shrink: bool = True) -> Failure | None:
    """Run the random schedules of one seed; returns the smallest schedule that fails, or None."""
    failure: Failure | None = None
    generate, shrinking = hypothesis.Phase.generate, hypothesis.Phase.shrink

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=SCHEDULES_PER_SEED,
        phases=(generate, shrinking) if shrink else (generate,),
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(st.binary(min_size=3 * STEPS, max_size=3 * STEPS))
    def every_schedule_holds(noise: bytes) -> None:
        nonlocal failure
        schedule = decode(noise)
        try:
            run_in_memory(schedule)
        except Exception as error:
            failure = Failure(seed, schedule, f"{type(error).__name__}: {error}")
            raise

    try:
        every_schedule_holds()
    except Exception:
        assert failure is not None
    return failure


def run_in_memory(schedule: list[Step], observe: Callable[[Step], None] = lambda _: None) -> None:
    """Run a schedule on a disk in memory, if there is one. Raises what `run` raises."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="daadkvs-simulation-", dir=memory) as folder:
        run(schedule, Path(folder, "disks"), observe)


def check_seeds(
    seeds: range, jobs: int, shrink: bool = True, progress: Callable[[int], None] = lambda _: None
) -> Failure | None:
    """Run the schedules of many seeds, *jobs* at a time, and return the first failure.

    *progress* is called with the number of schedules that are done.
    """
    # Ctrl-C is meant for this process alone, which ends the others: they inherit the set of blocked signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    with multiprocessing.Pool(jobs) as pool:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        for done, failure in enumerate(pool.imap_unordered(partial(check_seed, shrink=shrink), seeds), 1):
            if failure is not None:
                return failure
            progress(done * SCHEDULES_PER_SEED)
    return None
