"""engine/code.py: what the master sends to hosts is all that an agent needs, also where there is another Python."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zlib
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import pytest

from engine import code, delivery


class Worker:
    """A Dask worker, as far as `delivery` needs one."""


@pytest.fixture(scope="module")
def packed() -> tuple[bytes, bytes, bytes]:
    found: tuple[bytes, bytes, bytes] = pickle.loads(code.packed())
    return found


@pytest.mark.parametrize("which", [1, 2], ids=["compiled", "sources"])
def test_an_archive_has_all_that_an_agent_and_its_processes_import(
    packed: tuple[bytes, bytes, bytes], which: int, tmp_path: Path
) -> None:
    assert packed[0] == MAGIC_NUMBER
    archive = tmp_path / "code.zip"
    archive.write_bytes(zlib.decompress(packed[which]))
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        "from engine import agent; from control import roles; roles.load()\n"
        "import shape, compaction, rpc.tls\n"
        "own = {name: module.__file__ for name, module in sys.modules.items() if '.zip' in str(getattr(module, "
        "'__file__', ''))}\n"
        "print(json.dumps([own, sorted(name for name in sys.modules if name in ('master', 'server', 'model'))]))\n"
    )
    folders = json.dumps([str(archive), *(entry for entry in sys.path if entry and entry != str(code.ROOT))])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, folders], capture_output=True, check=False, cwd=tmp_path
    )
    assert done.stderr == b""
    own, loaded = json.loads(done.stdout)
    assert {"engine.agent", "server", "client", "watchdog", "model", "storage", "rpc.transport"} <= own.keys()
    assert loaded == ["model", "server"]
    assert {Path(path).suffix for path in own.values()} == {".pyc" if which == 1 else ".py"}


def start(packed: Any, terms: bytes) -> dict[str, Any]:
    return delivery._start(pickle.dumps(packed), terms, "0123456789ab", 20.0, Worker())


def test_a_host_with_another_python_takes_the_sources(
    packed: tuple[bytes, bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms without anything in them: the agent ends, but it has been imported by then."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(code.ROOT)])
    junk = zlib.compress(b"no archive")
    assert "credentials" in start((b"other", junk, packed[2]), b"{}")["error"]
    assert "credentials" in start((MAGIC_NUMBER, packed[1], junk), b"{}")["error"]
    assert "engine" in start((b"other", packed[1], junk), b"{}")["error"]
