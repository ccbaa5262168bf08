"""Disks that are full, broken, read-only, or another user's: real masters on small file systems of their own.

Mounting requires root, or a namespace in which one is root. Without either, these tests are skipped with a reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from checking.driver import ROOT, Conversation, Result, run, wait_until
from control.data_directory import DataDirectory

NO_GOSSIP = ("--gossip-interval", "0")
IN_NAMESPACE = "DAADKVS_TEST_NAMESPACE"


def works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


IS_ROOT = os.geteuid() == 0
HAS_NAMESPACES = not IS_ROOT and works("unshare", "-Urm", "true")
needs_mount = pytest.mark.skipif(
    not IS_ROOT, reason="only root can mount (where there are namespaces, the last test here runs these in one)"
)
needs_loop = pytest.mark.skipif(
    not IS_ROOT or IN_NAMESPACE in os.environ or not shutil.which("mkfs.ext4"),
    reason="only root can make a file a disk, with mkfs.ext4",
)
needs_permissions = pytest.mark.skipif(
    IS_ROOT and not shutil.which("setpriv"), reason="root may do anything, and there is no setpriv to make it not"
)
WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if IS_ROOT else ()
"""Root without them is bound by the permissions of its own files."""


class Disks:
    """Mounts file systems, and unmounts them at the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def mount(self, path: Path, *arguments: str) -> None:
        path.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", *arguments, str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mount doesn't work here: {done.stderr.strip()}")
        self._stack.callback(self.unmount, path)

    def small(self, path: Path, options: str = "size=256k") -> None:
        """A file system of its own size, in memory."""
        self.mount(path, "-t", "tmpfs", "-o", options, "none")

    def unmount(self, path: Path) -> None:
        """Unmount it, even if it is still in use; do nothing if that has been done."""
        if os.path.ismount(path) and not works("umount", str(path)):
            subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def disks() -> Iterator[Disks]:
    with ExitStack() as stack:
        yield Disks(stack)


def fill(folder: Path) -> Path:
    """Fill the disk. Deleting the file that is returned makes room again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                pass
    return ballast


def put_all(conversation: Conversation, client: int, values: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Put one by one; returns the puts that were acknowledged, and the errors of the others."""
    acknowledged, errors = {}, []
    for key, value in values.items():
        output = conversation.do(f"put {client} {key} {value}")
        if output.errors:
            errors += output.errors
        else:
            acknowledged[key] = value
    return acknowledged, errors


def store(conversation: Conversation, server: int) -> dict[str, str]:
    output = conversation.do(f"printStore {server}")
    assert output.errors == []
    return dict(line.split(":", 1) for line in output.lines)


def large(name: str, count: int) -> dict[str, str]:
    return {f"{name}{number}": f"{name}-{number}-" + "x" * 10_000 for number in range(count)}


# -- a full disk -------------------------------------------------------------------------------------------


@needs_mount
@pytest.mark.parametrize("fsync", ["never", "interval", "always"])
def test_a_full_disk_refuses_puts_and_only_puts(disks: Disks, tmp_path: Path, fsync: str) -> None:
    folder = tmp_path / "server-0"
    disks.small(folder)
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path), "--fsync", fsync) as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1")
        expected, errors = put_all(conversation, 5, large("a", 5))
        assert errors == []
        ballast = fill(folder)
        added, errors = put_all(conversation, 5, large("b", 4))
        assert added == {}
        assert errors == [f"put: server 0: {folder}/log.0: No space left on device"] * 4
        lines = [f"put 5 {key} {value}" for key, value in large("c", 6).items()]
        output = conversation.do("\n".join([*lines, "get 5 a0", "get 5 b0", "get 5 c0"]))  # at once
        assert output.errors == errors + errors[:2]
        assert output.lines == [f"a0:{expected['a0']}", "b0:ERR_KEY", "c0:ERR_KEY"]
        elsewhere, errors = put_all(conversation, 6, large("d", 3))
        assert errors == []
        for _ in range(2):
            assert store(conversation, 0) == expected
            assert store(conversation, 1) == elsewhere
            assert conversation.do("killServer 0\njoinServer 0").errors == []
        ballast.unlink()
        added, errors = put_all(conversation, 5, large("b", 4))
        assert errors == []
        expected |= added
        assert conversation.do("killServer 0\njoinServer 0\nbreakConnection 0 1").errors == []
        assert store(conversation, 0) == expected
        assert conversation.do("createConnection 0 1\nstabilize").errors == []
        assert store(conversation, 0) == store(conversation, 1) == expected | elsewhere
        assert conversation.end() == 1


@needs_mount
def test_a_disk_that_fills_up_by_itself(disks: Disks, tmp_path: Path) -> None:
    """In the middle of a stream of puts to the same few keys, which causes compactions."""
    folder = tmp_path / "server-0"
    disks.small(folder, "size=1m")
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinClient 5 0")
        expected: dict[str, str] = {}
        refused = 0
        for turn in range(8):
            for number in range(10):
                key, value = f"k{turn % 4}-{number}", f"{turn}-" + "x" * (4_000 * turn)
                errors = conversation.do(f"put 5 {key} {value}").errors
                assert all("No space left on device" in error for error in errors)
                refused += len(errors)
                if not errors:
                    expected[key] = value
            assert store(conversation, 0) == expected
            assert conversation.do("killServer 0\njoinServer 0\njoinClient 5 0").errors == []
            assert store(conversation, 0) == expected
        assert 0 < refused < 60


@needs_mount
def test_join_server_on_a_full_disk(disks: Disks, tmp_path: Path) -> None:
    folder = tmp_path / "server-0"
    disks.small(folder)
    ballast = fill(folder)
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path)) as conversation:
        error = f"joinServer: server 0 could not be started: {folder}/log.0: No space left on device"
        assert conversation.do("joinServer 0") == (b"", [error])
        assert conversation.do("joinServer 1\njoinServer 0").errors == [error]
        ballast.unlink()
        assert conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k") == (b"k:v\n", [])
        assert conversation.end() == 1


@needs_mount
def test_a_server_with_damage_on_a_full_disk_starts_when_there_is_room(disks: Disks, tmp_path: Path) -> None:
    folder = tmp_path / "server-0"
    disks.small(folder)
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinClient 5 0")
        expected, errors = put_all(conversation, 5, large("a", 5))
        assert errors == []
        conversation.do("killServer 0")
        with (folder / "log.0").open("r+b") as log:
            log.seek(100)  # in the record of a0
            log.write(b"?")
        ballast = fill(folder)
        before = sorted(folder.iterdir())
        for _ in range(3):
            (error,) = conversation.do("joinServer 0").errors
            assert error.endswith(": No space left on device")
            assert sorted(folder.iterdir()) == before
        ballast.unlink()
        (warning,) = conversation.do("joinServer 0").errors
        assert f"{folder}/log.0: offset " in warning and "set aside" in warning
        del expected["a0"]
        assert store(conversation, 0) == expected


@needs_mount
def test_stabilize_onto_a_full_disk(disks: Disks, tmp_path: Path) -> None:
    """It reports the error, the other servers agree, and the missing writes are delivered once there is room."""
    folder = tmp_path / "server-1"
    disks.small(folder)
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinServer 2\njoinClient 5 0\njoinClient 6 1\nput 6 k v")
        ballast = fill(folder)
        expected, _ = put_all(conversation, 5, large("a", 5))
        errors = conversation.do("stabilize").errors
        assert errors and all(f"{folder}/log.0: No space left on device" in error for error in errors)
        assert store(conversation, 0) == store(conversation, 2) == expected | {"k": "v"}
        assert store(conversation, 1) == {"k": "v"}
        assert conversation.do("killServer 1\njoinServer 1").errors == []
        assert store(conversation, 1) == {"k": "v"}
        ballast.unlink()
        assert conversation.do("stabilize").errors == []
        assert store(conversation, 1) == expected | {"k": "v"}


@needs_mount
def test_gossip_onto_a_full_disk(disks: Disks, tmp_path: Path) -> None:
    folder = tmp_path / "server-1"
    disks.small(folder)
    with Conversation("--gossip-interval", "0.01", "--data-dir", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1")
        ballast = fill(folder)
        expected, errors = put_all(conversation, 5, large("a", 5))
        assert errors == []
        assert conversation.do("get 6 a0") == (b"a0:ERR_KEY\n", [])
        ballast.unlink()
        wait_until(lambda: store(conversation, 1) == expected, "gossip")


@needs_mount
def test_the_clock_on_a_full_disk(disks: Disks, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    disks.small(folder)
    ballast = fill(folder)
    with Conversation(*NO_GOSSIP, "--data-dir", str(folder)) as conversation:
        error = f"joinServer: server 0 could not be started: {folder}/clock: No space left on device"
        assert conversation.do("joinServer 0\njoinServer 0").errors == [error] * 2
    result = run("joinServer 0\n", "--data-dir", str(folder))
    assert result == (b"", f"error: line 1: {error}\n", 1)
    ballast.unlink()
    assert run("joinServer 0\njoinClient 5 0\nput 5 k v\n", "--data-dir", str(folder)) == (b"", "", 0)
    fill(folder)  # now it is there, and is written in place
    revived = "joinServer 0\njoinClient 5 0\nget 5 k\n"
    assert run(revived, "--data-dir", str(folder)) == (b"k:v\n", "", 0)
    directory = DataDirectory(folder)
    directory.write_clock(1 << 59)
    assert directory.read_clock() == 1 << 59


# -- a disk that breaks ------------------------------------------------------------------------------------


@needs_loop
@pytest.mark.parametrize("fsync", ["always", "interval"])
def test_a_disk_that_fails_to_sync(disks: Disks, tmp_path: Path, fsync: str) -> None:
    """Its file system has room, but the disk below it has none: writes succeed, and syncs fail.

    A second sync of the same file would succeed. What was acknowledged is what is on stable storage afterwards.
    """
    below, folder = tmp_path / "below", tmp_path / "data" / "server-0"
    disks.small(below, "size=6m")
    image = below / "image"
    subprocess.run(["truncate", "--size=24M", str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-N", "64", str(image)], check=True)

    def mount() -> None:
        disks.mount(folder, "-o", "loop,errors=continue", str(image))

    mount()
    with Conversation(*NO_GOSSIP, "--data-dir", str(folder.parent), "--fsync", fsync) as conversation:
        conversation.do("joinServer 0\njoinClient 5 0\nput 5 before v")
        expected = {"before": "v"}
        ballast = fill(below)
        errors: list[str] = []

        def put() -> list[str]:
            key, value = f"k{len(expected)}", "x" * 50_000
            said = conversation.do(f"put 5 {key} {value}").errors
            if not said:
                expected[key] = value
            return said

        def refused() -> bool:
            errors[:] = put()
            return bool(errors)

        wait_until(refused, "a sync that fails", poll_seconds=0.02)
        assert errors[0].startswith(f"put: server 0: {folder}/")
        assert errors[0].endswith((": No space left on device", ": Input/output error"))
        assert store(conversation, 0) == expected
        ballast.unlink()
        wait_until(lambda: put() == [], "puts to work again")
        assert (folder / "log.0").exists() is False
        assert store(conversation, 0) == expected
        conversation.do("killServer 0")
        disks.unmount(folder)
        mount()
        assert conversation.do("joinServer 0").errors == []
        assert {key: len(value) for key, value in store(conversation, 0).items()} == {
            key: len(value) for key, value in expected.items()
        }


@needs_loop
def test_a_disk_that_cannot_read_a_part_of_a_log(disks: Disks, tmp_path: Path) -> None:
    """The end of the disk below the file system is gone: what was there can't be read, and the rest is kept."""
    image, folder = tmp_path / "image", tmp_path / "data" / "server-0"
    subprocess.run(["truncate", "--size=8M", str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-N", "64", "-b", "1024", str(image)], check=True)
    disks.mount(folder, "-o", "loop,errors=continue", str(image))
    with Conversation(*NO_GOSSIP, "--data-dir", str(folder.parent)) as conversation:
        conversation.do("joinServer 0\njoinClient 5 0")
        expected, errors = put_all(conversation, 5, large("a", 300))
        assert errors == []
        conversation.do("killServer 0")
        disks.unmount(folder)
        disks.mount(folder, "-o", "loop,errors=continue", str(image))
        os.truncate(image, 2 << 20)  # under the mounted file system
        warnings = conversation.do("joinServer 0").errors
        assert any(f"{folder}/log.0: offset " in warning and "Input/output error" in warning for warning in warnings)
        left = store(conversation, 0)
        assert 50 < len(left) < 300
        assert left.items() <= expected.items()
        assert (folder / "log.0").exists() is False


# -- a disk that isn't ours --------------------------------------------------------------------------------


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    script = "joinServer 0\n"
    assert run(script, "--data-dir", str(file)) == (b"", f"error: {file}: Not a directory\n", 2)
    assert run(script, "--data-dir", str(file / "below")) == (b"", f"error: {file}/below: Not a directory\n", 2)
    assert file.read_bytes() == b"mine"


def test_a_server_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "server-0"
    file.write_bytes(b"mine")
    result = run("joinServer 0\njoinServer 1\njoinClient 5 1\nput 5 k v\nget 5 k\n", "--data-dir", str(tmp_path))
    error = f"error: line 1: joinServer: server 0 could not be started: {file}: Not a directory\n"
    assert result == (b"k:v\n", error, 1)
    assert file.read_bytes() == b"mine"


@needs_mount
def test_a_data_directory_without_room_for_a_single_file(disks: Disks, tmp_path: Path) -> None:
    disks.small(tmp_path / "data", "size=64k,nr_inodes=1")
    result = run("joinServer 0\n", "--data-dir", str(tmp_path / "data"))
    assert result == (b"", f"error: {tmp_path}/data/lock: No space left on device\n", 2)


@needs_mount
def test_a_data_directory_that_is_read_only(disks: Disks, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    disks.small(folder)
    script = "joinServer 0\njoinClient 5 0\nput 5 k v\n"
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    for path, name in ((folder, "lock"), (folder / "new", "")):
        refused = f"error: {path / name}: Read-only file system\n"
        assert run(script, "--data-dir", str(path)) == (b"", refused, 2)
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    assert run(script, "--data-dir", str(folder)) == (b"", "", 0)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    refused = f"error: {folder}/lock: Read-only file system\n"
    assert run(script, "--data-dir", str(folder)) == (b"", refused, 2)


@needs_mount
def test_a_server_whose_folder_is_read_only(disks: Disks, tmp_path: Path) -> None:
    folder = tmp_path / "server-0"
    disks.small(folder)
    with Conversation(*NO_GOSSIP, "--data-dir", str(tmp_path)) as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 k v\nkillServer 0")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        error = f"joinServer: server 0 could not be started: {folder}/lock: Read-only file system"
        assert conversation.do("joinServer 0") == (b"", [error])
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        assert conversation.do("joinServer 0\nget 5 k") == (b"k:v\n", [])


@needs_permissions
@pytest.mark.parametrize(("mode", "path"), [(0o000, "lock"), (0o500, "lock"), (0o600, "lock")])
def test_a_data_directory_without_permission(tmp_path: Path, mode: int, path: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    try:
        result = unprivileged("joinServer 0\n", folder)
    finally:
        folder.chmod(0o700)
    assert result == (b"", f"error: {folder}/{path}: Permission denied\n", 2)
    assert list(folder.iterdir()) == []


@needs_permissions
def test_a_data_directory_in_a_folder_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir(mode=0o500)
    result = unprivileged("joinServer 0\n", folder / "data")
    assert result == (b"", f"error: {folder}/data: Permission denied\n", 2)


@needs_permissions
def test_a_data_directory_in_a_folder_that_may_only_be_gone_through(tmp_path: Path) -> None:
    """Its parent can't be synced, which is no reason not to use it."""
    parent = tmp_path / "others"
    (parent / "data").mkdir(parents=True)
    parent.chmod(0o100)
    try:
        script = "joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k\n"
        result = unprivileged(script, parent / "data", "--fsync", "always")
    finally:
        parent.chmod(0o700)
    assert result == (b"k:v\n", "", 0)


@needs_permissions
@pytest.mark.parametrize(
    ("mode", "what", "named"),
    [(0o500, "server-0", "server-0/lock"), (0o000, "server-0/log.0", "server-0/log.0"), (0o400, "server-0/lock", "")],
)
def test_a_server_whose_files_are_without_permission(tmp_path: Path, mode: int, what: str, named: str) -> None:
    script = "joinServer 0\njoinClient 5 0\nput 5 k v\n"
    assert unprivileged(script, tmp_path) == (b"", "", 0)
    if what == "server-0":
        (tmp_path / "server-0" / "lock").unlink()
    path = tmp_path / what
    path.chmod(mode)
    try:
        result = unprivileged("joinServer 0\njoinServer 1\njoinClient 6 1\nput 6 k w\nget 6 k\n", tmp_path)
    finally:
        path.chmod(0o700)
    refused = f"joinServer: server 0 could not be started: {tmp_path / (named or what)}: Permission denied"
    assert result == (b"k:w\n", f"error: line 1: {refused}\n", 1)
    assert run("joinServer 0\nprintStore 0\n", "--data-dir", str(tmp_path)) == (b"k:v\n", "", 0)


@needs_permissions
def test_a_clock_without_permission(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_bytes(b"5\n")
    clock.chmod(0o200)
    assert unprivileged("", tmp_path) == (b"", f"error: {clock}: Permission denied\n", 2)
    clock.chmod(0o400)
    refused = f"error: line 1: joinServer: server 0 could not be started: {clock}: Permission denied\n"
    assert unprivileged("joinServer 0\n", tmp_path) == (b"", refused, 1)


def unprivileged(script: str, data: Path, *options: str) -> Result:
    """Run a script with a master that has no more permissions than its user."""
    return run(script, "--data-dir", str(data), *options, prefix=WITHOUT_PRIVILEGES)


# -- without root ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_NAMESPACES, reason="done above by root, or there are no namespaces for users")
def test_full_and_read_only_disks_in_a_namespace() -> None:
    command = [sys.executable, "-m", "pytest", __file__, "-k", "full or fills or read_only or room"]
    done = subprocess.run(
        ["unshare", "-Urm", *command],
        cwd=ROOT,
        env={**os.environ, IN_NAMESPACE: "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
