"""Serving and calling over connections, with time limits: what the processes use of this folder.

May live here: the loops that serve, the calling end, the threads for both. May not: the meaning of what is sent.

Below this room are rpc/addresses.py (who connects to whom), rpc/connection.py (RPyC), rpc/stream.py (bytes) and
rpc/failures.py. This room also exports those of their names that the processes need.

Theory of operation
-------------------
`accept_forever` gives each connection a thread of its own, which carries out one call after another. `Remote` is
the calling end. A connection belongs to one thread at each end: RPyC lets threads share one, but they can then
miss each other's replies. Nobody calls back over a connection that is being served.

An answer is passed on only if it is one that the method may give (rpc/answers.py). A process that answers anything
else, sends what is not RPyC, or makes requests of its own has failed in a call (`RemoteError`), as has one that answers
with an error.

A process that has no room for another thread, or no memory, gives this reason before it closes the connection. This
*farewell* is an error that counts as the answer to every call that is under way or follows.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import messages
from rpc import answers, tracing
from rpc.addresses import (
    Listener,
    accept_only,
    check_place,
    connect,
    discard,
    let_in,
    listen,
    new_address,
)
from rpc.connection import (
    Farewell,
    Nobody,
    Reply,
    Service,
    farewell_message,
    is_traced_answer,
    make_connection,
)
from rpc.failures import Failure, NoRoom, RemoteError, Silent, Unreachable, why
from rpc.stream import ENDED, MAX_MESSAGE, Garbage, Interrupted, Stalled, interrupt_by, interrupt_taken

__all__ = [
    "ENDED",
    "MAX_MESSAGE",
    "Failure",
    "Interrupted",
    "Listener",
    "NoRoom",
    "Pending",
    "Remote",
    "RemoteError",
    "Service",
    "Silent",
    "Unreachable",
    "accept_forever",
    "accept_only",
    "await_call",
    "check_place",
    "connect",
    "discard",
    "farewell",
    "interrupt_by",
    "interrupt_taken",
    "let_in",
    "listen",
    "new_address",
    "read",
    "serve",
    "serve_polled",
    "start_thread",
    "turn_away",
    "why",
]

STALL_SECONDS = 3600.0
"""How long a caller may neither take nor send a byte in the middle of a message. The limit is long, since the caller
may have been stopped, or be busy; but a caller that never completes a message loses the connection in the end."""


def read(packed: Any, is_expected: messages.Check) -> Any:
    """The value packed in an answer. Raises RemoteError if that isn't what is expected."""
    try:
        return messages.unpack(packed, is_expected)
    except ValueError as error:
        raise RemoteError("a malformed answer") from error


# -- serving -----------------------------------------------------------------------------------------------


def accept_forever(listener: Listener, make_service: Callable[[], Service]) -> NoReturn:
    """Serve each connection in a daemon thread, with a service of its own. If there is no room, say so to the peer."""
    while True:
        sock = listener.admit()
        try:
            start_thread(serve, sock, make_service())
        except (NoRoom, MemoryError) as error:
            farewell(sock, error)


def start_thread(target: Callable[..., object], *args: Any) -> None:
    """Run *target* in a daemon thread. Raises NoRoom."""
    try:
        threading.Thread(target=target, args=args, daemon=True).start()
    except RuntimeError as error:
        raise NoRoom(NO_THREAD) from error


NO_THREAD = (
    "no thread can be started: the system's limit on processes or on memory is reached (ulimit -u, ulimit -v, pids.max)"
)


def farewell(sock: socket.socket, error: BaseException) -> None:
    """Tell the other end of a connection why it is not (or no longer) served, and close it. Never blocks."""
    try:
        sock.setblocking(False)
        sock.send(farewell_message(error))
    except OSError:
        pass  # the other end has gone, or takes nothing
    sock.close()


def turn_away(listener: Listener, error: BaseException) -> None:
    """Tell the first process that connects within `TURN_AWAY_SECONDS` why nobody serves it. Blocks until then."""
    try:
        listener.settimeout(TURN_AWAY_SECONDS)
        farewell(listener.admit(), error)
    except OSError:
        pass  # no process has connected, or one was accepted before


TURN_AWAY_SECONDS = 5.0


def await_call(sock: socket.socket) -> bool:
    """Wait for the first call over a connection. Returns False if the connection is closed instead."""
    poller = select.poll()
    poller.register(sock, select.POLLIN | ENDED)
    return not any(events & ENDED for _, events in poller.poll())


def serve(sock: socket.socket, service: Service) -> None:
    """Carry out the calls that come over *sock*, one after another, until it is closed."""
    try:
        connection, stream = make_connection(sock, service, timeout=STALL_SECONDS)
        try:
            while True:
                stream.wait_readable(None)
                connection.serve_message()
        except MemoryError as error:
            farewell(sock, error)
        finally:
            stream.close()
            connection.close()
    except Exception:
        pass  # the connection has ended, or the peer has sent something that is not RPyC


def serve_polled(sock: socket.socket, service: Service) -> tuple[int, Callable[[], None]]:
    """Serve from a loop of the caller's own: (the descriptor to wait on, the function to call when it is readable).

    The function raises EOFError once the connection has ended.
    """
    connection, stream = make_connection(sock, service, timeout=STALL_SECONDS)

    def on_readable() -> None:
        try:
            while stream.wait_readable(0):
                connection.serve_message()
        except MemoryError as error:
            farewell(sock, error)
            raise EOFError(why(error)) from error

    return stream.fileno(), on_readable


# -- calling -----------------------------------------------------------------------------------------------


class Pending:
    """A call under way."""

    def __init__(self, remote: Remote, reply: Reply, name: str, args: tuple[Any, ...], traced: bool) -> None:
        self._remote = remote
        self._reply = reply
        self._name = name
        self._args = args
        self._traced = traced
        self.stamp: tracing.Stamp | None = None
        """The stamp that came with the answer, in a traced run."""

    def wait(self, timeout: float | None = None) -> Any:
        """The answer. Blocks at most *timeout* seconds, or up to the remote's own limit if that is None.

        Raises Silent, Failure, RemoteError, Interrupted. After Silent and Interrupted one may wait again; that fails if
        the peer fell silent in the middle of a message.
        """
        answer = self.receive(timeout)
        self.arrived()
        return answer

    def receive(self, timeout: float | None = None) -> Any:
        """The answer, as `wait` returns it, for a caller that holds it back (rpc/crossing.py): it calls `arrived`."""
        answer = self._remote._wait(self._reply, timeout)
        if self._traced:
            if not is_traced_answer(answer):
                raise RemoteError("an answer without a stamp")
            self.stamp, answer = answer
        if not answers.fits(self._name, self._args, answer):
            raise RemoteError("a malformed answer")
        return answer

    @property
    def is_answered(self) -> bool:
        """Whether the answer has been read, so that nothing is waited for."""
        return self._reply.is_there

    def arrived(self) -> None:
        """Note in the trace that the answer has arrived."""
        if self.stamp is not None:
            tracing.called("answered", self._name, self.stamp)


class Remote:
    """The calling end of a connection, for one thread only; but `abort` may be called from any thread.

    A remote that has raised a Failure other than Silent is closed for good.
    """

    def __init__(self, address: str | socket.socket, timeout: float, traced: bool = True) -> None:
        """Connect to *address*, or take a connected socket. *timeout*: for each call, in seconds.

        *traced*: whether calls are in the trace, if the run is traced. Raises Unreachable, Silent.
        """
        self._traced = traced
        self.timeout = timeout
        self.waiting = False
        """Whether somebody waits for an answer over it."""
        sock = connect(address, timeout) if isinstance(address, str) else address
        self.descriptor = sock.fileno()
        """The descriptor on which the end of the connection can be polled; valid until the connection is closed."""
        self._connection, self._stream = make_connection(sock, Nobody(), timeout)
        self._ended: Failure | None = None

    def call(self, name: str, *args: Any, timeout: float | None = None) -> Any:
        """Have the other side carry out its exposed method *name*, and wait for the answer, as `Pending.wait`."""
        return self.send(name, *args).wait(timeout)

    def send(self, name: str, *args: Any, stamp: tracing.Stamp | None = None) -> Pending:
        """Start a call without waiting for its answer. Blocks up to `timeout` if there is no room. Raises Failure.

        *stamp*: that of a call that has begun before (`tracing.stamp`).
        """
        traced = self._traced and tracing.on
        passed = (stamp or tracing.stamp("call", name), *args) if traced else args
        self._stream.patience = self.timeout
        try:
            reply = self._connection.call(name, passed)
        except EOFError as error:
            raise self._failure(self._last_words() or error) from error
        return Pending(self, reply, name, args, traced)

    def tell(self, name: str, *args: Any) -> None:
        """Start a call whose answer nobody waits for. Raises Failure.

        Reads the answers that have come meanwhile: if they were left unread, the other side would block in the end.
        """
        self.read_answers()
        self.send(name, *args)

    def read_answers(self) -> None:
        """Read the answers that have come. Doesn't wait for others. Raises Failure."""
        try:
            while self._stream.is_readable():
                self._connection.serve_message()
        except EOFError as error:
            raise self._failure(error) from error

    def ended(self) -> Failure:
        """Close a connection whose end `descriptor` has reported. Returns the reason, if the other side gave one."""
        return self._failure(self._last_words() or EOFError("the connection has ended"))

    def _last_words(self) -> EOFError | None:
        """Read what the other side sent before it ended the connection. Returns the farewell, if there is one."""
        try:
            while not self._stream.closed and self._stream.is_readable():
                self._connection.serve_message()
        except EOFError as error:
            return error
        return None

    def _failure(self, error: EOFError) -> Failure:
        self.close()
        if self._ended is None:
            kind = Silent if isinstance(error, Stalled) else RemoteError if isinstance(error, Garbage) else Failure
            self._ended = error.reason if isinstance(error, Farewell) else kind(str(error))
        return self._ended

    def _wait(self, reply: Reply, timeout: float | None) -> Any:
        remaining = self._stream.patience = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + remaining
        self.waiting = True
        try:
            while not reply.is_there:
                # Data that has already arrived counts, even if this process was itself stopped past the deadline.
                if not self._stream.wait_readable(remaining):
                    raise Silent("no answer in time")
                self._connection.serve_message()
                remaining = deadline - time.monotonic()
        except EOFError as error:
            raise self._failure(error) from error
        except MemoryError:
            self.close()  # the rest of the message is lost
            raise
        finally:
            self.waiting = False
        if reply.has_failed:
            raise reply.value
        return reply.value

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as the system knows; doesn't block."""
        return not self._stream.has_ended()

    def abort(self) -> None:
        """End the connection, even while another thread has a call under way."""
        self._stream.shutdown()

    def close(self) -> None:
        """End the connection; never blocks."""
        self._stream.close()
        self._connection.close()
