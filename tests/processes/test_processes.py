"""The processes of a run, what they leave behind, and how they end; and the data directory."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from checking.driver import LIMIT_SECONDS, ROOT, Conversation, command, processes, run, run_directory, state, wait_until

CLUSTER = "joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 k v\n"
MASTER_DEATH_SECONDS = 2.0
SLACK_SECONDS = 4.0
"""How much longer than a limit something may take on a busy machine."""


def is_gone(pid: int) -> bool:
    return state(pid) in "Zx"


@contextmanager
def cluster(*options: str, environment: dict[str, str] | None = None) -> Iterator[tuple[Conversation, dict[str, int]]]:
    """A master with two servers and two clients, and its processes. All of them end with the test."""
    conversation = Conversation(*options, environment=environment)
    pids: dict[str, int] = {}
    directory = None
    try:
        conversation.do(CLUSTER)
        pids = conversation.pids()
        assert sorted(pids) == sorted([*(f"{w} {i}" for w in ("server", "watchdog") for i in (0, 1)), *EXTRAS])
        directory = run_directory(conversation.process.pid)
        yield conversation, pids
    finally:
        conversation.process.kill()
        conversation.process.wait()
        wait_until(lambda: all(map(is_gone, pids.values())), "the end of all processes")
        if directory is not None and directory.exists():  # where the master was killed
            subprocess.run(["rm", "-rf", directory], check=True)


EXTRAS = ("client 5", "client 6", "spawner")


def wait_until_read(conversation: Conversation) -> None:
    """Wait until the master has taken all that was sent to it."""
    assert conversation.process.stdin is not None
    fd = conversation.process.stdin.fileno()
    wait_until(
        lambda: not int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder), "the master to read"
    )


def assert_all_ended(conversation: Conversation, pids: dict[str, int], directory: Path, seconds: float) -> None:
    """All processes and files are gone, now or within a few seconds."""
    wait_until(lambda: all(map(is_gone, pids.values())), f"the end of {pids}", seconds)
    assert processes(directory) == {}
    assert not directory.exists()


# -- sockets and files -------------------------------------------------------------------------------------


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def test_nothing_has_a_network_socket() -> None:
    with cluster("--gossip-interval", "0.01") as (conversation, pids):
        conversation.do("stabilize\nput 5 a b\nput 6 a b")
        ours = set().union(*map(sockets_of, [*pids.values(), conversation.process.pid]))
        network = set()
        for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            path = Path("/proc/net", table)
            if path.exists():
                network |= {line.split()[9] for line in path.read_text().splitlines()[1:]}
        assert len(ours) > len(pids)
        assert not ours & network


def test_no_process_holds_a_socket_of_another() -> None:
    """While a child held a copy of its parent's socket, nobody would see that connection end."""
    with cluster() as (conversation, pids):
        conversation.do("put 5 key value\nkillServer 1\njoinServer 1\nstabilize")
        holders = {name: sockets_of(pid) for name, pid in conversation.pids().items()}
        holders["master"] = sockets_of(conversation.process.pid)
        assert pids.keys() <= holders.keys()
        assert all(holders.values())
        held = [inode for sockets in holders.values() for inode in sockets]
        assert len(held) == len(set(held))


def test_only_their_user_can_enter_the_directory_of_sockets() -> None:
    with cluster() as (conversation, _):
        directory = run_directory(conversation.process.pid)
        assert directory is not None
        assert directory.stat().st_mode & 0o777 == 0o700
        sockets = [path for path in directory.rglob("*") if path.is_socket()]
        assert sockets
        conversation.end()


def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path.joinpath(*["x" * 60] * 4)
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("where", ["short", "long"])
def test_no_file_is_left(where: str, tmp_path: Path) -> None:
    """The temporary folder contains stores during the run, and nothing afterwards; the current folder has none."""
    folder = long_folder(tmp_path) if where == "long" else tmp_path
    here = tmp_path / "here"
    here.mkdir()
    with cluster(environment={"TMPDIR": str(folder)}) as (conversation, pids):
        assert conversation.do("get 5 k\nkillServer 0\njoinServer 0\nget 5 k").lines == ["k:v"] * 2
        before = set(folder.rglob("log.0"))
        assert before
        directory = run_directory(conversation.process.pid)
        assert directory is not None
        conversation.end()
        assert_all_ended(conversation, pids, directory, 0.0)
        assert set(folder.iterdir()) <= {here}
    result = run(CLUSTER, cwd=here, environment={"TMPDIR": str(folder)})
    assert result.status == 0
    assert list(here.iterdir()) == []
    assert set(folder.iterdir()) <= {here}


def test_a_data_directory_holds_nothing_but_stores_lock_and_clock(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    assert run(CLUSTER, "--data-dir", str(data)).status == 0
    assert {path.name for path in data.iterdir()} == {"lock", "clock", "server-0", "server-1"}
    assert {path.name for path in (data / "server-0").iterdir()} == {"lock", "log.0"}


WITHOUT_TMP = (
    "unshare",
    "-m" if os.geteuid() == 0 else "-Urm",
    "sh",
    "-c",
    'mount -t tmpfs -o ro none /tmp && exec "$@"',
)
"""Runs a command in an environment in which /tmp can not be written to."""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A temporary folder outside of /tmp."""
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("this checkout stands in /tmp itself")
    if (
        not shutil.which("unshare")
        or subprocess.run([*WITHOUT_TMP, "sh", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("nothing can be mounted here")
    with tempfile.TemporaryDirectory(prefix="daadkvs-test-", dir="/var/tmp") as folder:
        yield Path(folder)


def deep(folder: Path, length: int) -> Path:
    """A folder below *folder* whose path has *length* bytes."""
    names = length - len(os.fsencode(folder))
    parts = ["x" * 199] * ((names - 2) // 200)
    return folder.joinpath(*parts, "x" * (names - 200 * len(parts) - 1))


def run_without_tmp(script: str, folder: Path, *options: str) -> tuple[bytes, str, int]:
    done = subprocess.run(
        [*WITHOUT_TMP, "sh", *command(*options)],
        input=script.encode(),
        capture_output=True,
        env={**os.environ, "TMPDIR": str(folder)},
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return done.stdout, done.stderr.decode(), done.returncode


LIFE = CLUSTER + "stabilize\nkillServer 0\njoinServer 0\nget 5 k\nbreakConnection 5 0\nprintStore 1\n"


@pytest.mark.parametrize("length", [60, 77, 78, 100, 107, 108, 300, 3900, 4090])
def test_sockets_at_paths_of_any_length(elsewhere: Path, length: int) -> None:
    """Longer ones than the system takes for a socket, and those at the limit. (Below the longest no file can be; then
    there is /var/tmp.)"""
    folder = deep(elsewhere, length)
    make_deep(folder)
    assert run_without_tmp(LIFE, folder) == (b"k:v\n" * 2, "", 0)
    assert not [name for _, folders, files in os.walk(elsewhere) for name in folders + files if "daadkvs" in name]


def make_deep(folder: Path) -> None:
    folder.mkdir(parents=True)
    assert len(os.fsencode(folder)) == len(str(folder))


@pytest.mark.parametrize("length", [4000, 4050])
def test_a_folder_in_which_no_run_is_possible_is_reported_once(elsewhere: Path, length: int) -> None:
    folder = deep(elsewhere, length)
    make_deep(folder)
    stdout, stderr, status = run_without_tmp(LIFE, folder)
    assert (stdout, status) == (b"", 2)
    assert re.fullmatch("error: .*: (File name too long|the path is too long for the files of stores)\n", stderr)
    assert not [name for _, folders, files in os.walk(elsewhere) for name in folders + files if "daadkvs" in name]


def test_a_data_directory_with_too_long_a_path_is_reported_once(tmp_path: Path) -> None:
    folder = deep(tmp_path, 4030)
    result = run(LIFE, "--data-dir", str(folder))
    assert result == (b"", f"error: {folder}: the path is too long for the files of stores\n", 2)


@pytest.mark.parametrize("options", [[], ["--orphans"]], ids=str)
def test_cleanup_finds_runs_in_any_folder(elsewhere: Path, options: list[str]) -> None:
    """The checkout is a copy of the sources, so that no other runs are ended."""
    checkout, folder = elsewhere / "checkout", deep(elsewhere / "temporary", 300)
    make_deep(folder)
    checkout.mkdir()
    for source in ROOT.glob("*.py"):
        shutil.copy(source, checkout)
    for each in ("checking", "console", "control", "rpc", "scripts"):
        shutil.copytree(ROOT / each, checkout / each)
    with subprocess.Popen(
        [*WITHOUT_TMP, "sh", sys.executable, str(checkout / "master.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(CLUSTER.encode() + b"get 5 k\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"k:v\n"
        (directory,) = folder.iterdir()
        pids = processes(directory)
        assert len(pids) == 7
        for name in ("spawner", *pids):
            os.kill(pids[name], signal.SIGSTOP)
        process.kill()
        process.wait()
        done = subprocess.run([checkout / "scripts" / "cleanup.sh", *options], check=True, capture_output=True)
        assert done.stdout.endswith(b"removed %s\n" % bytes(directory))
        wait_until(lambda: all(map(is_gone, pids.values())), f"the end of {pids}")
        assert not directory.exists()


# -- masters side by side ----------------------------------------------------------------------------------


def test_six_masters_in_one_folder_do_not_notice_each_other(tmp_path: Path) -> None:
    def one(number: int) -> tuple[bytes, str, int]:
        lines = ["joinServer 0", "joinServer 1", "joinClient 5 0", "joinClient 6 1"]
        for turn in range(40):
            lines += [f"put 5 k {number}-{turn}", f"put 6 l{turn} {number}", "stabilize", "get 6 k"]
            lines += ["killServer 1", "joinServer 1"] if turn % 10 == 0 else []
        return run("\n".join(lines) + "\nprintStore 0\nprintStore 1", cwd=tmp_path)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(one, range(6)))
    for number, result in enumerate(results):
        gets = "".join(f"k:{number}-{turn}\n" for turn in range(40))
        store = sorted([f"k:{number}-39", *(f"l{turn}:{number}" for turn in range(40))], key=lambda s: s.split(":")[0])
        assert result == ((gets + 2 * "".join(f"{line}\n" for line in store)).encode(), "", 0)
    assert list(tmp_path.iterdir()) == []


# -- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(5))
def test_signals_that_come_together_end_it_in_silence(turn: int) -> None:
    with cluster() as (conversation, _):
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            conversation.process.send_signal(signum)
        assert conversation.process.wait(LIMIT_SECONDS) in {128 + signum for signum in SIGNALS}
        assert conversation._errors.get(timeout=LIMIT_SECONDS) is None


IN_A_FINALIZER = """
import os, signal, sys
from console import signals

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

sys.unraisablehook = signals.unraisable
signal.signal(signal.SIGTERM, signals.stop)
try:
    Finalized()
    signal.pause()
except signals.Stop as stop:
    print("stopped by", stop.signum)
"""


def test_a_signal_that_comes_in_a_finalizer_is_not_lost() -> None:
    """Python drops an exception that is raised there, and shows a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FINALIZER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("stopped by 15\n", "")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_by(conversation: Conversation, how: signal.Signals | None) -> None:
    """End of file, or a signal; and the exit status that goes with it."""
    assert conversation.process.stdin is not None
    if how is None:
        conversation.process.stdin.close()
        assert conversation.process.wait(LIMIT_SECONDS) == 1  # the driver's marks are errors
    else:
        conversation.process.send_signal(how)
        assert conversation.process.wait(LIMIT_SECONDS) == 128 + how


def end_of_run(conversation: Conversation, pids: dict[str, int], how: signal.Signals | None) -> None:
    directory = run_directory(conversation.process.pid)
    assert directory is not None
    end_by(conversation, how)
    assert_all_ended(conversation, pids, directory, 0.0)
    errors = []
    while (line := conversation._errors.get(timeout=LIMIT_SECONDS)) is not None:
        errors.append(line)
    assert not any("Traceback" in line or "internal" in line for line in errors), errors


@pytest.mark.parametrize("how", [None, *SIGNALS], ids=str)
def test_everything_ends_with_the_master(how: signal.Signals | None) -> None:
    with cluster() as (conversation, pids):
        end_of_run(conversation, pids, how)


@pytest.mark.parametrize("frozen", ["server 0", "client 5", "watchdog 0", "spawner"])
@pytest.mark.parametrize("how", [None, signal.SIGTERM], ids=str)
def test_everything_ends_where_something_is_frozen(how: signal.Signals | None, frozen: str) -> None:
    with cluster() as (conversation, pids):
        conversation.signal(frozen, signal.SIGSTOP)
        end_of_run(conversation, pids, how)


@pytest.mark.parametrize(
    ("line", "how"),
    [
        *(("stabilize", how) for how in SIGNALS),
        ("put 5 k w", signal.SIGINT),
        ("get 5 k", signal.SIGTERM),
        ("printStore 0", signal.SIGHUP),
        ("breakConnection 0 1", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_master_that_waits_for_a_frozen_server(line: str, how: signal.Signals) -> None:
    with cluster() as (conversation, pids):
        conversation.signal("server 0", signal.SIGSTOP)
        conversation.send(line)
        wait_until_read(conversation)
        end_of_run(conversation, pids, how)


def test_a_signal_while_the_master_starts() -> None:
    left = []
    for how in SIGNALS * 2:
        process = subprocess.Popen(command(), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda pid=process.pid: run_directory(pid), "the start", poll_seconds=0.0)
        directory = run_directory(process.pid)
        process.send_signal(how)
        process.communicate()
        if directory is not None and directory.exists():
            left.append(directory)
            wait_until(lambda d=directory: not processes(d), "the end")
            subprocess.run(["rm", "-rf", directory], check=True)
    assert left == []


@pytest.mark.parametrize("how", SIGNALS, ids=str)
def test_a_signal_in_the_middle_of_a_stream_of_puts(how: signal.Signals) -> None:
    with cluster() as (conversation, pids):
        stream = b"".join(b"put %d k%d %d\n" % (5 + n % 2, n % 100, n) for n in range(200_000))

        def feed() -> None:
            try:
                conversation.send(stream)
            except OSError:
                pass  # the master is gone

        feeder = threading.Thread(target=feed)
        feeder.start()
        time.sleep(0.2)  # any moment will do
        end_of_run(conversation, pids, how)
        feeder.join()


@pytest.mark.parametrize("frozen", [None, "server 0", "client 5", "watchdog 0"])
@pytest.mark.parametrize("line", ["", "stabilize"], ids=["idle", "busy"])
def test_all_others_end_when_the_master_is_killed(frozen: str | None, line: str) -> None:
    with cluster() as (conversation, pids):
        if frozen:
            conversation.signal(frozen, signal.SIGSTOP)
        conversation.send(line)
        wait_until_read(conversation)
        conversation.process.kill()
        conversation.process.wait()
        limit = MASTER_DEATH_SECONDS + SLACK_SECONDS
        wait_until(lambda: all(map(is_gone, pids.values())), f"the end of {pids}", limit)


def test_the_master_is_killed_while_it_starts_processes() -> None:
    for milliseconds in range(0, 400, 40):
        process = subprocess.Popen(command(), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin is not None
        process.stdin.write(("".join(f"joinServer {n}\njoinClient {n + 50} {n}\n" for n in range(20))).encode())
        process.stdin.flush()
        time.sleep(milliseconds / 1000)  # any moment will do
        directory = run_directory(process.pid)
        process.kill()
        process.wait()
        if directory is not None:
            wait_until(lambda d=directory: not processes(d), "the end", MASTER_DEATH_SECONDS + SLACK_SECONDS)
            subprocess.run(["rm", "-rf", directory], check=True)


# -- standard streams that are closed ----------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-", ">/dev/full"])
def test_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    """Nothing hangs, nothing is left, and no store contains what was written to a stream."""
    script = tmp_path / "script"
    script.write_text(CLUSTER + "nonsense\nget 5 k\nstabilize\nprintStore 1\n")
    folder = tmp_path / "temporary"
    folder.mkdir()
    given = "" if "<" in closed else f"<{script}"
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {given} {closed}', "sh", *command(*([str(script)] if "<" in closed else []))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_SECONDS,
        env={**os.environ, "TMPDIR": str(folder)},
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.stdout == (b"" if ">&-" in closed.replace("2>&-", "") or "full" in closed else b"k:v\nk:v\n")
    assert done.returncode in ((1,) if "full" not in closed else (128 + signal.SIGPIPE, 1))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_away(stream: str) -> None:
    """The reader behaves like `head -1`. Nothing hangs, and everything is cleaned up."""
    process = subprocess.Popen(
        command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    reader, other = (process.stdout, process.stderr) if stream == "stdout" else (process.stderr, process.stdout)
    try:
        process.stdin.write(CLUSTER.encode() + (b"get 5 k\n" if stream == "stdout" else b"nonsense\n"))
        assert select.select([reader], [], [], LIMIT_SECONDS)[0]
        directory = run_directory(process.pid)
        assert directory is not None
        pids = processes(directory)
        os.read(reader.fileno(), 1000)
        reader.close()
        try:
            process.stdin.write(b"get 5 k\nnonsense\n" * 5_000)
            process.stdin.close()
        except BrokenPipeError:
            pass
        told = other.read()
        status = process.wait(LIMIT_SECONDS)
        assert b"Traceback" not in told
        if stream == "stdout":
            assert status == 128 + signal.SIGPIPE
        else:
            assert (status, told) == (1, b"k:v\n" * 5_000)
        wait_until(lambda: all(map(is_gone, pids.values())), f"the end of {pids}", 0.0)
        assert not directory.exists()
    finally:
        process.kill()
        process.wait()


# -- the data directory ------------------------------------------------------------------------------------


def test_a_data_directory_keeps_everything_over_runs(tmp_path: Path) -> None:
    expected = {}
    for turn in range(5):
        lines = ["joinServer 0", "joinServer 1", "joinClient 5 0"]
        for number in range(turn, 100, turn + 1):
            lines.append(f"put 5 k{number:03} {turn}")
            expected[f"k{number:03}"] = turn
        result = run("\n".join([*lines, "stabilize", "printStore 0", "printStore 1"]), "--data-dir", str(tmp_path))
        assert result.status == 0, result.stderr
        assert result.stdout == 2 * "".join(f"{key}:{expected[key]}\n" for key in sorted(expected)).encode()


def test_a_second_master_cannot_use_a_data_directory(tmp_path: Path) -> None:
    options = ("--data-dir", str(tmp_path))
    with Conversation(*options) as conversation:
        assert conversation.do(CLUSTER).errors == []
        for path in (tmp_path, tmp_path / ".", tmp_path.parent / tmp_path.name / ".." / tmp_path.name):
            second = run("joinServer 0\nprintStore 0\n", "--data-dir", str(path))
            assert (second.stdout, second.status) == (b"", 2)
            assert len(second.errors) == 1
            assert "in use" in second.stderr
        assert conversation.do("put 5 k w\nkillServer 0\njoinServer 0\nget 5 k").lines == ["k:w"]
    assert run("joinServer 0\nprintStore 0\n", *options) == (b"k:w\n", "", 0)


def test_a_data_directory_is_free_at_once_when_its_master_was_killed(tmp_path: Path) -> None:
    """The last run's server may not be gone yet, even frozen; joinServer waits for it."""
    options = ("--data-dir", str(tmp_path))
    for turn in range(5):
        with cluster(*options) as (conversation, _):
            conversation.do(f"put 5 turn {turn}")
            conversation.signal("server 0", signal.SIGSTOP)
            conversation.process.kill()
            conversation.process.wait()
            result = run("joinServer 0\nprintStore 0\n", *options)
            assert result == (f"k:v\nturn:{turn}\n".encode(), "", 0)


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("lets_go", [True, False])
def test_join_server_waits_for_a_folder_that_is_still_held(lets_go: bool, tmp_path: Path) -> None:
    (tmp_path / "server-0").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "server-0" / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdin is not None
    holder.stdout.readline()
    with Conversation("--data-dir", str(tmp_path), "--timeout", "30" if lets_go else "1") as conversation:
        if lets_go:
            conversation.send("joinServer 0")
            wait_until(lambda: "server 0" in conversation.pids(), "the server's start")
            holder.stdin.close()
            holder.wait()
            assert conversation.do().errors == []
        else:
            (error,) = conversation.do("joinServer 0").errors
            assert error.startswith("joinServer: server 0 could not be started: ")
            assert "in use" in error
            holder.stdin.close()
            holder.wait()
            assert conversation.do("joinServer 0").errors == []
        output = conversation.do("joinServer 1\njoinClient 5 0\nput 5 k v\nstabilize\nprintStore 1")
        assert output == (b"k:v\n", [])


# -- the clock ---------------------------------------------------------------------------------------------

FUTURE = 10**17  # in microseconds: about the year 5138


def test_timestamps_never_go_backwards(tmp_path: Path) -> None:
    """A run under a clock far ahead, then runs under the real one: a later put always stands."""
    options = ("--data-dir", str(tmp_path))
    (tmp_path / "clock").write_text(f"{FUTURE}\n")
    script = "joinServer 0\njoinServer 1\njoinClient 5 {}\nput 5 k {}\nstabilize\nprintStore 0\nprintStore 1\n"
    for turn in range(4):
        assert run(script.format(turn % 2, turn), *options) == (f"k:{turn}\n".encode() * 2, "", 0)
        assert int((tmp_path / "clock").read_text()) > FUTURE


@pytest.mark.parametrize("content", [None, "", "soon\n", "\x00\x00\x00", f"{1 << 62}\n"])
def test_later_puts_stand_even_where_the_clock_file_is_lost_or_damaged(content: str | None, tmp_path: Path) -> None:
    """The server with the larger timestamp joins only after the put, but its timestamp is found before."""
    options = ("--data-dir", str(tmp_path))
    clock = tmp_path / "clock"
    clock.write_text(f"{FUTURE}\n")
    assert run("joinServer 0\njoinClient 5 0\nput 5 k old\n", *options) == (b"", "", 0)
    clock.unlink()
    if content is not None:
        clock.write_text(content)
    script = "joinServer 1\njoinClient 5 1\nput 5 k new\njoinServer 0\nstabilize\nprintStore 0\nprintStore 1\n"
    result = run(script, *options, "--history", str(tmp_path / "history"), "--trace", str(tmp_path / "trace"))
    assert (result.stdout, result.status) == (b"k:new\n" * 2, 0)
    what = (
        "missing, although there are stores; "
        if content is None
        else "not a clock's bound; the file is set aside, and "
    )
    warning = f"{clock}: {what}timestamps continue above the largest one in all stores there"
    assert result.stderr == f"warning: {warning}\n"
    aside = [path.read_text() for path in tmp_path.glob("clock.damaged-*")]
    assert aside == ([] if content is None else [content])
    assert int(clock.read_text()) > FUTURE
    assert warning in (tmp_path / "history").read_text()
    assert any(warning in path.read_text("utf-8", "replace") for path in (tmp_path / "trace").iterdir())
    assert run("joinServer 0\njoinClient 5 0\nget 5 k\n", *options) == (b"k:new\n", "", 0)


# -- a checkout is all it takes ----------------------------------------------------------------------------


def test_it_runs_from_any_folder(tmp_path: Path) -> None:
    assert run(f"{CLUSTER}get 5 k\n", cwd=tmp_path).stdout == b"k:v\n"
    assert list(tmp_path.iterdir()) == []
    assert (ROOT / "master.py").exists()


def test_a_broken_connection_leaves_nothing_at_the_server() -> None:
    with Conversation("--gossip-interval", "0") as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0").errors == []
        server = conversation.pids()["server 0"]

        def used() -> tuple[int, int]:
            process = Path(f"/proc/{server}")
            return len(os.listdir(process / "fd")), len(os.listdir(process / "task"))

        wait_until(lambda: len({used() for _ in range(5)}) == 1, "the server to be at rest")
        before = used()
        assert conversation.do("put 5 k v\nget 5 k\nbreakConnection 5 0") == (b"k:v\n", [])
        wait_until(lambda: used() == before, f"{before} descriptors and threads")


def test_no_incarnation_of_a_server_leaves_a_file_in_the_run_directory() -> None:
    with Conversation("--gossip-interval", "0") as conversation:
        conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v")
        conversation.pids()
        assert conversation.run_directory is not None
        before = len(list(Path(conversation.run_directory).rglob("*")))
        assert conversation.do("killServer 0\njoinServer 0\n" * 5 + "get 5 k") == (b"k:v\n", [])
        assert len(list(Path(conversation.run_directory).rglob("*"))) == before
