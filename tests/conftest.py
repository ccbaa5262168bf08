"""Options and profiles of the tests, and what test files of several folders need: one browser for a whole session."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings
from support.browser import chromium
from support.hosts import cluster, clusters_can_be_had, fresh_cluster, hosts_can_be_had

__all__ = ["chromium", "cluster", "clusters_can_be_had", "fresh_cluster", "hosts_can_be_had"]

for variable in [name for name in os.environ if name.startswith("PYTHON")]:
    del os.environ[variable]  # nothing that a test starts is led astray by them
if sys.flags.optimize:
    raise pytest.UsageError("python -O, or PYTHONOPTIMIZE, takes the assertions out of the tests")

settings.register_profile("default", deadline=None, derandomize=True, database=None)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seeds",
        type=int,
        default=6,
        help="how many random scripts are run (test_pipeline.py, test_given_up.py, test_check.py)",
    )
    parser.addoption("--schedules", type=int, default=4_000, help="how many are simulated (test_simulation.py)")
    parser.addoption(
        "--hosts",
        type=int,
        default=0,
        help="how often each failure on several hosts is tried (test_cluster_failures.py); then all transcripts are "
        "told there as well (test_cluster_transcripts.py). 0: once, and a part of the transcripts",
    )
    parser.addoption(
        "--search",
        action="store_true",
        help="have the simulator find each deliberate mistake at random, too (test_mutants.py)",
    )
    parser.addoption("--rewrite", action="store_true", help="write what transcripts print into them, as expected")
