"""The stream below RPyC: a socket with a buffer, on which nobody waits for ever in the middle of a message.

May live here: reading and writing bytes and frames, and waiting for them. May not: what a message means; who connects.

RPyC's own stream waits without limit in the middle of a message, and copying makes its time quadratic in a message's
length. On this one, a peer that neither takes nor sends a byte of a message it has begun loses the connection once the
*patience* of the other side has run out. A message of absurd length is refused, and so is a compressed one, of which a
few bytes could swell to gigabytes.

Between messages, waiting can be interrupted by a byte on a descriptor (`interrupt_by`).
"""

from __future__ import annotations

import os
import select
import socket
from typing import NoReturn

from rpc.library import Channel as RpycChannel
from rpc.library import Stream

__all__ = [
    "ENDED",
    "MAX_MESSAGE",
    "Channel",
    "Garbage",
    "Interrupted",
    "SocketStream",
    "Stalled",
    "interrupt_by",
    "interrupt_taken",
]

MAX_MESSAGE = 80 << 20
"""The longest message in bytes: the largest value, and room to spare."""

ENDED = select.POLLRDHUP
"""By this event, poll reports that the other end of a connection is closed, of whatever kind the connection is."""

RECEIVE_BYTES = 64 << 10
"""How much is received at once. A larger buffer is handed out page by page, which takes 40 µs for each message."""


class Interrupted(Exception):
    """Waiting was given up, by a byte on the descriptor given to `interrupt_by`."""


_interrupt_fd: int | None = None


def interrupt_by(fd: int | None) -> None:
    """Have all connections made from now on raise Interrupted while *fd* is readable, instead of waiting.

    With None, waiting is not interrupted. What is waited for is an answer, so the call itself has been sent by then,
    and the other side carries it out before anything that it is asked later. An answer that has already arrived is
    returned in any case.
    """
    global _interrupt_fd
    _interrupt_fd = fd


def interrupt_taken() -> None:
    """Let waiting go on after Interrupted."""
    if _interrupt_fd is not None:
        os.read(_interrupt_fd, 4096)


def _milliseconds(seconds: float) -> float:
    """A time for poll, which accepts neither negative times nor more than 24 days."""
    return min(max(0.0, seconds), 1e6) * 1000


class Stalled(EOFError):
    """The peer has been silent for too long in the middle of a message; the connection is closed."""


class Garbage(EOFError):
    """The peer has sent what it never should; the connection is closed."""


class SocketStream(Stream):  # type: ignore[misc]
    """What RPyC sees of a socket: it is buffered, and never stuck in the middle of a message."""

    MAX_IO_CHUNK = 64 << 10
    """Larger messages are written in pieces."""

    def __init__(self, sock: socket.socket, patience: float) -> None:
        """*patience*: how long the peer may neither take nor send a byte in the middle of a message, in seconds."""
        sock.setblocking(False)
        self.patience = patience
        self._sock: socket.socket | None = sock
        self._buffer, self._start = b"", 0
        """What has arrived, and up to where it has been read."""
        self._ended, self._readable, self._readable_or_interrupted = select.poll(), select.poll(), select.poll()
        self._ended.register(sock, ENDED)
        self._readable.register(sock, select.POLLIN)
        self._readable_or_interrupted.register(sock, select.POLLIN)
        self._interrupt_fd = _interrupt_fd
        if _interrupt_fd is not None:
            self._readable_or_interrupted.register(_interrupt_fd, select.POLLIN)

    @property
    def closed(self) -> bool:
        return self._sock is None

    def close(self) -> None:
        if self._sock is not None:
            self.shutdown()
            self._sock.close()
            self._sock = None

    def shutdown(self) -> None:
        """End the connection, even while another thread waits on it. May be called from any thread."""
        sock = self._sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer has already ended it

    def fileno(self) -> int:
        return self._open().fileno()

    def _open(self) -> socket.socket:
        if self._sock is None:
            raise EOFError("the connection is closed")
        return self._sock

    def has_ended(self) -> bool:
        """Whether the connection is closed, at either end, as far as the system knows. Never blocks."""
        return self._sock is None or bool(self._ended.poll(0))

    def is_readable(self) -> bool:
        """Whether there is data, or the end of the connection. Never blocks, and can't be interrupted."""
        if self._start < len(self._buffer):
            return True
        self._open()
        return bool(self._readable.poll(0))

    def wait_readable(self, seconds: float | None) -> bool:
        """Wait up to *seconds* (None: without limit) for data, and return whether there is some. Raises Interrupted."""
        if self._start < len(self._buffer):
            return True
        self._open()
        events = self._readable_or_interrupted.poll(None if seconds is None else _milliseconds(seconds))
        if len(events) == 1 and events[0][0] == self._interrupt_fd:
            raise Interrupted
        return bool(events)

    def read(self, count: int) -> bytes:
        if count > MAX_MESSAGE:
            self.fail("a message of absurd length", Garbage)
        if self._start == len(self._buffer):
            self._buffer, self._start = self._receive(count), 0
        end = self._start + count
        if end > len(self._buffer):
            return self._gather(count)
        data = self._buffer[self._start : end]
        self._start = end
        if end == len(self._buffer):
            self._buffer, self._start = b"", 0  # it may be large
        return data

    def _gather(self, count: int) -> bytes:
        """The next *count* bytes, of which not all have arrived."""
        gathered = bytearray(self._buffer[self._start :])
        self._buffer, self._start = b"", 0
        while len(gathered) < count:
            gathered += self._receive(count - len(gathered))
        with memoryview(gathered) as view:
            self._buffer = bytes(view[count:])
            return bytes(view[:count])

    def _receive(self, count: int) -> bytes:
        """Wait until something has arrived, and return it; *count*: how many bytes are awaited."""
        while True:
            try:
                data = self._open().recv(max(RECEIVE_BYTES, min(count, 4 << 20)))
            except BlockingIOError:
                self._wait_in_message(select.POLLIN)
                continue
            except OSError as error:
                self.fail(str(error))
            if not data:
                self.fail("connection closed by peer")
            return data

    def write(self, data: bytes | memoryview) -> None:
        done = self._send(data)
        if done < len(data):
            with memoryview(data) as view:
                while done < len(view):
                    done += self._send(view[done:])

    def _send(self, data: bytes | memoryview) -> int:
        """Send as much as there is room for, and return how much that was; if there is no room, wait for some."""
        try:
            return self._open().send(data)
        except BlockingIOError:
            self._wait_in_message(select.POLLOUT)
            return 0
        except OSError as error:  # not closed, since what has arrived before can still be read
            raise EOFError(str(error)) from error

    def _wait_in_message(self, event: int) -> None:
        """Wait until the socket is ready. This can't be interrupted, or the rest of the message would be lost."""
        poller = select.poll()
        poller.register(self._open(), event)
        if not poller.poll(_milliseconds(self.patience)):
            self.close()
            raise Stalled("silence in the middle of a message")

    def fail(self, why: str, kind: type[EOFError] = EOFError) -> NoReturn:
        """Close, and raise EOFError."""
        self.close()
        raise kind(why)


class Channel(RpycChannel):  # type: ignore[misc]
    """RPyC's frames, none of them compressed."""

    def send(self, data: bytes) -> None:
        """Send a message. Once a byte of it is out, nothing is copied: only the start can fail for lack of memory."""
        header = self.FRAME_HEADER.pack(len(data), 0)
        first = SocketStream.MAX_IO_CHUNK
        if len(data) <= first:
            self.stream.write(header + data + self.FLUSHER)
            return
        with memoryview(data) as view:
            self.stream.write(header + view[:first])
            self.stream.write(view[first:])
        self.stream.write(self.FLUSHER)

    def recv(self) -> bytes:
        length, compressed = self.FRAME_HEADER.unpack(self.stream.read(self.FRAME_HEADER.size))
        if compressed:
            self.stream.fail("a compressed message", Garbage)
        data: bytes = self.stream.read(length + len(self.FLUSHER))[: -len(self.FLUSHER)]
        return data
