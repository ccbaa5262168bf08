"""Other programs that read the nine commands, side by side with Daadkvs: the same scripts, in turn.

May live here: running any command with a script, and comparing times. May not: what is right (grading/).
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import IO, NamedTuple

from checking.bench.runs import MASTER, cluster, whole

__all__ = ["Comparison", "compare"]

LIMIT_SECONDS = 120.0
GETS = 500


class Comparison(NamedTuple):
    """What a script took, in seconds; the median of several runs. None where a program has failed in it."""

    name: str
    ours: float | None
    theirs: float | None
    note: str = ""

    def __str__(self) -> str:
        both = self.ours is not None and self.theirs is not None
        ratio = f"{self.theirs / self.ours:.2f} ×" if both and self.theirs and self.ours else ""
        return f"| {self.name} | {_shown(self.ours)} | {_shown(self.theirs)} | {ratio} | {self.note} |"


def _shown(seconds: float | None) -> str:
    return "failed" if seconds is None else f"{seconds:.3f} s"


def compare(command: str, runs: int = 5) -> list[Callable[[], Comparison]]:
    """What can be compared with a program that is started by *command*, a line of words; each blocks while it runs."""
    theirs = shlex.split(command)
    scripts = {
        "start and end of 5 + 5, 40 puts, stabilize, print": whole(40, 40, 16),
        "4,000 puts of 16 bytes": whole(4000, 1000, 16),
        "4,000 puts of 800 bytes": whole(4000, 1000, 800),
    }
    compared = [_whole(name, script, theirs, runs) for name, script in scripts.items()]
    return [*compared, lambda: _by_turns(f"{GETS} gets, one by one", theirs, _lock_step, runs)]


def _whole(name: str, script: str, theirs: list[str], runs: int) -> Callable[[], Comparison]:
    def run(command: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(command, input=script.encode(), capture_output=True, check=True, timeout=LIMIT_SECONDS)
        return time.perf_counter() - start

    def compared() -> Comparison:
        found = _by_turns(name, theirs, run, runs)
        if found.theirs is None:
            return found
        outputs = [
            subprocess.run(command, input=script.encode(), capture_output=True, check=False).stdout
            for command in (MASTER, theirs)
        ]
        return found if outputs[0] == outputs[1] else found._replace(note="prints something else")

    return compared


def _by_turns(name: str, theirs: list[str], run: Callable[[list[str]], float], runs: int) -> Comparison:
    note = ""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(runs):
        for command, found in zip((MASTER, theirs), times, strict=True):
            try:
                found.append(run(command))
            except (OSError, EOFError, subprocess.SubprocessError) as error:
                note = _why(error)
        if note:
            break
    medians = [statistics.median(found) if len(found) == runs else None for found in times]
    return Comparison(name, medians[0], medians[1], note)


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it had not ended after {LIMIT_SECONDS:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        return f"its exit status was {error.returncode}"
    return str(error) or "it ended too early"


def _lock_step(command: list[str]) -> float:
    """The seconds that gets take, each asked for after the answer to the one before. Raises OSError, EOFError."""
    program = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,  # so that all of it can be ended
    )
    assert program.stdin and program.stdout
    try:
        program.stdin.write((cluster(2, 1) + "put 100 k v\nget 100 k\n").encode())
        _await_line(program.stdout)
        start = time.perf_counter()
        for _ in range(GETS):
            program.stdin.write(b"get 100 k\n")
            _await_line(program.stdout)
        seconds = time.perf_counter() - start
        program.stdin.close()
        program.wait(LIMIT_SECONDS)
        return seconds
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        program.stdout.close()


def _await_line(stdout: IO[bytes]) -> None:
    answer = b""
    while not answer.endswith(b"\n"):
        if not select.select([stdout], [], [], LIMIT_SECONDS)[0]:
            raise EOFError("it did not answer while its input was open")
        piece = stdout.read(1 << 16)
        if not piece:
            raise EOFError("it ended before it had answered")
        answer += piece
