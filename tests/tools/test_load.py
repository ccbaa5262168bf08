"""A short form of scripts/load.py: nothing grows, and nothing is left of killed servers."""

from __future__ import annotations

from checking.load import run


def test_two_hundred_kills_and_joins_leave_no_descriptor_and_no_thread() -> None:
    assert run(operations=20_000, cycles=200, seed=1) == []
