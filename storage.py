"""What is on disk: one replica's log and snapshot, and the data directory that they stand in.

May live here: files, their formats, locks on them. May not: what the records mean (model.py), sockets, threads (but
for the one that waits for a lock). What takes long is handed to an executor, which server.py gives a thread.

The files of one server
-----------------------
    server-ID/lock              locked for as long as a server process uses the folder; not empty once there was a log
    server-ID/snapshot.G        all that stood when log.G was begun (or a little later); none where G is 0
    server-ID/log.G             what came after that, in the order in which it came
    server-ID/snapshot.G.part   a snapshot that is being written
    server-ID/NAME.damaged-S    a file in which damage was found, set aside by the start with stamp S

G, the *generation*, counts from 0. Each file is a sequence of records:

    | field          | bytes | what                                                              |
    |----------------|-------|-------------------------------------------------------------------|
    | magic          | 4     | 9B 'D' 'k' 'r'                                                    |
    | length         | 4     | of the payload, little endian                                     |
    | payload check  | 4     | CRC-32 of the payload                                             |
    | header check   | 4     | CRC-32 of the record's offset in the file (8 bytes), magic,       |
    |                |       | length and payload check: so a value that holds a copy of a       |
    |                |       | record is never taken for one                                     |
    | payload        | length| one byte for the kind, and the body                               |

    | kind | body                                                                                 |
    |------|--------------------------------------------------------------------------------------|
    | 'H'  | first in each file: msgpack ["daadkvs log" or "daadkvs snapshot", format, generation,|
    |      | length of the log before this one, or 0, lineage: the stamp of the start that began  |
    |      | the first of these files anew]                                                       |
    | 'D'  | a delta, as model.py packs it: [writes, context or nil]; one for all that was        |
    |      | acknowledged together                                                                |
    | 'G'  | the same for a group of commands (see server.py): its number, 8 bytes, and a delta   |
    | 'E'  | last in a snapshot: its number of deltas, msgpack                                    |

Compaction
----------
When the files have outgrown the live data, log.G+1 is begun, and snapshot.G+1 is written beside it, a few
keys with each append, so that nobody ever waits for a whole one. The snapshot is *fuzzy*: a key written to
meanwhile may be in it with its newer write. That does no harm, since deltas may be applied twice and in any
order; and the context at its end is the one that held when it was begun. Once complete it is renamed, and the
older generation is deleted. (Compare Bitcask's merge, and the fuzzy checkpoints of ARIES.)

Only `append` feeds a snapshot, before its own delta is in the source. So a snapshot never has the last record of the
log, which `cut_group` may take back. All that is left to the executor touches files whose content is settled: it syncs
the snapshot as it grows, and in the end gives it its name and deletes what is older, while appends go on. So no append
takes time in proportion to the store, but for the list of its keys when a snapshot is begun (40 ms for a million).

The loss of the machine
-----------------------
With fsync "always" or "interval", nothing is relied on before it is on the disk itself, in this order: a log's last
byte, then the next log and its name; a snapshot, its name, and only then the removal of what is older; folders in
the folders above them; and at a start, all that was read. With "never", of a store that is to outlive its run, only the
snapshot and its name, before what is older is removed: a compaction must not put at risk what the system has long
brought to the disk (as with Redis's appendfsync no, whose rewrites are synced all the same).

When a sync fails, the system may have given up what it could not write, and the next sync succeeds all the same. So
that log is never trusted again: nothing is acknowledged until a new log, and a snapshot of all that is in memory, are
on the disk (PostgreSQL ends itself for the same reason, and recovers from its log; here memory is the better copy).

Recovery
--------
The newest snapshot is read, then all logs from its generation on. In case of

- a log that ends in the middle of a record, behind all that stood in it when the next one was begun, if there is
  a next one: that record was never acknowledged. It is passed over, and cut off before anything is written there.
- a record whose checks fail, in its header or its payload; a part of a file that can't be read; a missing file of a
  generation, or all of them (the lock file says that there was one); a snapshot without its end; a record torn
  elsewhere; a log shorter than it was when the next one was begun; a file that by its header belongs elsewhere, to
  another generation or server: this is *damage*. It is reported with file and offset. (So are zeros in the place of
  the last record, which some file systems leave after a loss of power, and which might as well be a record that the
  disk has lost.) All records that can still be made out, also behind it, are kept. But the contexts among them may
  speak of writes that are lost, so none is believed: the replica then knows of just what was readable, and its peers
  send it the rest again. The damaged file is renamed, and a new generation is begun.
- a log without a header, or with a part of one: it was being begun when the process or the machine stopped. But where
  something is there that is written only after that header (a mark in the lock file for log.0, snapshot.G for log.G,
  the next log for any), the log has lost all that it had, which is damage.
- a folder that is empty: the replica starts with nothing, and learns everything from its peers.

All this takes time in proportion to the data, so `Progress` tells whoever waits how far it has got, every few MiB. Only
within the sync of a file that was read there is none. It takes as long as the disk needs for what the system had not
brought there by itself: from the last second before the end with "interval", the last half a minute or so with "never".
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgpack

__all__ = [
    "FSYNC_POLICIES",
    "DamagedClock",
    "DataDirectory",
    "Progress",
    "Recovery",
    "Source",
    "Storage",
    "StorageError",
    "cut_group",
]

FSYNC_POLICIES = ("always", "interval", "never")
"""always: before each acknowledgement; interval: once a second; never: when the system sees fit."""

FORMAT = 1
MAGIC = b"\x9bDkr"
HEADER = struct.Struct("<4sIII")
_OFFSET = struct.Struct("<Q")
_GROUP = struct.Struct("<Q")

SLACK_BYTES = 512 << 10
"""How much the files may exceed one and a half times the live data before a compaction starts."""
SNAPSHOT_PACE = 8
"""How many bytes of a snapshot are written for each byte that is appended meanwhile."""
SNAPSHOT_STEP_BYTES = 4 << 10
"""What is written at least with each append while a snapshot is under way."""
SNAPSHOT_MOST_BYTES = 4 << 20
"""What is written at most with an append, and twice what is appended; what is owed beyond that comes with the next."""
SNAPSHOT_RECORD_BYTES = 1 << 20
"""About the size of a record in a snapshot that is written in one go."""
SYNC_BYTES = 4 << 20
"""How much of a file is written before that is brought to the disk itself."""
LOAD_BYTES = 1 << 20
"""How much of a file is read at a time."""
BLOCK_BYTES = 4 << 10
"""What a disk can read, or can't, as a whole."""

LARGEST_CLOCK = 1 << 60
"""A bound above this is junk: microseconds since 1970 reach it in the year 38,500."""


class StorageError(Exception):
    """The disk refused; the text names the file and the reason. Nothing was stored."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class DamagedClock(StorageError):
    """DIR/clock doesn't tell a bound, although it should."""


def printable(text: str) -> str:
    """A text that names files, whose names may be any bytes, as it can be sent and shown."""
    return text.encode("utf-8", "backslashreplace").decode()


class Progress:
    """How far a start has got. Any thread may look."""

    def __init__(self) -> None:
        self.done = 0
        """About how many bytes have been handled: it rises as long as there is progress."""

    def advance(self, amount: int) -> None:
        """So many bytes more."""
        self.done += amount


class _AtOnce(Executor):
    """Does all work before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work: Future[Any] = Future()
        try:
            work.set_result(fn(*args, **kwargs))
        except Exception as error:
            work.set_exception(error)
        return work


class Source(Protocol):
    """Where a snapshot's content comes from: the model."""

    live_bytes: int

    def keys(self) -> list[bytes]:
        """All keys that have a value."""

    def size_of(self, key: bytes) -> int:
        """About what the standing write of *key* takes in the log, in bytes."""

    def delta_of(self, keys: list[bytes]) -> bytes:
        """A delta with the standing writes of *keys*."""

    def context_delta(self) -> bytes:
        """A delta with the context alone."""


class Recovery(NamedTuple):
    """What was found on disk."""

    deltas: Iterator[bytes]
    """To be applied in this order, before `Storage.start`."""
    damages: list[str]
    """One line for each damage: the file, the offset, what is wrong. If there is any, trust no context."""


def _pack_record(offset: int, kind: bytes, body: bytes) -> bytes:
    payload_check = zlib.crc32(body, zlib.crc32(kind))
    length = len(body) + 1
    return HEADER.pack(MAGIC, length, payload_check, _header_check(offset, length, payload_check)) + kind + body


def _header_check(offset: int, length: int, payload_check: int) -> int:
    return zlib.crc32(_OFFSET.pack(offset) + HEADER.pack(MAGIC, length, payload_check, 0)[:12])


class _Scan:
    """What one file holds: where its good records are, and what is wrong with it."""

    def __init__(self, path: Path, expected: int | None = None, progress: Progress | None = None) -> None:
        """*expected*: how long a log must be at least.

        From there on, a record that the end of the file cuts off is a torn write; before, or where that is
        unknown, it is damage.
        """
        self.path = path
        self._expected = expected
        self._progress = progress or Progress()
        self.records: list[tuple[bytes, int, int]] = []  # kind, start and end of the body
        self.damages: list[str] = []
        self.torn_at: int | None = None
        fd = _open(path, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            self._data = self._load(fd, size) if size else b""
        finally:
            os.close(fd)
        self._walk(size)
        if expected is not None and size < expected:
            self._damage(size, f"the file has been cut off; it had {expected} bytes")
        self.header()
        if path.name.startswith("snapshot") and not self._is_whole_snapshot():
            self._damage(size, "the snapshot has no valid end")

    def _load(self, fd: int, size: int) -> mmap.mmap | bytes:
        """The file; zeros for what the disk can't read, which is damage.

        It is read first, since a mapping of what can't be read would end the process.
        """
        piece = bytearray(min(size, LOAD_BYTES))
        try:
            for offset in range(0, size, LOAD_BYTES):
                os.preadv(fd, [piece], offset)
                self._progress.advance(LOAD_BYTES)
            return mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        except OSError:
            pass
        data = bytearray(size)
        for offset in range(0, size, BLOCK_BYTES):
            try:
                block = os.pread(fd, BLOCK_BYTES, offset)
                data[offset : offset + len(block)] = block
            except OSError as error:
                self._damage(offset, f"can't be read: {error.strerror}")
            self._progress.advance(BLOCK_BYTES)
        return bytes(data)

    def _walk(self, size: int) -> None:
        offset = 0
        while offset < size:
            length = self._length_at(offset, size)
            if length is None:
                if size - offset < HEADER.size and self._may_end_at(offset):
                    self.torn_at = offset
                    return
                self._damage(offset, "no valid record header")
                following = self._next_header(offset + 1, size)
                if following is None:
                    return
                offset = following
                continue
            start, end = offset + HEADER.size, offset + HEADER.size + length
            if end > size:
                if self._may_end_at(offset):
                    self.torn_at = offset
                else:
                    self._damage(offset, "the file ends in the middle of a record")
                return
            payload_check = HEADER.unpack_from(self._data, offset)[2]
            with memoryview(self._data) as view, view[start:end] as payload:
                if zlib.crc32(payload) == payload_check:
                    self.records.append((bytes(payload[:1]), start + 1, end))
                else:
                    self._damage(offset, "the record's checksum is wrong")
            offset = end
            self._progress.advance(length)

    def _may_end_at(self, offset: int) -> bool:
        return self._expected is not None and offset >= self._expected

    def _length_at(self, offset: int, size: int) -> int | None:
        """The payload's length by the header at *offset*; None if there is no valid header."""
        if size - offset < HEADER.size:
            return None
        magic, length, payload_check, check = HEADER.unpack_from(self._data, offset)
        valid = magic == MAGIC and length > 0 and check == _header_check(offset, length, payload_check)
        return int(length) if valid else None

    def _next_header(self, offset: int, size: int) -> int | None:
        while offset < size:
            found = self._data.find(MAGIC, offset, offset + LOAD_BYTES)
            if found >= 0 and self._length_at(found, size) is not None:
                return found
            following = found + 1 if found >= 0 else offset + LOAD_BYTES - len(MAGIC) + 1
            self._progress.advance(following - offset)
            offset = following
        return None

    def miss_header(self) -> None:
        """It is damage if there is nothing in the file, or not even a whole record."""
        if not self.records and not self.damages:
            self._damage(0, "the file is empty" if self.torn_at is None else "the file ends in its header")
            self.torn_at = None

    def _damage(self, offset: int, what: str) -> None:
        self.damages.append(printable(f"{self.path}: offset {offset}: {what}"))

    def _is_whole_snapshot(self) -> bool:
        if not self.records or self.records[-1][0] != b"E":
            return False
        deltas = sum(kind == b"D" for kind, _, _ in self.records)
        return bool(msgpack.unpackb(self._body(*self.records[-1][1:])) == deltas)

    def _body(self, start: int, end: int) -> bytes:
        return self._data[start:end]

    def deltas(self) -> Iterator[bytes]:
        for kind, start, end in self.records:
            self._progress.advance(end - start)
            if kind == b"D":
                yield self._body(start, end)
            elif kind == b"G":
                yield self._body(start + _GROUP.size, end)

    def header(self) -> list[Any]:
        """What the file says of itself; nothing where that can't be read. Raises StorageError."""
        if not self.records or self.records[0][0] != b"H":
            return []
        header: list[Any] = msgpack.unpackb(self._body(*self.records[0][1:]))
        if header[1] != FORMAT:
            raise StorageError(f"{self.path}: of format {header[1]}, not {FORMAT}: written by another version")
        return header

    @property
    def lineage(self) -> int | None:
        """Which files belong together; None where that is unknown."""
        return next(iter(self.header()[4:]), None)

    def check_place(self, generation: int, lineage: int) -> None:
        """It is damage if the file belongs elsewhere by what it says of itself."""
        header = self.header()
        if header and header[2] != generation:
            self._damage(0, f"the file is of generation {header[2]}")
        elif self.lineage not in (None, lineage):
            self._damage(0, "the file is of another store")

    def largest_number(self, largest_in: Callable[[bytes], int]) -> int:
        """The largest of what the master's clock has issued that is in the file; *largest_in* tells it of a delta."""
        groups = (self._body(start, start + _GROUP.size) for kind, start, _ in self.records if kind == b"G")
        numbers = (_GROUP.unpack(group)[0] for group in groups)
        return max(self.lineage or 0, max(numbers, default=0), max(map(largest_in, self.deltas()), default=0))

    @property
    def length_before(self) -> int | None:
        """How long the log before this one was when this one was begun; None where that is unknown."""
        header = self.header()
        return int(header[3]) or None if header else None

    def last_group(self) -> tuple[int, int] | None:
        """The number and the offset of the last record, if that is a group's."""
        if not self.records or self.records[-1][0] != b"G":
            return None
        _, start, end = self.records[-1]
        if end != (len(self._data) if self.torn_at is None else self.torn_at):
            return None  # there was something behind it
        return _GROUP.unpack(self._body(start, start + _GROUP.size))[0], start - 1 - HEADER.size


class _RecordFile:
    """A file that records are appended to. A failed append leaves nothing behind.

    A file whose `sync` has failed is never synced again: the system may have given up what it could not write,
    and a next sync would succeed all the same (known as fsyncgate). `failure` says why it failed.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        self.size = size
        self.synced = 0
        """How much of it is on the disk itself for certain."""
        self.failure: str | None = None
        self._closing = threading.Lock()  # so that nobody syncs what has the descriptor's number by then
        self._fd = _open(path, os.O_RDWR | os.O_CREAT)
        self._dirty_tail = os.fstat(self._fd).st_size > size

    def append(self, kind: bytes, body: bytes, sync: bool = False) -> None:
        """Raises StorageError; then the file is as it was, or will be before it is written to again."""
        record = _pack_record(self.size, kind, body)
        try:
            if self._dirty_tail:
                self.cut_tail()
            self._dirty_tail = True
            _write(self._fd, record, self.size)
            if sync:
                self.sync()
        except (OSError, StorageError) as error:
            try:
                self.cut_tail()
            except OSError:
                pass  # the next append tries again first
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{self.path}: {error.strerror}") from error
        self._dirty_tail = False
        self.size += len(record)
        if sync:
            self.synced = self.size

    def cut_tail(self) -> None:
        """Cut off what may stand behind the last whole record. Raises OSError."""
        if self._dirty_tail:
            os.ftruncate(self._fd, self.size)
            self._dirty_tail = False

    def sync(self) -> None:
        """Bring the file to the disk itself, unless it is closed. Blocks. Raises StorageError, from then on always."""
        with self._closing:
            if self._fd >= 0 and self.failure is None:
                size = self.size
                try:
                    os.fsync(self._fd)
                    self.synced = size
                except OSError as error:
                    self.failure = f"{self.path}: {error.strerror}"
        if self.failure is not None:
            raise StorageError(self.failure)

    def close(self) -> None:
        """May be called more than once."""
        with self._closing:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def discard(self) -> None:
        """Close and remove the file, as far as that is possible."""
        self.close()
        _remove(self.path)


class _SnapshotInProgress:
    """A snapshot that is written step by step."""

    def __init__(self, folder: Path, generation: int, lineage: int, source: Source, progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._keys = source.keys()
        self._next = 0
        self._deltas = 0
        self._context = source.context_delta()
        self.owed = 0
        """What should have been written by now."""
        self.syncing: Future[None] | None = None
        """Of what has been written so far."""
        self.ending: Future[None] | None = None
        self.final_path = folder / f"snapshot.{generation}"
        part = folder / f"snapshot.{generation}.part"
        part.unlink(missing_ok=True)
        self.file = _begin_file(part, _file_header("snapshot", generation, lineage))

    def step(self, budget: int) -> bool:
        """Write about *budget* bytes more; returns whether all has been written."""
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
        """Give the complete file its name."""
        if sync:
            self.file.sync()
        self.file.close()
        self.file.path.rename(self.final_path)
        if sync:
            _sync_folder(self.final_path.parent)

    def discard(self) -> None:
        """Remove what was written, under whatever name, as far as that is possible."""
        _remove(self.final_path)
        self.file.discard()


class Storage:
    """One server's folder. Not safe to use from two threads at once, but for `sync`."""

    def __init__(
        self,
        folder: Path,
        stamp: int,
        fsync: str = "never",
        lock_wait: float = 0.0,
        kept: bool = False,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Make the folder if need be, and lock it.

        *stamp* is the incarnation, which goes into the names of files that are set aside. Waits up to
        *lock_wait* seconds for a process that still holds the folder. *kept*: whether it outlives the run. What no
        append should wait for is left to *executor*, which does one thing after another; without it, it is done at
        once. Raises StorageError.
        """
        self._folder = folder
        self._stamp = stamp
        self._fsync = fsync
        self._generation = 0
        self._lineage = stamp
        self._syncs = fsync != "never"
        self._syncs_snapshots = self._syncs or kept
        self._damaged: list[Path] = []
        self._older: list[Path] = []
        self._kept: list[Path] = []
        self._log: _RecordFile
        self._log_size_known = 0
        self._snapshot: _SnapshotInProgress | None = None
        self._syncing_log: Future[None] | None = None  # before it ends
        self._executor = executor or _AtOnce()
        self._work: list[Future[None]] = []
        self._progress = progress or Progress()
        self._resting_bytes = 0  # in files other than the open log and the snapshot in progress
        self._retry_at = 0
        try:
            _make_folder(folder, self._syncs)
            _check_owner(folder)
            self._lock = Lock(folder / "lock")
            if not self._lock.acquire(lock_wait):
                raise StorageError(f"{folder}: in use by another process")
        except OSError as error:
            raise StorageError(f"{error.filename or folder}: {error.strerror}") from error

    # -- recovery ------------------------------------------------------------------------------------------

    def recover(self) -> Recovery:
        """Read what there is. Raises StorageError where that can't be done at all."""
        try:
            return self._recover()
        except OSError as error:
            raise StorageError(f"{error.filename or self._folder}: {error.strerror}") from error

    def _recover(self) -> Recovery:
        snapshots, logs, older = self._files()
        base = max(snapshots, default=min(logs, default=0))
        newest = max(logs, default=base)
        self._generation = max(base, newest)
        scans: list[_Scan] = []
        damages: list[str] = []
        length: int | None = 0  # of the log at hand, as the one behind it has it; the last may end anywhere
        for generation in range(newest, base - 1, -1) if snapshots or logs else ():
            if generation in logs:
                scan = _Scan(logs[generation], length, self._progress)
                if generation < newest or generation in snapshots or (generation == 0 and self._lock.is_marked()):
                    scan.miss_header()  # what is there came later
                scans.insert(0, scan)
                length = scan.length_before
            else:
                damages.insert(0, printable(f"{self._folder}: log.{generation} is missing"))
                length = None
        if not scans and not snapshots and self._lock.is_marked():
            damages.append(printable(f"{self._folder}: log.0 is missing, and all else"))
        if snapshots:
            scans.insert(0, _Scan(snapshots[base], progress=self._progress))
        elif base > 0:
            damages.append(printable(f"{self._folder}: snapshot.{base} or log.{base - 1} is missing"))
        self._lineage = next((scan.lineage for scan in scans if scan.lineage), self._stamp)
        for scan in scans:
            scan.check_place(int(scan.path.suffix[1:]), self._lineage)
        damages += [damage for scan in scans for damage in scan.damages]
        if damages:  # then what an interrupted compaction left behind may still be of use
            scans += [_Scan(path, progress=self._progress) for path in older]
        self._damaged = [scan.path for scan in scans if scan.damages and not scan.path.name.endswith(".part")]
        self._older = [path for path in older if path not in self._damaged]
        if damages:
            self._older += [scan.path for scan in scans if scan.path not in self._damaged + self._older]
            self._log_size_known = -1
        elif logs:
            scan = scans[-1]
            size = scan.path.stat().st_size
            self._log_size_known = size if scan.torn_at is None else scan.torn_at
            self._resting_bytes = sum(other.path.stat().st_size for other in scans[:-1])
            self._kept = [other.path for other in scans[:-1]]
        return Recovery((delta for scan in scans for delta in scan.deltas()), damages)

    def _files(self) -> tuple[dict[int, Path], dict[int, Path], list[Path]]:
        """Snapshots and logs by generation, and the files that the newest snapshot has made superfluous."""
        snapshots: dict[int, Path] = {}
        logs: dict[int, Path] = {}
        older: list[Path] = []
        for path in sorted(self._folder.iterdir()):
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
        return snapshots, logs, older

    def start(self, source: Source) -> None:
        """Be ready for appends, once all that was recovered is in *source*. Raises StorageError."""
        try:
            if self._log_size_known < 0:
                self._start_anew(source)
            else:
                self._go_on()
            self._lock.mark()
        except OSError as error:
            raise StorageError(f"{error.filename or self._folder}: {error.strerror}") from error

    def _start_anew(self, source: Source) -> None:
        """Write all of *source* as a new generation, and set aside what was damaged."""
        self._lineage = self._stamp
        self._begin_generation(source)
        self._remove_older()
        for path in self._damaged:
            path.rename(path.with_name(f"{path.name}.damaged-{self._stamp}"))

    def _go_on(self) -> None:
        """Go on with the files that were read."""
        self._log = _RecordFile(self._folder / f"log.{self._generation}", self._log_size_known)
        if self._log.size == 0:
            before = self._kept[-1].stat().st_size if self._kept and self._kept[-1].name.startswith("log") else 0
            self._log.append(b"H", _file_header("log", self._generation, self._lineage, before))
        if self._syncs:
            self._log.sync()
        if self._syncs or (self._syncs_snapshots and self._older):  # the last life may not have come to it
            for path in self._kept:
                _sync_path(path)
                self._progress.advance(path.stat().st_size)
            _sync_folder(self._folder)
        self._remove_older()

    def _begin_generation(self, source: Source) -> None:
        """Begin a new log, with all of *source* in a snapshot beside it. Raises StorageError, OSError.

        Then nothing has changed. Nothing that stands in older files is needed any more, nor are they gone.
        """
        generation = self._generation + 1
        before = self._log.size if hasattr(self, "_log") else 0
        log: _RecordFile | None = None
        snapshot = _SnapshotInProgress(self._folder, generation, self._lineage, source, self._progress)
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

    def _new_log(self, generation: int, before: int) -> _RecordFile:
        """A new log, to be found after the loss of the machine too where that matters. Raises StorageError, OSError."""
        header = _file_header("log", generation, self._lineage, before)
        log = _begin_file(self._folder / f"log.{generation}", header, self._syncs)
        try:
            if self._syncs:
                _sync_folder(self._folder)
        except OSError:
            log.discard()
            raise
        return log

    def _switch_to(self, log: _RecordFile) -> None:
        if hasattr(self, "_log"):
            self._in_background(self._log.close)  # which waits for a sync of it
        self._log = log
        self._generation += 1

    def _remove_older(self) -> None:
        for path in self._older:
            if path.name.endswith(".part") or not _Scan(path, 0, self._progress).damages:
                self._in_background(_remove, path)
            else:
                path.rename(path.with_name(f"{path.name}.damaged-{self._stamp}"))
        self._older = []

    # -- appending -----------------------------------------------------------------------------------------

    def append(self, delta: bytes, source: Source, group: int | None = None) -> None:
        """Add a delta to the log; when this returns, it survives the end of this process.

        With fsync "always", it survives the loss of the machine as well. *source*, which must not have taken in
        the delta yet, feeds a compaction where one is due. With *group*, `cut_group` can take the delta back
        once this process is gone. Raises StorageError; then nothing was added.
        """
        if self._log.failure is not None:
            self.renew(source)
        try:
            # First, because the source doesn't have the delta yet: it must stand behind whatever snapshot this begins.
            self._compact(source, len(delta))
        except (StorageError, OSError):  # no room for a snapshot: go on with the log, try again later
            self._give_snapshot_up()
            self._retry_at = self._total_bytes() + SLACK_BYTES
            if self._log.failure is not None:
                raise StorageError(self._log.failure) from None
        kind, body = (b"D", delta) if group is None else (b"G", _GROUP.pack(group) + delta)
        self._log.append(kind, body, self._fsync == "always")

    def renew(self, source: Source) -> None:
        """Where the log could not be synced: write all of *source* as a new generation. Raises StorageError.

        Until that works, nothing can be appended: what the log's file holds on the disk itself, nobody knows.
        """
        if self._log.failure is None:
            return
        self._give_snapshot_up()
        try:
            self._begin_generation(source)
            self._retry_at = 0
            for path in self._outdated():
                path.unlink(missing_ok=True)
            _sync_folder(self._folder)  # what was refused may stand in the old log
        except OSError as error:
            raise StorageError(f"{error.filename or self._folder}: {error.strerror}") from error

    def _give_snapshot_up(self) -> None:
        """Begin none, or go on with none. Waits for one that is being given its name."""
        snapshot, self._snapshot, self._syncing_log = self._snapshot, None, None
        if snapshot is None:
            return
        if snapshot.ending is not None and snapshot.ending.exception() is None:
            self._resting_bytes = snapshot.file.size
        else:
            self._in_background(snapshot.file.discard)

    def _total_bytes(self) -> int:
        return self._resting_bytes + self._log.size

    def _compact(self, source: Source, appended: int) -> None:
        """Begin, go on with or end a compaction where one is due. Raises StorageError, OSError."""
        if self._snapshot is None:
            total = self._total_bytes()
            if total < max(source.live_bytes * 3 // 2 + SLACK_BYTES, self._retry_at) or not self._log_may_end():
                return
            self._snapshot = self._begin_compaction(source, total)
        snapshot = self._snapshot
        if snapshot.ending is None:
            self._feed(snapshot, appended)
        if snapshot.ending is not None and snapshot.ending.done():
            snapshot.ending.result()
            self._resting_bytes, self._snapshot, self._retry_at = snapshot.file.size, None, 0

    def _log_may_end(self) -> bool:
        """Whether a next log may be begun: the disk itself lacks little of this one, or none. Raises StorageError."""
        if self._syncing_log is None:
            if not self._syncs or self._log.size - self._log.synced <= SYNC_BYTES:
                return True
            self._syncing_log = self._in_background(self._log.sync)
        if not self._syncing_log.done():
            return False
        work, self._syncing_log = self._syncing_log, None
        work.result()
        return True

    def _begin_compaction(self, source: Source, total: int) -> _SnapshotInProgress:
        if self._syncs:
            self._log.sync()  # before the next log says how long this one is
        self._log.cut_tail()
        self._switch_to(self._new_log(self._generation + 1, self._log.size))
        self._resting_bytes = total
        return _SnapshotInProgress(self._folder, self._generation, self._lineage, source, self._progress)

    def _feed(self, snapshot: _SnapshotInProgress, appended: int) -> None:
        """Write more of the snapshot; once that is all, have it given its name."""
        snapshot.owed += SNAPSHOT_PACE * appended + SNAPSHOT_STEP_BYTES
        budget = min(snapshot.owed, SNAPSHOT_MOST_BYTES + 2 * appended)
        snapshot.owed -= budget
        if snapshot.step(budget):
            snapshot.complete()
            snapshot.ending = self._in_background(self._finish, snapshot)
            return
        if snapshot.syncing is not None and snapshot.syncing.done():
            work, snapshot.syncing = snapshot.syncing, None
            work.result()
        if self._syncs_snapshots and not snapshot.syncing and snapshot.file.size - snapshot.file.synced >= SYNC_BYTES:
            snapshot.syncing = self._in_background(snapshot.file.sync)

    def _finish(self, snapshot: _SnapshotInProgress) -> None:
        """Give a snapshot its name, and delete what it makes superfluous; in the background."""
        snapshot.finish(self._syncs_snapshots)
        for path in self._outdated():
            path.unlink(missing_ok=True)

    def _in_background(self, do: Callable[..., None], *arguments: object) -> Future[None]:
        work = self._executor.submit(do, *arguments)
        self._work = [*(other for other in self._work if not other.done()), work]
        return work

    def _outdated(self) -> list[Path]:
        _, _, older = self._files()
        return older

    def sync(self) -> None:
        """Bring what was appended to the disk itself. Blocks. Raises StorageError; then `renew` is due."""
        self._log.sync()

    def close(self) -> None:
        """Close the files and let go of the folder. Waits for what is done in the background."""
        for work in self._work:
            work.exception()
        if self._snapshot is not None:
            self._snapshot.file.close()
        if hasattr(self, "_log"):
            self._log.close()
        self._lock.release()


def cut_group(folder: Path, group: int, fsync: str = "never") -> None:
    """Take the delta of *group* back, if it is the last in the log of a server that is gone.

    For a group that was never acknowledged. Compaction runs before an append, so no snapshot has it. *fsync* is
    the server's policy. Raises StorageError.
    """
    try:
        lock = Lock(folder / "lock")
        try:
            if not lock.acquire():
                raise StorageError(f"{folder}: in use by another process")
            logs = [path for path in folder.iterdir() if re.fullmatch(r"log\.\d+", path.name)]
            newest = max(logs, key=lambda path: int(path.suffix[1:]), default=None)
            last = _Scan(newest, 0).last_group() if newest else None
            if newest and last and last[0] == group:
                os.truncate(newest, last[1])
                if fsync != "never":
                    _sync_path(newest)
        finally:
            lock.release()
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror}") from error


def _file_header(what: str, generation: int, lineage: int, before: int = 0) -> bytes:
    packed: bytes = msgpack.packb([f"daadkvs {what}", FORMAT, generation, before, lineage])
    return packed


def _begin_file(path: Path, header: bytes, sync: bool = False) -> _RecordFile:
    """A new file with its header; where that can't be written, no file is left. Raises StorageError, OSError."""
    file = _RecordFile(path)
    try:
        file.append(b"H", header, sync)
    except StorageError:
        file.discard()
        raise
    return file


def _write(fd: int, data: bytes, offset: int) -> None:
    """Write all of *data*. Raises OSError."""
    done = 0
    with memoryview(data) as view:
        while done < len(data):
            done += os.pwrite(fd, view[done:], offset + done)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # recovery passes over it


def _open(path: Path, flags: int) -> int:
    """Open a file of a store. Raises OSError, also for a pipe, and for a link that another user has made.

    Such a link would have this user's own files elsewhere read, or written over.
    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC  # else a pipe would be waited for
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        fd = os.open(_target(path), flags, 0o600)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "a pipe, and no file", str(path))
    return fd


def _target(link: Path) -> Path:
    """Where a link leads that this user has made, or root. Raises OSError where it is another's, or no link."""
    fd = os.open(link, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "a link that another user has made", str(link))
        return link.parent / os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)


def _check_owner(folder: Path) -> None:
    """Raise OSError where a server's folder is a third party's: it must be this user's, root's, or of the owner of the
    folder that it stands in, whom the user trusts with it. A link must be this user's, or root's."""
    trusted = (0, os.geteuid(), folder.parent.stat().st_uid)
    if folder.is_symlink():
        _target(folder)
    if folder.stat().st_uid not in trusted:
        raise PermissionError(errno.EPERM, "a folder that another user has made", str(folder))


def _make_folder(path: Path, sync: bool) -> None:
    """Make a folder and those above it, to be found after the loss of the machine too if *sync*. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    if sync:
        for folder in reversed(missing or [path]):
            _sync_folder(folder.parent)


def _sync_path(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk itself, where we may and the file system can. Raises OSError."""
    try:
        _sync_path(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EBADF, errno.EINVAL):
            raise


class Lock:
    """A lock on a file that ends with the process at the latest.

    A POSIX record lock: unlike flock's, it doesn't pass to forked children, so it never outlives its holder.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file can't be opened or made."""
        self._fd = _open(path, os.O_RDWR | os.O_CREAT)

    def acquire(self, wait: float = 0.0) -> bool:
        """Take the lock; returns whether that worked within *wait* seconds. Raises OSError where it can't wait."""
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
        """Whether `mark` was called before, by whoever."""
        return os.fstat(self._fd).st_size > 0

    def mark(self) -> None:
        """Note in the file that there is something to lose. (Through this descriptor: closing another of the same file
        would end the lock.)"""
        try:
            if not self.is_marked():
                os.pwrite(self._fd, b"in use\n", 0)
        except OSError:
            pass  # then a loss of all files goes unnoticed

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._fd)


class DataDirectory:
    """The folder that --data-dir names: one master's at a time.

    DIR/lock          locked for as long as the master runs
    DIR/clock         a decimal number: all timestamps so far are below it (see control/clock.py)
    DIR/clock.part    the first such number, while it is being written
    DIR/clock.damaged-S    one that was no such number, set aside at the time S
    DIR/server-ID/    as described above

    Where the clock's number can't be read, or is missing beside stores, all records of all stores are read once, to
    find a bound.

    Whoever owns DIR is trusted with what is in it; other users aren't, where they can make files in it too.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder if need be, and lock it. Raises StorageError."""
        self.path = path
        try:
            _make_folder(path, sync=True)
            self._lock = Lock(path / "lock")
            if not self._lock.acquire():
                raise StorageError(f"{path}: in use by another master")
        except OSError as error:
            raise StorageError(f"{error.filename or path}: {error.strerror}") from error

    def read_clock(self) -> int:
        """The reserved bound, 0 where there is none yet. Raises DamagedClock, or StorageError where we may not read."""
        file = self.path / "clock"
        try:
            with open(_open(file, os.O_RDONLY), encoding="ascii") as opened:
                text = opened.read().strip()
            if not re.fullmatch("[0-9]{1,20}", text) or int(text) > LARGEST_CLOCK:
                raise ValueError
            return int(text)
        except FileNotFoundError:
            if any(self._store_files()):
                raise DamagedClock(f"{file}: missing, although there are stores") from None
            return 0
        except ValueError:
            raise DamagedClock(f"{file}: not a clock's bound") from None
        except OSError as error:
            kind = DamagedClock if error.errno == errno.EIO else StorageError
            raise kind(f"{file}: {error.strerror}") from error

    def find_bound(self, largest_in: Callable[[bytes], int]) -> tuple[int, list[str]]:
        """The largest number of the clock's in all stores here, and which of their files can't be read.

        *largest_in* tells it of a delta, and may raise ValueError or TypeError. Blocks for as long as it takes to read
        all; little of it is in memory at a time.
        """
        bound, unread = 0, []
        for path in self._store_files():
            try:
                bound = max(bound, _Scan(path, 0).largest_number(largest_in))
            except (OSError, StorageError, ValueError, TypeError):
                unread.append(printable(str(path)))
        return bound, unread

    def _store_files(self) -> Iterator[Path]:
        """All logs and snapshots, also those that are not complete, or were set aside."""
        for pattern in ("server-*/log.*", "server-*/snapshot.*"):
            yield from self.path.glob(pattern)

    def set_clock_aside(self, stamp: int) -> bool:
        """Keep a damaged clock under another name; returns whether there is one. Raises StorageError."""
        file = self.path / "clock"
        try:
            file.rename(file.with_name(f"clock.damaged-{stamp}"))
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"{file}: {error.strerror}") from error

    def write_clock(self, bound: int) -> None:
        """Reserve all timestamps up to *bound*: on the disk itself when this returns. Raises StorageError.

        The number is written over the old one, in one piece: that works on a full disk too. And where only the first
        digits come to be written, the number is not below the old one. The first gets its name when it is complete.
        """
        file, part = self.path / "clock", self.path / "clock.part"
        number = b"%020d\n" % bound
        try:
            try:
                _write_number(file, os.O_WRONLY, number)
            except FileNotFoundError:
                try:
                    _write_number(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, number)
                    part.rename(file)
                except OSError:
                    _remove(part)
                    raise
                _sync_folder(self.path)
        except OSError as error:
            raise StorageError(f"{file}: {error.strerror}") from error


def _write_number(file: Path, flags: int, number: bytes) -> None:
    fd = _open(file, flags)
    try:
        _write(fd, number, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
