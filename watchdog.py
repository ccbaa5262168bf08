"""The watchdog process: it starts its one server, guards it, and kills it when the master asks for that.

May live here: starting, guarding and killing one server process. May not: anything that the server does.

The watchdog is the server's parent. Therefore it can kill the server reliably, and wait until it is gone. The two
processes hold the ends of a socket pair, the *tether*, over which nothing is ever sent. When one end is closed, its
process is dead. A server ends when its watchdog is gone. A watchdog whose master is gone kills its server, even a
frozen one, and ends.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import Any

import server
from rpc import forking, transport
from rpc.options import unpack

__all__ = ["main"]


class _Watchdog(transport.Service):
    """The calls that the master makes to a watchdog. There is one thread, and no call blocks for long."""

    def __init__(self, ident: int, run_directory: str, alive: int) -> None:
        self._ident = ident
        self._run_directory = run_directory
        self._alive = alive
        self._pid: int | None = None
        self._tether: socket.socket | None = None
        self._address = ""
        self.poller = select.poll()

    def exposed_start(self, address: str, options: bytes) -> tuple[int, str] | str:
        """Start the server, listening at *address*.

        Returns its process id and where it listens, or the reason why it could not be started. The server then recovers
        by itself. *options*: see `rpc.options.unpack`.
        """
        if self._pid is not None:
            raise RuntimeError("the server is already running")
        parsed = unpack(options)
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return f"no process can be started: {transport.why(error)}"
        started = forking.fork_listening(
            f"daadkvs server {self._ident} ({self._run_directory})",
            address,
            (theirs.fileno(), self._alive),
            lambda listener: server.main(listener, theirs, parsed),
        )
        theirs.close()
        if isinstance(started, str):
            ours.close()
            return started
        self._pid, self._address = started
        self._tether = ours
        self.poller.register(ours, select.POLLIN)
        return started

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
        self.poller.unregister(self._tether)
        self._tether.close()
        self._pid, self._tether = None, None
        transport.discard(self._address)

    @property
    def tether(self) -> int | None:
        """The descriptor that becomes readable when the server ends."""
        return self._tether.fileno() if self._tether else None


def main(listener: transport.Listener, ident: int, run_directory: str, alive: int) -> None:
    """Guard the server *ident* until the master's connection, the first one, ends."""
    watchdog = _Watchdog(ident, run_directory, alive)
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
