"""scripts/many.py: many scripts, each in a run of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checking.driver import ROOT, run, run_directory, wait_until

MANY = [sys.executable, str(ROOT / "scripts" / "many.py")]
UP = "joinServer 0\njoinClient 5 0\n"
SCRIPTS = {
    "answers": UP + "put 5 k v\nget 5 k\nprintStore 0\n",
    "errors": UP + "stablize\nget 5 nothing\nkillServer 7\n",
    "binary": UP + "put 5 k \udcff\udcfe\nget 5 k\n",
    "empty": "",
}


def many(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MANY, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "scripts"
    made.mkdir()
    for name, script in SCRIPTS.items():
        (made / f"{name}.txt").write_bytes(script.encode("utf-8", "surrogateescape"))
    return made


def test_each_script_has_a_run_of_its_own_that_prints_what_a_master_prints(folder: Path, tmp_path: Path) -> None:
    done = many(folder, "-o", tmp_path / "answers", "--jobs", "3")
    assert (done.returncode, done.stderr) == (1, "")
    lines = [re.sub(", [0-9.]+ s$", "", line) for line in done.stdout.splitlines()]
    assert lines == [f"{folder}/{name}.txt: status {int(name == 'errors')}" for name in sorted(SCRIPTS)]
    for name, script in SCRIPTS.items():
        alone = run(script.encode("utf-8", "surrogateescape"))
        assert (tmp_path / "answers" / f"{name}.out").read_bytes() == alone.stdout
        assert (tmp_path / "answers" / f"{name}.err").read_text() == alone.stderr


def test_options_behind_two_dashes_are_those_of_each_run(folder: Path, tmp_path: Path) -> None:
    done = many("--json", "-o", tmp_path, folder / "answers.txt", "--", "--show")
    (result,) = map(json.loads, done.stdout.splitlines())
    assert {**result, "seconds": 0} == {
        "script": str(folder / "answers.txt"), "status": 0, "seconds": 0, "timed_out": False
    }  # fmt: skip
    assert (tmp_path / "answers.out").read_text().startswith("> joinServer 0\n")


def test_a_run_that_takes_too_long_is_ended_and_the_others_are_not(folder: Path, tmp_path: Path) -> None:
    (folder / "long.txt").write_text(UP + "put 5 k v\nget 5 k\n" * 1_000_000)
    done = many(folder, "--time-limit", "1", "--jobs", "2", "--", "--no-pipeline")
    (ended,) = [line for line in done.stdout.splitlines() if "too long" in line]
    assert ended.startswith(f"{folder}/long.txt: ended, since it took too long")
    assert len(done.stdout.splitlines()) == len(SCRIPTS) + 1


def test_an_interrupt_ends_all_runs(folder: Path) -> None:
    (folder / "long.txt").write_text(UP + "put 5 k v\nget 5 k\n" * 1_000_000)
    process = subprocess.Popen([*MANY, folder / "long.txt", "--", "--no-pipeline"], stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: children.read_text() and run_directory(int(children.read_text())), "the run to be up")
    directory = run_directory(int(children.read_text()))
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""
    assert process.returncode == 130
    assert directory is not None
    wait_until(lambda: not directory.exists(), "the run to be gone")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["missing.txt"], "[Errno 2] No such file or directory: 'missing.txt'"),
        (["."], ".: no *.txt is in there"),
        (["a.txt", "--", "--gossip-interval", "x"], "argument --gossip-interval: not a number of seconds"),
        (["a.txt", "--", "--data-dir", "d"], "--data-dir, --history and --trace can't be the same for many runs"),
        (["-o", "out", "a.txt", "b/a.txt"], "b/a.txt: what it prints would go where that of a.txt goes"),
    ],
)  # fmt: skip
def test_wrong_options(arguments: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    (work / "b").mkdir(parents=True)
    monkeypatch.chdir(work)
    if "a.txt" in arguments:
        (work / "a.txt").touch()
        (work / "b" / "a.txt").touch()
    done = many(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr
