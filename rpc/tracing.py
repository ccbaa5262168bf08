"""The trace of a run: what each process did, when, and after what.

May live here: the events of this process, its vector clock, and the files that they are written to and read from.
May not: what is traced where; each room says that itself, by `event`.

Theory of operation
-------------------
Each process counts its events, and remembers, of every other process, the last event that it can know of: that is
the *vector clock* of processes (Fidge; Mattern, 1988; not to be confused with those of writes). Every call and every
answer carries the clock of its sender along, so that of any two events the clocks say whether one can have caused the
other. Without --trace nothing of this happens, and nothing travels.

The files
---------
DIR/NAME.trace, one for each process ("master", "server-0", "client-5"), is a sequence of msgpack arrays

    [time, clock, event, details]

The time is in nanoseconds of the machine's monotonic clock, the same for all processes. The clock maps names of
processes to numbers of events; the process's own entry numbers this event. Details are a map:

| event    | of     | details                                                                                    |
|----------|--------|--------------------------------------------------------------------------------------------|
| run      | master | version, options: how the run was started; scripts: the names of the files, "standard      |
|          |        | input" or "the prompt"                                                                     |
| command  | master | where: "line 12"; text: the command as a line                                              |
| group    | master | commands: [[where, text], …], puts and gets that are to be under way together              |
| issued   | master | timestamps: of the puts and gets of the last command or group                              |
| printed  | master | text: what commands have printed                                                           |
| error    | master | text: the line on stderr; so also "warning"                                                |
| killed   | master | server: by killServer, or it was found dead                                                |
| stable   | master | a stabilize is done                                                                        |
| started  | server | incarnation; delta: what its disk had (model.pack_delta); damages                          |
| linked   | server | neighbour                                                                                  |
| unlinked | server | neighbour                                                                                  |
| executed | server | parts: [[client or nil, operations, answers], …], as they are packed for the wire:         |
|          |        | messages.pack_operations, and a list of messages.plain_answer                              |
| learnt   | server | neighbour; delta: what it has sent                                                         |
| operated | client | operations: packed [[key, value or nil for a get, timestamp], …]; outcomes: packed         |
|          |        | [[Session.execute's, …], …]                                                                |
| undone   | client | the last operations have never been: their server was lost before all had an answer        |
| call     | any    | name: the method that another process is asked for                                         |
| called   | any    | name; by: who asks; number: its event                                                      |
| answer   | any    | name: what has been asked for, and is answered now                                         |
| answered | any    | name; by: who has answered; number: its event                                              |

Keys, values and lines are bytes; what isn't UTF-8 in a file's name is escaped (Python's surrogateescape). A trace that
ends in the middle of an array (its process was killed, or the disk was full, which ends the trace of that process) has
lost that one; a later life of the process goes on in its place.
An operation is known by its timestamp, in all of its processes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

__all__ = ["Event", "begin", "called", "clear", "enable", "event", "folder", "on", "read", "stamp"]

on = False
"""Whether this run is traced."""
failure = ""
"""Why the trace of this process has ended before the process, if it has."""

_folder: Path
_process = ""
_file = -1
_clock: dict[str, int] = {}
_lock = threading.Lock()


class Event(NamedTuple):
    """One event, as it is read."""

    time: int
    clock: dict[str, int]
    name: str
    details: dict[str, Any]


def enable(folder: Path) -> None:
    """Trace this run, in a folder that is made if need be. Raises OSError.

    Processes that are forked from now on are traced once they `begin`.
    """
    global on, _folder
    folder.mkdir(parents=True, exist_ok=True)
    _folder, on = folder, True


def folder() -> Path | None:
    """Where the run is traced; None where it isn't."""
    return _folder if on else None


def clear() -> None:
    """Remove what an earlier run has left in the folder, if this run is traced. Raises OSError."""
    if on:
        for path in _folder.glob("*.trace"):
            path.unlink()


def begin(process: str) -> None:
    """This process is *process* from now on: "server 0", say. Does nothing where the run is not traced."""
    global _process, _file, _clock
    if not on:
        return
    path = _folder / f"{process.replace(' ', '-')}.trace"
    _process, _clock = process, {process: 0}
    if path.exists():  # an earlier life
        whole = 0
        for earlier, end in _read(path):
            _clock, whole = earlier.clock, end
        os.truncate(path, whole)
    _file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def event(name: str, **details: Any) -> None:
    """Write an event down; does nothing where the run is not traced."""
    with _lock:
        _write(name, details)


def _write(name: str, details: dict[str, Any]) -> None:
    global _file, failure
    if _file < 0:  # this process isn't one that the report is about, or its disk was full
        return
    _clock[_process] += 1
    packed = msgpack.packb([time.monotonic_ns(), _clock, name, details], unicode_errors="surrogateescape")
    try:
        if os.write(_file, packed) < len(packed):
            failure = "no space left"
    except OSError as error:
        failure = str(error.strerror)
    if failure:  # that must not hurt what is traced, and nothing may stand behind a torn event
        os.close(_file)
        _file = -1


def stamp(name: str, message: str) -> list[Any]:
    """A message goes out, about the method *message*: the event is *name*. What to send along."""
    with _lock:
        _write(name, {"name": message})
        return [_process, _clock.copy()]


def called(name: str, message: str, stamp: list[Any]) -> None:
    """A message has come in, with what its sender has sent along."""
    sender, clock = stamp
    with _lock:
        for process, number in clock.items():
            if process != _process and _clock.get(process, 0) < number:
                _clock[process] = number
        _write(name, {"name": message, "by": sender, "number": clock.get(sender, 0)})


def read(path: Path) -> Iterator[Event]:
    """The events of one process, in their order. Raises OSError, and ValueError or TypeError for what is no trace."""
    return (event for event, _ in _read(path))


def _read(path: Path) -> Iterator[tuple[Event, int]]:
    """The same, each with where it ends in the file."""
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file, strict_map_key=False, max_buffer_size=0, unicode_errors="surrogateescape")
        for time_, clock, name, details in unpacker:
            yield Event(time_, clock, name, details), unpacker.tell()
