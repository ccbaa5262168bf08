"""The store of a server on disk: restarts, groups, disks that refuse writes, progress, and the lock of a folder."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from support.lives import OPEN, TIME, Folders, Later, Life, files, flip, run_python, some_puts

import compaction
import records
import storage
from checking.driver import ROOT
from model import Model, unpack_delta
from server import Options, Server
from storage import Storage, StorageError, cut_group
from vector_clock import Replica

# -- restarts ----------------------------------------------------------------------------------------------


def test_an_empty_folder_is_a_replica_that_knows_nothing(folders: Folders) -> None:
    life = folders.live()
    assert life.damages == []
    assert life.state() == ([], [[], []])


@pytest.mark.parametrize("fsync", storage.FSYNC_POLICIES)
def test_what_was_put_is_there_after_a_restart(folders: Folders, fsync: str) -> None:
    life = folders.live(fsync=fsync)
    life.put((b"k", b"v"), (b"\xff", b"\x00\n"))
    life.put((b"k", b"w"))
    life.storage.sync()
    life.close()
    again = Life(life.folder, 2, fsync)
    assert again.damages == []
    assert again.store() == {b"k": b"w", b"\xff": b"\x00\n"}
    assert again.state() == life.state()
    again.put((b"k", b"x"))
    again.close()
    assert folders.recovered(life.folder, 3).store()[b"k"] == b"x"


def test_what_was_learnt_is_there_after_a_restart_context_and_all(folders: Folders) -> None:
    peer = Model(Replica(5, 1))
    for value in (b"1", b"2", b"3"):
        peer.put(b"k", value, next(TIME))
    life = folders.live()
    life.learn(peer)
    again = folders.recovered(life.folder)
    assert again.state() == life.state()
    assert again.model.context == peer.context


def test_puts_of_many_incarnations_are_all_kept(folders: Folders) -> None:
    folder = folders.new()
    for stamp in range(1, 8):
        life = Life(folder, stamp)
        assert len(life.model.writes()) == stamp - 1
        life.put((b"%d" % stamp, b"v"))
        life.close()


def test_files_are_for_their_user_only(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"))
    assert life.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in life.folder.iterdir())


# -- groups ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_group_that_was_not_acknowledged_can_be_taken_back(eager: None, folders: Folders, seed: int) -> None:
    chance, later = random.Random(seed), Later() if seed % 2 else None
    life = folders.live(executor=later)
    for group in range(1, 80):
        before = life.state()
        if later and chance.random() < 0.3:
            later.do()
        life.put(*some_puts(chance), group=group)
        folder = folders.copy(life.folder)
        cut_group(folder, group + 1)  # another one: nothing happens
        assert folders.recovered(folder).state() == life.state()
        cut_group(folder, group)
        cut_group(folder, group)  # once more: nothing happens
        again = folders.recovered(folder)
        assert again.damages == []
        assert again.state() == before
    assert any(name.startswith("snapshot") for name in files(life.folder))


def test_a_group_with_something_behind_it_stays(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"), group=7)
    life.put((b"l", b"v"))
    folder = folders.copy(life.folder)
    cut_group(folder, 7)
    assert folders.recovered(folder).state() == life.state()


def test_a_group_with_something_damaged_behind_it_stays_and_so_does_the_damage(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"), group=7)
    life.put((b"l", b"v"))
    folder = folders.copy(life.folder)
    flip(folder / "log.0", (folder / "log.0").stat().st_size - 1)
    content = (folder / "log.0").read_bytes()
    cut_group(folder, 7)
    assert (folder / "log.0").read_bytes() == content


def test_a_group_is_taken_back_from_before_a_torn_tail(folders: Folders) -> None:
    life = folders.live()
    before = life.state()
    life.put((b"k", b"v"), group=7)
    folder = folders.copy(life.folder)
    with (folder / "log.0").open("ab") as log:
        log.write(b"\x9bDk")
    cut_group(folder, 7)
    again = folders.recovered(folder)
    assert again.damages == []
    assert again.state() == before


def test_where_there_is_no_log_there_is_no_group(folders: Folders) -> None:
    folder = folders.new()
    folder.mkdir()
    cut_group(folder, 7)
    assert files(folder) == {}


# -- a disk that refuses -----------------------------------------------------------------------------------


def test_a_full_disk_at_the_start_is_reported(folders: Folders) -> None:
    folder = folders.new()
    folder.mkdir()
    (folder / "log.0").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"/log\.0: No space left on device"):
        Life(folder)


def test_a_folder_that_cannot_be_made_is_reported(folders: Folders) -> None:
    blocker = folders.new()
    blocker.write_bytes(b"")
    with pytest.raises(StorageError, match=str(blocker)):
        Storage(blocker / "server-1", 1)


# -- progress ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["none", "a record", "much"])
@pytest.mark.parametrize("fsync", ["never", "always"])
def test_whatever_a_start_does_with_much_data_shows_progress(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, fsync: str, damage: str
) -> None:
    """Reading, checking, searching for records behind damage, applying, and writing and syncing a new generation."""
    monkeypatch.setattr(records, "LOAD_BYTES", 4096)
    monkeypatch.setattr(compaction, "SNAPSHOT_RECORD_BYTES", 4096)
    monkeypatch.setattr(compaction, "SYNC_BYTES", 8192)
    life = folders.live()
    for number in range(100):
        life.put((b"key%d" % number, b"v" * 2000))
    life.close()
    if damage != "none":
        with (life.folder / "log.0").open("r+b") as log:
            log.seek(50_000)
            log.write(b"#" * (100 if damage == "a record" else 100_000))
    progress = records.Progress()
    silent = longest = last = 0
    handled: dict[str, int] = {}

    def watch(name: str, size: int) -> None:
        nonlocal silent, longest, last
        silent = size + (silent if progress.done == last else 0)
        longest, last = max(longest, silent), progress.done
        handled[name] = handled.get(name, 0) + size

    def watched(name: str, real: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            watch(name, size(*arguments))
            return real(*arguments)

        return call

    monkeypatch.setattr(os, "preadv", watched("read", os.preadv, lambda fd, pieces, offset: len(pieces[0])))
    monkeypatch.setattr(os, "pwrite", watched("written", os.pwrite, lambda fd, data, offset: len(data)))
    monkeypatch.setattr(zlib, "crc32", watched("checked", zlib.crc32, lambda data, *_: len(data)))
    opened = Storage(life.folder, 2, fsync, progress=progress)
    recovery = opened.recover()
    assert bool(recovery.damages) == (damage != "none")
    model = Model(Replica(0, 2))
    for delta in recovery.deltas:
        watch("applied", len(delta))
        model.apply(*unpack_delta(delta))
    opened.start(model)
    opened.close()
    assert longest < 5 * 4096
    size = sum(map(len, (write.value for write in model.writes())))
    assert all(handled[name] > size for name in ("read", "checked", "applied"))
    assert (handled.get("written", 0) > size) == (damage != "none")


def test_a_server_that_reads_its_store_reports_its_progress(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk returns the next piece only after the progress has been read."""
    monkeypatch.setattr(records, "LOAD_BYTES", 1 << 16)
    life = folders.live()
    for number in range(20):
        life.put((b"key%d" % number, b"v" * 50_000))
    life.close()
    asked, allowed = threading.Semaphore(0), threading.Semaphore(0)
    real_read = os.preadv

    def read(*arguments: Any) -> int:
        asked.release()
        assert allowed.acquire(timeout=60)
        return real_read(*arguments)

    monkeypatch.setattr(os, "preadv", read)
    server = Server(Options(0, 2, str(life.folder), 0.0, "never", 10.0, True))
    thread = threading.Thread(target=server.recover)
    thread.start()
    seen = [-1]
    for _ in range((life.folder / "log.0").stat().st_size >> 16):
        assert asked.acquire(timeout=60)
        state = server.state(0)
        assert state[0] == "recovering"
        assert state[1] > seen[-1]
        seen.append(state[1])
        allowed.release()
    allowed.release()
    thread.join()
    assert server.state(60)[0] == "ready"


# -- who may use a folder ----------------------------------------------------------------------------------


FORK = """
import os, subprocess, sys
from pathlib import Path

from storage import Storage

holder = Storage(Path(sys.argv[1]), 1)
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
for words in (["held"], ["let go"]):
    if words == ["let go"]:
        holder.close()
    print(subprocess.check_output([sys.executable, "-c", sys.argv[2], "server", sys.argv[1]], text=True), end="")
os.close(writer)
os.wait()
"""


HOLD = """
import sys
from pathlib import Path

from storage import Storage

holder = Storage(Path(sys.argv[1]), 1)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_folder_serves_one_process_at_a_time(folders: Folders) -> None:
    life = folders.live()
    assert run_python(OPEN, "server", life.folder) == f"{life.folder}: in use by another process"
    life.put((b"k", b"v"))
    life.close()
    assert run_python(OPEN, "server", life.folder) == "opened"


def test_a_group_is_not_taken_back_from_a_server_that_is_alive(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"), group=7)
    before = files(life.folder)
    assert run_python(OPEN, "cut", life.folder) == f"{life.folder}: in use by another process"
    assert files(life.folder) == before


def test_a_forked_child_does_not_hold_its_parents_folder(folders: Folders) -> None:
    folder = folders.new()
    assert run_python(FORK, folder, OPEN).splitlines() == [f"{folder}: in use by another process", "opened"]


def test_a_start_waits_for_a_process_that_still_holds_the_folder(folders: Folders) -> None:
    folder = folders.new()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match="in use by another process"):
            Storage(folder, 2)
        ending = threading.Thread(target=holder.stdin.close)
        ending.start()
        Storage(folder, 2, lock_wait=50.0).close()
        ending.join()
