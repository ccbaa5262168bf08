"""A plugin of pytest for tests that run a cluster: installed, it is found by itself; in a checkout, by
`pytest_plugins = ["scripts.fixtures"]` in conftest.py.

May live here: fixtures. May not: what a run is (daadkvs.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daadkvs import Run

__all__ = ["daadkvs_run"]


@pytest.fixture
def daadkvs_run() -> Iterator[Run]:
    """A run of Daadkvs without gossip and without servers, which ends with the test."""
    with Run(gossip_interval=0) as run:
        yield run
