"""What a scan finds in a file that was cut, flipped or can't be read somewhere; and writes that fail half-way."""

from __future__ import annotations

import errno
import os
import random
import shutil

import pytest
from support.lives import (
    Folders,
    Life,
    assert_heals,
    assert_reported,
    between_generations,
    data_file,
    flip,
    run_python,
    small_history,
)

import compaction
from messages import Write

# -- torn tails --------------------------------------------------------------------------------------------


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
                for write in set(states[number][1][0]) - set(states[number - 1][1][0]):
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
        for key in set(states[-1][1][0]) - set(states[0][1][0]):
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


def test_what_the_disk_cannot_read_is_damage_and_the_rest_is_kept(
    eager: None, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SLACK_BYTES", 1 << 20)
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


# -- writing -----------------------------------------------------------------------------------------------


def test_a_value_of_megabytes_survives(folders: Folders) -> None:
    life = folders.live()
    value = random.Random(1).randbytes(5 << 20)
    life.put((b"big", value), (b"small", b"v"))
    assert folders.recovered(life.folder).store() == {b"big": value, b"small": b"v"}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path

from storage import StorageError
from support.lives import Life

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


@pytest.mark.parametrize("room", [0, 5, 100])
def test_a_write_that_fails_in_the_middle_is_refused_and_leaves_no_trace(folders: Folders, room: int) -> None:
    run_python(FULL_DISK, folders.new(), room)
