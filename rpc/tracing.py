"""The trace of a run: what each process did, when it did so, and which earlier events may have been the cause.

May live here: the events of this process, and the files that events are written to and read from. May not: which events
there are. Each room records its own, by `event`.

Theory of operation
-------------------
Each process numbers its events. Every call and every answer carries a *stamp*: the name of its sender, and the number
of the event in which it was sent. The event in which it arrives records the stamp. From these direct causes, the vector
clock of each event follows when the traces are read (Fowler and Zwaenepoel, 1990; checking/traces.py), so that no
message has to carry one. Without --trace, there are no events and no stamps.

The files
---------
Each process has a file, DIR/NAME.trace ("master", "server-0", "client-5"). It is a sequence of msgpack arrays

    [time, number, event, details]

The time is in nanoseconds of the machine's monotonic clock, which is the same for all processes. (Traces that come from
other machines are put into the time of the master's: engine/traces.py.) The number is that of the event among those of
its process, from 1. The details are a map:

| event    | of     | details                                                                                    |
|----------|--------|--------------------------------------------------------------------------------------------|
| run      | master | version, options: how the run was started; scripts: the names of the files, "standard      |
|          |        | input" or "the prompt"                                                                     |
| command  | master | a command begins; where: "line 12"; text: the command as a line                            |
| group    | master | a group begins; commands: [[where, text], …]                                               |
| issued   | master | timestamps: those of the puts and gets of the last command or group                        |
| printed  | master | text: what commands have printed                                                           |
| error    | master | text: the line on stderr; a "warning" has the same form                                    |
| killed   | master | server: one that has been killed by killServer, or found dead                              |
| stable   | master | a stabilize has ended                                                                      |
| started  | server | incarnation; delta: the content of its disk (model.pack_delta); damages                    |
| linked   | server | neighbour                                                                                  |
| unlinked | server | neighbour                                                                                  |
| executed | server | parts: [[client or nil, operations, answers], …], packed as in messages:                   |
|          |        | messages.pack_operations, and a list of messages.plain_answer                              |
| learnt   | server | a delta has been applied; neighbour: who has sent it; delta                                |
| operated | client | operations: packed [[key, value or nil for a get, timestamp], …]; outcomes: a packed list  |
|          |        | of messages.flat_outcome                                                                   |
| undone   | client | the last operations are undone: their server was lost before all clients had an answer     |
| call     | any    | this process makes a call; name: the method                                                |
| called   | any    | a call has arrived; name; by: the calling process; number: its event                       |
| answer   | any    | this process answers a call; name: the method                                              |
| delayed  | server | a message over a link with a shape is under way; way: "call" or "answer"; name: the method; |
|          | client | peer: the process at the other end; number: the event of its sender in which it was sent;   |
|          |        | wait: the nanoseconds until it arrives. The process that calls records this for both ways   |
| lost     | server | such a message was lost; the details are those of delayed; wait: the nanoseconds until it   |
|          | client | can be sent again                                                                           |
| answered | any    | an answer has arrived; name; by: the answering process; number: its event                  |

Keys, values and lines are bytes. In the names of files, bytes that are not valid UTF-8 are escaped (Python's
surrogateescape). If a process is killed, or the disk is full (which ends the trace of this process), the file may end
in the middle of an array, and this event is lost. A later process of the same name cuts it off and continues the file.
An operation has the same timestamp in all processes, which identifies it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

__all__ = [
    "Event",
    "Stamp",
    "begin",
    "called",
    "clear",
    "enable",
    "event",
    "file_of",
    "folder",
    "on",
    "process_of",
    "read",
    "stamp",
    "write",
]

on = False
"""Whether this run is traced."""
failure = ""
"""Why the trace of this process ended early; empty if it did not."""

_folder: Path
_process = ""
_file = -1
_number = 0
"""The number of the last event."""
_packer: msgpack.Packer
_lock = threading.Lock()

LARGE_BYTES = 1 << 20
"""How large an event is after which the packer is replaced: it would keep that much memory for the next one."""

Stamp = tuple[str, int]
"""Who sent a message, and the number of the event in which it was sent. A process that is not traced has no name."""


class Event(NamedTuple):
    """One event, as it is read from a file."""

    time: int
    number: int
    name: str
    details: dict[str, Any]


def enable(folder: Path) -> None:
    """Trace this run, in a folder that is made if it does not exist. Raises OSError.

    Processes that are forked from now on are traced once they call `begin`.
    """
    global on, _folder
    folder.mkdir(parents=True, exist_ok=True)
    _folder, on = folder, True


def folder() -> Path | None:
    """Where the run is traced; None where it isn't."""
    return _folder if on else None


def file_of(process: str) -> str:
    """The name of the file with the trace of a process."""
    return f"{process.replace(' ', '-')}.trace"


def process_of(path: Path) -> str:
    """The name of the process whose trace is in this file."""
    return path.stem.replace("-", " ")


def clear() -> None:
    """If this run is traced, remove the traces that an earlier run has left in the folder. Raises OSError."""
    if on:
        for path in _folder.glob("*.trace"):
            path.unlink()


def begin(process: str) -> None:
    """If this run is traced, begin the trace of this process, under the name *process*, such as "server 0".

    Raises OSError.
    """
    global _process, _file, _number, _packer
    if not on:
        return
    path = _folder / file_of(process)
    _process, _number, _packer = process, 0, _new_packer()
    if path.exists():  # an earlier process had the same name
        whole = 0
        for earlier, end in _read(path):
            _number, whole = earlier.number, end
        os.truncate(path, whole)
    _file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def event(name: str, /, **details: Any) -> None:
    """Record an event, if this process is traced. Does not raise: after a failed write, the trace ends."""
    if on:
        with _lock:
            _write(name, details)


def _write(name: str, details: dict[str, Any]) -> None:
    global _file, _number, _packer, failure
    if _file < 0:  # this process is not traced, or its trace has ended
        return
    _number += 1
    packed = _packer.pack((time.monotonic_ns(), _number, name, details))
    if len(packed) > LARGE_BYTES:
        _packer = _new_packer()
    try:
        if os.write(_file, packed) < len(packed):
            failure = "no space left"
    except OSError as error:
        failure = str(error.strerror)
    if failure:  # the run goes on; no event may be written after a torn one
        os.close(_file)
        _file = -1


def _new_packer() -> msgpack.Packer:
    return msgpack.Packer(unicode_errors="surrogateescape")


def stamp(name: str, message: str) -> Stamp:
    """Record the event *name*: a call or answer about the method *message* is sent. Returns the stamp to send along."""
    with _lock:
        _write(name, {"name": message})
        return _process, _number


def called(name: str, message: str, stamp: Stamp) -> None:
    """Record the event *name*: a call or answer about the method *message* has arrived, with this stamp."""
    sender, number = stamp
    event(name, name=message, by=sender, number=number)


def read(path: Path) -> Iterator[Event]:
    """The events of one process, in order. Raises OSError, and ValueError or TypeError if the file is not a trace."""
    return (event for event, _ in _read(path))


def write(path: Path, events: Iterable[Event]) -> None:
    """Replace a trace by these events, at once. Raises OSError."""
    part = path.with_suffix(".part")
    packer = _new_packer()
    with part.open("wb") as file:
        for event in events:
            file.write(packer.pack(event))
    part.rename(path)


def _read(path: Path) -> Iterator[tuple[Event, int]]:
    """The events of one process, in order, each with the position of its end in the file."""
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file, strict_map_key=False, max_buffer_size=0, unicode_errors="surrogateescape")
        for time_, number, name, details in unpacker:
            if type(number) is not int:  # an earlier format had a clock in its place
                raise ValueError("an event without a number")
            yield Event(time_, number, name, details), unpacker.tell()
