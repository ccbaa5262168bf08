"""The watchdog process: it starts its one server, guards it, and kills it when the master asks for that.

May live here: starting, guarding and killing one server process. May not: anything that the server does.

The watchdog is the server's parent. Therefore it can kill the server reliably, and wait until it is gone. The two
processes hold the ends of a socket pair, the *tether*. When one end is closed, its process is dead. A server ends when
its watchdog is gone. A watchdog whose master is gone kills its server, even a frozen one, and ends.

The first server is forked before it is asked for, so that it gets ready while the master connects. Over the tether it
is told where to listen and with which options, and says where it does. Nothing else is ever sent over it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import Any

import msgpack

import server
from rpc import forking, transport
from rpc.options import unpack

__all__ = ["main"]

ORDER_BYTES = 64 << 10
"""A size in bytes that neither what a server is told nor what it says ever reaches."""

ORDER_SECONDS = 2.0
"""How long a server may take to listen."""


class _Watchdog(transport.Service):
    """The calls that the master makes to a watchdog. There is one thread, and no call blocks for long."""

    def __init__(self, ident: int, run_directory: str, alive: int) -> None:
        self._ident = ident
        self._run_directory = run_directory
        self._alive = alive
        self._pid: int | None = None
        """The server's process, also where it has not been told what to do."""
        self._is_started = False
        self._order = b""
        """What the server was told to be."""
        self._tether: socket.socket | None = None
        self._address = ""
        self.poller = select.poll()

    def exposed_start(self, address: str, options: bytes) -> tuple[int, str] | str:
        """Start the server, listening at *address*.

        Returns its process id and where it listens, or the reason why it could not be started. The server then recovers
        by itself. *options*: see `rpc.options.unpack`.
        """
        if self._is_started:
            raise RuntimeError("the server is already running")
        unpack(options)  # which raises ValueError if they are none
        try:
            try:
                made = self._start(msgpack.packb((address, options)))
            except OSError:  # it has ended, or is frozen
                self.exposed_kill()
                made = self._start(msgpack.packb((address, options)))
        except (OSError, MemoryError) as error:
            self.exposed_kill()
            return f"no process can be started: {transport.why(error)}"
        assert self._pid is not None
        assert self._tether is not None
        self._address, self._is_started = made, True
        self.poller.register(self._tether, select.POLLIN)
        return self._pid, made

    def _start(self, order: bytes) -> str:
        """Have the server carry out this order; returns where it listens. Raises OSError."""
        if self._tether is not None and self._order not in (b"", order):
            self.exposed_kill()
        if self._tether is None:
            self.fork_server(order)
        elif not self._order:
            self._send(order)
        assert self._tether is not None
        made, reason = msgpack.unpackb(self._tether.recv(ORDER_BYTES) or msgpack.packb(("", "it has ended")))
        if not made:
            raise OSError(reason)
        return str(made)

    def _send(self, order: bytes) -> None:
        assert self._tether is not None
        self._tether.send(order)
        self._order, self._address = order, msgpack.unpackb(order)[0]

    def fork_server(self, order: bytes) -> None:
        """Fork a process that is to be the server, and send it an order, if there is one. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = forking.fork(
                f"daadkvs server {self._ident} ({self._run_directory})",
                (theirs.fileno(), self._alive),
                lambda: _be_server(theirs),
                lambda _: None,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(ORDER_SECONDS)
        self._tether, self._order = ours, b""
        if order:
            self._send(order)

    def exposed_kill(self) -> None:
        """Kill the server, and return when it is gone. Does nothing if it has already ended."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self.server_ended()

    def server_ended(self) -> None:
        """Reap the server, which is dead or dying, and remove its address. Blocks until it is gone."""
        if self._pid is None or self._tether is None:
            return
        os.waitpid(self._pid, 0)
        if self._is_started:
            self.poller.unregister(self._tether)
        self._tether.close()
        self._pid, self._tether, self._is_started = None, None, False
        if self._address:
            transport.discard(self._address)

    @property
    def tether(self) -> int | None:
        """The descriptor that becomes readable when the server ends."""
        return self._tether.fileno() if self._tether else None


def _be_server(tether: socket.socket) -> None:
    """Be the server that it is told to be over *tether*; end without being one if the watchdog ends before."""
    told = tether.recv(ORDER_BYTES)
    if not told:
        return
    address, options = msgpack.unpackb(told)
    try:
        listener = transport.listen(address)
    except OSError as error:
        tether.send(msgpack.packb(("", transport.why(error))))
        return
    tether.send(msgpack.packb((listener.address, "")))
    try:
        server.main(listener, tether, unpack(options))
    except BaseException as error:
        transport.turn_away(listener, error)
        raise


def main(listener: transport.Listener, ident: int, run_directory: str, alive: int, order: bytes) -> None:
    """Guard the server *ident* until the master's connection, the first one, ends.

    *order*: the arguments of the first call of `start`, packed, if they are known already; then the server begins.
    """
    watchdog = _Watchdog(ident, run_directory, alive)
    try:
        watchdog.fork_server(order)
    except (OSError, MemoryError):
        pass  # whoever asks for it will be told
    sock = transport.accept_only(listener)
    fd, on_readable = transport.serve_polled(sock, watchdog)
    watchdog.poller.register(fd, select.POLLIN)
    try:
        while True:
            ready: list[Any] = [readable for readable, _ in watchdog.poller.poll()]
            if watchdog.tether in ready:
                watchdog.server_ended()
            if fd in ready:
                on_readable()
    except EOFError:
        watchdog.exposed_kill()
