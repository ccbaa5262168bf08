"""The data directory: its lock, the clock's bound, and the search for one in all stores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.lives import OPEN, Life, data_file, flip, run_python

from control.data_directory import DamagedClock, DataDirectory
from model import Model, largest_number_in
from storage import StorageError
from vector_clock import Replica


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
def test_an_invalid_clock_file_is_reported_and_does_not_count_as_zero(tmp_path: Path, junk: bytes) -> None:
    directory = DataDirectory(tmp_path)
    (tmp_path / "clock").write_bytes(junk)
    with pytest.raises(DamagedClock, match=r"/clock: not a clock.s bound$"):
        directory.read_clock()
    assert directory.set_clock_aside(7)
    assert (tmp_path / "clock.damaged-7").read_bytes() == junk
    assert directory.read_clock() == 0
    assert not directory.set_clock_aside(8)


def test_an_impossibly_large_clock_is_invalid(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.write_clock((1 << 60) + 1)
    with pytest.raises(DamagedClock):
        directory.read_clock()


def test_a_missing_clock_is_noticed_if_there_are_stores(eager: None, tmp_path: Path) -> None:
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


def test_a_clock_that_cannot_be_read_or_written_is_reported(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    (tmp_path / "clock").mkdir()
    with pytest.raises(StorageError, match="/clock: Is a directory"):
        directory.read_clock()
    with pytest.raises(StorageError, match="/clock: "):
        directory.write_clock(7)


def test_the_clock_is_written_in_place_and_needs_no_more_room(tmp_path: Path) -> None:
    """Therefore a full disk refuses only puts, and gets go on."""
    directory = DataDirectory(tmp_path)
    directory.write_clock(7)
    before = (tmp_path / "clock").stat()
    directory.write_clock(2**60)
    after = (tmp_path / "clock").stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)


@pytest.mark.parametrize("name", ["clock", "clock.part"])
def test_a_disk_without_room_for_the_clock_is_reported_and_no_part_of_it_is_left(tmp_path: Path, name: str) -> None:
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
