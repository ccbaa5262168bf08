"""checking/traces.py: the vector clock of each event, from who sent each message and in which event."""

from __future__ import annotations

from random import Random

import pytest

from checking.traces import in_order
from rpc.tracing import Event

PROCESSES = ("master", "client 5", "server 0", "server 1")


def talk(seed: int) -> tuple[dict[str, list[Event]], dict[tuple[str, int], set[tuple[str, int]]]]:
    """What processes did, and for each event all that can be a cause of it, itself included.

    Messages arrive in any order, or never.
    """
    random = Random(seed)
    traces: dict[str, list[Event]] = {process: [] for process in PROCESSES}
    causes: dict[tuple[str, int], set[tuple[str, int]]] = {}
    under_way: list[tuple[str, int]] = []
    for time in range(300):
        process = random.choice(PROCESSES)
        number = len(traces[process]) + 1
        known = causes.get((process, number - 1), set()) | {(process, number)}
        kind = random.choice(("call", "answer", "called", "answered", "stable", "lost"))
        details: dict[str, object] = {}
        if kind in ("called", "answered", "lost"):
            if not under_way:
                continue
            by = under_way.pop(random.randrange(len(under_way)))
            if kind == "lost":
                continue
            details = {"by": by[0], "number": by[1]}
            known |= causes[by]
        elif kind != "stable":
            under_way.append((process, number))
        causes[process, number] = known
        traces[process].append(Event(time, number, kind, details))
    return traces, causes


@pytest.mark.parametrize("seed", range(20))
def test_clocks_name_the_last_cause_in_each_process(seed: int) -> None:
    traces, causes = talk(seed)
    clocks: dict[str, dict[str, int]] = {process: {} for process in PROCESSES}
    times = []
    for process, event, new in in_order(traces):
        times.append(event.time)
        assert all(number > clocks[process].get(other, 0) for other, number in new.items())
        clocks[process] |= new
        known = causes[process, event.number]
        last = {other: max((number for of, number in known if of == other), default=0) for other in PROCESSES}
        assert clocks[process] == {other: number for other, number in last.items() if number}
    assert times == sorted(times)
    assert len(times) == len(causes)


def test_a_message_whose_sender_left_no_trace_is_known_by_its_number() -> None:
    arrived = Event(5, 1, "called", {"name": "execute", "by": "client 5", "number": 7})
    assert list(in_order({"server 0": [arrived]})) == [("server 0", arrived, {"server 0": 1, "client 5": 7})]


def test_a_message_of_a_process_that_is_not_traced_brings_nothing() -> None:
    arrived = Event(5, 1, "answered", {"name": "start", "by": "", "number": 0})
    assert list(in_order({"master": [arrived]})) == [("master", arrived, {"master": 1})]
