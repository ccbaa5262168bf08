"""What runs within a Dask worker: starting an agent on its host, and ending one that does not end by itself.

May live here: these two functions, and only with what Python itself has. Workers get this file as it stands here
(engine/dask_cluster.py): nothing of Daadkvs has to be installed there, but rpyc, msgpack and setproctitle.

They raise nothing: a worker would write the arguments of a call that fails to its log, and there are keys in them.

The worker keeps the pipe to the agent's standard input open for as long as both live. A thread of the worker waits for
the end of the agent. Then it kills what is left of the agent's session, and removes its folders: so nothing remains of
an agent that was killed.
"""

from __future__ import annotations

from typing import Any

__all__ = ["end_agent", "start_agent"]


BEGIN = """
import gc
gc.disable()  # what is imported is no garbage
import json, os, sys
data = b""
while data.count(b"\\n") < 2:
    more = os.read(0, 1 << 16)
    data += more or sys.exit(1)
path, terms, _ = data.split(b"\\n")
sys.path[:] = json.loads(path)
try:
    from engine import agent
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
    os._exit(1)
agent.main(terms, sys.argv[1])
"""
"""The program of an agent; its standard input begins with two lines: where modules are, and the terms."""


async def start_agent(code: bytes, terms: bytes, checkout: str, patience: float, dask_worker: Any) -> dict[str, Any]:
    """Start an agent; returns what it says about itself (`_Agent.about`), or {"error": why}.

    *code*: what `engine.code.packed` has packed. *checkout*: a part of the name of the agent's folder. *patience*: how
    long it may take to start, in seconds.
    """
    import asyncio

    try:
        return await asyncio.to_thread(_start, code, terms, checkout, patience, dask_worker)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _start(code: bytes, terms: bytes, checkout: str, patience: float, dask_worker: Any) -> dict[str, Any]:
    import importlib.util
    import json
    import os
    import pickle
    import select
    import subprocess
    import sys
    import tempfile
    import threading
    import zlib

    base = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix=f"daadkvs-{os.geteuid()}-{checkout}-", dir=base)
    process = None
    try:
        magic, compiled, sources = pickle.loads(code)
        archive = os.path.join(folder, "code.zip")
        with open(archive, "wb") as file:
            file.write(zlib.decompress(compiled if magic == importlib.util.MAGIC_NUMBER else sources))
        environment = {"MALLOC_ARENA_MAX": "1", **os.environ}  # as scripts/master.sh has it
        environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask sets it; servers would spend their time on giving back
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BEGIN, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if "DAADKVS_DEBUG" in os.environ else subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        folders = [archive, *(entry for entry in sys.path if entry)]
        process.stdin.write(json.dumps(folders).encode() + b"\n" + terms + b"\n")
        process.stdin.flush()
        readable, _, _ = select.select([process.stdout], [], [], patience)
        if not readable:
            raise TimeoutError("the agent does not start in time")
        with process.stdout as said:
            about: dict[str, Any] = json.loads(said.readline() or b'{"error": "the agent ended as it started"}')
    except BaseException:
        _clean_up(process, folder)
        raise
    if "error" in about:
        _clean_up(process, folder)
        return about
    # The worker's own list keeps the pipe open, which ends with the worker.
    agents = dask_worker.__dict__.setdefault("_daadkvs_agents", {})
    agents[folder] = process

    def see_off() -> None:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its id can't be used again yet
        _clean_up(process, folder)
        agents.pop(folder, None)

    threading.Thread(target=see_off, daemon=True).start()
    return about


def _clean_up(process: Any, folder: str) -> None:
    """Kill an agent's session, if it has one, and remove its folders."""
    import os
    import signal

    if process is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass
        process.wait()
        process.stdin.close()
    _remove(folder)


def _remove(folder: str) -> None:
    import glob
    import shutil
    import tempfile

    shutil.rmtree(folder, ignore_errors=True)
    name = folder.rpartition("/")[2]
    for stores in glob.glob(f"{glob.escape(tempfile.gettempdir())}/{name}-stores-*"):
        shutil.rmtree(stores, ignore_errors=True)


def end_agent(pid: int, started: str, folder: str, dask_worker: Any) -> bool:
    """Kill an agent with all processes of its session, and remove its folders; returns whether it has ended.

    *started*: its start time, as /proc has it, by which it is told from a later process with its id.
    """
    import os
    import signal
    import time

    def is_there() -> bool:
        try:
            with open(f"/proc/{pid}/stat") as file:
                words = file.read().rpartition(")")[2].split()
        except OSError:
            return False
        return words[19] == started and words[0] not in "ZX"

    try:
        for _ in range(100):
            if not is_there():
                break
            os.killpg(pid, signal.SIGKILL)
            time.sleep(0.02)
        _remove(folder)
    except OSError:
        pass
    return not is_there()
