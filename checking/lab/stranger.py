"""A stranger, who may send packets to a host but is no part of a run: what it gets out of a port. A program by itself.

May live here: ways to knock, and what came back. May not: what should come back; an import of anything of ours, since
this file is run alone, on the stranger's own host:

    python -I stranger.py try SECONDS [CERTIFICATE KEY]… < ports     ports: lines of ADDRESS PORT
    python -I stranger.py besiege COUNT < ports

`try` knocks at each port in all ways at once, and waits up to SECONDS until it is turned away; it prints a line of JSON
for each attempt. `besiege` opens COUNT connections to each port in each of two ways, silent and with half a handshake,
prints how many it has got, opens each anew that the other side closes, and goes on until it is killed.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

__all__ = ["Attempt", "context", "hello", "main"]


class Attempt(NamedTuple):
    """What came of knocking at a port in one way."""

    way: str
    address: str
    port: int
    ended: str
    """How it ended: "not reached", "closed", "reset", "open" where the other side had not ended it in time, or the name
    of what TLS has refused."""
    received: str
    """What came back, in hexadecimal digits, beyond the handshake of TLS."""


Target = tuple[str, int]
Way = Callable[[Target, float], tuple[str, bytes]]


def _connect(target: Target, seconds: float) -> socket.socket:
    return socket.create_connection(target, timeout=seconds)


def _until_end(sock: socket.socket, deadline: float) -> tuple[str, bytes]:
    """Read until the other side ends the connection, or until *deadline*."""
    received = b""
    while True:
        try:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            piece = sock.recv(1 << 16)
        except TimeoutError:
            return "open", received
        except ssl.SSLError as error:
            return error.reason or type(error).__name__, received
        except ConnectionError:
            return "reset", received
        if not piece:
            return "closed", received
        received += piece


def _sends(data: bytes) -> Way:
    """Way: send *data*, which may be nothing, and wait."""

    def knock(target: Target, seconds: float) -> tuple[str, bytes]:
        deadline = time.monotonic() + seconds
        with _connect(target, seconds) as sock:
            sock.sendall(data)
            ended, received = _until_end(sock, deadline)
        is_alert = received[:2] == b"\x15\x03" and len(received) == 7  # that of TLS, which says only "no"
        return ended, b"" if is_alert else received

    return knock


def context(*certificate: str, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    """What a stranger speaks TLS with: it takes whatever certificate it gets. *certificate*: its own, and the key."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = newest
    if certificate:
        made.load_cert_chain(*certificate)
    return made


def _speaks_tls(spoken: ssl.SSLContext) -> Way:
    """Way: shake hands, then ask for anything, and wait."""

    def knock(target: Target, seconds: float) -> tuple[str, bytes]:
        deadline = time.monotonic() + seconds
        try:
            with spoken.wrap_socket(_connect(target, seconds)) as sock:
                try:
                    sock.sendall(bytes(64))
                except OSError:
                    pass  # why it is refused comes with the next read
                return _until_end(sock, deadline)
        except ssl.SSLError as error:
            return error.reason or type(error).__name__, b""

    return knock


def hello() -> bytes:
    """The first message of a handshake, which a TLS client begins with."""
    outgoing = ssl.MemoryBIO()
    try:
        context().wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def _stops_after_hello(target: Target, seconds: float) -> tuple[str, bytes]:
    """Way: begin a handshake, and never finish it. What comes back is the server's half of the handshake."""
    deadline = time.monotonic() + seconds
    with _connect(target, seconds) as sock:
        sock.sendall(hello())
        ended, _ = _until_end(sock, deadline)
        return ended, b""


def ways(certificates: list[tuple[str, str]]) -> Iterator[tuple[str, Way]]:
    """All ways to knock; *certificates*: files of certificates that aren't the run's, with their keys."""
    yield "silence", _sends(b"")
    yield "plain text", _sends(b"GET / HTTP/1.0\r\n\r\n")
    yield "zeros", _sends(bytes(4096))
    yield "a part of a hello", _sends(hello()[:50])
    yield "half a handshake", _stops_after_hello
    yield "no certificate", _speaks_tls(context())
    yield "an older TLS", _speaks_tls(context(newest=ssl.TLSVersion.TLSv1_2))
    for certificate, key in certificates:
        yield f"certificate {certificate}", _speaks_tls(context(certificate, key))


def attempts(targets: list[Target], seconds: float, certificates: list[tuple[str, str]]) -> list[Attempt]:
    """Knock at each port in all ways, all at once."""
    done: list[Attempt] = []

    def knock(way: str, how: Way, target: Target) -> None:
        try:
            ended, received = how(target, seconds)
        except ConnectionRefusedError:
            ended, received = "not reached", b""
        except TimeoutError:
            ended, received = "open", b""
        except ConnectionError:
            ended, received = "reset", b""
        done.append(Attempt(way, *target, ended, received.hex()))

    threads = [
        threading.Thread(target=knock, args=(way, how, target)) for target in targets for way, how in ways(certificates)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(threads), "an attempt has failed in an unforeseen way"
    return sorted(done)


def besiege(targets: list[Target], count: int) -> NoReturn:
    """Hold *count* silent connections and as many with half a handshake at each port, and never let go."""
    part = hello()[:50]
    wanted = [(target, first) for target in targets for first in (b"", part) for _ in range(count)]
    poller = select.poll()
    held: dict[int, tuple[socket.socket, Target, bytes]] = {}

    def hold(target: Target, first: bytes) -> None:
        try:
            sock = _connect(target, 5.0)
            sock.sendall(first)
        except OSError:
            return  # nobody listens there any more, or it is full
        held[sock.fileno()] = sock, target, first
        poller.register(sock, select.POLLIN)

    for target, first in wanted:
        hold(target, first)
    print(len(held), flush=True)
    while True:
        for descriptor, _ in poller.poll():
            sock, target, first = held[descriptor]
            try:
                if sock.recv(1 << 16):
                    continue
            except ConnectionError:
                pass
            poller.unregister(descriptor)
            del held[descriptor]
            sock.close()
            time.sleep(0.01)
            hold(target, first)


def main(arguments: list[str]) -> None:
    """Read ports from stdin, and knock at them."""
    targets = [(address, int(port)) for address, port in map(str.split, sys.stdin)]
    mode, number, *files = arguments
    if mode == "besiege":
        besiege(targets, int(number))
    for attempt in attempts(targets, float(number), list(zip(files[::2], files[1::2], strict=True))):
        print(json.dumps(attempt))


if __name__ == "__main__":
    main(sys.argv[1:])
