"""The options of --engine: what is wrong with them is told in one line, and nothing is started."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checking.driver import LIMIT_SECONDS, ROOT, run

if TYPE_CHECKING:
    from checking.lab.certificates import Files

TLS = ("--engine", "dask:tls://127.0.0.1:1")
TCP = ("--engine", "dask:tcp://127.0.0.1:1")
FILES = ("--tls-ca", "/dev/null", "--tls-cert", "/dev/null", "--tls-key", "/dev/null")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ("--engine", "ray:tls://127.0.0.1:1"),
            "--engine: not of the form dask:tls://HOST:PORT: 'ray:tls://127.0.0.1:1'",
        ),
        (("--engine", "tls://127.0.0.1:1"), "--engine: not of the form dask:tls://HOST:PORT: 'tls://127.0.0.1:1'"),
        (
            ("--engine", "dask:tls://127.0.0.1"),
            "--engine: not of the form dask:tls://HOST:PORT: 'dask:tls://127.0.0.1'",
        ),
        (TLS, "--tls-ca: needed for this --engine, whose scheduler is reached by TLS"),
        ((*TLS, *FILES[:4]), "--tls-key: needed for this --engine, whose scheduler is reached by TLS"),
        ((*TCP, *FILES, "--insecure-engine"), "--tls-ca: this --engine has a scheduler without TLS"),
        (FILES[:2], "--tls-ca: only with --engine"),
        (("--insecure-engine",), "--insecure-engine: only with --engine"),
        (("--place", "/dev/null"), "--place: only with --engine"),
        ((*TLS, *FILES, "--host-timeout", "0.5"), "--host-timeout: must be at least 1"),
    ],
)
def test_options_that_do_not_fit_together(options: tuple[str, ...], told: str) -> None:
    result = run("", *options)
    assert (result.stdout, result.status) == (b"", 2)
    assert result.stderr.endswith(f": error: argument {told}\n")


def test_a_scheduler_without_tls_takes_an_option_that_says_so() -> None:
    result = run("", *TCP)
    assert result.status == 2
    assert "anybody in the network can use a scheduler without TLS" in result.stderr
    assert "--insecure-engine allows that" in result.stderr


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    result = run("", *TLS, "--tls-ca", missing, *FILES[2:])
    assert (result.stderr, result.status) == (f"error: {missing}: No such file or directory\n", 2)


WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None  # an import of it fails
import master
sys.exit(master.main())
"""


@pytest.mark.parametrize("package", ["cryptography", "distributed"])
def test_a_package_that_is_missing(package: str) -> None:
    pytest.importorskip("distributed", reason="needs scripts/requirements-cluster.txt")
    command = [sys.executable, "-c", WITHOUT, package, *TCP, "--insecure-engine"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd=ROOT, check=False
    )
    told = f"error: --engine needs the package {package}, which is missing; `pip install .[cluster]` installs it\n"
    assert (done.stdout, done.stderr, done.returncode) == ("", told, 2)


@pytest.mark.parametrize(("more", "whole"), [("()", False), ("('tlz',)", True)])
def test_a_dask_that_needs_more_than_a_part_of_itself_is_imported_whole(more: str, whole: bool) -> None:
    """No Dask can do without tlz. So if that is kept from it at first, as jinja2 is, the first attempt fails."""
    pytest.importorskip("distributed", reason="needs scripts/requirements-cluster.txt")
    program = f"""
import sys
from engine import keeper
keeper.DISPENSABLE += {more}
print(keeper._import_cluster().__name__, "distributed.client" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == (f"DaskCluster {whole}\n", "")


SENT = """
import pickle, sys
from engine.dask_cluster import _Source
sys.stdout.buffer.write(pickle.dumps([_Source("start_agent"), _Source("end_agent")]))
"""

RECEIVED = """
import inspect, pickle, sys
for function in pickle.load(sys.stdin.buffer):
    print(function.__name__, inspect.iscoroutinefunction(function), *inspect.signature(function).parameters)
"""


def test_what_runs_within_workers_travels_as_source() -> None:
    """A worker that has neither Daadkvs nor cloudpickle, and perhaps another Python, can take it."""
    pytest.importorskip("distributed", reason="needs scripts/requirements-cluster.txt")
    sent = subprocess.run([sys.executable, "-c", SENT], capture_output=True, check=True, cwd=ROOT).stdout
    command = [sys.executable, "-I", "-S", "-c", RECEIVED]
    received = subprocess.run(command, input=sent, capture_output=True, check=True, cwd="/").stdout
    assert received.decode().splitlines() == [
        "start_agent True code terms checkout patience dask_worker",
        "end_agent False pid started folder dask_worker",
    ]


@contextmanager
def listening(handle: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port of this machine where *handle* is called with each connection, which it closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            handle(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def test_a_scheduler_that_closes_connections() -> None:
    pytest.importorskip("distributed", reason="needs scripts/requirements-cluster.txt")
    with listening(lambda connection: connection.close()) as port:
        result = run("joinServer 0\n", "--engine", f"dask:tcp://127.0.0.1:{port}", "--insecure-engine")
    assert (result.stdout, result.status) == (b"", 2)
    assert re.fullmatch(rf"error: tcp://127.0.0.1:{port}: .*(closed|reset).*\n", result.stderr)


@pytest.mark.parametrize(
    ("scheduler_by", "driver_by", "told"),
    [("another", "the usual", "certificate"), ("the usual", "another", r"UNKNOWN_CA|unknown ca")],
)
def test_a_certificate_of_another_authority(scheduler_by: str, driver_by: str, told: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs scripts/requirements-cluster.txt")
    pytest.importorskip("cryptography", reason="needs scripts/requirements-cluster.txt")
    from checking.lab.certificates import Authority

    authorities = {"the usual": Authority("the usual"), "another": Authority("another")}

    def certify(name: str, by: str) -> Files:
        folder = tmp_path / name
        folder.mkdir()
        return authorities[by].certify(name, "127.0.0.1", folder, str(folder))

    trusted = certify("trusted", "the usual").authority
    scheduler, driver = certify("scheduler", scheduler_by), certify("driver", driver_by)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(scheduler.certificate, scheduler.key)

    def handle(connection: socket.socket) -> None:
        with connection.dup() as same, suppress(OSError):
            with suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()
            while same.recv(1 << 16):  # until the other side has read why
                pass

    with listening(handle) as port:
        files = ("--tls-ca", trusted, "--tls-cert", driver.certificate, "--tls-key", driver.key)
        result = run("joinServer 0\n", "--engine", f"dask:tls://127.0.0.1:{port}", *files)
    assert (result.stdout, result.status) == (b"", 2)
    assert re.fullmatch(rf"error: tls://127.0.0.1:{port}: .*({told}).*\n", result.stderr)


def test_a_file_of_places_that_says_nothing(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs scripts/requirements-cluster.txt")
    places = tmp_path / "places"
    places.write_text("0: alpha\n1 beta\n")
    result = run("", *TCP, "--insecure-engine", "--place", str(places))
    told = f"error: {places}: line 2: not of the form `ID: HOST` or `FIRST-LAST: HOST`: 1 beta\n"
    assert (result.stderr, result.status) == (told, 2)


def test_a_server_whose_store_is_on_another_machine_does_not_start_here(tmp_path: Path) -> None:
    """A run without an engine, in the data directory of one with an engine."""
    (tmp_path / "hosts").write_text("1 beta\n")
    result = run("joinServer 0\njoinServer 1\n", "--data-dir", str(tmp_path))
    told = "server 1 could not be started: its store is on host beta, which takes --engine"
    assert result.errors == [f"error: line 2: joinServer: {told}"]
    assert (tmp_path / "server-0").is_dir()
    assert not (tmp_path / "server-1").exists()


FOREIGN = ("dask", "distributed", "cryptography", "ssl", "asyncio", "engine", "rpc.tls", "cloudpickle")


def test_nothing_of_it_is_imported_without_an_engine() -> None:
    """Neither by the master, nor by the process that starts all others."""
    program = f"""
import sys
import master
from control import cluster, roles
roles.load()
print([name for name in {FOREIGN!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
