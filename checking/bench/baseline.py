"""Bare programs: what a put costs that crosses two hops while nothing else is done, and what it costs at the least.

May live here: bare programs to compare Daadkvs with. May not: any module of Daadkvs.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import msgpack

__all__ = ["bare_put_seconds", "batched_put_seconds", "parsed_put_seconds"]

LENGTH = struct.Struct("<I")


def _read_exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _receive(sock: socket.socket) -> object:
    return msgpack.unpackb(_read_exactly(sock, LENGTH.unpack(_read_exactly(sock, LENGTH.size))[0]))


def _send(sock: socket.socket, message: object) -> None:
    packed = msgpack.packb(message)
    sock.sendall(LENGTH.pack(len(packed)) + packed)


@contextmanager
def _two_hops() -> Iterator[socket.socket]:
    """Yield a socket to a process that passes each message on to another process, which stores it."""
    ours, near = socket.socketpair()
    far, last = socket.socketpair()
    pids = []
    for role in ("pass", "store"):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        try:
            ours.close()
            store: dict[bytes, bytes] = {}
            while True:
                if role == "pass":
                    _send(far, _receive(near))
                    _send(near, _receive(far))
                else:
                    for key, value in cast(list[list[bytes]], _receive(last)):
                        store[key] = value
                    _send(last, True)
        except BaseException:
            os._exit(0)
    for sock in (near, far, last):
        sock.close()
    try:
        yield ours
    finally:
        ours.close()
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def bare_put_seconds(size: int, puts: int = 5000) -> float:
    """Measure how long one put takes in the bare two-hop program, on average."""
    value = b"v" * size
    with _two_hops() as sock:
        for _ in range(100):
            _send(sock, [(b"key", value)])
            _receive(sock)
        start = time.perf_counter()
        for number in range(puts):
            _send(sock, [(b"key%d" % (number % 1000), value)])
            _receive(sock)
        return (time.perf_counter() - start) / puts


BATCH = 200
"""How many puts each of the five chains is sent at a time."""


def batched_put_seconds(size: int, puts: int = 20000) -> float:
    """Measure what a put takes, on average, in five such chains at once, that pass on whole batches.

    The same bytes cross the same number of processes as with 5 servers and 5 clients, and are stored in a dict. So this
    is the limit for whatever does more than that, in Python, on this machine.
    """
    value = b"v" * size
    with ExitStack() as stack:
        chains = [stack.enter_context(_two_hops()) for _ in range(5)]
        start = time.perf_counter()
        for first in range(0, puts, BATCH * len(chains)):
            for sock in chains:
                _send(sock, [(b"key%d" % (number % 1000), value) for number in range(first, first + BATCH)])
            for sock in chains:
                _receive(sock)
        return (time.perf_counter() - start) / puts


def parsed_put_seconds(size: int, puts: int = 20000) -> float:
    """Measure what a put takes, on average, where lines are split and stored in a dict, in a single process."""
    lines = b"".join(b"put 100 key%d %s\n" % (number % 1000, b"v" * size) for number in range(puts))
    store: dict[bytes, bytes] = {}
    start = time.perf_counter()
    for line in lines.splitlines():
        _, _, key, value = line.split(None, 3)
        store[key] = value
    return (time.perf_counter() - start) / puts
