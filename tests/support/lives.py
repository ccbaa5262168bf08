"""Incarnations of a server on real files, for tests of what survives on disk.

A `Life` brings a real model and its storage together as server.py does: what is acknowledged was logged, then applied.
A kill is a copy of the folder, taken while it is in use: a process that has ended leaves just that.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

from checking.driver import ROOT
from messages import Operation, Write
from model import Model, Pull, pack_delta, unpack_delta
from storage import Storage
from vector_clock import Replica

TIME = itertools.count(1)


class _Work(Future[Any]):
    """Work that is done later, at the latest when its result is waited for."""

    def __init__(self, executor: Later) -> None:
        super().__init__()
        self._executor = executor

    def result(self, timeout: float | None = None) -> Any:
        self._executor.do_all()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._executor.do_all()
        return super().exception(timeout)


class Later(Executor):
    """Does the work that it is given in order, when the test calls `do`."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[_Work, Callable[[], Any]]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = _Work(self)
        self._waiting.append((work, partial(fn, *args, **kwargs)))
        return work

    def do(self) -> None:
        """Do the next work, if there is any."""
        if self._waiting:
            work, do = self._waiting.popleft()
            try:
                work.set_result(do())
            except Exception as error:
                work.set_exception(error)

    def do_all(self) -> None:
        while self._waiting:
            self.do()


State = tuple[list[Write], list[object]]
"""A replica's writes, and its flat context."""


class Life:
    """One incarnation of a server: it recovers, and then carries out puts and pulls."""

    def __init__(
        self,
        folder: Path,
        stamp: int = 1,
        fsync: str = "never",
        kept: bool = False,
        executor: Executor | None = None,
        start_executor: Callable[[], Executor] | None = None,
    ) -> None:
        self.folder = folder
        self.closed = False
        if executor is not None:
            start_executor = partial(next, itertools.repeat(executor))
        self.storage = Storage(folder, stamp, fsync, kept=kept, start_executor=start_executor)
        recovery = self.storage.recover()
        self.damages = recovery.damages
        self.model = Model(Replica(0, stamp))
        for delta in recovery.deltas:
            writes, context = unpack_delta(delta)
            self.model.apply(writes, None if self.damages else context)
        self.storage.start(self.model)

    def put(self, *pairs: tuple[bytes, bytes], group: int | None = None) -> list[Write]:
        """Carry out some puts together; returns their writes."""
        operations = [Operation(key, value, next(TIME), None) for key, value in pairs]
        _, writes = self.model.decide(operations)
        self.storage.append(pack_delta(writes), self.model, group)
        self.model.apply(writes)
        return writes

    def learn(self, peer: Model) -> None:
        """Pull from a peer until nothing is missing."""
        pull = Pull(self.model)
        while not pull.done:
            delta = pull.receive(peer.answer(pull.request()))
            writes, context = unpack_delta(delta)
            if self.model.is_news(writes, context):
                self.storage.append(delta, self.model)
                self.model.apply(writes, context)

    def state(self) -> State:
        return self.model.writes(), self.model.context.flat()

    def store(self) -> dict[bytes, bytes]:
        return {write.key: write.value for write in self.model.writes()}

    def close(self) -> None:
        """Release the folder. May be called more than once."""
        if not self.closed:
            self.storage.close()
        self.closed = True


class Folders:
    """Copies of folders, each with a new name, and incarnations in them that end with the test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count()
        self._lives: list[Life] = []

    def new(self) -> Path:
        return self._path / f"server-{next(self._numbers)}"

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(folder, self.new()))

    def live(
        self, folder: Path | None = None, stamp: int = 1, fsync: str = "never", executor: Executor | None = None
    ) -> Life:
        life = Life(folder or self.new(), stamp, fsync, executor=executor)
        self._lives.append(life)
        return life

    def recovered(self, folder: Path, stamp: int = 2) -> Life:
        """The replica that a start would recover from the folder, which is not changed."""
        life = Life(self.copy(folder), stamp)
        life.close()
        return life

    def close(self) -> None:
        for life in self._lives:
            life.close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "lock"}


def data_file(folder: Path, kind: str) -> Path:
    """The newest snapshot or log."""
    found = [path for path in folder.iterdir() if re.fullmatch(kind + r"\.\d+", path.name)]
    return max(found, key=lambda path: int(path.suffix[1:]))


def flip(path: Path, offset: int, bits: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def peer_of(life: Life) -> Model:
    """A peer that knows everything that this incarnation knows."""
    peer = Model(Replica(9, 1))
    peer.apply(life.model.writes(), life.model.context)
    return peer


def some_puts(chance: random.Random) -> list[tuple[bytes, bytes]]:
    """Random puts: often to one of a few hot keys, sometimes to a new key, sometimes several together."""
    return [
        (b"key%d" % int(chance.expovariate(0.1)), chance.randbytes(chance.choice((0, 5, 20, 150))))
        for _ in range(chance.choice((1, 1, 1, 4)))
    ]


def small_history(
    life: Life, compacted: bool
) -> tuple[list[Write], list[tuple[int, tuple[list[Write], list[object]]]]]:
    """Append records of all kinds; returns all writes, and the newest log's size and the state after each append."""
    made = []
    if compacted:
        for number in range(5):
            made += life.put((b"cold%d" % number, b"v"))
        while not any(re.fullmatch(r"snapshot\.\d+", name) for name in files(life.folder)):
            made += life.put((b"hot", b"x" * 100))
    states: list[tuple[int, tuple[list[Write], list[object]]]] = [
        (data_file(life.folder, "log").stat().st_size, life.state())
    ]
    peer = Model(Replica(5, 1))
    for step in range(5):
        if step == 2:
            made += [peer.put(b"a", b"old", next(TIME)), peer.put(b"a", b"peer", next(TIME))]
            life.learn(peer)
        elif step == 3:
            made += life.put((b"b", b"grouped"), group=1)
        else:
            made += life.put((b"a", b"%d" % step), (b"k%d" % step, b"v"))
        states.append((data_file(life.folder, "log").stat().st_size, life.state()))
    return made, states


def between_generations(life: Life) -> list[Write]:
    """Put until there are log.0, log.1, and a snapshot that isn't complete; returns all writes."""
    made: list[Write] = []
    for number in range(4):
        made += life.put((b"key%d" % number, b"v"))
    while not (life.folder / "log.1").exists():
        made += life.put((b"hot", b"v" * 100))
    made += life.put((b"last", b"v"))
    assert (life.folder / "snapshot.1.part").exists()
    return made


def assert_safe(damaged: Life, made: list[Write]) -> None:
    """Each dot that the context covers is held, or a newer write of its key is; and only writes in *made* are held."""
    assert set(damaged.model.writes()) <= set(made)
    for write in made:
        if damaged.model.context.covers(write.version.dot):
            held = damaged.model.get(write.key)
            assert isinstance(held, Write)
            assert held.version.order >= write.version.order


def assert_heals(damaged: Life, whole: Life, made: list[Write]) -> None:
    """The store is safe, gets back what was lost, takes puts, and the next start finds no damage."""
    assert_safe(damaged, made)
    damaged.learn(peer_of(whole))
    assert damaged.state() == whole.state()
    damaged.put((b"next", b"life"))
    damaged.close()
    again = Life(damaged.folder, 77)
    again.close()
    assert again.damages == []
    assert again.state() == damaged.state()


def assert_reported(damaged: Life, name: str, content: bytes) -> None:
    """The damage was reported with file and offset, and the file was set aside unchanged."""
    assert damaged.damages
    assert all(f"/{name}: offset " in damage and "\n" not in damage for damage in damaged.damages)
    assert (damaged.folder / f"{name}.damaged-2").read_bytes() == content
    assert not (damaged.folder / name).exists()


def run_python(script: str, *arguments: object) -> str:
    """Run a script in a process of its own, with the modules of the project and of the tests."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OPEN = """
import sys
from pathlib import Path

from control.data_directory import DataDirectory
from storage import Storage, StorageError, cut_group

folder = Path(sys.argv[2])
try:
    if sys.argv[1] == "server":
        Storage(folder, 2)
    elif sys.argv[1] == "master":
        DataDirectory(folder)
    else:
        cut_group(folder, 7)
    print("opened")
except StorageError as error:
    print(error)
"""
