"""The benchmarks of what programs and graders use: daadkvs.py, and many short scripts.

May live here: what is run, and what each figure is compared with. May not: how runs are made (runs.py).
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import daadkvs
from checking.bench.runs import Row, by_turns, cluster, median, run_script
from checking.driver import ROOT

__all__ = ["many", "programs"]

SCRIPTS = 250


def programs() -> list[Row]:
    """`import daadkvs`, the start of a `Run`, and its gets one by one."""

    def imported() -> float:
        text = "import time; start = time.perf_counter(); import daadkvs; print(time.perf_counter() - start)"
        done = subprocess.run([sys.executable, "-E", "-c", text], cwd=ROOT, capture_output=True, check=True)
        return float(done.stdout)

    def started() -> float:
        start = time.perf_counter()
        with daadkvs.Run() as run:
            run.script(cluster(5, 5))
        return time.perf_counter() - start

    imported()  # compiles it
    milliseconds = median(imported, 9) * 1e3
    seconds, plain, ratio = by_turns(started, lambda: run_script(cluster(5, 5)), 7)
    with daadkvs.Run(gossip_interval=0, trace=False) as run:
        run.script(cluster(5, 5) + "put 100 k v\n")

        def gets() -> float:
            start = time.perf_counter()
            for _ in range(1000):
                run.get(100, "k")
            return 1000 / (time.perf_counter() - start)

        rate = median(gets)
    return [
        Row("import daadkvs", f"{milliseconds:.1f} ms", "", milliseconds, "ms", 20, False),
        Row("a Run with 5 + 5, up and down", f"{seconds * 1e3:.0f} ms", f"./master: {plain * 1e3:.0f} ms",
            ratio, "×", 1.2, False),
        Row("gets through a Run, one by one", f"{rate:,.0f}/s", "", rate, "/s", 2000, True),
    ]  # fmt: skip


def _short_script(chance: random.Random) -> str:
    """A script of 12 lines, ten of which start 5 servers and 5 clients."""
    put = f"put {100 + chance.randrange(5)} k{chance.randrange(3)} v{chance.randrange(100)}\n"
    client, server = 100 + chance.randrange(5), chance.randrange(5)
    return cluster(5, 5) + put + chance.choice([f"get {client} k0\n", f"printStore {server}\n", "stabilize\n"])


def many() -> list[Row]:
    """Many short scripts: run by scripts/many.py, and our own master graded by them."""
    chance = random.Random(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(SCRIPTS):
            Path(folder, f"{number:03}.txt").write_text(_short_script(chance))
        for name, options in (("many", ()), ("grade", ("--master", str(ROOT / "master.py")))):
            command = [sys.executable, ROOT / "scripts" / f"{name}.py", folder, *options]
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            thousand = (time.perf_counter() - start) * 1000 / SCRIPTS
            what = f"1,000 scripts of 12 lines, 5 + 5, by scripts/{name}.py (from {SCRIPTS})"
            rows.append(Row(what, f"{thousand:.0f} s", "", thousand, "s", 60, False))
    return rows
