"""Traces from several machines, whose clocks differ: they are put into the time of one clock.

May live here: that. May not: the format of a trace (rpc/tracing.py), and how traces are fetched.

Whoever reads traces takes the cause of an event to be older than the event (checking/telling.py). How much clocks
differ is known only as exactly as a message is fast. So what is left over is put right by the vector clocks: an event
that would be older than its cause, or than an earlier event of its process, is moved behind that.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path

from rpc import tracing
from rpc.tracing import Event

__all__ = ["agree"]


def agree(folder: Path, differences: Mapping[str, int]) -> None:
    """Put all traces in a folder into the time of one clock. Raises OSError.

    *differences*: the name of a file -> what is to be added to its times, in nanoseconds; 0 if it isn't there.
    """
    if not any(differences.values()):
        return
    traces = {tracing.process_of(path): list(tracing.read(path)) for path in folder.glob("*.trace")}
    moved = {
        process: [event._replace(time=event.time + differences.get(tracing.file_of(process), 0)) for event in events]
        for process, events in traces.items()
    }
    for process, events in _in_order(moved).items():
        tracing.write(folder / tracing.file_of(process), events)


def _in_order(traces: Mapping[str, list[Event]]) -> dict[str, list[Event]]:
    """The same events, none of which is older than its cause."""
    numbers = {process: [event.number for event in events] for process, events in traces.items()}
    times: dict[tuple[str, int], int] = {}  # of the events that are in order
    recorded = {(process, number) for process, listed in numbers.items() for number in listed}
    ordered: dict[str, list[Event]] = {process: [] for process in traces}
    waiting: dict[tuple[str, int], list[str]] = defaultdict(list)
    ready = deque(traces)
    while ready:
        process = ready.popleft()
        done = ordered[process]
        while len(done) < len(traces[process]):
            event = traces[process][len(done)]
            cause = event.details.get("by", ""), event.details.get("number", 0)
            if cause in recorded and cause not in times:
                waiting[cause].append(process)
                break
            earliest = max(times.get(cause, -1), done[-1].time if done else -1) + 1
            done.append(event._replace(time=max(event.time, earliest)))
            this = process, numbers[process][len(done) - 1]
            times[this] = done[-1].time
            ready.extend(waiting.pop(this, ()))
    return ordered
