"""The data directory: the folder that --data-dir names, with the master's clock and the folders of all servers.

May live here: the files of DIR itself, and the search for a bound of the clock in all stores. May not: how a server's
files are written and recovered (storage.py), the rules of the clock (clock.py), threads.

    DIR/lock             locked for as long as a master uses the directory
    DIR/clock            a decimal number: all timestamps so far are below it (see clock.py)
    DIR/clock.part       the first such number, while it is being written
    DIR/clock.damaged-S  a file that held no such number, set aside at the time S
    DIR/hosts            lines `ID HOST`: on which host the store of a server is, if it is on another machine; HOST is
                         as in a URL, %20 for a blank. DIR/hosts.part: the next such file, while it is written
    DIR/lock-HOST        on another machine: locked for as long as the agent of HOST (engine/agent.py) uses DIR there
    DIR/server-ID/       the files of one server, described in storage.py

If the number can't be read, or is missing although there are stores, all records of all stores are read once to find a
bound. The owner of DIR is trusted with what is in it. Other users aren't, even if they can make files in it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from records import Scan, StorageError, open_file, printable, remove, sync_folder, write_all
from storage import Lock, make_folder

__all__ = ["DamagedClock", "DataDirectory"]

LARGEST_CLOCK = 1 << 60
"""A larger bound is not valid: microseconds since 1970 reach this one in the year 38,500."""


class DamagedClock(StorageError):
    """DIR/clock should hold a bound, but doesn't."""


class DataDirectory:
    """A data directory, which one master uses at a time."""

    def __init__(self, path: Path) -> None:
        """Make the folder if necessary, and lock it. Raises StorageError."""
        self.path = path
        try:
            make_folder(path, sync=True)
            self._lock = Lock(path / "lock")
            if not self._lock.acquire():
                raise StorageError(f"{path}: in use by another master")
        except OSError as error:
            raise StorageError(f"{error.filename or path}: {error.strerror}") from error

    def read_clock(self) -> int:
        """The reserved bound, or 0 if there is none yet. Raises DamagedClock, or StorageError if reading is refused."""
        file = self.path / "clock"
        try:
            with open(open_file(file, os.O_RDONLY), encoding="ascii") as opened:
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
        """The largest number in all stores that the clock has issued, and the files that can't be read.

        *largest_in* finds it in a delta, and may raise ValueError or TypeError. Blocks for as long as it takes to read
        all records; few of them are in memory at a time.
        """
        bound, unread = 0, []
        for path in self._store_files():
            try:
                bound = max(bound, Scan(path, 0).largest_number(largest_in))
            except (OSError, StorageError, ValueError, TypeError):
                unread.append(printable(str(path)))
        return bound, unread

    def _store_files(self) -> Iterator[Path]:
        """All logs and snapshots, including those that are incomplete or were set aside."""
        for pattern in ("server-*/log.*", "server-*/snapshot.*"):
            yield from self.path.glob(pattern)

    def set_clock_aside(self, stamp: int) -> bool:
        """Rename a damaged clock, with *stamp* in its name; returns whether there was one. Raises StorageError."""
        file = self.path / "clock"
        try:
            file.rename(file.with_name(f"clock.damaged-{stamp}"))
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"{file}: {error.strerror}") from error

    def write_clock(self, bound: int) -> None:
        """Reserve all timestamps up to *bound*, which is on stable storage when this returns. Raises StorageError.

        The number overwrites the old one in place, which works on a full disk as well. If only its first digits are
        written, the result is not below the old number. The very first number gets its name once it is complete.
        """
        file, part = self.path / "clock", self.path / "clock.part"
        number = b"%020d\n" % bound
        try:
            try:
                _write(file, os.O_WRONLY, number)
            except FileNotFoundError:
                try:
                    _write(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, number)
                    part.rename(file)
                except OSError:
                    remove(part)
                    raise
                sync_folder(self.path)
        except OSError as error:
            raise StorageError(f"{file}: {error.strerror}") from error

    # -- hosts ---------------------------------------------------------------------------------------------

    def read_hosts(self) -> dict[int, str]:
        """Server id -> the host with its store, for those that are not on this machine. Raises StorageError."""
        file = self.path / "hosts"
        try:
            with open(open_file(file, os.O_RDONLY), encoding="ascii") as opened:
                lines = opened.read().splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{file}: {error.strerror if isinstance(error, OSError) else 'not what a master writes'}"
            ) from error
        from urllib.parse import unquote  # not at the top: a run on one machine has no such file

        found = [re.fullmatch(r"([0-9]{1,18}) (\S+)", line) for line in lines]
        if None in found:
            raise StorageError(f"{file}: line {found.index(None) + 1} does not say on which host a server is")
        return {int(match[1]): unquote(match[2]) for match in found if match}

    def write_hosts(self, hosts: Mapping[int, str]) -> None:
        """Remember on which hosts stores are. On stable storage when this returns. Raises StorageError."""
        from urllib.parse import quote

        file, part = self.path / "hosts", self.path / "hosts.part"
        text = "".join(f"{server} {quote(host, safe='')}\n" for server, host in sorted(hosts.items()))
        try:
            _write(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, text.encode("ascii"))
            part.rename(file)
            sync_folder(self.path)
        except OSError as error:
            remove(part)
            raise StorageError(f"{file}: {error.strerror}") from error


def _write(file: Path, flags: int, content: bytes) -> None:
    fd = open_file(file, flags)
    try:
        write_all(fd, content, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
