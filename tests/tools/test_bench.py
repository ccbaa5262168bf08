"""What scripts/bench.py says of the machine, and of other programs. Its figures are not looked at: they are times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from checking.bench.against import compare
from checking.bench.baseline import bare_put_seconds, batched_put_seconds, parsed_put_seconds
from checking.bench.calibration import Calibration, calibrate, warning
from checking.driver import ROOT

PEERS = ROOT / "tests" / "support" / "peers"


def test_figures_of_an_idle_machine_count() -> None:
    idle = Calibration(0.010, 0.020, 0.01)
    assert warning(idle, idle._replace(compute=0.0105)) is None


def test_figures_of_a_machine_that_became_slower_or_is_shared_don_t_count() -> None:
    idle = Calibration(0.010, 0.020, 0.01)
    for slower in (idle._replace(compute=0.012), idle._replace(wake=0.023)):
        for pair in ((idle, slower), (slower, idle)):
            assert "please try again when it is idle" in (warning(*pair) or "")
    busy = idle._replace(others=0.5)
    assert "other programs were busy" in (warning(busy, busy) or "")


def test_the_machine_is_calibrated_and_baselines_are_measured() -> None:
    found = calibrate()
    assert found.compute > 0
    assert found.wake > 0
    assert found.others >= 0
    assert all(measure(16, 2000) > 0 for measure in (bare_put_seconds, batched_put_seconds, parsed_put_seconds))


def test_another_program_is_compared_with_daadkvs() -> None:
    compared = [one() for one in compare(f"{sys.executable} {PEERS / 'right.py'}", runs=1)]
    assert len(compared) == 4
    for one in compared:
        assert one.ours and one.theirs, one
        assert one.note == ""


def test_a_program_that_fails_or_prints_something_else_is_noted(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\ncat > /dev/null\n")
    silent.chmod(0o755)
    start, *_ = compare(str(silent), runs=1)
    assert start().note == "prints something else"
    for command, note in (("false", "its exit status was 1"), (str(tmp_path / "none"), "No such file")):
        first, *_, gets = compare(command, runs=1)
        assert first().theirs is None
        assert note in first().note
        assert gets().theirs is None


def test_an_unknown_benchmark_is_an_error() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench.py"), "speed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such benchmark: speed" in done.stderr
