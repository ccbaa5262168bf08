"""The bare two-hop program: the cost of a put that crosses two hops while nothing else is done.

May live here: bare programs to compare Daadkvs with. May not: any module of Daadkvs.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import msgpack

__all__ = ["bare_put_seconds"]

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
                    key, value = cast(list[bytes], _receive(last))
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
            _send(sock, (b"key", value))
            _receive(sock)
        start = time.perf_counter()
        for number in range(puts):
            _send(sock, (b"key%d" % (number % 1000), value))
            _receive(sock)
        return (time.perf_counter() - start) / puts
