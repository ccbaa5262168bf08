"""What survives on disk: kills at any moment, cuts and flips at any byte, full disks, and who may use a folder.

A real model on real files, brought together as server.py does it: what is acknowledged was logged, then applied.
A kill is a copy of the folder, taken while it is in use: a process that is gone leaves just that.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest

import storage
from messages import Operation, Write, pack_operations
from model import Model, Pull, largest_number_in, pack_delta, unpack_delta
from server import Options, Server
from storage import DamagedClock, DataDirectory, Storage, StorageError, cut_group
from vector_clock import Replica

ROOT = Path(__file__).resolve().parent.parent.parent
TIME = itertools.count(1)


class _Work(Future[Any]):
    """What is to be done later, or at the latest when somebody waits for it."""

    def __init__(self, executor: Later) -> None:
        super().__init__()
        self._executor = executor

    def result(self, timeout: float | None = None) -> Any:
        self._executor.do_all()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._executor.do_all()
        return super().exception(timeout)


class Later(Executor):
    """Does what it is given in order, and when the test says so."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[_Work, Callable[[], Any]]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = _Work(self)
        self._waiting.append((work, partial(fn, *args, **kwargs)))
        return work

    def do(self) -> None:
        """What is next, if there is anything."""
        if self._waiting:
            work, do = self._waiting.popleft()
            try:
                work.set_result(do())
            except Exception as error:
                work.set_exception(error)

    def do_all(self) -> None:
        while self._waiting:
            self.do()


class Life:
    """One life of a server: what it recovers, and what it goes on with."""

    def __init__(
        self,
        folder: Path,
        stamp: int = 1,
        fsync: str = "never",
        kept: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self.folder = folder
        self.closed = False
        self.storage = Storage(folder, stamp, fsync, kept=kept, executor=executor)
        recovery = self.storage.recover()
        self.damages = recovery.damages
        self.model = Model(Replica(0, stamp))
        for delta in recovery.deltas:
            writes, context = unpack_delta(delta)
            self.model.apply(writes, None if self.damages else context)
        self.storage.start(self.model)

    def put(self, *pairs: tuple[bytes, bytes], group: int | None = None) -> list[Write]:
        """Take some puts together."""
        operations = [Operation(key, value, next(TIME), None) for key, value in pairs]
        _, writes = self.model.decide(operations)
        self.storage.append(pack_delta(writes), self.model, group)
        self.model.apply(writes)
        return writes

    def learn(self, peer: Model) -> None:
        """Pull from a peer until nothing is missing."""
        pull = Pull(self.model)
        while not pull.done:
            delta = pull.receive(peer.answer(pull.request()))
            writes, context = unpack_delta(delta)
            if self.model.is_news(writes, context):
                self.storage.append(delta, self.model)
                self.model.apply(writes, context)

    def state(self) -> tuple[list[Write], list[object]]:
        return self.model.writes(), self.model.context.flat()

    def store(self) -> dict[bytes, bytes]:
        return {write.key: write.value for write in self.model.writes()}

    def close(self) -> None:
        """Let go of the folder; once is enough."""
        if not self.closed:
            self.storage.close()
        self.closed = True


class Folders:
    """Copies of folders, each under a new name, and lives in them that end with the test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count()
        self._lives: list[Life] = []

    def new(self) -> Path:
        return self._path / f"server-{next(self._numbers)}"

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(folder, self.new()))

    def live(
        self, folder: Path | None = None, stamp: int = 1, fsync: str = "never", executor: Executor | None = None
    ) -> Life:
        life = Life(folder or self.new(), stamp, fsync, executor=executor)
        self._lives.append(life)
        return life

    def recovered(self, folder: Path, stamp: int = 2) -> Life:
        """What a start would recover from the folder; the folder stays as it is."""
        life = Life(self.copy(folder), stamp)
        life.close()
        return life

    def close(self) -> None:
        for life in self._lives:
            life.close()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    made = Folders(tmp_path)
    yield made
    made.close()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact early, and a few keys at a time."""
    monkeypatch.setattr(storage, "SLACK_BYTES", 500)
    monkeypatch.setattr(storage, "SNAPSHOT_STEP_BYTES", 100)
    monkeypatch.setattr(storage, "SNAPSHOT_PACE", 2)
    monkeypatch.setattr(storage, "SNAPSHOT_RECORD_BYTES", 300)
    monkeypatch.setattr(storage, "SYNC_BYTES", 250)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "lock"}


def data_file(folder: Path, kind: str) -> Path:
    """The newest snapshot or log."""
    found = [path for path in folder.iterdir() if re.fullmatch(kind + r"\.\d+", path.name)]
    return max(found, key=lambda path: int(path.suffix[1:]))


def flip(path: Path, offset: int, bits: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def peer_of(life: Life) -> Model:
    """A peer that knows all that this life knows."""
    peer = Model(Replica(9, 1))
    peer.apply(life.model.writes(), life.model.context)
    return peer


def assert_safe(damaged: Life, made: list[Write]) -> None:
    """Who covers a dot holds its write or one over it; and nothing is held that was never made."""
    assert set(damaged.model.writes()) <= set(made)
    for write in made:
        if damaged.model.context.covers(write.version.dot):
            held = damaged.model.get(write.key)
            assert isinstance(held, Write)
            assert held.version.order >= write.version.order


def assert_heals(damaged: Life, whole: Life, made: list[Write]) -> None:
    """It is safe, goes on, gets back what was lost, and the next start finds nothing wrong."""
    assert_safe(damaged, made)
    damaged.learn(peer_of(whole))
    assert damaged.state() == whole.state()
    damaged.put((b"next", b"life"))
    damaged.close()
    again = Life(damaged.folder, 77)
    again.close()
    assert again.damages == []
    assert again.state() == damaged.state()


# -- logs --------------------------------------------------------------------------------------------------


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


def test_puts_of_many_lives_add_up(folders: Folders) -> None:
    folder = folders.new()
    for stamp in range(1, 8):
        life = Life(folder, stamp)
        assert len(life.model.writes()) == stamp - 1
        life.put((b"%d" % stamp, b"v"))
        life.close()


def test_a_value_of_megabytes_survives(folders: Folders) -> None:
    life = folders.live()
    value = random.Random(1).randbytes(5 << 20)
    life.put((b"big", value), (b"small", b"v"))
    assert folders.recovered(life.folder).store() == {b"big": value, b"small": b"v"}


def test_files_are_for_their_user_only(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"))
    assert life.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in life.folder.iterdir())


# -- compaction --------------------------------------------------------------------------------------------


def some_puts(chance: random.Random) -> list[tuple[bytes, bytes]]:
    """Often one of a few hot keys, sometimes a new one, sometimes several together."""
    return [
        (b"key%d" % int(chance.expovariate(0.1)), chance.randbytes(chance.choice((0, 5, 20, 150))))
        for _ in range(chance.choice((1, 1, 1, 4)))
    ]


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
        assert size < 4 * life.model.live_bytes + 4 * storage.SLACK_BYTES, number
    assert len(life.model.writes()) == 20


def test_no_append_waits_for_a_sync_of_a_snapshot_or_for_a_removal(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes its time: nothing of that is done before the test has seen that appends go on."""
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


def test_a_sync_of_what_came_within_the_last_second_is_not_waited_for(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With interval, where a log is ended: most of it is brought to the disk before, in the background."""
    appending, real_fsync = threading.get_ident(), os.fsync
    unsynced: list[int] = []

    def fsync(fd: int) -> None:
        if threading.get_ident() == appending and started:
            unsynced.append(life.storage._log.size - life.storage._log.synced)
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
    assert max(unsynced) <= storage.SYNC_BYTES


def test_what_is_written_with_an_append_is_in_proportion_to_it_and_not_to_the_store(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SNAPSHOT_MOST_BYTES", 100_000, raising=False)
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


# -- torn tails --------------------------------------------------------------------------------------------


def small_history(life: Life, compacted: bool) -> tuple[list[Write], list[tuple[int, tuple[object, ...]]]]:
    """A few records of all kinds: (all writes made, the newest log's size and the state after each append)."""
    made = []
    if compacted:
        for number in range(5):
            made += life.put((b"cold%d" % number, b"v"))
        while not any(re.fullmatch(r"snapshot\.\d+", name) for name in files(life.folder)):
            made += life.put((b"hot", b"x" * 100))
    states = [(data_file(life.folder, "log").stat().st_size, life.state())]
    peer = Model(Replica(5, 1))
    for step in range(5):
        if step == 2:
            made += [peer.put(b"a", b"old", next(TIME)), peer.put(b"a", b"peer", next(TIME))]
            life.learn(peer)
        elif step == 3:
            made += life.put((b"b", b"grouped"), group=1)
        else:
            made += life.put((b"a", b"%d" % step), (b"k%d" % step, b"v"))
        states.append((data_file(life.folder, "log").stat().st_size, life.state()))
    return made, states


@pytest.mark.parametrize("compacted", [False, True])
def test_a_log_cut_at_any_byte_is_a_prefix_and_no_damage(eager: None, folders: Folders, compacted: bool) -> None:
    life = folders.live()
    _, states = small_history(life, compacted)
    log = data_file(life.folder, "log").name
    for cut in range(states[0][0], states[-1][0] + 1):
        killed = folders.copy(life.folder)
        os.truncate(killed / log, cut)
        again = folders.live(killed, 2)
        assert again.damages == []
        assert again.state() == [state for size, state in states if size <= cut][-1]
        again.put((b"after", b"the cut"))
        last = folders.recovered(killed, 3)
        assert last.damages == []
        assert last.state() == again.state()
        again.close()
        shutil.rmtree(killed)


def test_nothing_of_a_long_torn_record_is_left_behind_a_short_one(folders: Folders) -> None:
    life = folders.live()
    life.put((b"first", b"v"))
    life.put((b"long", b"x" * 5000))
    killed = folders.copy(life.folder)
    os.truncate(killed / "log.0", (killed / "log.0").stat().st_size - 10)
    again = folders.live(killed, 2)
    again.put((b"k", b""))
    last = folders.recovered(killed, 3)
    assert last.damages == []
    assert last.store() == {b"first": b"v", b"k": b""}


def test_a_snapshot_does_not_speak_of_writes_that_only_the_log_behind_it_has(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(storage, "SNAPSHOT_STEP_BYTES", 1)  # a snapshot takes as many appends as there are keys
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
    header = storage._Scan(life.folder / "log.1", 0).records[0][2]
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


def test_a_torn_tail_is_no_damage_once_the_next_log_has_begun(unhurried: None, folders: Folders) -> None:
    """The first append of the next life begins one."""
    life = folders.live()
    for number in range(8):
        life.put((b"key%d" % number, b"v"))
    while life.storage._total_bytes() < life.model.live_bytes * 3 // 2 + storage.SLACK_BYTES:
        life.put((b"hot", b"v" * 50))
    life.close()
    torn = (life.folder / "log.0").read_bytes() + b"\x9bDkr\x05"
    (life.folder / "log.0").write_bytes(torn)
    again = folders.live(life.folder, 2)
    again.put((b"cold", b"v"))
    assert (life.folder / "log.1").exists()
    for content in ((life.folder / "log.0").read_bytes(), torn):  # as an older version has left it
        (life.folder / "log.0").write_bytes(content)
        last = folders.recovered(life.folder, 3)
        assert (last.damages, last.state()) == ([], again.state())


def test_a_log_begun_again_still_tells_how_long_the_one_before_was(unhurried: None, folders: Folders) -> None:
    life = folders.live()
    made = between_generations(life)
    os.truncate(life.folder / "log.1", 10)
    life.close()
    again = folders.live(life.folder, 2)
    whole = folders.recovered(life.folder)
    _, last_record, _ = storage._Scan(life.folder / "log.0").records[-1]
    os.truncate(life.folder / "log.0", last_record - 1 - storage.HEADER.size)
    again.close()
    damaged = Life(life.folder, 3)
    assert "log.0: offset " in damaged.damages[0]
    assert_heals(damaged, whole, made)


@pytest.mark.parametrize("cut", range(0, 60, 4))
def test_a_log_cut_in_its_very_first_record_is_an_empty_one_or_damage(folders: Folders, cut: int) -> None:
    """It was being begun; but not where the lock file says that there was one."""
    life = folders.live()
    (life.folder / "log.0").write_bytes((life.folder / "log.0").read_bytes()[:cut])
    size = (life.folder / "log.0").stat().st_size
    unmarked, marked = folders.copy(life.folder), folders.copy(life.folder)
    os.truncate(unmarked / "lock", 0)
    whole = size == len((folders.live().folder / "log.0").read_bytes())
    for folder, expected in ((unmarked, 0), (marked, 0 if whole else 1)):
        again = folders.live(folder, 2)
        assert len(again.damages) == expected
        assert again.state() == ([], [[], []])
        again.put((b"k", b"v"))
        last = folders.recovered(folder, 3)
        assert (last.damages, last.store()) == ([], {b"k": b"v"})
        assert (folder / "log.0.damaged-2").exists() == bool(expected)


def test_a_log_that_has_lost_all_is_told_and_what_else_there_is_does_not_lie(eager: None, folders: Folders) -> None:
    """No context of the snapshot's is believed: it might speak of what was in the log."""
    life = folders.live()
    made = life.put((b"cold", b"v"))
    while not (life.folder / "snapshot.1").exists():
        made += life.put((b"hot", b"x" * 100))
    made += life.put((b"last", b"v"))
    whole = folders.recovered(life.folder)
    killed = folders.copy(life.folder)
    os.truncate(killed / "log.1", 0)
    again = Life(killed, 2)
    assert again.damages == [f"{killed}/log.1: offset 0: the file is empty"]
    assert_heals(again, whole, made)
    assert (killed / "log.1.damaged-2").read_bytes() == b""


def test_two_empty_logs_one_behind_the_other_are_not_both_new(unhurried: None, folders: Folders) -> None:
    """The last may have been just begun; the one before it had been, when the last was."""
    life = folders.live()
    made = between_generations(life)
    whole = folders.recovered(life.folder)
    killed = folders.copy(life.folder)
    os.truncate(killed / "log.1", 0)
    (killed / "log.2").write_bytes(b"")
    again = Life(killed, 2)
    assert again.damages == [f"{killed}/log.1: offset 0: the file is empty"]
    assert_heals(again, whole, made)


def test_a_log_that_was_just_begun_is_no_damage(unhurried: None, folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"))
    killed = folders.copy(life.folder)
    (killed / "log.1").write_bytes(b"")
    again = Life(killed, 2)
    assert (again.damages, again.state()) == ([], life.state())


def test_garbage_that_is_shorter_than_a_record_header_is_a_torn_tail(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"))
    with (life.folder / "log.0").open("ab") as log:
        log.write(b"\x9bDkr\x05")
    again = folders.live(folders.copy(life.folder), 2)
    assert again.damages == []
    again.put((b"k", b"w"))
    assert folders.recovered(again.folder, 3).store() == {b"k": b"w"}


# -- damage ------------------------------------------------------------------------------------------------


def assert_reported(damaged: Life, name: str, content: bytes) -> None:
    """The damage was told with file and offset, and the file is set aside as it was."""
    assert damaged.damages
    assert all(f"/{name}: offset " in damage and "\n" not in damage for damage in damaged.damages)
    assert (damaged.folder / f"{name}.damaged-2").read_bytes() == content
    assert not (damaged.folder / name).exists()


@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_flipped_byte_in_a_log_is_reported_and_costs_one_record(
    eager: None, folders: Folders, compacted: bool, bits: int
) -> None:
    life = folders.live()
    made, states = small_history(life, compacted)
    log = data_file(life.folder, "log").name
    ends = [size for size, _ in states]
    whole = folders.recovered(life.folder)
    for offset in range(ends[-1]):
        folder = folders.copy(life.folder)
        flip(folder / log, offset, bits)
        content = (folder / log).read_bytes()
        damaged = Life(folder, 2)
        assert_reported(damaged, log, content)
        assert str(folder / log) in damaged.damages[0]
        first = max((end for end in ends if end <= offset), default=0)
        reported = int(damaged.damages[0].split("offset ")[1].split(":")[0])
        assert reported == first or (first == 0 and reported <= offset)
        # Each record made the state what it was after it; all but one are there.
        hit = sum(end <= offset for end in ends)
        for number in range(1, len(states)):
            if number != hit:
                for write in set(states[number][1][0]) - set(states[number - 1][1][0]):  # type: ignore[call-overload]
                    held = damaged.model.get(write.key)
                    assert isinstance(held, Write)
                    assert held.version.order >= write.version.order
        assert_heals(damaged, whole, made)
        shutil.rmtree(folder)


@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_in_a_snapshot_is_reported_and_healed(eager: None, folders: Folders, bits: int) -> None:
    life = folders.live()
    made, states = small_history(life, compacted=True)
    snapshot = data_file(life.folder, "snapshot").name
    whole = folders.recovered(life.folder)
    for offset in range((life.folder / snapshot).stat().st_size):
        folder = folders.copy(life.folder)
        flip(folder / snapshot, offset, bits)
        content = (folder / snapshot).read_bytes()
        damaged = Life(folder, 2)
        assert_reported(damaged, snapshot, content)
        for key in set(states[-1][1][0]) - set(states[0][1][0]):  # type: ignore[call-overload]
            assert key in damaged.model.writes(), "what stands in the log is kept"
        assert_heals(damaged, whole, made)
        shutil.rmtree(folder)


def test_a_snapshot_cut_at_any_byte_is_reported_and_healed(eager: None, folders: Folders) -> None:
    life = folders.live()
    made, _ = small_history(life, compacted=True)
    snapshot = data_file(life.folder, "snapshot").name
    whole = folders.recovered(life.folder)
    for cut in range((life.folder / snapshot).stat().st_size):
        folder = folders.copy(life.folder)
        os.truncate(folder / snapshot, cut)
        content = (folder / snapshot).read_bytes()
        damaged = Life(folder, 2)
        assert_reported(damaged, snapshot, content)
        assert_heals(damaged, whole, made)
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_a_missing_file_is_reported_and_healed(eager: None, folders: Folders, kind: str) -> None:
    life = folders.live()
    made, _ = small_history(life, compacted=True)
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    missing = data_file(folder, kind)
    missing.unlink()
    damaged = Life(folder, 2)
    assert any(f"{missing.name} is missing" in said or f"{missing.name} or " in said for said in damaged.damages)
    assert damaged.model.writes()
    assert damaged.model.writes() != whole.model.writes()
    assert_heals(damaged, whole, made)


def test_a_log_missing_between_others_is_reported_and_healed(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(storage, "SNAPSHOT_STEP_BYTES", 1)  # a snapshot takes many appends
    life, made = folders.live(), []
    for number in range(30):
        made += life.put((b"key%d" % number, b"v"))
    while not (life.folder / "log.1").exists():
        made += life.put((b"hot", b"v" * 100))
    made += life.put((b"last", b"v"))
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    assert (folder / "snapshot.1.part").exists()
    (folder / "log.0").unlink()
    damaged = Life(folder, 2)
    assert f"{folder}: snapshot.1 or log.0 is missing" in damaged.damages
    assert damaged.store()[b"last"] == b"v"
    assert_heals(damaged, whole, made)


def between_generations(life: Life) -> list[Write]:
    """Put until a compaction is under way: log.0, log.1, and a snapshot that isn't complete. All writes made."""
    made: list[Write] = []
    for number in range(4):
        made += life.put((b"key%d" % number, b"v"))
    while not (life.folder / "log.1").exists():
        made += life.put((b"hot", b"v" * 100))
    made += life.put((b"last", b"v"))
    assert (life.folder / "snapshot.1.part").exists()
    return made


@pytest.fixture
def unhurried(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact early, and one key with each append."""
    monkeypatch.setattr(storage, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(storage, "SNAPSHOT_STEP_BYTES", 1)


def test_a_log_cut_at_any_byte_before_the_last_one_is_damage(unhurried: None, folders: Folders) -> None:
    life = folders.live()
    made = between_generations(life)
    whole = folders.recovered(life.folder)
    for cut in range((life.folder / "log.0").stat().st_size):
        folder = folders.copy(life.folder)
        os.truncate(folder / "log.0", cut)
        content = (folder / "log.0").read_bytes()
        damaged = Life(folder, 2)
        assert_reported(damaged, "log.0", content)
        assert damaged.store()[b"last"] == b"v"
        assert_heals(damaged, whole, made)
        shutil.rmtree(folder)


def test_a_flipped_byte_in_a_log_before_the_last_one_is_reported(unhurried: None, folders: Folders) -> None:
    life = folders.live()
    made = between_generations(life)
    whole = folders.recovered(life.folder)
    for offset in range((life.folder / "log.0").stat().st_size):
        folder = folders.copy(life.folder)
        flip(folder / "log.0", offset, (0x01, 0xFF, 0x80)[offset % 3])
        content = (folder / "log.0").read_bytes()
        damaged = Life(folder, 2)
        assert_reported(damaged, "log.0", content)
        assert_heals(damaged, whole, made)
        shutil.rmtree(folder)


def test_a_snapshot_and_a_log_that_are_both_damaged(eager: None, folders: Folders) -> None:
    """Whatever is wrong with each: both are told and set aside."""
    life = folders.live()
    made, _ = small_history(life, compacted=True)
    whole = folders.recovered(life.folder)
    names = [data_file(life.folder, kind).name for kind in ("snapshot", "log")]
    for seed in range(60):
        chance, folder = Random(seed), folders.copy(life.folder)
        for name in names:
            flip(folder / name, chance.randrange((folder / name).stat().st_size), chance.randrange(1, 256))
        damaged = Life(folder, 2)
        for name in names:
            assert any(f"/{name}: offset " in damage for damage in damaged.damages)
            assert (folder / f"{name}.damaged-2").exists()
        assert_heals(damaged, whole, made)
        shutil.rmtree(folder)


def test_files_that_are_all_gone_are_missed(folders: Folders) -> None:
    life = folders.live()
    made = life.put((b"k", b"v"))
    folder = folders.copy(life.folder)
    (folder / "log.0").unlink()
    damaged = folders.live(folder, 2)
    assert damaged.damages == [f"{folder}: log.0 is missing, and all else"]
    assert_heals(damaged, life, made)


def two_compacted(folders: Folders) -> tuple[list[tuple[Life, list[Write]]], int]:
    """Two stores with a snapshot and a log of the same generation each, and all writes of both."""
    found: dict[int, list[tuple[Life, list[Write]]]] = {}
    stamps = itertools.count(100)
    while True:
        life = folders.live(stamp=next(stamps))
        made, _ = small_history(life, compacted=True)
        generation = int(data_file(life.folder, "snapshot").suffix[1:])
        found.setdefault(generation, []).append((life, made))
        if len(found[generation]) == 2:
            return found[generation], generation


@pytest.mark.parametrize("kind", ["log", "snapshot"])
def test_files_that_were_exchanged_between_servers_are_noticed(eager: None, folders: Folders, kind: str) -> None:
    """Their contexts speak of writes that are in the other folder."""
    ((one, made), (other, others)), generation = two_compacted(folders)
    folder = folders.copy(one.folder)
    shutil.copy(other.folder / f"{kind}.{generation}", folder / f"{kind}.{generation}")
    damaged = folders.live(folder, 1 << 40)
    assert damaged.damages == [f"{folder}/log.{generation}: offset 0: the file is of another store"]
    damaged.learn(peer_of(one))
    for write in made + others:
        if write.version.dot.replica.server == 0 and damaged.model.context.covers(write.version.dot):
            held = damaged.model.get(write.key)
            assert isinstance(held, Write)
            assert held.version.order >= write.version.order


def test_a_file_under_the_name_of_another_generation_is_noticed(eager: None, folders: Folders) -> None:
    life = folders.live()
    made, _ = small_history(life, compacted=True)
    folder = folders.copy(life.folder)
    log = data_file(folder, "log")
    data_file(folder, "snapshot").unlink()
    log.rename(folder / "log.0")
    damaged = folders.live(folder, 2)
    assert damaged.damages == [f"{folder}/log.0: offset 0: the file is of generation {log.suffix[1:]}"]
    assert_heals(damaged, life, made)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folders: Folders) -> None:
    folder = folders.new()
    folder.mkdir()
    os.mkfifo(folder / "log.0")
    with pytest.raises(StorageError, match=r"/log\.0: a pipe, and no file"):
        Life(folder)


def test_a_snapshot_and_a_log_that_are_both_missing(eager: None, folders: Folders) -> None:
    """Then nothing tells that there ever was something: the replica knows of nothing, and learns it again."""
    life = folders.live()
    made, _ = small_history(life, compacted=True)
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    for kind in ("snapshot", "log"):
        data_file(folder, kind).unlink()
    damaged = Life(folder, 2)
    assert damaged.state() == ([], [[], []])
    assert_heals(damaged, whole, made)


def mess(path: Path, chance: Random) -> None:
    """Do something to a file that a disk, or somebody, might."""
    data = bytearray(path.read_bytes())
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    piece = data[start:end]
    what = chance.randrange(6)
    if what == 0:
        data[start:end] = chance.randbytes(end - start)
    elif what == 1:
        data[start:end] = bytes(end - start)
    elif what == 2:
        del data[start:end]
    elif what == 3:
        data[start:start] = piece  # twice
    elif what == 4:
        target = chance.randrange(len(data) + 1)
        data[target : target + len(piece)] = piece  # in the place of something else
    else:
        data = data[end:] + piece + data[:start]
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_done_to_the_files_nothing_false_is_served(unhurried: None, folders: Folders, seed: int) -> None:
    chance, life = Random(seed), folders.live()
    if seed % 3:
        made, _ = small_history(life, compacted=seed % 3 == 1)
    else:
        made = between_generations(life)
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    for _ in range(chance.choice((1, 1, 2, 3))):
        mess(chance.choice([path for path in folder.iterdir() if path.name != "lock"]), chance)
    assert_heals(Life(folder, 2), whole, made)


def test_what_the_disk_cannot_read_is_damage_and_the_rest_is_kept(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SLACK_BYTES", 1 << 20)
    life, made = folders.live(), []
    for number in range(40):
        made += life.put((b"key%02d" % number, b"v" * 500))
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    bad = range(8192, 12288)

    def read(fd: int, length: int, offset: int) -> bytes:
        if offset in bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_read(fd, length, offset)

    def read_into(fd: int, pieces: list[bytearray], offset: int) -> int:
        if os.fstat(fd).st_size > bad[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_read_into(fd, pieces, offset)

    real_read, real_read_into = os.pread, os.preadv
    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", read)
        broken.setattr(os, "preadv", read_into)
        damaged = Life(folder, 2)
    assert damaged.damages[0] == f"{folder}/log.0: offset 8192: can't be read: Input/output error"
    assert 25 < len(damaged.store()) < 35
    assert (folder / "log.0.damaged-2").exists()
    assert_heals(damaged, whole, made)


def test_what_an_interrupted_compaction_had_saved_makes_up_for_damage(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(storage, "SNAPSHOT_STEP_BYTES", 1)
    life = folders.live()
    first = (life.folder / "log.0").stat().st_size
    made = life.put((b"saved", b"v"))
    for number in range(8):
        made += life.put((b"key%d" % number, b"v"))
    while not (life.folder / "log.1").exists():
        made += life.put((b"hot", b"v" * 100))
    folder = folders.copy(life.folder)
    assert (folder / "snapshot.1.part").exists()
    flip(folder / "log.0", first + 20)
    damaged = Life(folder, 2)
    assert len(damaged.damages) == 1
    assert damaged.store() == life.store()
    assert_heals(damaged, folders.recovered(life.folder), made)


def test_two_damages_are_both_reported(folders: Folders) -> None:
    life, ends = folders.live(), []
    for number in range(6):
        ends.append((life.folder / "log.0").stat().st_size)
        life.put((b"key%d" % number, b"v"))
    for record in (1, 4):
        flip(life.folder / "log.0", ends[record] + 20)
    damaged = Life(folders.copy(life.folder), 2)
    damaged.close()
    assert [damage.split("offset ")[1].split(":")[0] for damage in damaged.damages] == [str(ends[1]), str(ends[4])]
    assert sorted(damaged.store()) == [b"key0", b"key2", b"key3", b"key5"]


def test_a_torn_tail_behind_damage_is_cut_off_all_the_same(folders: Folders) -> None:
    life, made = folders.live(), []
    for number in range(4):
        made += life.put((b"key%d" % number, b"v"))
    end = (life.folder / "log.0").stat().st_size
    made += life.put((b"torn", b"v"))
    folder = folders.copy(life.folder)
    flip(folder / "log.0", 60)
    os.truncate(folder / "log.0", end + 30)
    damaged = Life(folder, 2)
    assert len(damaged.damages) == 1
    assert damaged.store() == {b"key1": b"v", b"key2": b"v", b"key3": b"v"}
    assert_heals(damaged, folders.recovered(life.folder), made)


def test_zeros_in_the_place_of_the_last_record_are_damage(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"))
    end = (life.folder / "log.0").stat().st_size
    life.put((b"lost", b"v"))
    folder = folders.copy(life.folder)
    content = (folder / "log.0").read_bytes()
    (folder / "log.0").write_bytes(content[:end] + bytes(len(content) - end))
    damaged = Life(folder, 2)
    damaged.close()
    assert len(damaged.damages) == 1
    assert f"log.0: offset {end}: " in damaged.damages[0]
    assert damaged.store() == {b"k": b"v"}


def test_a_file_set_aside_is_not_read_again_and_not_deleted(folders: Folders) -> None:
    life = folders.live()
    life.put((b"k", b"v"))
    folder = folders.copy(life.folder)
    flip(folder / "log.0", 30)
    aside = (folder / "log.0").read_bytes()
    for stamp in (2, 3, 4):
        again = Life(folder, stamp)
        again.close()
        assert bool(again.damages) == (stamp == 2)
        assert (folder / "log.0.damaged-2").read_bytes() == aside


def test_a_kill_before_the_damaged_file_was_set_aside_does_no_harm(folders: Folders) -> None:
    life, made = folders.live(), []
    for number in range(5):
        made += life.put((b"key%d" % number, b"v"))
    damaged_folder = folders.copy(life.folder)
    flip(damaged_folder / "log.0", 60)
    content = (damaged_folder / "log.0").read_bytes()
    first = folders.live(damaged_folder, 2)
    killed = folders.copy(damaged_folder)
    (killed / "log.0.damaged-2").rename(killed / "log.0")  # the rename had not come yet
    again = Life(killed, 3)
    assert again.state() == first.state()
    assert (killed / "log.0.damaged-3").read_bytes() == content
    assert_heals(again, folders.recovered(life.folder), made)


@pytest.mark.parametrize("times", [1, 3])
def test_a_copy_of_a_record_inside_a_value_is_never_taken_for_a_record(folders: Folders, times: int) -> None:
    other = folders.live()
    other.put((b"forged", b"v"))
    other.put((b"forged", b"w"))
    life, made = folders.live(), []
    made += life.put((b"k", b"v"))
    start = (life.folder / "log.0").stat().st_size
    made += life.put((b"bait", (other.folder / "log.0").read_bytes() * times))
    end = (life.folder / "log.0").stat().st_size
    made += life.put((b"last", b"v"))
    whole = folders.recovered(life.folder)
    assert b"forged" not in whole.store()
    for offset in range(start, end):
        folder = folders.copy(life.folder)
        flip(folder / "log.0", offset)
        damaged = Life(folder, 2)
        assert damaged.store() == {b"k": b"v", b"last": b"v"}
        assert_heals(damaged, whole, made)
        shutil.rmtree(folder)


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

FULL_DISK = """
import resource, signal, sys
from pathlib import Path

from storage import StorageError
from test_storage import Life

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write that goes too far fails with EFBIG
folder, room = Path(sys.argv[1]), int(sys.argv[2])
life = Life(folder)
life.put((b"before", b"v"))
size = (folder / "log.0").stat().st_size
state = life.state()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
for _ in range(3):
    try:
        life.put((b"refused", b"v" * 500))
    except StorageError as error:
        assert str(error) == f"{folder}/log.0: File too large", error
    else:
        raise AssertionError("there was no room for it")
    assert life.state() == state
    assert (folder / "log.0").stat().st_size == size, "no half record is left"
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
life.put((b"after", b"v"))
life.close()
again = Life(folder, 2)
assert again.damages == []
assert again.state() == life.state()
assert again.store() == {b"before": b"v", b"after": b"v"}
"""


def run_python(script: str, *arguments: object) -> str:
    """Run a script in a process of its own, with the modules of the project and of the tests."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit")))
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("room", [0, 5, 100])
def test_a_write_that_fails_in_the_middle_is_refused_and_leaves_no_trace(folders: Folders, room: int) -> None:
    run_python(FULL_DISK, folders.new(), room)


def test_a_full_disk_at_the_start_after_damage_leaves_everything_as_it_was(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = folders.live()
    made, _ = small_history(life, compacted=True)
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    flip(data_file(folder, "log"), 70)
    before = files(folder)
    room = 0

    def write(fd: int, data: memoryview, offset: int) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room -= 1
        return real_write(fd, data, offset)

    real_write = os.pwrite
    full = 0
    with monkeypatch.context() as small:
        small.setattr(os, "pwrite", write)
        for calls in range(50):
            room = calls
            attempt = Storage(folder, 2 + calls)
            recovery = attempt.recover()
            model = Model(Replica(0, 2 + calls))
            for delta in recovery.deltas:
                model.apply(*unpack_delta(delta)[:1])
            try:
                attempt.start(model)
            except StorageError as error:
                full += 1
                assert str(error).endswith(": No space left on device")
                assert files(folder) == before
                attempt._lock.release()
            else:
                attempt.close()
                break
    assert full > 3
    again = Life(folder, 99)
    assert again.damages == []
    assert_heals(again, whole, made)


def test_a_full_disk_at_the_start_is_told(folders: Folders) -> None:
    folder = folders.new()
    folder.mkdir()
    (folder / "log.0").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"/log\.0: No space left on device"):
        Life(folder)


def test_a_folder_that_cannot_be_made_is_told(folders: Folders) -> None:
    blocker = folders.new()
    blocker.write_bytes(b"")
    with pytest.raises(StorageError, match=str(blocker)):
        Storage(blocker / "server-1", 1)


NO_NAME = """
import sys
from pathlib import Path

import storage
from test_storage import Life

storage.SLACK_BYTES = 500
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


# -- progress ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["none", "a record", "much"])
@pytest.mark.parametrize("fsync", ["never", "always"])
def test_whatever_a_start_does_with_much_data_shows_progress(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, fsync: str, damage: str
) -> None:
    """Reading, checking, looking for records behind damage, applying, writing anew, and syncing that."""
    monkeypatch.setattr(storage, "LOAD_BYTES", 4096)
    monkeypatch.setattr(storage, "SNAPSHOT_RECORD_BYTES", 4096)
    monkeypatch.setattr(storage, "SYNC_BYTES", 8192)
    life = folders.live()
    for number in range(100):
        life.put((b"key%d" % number, b"v" * 2000))
    life.close()
    if damage != "none":
        with (life.folder / "log.0").open("r+b") as log:
            log.seek(50_000)
            log.write(b"#" * (100 if damage == "a record" else 100_000))
    progress = storage.Progress()
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
    monkeypatch.setattr(storage.zlib, "crc32", watched("checked", storage.zlib.crc32, lambda data, *_: len(data)))
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


def test_a_server_that_reads_its_store_tells_how_far_it_has_got(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that hands out a piece each time somebody has looked."""
    monkeypatch.setattr(storage, "LOAD_BYTES", 1 << 16)
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
        state, progress = server.state(0)
        assert (state, progress > seen[-1]) == ("recovering", True)
        seen.append(progress)
        allowed.release()
    allowed.release()
    thread.join()
    assert server.state(60)[0] == "ready"


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


# -- who may use a folder ----------------------------------------------------------------------------------

OPEN = """
import sys
from pathlib import Path

from storage import DataDirectory, Storage, StorageError, cut_group

folder = Path(sys.argv[2])
try:
    if sys.argv[1] == "server":
        Storage(folder, 2)
    elif sys.argv[1] == "master":
        DataDirectory(folder)
    else:
        cut_group(folder, 7)
    print("opened")
except StorageError as error:
    print(error)
"""

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


def test_a_group_is_not_taken_back_from_a_server_that_lives(folders: Folders) -> None:
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


# -- the data directory ------------------------------------------------------------------------------------


def test_the_clock_of_a_new_directory_is_zero(tmp_path: Path) -> None:
    assert DataDirectory(tmp_path / "new" / "data").read_clock() == 0


@pytest.mark.parametrize("bound", [0, 1, 1_700_000_000_000_000, 2**60])
def test_the_clock_is_read_back_as_it_was_written(tmp_path: Path, bound: int) -> None:
    directory = DataDirectory(tmp_path)
    directory.write_clock(5)
    directory.write_clock(bound)
    assert directory.read_clock() == bound
    assert int((tmp_path / "clock").read_text()) == bound
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clock", "lock"]


@pytest.mark.parametrize("junk", [b"", b"\n", b"soon", b"12 34", b"1.5", b"\xff\xfe", b"\x00" * 8, "٣".encode()])
def test_junk_in_the_clock_file_is_told_and_not_taken_for_zero(tmp_path: Path, junk: bytes) -> None:
    directory = DataDirectory(tmp_path)
    (tmp_path / "clock").write_bytes(junk)
    with pytest.raises(DamagedClock, match=r"/clock: not a clock.s bound$"):
        directory.read_clock()
    assert directory.set_clock_aside(7)
    assert (tmp_path / "clock.damaged-7").read_bytes() == junk
    assert directory.read_clock() == 0
    assert not directory.set_clock_aside(8)


def test_a_clock_beyond_all_reason_is_junk(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.write_clock((1 << 60) + 1)
    with pytest.raises(DamagedClock):
        directory.read_clock()


def test_a_clock_is_missed_where_there_are_stores(eager: None, tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    (tmp_path / "server-0").mkdir()
    assert directory.read_clock() == 0
    Life(tmp_path / "server-0").close()
    with pytest.raises(DamagedClock, match="/clock: missing, although there are stores"):
        directory.read_clock()


@pytest.mark.parametrize("where", ["a log", "a snapshot", "a damaged log", "a context", "a group", "an incarnation"])
def test_a_bound_is_found_in_whatever_stands_in_the_stores(eager: None, tmp_path: Path, where: str) -> None:
    far = 1 << 50
    small, large = Life(tmp_path / "server-0", 5), Life(tmp_path / "server-1", far if where == "an incarnation" else 5)
    small.put((b"k", b"v"))
    if where in ("a log", "a snapshot", "a damaged log"):
        peer = Model(Replica(7, 1))
        peer.put(b"far", b"v", far)
        large.learn(peer)
    elif where == "a context":
        peer = Model(Replica(7, far))
        peer.put(b"k", b"v", 1)
        peer.apply([Model(Replica(8, 1)).put(b"k", b"w", 2)])  # of the first, just the context is left
        large.learn(peer)
    elif where == "a group":
        large.put((b"k", b"v"), group=far)
    while where == "a snapshot" and (large.folder / "log.0").exists():
        large.put((b"hot", b"v" * 100))
    end = data_file(large.folder, "log").stat().st_size
    large.put((b"k", b"v"))
    small.close()
    large.close()
    if where == "a damaged log":
        flip(large.folder / "log.0", end + 30)
        (large.folder / "log.0").rename(large.folder / "log.0.damaged-9")
    directory = DataDirectory(tmp_path)
    assert directory.find_bound(largest_number_in) == (far, [])
    os.mkfifo(tmp_path / "server-0" / "log.7")
    assert directory.find_bound(largest_number_in) == (far, [f"{tmp_path}/server-0/log.7"])


def test_a_clock_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    (tmp_path / "clock").mkdir()
    with pytest.raises(StorageError, match="/clock: Is a directory"):
        directory.read_clock()
    with pytest.raises(StorageError, match="/clock: "):
        directory.write_clock(7)


def test_the_clock_is_written_in_place_and_needs_no_more_room(tmp_path: Path) -> None:
    """So that a full disk refuses puts, and not gets."""
    directory = DataDirectory(tmp_path)
    directory.write_clock(7)
    before = (tmp_path / "clock").stat()
    directory.write_clock(2**60)
    after = (tmp_path / "clock").stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)


@pytest.mark.parametrize("name", ["clock", "clock.part"])
def test_a_disk_without_room_for_the_clock_is_told_and_no_junk_is_left(tmp_path: Path, name: str) -> None:
    directory = DataDirectory(tmp_path)
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(StorageError, match="/clock: No space left on device"):
        directory.write_clock(8)
    (tmp_path / name).unlink(missing_ok=True)
    assert directory.read_clock() == 0
    directory.write_clock(8)
    assert directory.read_clock() == 8


def test_one_directory_serves_one_master_at_a_time(tmp_path: Path) -> None:
    holder = DataDirectory(tmp_path)
    assert run_python(OPEN, "master", holder.path) == f"{tmp_path}: in use by another master"
