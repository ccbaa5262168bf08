"""The command lines of the scripts: wrong options are reported, and nothing begins; and how Ctrl-C ends a script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from checking.driver import ROOT, wait_until


def run_script(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("simulate.py", "--servers 0", "argument --servers: not a whole number from 1 up: '0'"),
        ("simulate.py", "--schedules -1", "argument --schedules: not a whole number from 1 up: '-1'"),
        ("simulate.py", "--jobs many", "argument --jobs: not a whole number from 1 up: 'many'"),
        ("simulate.py", "--servers 9 --writes 0", "argument --writes: not a whole number from 1 up: '0'"),
        (
            "simulate.py",
            "--topology ring",
            "--topology and --writes are for one large cluster: --servers says how large",
        ),
        ("simulate.py", "--seed x", "argument --seed: not a whole number from 0 up: 'x'"),
        ("chaos.py", "--rounds 0", "argument --rounds: not a whole number from 1 up: '0'"),
        ("chaos.py", "--kills -3", "argument --kills: not a whole number from 1 up: '-3'"),
        ("chaos.py", "--minutes -1", "argument --minutes: not a number of minutes above 0: '-1'"),
        ("chaos.py", "--minutes 0", "argument --minutes: not a number of minutes above 0: '0'"),
        ("chaos.py", "--minutes nan", "argument --minutes: not a number of minutes above 0: 'nan'"),
        ("fuzz.py", "--lines -5", "argument --lines: not a whole number from 1 up: '-5'"),
        ("fuzz.py", "--minutes soon", "argument --minutes: not a number of minutes above 0: 'soon'"),
        ("load.py", "--operations 0", "argument --operations: not a whole number from 1 up: '0'"),
        ("load.py", "--cycles 1.5", "argument --cycles: not a whole number from 0 up: '1.5'"),
        ("generate.py", "--clients 0", "argument --clients: not a whole number from 1 up: '0'"),
        ("generate.py", "--kill-every -1", "argument --kill-every: not a whole number from 0 up: '-1'"),
    ],
)
def test_wrong_numbers(name: str, options: str, told: str) -> None:
    done = run_script(name, *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"{name}: error: {told}"


@pytest.mark.parametrize(
    ("package", "name", "options", "requirements"),
    [
        ("matplotlib", "bench.py", "--plot x.svg", "requirements-plots.txt"),
        ("matplotlib", "simulate.py", "--plot x.svg", "requirements-plots.txt"),
        ("mkdocs", "book.py", "", "requirements-book.txt"),
        ("atheris", "fuzz.py", "--coverage", "requirements-fuzz.txt"),
        ("junitparser", "grade.py", "tests --junit x.xml", "requirements-grading.txt"),
    ],
)
def test_a_package_that_is_missing(package: str, name: str, options: str, requirements: str) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is there")
    done = run_script(name, *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    how = f".venv/bin/python -m pip install -r scripts/{requirements}"
    assert done.stderr == f"error: the package {package} is missing: {how}\n"
    assert (ROOT / "scripts" / requirements).exists()


def test_ctrl_c_ends_a_long_search_in_silence() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "simulate.py"), "--schedules", "1000000", "--jobs", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: children.read_text().split(), "the search to begin")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        stdout, stderr = process.communicate(timeout=60)
    assert (stdout, stderr, process.returncode) == (b"", b"", 130)
