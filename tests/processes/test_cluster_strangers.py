"""Strangers in the network: they get nothing out of any port of a run on several hosts, and keep nobody waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from checking.lab.dask_cluster import DaskCluster

BEGIN = "".join(f"joinServer {ident}\n" for ident in range(3)) + "".join(f"joinClient 1{i} {i}\n" for i in range(3))


@pytest.fixture
def certificates(cluster: DaskCluster) -> list[tuple[str, str]]:
    """On the stranger's host: one of an unknown authority, and one of Dask's, which is none of the run's."""
    from checking.lab.certificates import Authority

    host = cluster.lab["stranger"]
    found = {"unknown": Authority("unknown"), "dask": cluster.authority}
    for name, authority in found.items():
        authority.certify("stranger", host.address, host.path(f"/tmp/{name}"), f"/tmp/{name}")
    return [(f"/tmp/{name}/me.pem", f"/tmp/{name}/me.key") for name in found]


def test_a_stranger_gets_nothing(cluster: DaskCluster, certificates: list[tuple[str, str]]) -> None:
    from checking.lab.driving import ClusterConversation, Stranger, ports

    with ClusterConversation(cluster, "--gossip-interval", "0") as conversation:
        assert conversation.do(BEGIN) == (b"", [])
        knocked = ports(cluster)
        assert len(knocked.splitlines()) >= 3
        attempts = Stranger(cluster.lab["stranger"]).knock(knocked, 60.0, certificates)
        assert len(attempts) == 9 * len(knocked.splitlines())
        assert [attempt for attempt in attempts if attempt.received or attempt.ended in ("open", "not reached")] == []
        assert conversation.do("put 10 a 1\nstabilize\nget 12 a") == (b"a:1\n", [])
    assert ports(cluster) == ""


def test_a_siege_keeps_nobody_waiting(cluster: DaskCluster) -> None:
    from checking.lab.driving import ClusterConversation, Stranger, ports

    with ClusterConversation(cluster, "--gossip-interval", "0", "--timeout", "60") as conversation:
        assert conversation.do(BEGIN) == (b"", [])
        with Stranger(cluster.lab["stranger"]).besiege(ports(cluster), 50) as siege:
            try:
                assert siege.held >= 300
                output = conversation.do("""
                    joinServer 3
                    joinClient 13 0
                    put 13 a 1
                    stabilize
                    joinClient 13 1
                    breakConnection 13 0
                    get 13 a
                    killServer 1
                    joinServer 1
                    stabilize
                    printStore 3
                """)
            finally:
                siege.kill()
        assert output == (b"a:1\na:1\n", [])


def test_without_an_engine_nothing_listens_on_the_network(cluster: DaskCluster) -> None:
    from checking.driver import Conversation

    with Conversation("--gossip-interval", "0", prefix=cluster.driver.prefix) as conversation:
        assert conversation.do(BEGIN + "put 10 a 1\nstabilize\nget 12 a") == (b"a:1\n", [])
        assert cluster.driver.listening() == []
