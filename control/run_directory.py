"""The folders that a run makes for itself: what they are called, whose they are, and who may have made them.

May live here: their names, the note in them, and what makes one trustworthy. May not: anything that isn't part of
Python itself, since scripts/cleanup.py shares this and must work where nothing else is installed.

    /tmp/daadkvs-UID-HASH-RANDOM                   the *run directory*: sockets, and stores that go with the run; UID is
                                                   the user's, HASH is of this checkout's path. Where /tmp can't be
                                                   written to, it stands where temporary files go (TMPDIR).
    /tmp/daadkvs-UID-HASH-RANDOM/owner             whose it is, see below
    TMPDIR/daadkvs-UID-HASH-RANDOM-stores-RANDOM   stores that go with the run, where TMPDIR isn't the folder above

The file `owner` has one line for each fact, as it becomes known:

    master PID START    START is the start time of the process, in the system's own unit: with PID, it names it for ever
    stores-in "FOLDER"  where the stores' folder stands, or will at once; a JSON string
    spawner PID START   the process whose session all others of the run are in; their current folder is the run
                        directory

For as long as the master lives it holds a lock (flock) on the run directory itself. That tells for certain that it
does, across containers too; and systemd-tmpfiles spares a folder with a lock, however old the files in it are.

Others can make folders in /tmp as well, with any name and any content, and exchange them at any moment. So nothing
is believed of a folder before it has been opened, and found to be this user's, entered by nobody else, and no link.
"""

from __future__ import annotations

import binascii
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Owner",
    "Process",
    "RunDirectory",
    "check_length",
    "holds_run",
    "is_in_use",
    "open_private",
    "places",
    "process",
    "read_owner",
    "stores_prefix",
]

LONGEST_NAME = f"server-{'9' * 18}/snapshot.{'9' * 20}.damaged-{'9' * 20}"
"""Of the files in a folder of stores."""

OWNER_BYTES = 64 << 10
"""More than any note has."""


class Process(NamedTuple):
    """A process, known for ever: ids are used again, the two together aren't."""

    pid: int
    started: str


class Owner(NamedTuple):
    """What the note in a run directory says. *spawner* and *stores_in* are None until they are known."""

    master: Process
    spawner: Process | None
    stores_in: str | None


def process(pid: int) -> Process | None:
    """The process that has this id now; None where there is none, or it can't be looked at."""
    try:
        return Process(pid, Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


class RunDirectory:
    """The run directory of this process, the master. Only this user can enter it."""

    def __init__(self) -> None:
        """Make it. Raises OSError; then there is none."""
        self.path = tempfile.mkdtemp(prefix=_stem(), dir=_base())
        """From the root."""
        self._folder = open_private(self.path)
        self.temporary = [self.path]
        """All folders that go with the run, in the order in which they are to be removed: this one last, since it
        tells where the others are."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX)
            self._note("master", process(os.getpid()))
        except BaseException:
            self.remove()
            raise

    def make_stores(self) -> Path:
        """The folder of stores that go with the run: where TMPDIR says. Raises OSError."""
        base = tempfile.gettempdir()
        if base == os.path.dirname(self.path):
            return Path(self.path, "stores")
        import json  # not at the top: the master must start fast

        self._append(f"stores-in {json.dumps(base)}\n")  # first, so that nothing stands anywhere without a trace
        stores = tempfile.mkdtemp(prefix=stores_prefix(os.path.basename(self.path)), dir=base)
        os.close(open_private(stores))
        self.temporary.insert(0, stores)
        return Path(stores)

    def note_spawner(self, pid: int) -> None:
        """Say which process leads the session of all others. Raises OSError."""
        self._note("spawner", process(pid))

    def _note(self, what: str, named: Process | None) -> None:
        if named is None:
            raise FileNotFoundError(errno.ENOENT, "nothing tells of processes here", "/proc")
        self._append(f"{what} {named.pid} {named.started}\n")

    def _append(self, line: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open("owner", flags, 0o600, dir_fd=self._folder)
        try:
            os.write(fd, line.encode("ascii"))
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove all of `temporary`, and end the lock."""
        for folder in self.temporary:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(self._folder)


def _stem() -> str:
    """How the names of this user's run directories of this checkout begin."""
    checkout = os.fsencode(Path(__file__).resolve().parent.parent)
    return f"daadkvs-{os.geteuid()}-{binascii.crc32(checkout):08x}{binascii.crc_hqx(checkout, 0):04x}-"


def holds_run(name: str) -> bool:
    """Whether a folder of this name may be a run directory of this user's, of this checkout."""
    return re.fullmatch(re.escape(_stem()) + "[a-z0-9_]+", name) is not None


def stores_prefix(run: str) -> str:
    """How the name of a folder of stores begins; *run* is the name of the run directory."""
    return f"{run}-stores-"


def _base() -> str:
    """Where a run directory is made: the shortest path that there is. Raises OSError where nothing can be written."""
    return "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()


def places() -> list[str]:
    """Where this user's run directories may stand; where else some are is told by the processes of those runs."""
    try:
        return sorted({"/tmp", tempfile.gettempdir()})
    except OSError:  # nothing can be written anywhere
        return ["/tmp"]


def open_private(path: str, below: int | None = None) -> int:
    """A descriptor of a folder of this user's that nobody else can enter, and no link to one.

    *path* is relative to the folder *below*, if that is given. Raises PermissionError where it isn't such a folder,
    OSError where it can't be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=below)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise _not_private(path) from error
        raise
    if not _is_private(fd):
        os.close(fd)
        raise _not_private(path)
    return fd


def _is_private(folder: int) -> bool:
    found = os.fstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o777 == 0o700


def _not_private(path: str) -> PermissionError:
    return PermissionError(errno.EPERM, "not a folder that this user alone can enter", path)


def check_length(stores: Path) -> None:
    """Raise OSError where a folder's path is too long for the files of stores in it."""
    try:
        os.lstat(stores / LONGEST_NAME)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OSError(error.errno, "too long a path for the files of stores", str(stores)) from error


def is_in_use(folder: int) -> bool:
    """Whether the master of the run directory with this descriptor lives; False where the system knows no locks."""
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(folder, fcntl.LOCK_UN)
    return False


def read_owner(folder: int) -> Owner | None:
    """What the note in the run directory with this descriptor says; None where there is none that counts."""
    try:
        fd = os.open("owner", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return None
        text = os.read(fd, OWNER_BYTES).decode("ascii", "replace")
    except OSError:
        return None
    finally:
        os.close(fd)
    return _parsed(text)


def _parsed(text: str) -> Owner | None:
    facts = dict(line.split(" ", 1) for line in text.split("\n") if " " in line)
    master = _named(facts.get("master", ""))
    return master and Owner(master, _named(facts.get("spawner", "")), _folder_of(facts.get("stores-in", "")))


def _named(fact: str) -> Process | None:
    match = re.fullmatch("([0-9]{1,18}) ([0-9]{1,20})", fact)
    return match and Process(int(match[1]), match[2])


def _folder_of(fact: str) -> str | None:
    import json

    try:
        folder = json.loads(fact)
    except ValueError:
        return None
    return folder if isinstance(folder, str) and os.path.isabs(folder) and "\0" not in folder else None
