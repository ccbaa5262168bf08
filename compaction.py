"""Generations: the log that is open, the snapshot that is written beside it, and how one generation follows another.

May live here: when and how a log is replaced, and the pace at which a snapshot is written. May not: how a folder is
read at a start (storage.py), the format of records (records.py), what a delta means (model.py), sockets, threads. What
no append should wait for is given to an executor; server.py hands in one that has a thread.

Compaction
----------
When the files have outgrown the live data, log.G+1 is begun, and snapshot.G+1 is written beside it. Each append writes
a few of its keys, so no append ever waits for a whole snapshot. The snapshot is *fuzzy*: if a key is written to
meanwhile, the snapshot may have the newer write. That does no harm, since deltas may be applied twice and in any
order; and the context at the end of the snapshot is the one that held when the snapshot was begun. Once the snapshot is
complete, it gets its final name, and the older generation is deleted. (Compare Bitcask's merge, and the fuzzy
checkpoints of ARIES.)

Only an append feeds a snapshot, and it does so before its own delta is in the source. A snapshot therefore never has
the last record of the log, which `storage.cut_group` may take back. The executor only touches files whose content no
longer changes: it syncs what has been written of the snapshot, and finally renames it and deletes what is older, while
appends go on. So no append takes time in proportion to the store, except for listing its keys when a snapshot is begun
(40 ms for a million keys), and for the replacement of a log whose sync has failed (see storage.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgpack

from records import (
    Progress,
    RecordFile,
    StorageError,
    begin_file,
    file_header,
    remove,
    sync_folder,
    sync_path,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor  # the master, which must start fast, has no use for it

__all__ = ["Files", "Generations", "Source", "list_files"]

SLACK_BYTES = 512 << 10
"""By how much the files may exceed one and a half times the live data before a compaction begins."""
SNAPSHOT_PACE = 8
"""How many bytes of a snapshot are written for each byte that is appended meanwhile."""
SNAPSHOT_STEP_BYTES = 4 << 10
"""How much of a snapshot is written with each append at least."""
SNAPSHOT_MOST_BYTES = 4 << 20
"""How much of a snapshot is written with an append at most, in addition to twice what is appended. What the pace
requires beyond that is written with the next appends."""
SNAPSHOT_RECORD_BYTES = 1 << 20
"""About the largest size of a record in a snapshot."""
SYNC_BYTES = 4 << 20
"""How much of a file is written before that is brought to stable storage."""


class Source(Protocol):
    """Where the content of a snapshot comes from: the model."""

    live_bytes: int

    def keys(self) -> list[bytes]:
        """All keys that have a value."""

    def size_of(self, key: bytes) -> int:
        """About how many bytes the standing write of *key* takes in the log."""

    def delta_of(self, keys: list[bytes]) -> bytes:
        """A delta with the standing writes of *keys*."""

    def context_delta(self) -> bytes:
        """A delta with the context alone."""


class Files(NamedTuple):
    """The files in a server's folder that hold records."""

    snapshots: dict[int, Path]
    """By generation; the newest only."""
    logs: dict[int, Path]
    """By generation; from that of the newest snapshot on."""
    older: list[Path]
    """What the newest snapshot has made superfluous, and snapshots that are not complete."""

    @property
    def first(self) -> int:
        """The generation with which reading begins."""
        return max(self.snapshots, default=min(self.logs, default=0))

    @property
    def last(self) -> int:
        """The newest generation."""
        return max(self.logs, default=self.first)


def list_files(folder: Path) -> Files:
    """All files in *folder* that hold records, except those that were set aside. Raises OSError."""
    snapshots: dict[int, Path] = {}
    logs: dict[int, Path] = {}
    older: list[Path] = []
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(snapshot|log)\.(\d+)(\.part)?", path.name)
        if match is None:
            continue
        if match[3]:
            older.append(path)
        else:
            (snapshots if match[1] == "snapshot" else logs)[int(match[2])] = path
    newest = max(snapshots, default=0)
    for files in (snapshots, logs):
        for generation in [generation for generation in files if generation < newest]:
            older.append(files.pop(generation))
    return Files(snapshots, logs, older)


class Work(Protocol):
    """Something that is done in the background: a `concurrent.futures.Future`, or what was done at once instead."""

    def done(self) -> bool: ...
    def result(self) -> None: ...
    def exception(self) -> BaseException | None: ...


class _DoneAtOnce:
    """`Work` that was done before anybody could wait for it."""

    def __init__(self, do: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self._error: Exception | None = None
        try:
            do(*arguments)
        except Exception as error:
            self._error = error

    def done(self) -> bool:
        return True

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def exception(self) -> Exception | None:
        return self._error


class _Snapshot:
    """A snapshot that is written step by step."""

    def __init__(self, folder: Path, generation: int, lineage: int, source: Source, progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._keys = source.keys()
        self._next = 0
        self._deltas = 0
        self._context = source.context_delta()
        self.owed = 0
        """How many bytes the pace requires that have not been written yet."""
        self.syncing: Work | None = None
        """The sync of what has been written so far, if one is under way."""
        self.ending: Work | None = None
        """The work that gives the complete snapshot its name, once that has been handed out."""
        self.final_path = folder / f"snapshot.{generation}"
        part = folder / f"snapshot.{generation}.part"
        part.unlink(missing_ok=True)
        self.file = begin_file(part, file_header("snapshot", generation, lineage))

    def step(self, budget: int) -> bool:
        """Write about *budget* bytes more; returns whether all keys have been written."""
        while budget > 0 and self._next < len(self._keys):
            size, first = 0, self._next
            while self._next < len(self._keys) and size < min(budget, SNAPSHOT_RECORD_BYTES):
                size += self._source.size_of(self._keys[self._next])
                self._next += 1
            self._append(self._source.delta_of(self._keys[first : self._next]))
            self._progress.advance(size)
            budget -= size
        return self._next == len(self._keys)

    def _append(self, delta: bytes) -> None:
        self.file.append(b"D", delta)
        self._deltas += 1

    def complete(self) -> None:
        """Write the context and the end."""
        self._append(self._context)
        self.file.append(b"E", msgpack.packb(self._deltas))

    def finish(self, sync: bool) -> None:
        """Give the complete file its final name. Raises StorageError, OSError."""
        if sync:
            self.file.sync()
        self.file.close()
        self.file.path.rename(self.final_path)
        if sync:
            sync_folder(self.final_path.parent)

    def discard(self) -> None:
        """Remove what was written, under either name, as far as that is possible."""
        remove(self.final_path)
        self.file.discard()


class Generations:
    """The files that a server appends to. Not safe to use from two threads at once, except for `log.sync`."""

    def __init__(
        self,
        folder: Path,
        lineage: int,
        syncs: bool,
        kept: bool,
        start_executor: Callable[[], Executor] | None,
        progress: Progress,
    ) -> None:
        """*syncs*: whether nothing is relied on before it is on stable storage; *kept*: whether the store outlives the
        run. *start_executor* as in `Storage`.
        """
        self._folder = folder
        self._syncs = syncs
        self._syncs_snapshots = syncs or kept
        self._start_executor = start_executor
        self._executor: Executor | None = None
        self._progress = progress
        self.number = 0
        """The newest generation."""
        self.lineage = lineage
        self._log: RecordFile | None = None
        self._snapshot: _Snapshot | None = None
        self._syncing_log: Work | None = None  # before the log is replaced
        self._work: list[Work] = []
        self._resting_bytes = 0  # in files other than the open log and the snapshot in progress
        self._retry_at = 0

    @property
    def log(self) -> RecordFile:
        """The open log. There is one after `go_on` or `begin`."""
        assert self._log is not None
        return self._log

    def total_bytes(self) -> int:
        """The size of all files, except for a snapshot in progress."""
        return self._resting_bytes + self.log.size

    # -- a start -------------------------------------------------------------------------------------------

    def go_on(self, size: int, resting: list[Path], cleared: bool) -> None:
        """Go on with the newest log, of *size* bytes, behind the files *resting*. Raises StorageError, OSError.

        *cleared*: whether files will be removed because of what *resting* has. All that is relied on is synced, since
        the process before this one may have ended before it did that.
        """
        self._log = RecordFile(self._folder / f"log.{self.number}", size)
        self._resting_bytes = sum(path.stat().st_size for path in resting)
        if size == 0:
            before = resting[-1].stat().st_size if resting and resting[-1].name.startswith("log") else 0
            self._log.append(b"H", file_header("log", self.number, self.lineage, before))
        if self._syncs:
            self._log.sync()
        if self._syncs or (self._syncs_snapshots and cleared):
            for path in resting:
                sync_path(path)
                self._progress.advance(path.stat().st_size)
            sync_folder(self._folder)

    def begin(self, source: Source) -> None:
        """Begin a new generation, with all of *source* in its snapshot. Raises StorageError, OSError.

        If that fails, nothing has changed. If it succeeds, no older file is needed any more; none has been removed.
        """
        generation = self.number + 1
        before = self._log.size if self._log is not None else 0
        log: RecordFile | None = None
        snapshot = _Snapshot(self._folder, generation, self.lineage, source, self._progress)
        try:
            while not snapshot.step(SYNC_BYTES):
                if self._syncs_snapshots:
                    snapshot.file.sync()
                    self._progress.advance(SYNC_BYTES)
            snapshot.complete()
            log = self._new_log(generation, before)
            snapshot.finish(self._syncs_snapshots)
        except (StorageError, OSError):
            snapshot.discard()
            if log is not None:
                log.discard()
            raise
        self._switch_to(log)
        self._resting_bytes = snapshot.file.size

    def _new_log(self, generation: int, before: int) -> RecordFile:
        """A new log, whose name is on stable storage as well where that matters. Raises StorageError, OSError."""
        header = file_header("log", generation, self.lineage, before)
        log = begin_file(self._folder / f"log.{generation}", header, self._syncs)
        try:
            if self._syncs:
                sync_folder(self._folder)
        except OSError:
            log.discard()
            raise
        return log

    def _switch_to(self, log: RecordFile) -> None:
        if self._log is not None:
            self.in_background(self._log.close)  # which waits for a sync of it
        self._log = log
        self.number += 1

    def renew(self, source: Source) -> None:
        """Replace a log whose sync has failed. Raises StorageError, OSError; then nothing has changed."""
        self._give_snapshot_up()
        self.begin(source)
        self._retry_at = 0
        self._remove_outdated()
        sync_folder(self._folder)  # the old log may have a record that was refused

    # -- compaction ----------------------------------------------------------------------------------------

    def compact(self, source: Source, appended: int) -> None:
        """Do the part of a compaction that is due with an append of *appended* bytes. *source* doesn't have them yet.

        If there is no room for a snapshot, the log goes on, and a later append tries again. Raises StorageError if the
        log could not be synced.
        """
        try:
            self._compact(source, appended)
        except (StorageError, OSError):
            self._give_snapshot_up()
            self._retry_at = self.total_bytes() + SLACK_BYTES
            if self.log.failure is not None:
                raise StorageError(self.log.failure) from None

    def _compact(self, source: Source, appended: int) -> None:
        """Begin, continue or end a compaction if one is due. Raises StorageError, OSError."""
        if self._snapshot is None:
            total = self.total_bytes()
            if total < max(source.live_bytes * 3 // 2 + SLACK_BYTES, self._retry_at) or not self._log_may_end():
                return
            self._snapshot = self._begin_snapshot(source, total)
        snapshot = self._snapshot
        if snapshot.ending is None:
            self._feed(snapshot, appended)
        if snapshot.ending is not None and snapshot.ending.done():
            snapshot.ending.result()
            self._resting_bytes, self._snapshot, self._retry_at = snapshot.file.size, None, 0

    def _log_may_end(self) -> bool:
        """Whether little or nothing of the log is missing on stable storage. If not, it is synced in the background.

        Raises StorageError.
        """
        if self._syncing_log is None:
            if not self._syncs or self.log.size - self.log.synced <= SYNC_BYTES:
                return True
            self._syncing_log = self.in_background(self.log.sync)
        if not self._syncing_log.done():
            return False
        work, self._syncing_log = self._syncing_log, None
        work.result()
        return True

    def _begin_snapshot(self, source: Source, total: int) -> _Snapshot:
        """Replace the log, and begin the snapshot beside the new one."""
        if self._syncs:
            self.log.sync()  # before the next log records how long this one is
        self.log.cut_tail()
        self._switch_to(self._new_log(self.number + 1, self.log.size))
        self._resting_bytes = total
        return _Snapshot(self._folder, self.number, self.lineage, source, self._progress)

    def _feed(self, snapshot: _Snapshot, appended: int) -> None:
        """Write more of the snapshot. Once all is written, have it renamed in the background."""
        snapshot.owed += SNAPSHOT_PACE * appended + SNAPSHOT_STEP_BYTES
        budget = min(snapshot.owed, SNAPSHOT_MOST_BYTES + 2 * appended)
        snapshot.owed -= budget
        if snapshot.step(budget):
            snapshot.complete()
            snapshot.ending = self.in_background(self._finish, snapshot)
            return
        if snapshot.syncing is not None and snapshot.syncing.done():
            work, snapshot.syncing = snapshot.syncing, None
            work.result()
        if self._syncs_snapshots and not snapshot.syncing and snapshot.file.size - snapshot.file.synced >= SYNC_BYTES:
            snapshot.syncing = self.in_background(snapshot.file.sync)

    def _finish(self, snapshot: _Snapshot) -> None:
        """Give a snapshot its final name, and delete what it makes superfluous. Runs in the background."""
        snapshot.finish(self._syncs_snapshots)
        self._remove_outdated()

    def _give_snapshot_up(self) -> None:
        """Abandon a snapshot in progress, if there is one. Waits for one that is being renamed."""
        snapshot, self._snapshot, self._syncing_log = self._snapshot, None, None
        if snapshot is None:
            return
        if snapshot.ending is not None and snapshot.ending.exception() is None:
            self._resting_bytes = snapshot.file.size
        else:
            self.in_background(snapshot.file.discard)

    def _remove_outdated(self) -> None:
        for path in list_files(self._folder).older:
            path.unlink(missing_ok=True)

    # -- work in the background, and the end ---------------------------------------------------------------

    def in_background(self, do: Callable[..., None], *arguments: object) -> Work:
        """Have the executor do something, after all that it was given before; without one, do it now."""
        if self._executor is None and self._start_executor is not None:
            try:
                self._executor = self._start_executor()
            except (RuntimeError, OSError, ImportError, MemoryError):
                pass  # there is no room for a thread, or for the modules that it needs; perhaps there is next time
        work: Work = self._executor.submit(do, *arguments) if self._executor else _DoneAtOnce(do, arguments)
        self._work = [*(other for other in self._work if not other.done()), work]
        return work

    def close(self) -> None:
        """Close the files. Waits for what is done in the background."""
        for work in self._work:
            work.exception()
        if self._snapshot is not None:
            self._snapshot.file.close()
        if self._log is not None:
            self._log.close()
