"""Traces from machines whose clocks differ: no event is older than its cause, and times stay where they can."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from engine import traces
from rpc import tracing
from rpc.tracing import Event


def call(time: int, caller: str, number: int, called: str, other: int) -> tuple[Event, Event]:
    """An event that calls, and the event that is called, a microsecond later."""
    return (
        Event(time, number, "call", {"name": "x"}),
        Event(time + 1000, other, "called", {"name": "x", "by": caller, "number": number}),
    )


def write(folder: Path, found: dict[str, list[Event]]) -> None:
    for process, events in found.items():
        tracing.write(folder / f"{process.replace(' ', '-')}.trace", events)


def read(folder: Path) -> dict[str, list[Event]]:
    return {path.stem.replace("-", " "): list(tracing.read(path)) for path in folder.glob("*.trace")}


def talk(seed: int) -> dict[str, list[Event]]:
    """What three processes on one machine tell each other."""
    random = Random(seed)
    found: dict[str, list[Event]] = {"master": [], "server 0": [], "client 5": []}
    for step in range(200):
        caller, called = random.sample(sorted(found), 2)
        begin, end = call(step * 10_000, caller, len(found[caller]) + 1, called, len(found[called]) + 1)
        found[caller].append(begin)
        found[called].append(end)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_causes_are_older_wherever_clocks_are_known_badly(tmp_path: Path, seed: int) -> None:
    true = talk(seed)
    random = Random(-seed)
    offsets = {"server-0.trace": random.randrange(10**12), "client-5.trace": -random.randrange(10**12)}
    errors = {name: random.randrange(-50_000, 50_000) for name in offsets}

    def elsewhere(process: str) -> list[Event]:
        offset = offsets.get(f"{process.replace(' ', '-')}.trace", 0)
        return [event._replace(time=event.time - offset) for event in true[process]]

    write(tmp_path, {process: elsewhere(process) for process in true})
    traces.agree(tmp_path, {name: offset + errors[name] for name, offset in offsets.items()})
    found = read(tmp_path)
    assert {process: [event._replace(time=0) for event in events] for process, events in found.items()} == {
        process: [event._replace(time=0) for event in events] for process, events in true.items()
    }
    times = {(process, number): event.time for process in found for number, event in enumerate(found[process], 1)}
    for process, events in found.items():
        assert [event.time for event in events] == sorted(event.time for event in events)
        for event in events:
            if "by" in event.details:
                assert times[event.details["by"], event.details["number"]] < event.time
        moved = [abs(now.time - then.time) for now, then in zip(events, true[process], strict=True)]
        assert max(moved) <= 400_000  # the errors of the clocks, and what follows from them


def test_clocks_that_agree_leave_everything_as_it_is(tmp_path: Path) -> None:
    true = talk(1)
    write(tmp_path, true)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    traces.agree(tmp_path, {"server-0.trace": 0, "client-5.trace": 0})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_cause_whose_trace_was_lost_is_not_waited_for(tmp_path: Path) -> None:
    true = talk(2)
    del true["client 5"]
    write(tmp_path, true)
    traces.agree(tmp_path, {"server-0.trace": 10**9})
    assert {process: len(events) for process, events in read(tmp_path).items()} == {
        process: len(events) for process, events in true.items()
    }
