"""The code of an agent, which the master brings to each host.

May live here: which files these are, and how they are packed. May not: how they get to a host (engine/delivery.py,
which also unpacks them).
"""

from __future__ import annotations

import pickle
import zlib
from importlib.util import cache_from_source
from pathlib import Path

__all__ = ["packed"]

ROOT = Path(__file__).resolve().parent.parent

PATTERNS = (
    "*.py",
    "rpc/*.py",
    "control/__init__.py",
    "control/roles.py",
    "control/run_directory.py",
    "engine/__init__.py",
    "engine/agent.py",
    "engine/terms.py",
)
"""What an agent is made of, and the processes that it starts, except for `NOT_FOR_AGENTS`."""

NOT_FOR_AGENTS = ("master.py", "daadkvs.py")


def packed() -> bytes:
    """The code of an agent, with what Python has compiled of it: the same Python needn't do so again. Raises OSError.

    What is packed is, for each file by its path, when it was modified, in nanoseconds, and its content.
    """
    files: dict[str, tuple[int, bytes]] = {}
    for pattern in PATTERNS:
        for path in ROOT.glob(pattern):
            if path.name in NOT_FOR_AGENTS:
                continue
            compiled = Path(cache_from_source(path))
            for each in (path, compiled) if compiled.exists() else (path,):
                files[str(each.relative_to(ROOT))] = (each.stat().st_mtime_ns, each.read_bytes())
    return zlib.compress(pickle.dumps(files), 1)
