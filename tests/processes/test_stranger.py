"""The stranger of the lab gets something out of a port where there is something to get: else it would prove nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from checking.driver import wait_until
from checking.lab.hosts import Lab

if TYPE_CHECKING:
    from checking.lab.driving import Stranger
    from checking.lab.stranger import Attempt

pytestmark = pytest.mark.usefixtures("clusters_can_be_had")

SERVING = """
import socket, ssl, sys, threading
address, port, tls, verify = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tls", sys.argv[4] == "verify"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tmp/tls/me.pem", "/tmp/tls/me.key")
context.load_verify_locations("/tmp/tls/ca.pem")
context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
def serve(sock):
    try:
        sock.settimeout(1)
        if tls:
            sock = context.wrap_socket(sock, server_side=True)
        sock.sendall(b"hello")
        sock.recv(64)
    except OSError:
        pass
    sock.close()
with socket.create_server((address, port)) as server:
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    from checking.lab.certificates import Authority

    with Lab(["server", "stranger"]) as lab:
        server, stranger = lab["server"], lab["stranger"]
        right, wrong = Authority("right"), Authority("wrong")
        right.certify("server", server.address, server.path("/tmp/tls"), "/tmp/tls")
        right.certify("guest", stranger.address, stranger.path("/tmp/right"), "/tmp/right")
        wrong.certify("guest", stranger.address, stranger.path("/tmp/wrong"), "/tmp/wrong")
        for port, words in enumerate((("plain", "-"), ("tls", "-"), ("tls", "verify")), 7000):
            server.start(sys.executable, "-Ic", SERVING, server.address, str(port), *words, log="/tmp/log")
        wait_until(lambda: len(server.listening()) == 3, "the servers")
        yield lab


@pytest.fixture(scope="module")
def attempts(lab: Lab) -> dict[tuple[int, str], Attempt]:
    found = knocker(lab).knock(
        "".join(f"{lab['server'].address} {port}\n" for port in (7000, 7001, 7002, 7003)),
        30.0,
        [(f"/tmp/{name}/me.pem", f"/tmp/{name}/me.key") for name in ("right", "wrong")],
    )
    return {(attempt.port, attempt.way): attempt for attempt in found}


def knocker(lab: Lab) -> Stranger:
    from checking.lab.driving import Stranger

    return Stranger(lab["stranger"])


def text(attempt: Attempt) -> bytes:
    return bytes.fromhex(attempt.received)


def test_plain_text_is_read(attempts: dict[tuple[int, str], Attempt]) -> None:
    for way in ("silence", "plain text", "zeros", "a part of a hello"):
        assert text(attempts[7000, way]) == b"hello"


def test_who_verifies_nobody_serves_anybody(attempts: dict[tuple[int, str], Attempt]) -> None:
    for way in ("no certificate", "an older TLS", "certificate /tmp/wrong/me.pem"):
        assert text(attempts[7001, way]) == b"hello"


def test_who_verifies_serves_the_right_one_only(attempts: dict[tuple[int, str], Attempt]) -> None:
    answers = {way: text(attempt) for (port, way), attempt in attempts.items() if port == 7002}
    assert answers.pop("certificate /tmp/right/me.pem") == b"hello"
    assert len(answers) == 8
    assert set(answers.values()) == {b""}
    assert {attempt.ended for attempt in attempts.values()}.isdisjoint({"open"})


def test_a_port_where_nobody_listens(attempts: dict[tuple[int, str], Attempt]) -> None:
    assert {attempt.ended for (port, _), attempt in attempts.items() if port == 7003} == {"not reached"}


def test_a_siege_holds_connections(lab: Lab) -> None:
    with knocker(lab).besiege(f"{lab['server'].address} 7002\n", 20) as siege:
        try:
            assert siege.held == 40
        finally:
            siege.kill()
