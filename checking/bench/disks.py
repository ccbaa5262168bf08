"""The benchmarks of the log alone: the size of its files, and the pauses of an append.

May live here: storage without processes. May not: clusters (benchmarks.py).
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from checking.bench.runs import Row
from messages import Operation
from model import Model, pack_delta
from storage import Storage
from vector_clock import Replica

__all__ = ["disk", "slow_disk"]


def disk() -> list[Row]:
    """A million overwrites of 1,000 keys, straight into storage: size of the files and pauses of an append."""
    folder = Path(tempfile.mkdtemp(prefix="daadkvs-bench-"))
    try:
        model = Model(Replica(0, 1))
        storage = Storage(folder / "server-0", 1)
        if list(storage.recover().deltas):
            raise AssertionError("a store that was never written is not empty")
        storage.start(model)
        worst, slowest, timestamp, encoded = 0.0, 0.0, 0, 0
        for batch in range(10000):
            operations = []
            for number in range(100):
                timestamp += 1
                key = b"key%d" % ((batch * 100 + number) % 1000)
                operations.append(Operation(key, b"value%011d" % timestamp, timestamp, None))
            _, writes = model.decide(operations)
            start = time.perf_counter()
            storage.append(pack_delta(writes), model)
            slowest = max(slowest, time.perf_counter() - start)
            model.apply(writes)
            size = sum(path.stat().st_size for path in (folder / "server-0").iterdir())
            if batch % 1000 == 10:  # from here on, all keys have values of one size
                encoded = len(model.delta_of(model.keys()))
            if encoded:
                worst = max(worst, size / (3 * encoded + (1 << 20)))
        storage.close()
    finally:
        shutil.rmtree(folder)
    return [
        Row("largest size of the files, 1,000,000 overwrites of 1,000 keys", f"{worst:.2f} of the bound",
            "3 × live data + 1 MiB", worst, "×", 1, False),
        Row("longest pause of an append", f"{slowest * 1e3:.1f} ms", "", slowest * 1e3, "ms", 50, False),
    ]  # fmt: skip


def slow_disk() -> list[Row]:
    """Overwrites of 128 MB, straight into storage, on a disk that syncs 100 MB/s: the longest pause of an append."""
    real_fsync = os.fsync
    synced: dict[int, int] = {}

    def slow_fsync(fd: int) -> None:
        real_fsync(fd)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            time.sleep(max(0, found.st_size - synced.get(found.st_ino, 0)) / 1e8)
            synced[found.st_ino] = found.st_size

    folder = Path(tempfile.mkdtemp(prefix="daadkvs-bench-"))
    slowest, timestamp = 0.0, 0
    snapshots: set[str] = set()
    os.fsync = slow_fsync  # type: ignore[assignment]
    try:
        with ThreadPoolExecutor(1) as background:
            model = Model(Replica(0, 1))
            storage = Storage(folder / "server-0", 1, kept=True, start_executor=lambda: background)
            assert not list(storage.recover().deltas)
            storage.start(model)
            while len(snapshots) < 2:
                timestamp += 1
                operation = Operation(b"key%d" % (timestamp % 2000), b"v" * 64000, timestamp, None)
                _, writes = model.decide([operation])
                start = time.perf_counter()
                storage.append(pack_delta(writes), model)
                slowest = max(slowest, time.perf_counter() - start)
                model.apply(writes)
                if timestamp % 100 == 0:
                    snapshots |= {path.name for path in (folder / "server-0").glob("snapshot.?")}
            storage.close()
    finally:
        os.fsync = real_fsync
        shutil.rmtree(folder)
    return [
        Row("longest pause of an append, 128 MB live, a disk of 100 MB/s", f"{slowest * 1e3:.1f} ms",
            "a sync of all of it: 1,280 ms", slowest * 1e3, "ms", 100, False),
    ]  # fmt: skip
