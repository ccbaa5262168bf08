"""One replica's store on disk: the log, its snapshots, and how they are recovered.

May live here: the files of one server, their recovery, what makes them durable, and the lock on their folder. May not:
the format of records (records.py), the course of a compaction (compaction.py), what the records mean (model.py),
sockets. It starts no thread except for one that waits for a lock, since the system offers no wait that ends in time.

The files of one server
-----------------------
    server-ID/lock              locked for as long as a server process uses the folder; not empty once there was a log
    server-ID/snapshot.G        all that stood when log.G was begun (or a little later); none if G is 0
    server-ID/log.G             what came after that, in the order in which it came
    server-ID/snapshot.G.part   a snapshot that is being written
    server-ID/NAME.damaged-S    a file in which damage was found, set aside by the start with stamp S

G, the *generation*, counts from 0. Files of records have the format described in records.py.

The loss of the machine
-----------------------
With fsync "always" or "interval", nothing is relied on before it is on stable storage, in this order: the last byte of
a log, then the next log and its name; a snapshot, its name, and only then the removal of what is older; folders in the
folders above them; and at a start, all that was read. With "never", if the store is to outlive its run, only a snapshot
and its name are synced, before what is older is removed: a compaction must not put at risk what the system wrote to
the disk long ago. (Redis's "appendfsync no" syncs its rewrites for the same reason.)

When a sync fails, the system may have dropped what it could not write, and the next sync succeeds nevertheless. So that
log is never trusted again: nothing is acknowledged until a new log, and a snapshot of all that is in memory, are on
stable storage. (PostgreSQL ends itself in this case, and recovers from its log; here, memory is the better copy.)
`renew` writes that snapshot in one go while the server holds the replica's lock, so an append that comes meanwhile
waits until the whole store has been written and synced. That is accepted, since no append may be acknowledged before
that is done in any case, and it only happens on a disk that has failed.

Recovery
--------
The newest snapshot is read, then all logs from its generation on. In case of

- a log that ends in the middle of a record, after all that stood in it when the next log was begun, if there is one:
  that record was never acknowledged. It is ignored, and cut off before anything is written in its place.
- a record whose checks fail, in its header or its payload; a part of a file that can't be read; a missing file of a
  generation, or of all of them (the lock file tells that there was one); a snapshot without its end; a record torn
  elsewhere; a log shorter than it was when the next one was begun; a file that belongs elsewhere according to its
  header, to another generation or server: this is *damage*. It is reported with file and offset. (Zeros in the place
  of the last record are damage, too: some file systems leave them after a loss of power, but they might as well be a
  record that the disk has lost.) All records that can still be read are kept, including those that follow the damage.
  But the contexts among them may cover writes that are lost, so no context is believed: the replica then knows only
  what was readable, and its peers send it the rest again. The damaged file is renamed, and a new generation is begun.
- a log without a header, or with a part of one: it was being begun when the process or the machine stopped. But if
  something exists that is written only after that header (a mark in the lock file for log.0, snapshot.G for log.G, the
  next log for any), then the log has lost all that it had, which is damage.
- an empty folder: the replica starts with nothing, and learns everything from its peers.

All this takes time in proportion to the data, so `Progress` shows how far a start has got, and advances every few MiB.
The only exception is the sync of a file that was read. It takes as long as the disk needs for what the system had not
written by itself: what came within about the last second with "interval", within the last half minute with "never".
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compaction import Files, Generations, Source, list_files
from records import (
    Progress,
    Scan,
    StorageError,
    group_body,
    link_target,
    open_file,
    printable,
    remove,
    sync_folder,
    sync_path,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = [
    "FSYNC_POLICIES",
    "Lock",
    "Progress",
    "Recovery",
    "Storage",
    "StorageError",
    "cut_group",
    "folder_of",
    "holds_store",
    "make_folder",
]

FSYNC_POLICIES = ("always", "interval", "never")
"""always: before each acknowledgement; interval: once a second; never: when the system does it by itself."""


class Recovery(NamedTuple):
    """What was found on disk."""

    deltas: Iterator[bytes]
    """To be applied in this order, before `Storage.start`."""
    damages: list[str]
    """One line for each damage: the file, the offset, and what is wrong. If there is any, trust no context."""


class _Found(NamedTuple):
    """What `start` does with the files that `recover` has read."""

    log_size: int | None
    """Where the newest log goes on; None if a new generation is begun because of damage."""
    kept: list[Path]
    """The files before the newest log, if that goes on."""
    older: list[Path]
    """Files that are not needed any more."""
    damaged: list[Path]
    """Files that are set aside."""


class Storage:
    """One server's folder. Not safe to use from two threads at once, except for `sync`."""

    def __init__(
        self,
        folder: Path,
        stamp: int,
        fsync: str = "never",
        lock_wait: float = 0.0,
        kept: bool = False,
        start_executor: Callable[[], Executor] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Make the folder if necessary, and lock it. Raises StorageError.

        *stamp* is the incarnation, which becomes a part of the names of files that are set aside. Waits up to
        *lock_wait* seconds for a process that still holds the folder. *kept*: whether the store outlives the run.
        *start_executor* is called once there is something that no append should wait for. It may raise RuntimeError,
        OSError, ImportError and MemoryError. The executor does one thing after another; without one, each is done at
        once.
        """
        self._folder = folder
        self._stamp = stamp
        self._fsync = fsync
        self._progress = progress or Progress()
        self._generations = Generations(folder, stamp, fsync != "never", kept, start_executor, self._progress)
        self._found: _Found
        try:
            make_folder(folder, fsync != "never")
            _check_owner(folder)
            self._lock = Lock(folder / "lock")
            if not self._lock.acquire(lock_wait):
                raise StorageError(f"{folder}: in use by another process")
        except OSError as error:
            raise StorageError(f"{error.filename or folder}: {error.strerror}") from error

    # -- recovery ------------------------------------------------------------------------------------------

    def recover(self) -> Recovery:
        """Read the files. Blocks. Raises StorageError if that is impossible."""
        try:
            return self._recover()
        except OSError as error:
            raise StorageError(f"{error.filename or self._folder}: {error.strerror}") from error

    def _recover(self) -> Recovery:
        files = list_files(self._folder)
        scans, damages = self._scan_logs(files)
        if files.snapshots:
            scans.insert(0, Scan(files.snapshots[files.first], progress=self._progress))
        elif files.first > 0:
            damages.append(f"{self._folder}: snapshot.{files.first} or log.{files.first - 1} is missing")
        elif not files.logs and self._lock.is_marked():
            damages.append(f"{self._folder}: log.0 and all other files are missing")
        lineage = next((scan.lineage for scan in scans if scan.lineage), self._stamp)
        for scan in scans:
            scan.require_place(int(scan.path.suffix[1:]), lineage)
        damages = [*map(printable, damages), *(damage for scan in scans for damage in scan.damages)]
        if damages:  # then what an interrupted compaction has left may still be of use
            scans += [Scan(path, progress=self._progress) for path in files.older]
            damaged = [scan.path for scan in scans if scan.damages and scan.path.suffix != ".part"]
            self._found = _Found(None, [], [scan.path for scan in scans if scan.path not in damaged], damaged)
        else:
            log_size = scans[-1].end if scans else 0
            self._found = _Found(log_size, [scan.path for scan in scans[:-1]], files.older, [])
        self._generations.number, self._generations.lineage = files.last, lineage
        return Recovery((delta for scan in scans for delta in scan.deltas()), damages)

    def _scan_logs(self, files: Files) -> tuple[list[Scan], list[str]]:
        """The logs in their order, and a line for each that is missing. Raises OSError, StorageError."""
        scans: list[Scan] = []
        missing: list[str] = []
        length: int | None = 0  # of the log at hand, according to the next one; the last log may end anywhere
        for generation in range(files.last, files.first - 1, -1) if files.snapshots or files.logs else ():
            if generation in files.logs:
                scan = Scan(files.logs[generation], length, self._progress)
                if self._was_begun(generation, files):
                    scan.require_header()
                scans.insert(0, scan)
                length = scan.length_before
            else:
                missing.insert(0, f"{self._folder}: log.{generation} is missing")
                length = None
        return scans, missing

    def _was_begun(self, generation: int, files: Files) -> bool:
        """Whether something exists that is written only after the header of the log of this generation."""
        return generation < files.last or generation in files.snapshots or (generation == 0 and self._lock.is_marked())

    def start(self, source: Source) -> None:
        """Make it ready for appends, once all that was recovered is in *source*. Blocks. Raises StorageError."""
        found = self._found
        try:
            if found.log_size is None:
                self._generations.lineage = self._stamp
                self._generations.begin(source)
                self._remove_older()
                for path in found.damaged:
                    self._set_aside(path)
            else:
                self._generations.go_on(found.log_size, found.kept, bool(found.older))
                self._remove_older()
            self._lock.mark()
        except OSError as error:
            raise StorageError(f"{error.filename or self._folder}: {error.strerror}") from error

    def _remove_older(self) -> None:
        """Delete the files that are not needed any more; what is damaged is set aside instead."""
        for path in self._found.older:
            if path.suffix == ".part" or not Scan(path, 0, self._progress).damages:
                self._generations.in_background(remove, path)
            else:
                self._set_aside(path)

    def _set_aside(self, path: Path) -> None:
        path.rename(path.with_name(f"{path.name}.damaged-{self._stamp}"))

    # -- appending -----------------------------------------------------------------------------------------

    def append(self, delta: bytes, source: Source, group: int | None = None) -> None:
        """Add a delta to the log; when this returns, the delta survives the end of this process.

        With fsync "always", it survives the loss of the machine as well. *source* must not have the delta yet; a
        compaction is fed from it if one is due. With *group*, `cut_group` can take the delta back once this process
        has ended. Raises StorageError; then nothing was added.
        """
        if self._generations.log.failure is not None:
            self.renew(source)
        # This comes first, because the source lacks the delta, which must follow any snapshot that is begun here.
        self._generations.compact(source, len(delta))
        kind, body = (b"D", delta) if group is None else (b"G", group_body(group, delta))
        self._generations.log.append(kind, body, self._fsync == "always")

    def renew(self, source: Source) -> None:
        """If the log could not be synced, write all of *source* as a new generation. Blocks. Raises StorageError.

        Until that succeeds, nothing can be appended, since it is unknown what stable storage has of the log.
        """
        if self._generations.log.failure is None:
            return
        try:
            self._generations.renew(source)
        except OSError as error:
            raise StorageError(f"{error.filename or self._folder}: {error.strerror}") from error

    def sync(self) -> None:
        """Bring what was appended to stable storage. Blocks. Raises StorageError; then `renew` is due."""
        self._generations.log.sync()

    def close(self) -> None:
        """Close the files and release the folder. Waits for what is done in the background."""
        self._generations.close()
        self._lock.release()


def cut_group(folder: Path, group: int, fsync: str = "never") -> None:
    """Take the delta of *group* back if it is the last in the log of a server that has ended. Raises StorageError.

    It must never have been acknowledged. No snapshot has it, since compaction runs before an append. *fsync* is the
    server's policy.
    """
    try:
        lock = Lock(folder / "lock")
        try:
            if not lock.acquire():
                raise StorageError(f"{folder}: in use by another process")
            logs = [path for path in folder.iterdir() if re.fullmatch(r"log\.\d+", path.name)]
            newest = max(logs, key=lambda path: int(path.suffix[1:]), default=None)
            last = Scan(newest, 0).last_group() if newest else None
            if newest and last and last[0] == group:
                os.truncate(newest, last[1])
                if fsync != "never":
                    sync_path(newest)
        finally:
            lock.release()
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror}") from error


# -- folders and their locks -------------------------------------------------------------------------------


def make_folder(path: Path, sync: bool) -> None:
    """Make a folder and those above it; with *sync*, so that they survive the loss of the machine. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    if sync:
        for folder in reversed(missing or [path]):
            sync_folder(folder.parent)


def folder_of(stores: Path, server: int) -> Path:
    """The folder of a server's store, in that of all stores."""
    return stores / f"server-{server}"


def holds_store(folder: Path) -> bool:
    """Whether there is anything in the folder of a server's store. Raises OSError."""
    return folder.is_dir() and any(folder.iterdir())


def _check_owner(folder: Path) -> None:
    """Raise OSError if a server's folder belongs to a third party.

    It must be this user's, root's, or of the owner of the folder in which it stands, whom the user trusts with it. If
    it is a link, this user or root must have made that.
    """
    trusted = (0, os.geteuid(), folder.parent.stat().st_uid)
    if folder.is_symlink():
        link_target(folder)
    if folder.stat().st_uid not in trusted:
        raise PermissionError(errno.EPERM, "a folder that another user has made", str(folder))


class Lock:
    """A lock on a file, which ends with the process at the latest.

    It is a POSIX record lock: unlike flock's, it isn't inherited by forked children, so it never outlives its holder.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file can't be opened or made."""
        self._fd = open_file(path, os.O_RDWR | os.O_CREAT)

    def acquire(self, wait: float = 0.0) -> bool:
        """Take the lock; returns whether that succeeded within *wait* seconds. Raises OSError if it can't wait."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):
            pass
        if not wait:
            return False
        taken = threading.Event()

        def block() -> None:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
            taken.set()

        try:
            threading.Thread(target=block, daemon=True).start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "in use, and no thread can be started to wait for it") from error
        return taken.wait(wait)

    def is_marked(self) -> bool:
        """Whether any process has called `mark` on this file."""
        return os.fstat(self._fd).st_size > 0

    def mark(self) -> None:
        """Record in the file that there is something to lose.

        This uses the lock's own descriptor: closing another one of the same file would release the lock.
        """
        try:
            if not self.is_marked():
                os.pwrite(self._fd, b"in use\n", 0)
        except OSError:
            pass  # then a loss of all files goes unnoticed

    def release(self) -> None:
        """Release the lock."""
        os.close(self._fd)
