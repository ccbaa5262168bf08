"""scripts/cleanup.sh: ends what was started from its own checkout, and touches nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from checking.driver import LIMIT_SECONDS, ROOT, Conversation, processes, run_directory, start_time, state, wait_until
from control import run_directory as rooms
from scripts import cleanup as script

NOBODY = 65534
needs_other_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Run:
    """A master of a checkout, with a server and a client, which does not end by itself."""

    def __init__(self, checkout: Path, environment: dict[str, str] | None = None, *, alone: bool = False) -> None:
        """*environment* is added to this process's own, unless it stands *alone*."""
        self.process = subprocess.Popen(
            [sys.executable, checkout / "master.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**({} if alone else os.environ), **(environment or {})},
        )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(b"joinServer 0\njoinClient 5 0\nput 5 key value\nget 5 key\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"key:value\n"
        directory = run_directory(self.process.pid)
        assert directory is not None
        self.directory = directory
        self.pids = processes(directory) or members(directory)
        assert len(self.pids) == 4

    def is_gone(self) -> bool:
        return all(state(pid) in "xZ" for pid in self.pids.values()) and not self.directory.exists()

    def is_well(self) -> bool:
        return self.process.poll() is None and all(state(pid) not in "xZ" for pid in self.pids.values())

    @property
    def stem(self) -> str:
        """How the names of this checkout's run directories begin."""
        return self.directory.name.rpartition("-")[0] + "-"

    def end(self) -> None:
        for pid in (*self.pids.values(), self.process.pid):
            if state(pid) not in "xZ":
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def members(directory: Path) -> dict[str, int]:
    """The processes of a run, recognized by their current folder, which is the run directory."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == directory:
                found[f"process {entry.name}"] = int(entry.name)
        except OSError:
            pass
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources: another checkout."""
    copy = tmp_path / "a checkout"
    copy.mkdir()
    for source in ROOT.glob("*.py"):
        shutil.copy(source, copy)
    for folder in ("checking", "console", "control", "rpc", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder)
    return copy


@pytest.fixture
def started() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.end()


def orphan(run: Run) -> None:
    """Kill the master after freezing the other processes, the spawner first, so that these remain."""
    for name in sorted(run.pids, key=lambda name: name != "spawner"):
        os.kill(run.pids[name], signal.SIGSTOP)
    run.process.kill()
    run.process.wait()


def cleanup(checkout: Path, *options: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run cleanup.sh. *environment* is added to the variables of this process."""
    done = subprocess.run(
        [checkout / "scripts" / "cleanup.sh", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


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


def test_masters_without_a_run_are_ended_and_other_processes_are_not(checkout: Path, tmp_path: Path) -> None:
    """One waits for a script that nobody writes. Others only have the file in their command lines."""
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


# -- runs that are hard to find ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--orphans"]], ids=str)
def test_orphans_without_titles_are_ended(checkout: Path, started: list[Run], options: list[str]) -> None:
    """With an empty environment there is no room for a title."""
    started.append(Run(checkout, alone=True))
    assert not processes(started[0].directory)
    orphan(started[0])
    cleanup(checkout, *options)
    assert started[0].is_gone()


@pytest.mark.parametrize("options", [[], ["--orphans"]], ids=str)
def test_orphans_whose_directory_was_removed_are_ended(checkout: Path, started: list[Run], options: list[str]) -> None:
    for _ in range(2):
        started.append(Run(checkout))
    well, orphaned = started
    orphan(orphaned)
    for run in started:
        shutil.rmtree(run.directory)
    cleanup(checkout, *options)
    wait_until(orphaned.is_gone, "the end of the orphans")
    if options:
        assert well.is_well()
    else:
        wait_until(well.is_gone, "the end of the other run")


def test_a_run_without_its_owner_file_lives_as_long_as_its_master(checkout: Path, started: list[Run]) -> None:
    """A service may remove old files from /tmp."""
    started.append(Run(checkout))
    (run,) = started
    (run.directory / "owner").unlink()
    os.utime(run.directory, (0, 0))
    assert cleanup(checkout, "--orphans") == ""
    assert run.is_well()
    orphan(run)
    assert cleanup(checkout, "--orphans").endswith(f"removed {run.directory}\n")
    assert run.is_gone()


def test_an_old_owner_file_does_not_lead_to_newer_processes(checkout: Path, started: list[Run]) -> None:
    """The ids of processes and sessions are used again, and the directory may be the current folder of others."""
    started.append(Run(checkout))
    stem, directory = started[0].stem, started[0].directory
    orphan(started[0])
    old = Path(tempfile.mkdtemp(prefix=stem, dir="/tmp"))
    with (
        subprocess.Popen(["sleep", "1000"], start_new_session=True) as other,
        subprocess.Popen(["sleep", "1000"], cwd=directory) as visitor,
    ):
        (old / "owner").write_text(f"master {other.pid} 1\nspawner {other.pid} 1\n")
        try:
            said = cleanup(checkout)
            assert f"removed {old}\n" in said and f"removed {directory}\n" in said
            assert not old.exists() and started[0].is_gone()
            assert other.poll() is None and visitor.poll() is None
        finally:
            other.kill()
            visitor.kill()


@pytest.mark.parametrize(
    "variables",
    [
        {"PATH": "{bare}"},
        {"PYTHONPATH": "{bare}"},
        {"PYTHONHOME": "/nonexistent"},
        {"PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_it_needs_nothing_but_python(
    checkout: Path, started: list[Run], tmp_path: Path, variables: dict[str, str]
) -> None:
    """It needs no ps, no coreutils, no working .venv, and does not import modules with the names of Python's."""
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "python3").symlink_to(Path(sys.executable).resolve())
    for name in ("json", "re", "tempfile", "run_directory"):
        (bare / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/nonexistent/python")
    started.append(Run(checkout))
    orphan(started[0])
    cleanup(checkout, environment={name: value.format(bare=bare) for name, value in variables.items()})
    assert started[0].is_gone()


# -- what others have put there ------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody can write to, like /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="daadkvs-test-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def given_away(path: Path) -> Path:
    """Give a file, a link, or a folder with its content to another user."""
    for each in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        os.lchown(each, NOBODY, NOBODY)
    return path


@contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that does not belong to any run."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def note(process: subprocess.Popen[bytes], stores: Path) -> str:
    """A note that names a process as master and as spawner, and a folder as the stores, in every way there has been."""
    named = f"{process.pid} {start_time(process.pid)}"
    return f'master {named}\nstores {stores}\nstores-in "{stores.parent}"\nspawner {named}\n'


@needs_other_user
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777], ids=oct)
def test_folders_that_another_user_has_made_do_no_harm(
    checkout: Path, started: list[Run], shared: Path, mode: int
) -> None:
    """They name a process as the master, or a live run as their stores."""
    started.append(Run(checkout))
    (run,) = started
    folder = shared / f"{run.stem}abcdefgh"
    folder.mkdir()
    folder.chmod(mode)
    there = {"TMPDIR": str(shared)}
    with bystander() as process:
        text = note(process, run.directory)
        (folder / "owner").write_text(text.replace(start_time(process.pid), "1"))
        given_away(folder)
        assert cleanup(checkout, "--orphans", environment=there) == ""
        assert run.is_well()
        (folder / "owner").write_text(text)
        assert f"removed {folder}" not in cleanup(checkout, environment=there)
        assert process.poll() is None
        assert folder.exists()
    wait_until(run.is_gone, "the end of the run")


@needs_other_user
@pytest.mark.parametrize("kind", ["a pipe", "a link", "a file"])
def test_an_owner_file_that_another_user_has_made_is_ignored(
    checkout: Path, started: list[Run], shared: Path, tmp_path: Path, kind: str
) -> None:
    """This holds even in a folder of this user, which may have been open to others before."""
    started.append(Run(checkout))
    (run,) = started
    folder = shared / f"{run.stem}abcdefgh"
    folder.mkdir(mode=0o700)
    with bystander() as process:
        text = note(process, run.directory)
        if kind == "a pipe":
            os.mkfifo(folder / "owner")
        elif kind == "a link":
            (tmp_path / "note").write_text(text)
            (folder / "owner").symlink_to(tmp_path / "note")
        else:
            (folder / "owner").write_text(text)
        given_away(folder / "owner")
        os.utime(folder, (0, 0))
        assert cleanup(checkout, "--orphans", environment={"TMPDIR": str(shared)}) == f"removed {folder}\n"
        assert process.poll() is None and run.is_well()
        assert not (tmp_path / "note").exists() or (tmp_path / "note").read_text() == text


@pytest.mark.parametrize("separator", ["\n", "\n/", "\r\n", " ", "\t"], ids=repr)
def test_names_with_line_ends_are_not_taken_for_other_folders(
    checkout: Path, started: list[Run], shared: Path, tmp_path: Path, separator: str
) -> None:
    """The second line of such a name must not be taken for a folder of its own."""
    started.append(Run(checkout))
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    (precious / "file").touch()
    folder = shared / f"{started[0].stem}abcdefgh{separator}precious"
    folder.mkdir(parents=True, mode=0o700)
    cleanup(checkout, cwd=tmp_path, environment={"TMPDIR": str(shared)})
    assert (precious / "file").exists()
    assert folder.exists()


@pytest.mark.parametrize("kind", ["open to others", "open to a group", "a link", "a file", "a pipe"])
def test_what_is_no_private_folder_is_left_alone(
    checkout: Path, started: list[Run], shared: Path, tmp_path: Path, kind: str
) -> None:
    started.append(Run(checkout))
    path = shared / f"{started[0].stem}abcdefgh"
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    with bystander() as process:
        (target / "owner").write_text(note(process, tmp_path))
        if kind == "a link":
            path.symlink_to(target)
        elif kind == "a file":
            path.touch(mode=0o700)
        elif kind == "a pipe":
            os.mkfifo(path, 0o700)
        else:
            shutil.copytree(target, path)
            path.chmod(0o755 if kind == "open to others" else 0o710)
        cleanup(checkout, environment={"TMPDIR": str(shared)})
        assert process.poll() is None
        assert path.exists()
        assert (target / "owner").exists()


@pytest.mark.parametrize("kind", ["a link", "another run", "not private", "another name"])
def test_only_its_own_stores_go_with_a_run(checkout: Path, started: list[Run], shared: Path, kind: str) -> None:
    """Other users can make or rename folders beside them."""
    started.append(Run(checkout, {"TMPDIR": str(shared)}))
    (run,) = started
    (stores,) = shared.iterdir()
    assert stores.name.startswith(f"{run.directory.name}-stores-")
    target = shared / "target"
    target.mkdir(mode=0o700)
    (target / "owner" if kind == "another run" else target / "file").touch()
    odd = shared / (f"{run.directory.name}x-stores-1" if kind == "another name" else f"{run.directory.name}-stores-1")
    if kind == "a link":
        odd.symlink_to(target)
    else:
        target.rename(odd)
        odd.chmod(0o755 if kind == "not private" else 0o700)
    orphan(run)
    cleanup(checkout)
    assert run.is_gone()
    assert not stores.exists()
    assert list(odd.iterdir())


@pytest.mark.parametrize("by", ["a link", "another folder"])
def test_a_folder_that_is_exchanged_meanwhile_stays(shared: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """In a folder without the sticky bit, another user may rename its content at any moment."""
    monkeypatch.setattr(rooms, "places", lambda: [str(shared)])
    monkeypatch.setattr(rooms, "_stem", lambda: "daadkvs-0-0123456789-")
    path, precious, aside = shared / "daadkvs-0-0123456789-abcdefgh", shared / "precious", shared / "aside"
    for folder in (path, precious):
        folder.mkdir(mode=0o700)
        (folder / "file").touch()
    with ExitStack() as stack:
        runs = script._runs()
        stack.callback(runs.close)  # type: ignore[attr-defined]
        run = next(runs)
        path.rename(aside)
        path.symlink_to(precious) if by == "a link" else precious.rename(path)
        with pytest.raises(OSError, match=r"Not a directory|not empty"):
            script._Cleanup(orphans_only=True)._remove(run, run.parent, None)  # type: ignore[arg-type]
    assert not (aside / "file").exists()
    assert (path / "file").exists()


# -- the command line ----------------------------------------------------------------------------------------------


def test_it_works_although_nobody_reads_its_output(checkout: Path, started: list[Run]) -> None:
    started.append(Run(checkout))
    orphan(started[0])
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [checkout / "scripts" / "cleanup.sh"], stdout=writer, stderr=subprocess.PIPE, timeout=LIMIT_SECONDS, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert started[0].is_gone()


@pytest.mark.parametrize("options", [["--all"], ["--orphans", "--all"]], ids=" ".join)
def test_a_wrong_option_is_refused(checkout: Path, options: list[str]) -> None:
    command = [str(checkout / "scripts" / "cleanup.sh"), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: unknown option: {' '.join(options)}\n" + cleanup(checkout, "--help")


def test_the_help_is_complete(checkout: Path) -> None:
    shown = cleanup(checkout, "--help")
    assert shown.startswith("Ends every Daadkvs process")
    assert "--orphans" in shown
    assert shown.endswith(".\n")
