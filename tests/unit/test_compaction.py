"""Compaction: kills during a compaction, how much it writes and when, and what happens if the disk refuses writes."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from random import Random
from typing import Any

import msgpack
import pytest
from support.lives import TIME, Folders, Later, Life, assert_heals, files, run_python, some_puts

import compaction
import records
from messages import Operation, pack_operations
from model import Model
from server import Options, Server
from vector_clock import Replica


@pytest.mark.parametrize("seed", range(12))
def test_a_kill_after_any_append_leaves_just_what_was_acknowledged(eager: None, folders: Folders, seed: int) -> None:
    chance, peer = Random(seed), Model(Replica(5, 1))
    later = Later() if seed % 2 else None
    life, generations = folders.live(executor=later), set()
    for stamp in range(2, 300):
        while later and chance.random() < 0.6:
            later.do()
        if chance.random() < 0.2:
            peer.put(b"key%d" % chance.randrange(20), b"peer%d" % stamp, next(TIME))
            life.learn(peer)
        else:
            life.put(*some_puts(chance))
        killed = folders.recovered(life.folder, stamp)
        assert killed.damages == []
        assert killed.state() == life.state()
        generations |= {name for name in files(life.folder) if re.fullmatch(r"snapshot\.\d+", name)}
        if chance.random() < 0.1:
            life = folders.live(folders.copy(life.folder), stamp, executor=later)
    assert len(generations) > 2


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_in_the_middle_of_a_compaction_leaves_no_less(eager: None, folders: Folders, seed: int) -> None:
    chance, life = random.Random(seed), folders.live()
    leftovers = 0
    for stamp in range(2, 300):
        before, state = files(life.folder), life.state()
        life.put(*some_puts(chance))
        gone = before.keys() - files(life.folder).keys()
        if gone:  # they may all be there still
            leftovers += 1
            killed = folders.copy(life.folder)
            for name in gone:
                (killed / name).write_bytes(before[name])
            again = folders.live(killed, stamp)
            assert again.damages == []
            assert again.state() == life.state() != state
            assert not gone & files(killed).keys()
    assert leftovers > 2


def test_files_stay_in_proportion_to_the_live_data(eager: None, folders: Folders) -> None:
    chance, life = random.Random(7), folders.live()
    for number in range(1500):
        life.put((b"key%d" % chance.randrange(20), chance.randbytes(50)))
        size = sum(map(len, files(life.folder).values()))
        # Half more than live, the slack, and while a snapshot is written the same once more and the new log.
        assert size < 4 * life.model.live_bytes + 4 * compaction.SLACK_BYTES, number
    assert len(life.model.writes()) == 20


def test_no_append_waits_for_a_sync_of_a_snapshot_or_for_a_removal(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow disk: none of that is done before the test has seen that appends continue."""
    appending, released = threading.get_ident(), threading.Event()
    waiting: set[str] = set()
    real_fsync, real_unlink = os.fsync, os.unlink

    def wait_unless_log(path: str) -> None:
        if "/snapshot." in path or os.path.basename(path) == "log.0":
            assert threading.get_ident() != appending, path
            waiting.add(os.path.basename(path))
            assert released.wait(60)

    def fsync(fd: int) -> None:
        name = os.readlink(f"/proc/self/fd/{fd}")
        if not name.endswith(("log.0", "log.1")):
            wait_unless_log(name)
        real_fsync(fd)

    def unlink(path: str, **options: Any) -> None:
        if os.path.exists(path):
            wait_unless_log(os.fspath(path))
        real_unlink(path, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "unlink", unlink)
    with ThreadPoolExecutor(1) as executor:
        life = folders.live(fsync="always", executor=executor)
        for number in range(10):
            life.put((b"cold%d" % number, b"v" * 50))
        for number in range(200):
            life.put((b"hot", b"%d" % number * 20))
        assert (life.folder / "snapshot.1.part").exists()
        assert folders.recovered(life.folder).state() == life.state()
        released.set()
        executor.submit(int).result()
        life.put((b"last", b"v"))
        assert not (life.folder / "log.0").exists()
        assert (life.folder / "snapshot.1").exists()
        assert waiting == {"snapshot.1.part", "log.0"}
        again = folders.recovered(life.folder)
        assert (again.damages, again.state()) == ([], life.state())
        life.close()


def test_without_room_for_an_executor_all_is_done_at_once_until_there_is(eager: None, folders: Folders) -> None:
    lacking: list[Exception] = [OSError(24, "Too many open files"), RuntimeError("no thread"), ImportError()]
    with ThreadPoolExecutor(1) as executor:

        def start() -> Executor:
            if lacking:
                raise lacking.pop()
            return executor

        life = Life(folders.new(), start_executor=start)
        while not (life.folder / "log.4").exists():
            life.put((b"hot", b"x" * 40))
            executor.submit(int).result()  # it has nothing more to do
            assert folders.recovered(life.folder).state() == life.state()
        assert not lacking
        life.close()


def test_a_sync_of_what_came_within_the_last_second_is_not_waited_for(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With interval, when a log is replaced: most of it has been synced in the background before."""
    appending, real_fsync = threading.get_ident(), os.fsync
    unsynced: list[int] = []

    def fsync(fd: int) -> None:
        if threading.get_ident() == appending and started:
            unsynced.append(life.storage._generations.log.size - life.storage._generations.log.synced)
        real_fsync(fd)

    started = False
    with ThreadPoolExecutor(1) as executor:
        life = folders.live(fsync="interval", executor=executor)
        monkeypatch.setattr(os, "fsync", fsync)
        started = True
        while not (life.folder / "log.1").exists():
            life.put((b"hot", b"x" * 40))
            executor.submit(int).result()
        life.close()
    assert unsynced
    assert max(unsynced) <= compaction.SYNC_BYTES


def test_what_is_written_with_an_append_is_in_proportion_to_it_and_not_to_the_store(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SNAPSHOT_MOST_BYTES", 100_000, raising=False)
    written, real_write = 0, os.pwrite

    def write(fd: int, data: bytes, offset: int) -> int:
        nonlocal written
        done = real_write(fd, data, offset)
        written += done
        return done

    life = folders.live()
    for number in range(200):
        life.put((b"key%d" % number, b"v" * 20_000))
    monkeypatch.setattr(os, "pwrite", write)
    finished: set[str] = set()
    for number in range(60):
        written = 0
        life.put((b"key%d" % (number % 3), b"v" * 400_000))
        assert written < 3 * 401_000 + 100_000 + 2 * 401_000, number
        size = sum(map(len, files(life.folder).values()))
        assert size < 3.2 * life.model.live_bytes + (1 << 20), number
        finished |= {path.name for path in life.folder.glob("snapshot.?")}
    assert len(finished) > 1


def test_a_sync_of_a_snapshot_that_fails_in_the_background_costs_the_snapshot_alone(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Later()
    life = folders.live(fsync="always", executor=later)
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        if "/snapshot." in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real_fsync(fd)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fsync)
        for number in range(60):
            life.put((b"hot", b"%d" % number * 20))
            later.do()
        assert not any(re.fullmatch(r"snapshot\.\d+", name) for name in files(life.folder))
        assert (life.folder / "log.1").exists()
    for number in range(60):
        life.put((b"hot", b"%d" % number * 20))
        later.do()
    assert any(re.fullmatch(r"snapshot\.\d+", name) for name in files(life.folder))
    assert not (life.folder / "log.0").exists()
    again = folders.recovered(life.folder)
    assert (again.damages, again.state()) == ([], life.state())


def test_a_large_store_that_only_grows_is_hardly_ever_written_again(eager: None, folders: Folders) -> None:
    life = folders.live()
    for number in range(500):
        life.put((b"key%d" % number, b"v" * 20))
    snapshots = [name for name in files(life.folder) if name.startswith("snapshot")]
    assert snapshots in ([], ["snapshot.1"])


def test_a_snapshot_does_not_speak_of_writes_that_only_the_log_behind_it_has(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(compaction, "SNAPSHOT_STEP_BYTES", 1)  # a snapshot takes as many appends as there are keys
    life, made = folders.live(), []
    for number in range(8):
        made += life.put((b"cold%d" % number, b"v"))
    number = 0
    while not (life.folder / "snapshot.1").exists():
        number += 1
        made += life.put((b"hot", b"v" * 100))
        if (life.folder / "log.1").exists():
            made += life.put((b"new%d" % number, b"v"))
    whole = folders.recovered(life.folder)
    header = records.Scan(life.folder / "log.1", 0).records[0][2]
    for cut in range(0, (life.folder / "log.1").stat().st_size, 5):
        killed = folders.copy(life.folder)
        os.truncate(killed / "log.1", cut)  # as the loss of the machine may leave it
        again = Life(killed, 2)
        if cut < header:  # which was there before the snapshot was
            assert [damage.split(": offset ")[0] for damage in again.damages] == [f"{killed}/log.1"]
        else:
            assert again.damages == []
        assert_heals(again, whole, made)
        shutil.rmtree(killed)


def test_without_room_for_a_snapshot_the_log_goes_on_and_a_later_one_succeeds(eager: None, folders: Folders) -> None:
    life = folders.live()
    obstacles = [life.folder / f"snapshot.{generation}.part" for generation in range(1, 9)]
    for obstacle in obstacles:
        obstacle.mkdir()
    for number in range(60):
        life.put((b"hot", b"%d" % number * 20))
    assert not any("snapshot" in path.name and path.is_file() for path in life.folder.iterdir())
    for obstacle in obstacles:
        obstacle.rmdir()
    assert folders.recovered(life.folder).state() == life.state()
    for number in range(60):
        life.put((b"hot", b"%d" % number * 20))
    assert any(name.startswith("snapshot") for name in files(life.folder))
    again = folders.recovered(life.folder)
    assert again.damages == []
    assert again.state() == life.state()


NO_NAME = """
import sys
from pathlib import Path

import compaction
from support.lives import Life

compaction.SLACK_BYTES = 500
folder = Path(sys.argv[1])
life = Life(folder)
names = [folder / f"snapshot.{generation}" for generation in range(1, 9)]
for name in names:
    name.mkdir()
for number in range(60):
    life.put((b"hot", b"%d" % number * 20))
for name in names:
    name.rmdir()
life.close()
assert Life(folder, 2).state() == life.state()
"""


def test_a_snapshot_that_cannot_get_its_name_does_not_hinder_appends(folders: Folders) -> None:
    run_python(NO_NAME, folders.new())


def test_a_torn_tail_is_no_damage_although_a_next_log_could_not_be_begun(eager: None, folders: Folders) -> None:
    life = folders.live()
    (life.folder / "log.1").symlink_to("/dev/full")
    number = 0
    while (life.folder / "log.1").is_symlink():  # until a compaction has tried, and taken away what it had begun
        number += 1
        life.put((b"hot", b"%d" % number * 40))
    folder = folders.copy(life.folder)
    with (folder / "log.0").open("ab") as log:
        log.write(b"\x9bDkr")  # killed within an append
    again = folders.recovered(folder)
    assert again.state()[0] == life.state()[0]
    assert again.damages == []


def test_a_server_leaves_the_syncs_of_a_snapshot_to_another_thread(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: set[tuple[str, bool]] = set()
    real_fsync, executing = os.fsync, threading.get_ident()

    def fsync(fd: int) -> None:
        syncs.add((os.path.basename(os.readlink(f"/proc/self/fd/{fd}")), threading.get_ident() == executing))
        real_fsync(fd)

    server = Server(Options(0, 2, str(folders.new()), 0.0, "always", 10.0, True))
    server.recover()
    monkeypatch.setattr(os, "fsync", fsync)
    while ("snapshot.2.part", False) not in syncs:
        answered = server.execute(pack_operations([Operation(b"hot", b"v" * 100, next(TIME), None)]))
        assert msgpack.unpackb(answered)[1] is None
        assert ("snapshot.1.part", True) not in syncs
