"""Runs a script while processes of the run are stopped for a while.

Who is stopped for more than half a time-out makes its server give up a group in which it has a part. Nobody may be
stopped for a whole time-out: that is silence, and no longer without consequences.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from checking.driver import LIMIT_SECONDS, Result, command, processes, run_directory

STOPPED = 0.75
"""For which part of a time-out clients are stopped: long enough for their server, and not too long for the master."""

STOPPED_SERVER = 0.3
"""For which part of a time-out servers are stopped. More processes wait for a server, one after another."""

SILENCE = re.compile("made no progress|could not be started|uncertain")
"""The errors about processes that did not answer in time."""

TIMEOUTS_SECONDS = (0.4, 1.5, 5.0)
"""The first one suffices unless the machine is busy; otherwise the next one is tried."""


def run_file(script: Path, *options: str) -> Result:
    """Run a script from a file as standard input, so that groups are as large as possible, and the same in each run."""
    return _run(script, options, Random(), 0, None)


def run_stalling(script: Path, *options: str, random: Random, stops: int) -> Result:
    """Run a script while clients and servers are stopped, one after another, *stops* times at most.

    Of many only those are stopped whose ids are in the hundreds of the largest one, so that a script can say whom it
    still uses. With the shortest time-out in which nobody counted as silent.
    """
    for timeout in TIMEOUTS_SECONDS if stops else (None,):
        done = _run(script, options, random, stops, timeout)
        if not SILENCE.search(done.stderr):
            break
    return done


def _run(script: Path, options: tuple[str, ...], random: Random, stops: int, timeout: float | None) -> Result:
    limit = () if timeout is None else ("--timeout", str(timeout))
    with script.open("rb") as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        with subprocess.Popen(command(*limit, *options), stdin=stdin, stdout=stdout, stderr=stderr) as master:
            try:
                if timeout is not None:
                    _stall(master, random, stops, timeout)
                status = master.wait(LIMIT_SECONDS)
            finally:
                master.kill()
        for printed in (stdout, stderr):
            printed.seek(0)
        return Result(stdout.read(), stderr.read().decode("utf-8", "surrogateescape"), status)


def _stall(master: subprocess.Popen[bytes], random: Random, stops: int, timeout: float) -> None:
    directory = None
    while stops and _goes_on(master, random.expovariate(50)):
        directory = directory or run_directory(master.pid)
        found = _latest(processes(directory)) if directory else {}
        clients = [name for name in found if name.startswith("client")]
        if clients:
            servers = [name for name in found if name.startswith("server")]
            stops -= 1
            name = random.choice(servers if servers and random.random() < 0.2 else clients)
            with stopped(found[name]):
                _goes_on(master, timeout * (STOPPED if name in clients else STOPPED_SERVER))


def _latest(found: dict[str, int]) -> dict[str, int]:
    """The clients and servers whose ids are in the same hundred as the largest id of all."""
    hundreds = {name: int(name.split()[1]) // 100 for name in found if name.startswith(("client", "server"))}
    return {name: found[name] for name, hundred in hundreds.items() if hundred == max(hundreds.values())}


def _goes_on(master: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the master is still running after this time."""
    try:
        master.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Within this block a process is stopped. It may end before or meanwhile."""
    _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass


def slept(pid: int) -> int:
    """How often a process has gone to sleep, which it does once for each message that it waits for."""
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
