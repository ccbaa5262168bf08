"""scripts/cleanup.sh: ends what was started from its own checkout, and touches nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import ROOT, Conversation, processes, run_directory, state, wait_until


class Run:
    """A master of some checkout, with a server and a client, which doesn't end by itself."""

    def __init__(self, checkout: Path, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, checkout / "master.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(b"joinServer 0\njoinClient 5 0\nput 5 key value\nget 5 key\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"key:value\n"
        directory = run_directory(self.process.pid)
        assert directory is not None
        self.directory = directory
        self.pids = processes(directory)
        assert len(self.pids) == 4

    def is_gone(self) -> bool:
        return all(state(pid) in "xZ" for pid in self.pids.values()) and not self.directory.exists()

    def is_well(self) -> bool:
        return self.process.poll() is None and processes(self.directory) == self.pids

    def end(self) -> None:
        for pid in (*self.pids.values(), self.process.pid):
            if state(pid) not in "xZ":
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources: another checkout."""
    copy = tmp_path / "a checkout"
    copy.mkdir()
    for source in ROOT.glob("*.py"):
        shutil.copy(source, copy)
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    return copy


@pytest.fixture
def started() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.end()


def orphan(run: Run) -> None:
    """Kill the master in a way that leaves the others: they are frozen, the spawner first."""
    for name in ("spawner", *run.pids):
        os.kill(run.pids[name], signal.SIGSTOP)
    run.process.kill()
    run.process.wait()


def cleanup(checkout: Path, *options: str) -> str:
    script = checkout / "scripts" / "cleanup.sh"
    return subprocess.run([script, *options], check=True, capture_output=True, text=True, timeout=60).stdout


def test_cleanup_ends_hung_masters_and_orphans_of_its_checkout_alone(checkout: Path, started: list[Run]) -> None:
    with Conversation() as other_checkout:
        other_checkout.do("joinServer 0\njoinClient 5 0\nput 5 key value")
        for _ in range(2):
            started.append(Run(checkout))
        hung, orphaned = started
        os.kill(hung.process.pid, signal.SIGSTOP)
        orphan(orphaned)
        said = cleanup(checkout)
        assert f"ended master {hung.process.pid}" in said
        wait_until(lambda: hung.is_gone() and orphaned.is_gone(), "the end of both runs")
        assert hung.process.wait() == -signal.SIGKILL
        assert other_checkout.do("get 5 key").lines == ["key:value"]
        assert cleanup(checkout) == ""


def test_masters_that_have_no_run_yet_are_ended_and_nobody_who_just_names_them(checkout: Path, tmp_path: Path) -> None:
    """One waits for a script that nobody writes; others only have the file in their command lines."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        subprocess.Popen([sys.executable, "master.py", pipe], cwd=checkout) as waiting,
        subprocess.Popen(["tail", "-f", checkout / "master.py"], stdout=subprocess.DEVNULL) as other,
        subprocess.Popen([sys.executable, "-c", "input()", checkout / "master.py"], stdin=subprocess.PIPE) as reader,
    ):
        wait_until(lambda: b"master.py" in Path(f"/proc/{waiting.pid}/cmdline").read_bytes(), "the master")
        assert f"ended master {waiting.pid}\n" == cleanup(checkout)
        assert waiting.wait(60) == -signal.SIGKILL
        assert other.poll() is None and reader.poll() is None
        other.kill()
        reader.kill()


def test_orphans_only(checkout: Path, started: list[Run]) -> None:
    for _ in range(2):
        started.append(Run(checkout))
    well, orphaned = started
    orphan(orphaned)
    cleanup(checkout, "--orphans")
    wait_until(orphaned.is_gone, "the end of the orphans")
    assert well.is_well()


def test_stores_in_another_temporary_folder_are_removed(checkout: Path, started: list[Run], tmp_path: Path) -> None:
    folder = tmp_path / "temporary files"
    folder.mkdir()
    started.append(Run(checkout, {"TMPDIR": str(folder)}))
    assert list(folder.iterdir())
    orphan(started[0])
    cleanup(checkout)
    wait_until(started[0].is_gone, "the end of the orphans")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("options", [["--all"], ["--orphans", "--all"]], ids=" ".join)
def test_a_wrong_option_is_refused(checkout: Path, options: list[str]) -> None:
    command = [str(checkout / "scripts" / "cleanup.sh"), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: unknown option: {' '.join(options)}\n" + cleanup(checkout, "--help")


def test_help_is_whole(checkout: Path) -> None:
    shown = cleanup(checkout, "--help")
    assert shown.startswith("Ends every Daadkvs process")
    assert "--orphans" in shown
    assert shown.endswith(".\n")
