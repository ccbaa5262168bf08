"""What a run tells of its commands to a program: JSON Lines on stdout, one object for each line of the script.

May live here: how that is spelled; docs/json.md has each field. May not: when it is told (master.py), and why a get is
ERR_DEP (control/witness.py). Fields that the history has as well (control/history.py) have its names, and bytes are
spelled as there.

Each line that comes in gets exactly one object, in the order of the lines, when it is done: so a program that sends a
line and reads until an object with its number knows all that there is to know. What happens by itself is an object of
its own, written at once, before that of the command that has noticed it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from console.output import write_all
from console.witnessed_output import WitnessedOutput
from control.commands import Uncertain
from control.overview import Overview
from control.script import Step
from control.witness import Cluster
from messages import Command, Missing, NoValue, Outcome, Store, Stored, Unsatisfied, Value

__all__ = ["FORMAT", "JsonOutput"]

FORMAT = 1
"""The version of this format, in the first object of each run."""


class JsonOutput(WitnessedOutput):
    """Writes one JSON object for each line and each event; it has the interface of `TextOutput`."""

    def __init__(self, cluster: Callable[[], Cluster]) -> None:
        """*cluster*: where to find it; it is asked for nothing before a command is done."""
        super().__init__(cluster)
        self._lines: list[str] = []
        self._file: str | None = None
        self._start = self._since = time.monotonic_ns()

    # -- what is under way ---------------------------------------------------------------------------------

    def begin_run(self, **facts: Any) -> None:
        """The run has begun; *facts* stand in its first object."""
        self._add({"type": "run", "json": FORMAT, **facts})
        self._write()

    def begin_file(self, name: str | None) -> None:
        """Steps are of this file from now on; None for standard input."""
        self._file, self._step = name, None

    def begin(self, steps: Sequence[Step]) -> None:
        self._since = time.monotonic_ns()

    def may_group(self, command: Command) -> bool:
        """A get that may be ERR_DEP is under way alone, so that its reasons can be found."""
        return self.witness.is_sure(command)

    # -- what has come of it -------------------------------------------------------------------------------

    def answer(self, step: Step | None, command: Command, outcome: Outcome, pieces: list[bytes]) -> None:
        super().answer(step, command, outcome, pieces)
        found, now = self._about(step, "ok"), time.monotonic_ns()
        match outcome:
            case Stored(server, timestamp):
                found |= {"server": server, "timestamp": timestamp}
            case Value(value, server, timestamp):
                found |= {"value": _text(value), "server": server, "timestamp": timestamp}
            case NoValue(server):
                found |= {"answer": Missing.KEY.value, "server": server}
            case Unsatisfied():
                found |= {"answer": Missing.DEPENDENCY.value, "why": self.why(command)}
            case Store(server, entries):
                found |= {
                    "store": [[_text(key), _text(value)] for key, value, _ in entries],
                    "server": server,
                    "timestamps": [timestamp for _, _, timestamp in entries],
                }
        self._add_timed(found, now)

    def status(self, step: Step, overview: Overview) -> None:
        """What there is, for the command `status`."""
        self._add_timed({**self._about(step, "ok"), "status": _status(overview)})

    def skip(self, step: Step) -> None:
        """The line is empty, or a comment."""
        self._add_timed(self._about(step, "skipped"))

    def fail(self, text: str, placed: str, uncertain: Exception | None = None) -> None:
        self.note_failure(uncertain)
        found = self._about(self._step, "error" if uncertain is None else "uncertain")
        if isinstance(uncertain, Uncertain):
            found["timestamp"] = uncertain.timestamp
        self._add_timed({**found, "error": text})

    # -- what happens by itself ----------------------------------------------------------------------------

    def died(self, ident: int, text: str, placed: str) -> None:
        self.witness.died(ident)
        self._event({"type": "died", **self._place(), "ids": [ident], "error": text})

    def warn(self, text: str, placed: str) -> None:
        self._event({"type": "warning", **self._place(), "error": text})

    def _event(self, found: dict[str, Any]) -> None:
        self._add({**found, "time": time.monotonic_ns() - self._start})
        self._write()

    # -- objects -------------------------------------------------------------------------------------------

    def _place(self) -> dict[str, Any]:
        """Which line is under way."""
        place: dict[str, Any] = {"line": self._step.number} if self._step else {}
        return place if self._file is None else {**place, "file": self._file}

    def _about(self, step: Step | None, kind: str) -> dict[str, Any]:
        """What a line said, and what kind of object this is."""
        self._step = step
        found = {"type": kind, **self._place()}
        if step is None:
            return found
        found["text"] = _text(step.text)
        if step.command is not None:
            found |= {"f": step.command.name, "ids": list(step.command.ids)}
            if step.command.key:
                found["shape" if step.command.name == "shapeConnection" else "key"] = _text(step.command.key)
        return found

    def _add_timed(self, found: dict[str, Any], now: int | None = None) -> None:
        now = now or time.monotonic_ns()
        self._add({**found, "time": now - self._start, "took": now - self._since})

    def _add(self, found: dict[str, Any]) -> None:
        self._lines.append(json.dumps(found) + "\n")

    def flush(self) -> None:
        self.trace_printed()
        self._write()

    def _write(self) -> None:
        if self._lines:
            data, self._lines = "".join(self._lines).encode("ascii"), []
            write_all(1, data)


def _text(data: bytes) -> str:
    """Bytes as text: each one that isn't UTF-8 becomes a lone surrogate."""
    return data.decode("utf-8", "surrogateescape")


def _status(overview: Overview) -> dict[str, Any]:
    partitions = overview.partitions()
    part_of = {ident: part for part in partitions for ident in part}
    servers: list[dict[str, Any]] = []
    for ident, pid in sorted(overview.servers.items()):
        if pid is None:
            servers.append({"id": ident, "state": "killed"})
            continue
        lacks = overview.lacking(ident, part_of[ident])
        servers.append(
            {
                "id": ident,
                "state": "up",
                "pid": pid,
                **_host(overview, ident),
                "links": sorted(overview.links[ident]),
                "lacks": None if lacks is None else {"here": lacks.here, "elsewhere": lacks.elsewhere},
            }
        )
    clients = [
        {
            "id": ident,
            "state": "died" if client.pid is None else "up",
            **({} if client.pid is None else {"pid": client.pid, **_host(overview, ident)}),
            "connections": list(client.connections),
        }
        for ident, client in sorted(overview.clients.items())
    ]
    found: dict[str, Any] = {"servers": servers, "partitions": partitions, "clients": clients}
    if overview.usual_shape:
        found["shape"] = overview.usual_shape
    if overview.shapes:
        found["shapes"] = [{"ids": list(ends), "shape": shape} for ends, shape in overview.shapes.items()]
    return found


def _host(overview: Overview, ident: int) -> dict[str, str]:
    """On which host a process is, if there are several."""
    return {"host": overview.hosts[ident]} if ident in overview.hosts else {}
