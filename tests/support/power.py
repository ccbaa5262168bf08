"""A disk whose power can be cut: what it might hold afterwards, at any moment.

`with Disk(root) as disk:` watches the calls that change files and folders below *root* (all of them are carried out,
except for fsync), and knows which changes have been synced. `disk.cuts()` goes through the moments, one call after
another; at each of them, `image` writes what a loss of power might have left into a new folder. POSIX promises no more
than this:

- what was written to a file is on the disk once the file has been synced. Before that, any part of the writes may be
  there, up to the middle of one; the file may also have its new length already, filled with zeros;
- a name that was made, changed or removed in a folder is durable once the folder has been synced. Before that, each of
  these changes may or may not be on the disk. That a file was synced says nothing about its name;
- if a sync fails, what should have been written may be lost, although a later sync succeeds.

`disk.failing` makes syncs of files fail. Only calls through `os` are seen: pathlib makes such calls, the
built-in open doesn't.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

WATCHED = ("open", "close", "pwrite", "ftruncate", "truncate", "fsync", "mkdir", "rename", "unlink")


class _File:
    """What is certainly on the disk, and the changes since: (offset, data), or (size, None) for a truncation."""

    def __init__(self, content: bytes = b"") -> None:
        self.durable = content
        self.pending: list[tuple[int, bytes | None]] = []

    def sync(self) -> None:
        content = bytearray(self.durable)
        for change in self.pending:
            _apply(content, *change)
        self.durable, self.pending = bytes(content), []

    def lose(self, chance: Random) -> None:
        """Note that a sync has failed: some of the writes will never be on the disk, whatever is synced later."""
        self.pending = [change for change in self.pending if change[1] is None or chance.random() < 0.3]

    def survivor(self, chance: Random | None, zeros: bool) -> bytes:
        content = bytearray(self.durable)
        if chance is None or not self.pending:
            return bytes(content)
        whole = chance.randrange(len(self.pending) + 1)
        for change in self.pending[:whole]:
            _apply(content, *change)
        for offset, data in self.pending[whole : whole + 1]:
            if data is not None:
                length = max(len(content), offset + len(data))
                _apply(content, offset, data[: chance.randrange(len(data))])
                if zeros:
                    content.extend(bytes(length - len(content)))
        return bytes(content)


class _Folder:
    """The names that are certainly on the disk, and the changes since, each of which is atomic."""

    def __init__(self) -> None:
        self.durable: dict[str, _File | _Folder] = {}
        self.pending: list[dict[str, _File | _Folder | None]] = []

    def sync(self) -> None:
        self.durable, self.pending = self.survivors(None, everything=True), []

    def survivors(self, chance: Random | None, everything: bool = False) -> dict[str, _File | _Folder]:
        names: dict[str, Any] = dict(self.durable)
        for change in self.pending:
            if everything or (chance is not None and chance.random() < 0.5):
                names.update(change)
        return {name: node for name, node in names.items() if node is not None}


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


class Disk:
    """Watches a folder. What is in it at first is certainly on the disk."""

    def __init__(self, root: Path) -> None:
        self.events: list[Callable[[], None]] = []
        """The changes that the calls made, one by one. Their number serves as the time."""
        self.failing: Callable[[], bool] = lambda: False
        """Decides at each sync of a file whether it fails."""
        self._root = root
        self._top = _Folder()
        self._now: dict[Path, _File | _Folder] = {}
        self._open: dict[int, _File | _Folder] = {}
        self._real: dict[str, Any] = {}
        self._read(root, self._top)

    def _read(self, path: Path, folder: _Folder) -> None:
        self._now[path] = folder
        for entry in path.iterdir():
            if entry.is_dir():
                below = folder.durable[entry.name] = _Folder()
                self._read(entry, below)
            else:
                self._now[entry] = folder.durable[entry.name] = _File(entry.read_bytes())

    # -- watching ------------------------------------------------------------------------------------------

    def __enter__(self) -> Disk:
        self._real = {name: getattr(os, name) for name in WATCHED}
        for name in WATCHED:
            setattr(os, name, getattr(self, f"_{name}_call"))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def _names(self, folder: Path, change: dict[str, _File | _Folder | None]) -> None:
        node = self._now[folder]
        assert isinstance(node, _Folder)
        self.events.append(lambda: node.pending.append(change))

    def _changed(self, node: _File | _Folder | None, offset: int, data: bytes | None) -> None:
        if isinstance(node, _File):
            self.events.append(lambda: node.pending.append((offset, data)))

    def _made(self, path: Path, node: _File | _Folder) -> None:
        self._now[path] = node
        self._names(path.parent, {path.name: node})

    def _open_call(self, path: Any, flags: int, *mode: int, **options: Any) -> int:
        there = os.path.lexists(path)
        fd: int = self._real["open"](path, flags, *mode, **options)
        path = Path(path)
        if self._root in (path, *path.parents):
            if not there:
                self._made(path, _File())
            elif flags & os.O_TRUNC:
                self._changed(self._now[path], 0, None)
            self._open[fd] = self._now[path]
        return fd

    def _close_call(self, fd: int) -> None:
        self._open.pop(fd, None)
        self._real["close"](fd)

    def _pwrite_call(self, fd: int, data: Any, offset: int) -> int:
        done: int = self._real["pwrite"](fd, data, offset)
        self._changed(self._open.get(fd), offset, bytes(data[:done]))
        return done

    def _ftruncate_call(self, fd: int, size: int) -> None:
        self._real["ftruncate"](fd, size)
        self._changed(self._open.get(fd), size, None)

    def _truncate_call(self, path: Any, size: int) -> None:
        self._real["truncate"](path, size)
        self._changed(self._now.get(Path(path)), size, None)

    def _fsync_call(self, fd: int) -> None:
        node = self._open.get(fd)
        if isinstance(node, _File) and self.failing():
            seed = len(self.events)
            self.events.append(lambda: node.lose(Random(seed)))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if node is not None:  # it isn't carried out, since that would only take time
            self.events.append(node.sync)

    def _mkdir_call(self, path: Any, *mode: int, **options: Any) -> None:
        self._real["mkdir"](path, *mode, **options)
        if self._root in Path(path).parents:
            self._made(Path(path), _Folder())

    def _rename_call(self, old: Any, new: Any, **options: Any) -> None:
        self._real["rename"](old, new, **options)
        old, new = Path(old), Path(new)
        if old in self._now:
            assert old.parent == new.parent, "not needed so far"
            node = self._now[new] = self._now.pop(old)
            self._names(old.parent, {old.name: None, new.name: node})

    def _unlink_call(self, path: Any, **options: Any) -> None:
        self._real["unlink"](path, **options)
        if self._now.pop(Path(path), None) is not None:
            self._names(Path(path).parent, {Path(path).name: None})

    # -- cutting -------------------------------------------------------------------------------------------

    def cuts(self) -> Iterator[int]:
        """The moments from the first to the last, once. Before each but the first, one more of `events` happens."""
        yield 0
        for time, event in enumerate(self.events, 1):
            event()
            yield time

    def image(self, folder: Path, chance: Random | None = None, zeros: bool = False) -> None:
        """Write what a loss of power at this moment leaves: only what is certain or, with *chance*, a random part more.

        With *zeros*, files may have been extended by zeros.
        """
        self._write(self._top, folder, chance, zeros)

    def _write(self, node: _Folder, path: Path, chance: Random | None, zeros: bool) -> None:
        path.mkdir(parents=True)
        for name, below in node.survivors(chance).items():
            if isinstance(below, _Folder):
                self._write(below, path / name, chance, zeros)
            else:
                (path / name).write_bytes(below.survivor(chance, zeros))
