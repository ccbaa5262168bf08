"""The lab itself: its hosts share nothing but a network, cables can be cut, nothing is left of it; plain Dask on it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.hosts import WORKERS

from checking.driver import ROOT, wait_until
from checking.lab.hosts import Host, Lab, Listening

if TYPE_CHECKING:
    from checking.lab.dask_cluster import DaskCluster

pytestmark = pytest.mark.usefixtures("hosts_can_be_had")

ANSWERING = """
import socket, sys
with socket.create_server((sys.argv[1], 7000)) as server:
    print("listening", flush=True)
    while True:
        server.accept()[0].close()
"""

REACHING = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 7000), timeout=float(sys.argv[2])).close()
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""

HOLDING = """
import json, signal
from checking.driver import wait_until
from checking.lab.hosts import Lab
with Lab(["one", "other"]) as lab:
    program = lab["one"].start("sleep", "infinity", log="/tmp/log")
    wait_until(lab["one"].processes, "the program")
    print(json.dumps([host.init for host in lab.hosts.values()] + [lab["one"].processes()[0].pid]), flush=True)
    signal.pause()
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(["one", "other"]) as lab:
        yield lab


def answer(host: Host) -> None:
    host.start(sys.executable, "-Iuc", ANSWERING, host.address, log="/tmp/log")
    wait_until(host.listening, "the program that listens")


def reach(lab: Lab, start: str, goal: str, seconds: float = 20.0) -> str:
    return lab[start].do(sys.executable, "-Ic", REACHING, goal, str(seconds)).strip()


def test_hosts_have_names_addresses_and_process_ids_of_their_own(lab: Lab) -> None:
    one, other = lab["one"], lab["other"]
    assert one.address != other.address
    assert one.do("hostname") == "one\n"
    assert other.do("hostname") == "other\n"
    assert one.do("sh", "-c", "hostname && ps -e -o comm=").split() == ["one", "sleep", "sh", "ps"]


def test_hosts_share_no_files_that_they_write(lab: Lab) -> None:
    lab["one"].do("sh", "-c", "echo mine > /tmp/file && echo mine > /dev/shm/file")
    assert lab["one"].path("/tmp/file").read_text() == "mine\n"
    assert not lab["other"].path("/tmp/file").exists()
    assert not lab["other"].path("/dev/shm/file").exists()
    with pytest.raises(subprocess.CalledProcessError):
        lab["one"].do("touch", "/etc/daadkvs-file")


def test_a_cable_can_be_cut_and_mended(lab: Lab) -> None:
    answer(lab["other"])
    assert lab["other"].listening() == [Listening(lab["other"].address, 7000)]
    assert reach(lab, "one", "other") == "reached"
    lab["other"].cut()
    assert reach(lab, "one", "other", 0.5) == "TimeoutError"
    lab["other"].join()
    assert reach(lab, "one", "other") == "reached"


def test_labs_are_apart_although_their_addresses_are_the_same(lab: Lab) -> None:
    with Lab(["one", "other"]) as second:
        assert second["other"].address == lab["other"].address
        answer(lab["other"])
        assert reach(lab, "one", "other") == "reached"
        assert reach(second, "one", "other") == "ConnectionRefusedError"


def test_processes_of_a_host_are_found_and_signalled(lab: Lab) -> None:
    program = lab["one"].start("sleep", "infinity", log="/tmp/log")
    wait_until(lab["one"].processes, "the program")
    (process,) = lab["one"].processes()
    assert process.title == "sleep infinity"
    assert process.session == process.pid
    assert lab["other"].processes() == []
    lab["one"].signal(process.pid, signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    assert lab["one"].processes() == []


def test_nothing_is_left_of_a_lab() -> None:
    with Lab(["one"]) as lab:
        lab["one"].start("sleep", "infinity", log="/tmp/log")
        init = os.pidfd_open(lab["one"].init)
    assert select.select([init], [], [], 0) == ([init], [], [])
    os.close(init)


def test_nothing_is_left_of_a_lab_whose_test_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, cwd=ROOT) as holding:
        assert holding.stdout is not None
        watched = [os.pidfd_open(pid) for pid in json.loads(holding.stdout.readline())]
        assert select.select(watched, [], [], 0) == ([], [], [])
        holding.kill()
    for descriptor in watched:
        assert select.select([descriptor], [], [], 60)[0] == [descriptor]
        os.close(descriptor)


# -- plain Dask ----------------------------------------------------------------------------------------------

ASKING = """
import json, os, socket, sys
from distributed import Client
from distributed.security import Security

address, ca, certificate, key = sys.argv[1:]
security = Security(tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)
with Client(address, security=security) as client:
    print(json.dumps(client.run(lambda: [socket.gethostname(), os.listdir("/tmp/tls")])))
"""


def test_dask_runs_on_each_host(cluster: DaskCluster) -> None:
    options = cluster.options
    files = [options[options.index(word) + 1] for word in ("--tls-ca", "--tls-cert", "--tls-key")]
    answers = json.loads(cluster.driver.do(sys.executable, "-c", ASKING, cluster.address, *files))
    assert sorted(host for host, _ in answers.values()) == sorted(WORKERS)
    assert {address.split(":")[1] for address in answers} == {f"//{host.address}" for host in cluster.workers}
    assert cluster.others() == {}


def test_dask_listens_on_the_network_at_ports_of_its_hosts_only(cluster: DaskCluster) -> None:
    listening = [(host.address, port) for host in [cluster.head, *cluster.workers] for port in host.listening()]
    assert len(listening) == 1 + 2 * len(WORKERS)
    assert all(port.address == address for address, port in listening)


def test_nobody_listens_where_nothing_runs(cluster: DaskCluster) -> None:
    assert cluster.driver.listening() == []
    assert socket.gethostname() not in ("driver", *WORKERS)
