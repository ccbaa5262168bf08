"""Labs for tests: several hosts, and a Dask cluster on them; skipped, with the reason, where they can't be had.

May live here: fixtures. May not: how hosts and clusters are made (checking/lab/), nor any test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from checking.lab.hosts import why_not

if TYPE_CHECKING:
    from checking.lab.dask_cluster import DaskCluster

__all__ = ["WORKERS", "cluster", "clusters_can_be_had", "fresh_cluster", "hosts_can_be_had"]

WORKERS = ("alpha", "beta", "gamma")
"""The hosts with a worker. The others are the driver's, the scheduler's, and a stranger's."""


@pytest.fixture(scope="session")
def hosts_can_be_had() -> None:
    """Skip the test where there can be no lab."""
    if reason := why_not():
        pytest.skip(f"hosts can't be had here: {reason}")


@pytest.fixture(scope="session")
def clusters_can_be_had(hosts_can_be_had: None) -> None:
    """Skip the test where there can be no Dask cluster in a lab."""
    if missing := [name for name in ("distributed", "cryptography") if find_spec(name) is None]:
        pytest.skip(f"no Dask cluster can be had here: {' and '.join(missing)} are not installed")


def _cluster() -> AbstractContextManager[DaskCluster]:
    from checking.lab.dask_cluster import cluster_in_a_lab

    return cluster_in_a_lab(WORKERS, ["stranger"])


@pytest.fixture(scope="session")
def cluster(clusters_can_be_had: None) -> Iterator[DaskCluster]:
    """A Dask cluster that tests share: they must leave it as they have found it."""
    with _cluster() as cluster:
        yield cluster


@pytest.fixture
def fresh_cluster(clusters_can_be_had: None) -> Iterator[DaskCluster]:
    """A Dask cluster that a test may kill, freeze and cut as it likes."""
    with _cluster() as cluster:
        yield cluster
