"""A server's store as it travels to the master: in pieces, so that the size of a message does not grow with the store.

May live here: how a store is cut into pieces, and how these are packed. May not: who asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgpack

from messages import Write

__all__ = ["lines", "versions"]

PIECE_BYTES = 4 << 20
"""About how many bytes of keys and values one piece holds."""


def lines(writes: Iterable[Write]) -> Iterator[bytes]:
    """The lines that printStore prints for these writes, in pieces."""
    for piece in _pieces(writes):
        yield b"".join([part for write in piece for part in (write.key, b":", write.value, b"\n")])


def versions(writes: Iterable[Write]) -> Iterator[bytes]:
    """These writes with their timestamps, in pieces. Each piece is a packed list `[[key, value, timestamp], …]`."""
    for piece in _pieces(writes):
        yield msgpack.packb([[write.key, write.value, write.version.timestamp] for write in piece])


def _pieces(writes: Iterable[Write]) -> Iterator[list[Write]]:
    piece: list[Write] = []
    size = 0
    for write in writes:
        piece.append(write)
        size += write.size
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
