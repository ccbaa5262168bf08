"""Addresses: where a process listens, how another one connects to it, and who may.

May live here: sockets until they are connected. May not: what is sent over them.

An *address* is an opaque string, made by `new_address` and understood only here: `unix:PATH`, or `tls:IP:PORT` for a
process on another machine (rpc/tls.py). A path may be longer than the system allows for a socket. In that case its
folder is opened for the moment, and the path leads through that descriptor.

Connections are accepted only from processes of the same run: the master, and those in the session that the spawner
leads. Anybody else finds the connection closed at once, and costs no thread and no memory.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rpc.failures import NoRoom, Unreachable, why
from rpc.listener import Listener

__all__ = [
    "Listener",
    "accept_only",
    "check_place",
    "connect",
    "discard",
    "let_in",
    "listen",
    "new_address",
]

LONGEST_PATH = 107
"""The longest path of a Unix socket that the system accepts, in bytes."""

TLS = "tls:"
"""How the address of a process that is reached over the network begins."""


def new_address(directory: str, name: str) -> str:
    """An address in *directory*, which only this user may enter. Its path may have any length.

    Where *directory* is the place `tls:IP`, the process is to be reached over the network: it gets a free port, and
    `Listener.address` says which.
    """
    if directory.startswith(TLS):
        return f"{directory}:0"
    return f"unix:{os.path.join(directory, name)}"


@contextmanager
def _path_of(address: str) -> Iterator[str]:
    """A path for the socket at *address* that is short enough for the system, within this block. Raises OSError."""
    path = address.removeprefix("unix:")
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def discard(address: str) -> None:
    """Remove the address of a process that has ended, if it still exists."""
    if not address.startswith(TLS):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)


class _UnixListener(Listener):
    """A listening socket that knows its path. (The system may have been given another path to it.)"""

    def admit(self) -> socket.socket:
        while True:
            sock = self.accept_any()
            if _is_of_this_run(sock):
                return sock
            sock.close()

    def withdraw(self) -> None:
        os.unlink(self.address.removeprefix("unix:"))
        self.close()


def listen(address: str) -> Listener:
    """A listener at *address*; connections are queued from now on. Raises OSError."""
    if address.startswith(TLS):
        from rpc import tls  # not at the top: a run on one machine has no use for it

        return tls.listen(address)
    listener = _UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.address = address
    try:
        with _path_of(address) as path:
            listener.bind(path)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def check_place(directory: str) -> None:
    """Raise OSError, with the reason, if processes can't reach each other through sockets in *directory*."""
    address = new_address(directory, "probe")
    try:
        with listen(address):
            connect(address, 1.0).close()
        os.unlink(address.removeprefix("unix:"))
    except (OSError, Unreachable) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        reason = os.strerror(number) if number else str(error)
        raise OSError(number or errno.EIO, f"no sockets can be made there: {reason}", directory) from error


_master: int | None = None


def let_in(master: int) -> None:
    """Accept connections from the process *master* as well as from this process's own session."""
    global _master
    _master = master


def _is_of_this_run(sock: socket.socket) -> bool:
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pid == _master or (pid > 0 and os.getsid(pid) == os.getsid(0))
    except ProcessLookupError:
        return False  # it has already ended


def accept_only(listener: Listener) -> socket.socket:
    """Wait for the first connection, and accept no more. When this returns, the address has been removed.

    Raises SystemExit if the master (`let_in`) has ended before.
    """
    if _master is not None:
        master = os.pidfd_open(_master)
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(master, select.POLLIN)
        ended = master in dict(poller.poll())
        os.close(master)
        if ended:
            raise SystemExit  # there is nobody who could be told
    sock = listener.admit()
    listener.withdraw()
    return sock


def connect(address: str, timeout: float) -> socket.socket:
    """A socket that is connected to *address*. Blocks up to *timeout* seconds. Raises Unreachable, Silent."""
    if address.startswith(TLS):
        from rpc import tls

        return tls.connect(address, timeout)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:  # no descriptor is left
        raise NoRoom(f"no connection can be opened: {error.strerror}") from error
    # `settimeout` would not do: connecting would then fail at once if many connections wait to be accepted.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
    try:
        with _path_of(address) as path:
            sock.connect(path)
    except (OSError, ValueError) as error:  # a ValueError if the address contains no valid path
        sock.close()
        raise Unreachable(why(error)) from error
    return sock


def _timeval(seconds: float) -> bytes:
    """A time for the system, for which zero would mean no limit."""
    microseconds = max(1, int(seconds * 1_000_000))
    return struct.pack("ll", *divmod(microseconds, 1_000_000))
