"""The traces that a run leaves (master.py --trace DIR): reading them all, their vector clocks, and counting in them.

May live here: what can be read from a folder of traces, and what follows from it whatever the events mean. May not: the
format of a trace (rpc/tracing.py), and the story that traces tell together (checking/telling.py).
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice, repeat
from pathlib import Path

from rpc import tracing
from rpc.tracing import Event

__all__ = ["NoTrace", "given_up", "in_order", "read", "stream"]

PROCESS = re.compile(r"master|client-\d+|server-\d+")
"""The names of the processes that leave a trace."""


class NoTrace(Exception):
    """There is nothing to report on; the text says why."""


def read(folder: Path) -> dict[str, list[Event]]:
    """Read the events of each process. Raises NoTrace."""
    return {name: list(events) for name, events in stream(folder).items()}


def stream(folder: Path) -> dict[str, Iterator[Event]]:
    """The events of each process, which are read as they are asked for. Raises NoTrace, also while they are read."""
    if not folder.is_dir():
        raise NoTrace(f"{folder}: no such folder")
    traces: dict[str, Iterator[Event]] = {}
    is_empty = True
    for path in sorted(folder.glob("*.trace")):
        if not PROCESS.fullmatch(path.stem):
            raise NoTrace(f"{path}: this is not the trace of a process")
        events = _events(path)
        first = list(islice(events, 1))
        is_empty = is_empty and not first
        traces[tracing.process_of(path)] = chain(first, events)
    if is_empty:
        raise NoTrace(f"{folder}: there are no traces in it; they are written by ./master.py --trace {folder}")
    return traces


def _events(path: Path) -> Iterator[Event]:
    try:
        yield from tracing.read(path)
    except OSError as error:
        raise NoTrace(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise NoTrace(f"{path}: this is not a trace: {error}") from error


def in_order(traces: Mapping[str, Iterable[Event]]) -> Iterator[tuple[str, Event, dict[str, int]]]:
    """All events in the order of their times: the process, the event, and what is new in the vector clock.

    The *vector clock* of an event says for each process which is its last event that can be a cause of this one (Fidge,
    1988; Mattern, 1988). So for any two events, their clocks show whether one may have caused the other. The vector
    clocks of writes are others. An event is caused by the one before it in its process, and the arrival of a message by
    its being sent; so it knows what these two know.
    """
    clocks: dict[str, dict[str, int]] = {process: {} for process in traces}
    under_way: dict[tuple[str, int], dict[str, int]] = {}  # stamp -> the clock of the event in which it was sent
    each = [zip(repeat(process), events) for process, events in traces.items()]
    for process, event in heapq.merge(*each, key=lambda entry: entry[1].time):  # so that no event has to be kept
        clock, new = clocks[process], {process: event.number}
        if event.name in ("called", "answered"):
            stamp = event.details["by"], event.details["number"]
            for other, number in under_way.pop(stamp, dict([stamp])).items():
                if other != process and number > clock.get(other, 0):
                    new[other] = number
        clock |= new
        if event.name in ("call", "answer"):
            under_way[process, event.number] = dict(clock)
        yield process, event, new


def given_up(trace: Path) -> int:
    """Count the groups that were given up, in part or as a whole, so that commands were carried out one by one."""
    under_way: set[str] = set()
    count = 0
    for event in tracing.read(trace / "master.trace"):
        if event.name == "group":
            under_way = {where for where, _ in event.details["commands"]}
        elif event.name == "command" and event.details["where"] in under_way:
            count += 1
            under_way = set()
    return count
