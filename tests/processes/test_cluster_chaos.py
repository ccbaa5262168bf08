"""Random scripts on several hosts, while workers and agents are killed and cables are cut: nothing promised is broken.

Each round is judged by the contract (checking/chaos/), and its history by the checker. --hosts ROUNDS runs more and
longer rounds; scripts/chaos.py --hosts goes on for as long as one likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from checking.lab.dask_cluster import DaskCluster


def test_chaos_on_several_hosts(fresh_cluster: DaskCluster, pytestconfig: pytest.Config) -> None:
    from checking.chaos.rounds import EPOCHS, run_rounds
    from checking.lab.chaos import ClusterRound

    times = pytestconfig.getoption("--hosts")

    def make(seed: int) -> ClusterRound:
        this = ClusterRound(seed, fresh_cluster)
        this.epochs = EPOCHS if times else 1
        return this

    killed, counts, rounds = run_rounds(14, max(1, times), float("inf"), float("inf"), make=make)
    assert rounds == max(1, times)
    assert killed.total() > 0
    assert counts["acknowledged puts"] > 0
    assert fresh_cluster.others() == {}
