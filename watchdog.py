"""The watchdog process: starts, guards and kills its one server when the master tells it to.

May live here: the life of one server process. May not: anything that the server does.

The watchdog is the server's parent, so it alone can kill it for certain and wait until it is gone. The two hold
the ends of a socket pair, the *tether*, over which nothing is ever said: whoever's end closes is dead. A server
whose watchdog is gone ends; a watchdog whose master is gone kills its server, even a frozen one, and ends.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from pathlib import Path
from typing import Any, get_type_hints

import messages
import server
from rpc import spawner, transport

__all__ = ["main"]


class _Watchdog(transport.Service):
    """What the master asks a watchdog for. One thread; every call returns at once."""

    def __init__(self, ident: int, run_directory: str, alive: int) -> None:
        self._ident = ident
        self._run_directory = run_directory
        self._alive = alive
        self._pid: int | None = None
        self._tether: socket.socket | None = None
        self._socket_path = ""
        self.poller = select.poll()

    def exposed_start(self, address: str, options: bytes) -> int | str:
        """Start the server, listening at *address*; returns its process id, or why there is none.

        It recovers meanwhile. *options*: the keyword arguments of `server.Options`, packed.
        """
        if self._pid is not None:
            raise RuntimeError("the server is already running")
        parsed = server.Options(**messages.unpack(options, _are_options, "surrogateescape"))
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return f"no process can be started: {transport.why(error)}"
        started = spawner.fork_listening(
            f"daadkvs server {self._ident} ({self._run_directory})",
            address,
            (theirs.fileno(), self._alive),
            lambda listener: server.main(listener, theirs, parsed),
        )
        theirs.close()
        if isinstance(started, str):
            ours.close()
            return started
        self._pid = started
        self._tether = ours
        self._socket_path = address.removeprefix("unix:")
        self.poller.register(ours, select.POLLIN)
        return started

    def exposed_kill(self) -> None:
        """Kill the server; returns when it is gone. Killing one that is gone changes nothing."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self.server_ended()

    def server_ended(self) -> None:
        """The server is dead or dying: see it off."""
        if self._pid is None or self._tether is None:
            return
        os.waitpid(self._pid, 0)
        self.poller.unregister(self._tether)
        self._tether.close()
        self._pid, self._tether = None, None
        Path(self._socket_path).unlink(missing_ok=True)

    @property
    def tether(self) -> int | None:
        """The descriptor that becomes readable when the server ends."""
        return self._tether.fileno() if self._tether else None


_option_checks = {name: messages.checker(hint) for name, hint in get_type_hints(server.Options).items()}


def _are_options(options: Any) -> bool:
    """Whether these are the keyword arguments of `server.Options`."""
    return (
        type(options) is dict
        and options.keys() == _option_checks.keys()
        and all(_option_checks[name](value) for name, value in options.items())
    )


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
