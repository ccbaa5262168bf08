"""No room: a run reaches a limit on processes and threads, or on memory, at any point.

The limit on processes (ulimit -u; a container's pids.max works the same) doesn't hold for root. So where root runs
these tests, the runs are another user's: one that has no name, and nothing else running.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from checking.driver import ROOT, Conversation, Result, run
from storage import Lock

NO_GOSSIP = ("--gossip-interval", "0")
NO_THREAD = (
    "no thread can be started: the system's limit on processes or on memory is reached (ulimit -u, ulimit -v, pids.max)"
)
NO_PROCESS = "no process can be started: Resource temporarily unavailable"

_uids = itertools.count(300_000 + os.getpid() * 50)


def another_user() -> tuple[int, tuple[str, ...]]:
    """An unused user, who may read everything that we may, and the command that becomes this user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None or shutil.which("prlimit") is None:
        pytest.skip("setpriv or prlimit is missing")
    uid = next(_uids)
    only = "-all,+dac_read_search"
    rights = [f"--{kind}={only}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return uid, ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *rights)


def left_by(uid: int) -> list[str]:
    """Processes and folders of a user."""
    found = []
    for path in (*Path("/proc").iterdir(), *Path("/tmp").glob("daadkvs-*")):
        try:
            if (path.name.isdigit() or path.parent.name == "tmp") and path.stat().st_uid == uid:
                found.append(str(path))
        except OSError:
            pass  # it has just gone
    return found


SCRIPT = """joinServer 0
joinServer 1
joinClient 5 0
put 5 k v
put 5 l v
get 5 k
joinClient 6 1
put 6 k w
stabilize
printStore 0
killServer 1
joinServer 1
get 6 k
"""
PRINTED = b"k:v\nk:w\nl:v\nk:w\n"
ID_IS_OUT = r"(server|client) \d is not running|client \d has only server \d, which is not running"
NO_ROOM = f"({re.escape(NO_THREAD)}|{NO_PROCESS})"
KNOWN = re.compile(
    rf"error: line \d+: \w+: ({ID_IS_OUT}|(server|client) \d could not be started: {NO_ROOM}"
    rf"|server \d: {NO_ROOM}|server \d: no updates can be fetched from server \d: {NO_ROOM})"
)


@pytest.mark.parametrize(
    "options", [(), ("--no-pipeline", "--fsync", "interval", "--gossip-interval", "0.01")], ids=str
)
def test_with_room_for_any_number_of_processes_a_run_ends_and_reports_what_was_lacking(
    options: tuple[str, ...],
) -> None:
    """The limits begin with room for the master alone, and end with room for everything."""
    met = set()
    for room in range(1, 60):
        uid, become = another_user()
        result = run(SCRIPT, *options, prefix=(*become, "prlimit", f"--nproc={room}"))
        assert left_by(uid) == []
        if result == Result(PRINTED, "", 0):
            break
        if room == 1:
            assert result == Result(b"", "error: could not be started: Resource temporarily unavailable\n", 2)
            continue
        assert [error for error in result.errors if not KNOWN.fullmatch(error)] == [], room
        assert result.status == 1
        met |= {re.sub(r"line \d+|\d", "", error) for error in result.errors}
    else:
        pytest.fail("there was never room")
    for what in ("server  could not be started: no p", "server  could not be started: no t", "put: server : no thread"):
        assert any(what in error for error in met), (what, met)


class Run(Conversation):
    """A run of another user's."""

    def __init__(self) -> None:
        self._become = another_user()[1]
        super().__init__(*NO_GOSSIP, prefix=self._become)

    def limit(self, name: str) -> Callable[[], None]:
        """Give a process no room for another thread or process; returns a function that takes this back."""
        pid = self.pids()[name]

        def set_limit(room: int) -> None:
            subprocess.run([*self._become, "prlimit", f"--pid={pid}", f"--nproc={room}:"], check=True)

        set_limit(0)
        return lambda: set_limit(10_000)


def test_a_spawner_without_room_reports_it_and_goes_on_when_there_is_room() -> None:
    with Run() as conversation:
        assert conversation.do("joinServer 0").errors == []
        take_back = conversation.limit("spawner")
        assert conversation.do("joinServer 1\njoinClient 5 0").errors == [
            f"joinServer: server 1 could not be started: {NO_PROCESS}",
            f"joinClient: client 5 could not be started: {NO_PROCESS}",
        ]
        take_back()
        assert conversation.do("joinServer 1\njoinClient 5 0\nget 5 k") == (b"k:ERR_KEY\n", [])


def test_a_watchdog_without_room_reports_it_and_goes_on_when_there_is_room() -> None:
    with Run() as conversation:
        assert conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v\nkillServer 0").errors == []
        take_back = conversation.limit("watchdog 0")
        assert conversation.do("joinServer 0").errors == [f"joinServer: server 0 could not be started: {NO_PROCESS}"]
        take_back()
        assert conversation.do("joinServer 0\nget 5 k") == (b"k:v\n", [])


@pytest.mark.parametrize("commands", ["put 5 k v", "put 5 k v\nput 5 l v\nget 5 k"])
def test_a_server_without_room_refuses_new_connections_and_lives(commands: str) -> None:
    """Its existing connections go on. Nothing is uncertain, and the others are served when there is room."""
    with Run() as conversation:
        assert conversation.do("joinServer 0\njoinServer 1\njoinClient 4 0\njoinClient 5 0\nput 4 m v").errors == []
        take_back = conversation.limit("server 0")
        names = [command.split()[0] for command in commands.splitlines()]
        assert conversation.do(commands).errors == [f"{name}: server 0: {NO_THREAD}" for name in names]
        told = f"stabilize: server 1: no updates can be fetched from server 0: {NO_THREAD}"
        assert conversation.do("get 4 m\nput 4 m w\nstabilize") == (b"m:v\n", [told])
        take_back()
        assert conversation.do("put 5 k v\nstabilize\nprintStore 1") == (b"k:v\nm:w\n", [])


WAITING = """
import resource, sys
from pathlib import Path
sys.path.insert(0, ".")
from storage import Lock
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    print(Lock(Path(sys.argv[1])).acquire(wait=5.0))
except OSError as error:
    print(error.strerror)
"""


def test_a_server_without_room_to_wait_for_a_lock_reports_it() -> None:
    _, become = another_user()
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0o666)
        assert Lock(Path(file.name)).acquire()
        done = subprocess.run(
            [*become, sys.executable, "-c", WAITING, file.name], capture_output=True, check=False, cwd=ROOT
        )
    assert (done.stdout, done.stderr) == (b"in use, and no thread can be started to wait for it\n", b"")


BIG = "x" * (20 << 20)
WITH_LARGE_VALUES = f"""joinServer 0
joinServer 1
joinClient 5 0
put 5 k v
put 5 big {BIG}
get 5 k
put 5 big2 {BIG}
joinClient 6 1
stabilize
printStore 0
killServer 1
joinServer 1
get 6 k
"""
NO_MEMORY = re.compile(
    rf"error: (line \d+: )?(\w+: )?({ID_IS_OUT}|(could not be started: )?no memory is left"
    rf"|(server|client) \d failed, and was killed: no memory is left|server \d: {NO_ROOM}"
    rf"|(server|client) \d could not be started: .*(memory|{re.escape(NO_THREAD)})"
    rf"|server \d: no updates can be fetched from server \d: {NO_ROOM}"
    rf"|client \d is not running; uncertain: .*|uncertain: the server was lost before it answered; .*)"
)


@pytest.mark.parametrize("mebibytes", [32, 40, 72, 100, 140, 160, 200, 300])
def test_with_little_memory_a_run_ends_and_reports_what_was_lacking(mebibytes: int) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is missing")
    result = run(WITH_LARGE_VALUES, *NO_GOSSIP, prefix=("prlimit", f"--as={mebibytes << 20}"))
    assert [error[:300] for error in result.errors if not NO_MEMORY.fullmatch(error)] == []
    assert result.status in ((1, 2) if result.errors else (0,))
