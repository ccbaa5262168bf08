"""The format of logs and snapshots: how records are appended to a file, and how they are found in it again.

May live here: the format of a record, what reads and writes one file of records, and the errors that this raises. May
not: which files there are and what follows from damage in them (storage.py), what a delta means (model.py), threads.
`RecordFile` has a lock because other threads sync and close the file that one thread appends to.

Each file is a sequence of records:

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
    |      | length of the log before this one, or 0, lineage]. The lineage tells which files     |
    |      | belong together: it is the stamp of the start that wrote the first of them           |
    | 'D'  | a delta, as model.py packs it: [writes, context or nil]; one for all that was        |
    |      | acknowledged together                                                                |
    | 'G'  | a delta of a group of commands (see groups.py): the group's number, 8 bytes, and the |
    |      | delta                                                                                |
    | 'E'  | last in a snapshot: its number of deltas, msgpack                                    |

A scan keeps every record whose checks are right, also behind damage, and reports the rest with its offset. Only the end
of a log may be incomplete without being damaged: a write that the end of the process or of the machine has cut short
leaves a *torn* record, which was never acknowledged.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack

__all__ = [
    "HEADER",
    "Progress",
    "RecordFile",
    "Scan",
    "StorageError",
    "begin_file",
    "file_header",
    "group_body",
    "link_target",
    "open_file",
    "pack_record",
    "printable",
    "remove",
    "sync_folder",
    "sync_path",
    "write_all",
]

FORMAT = 1
MAGIC = b"\x9bDkr"
HEADER = struct.Struct("<4sIII")
_OFFSET = struct.Struct("<Q")
_GROUP = struct.Struct("<Q")

LOAD_BYTES = 1 << 20
"""How much of a file is read at a time."""
BLOCK_BYTES = 4 << 10
"""The unit in which a damaged disk is read: either all of a block can be read, or nothing."""


class StorageError(Exception):
    """A file could not be used; the text names it and the reason. Nothing was stored."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def printable(text: str) -> str:
    """The text with all bytes escaped that are not UTF-8, as the names of files may have them."""
    return text.encode("utf-8", "backslashreplace").decode()


class Progress:
    """How far a start has got. Any thread may read it."""

    def __init__(self) -> None:
        self.done = 0
        """About how many bytes have been handled. It rises as long as there is progress."""

    def advance(self, amount: int) -> None:
        """Count *amount* more bytes as handled."""
        self.done += amount


# -- packing records ---------------------------------------------------------------------------------------


def pack_record(offset: int, kind: bytes, body: bytes) -> bytes:
    """The bytes of a record that will stand at *offset* of its file."""
    payload_check = zlib.crc32(body, zlib.crc32(kind))
    length = len(body) + 1
    return HEADER.pack(MAGIC, length, payload_check, _header_check(offset, length, payload_check)) + kind + body


def _header_check(offset: int, length: int, payload_check: int) -> int:
    return zlib.crc32(_OFFSET.pack(offset) + HEADER.pack(MAGIC, length, payload_check, 0)[:12])


def file_header(what: str, generation: int, lineage: int, before: int = 0) -> bytes:
    """The body of the first record of a log or a snapshot; *before* is the length of the log before this one."""
    packed: bytes = msgpack.packb([f"daadkvs {what}", FORMAT, generation, before, lineage])
    return packed


def group_body(group: int, delta: bytes) -> bytes:
    """The body of a record of kind 'G'."""
    return _GROUP.pack(group) + delta


# -- scanning a file ---------------------------------------------------------------------------------------


class Scan:
    """The result of scanning one file: where its valid records are, and what is wrong with it."""

    def __init__(self, path: Path, expected: int | None = None, progress: Progress | None = None) -> None:
        """Read and check the whole file. Blocks. Raises OSError, StorageError.

        *expected* is the length that a log must have at least. A record that the end of the file cuts off is torn
        if it begins at or behind that offset. If it begins before it, or if the length is unknown, it is damage.
        """
        self.path = path
        self._expected = expected
        self._progress = progress or Progress()
        self.records: list[tuple[bytes, int, int]] = []
        """Kind, start and end of the body."""
        self.damages: list[str] = []
        """A line for each, with the file and the offset."""
        self.torn_at: int | None = None
        fd = open_file(path, os.O_RDONLY)
        try:
            self.size = os.fstat(fd).st_size
            self._data = self._load(fd, self.size) if self.size else b""
        finally:
            os.close(fd)
        self._walk(self.size)
        if expected is not None and self.size < expected:
            self._damage(self.size, f"the file has been truncated; it had {expected} bytes")
        self.header()
        if path.name.startswith("snapshot") and not self._is_whole_snapshot():
            self._damage(self.size, "the snapshot has no valid end")

    def _load(self, fd: int, size: int) -> mmap.mmap | bytes:
        """The content of the file, with zeros in the place of what the disk can't read, which is damage.

        The file is read before it is mapped, since touching an unreadable page of a mapping would end the process.
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
        """Go from record to record; behind an invalid header, search for the next valid one."""
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
        """The length of the payload by the header at *offset*; None if there is no valid header."""
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

    def _damage(self, offset: int, what: str) -> None:
        self.damages.append(printable(f"{self.path}: offset {offset}: {what}"))

    def _is_whole_snapshot(self) -> bool:
        if not self.records or self.records[-1][0] != b"E":
            return False
        deltas = sum(kind == b"D" for kind, _, _ in self.records)
        return bool(msgpack.unpackb(self._body(*self.records[-1][1:])) == deltas)

    def _body(self, start: int, end: int) -> bytes:
        return self._data[start:end]

    def header(self) -> list[Any]:
        """The fields of the file's header, or an empty list if it can't be read. Raises StorageError."""
        if not self.records or self.records[0][0] != b"H":
            return []
        header: list[Any] = msgpack.unpackb(self._body(*self.records[0][1:]))
        if header[1] != FORMAT:
            raise StorageError(f"{self.path}: written by another version, in format {header[1]} instead of {FORMAT}")
        return header

    @property
    def lineage(self) -> int | None:
        """Which files this one belongs to; None if that is unknown."""
        return next(iter(self.header()[4:]), None)

    @property
    def length_before(self) -> int | None:
        """How long the log before this one was when this one was begun; None if that is unknown."""
        header = self.header()
        return int(header[3]) or None if header else None

    @property
    def end(self) -> int:
        """Where the file ends, without a torn record."""
        return self.size if self.torn_at is None else self.torn_at

    def require_header(self) -> None:
        """Report damage if the file is empty, or ends within its first record."""
        if not self.records and not self.damages:
            self._damage(0, "the file is empty" if self.torn_at is None else "the file ends within its header")
            self.torn_at = None

    def require_place(self, generation: int, lineage: int) -> None:
        """Report damage if the file belongs elsewhere according to its header."""
        header = self.header()
        if header and header[2] != generation:
            self._damage(0, f"the file belongs to generation {header[2]}")
        elif self.lineage not in (None, lineage):
            self._damage(0, "the file belongs to another store")

    def deltas(self) -> Iterator[bytes]:
        """All deltas that can be read, in the order in which they were written."""
        for kind, start, end in self.records:
            self._progress.advance(end - start)
            if kind == b"D":
                yield self._body(start, end)
            elif kind == b"G":
                yield self._body(start + _GROUP.size, end)

    def largest_number(self, largest_in: Callable[[bytes], int]) -> int:
        """The largest number in the file that the master's clock has issued; *largest_in* finds it in a delta."""
        groups = (self._body(start, start + _GROUP.size) for kind, start, _ in self.records if kind == b"G")
        numbers = (_GROUP.unpack(group)[0] for group in groups)
        return max(self.lineage or 0, max(numbers, default=0), max(map(largest_in, self.deltas()), default=0))

    def last_group(self) -> tuple[int, int] | None:
        """The number and the offset of the group whose record is the last of the file; None if another one is."""
        if not self.records or self.records[-1][0] != b"G":
            return None
        _, start, end = self.records[-1]
        if end != self.end:
            return None  # something unreadable follows
        return _GROUP.unpack(self._body(start, start + _GROUP.size))[0], start - 1 - HEADER.size


# -- appending to a file -----------------------------------------------------------------------------------


class RecordFile:
    """A file to which records are appended. A failed append leaves nothing behind.

    A file whose `sync` has failed is never synced again: the system may have dropped what it could not write, and a
    second fsync would succeed nevertheless (known as *fsyncgate*). `failure` is the reason.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        """Open or make the file; the first record goes to offset *size*. Raises OSError."""
        self.path = path
        self.size = size
        self.synced = 0
        """How many bytes of it are certainly on stable storage."""
        self.failure: str | None = None
        self._closing = threading.Lock()  # so that no thread syncs another file that has got the same descriptor
        self._fd = open_file(path, os.O_RDWR | os.O_CREAT)
        self._dirty_tail = os.fstat(self._fd).st_size > size

    def append(self, kind: bytes, body: bytes, sync: bool = False) -> None:
        """Write a record. Raises StorageError; then the file is as it was, or will be before the next append."""
        record = pack_record(self.size, kind, body)
        try:
            if self._dirty_tail:
                self.cut_tail()
            self._dirty_tail = True
            write_all(self._fd, record, self.size)
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
        """Cut off what may follow the last whole record. Raises OSError."""
        if self._dirty_tail:
            os.ftruncate(self._fd, self.size)
            self._dirty_tail = False

    def sync(self) -> None:
        """Bring the file to stable storage, unless it is closed. Blocks. Any thread may call it.

        Raises StorageError; after that, it always does.
        """
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
        """Close the file. Waits for a sync that is under way. May be called more than once."""
        with self._closing:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def discard(self) -> None:
        """Close and remove the file, as far as that is possible."""
        self.close()
        remove(self.path)


def begin_file(path: Path, header: bytes, sync: bool = False) -> RecordFile:
    """A new file with its header. If that can't be written, no file is left. Raises StorageError, OSError."""
    file = RecordFile(path)
    try:
        file.append(b"H", header, sync)
    except StorageError:
        file.discard()
        raise
    return file


# -- calls of the file system ------------------------------------------------------------------------------


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of *data*. Raises OSError."""
    done = 0
    with memoryview(data) as view:
        while done < len(data):
            done += os.pwrite(fd, view[done:], offset + done)


def remove(path: Path) -> None:
    """Delete a file if that is possible. If not, recovery ignores it."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass


def open_file(path: Path, flags: int) -> int:
    """Open a file of a store, and return its descriptor. Raises OSError, also for a pipe and for a foreign link.

    A link that another user has made could have this user's own files read or overwritten elsewhere.
    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe would block otherwise
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        fd = os.open(link_target(path), flags, 0o600)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "a pipe, not a file", str(path))
    return fd


def link_target(link: Path) -> Path:
    """Where a link leads that this user or root has made. Raises OSError if it is another user's, or no link."""
    fd = os.open(link, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "a link that another user has made", str(link))
        return link.parent / os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)


def sync_path(path: Path) -> None:
    """Bring a file or the names in a folder to stable storage. Blocks. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to stable storage, if permissions and the file system allow it. Raises OSError."""
    try:
        sync_path(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EBADF, errno.EINVAL):
            raise
