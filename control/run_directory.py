"""The folders that a run makes for itself: their names, and how to recognize the folders of this user's own runs.

May live here: these names, the file `owner`, and the conditions under which a folder is trusted. May not: anything
outside of Python's standard library, since scripts/cleanup.py uses this file and must work without any packages.

    /tmp/daadkvs-UID-HASH-RANDOM                   the *run directory*: sockets, and temporary stores; UID is
                                                   the user's, HASH is of this checkout's path. If /tmp can't be
                                                   written to, it is made where temporary files go (TMPDIR).
    /tmp/daadkvs-UID-HASH-RANDOM/owner             to which run it belongs, see below
    TMPDIR/daadkvs-UID-HASH-RANDOM-stores-RANDOM   temporary stores, if TMPDIR is not the folder above

The file `owner` has one line for each fact, written as soon as the fact is known:

    master PID START    START is the start time of the process, in the system's unit; PID and START identify a process
    stores-in "FOLDER"  the folder that contains the stores' folder, or soon will; a JSON string
    spawner PID START   the process that leads the session of all other processes of the run; their current folder is
                        the run directory
    agent [...]         with an engine, an agent on another host: the fields of `Agent` as JSON; a line for each

As long as the master lives, it holds a lock (flock) on the run directory itself. The lock shows reliably that the
master is alive, also across containers. Besides, systemd-tmpfiles does not remove a locked folder, however old its
files are.

Other users can also make folders in /tmp, with any name and any content, and exchange them at any moment. Therefore a
folder is trusted only after it has been opened and turned out to be no link, to belong to this user, and to be closed
to everybody else.
"""

from __future__ import annotations

import binascii
import errno
import fcntl
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Agent",
    "Owner",
    "Process",
    "RunDirectory",
    "check_length",
    "checkout_hash",
    "holds_run",
    "is_in_use",
    "open_private",
    "places",
    "process",
    "read_owner",
    "stores_prefix",
]

LONGEST_NAME = f"server-{'9' * 18}/snapshot.{'9' * 20}.damaged-{'9' * 20}"
"""The longest path of a file, relative to a folder of stores."""

OWNER_BYTES = 1 << 20
"""A size in bytes that the file `owner` never reaches."""


class Process(NamedTuple):
    """A process. Its id may be used again for another process later, but not together with the same start time."""

    pid: int
    started: str


class Agent(NamedTuple):
    """An agent of the run: its host's name, where the worker there listened, and after how many seconds it is lost."""

    host: str
    ip: str
    port: int
    host_timeout: float


class Owner(NamedTuple):
    """The content of the file `owner`. *spawner* and *stores_in* are None until they are known."""

    master: Process
    spawner: Process | None
    stores_in: str | None
    agents: tuple[Agent, ...] = ()


def process(pid: int) -> Process | None:
    """The process that has this id now; None if there is none, or /proc does not show it."""
    try:
        return Process(pid, Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


class RunDirectory:
    """The run directory of this process, which is a master, or an agent of one. Only this user can enter it."""

    def __init__(self, path: str | None = None) -> None:
        """Make the run directory, or take over the one at *path*. Raises OSError; then it does not exist."""
        self.path = path or _make_folder(_base(), _stem())
        """The absolute path."""
        self._folder = open_private(self.path)
        self.temporary = [self.path]
        """All folders that are removed at the end of the run, in the order of their removal. The run directory comes
        last, since its file `owner` names the others."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX)
            self._note("master", process(os.getpid()))
        except BaseException:
            self.remove()
            raise

    def make_stores(self) -> Path:
        """Make or choose the folder for stores that are removed at the end of the run. Raises OSError."""
        base = _temporary()
        if base == os.path.dirname(self.path):
            return Path(self.path, "stores")
        import json  # not at the top, since the master must start fast

        self._append(f"stores-in {json.dumps(base)}\n")  # first, so that cleanup.py can find the folder in any case
        stores = _make_folder(base, stores_prefix(os.path.basename(self.path)))
        os.close(open_private(stores))
        self.temporary.insert(0, stores)
        return Path(stores)

    def note_spawner(self, pid: int) -> None:
        """Record which process leads the session of all others. Raises OSError."""
        self._note("spawner", process(pid))

    def note_agent(self, agent: Agent) -> None:
        """Record an agent, which may have taken the place of a former one on its host. Raises OSError."""
        import json

        self._append(f"agent {json.dumps(agent)}\n")

    def _note(self, what: str, named: Process | None) -> None:
        if named is None:
            raise FileNotFoundError(errno.ENOENT, "shows no processes", "/proc")
        self._append(f"{what} {named.pid} {named.started}\n")

    def _append(self, line: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open("owner", flags, 0o600, dir_fd=self._folder)
        try:
            os.write(fd, line.encode("ascii"))
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove all folders in `temporary`, and release the lock."""
        self.remove_folders()
        os.close(self._folder)

    def remove_folders(self) -> None:
        """Remove all folders in `temporary`, as far as they are still there. Raises nothing.

        (`shutil.rmtree` also defends itself against others who exchange folders meanwhile, which nobody can do below a
        folder of this user's own; and it takes longer to import than the removal takes.)
        """
        for top in self.temporary:
            for folder, folders, files in os.walk(top, topdown=False):
                for remove, names in ((os.unlink, files), (_remove_folder, folders)):
                    for name in names:
                        with suppress(OSError):
                            remove(os.path.join(folder, name))
            with suppress(OSError):
                os.rmdir(top)


def checkout_hash() -> str:
    """What the names of all run directories of this checkout have in common, whichever user and machine they are of."""
    checkout = os.fsencode(Path(__file__).resolve().parent.parent)
    return f"{binascii.crc32(checkout):08x}{binascii.crc_hqx(checkout, 0):04x}"


def _stem() -> str:
    """The beginning of the name of each run directory that this user has made from this checkout."""
    return f"daadkvs-{os.geteuid()}-{checkout_hash()}-"


def holds_run(name: str) -> bool:
    """Whether a folder with this name may be a run directory that this user has made from this checkout."""
    return re.fullmatch(re.escape(_stem()) + "[a-z0-9_]+", name) is not None


def stores_prefix(run: str) -> str:
    """The beginning of the name of a run's folder of stores; *run* is the name of its run directory."""
    return f"{run}-stores-"


def _remove_folder(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    else:
        os.rmdir(path)


def _make_folder(base: str, stem: str) -> str:
    """Make a folder with a new name, as `tempfile.mkdtemp` does, which takes longer to import. Raises OSError."""
    while True:
        path = os.path.join(os.path.abspath(base), stem + os.urandom(4).hex())
        try:
            os.mkdir(path, 0o700)
            return path
        except FileExistsError:
            pass  # of four billion names, some may be taken


def _temporary() -> str:
    """The folder in which temporary files are made. Raises OSError if nothing can be written anywhere."""
    if any(name in os.environ for name in ("TMPDIR", "TEMP", "TMP")) or not _can_write("/tmp"):
        import tempfile

        return tempfile.gettempdir()
    return "/tmp"


def _can_write(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _base() -> str:
    """The folder in which run directories are made: /tmp, if possible, since sockets need short paths.

    Raises OSError if no folder can be written to.
    """
    return "/tmp" if _can_write("/tmp") else _temporary()


def places() -> list[str]:
    """The folders that may contain this user's run directories, as far as they are known without any process."""
    try:
        return sorted({"/tmp", _temporary()})
    except OSError:  # nothing can be written anywhere
        return ["/tmp"]


def open_private(path: str, below: int | None = None) -> int:
    """A descriptor of a folder that belongs to this user and that nobody else can enter.

    *path* is relative to the folder with the descriptor *below*, if that is given. Raises PermissionError if this is no
    such folder, or a link to one, and OSError if it can't be opened.
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
    """Raise OSError if the path of a folder is too long for the files of stores in it."""
    try:
        os.lstat(stores / LONGEST_NAME)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OSError(error.errno, "the path is too long for the files of stores", str(stores)) from error


def is_in_use(folder: int) -> bool:
    """Whether the master of the run directory with this descriptor is alive; False if the system has no locks."""
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(folder, fcntl.LOCK_UN)
    return False


def read_owner(folder: int) -> Owner | None:
    """The content of the file `owner` in the run directory with this descriptor; None if there is no valid one."""
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
    lines = [line.split(" ", 1) for line in text.split("\n") if " " in line]
    facts = {what: fact for what, fact in lines if what != "agent"}
    master = _named(facts.get("master", ""))
    if master is None:
        return None
    agents = (_agent(fact) for what, fact in lines if what == "agent")
    return Owner(
        master,
        _named(facts.get("spawner", "")),
        _folder_of(facts.get("stores-in", "")),
        tuple(agent for agent in agents if agent is not None),
    )


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


def _agent(fact: str) -> Agent | None:
    import json

    try:
        host, ip, port, host_timeout = json.loads(fact)
        return Agent(str(host), str(ip), int(port), float(host_timeout))
    except (ValueError, TypeError):
        return None
