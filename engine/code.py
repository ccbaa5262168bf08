"""The code of an agent, which the master brings to each host.

May live here: which files these are, and how they are packed. May not: how they get to a host (engine/delivery.py,
which also unpacks them).

A host gets one file, a zip archive, from which Python imports modules by itself (`zipimport`): to write and to find 80
files takes longer than to read them. There are two archives. The first has what Python has compiled, for hosts that
have the same Python; the second has the sources, for the others.
"""

from __future__ import annotations

import io
import marshal
import pickle
import zipfile
import zlib
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER
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

HEADER = MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
"""How a compiled file begins that Python takes as it is, without a look at its source (PEP 552)."""


def packed() -> bytes:
    """The magic number of compiled files, and both archives, each compressed. Raises OSError."""
    compiled: dict[str, bytes] = {}
    sources: dict[str, bytes] = {}
    for pattern in PATTERNS:
        for path in ROOT.glob(pattern):
            if path.name in NOT_FOR_AGENTS:
                continue
            name = str(path.relative_to(ROOT))
            sources[name] = path.read_bytes()
            code = SourceFileLoader(name, str(path)).get_code(name)
            compiled[f"{name}c"] = HEADER + marshal.dumps(code)
    return pickle.dumps((MAGIC_NUMBER, _archive(compiled), _archive(sources)))


def _archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return zlib.compress(made.getvalue(), 1)
