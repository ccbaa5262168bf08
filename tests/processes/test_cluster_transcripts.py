"""The transcripts of tests/transcripts/, with servers and clients on several hosts: they print the same bytes there.

With --hosts all of them are told, otherwise one of each family (the first word of their names).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.transcripts import Ground, Story

from checking.driver import Conversation

if TYPE_CHECKING:
    from checking.lab.dask_cluster import DaskCluster

TRANSCRIPTS = sorted((Path(__file__).parent.parent / "transcripts").glob("*.txt"))

FEW = {path.stem.partition("-")[0]: path for path in reversed(TRANSCRIPTS)}.values()
"""The first transcript of each family."""

NUMBERS = count(1)


class ClusterGround(Ground):
    """The hosts of a cluster; each has a folder of this name of its own."""

    def __init__(self, cluster: DaskCluster) -> None:
        super().__init__(Path(f"/tmp/home/story-{next(NUMBERS)}"))
        self._cluster = cluster

    def start(self, options: list[str]) -> Conversation:
        from checking.lab.driving import ClusterConversation

        return ClusterConversation(self._cluster, *options)

    def find(self, name: str) -> Path:
        """Where a file or folder of a server is, on the one host that has it."""
        places = [host.path(str(self.directory / name)) for host in self._cluster.workers]
        (found,) = [place for place in places if place.exists()]
        return found

    def clear(self) -> None:
        """Remove the folder from all hosts."""
        for host in (self._cluster.driver, *self._cluster.workers):
            shutil.rmtree(host.path(str(self.directory)), ignore_errors=True)


@pytest.fixture
def ground(cluster: DaskCluster) -> Iterator[ClusterGround]:
    ground = ClusterGround(cluster)
    yield ground
    ground.clear()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    told = TRANSCRIPTS if metafunc.config.getoption("--hosts") else sorted(FEW)
    metafunc.parametrize("path", told, ids=[path.stem for path in told])


def test_transcript_on_several_hosts(path: Path, ground: ClusterGround) -> None:
    lines = path.read_bytes().split(b"\n")
    assert Story(lines, ground).tell() == lines
