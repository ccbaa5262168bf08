"""The loss of the machine: power is cut at any system call, and the real storage recovers from what may be left."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from support.lives import Folders, Later, Life, assert_safe, some_puts
from support.power import Disk

from control.data_directory import DataDirectory
from messages import Write
from model import Model
from storage import StorageError, cut_group
from vector_clock import Replica

State = tuple[list[Write], list[object]]
TIME = itertools.count(1 << 40)


class Watched(Life):
    """A life on a watched disk: what its state was after each append, and when that append returned."""

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        stamp: int = 1,
        fsync: str = "always",
        kept: bool = False,
        later: Later | None = None,
    ) -> None:
        self.began = len(disk.events)
        self.later = later
        super().__init__(folder, stamp, fsync, kept, later)
        self.made: list[Write] = self.model.writes()
        self.states = [self.state()]
        self.times = [len(disk.events)]
        self.synced = [(len(disk.events), 0)]
        self._disk = disk
        apply = self.model.apply

        def watched_apply(writes: list[Write], *context: object) -> None:
            apply(writes, *context)  # type: ignore[arg-type]
            self.made += writes
            self.states.append(self.state())
            self.times.append(len(disk.events))

        self.model.apply = watched_apply  # type: ignore[method-assign,assignment]

    def sync(self) -> None:
        self.storage.sync()
        self.synced.append((len(self._disk.events), len(self.states) - 1))

    def acknowledged(self, time: int) -> int:
        """The number of the last state whose append had returned at a time."""
        return max((number for number, end in enumerate(self.times) if end <= time), default=0)

    def certain(self, time: int) -> int:
        """The number of the last state that had been synced at a time."""
        return max((number for end, number in self.synced if end <= time), default=0)


def go_on(life: Watched, chance: Random, steps: int) -> None:
    """Put and learn for a while. Work in the background may be done between any two appends."""
    peer = Model(Replica(5, next(TIME)))
    for step in range(steps):
        while life.later and chance.random() < 0.4:
            life.later.do()
        if chance.random() < 0.2:
            peer.put(b"key%d" % chance.randrange(20), b"peer%d" % step, next(TIME))
            life.learn(peer)
        else:
            life.put(*some_puts(chance))


def images(disk: Disk, chance: Random, folders: Folders, zeros: bool = False) -> Iterator[tuple[int, Path]]:
    """For each moment, the least that a cut can leave, and a random part more: (the moment, the image's folder)."""
    for time in disk.cuts():
        for luck in (None, chance):
            image = folders.new()
            disk.image(image, luck, zeros)
            yield time, image
            shutil.rmtree(image)


def recover(image: Path, fsync: str = "always") -> Life:
    life = Life(image / "data" / "server-0", 1 << 30, fsync)
    life.close()
    return life


def watched(folders: Folders) -> tuple[Disk, Path]:
    root = folders.new()
    root.mkdir()
    return Disk(root), root / "data" / "server-0"


def compacted(folder: Path) -> bool:
    return any(folder.glob("snapshot.?"))


def assert_held(life: Life, state: State) -> None:
    """Each write of *state* is still there, or a newer one of its key."""
    for write in state[0]:
        held = life.model.get(write.key)
        assert isinstance(held, Write)
        assert held.version.order >= write.version.order


# -- always ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [None, Later()])
@pytest.mark.parametrize("seed", range(4))
def test_with_always_all_that_was_acknowledged_survives_and_torn_tails_are_no_damage(
    eager: None, folders: Folders, seed: int, later: Later | None
) -> None:
    chance = Random(seed)
    disk, folder = watched(folders)
    with disk:
        DataDirectory(folder.parent)
        life = Watched(disk, folder, later=later)
        go_on(life, chance, 60)
        life.close()
    assert compacted(folder)
    for time, image in images(disk, chance, folders):
        again = recover(image)
        assert again.damages == [], time
        number = life.acknowledged(time)
        assert again.state() in life.states[number : number + 2], time


def test_with_always_all_that_was_acknowledged_survives_where_files_have_grown_by_zeros(
    eager: None, folders: Folders
) -> None:
    """Zeros in the place of a record can't be distinguished from damage: they are reported, and nothing is lost."""
    chance = Random(1)
    disk, folder = watched(folders)
    with disk:
        life = Watched(disk, folder)
        go_on(life, chance, 60)
        life.close()
    for time, image in images(disk, chance, folders, zeros=True):
        again = recover(image)
        number = life.acknowledged(time)
        assert again.model.writes() in [writes for writes, _ in life.states[number : number + 2]], time
        assert len(again.damages) <= 1
        assert_safe(again, life.made)


@pytest.mark.parametrize("seed", range(4))
def test_power_is_cut_again_and_again(eager: None, folders: Folders, seed: int) -> None:
    """Also while a server recovers from the cut before."""
    chance = Random(seed)
    root = folders.new()
    root.mkdir()
    before: list[State] = [([], [[], []])]
    for turn in range(1, 40):
        disk = Disk(root)
        with disk:
            life = Watched(disk, root / "data" / "server-0", turn, later=Later() if seed % 2 else None)
            go_on(life, chance, chance.randrange(25))
            life.close()
        assert life.damages == []
        assert life.states[0] in before
        cut = chance.randrange(len(disk.events) + 1)
        for time in disk.cuts():
            if time == cut:
                break
        number = life.acknowledged(cut)
        before = life.states[number : number + 2]
        root = folders.new()
        disk.image(root, chance.choice((None, chance)))


def test_what_a_killed_server_had_not_synced_is_synced_before_it_is_served(eager: None, folders: Folders) -> None:
    """The next life syncs it: the system still had it, and whoever reads it now may rely on it."""
    disk, folder = watched(folders)
    with disk:
        DataDirectory(folder.parent)
        first = Watched(disk, folder, fsync="never")
        go_on(first, Random(5), 60)
        first.close()
        second = Watched(disk, folder, 2)
        second.close()
    for time in disk.cuts():
        if time == second.times[0]:
            image = folders.new()
            disk.image(image)
            assert recover(image).state() == first.state()


def test_damage_is_healed_on_the_disk_itself_before_anything_is_acknowledged(eager: None, folders: Folders) -> None:
    disk, folder = watched(folders)
    life = Life(folder, fsync="always")
    for number in range(30):
        life.put((b"key%d" % (number % 7), b"%d" % number * 10))
    life.close()
    log = max(folder.glob("log.*"))
    content = bytearray(log.read_bytes())
    content[70] ^= 0xFF
    log.write_bytes(content)
    disk = Disk(folder.parent.parent)
    with disk:
        damaged = Watched(disk, folder, 2)
        go_on(damaged, Random(3), 10)
        damaged.close()
    assert damaged.damages
    for time, image in images(disk, Random(4), folders):
        again = recover(image)
        number = damaged.acknowledged(time)
        assert again.model.writes() in [writes for writes, _ in damaged.states[number : number + 2]], time


def test_a_group_that_was_taken_back_stays_away(folders: Folders) -> None:
    disk, folder = watched(folders)
    with disk:
        life = Watched(disk, folder)
        life.put((b"k", b"v"))
        life.put((b"k", b"w"), group=7)
        life.close()
        cut_group(folder, 7, "always")
    for _ in disk.cuts():
        pass
    for chance in (None, Random(1), Random(2)):
        image = folders.new()
        disk.image(image, chance)
        assert recover(image).store() == {b"k": b"v"}


# -- interval and never ------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [None, Later()])
@pytest.mark.parametrize("seed", range(4))
def test_with_interval_what_was_synced_survives_and_torn_tails_are_no_damage(
    eager: None, folders: Folders, seed: int, later: Later | None
) -> None:
    """Later writes may be there as well, and not in their order: a snapshot may have got to the disk before the log."""
    chance = Random(seed)
    disk, folder = watched(folders)
    with disk:
        life = Watched(disk, folder, fsync="interval", later=later)
        for _ in range(14):
            go_on(life, chance, chance.randrange(12))
            life.sync()
        life.close()
    assert compacted(folder)
    for time, image in images(disk, chance, folders):
        again = recover(image)
        assert again.damages == [], time
        assert_held(again, life.states[life.certain(time)])
        assert_safe(again, life.made)


def test_with_never_what_is_left_is_safe(eager: None, folders: Folders) -> None:
    """All that is promised: nothing is served that was never put, and no context covers a write that is lost."""
    chance = Random(1)
    disk, folder = watched(folders)
    with disk:
        life = Watched(disk, folder, fsync="never")
        go_on(life, chance, 80)
        life.close()
    for _, image in images(disk, chance, folders, zeros=True):
        assert_safe(recover(image), life.made)


@pytest.mark.parametrize("later", [None, Later()])
@pytest.mark.parametrize("seed", range(4))
def test_with_never_a_compaction_loses_nothing_that_the_system_had_brought_to_the_disk(
    eager: None, folders: Folders, seed: int, later: Later | None
) -> None:
    chance = Random(seed)
    disk, folder = watched(folders)
    with disk:
        life = Watched(disk, folder, fsync="never", kept=True, later=later)
        for _ in range(6):
            go_on(life, chance, 20)
            for path in (*folder.iterdir(), folder, folder.parent, folder.parent.parent):  # as the system does, in time
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            life.synced.append((len(disk.events), len(life.states) - 1))
        life.close()
    assert compacted(folder)
    for time, image in images(disk, chance, folders):
        again = recover(image, "never")
        assert_held(again, life.states[life.certain(time)])
        assert_safe(again, life.made)


# -- syncs that fail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fsync", ["always", "interval"])
def test_where_syncs_fail_nothing_synced_is_lost(eager: None, folders: Folders, fsync: str, seed: int) -> None:
    chance = Random(seed)
    disk, folder = watched(folders)
    refused = 0
    with disk:
        later = Later() if seed % 2 else None
        life = Watched(disk, folder, fsync=fsync, later=later)
        disk.failing = lambda: chance.random() < 0.15
        for step in itertools.count():
            if step >= 40 and refused:
                break
            while later and chance.random() < 0.4:
                later.do()
            try:
                if fsync == "interval" and chance.random() < 0.2:
                    life.sync()
                else:
                    life.put(*some_puts(chance))
            except StorageError as error:
                assert str(error).startswith(f"{folder}/") and str(error).endswith(": Input/output error")
                refused += 1
            if chance.random() < 0.1:  # a kill: the system still has all that was written
                killed = folders.recovered(folder)
                assert killed.damages == []
                assert killed.state() == life.state()
        disk.failing = lambda: False
        life.put((b"last", b"v"))
        life.sync()
        life.close()
    for time, image in images(disk, chance, folders):
        again = recover(image)
        number = life.acknowledged(time) if fsync == "always" else life.certain(time)
        assert_held(again, life.states[number])
        if time == len(disk.events):
            assert again.damages == []
            assert again.state() == life.state()


def io_error(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_after_a_failed_sync_puts_are_refused_until_all_is_on_the_disk_anew(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = folders.live(fsync="always")
    life.put((b"k", b"v"))
    state = life.state()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", io_error)
        for name in ("log.0", "log.1", "log.1"):  # the next is not begun on a disk that can't sync it either
            with pytest.raises(StorageError, match=f"{life.folder}/(snapshot.1.part|{name}): Input/output error"):
                life.put((b"k", b"refused"))
            assert life.state() == state
            assert sorted(path.name for path in life.folder.iterdir()) == ["lock", "log.0"]
            assert folders.recovered(life.folder).state() == state
    life.put((b"k", b"w"))
    assert sorted(path.name for path in life.folder.iterdir()) == ["lock", "log.1", "snapshot.1"]
    assert folders.recovered(life.folder).state() == life.state()


def test_a_log_whose_sync_has_failed_is_not_synced_again(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second sync would succeed, and prove nothing."""
    life = folders.live(fsync="interval")
    life.put((b"k", b"v"))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", io_error)
        with pytest.raises(StorageError, match=r"/log\.0: Input/output error"):
            life.storage.sync()
    with pytest.raises(StorageError, match=r"/log\.0: Input/output error"):
        life.storage.sync()
    life.storage.renew(life.model)
    life.storage.sync()
    assert sorted(path.name for path in life.folder.iterdir()) == ["lock", "log.1", "snapshot.1"]
    again = folders.recovered(life.folder)
    assert (again.damages, again.state()) == ([], life.state())


# -- the master's clock, and the folders -------------------------------------------------------------------


def test_the_clock_never_falls_behind_and_is_never_junk(folders: Folders) -> None:
    root = folders.new()
    root.mkdir()
    disk, chance = Disk(root), Random(1)
    written = [(0, 0)]
    with disk:
        directory = DataDirectory(root / "new" / "data")
        for bound in (5, 999, 10**15, 10**15 + 7, 2 * 10**15 - 1, 1 << 59):
            directory.write_clock(bound)
            written.append((len(disk.events), bound))
    for time in disk.cuts():
        for luck in (None, *[chance] * 20):
            image = folders.new()
            disk.image(image, luck)
            bound = max(bound for end, bound in written if end <= time)
            assert bound <= DataDirectory(image / "new" / "data").read_clock() <= 1 << 60
            shutil.rmtree(image)
