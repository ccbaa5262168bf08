"""The client process: the session of one user.

May live here: calls to the servers of a session. May not: what the session remembers, and which server it asks next
(session.py).

The master sends puts and gets in a batch. The client asks its first server, and goes on to the next one if that server
is dead or silent, or can't satisfy the session. It answers with the outcomes, and with the servers that it has lost
meanwhile.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgpack

import messages
from groups import Part
from messages import Operation, OperationOutcome, flat_outcome, pack_operations
from rpc import answers, crossing, tracing, transport
from session import Refused, ServerLost, Session

if TYPE_CHECKING:
    from shape import Fate, Lane, Lanes

__all__ = ["main"]


class _Client(transport.Service):
    """The calls that the master makes to a client. There is one thread; a call blocks until servers have answered."""

    def __init__(self, ident: int, master: int) -> None:
        """*master*: the descriptor of the connection over which the master calls."""
        self._ident = ident
        self._master = master
        self._session = Session()
        self._part = Part(self._session, [])
        self._addresses: dict[int, str] = {}
        self._remotes: dict[int, transport.Remote] = {}
        self._lanes: dict[int, Lanes] = {}
        self._lost: dict[int, str] = {}
        """Servers that this client has lost, and how. Each answer repeats them until the master calls this client about
        the server, since the master may have missed an earlier answer."""
        self._timeout = 10.0

    # -- connections ---------------------------------------------------------------------------------------

    def exposed_connect(self, server: int, address: str, timeout: float) -> None:
        """Make a connection to a running server. Calls over it may take *timeout* seconds."""
        self._session.connect(server)
        self._timeout = timeout
        self.exposed_server_up(server, address)

    def exposed_disconnect(self, server: int) -> None:
        """Break the connection to a server. When this returns, nothing more is sent or received over it."""
        self._session.disconnect(server)
        self._lost.pop(server, None)
        self._hang_up(server)

    def exposed_server_up(self, server: int, address: str) -> None:
        """Note that a server to which there is a connection is running at this address, perhaps again."""
        self._lost.pop(server, None)
        self._hang_up(server)
        self._addresses[server] = address
        self._session.mark(server, True)

    def exposed_server_down(self, server: int) -> None:
        """Note that a server to which there is a connection has been killed."""
        self._lost.pop(server, None)
        self._take_down(server)

    def exposed_shape(self, server: int, delay: float, jitter: float, loss: float, seed: int) -> None:
        """Give the link to a server a shape, whether it is connected or not. *seed*: that of the run."""
        from shape import Lanes, Shape  # not at the top, since most links have no shape

        shape = Shape(delay, jitter, loss)
        lanes = Lanes.changed(self._lanes.pop(server, None), shape, seed, self._ident, server)
        if lanes is not None:
            self._lanes[server] = lanes

    def _take_down(self, server: int) -> None:
        self._session.mark(server, False)
        self._hang_up(server)

    def _hang_up(self, server: int) -> None:
        self._addresses.pop(server, None)
        if server in self._remotes:
            self._remotes.pop(server).close()

    # -- puts and gets -------------------------------------------------------------------------------------

    def exposed_execute(self, batch: bytes) -> bytes:
        """Carry out `[[key, value or nil for a get, timestamp], …]` in order.

        The answer is `[[outcome, …], [[server, how], …]]`: the outcomes (`messages.flat_outcome`), and the servers that
        were lost (`_lose`).
        """
        commands = messages.unpack(batch, _are_commands)
        outcomes = [self._session.execute(key, value, timestamp, self._ask) for key, value, timestamp in commands]
        return self._answer(batch, outcomes)

    def exposed_execute_group(self, group: int, members: int, batch: bytes) -> bytes:
        """Carry out this client's part of a group of commands, all at its only server.

        *members*: how many clients have a part there. The answer is that of `exposed_execute`, with nil in place of the
        outcomes if nothing was carried out or the server was lost.
        """
        (server,) = self._session.connections
        self._part = Part(self._session, messages.unpack(batch, _are_commands))
        outcomes = None
        try:
            remote = self._remote(server)
            packed = remote.call("execute_group", group, self._ident, members, pack_operations(self._part.operations))
            if packed is not None:
                values = [operation.value for operation in self._part.operations]
                outcomes = self._part.conclude(server, transport.read(packed, answers.to_operations(values)))
        except transport.NoRoom:
            pass  # the group is given up; when each command is carried out alone, its error gives the reason
        except transport.Failure as failure:
            self._lose(server, _how(failure))
        return self._answer(batch, outcomes)

    def _answer(self, batch: bytes, outcomes: list[OperationOutcome] | None) -> bytes:
        """The answer to the master."""
        flat = None if outcomes is None else [flat_outcome(outcome) for outcome in outcomes]
        if tracing.on and outcomes is not None:
            tracing.event("operated", operations=batch, outcomes=msgpack.packb(flat))
        packed: bytes = msgpack.packb([flat, list(self._lost.items())])
        return packed

    def exposed_undo_group(self) -> None:
        """Forget what the last group has brought, since its server was lost before all clients had an answer."""
        self._part.undo()
        if tracing.on:
            tracing.event("undone")

    def _ask(self, server: int, operation: Operation) -> Any:
        """Have a server carry out an operation (`session.Ask`)."""
        try:
            packed = self._call(server, "execute", pack_operations([operation]))
            answered, refusal = transport.read(packed, answers.of_a_server([operation.value]))
        except transport.NoRoom as no_room:
            raise Refused(str(no_room)) from no_room
        except crossing.Displaced as displaced:  # nobody waits for the outcome any more
            raise Refused("gave up waiting") from displaced
        except transport.Failure as failure:
            self._lose(server, _how(failure))
            raise ServerLost(cut_short=not isinstance(failure, transport.Unreachable)) from failure
        if refusal is not None:
            raise Refused(refusal)
        return answered[0]

    def _call(self, server: int, name: str, *args: Any) -> Any:
        """The server's answer to the call *name*. Raises Failure, and Displaced if the master calls meanwhile."""
        remote = self._remote(server)
        lanes = self._lanes.get(server)
        if lanes is None:
            return remote.call(name, *args)
        under_way = crossing.call(lambda: remote, lanes, _send, True, f"server {server}", name, *args)
        return crossing.wait_out(under_way, remote.descriptor, self._master)

    def _remote(self, server: int) -> transport.Remote:
        if server not in self._addresses:
            raise transport.Unreachable("the server is down")
        remote = self._remotes.get(server)
        if remote is None or not remote.alive:
            remote = self._remotes[server] = transport.Remote(self._addresses[server], self._timeout)
        return remote

    def _lose(self, server: int, how: str) -> None:
        """Note that a server was lost. *how*: "died", "silent", or a description of its failure in a call."""
        self._lost.setdefault(server, how)
        self._take_down(server)


def _send(lane: Lane, losses: int) -> Fate:
    """Send a message over a link with a shape (`crossing.Draw`)."""
    return lane.send(time.monotonic(), losses)


def _how(failure: transport.Failure) -> str:
    """How a server was lost, as `_lose` takes it."""
    if isinstance(failure, transport.RemoteError):
        return str(failure)
    return "silent" if isinstance(failure, transport.Silent) else "died"


def _are_commands(batch: Any) -> bool:
    """Whether this is `[[key, value or nil for a get, timestamp], …]`. Three times as fast as a `messages.checker`."""
    return type(batch) is list and all(map(_is_command, batch))


def _is_command(command: Any) -> bool:
    if type(command) is not list or len(command) != 3:
        return False
    key, value, timestamp = command
    return type(key) is bytes and (value is None or type(value) is bytes) and messages.are_numbers((timestamp,))


def main(listener: transport.Listener, ident: int, run_directory: str, alive: int, order: bytes) -> None:
    """Serve the first connection, which is the master's, until it ends. Then end the process. (*order* is empty.)"""
    master = transport.accept_only(listener)
    if transport.await_call(master):  # else this client was started early, and nobody wants it: it leaves no trace
        try:
            tracing.begin(f"client {ident}")
        except (OSError, TypeError, ValueError) as error:  # it can't be written, or there is a damaged one
            transport.farewell(master, error)
        else:
            transport.serve(master, _Client(ident, master.fileno()))
    os._exit(0)
