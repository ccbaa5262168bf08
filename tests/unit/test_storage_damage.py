"""Recovery from damage: files that are torn, damaged, exchanged or missing, and what is trusted then."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from pathlib import Path
from random import Random

import pytest
from support.lives import (
    Folders,
    Life,
    assert_heals,
    between_generations,
    data_file,
    files,
    flip,
    peer_of,
    small_history,
)

import compaction
import records
from messages import Write
from model import Model, unpack_delta
from storage import Storage, StorageError
from vector_clock import Replica

# -- torn tails, and logs that were being begun ------------------------------------------------------------


def test_a_torn_tail_is_no_damage_once_the_next_log_has_begun(unhurried: None, folders: Folders) -> None:
    """The first append of the next incarnation begins one."""
    life = folders.live()
    for number in range(8):
        life.put((b"key%d" % number, b"v"))
    while life.storage._generations.total_bytes() < life.model.live_bytes * 3 // 2 + compaction.SLACK_BYTES:
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
    _, last_record, _ = records.Scan(life.folder / "log.0").records[-1]
    os.truncate(life.folder / "log.0", last_record - 1 - records.HEADER.size)
    again.close()
    damaged = Life(life.folder, 3)
    assert "log.0: offset " in damaged.damages[0]
    assert_heals(damaged, whole, made)


@pytest.mark.parametrize("cut", range(0, 60, 4))
def test_a_log_cut_in_its_very_first_record_is_an_empty_one_or_damage(folders: Folders, cut: int) -> None:
    """It was just being begun, unless the lock file shows that there was a complete log."""
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


def test_a_log_that_has_lost_all_is_reported_and_no_context_is_trusted(eager: None, folders: Folders) -> None:
    """The context of the snapshot is not trusted, since it might cover writes of the log."""
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
    """The last one may have been empty, but only if the one before it was complete."""
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


# -- damage ------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(compaction, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(compaction, "SNAPSHOT_STEP_BYTES", 1)  # a snapshot takes many appends
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


def test_a_snapshot_and_a_log_that_are_both_damaged(eager: None, folders: Folders) -> None:
    """Both are reported and set aside."""
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


def test_it_is_noticed_that_all_files_are_gone(folders: Folders) -> None:
    life = folders.live()
    made = life.put((b"k", b"v"))
    folder = folders.copy(life.folder)
    (folder / "log.0").unlink()
    damaged = folders.live(folder, 2)
    assert damaged.damages == [f"{folder}: log.0 and all other files are missing"]
    assert_heals(damaged, life, made)


def two_compacted(folders: Folders) -> tuple[list[tuple[Life, list[Write]]], int]:
    """Two stores that have a snapshot and a log of the same generation, each with all its writes."""
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
    """Their contexts cover writes that are in the other folder."""
    ((one, made), (other, others)), generation = two_compacted(folders)
    folder = folders.copy(one.folder)
    shutil.copy(other.folder / f"{kind}.{generation}", folder / f"{kind}.{generation}")
    damaged = folders.live(folder, 1 << 40)
    assert damaged.damages == [f"{folder}/log.{generation}: offset 0: the file belongs to another store"]
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
    assert damaged.damages == [f"{folder}/log.0: offset 0: the file belongs to generation {log.suffix[1:]}"]
    assert_heals(damaged, life, made)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folders: Folders) -> None:
    folder = folders.new()
    folder.mkdir()
    os.mkfifo(folder / "log.0")
    with pytest.raises(StorageError, match=r"/log\.0: a pipe, not a file"):
        Life(folder)


def test_a_snapshot_and_a_log_that_are_both_missing(eager: None, folders: Folders) -> None:
    """The replica starts with nothing, and learns everything from its peers again."""
    life = folders.live()
    made, _ = small_history(life, compacted=True)
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    for kind in ("snapshot", "log"):
        data_file(folder, kind).unlink()
    damaged = Life(folder, 2)
    assert damaged.state() == ([], [[], []])
    assert_heals(damaged, whole, made)


def mess(path: Path, chance: Random) -> None:
    """Change a file at random, as a faulty disk or a user might."""
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
def test_after_any_change_of_the_files_nothing_wrong_is_served(unhurried: None, folders: Folders, seed: int) -> None:
    chance, life = Random(seed), folders.live()
    if seed % 3:
        made, _ = small_history(life, compacted=seed % 3 == 1)
    else:
        made = between_generations(life)
    whole, folder = folders.recovered(life.folder), folders.copy(life.folder)
    for _ in range(chance.choice((1, 1, 2, 3))):
        mess(chance.choice([path for path in folder.iterdir() if path.name != "lock"]), chance)
    assert_heals(Life(folder, 2), whole, made)


def test_what_an_interrupted_compaction_had_saved_makes_up_for_damage(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(compaction, "SNAPSHOT_STEP_BYTES", 1)
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
