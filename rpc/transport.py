"""RPyC over Unix sockets: addresses, serving, connecting, time limits.

May live here: everything that knows of sockets and of RPyC's inside. Nobody else needs to.
May not: what is said over the connections.

Theory of operation
-------------------
An *address* is an opaque string, made by `new_address` and understood only here. It holds a path, which may be longer
than the system takes for a socket: then its folder is opened for the moment, and the path goes by that descriptor.

`accept_forever` gives each connection a thread of its own, which carries out one call after another. `Remote` is
the calling end. A connection belongs to one thread at each end: RPyC lets threads share one, but they can then
miss each other's replies. Nobody calls back over a connection that is being served.

Only bytes, numbers, strings, None and tuples of these cross a connection: they travel by value. Everything of
variable shape is packed with msgpack by the caller.

RPyC waits without limit in the middle of a message, and copies large ones quadratically; so the stream below it is
ours. In the middle of a message, a caller waits no longer for a byte to go or come than for an answer; and it refuses
absurd lengths. A
method is called by its name, in one round trip from the first call on: RPyC would first fetch the service, ask which
methods it has, and fetch one. Of RPyC's requests only those are answered that this takes.

Who may come in, and with what
------------------------------
Connections are taken only from processes of the same run: the master, and those in the session of processes that
the spawner leads. Anybody else finds the door shut at once, and costs no thread and no memory. Besides, whoever sends
what is no RPyC, or a message that is compressed (a few bytes could swell to gigabytes), loses the connection. A
reference to an object is refused: using one would mean calling back, while a lock is held perhaps, somebody who may
never answer. A method is carried out only if its arguments are what its annotations say.

An answer is passed on only if it is one that the method may give (rpc/answers.py). Whoever answers anything else, sends
what is no RPyC, or asks in its turn, has failed in a call (`RemoteError`), like one that answers with an error.

A process that has no room for one thread more, or no memory, says so before it hangs up: the *farewell*, an error that
answers whatever it has been asked or is about to be.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import GenericAlias
from typing import Any, NoReturn, get_type_hints

import msgpack
import rpyc
from rpyc.core import brine, consts, netref
from rpyc.core.stream import Stream

import messages
from rpc import answers, tracing

__all__ = [
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
    "check_place",
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
    "start_worker",
    "turn_away",
    "why",
]

STALL_SECONDS = 3600.0
"""How long a caller may neither take nor send a byte in the middle of a message. That long, since it may have been
stopped, or be busy with something else; whoever has begun a message and never goes on is dropped at last."""

MAX_MESSAGE = 80 << 20
"""The longest message in bytes: the largest value, and room to spare."""

RECEIVE_BYTES = 256 << 10


class Failure(Exception):
    """A call that has no answer: the connection ended while it was under way, so it may have been carried out."""


class Unreachable(Failure):
    """No connection could be made, so nothing was carried out."""


class Silent(Failure):
    """No answer within the time limit, or no room for the whole of the call; the other side may still carry it out."""


class NoRoom(Unreachable):
    """There was no thread, process or descriptor for what the call takes: nothing was carried out, and later it may be.

    The text says what there was no room for, and on what side.
    """


class RemoteError(Failure):
    """The other side failed in a way that it should not have, or answered what is no answer; the text says how."""


class Interrupted(Exception):
    """Waiting was given up, by a byte on the descriptor given to `interrupt_by`."""


_interrupt_fd: int | None = None


def interrupt_by(fd: int | None) -> None:
    """Have all connections made from now on raise Interrupted while *fd* is readable, instead of waiting.

    None: have none do that. A wait is for an answer, so the call itself has been sent by then, and the other side
    carries it out before whatever it is asked next. An answer that is there already is returned all the same.
    """
    global _interrupt_fd
    _interrupt_fd = fd


def interrupt_taken() -> None:
    """Let waiting go on after Interrupted."""
    if _interrupt_fd is not None:
        os.read(_interrupt_fd, 4096)


def _milliseconds(seconds: float) -> float:
    """For poll, which takes neither less than none nor more than 24 days."""
    return min(max(0.0, seconds), 1e6) * 1000


class _Stalled(EOFError):
    """The peer's patience has been exhausted in the middle of a message; the connection is closed."""


class _Garbage(EOFError):
    """The peer has sent what it never should; the connection is closed."""


class _Farewell(EOFError):
    """The peer has said why it hangs up."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _SocketStream(Stream):  # type: ignore[misc]
    """RPyC's view of a socket: buffered, and never stuck in the middle of a message."""

    MAX_IO_CHUNK = 64 << 10
    """Larger messages are written in pieces."""

    def __init__(self, sock: socket.socket, patience: float) -> None:
        """*patience*: how long the peer may neither take nor send a byte in the middle of a message, in seconds."""
        sock.setblocking(False)
        self.patience = patience
        self._sock: socket.socket | None = sock
        self._buffer = bytearray()
        self._readable, self._readable_or_interrupted = select.poll(), select.poll()
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
        """End the connection under whoever waits on it; may be called from any thread."""
        sock = self._sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was faster

    def fileno(self) -> int:
        return self._open().fileno()

    def _open(self) -> socket.socket:
        if self._sock is None:
            raise EOFError("the connection is closed")
        return self._sock

    def poll(self, timeout: Any) -> bool:
        """RPyC's interface: wait for data, at most until its timeout object runs out; not to be interrupted."""
        if self._buffer:
            return True
        self._open()
        left = timeout.timeleft() if hasattr(timeout, "timeleft") else timeout
        return bool(self._readable.poll(None if left is None else _milliseconds(left)))

    def is_readable(self) -> bool:
        """Whether there is data, or the end; never blocks, nor can it be interrupted."""
        return self.poll(0)

    def wait_readable(self, seconds: float | None) -> bool:
        """Wait for data; returns whether there is some. Raises Interrupted."""
        if self._buffer:
            return True
        self._open()
        events = self._readable_or_interrupted.poll(None if seconds is None else _milliseconds(seconds))
        if len(events) == 1 and events[0][0] == self._interrupt_fd:
            raise Interrupted
        return bool(events)

    def read(self, count: int) -> bytes:
        if count > MAX_MESSAGE:
            self.fail("a message of absurd length", _Garbage)
        buffer = self._buffer
        while len(buffer) < count:
            try:
                data = self._open().recv(max(RECEIVE_BYTES, min(count - len(buffer), 4 << 20)))
            except BlockingIOError:
                self._wait_in_message(select.POLLIN)
                continue
            except OSError as error:
                self.fail(str(error))
            if not data:
                self.fail("connection closed by peer")
            buffer += data
        if len(buffer) == count:
            self._buffer = bytearray()
            return bytes(buffer)
        with memoryview(buffer) as view:
            head = bytes(view[:count])
        del buffer[:count]
        return head

    def write(self, data: bytes | memoryview) -> None:
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                try:
                    done += self._open().send(view[done:])
                except BlockingIOError:
                    self._wait_in_message(select.POLLOUT)
                except OSError as error:  # what has come in before is still to be had
                    raise EOFError(str(error)) from error

    def _wait_in_message(self, event: int) -> None:
        """Wait until the socket is ready; not to be interrupted, or the rest of the message would be lost."""
        poller = select.poll()
        poller.register(self._open(), event)
        if not poller.poll(_milliseconds(self.patience)):
            self.close()
            raise _Stalled("silence in the middle of a message")

    def fail(self, why: str, kind: type[EOFError] = EOFError) -> NoReturn:
        """Close, and raise EOFError."""
        self.close()
        raise kind(why)


class _Channel(rpyc.Channel):  # type: ignore[misc]
    """RPyC's frames, none of them compressed."""

    def send(self, data: bytes) -> None:
        """Once a byte of a message is out, nothing more is copied: it may fail for want of memory only before."""
        header = self.FRAME_HEADER.pack(len(data), 0)
        first = _SocketStream.MAX_IO_CHUNK
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
            self.stream.fail("a compressed message", _Garbage)
        data: bytes = self.stream.read(length + len(self.FLUSHER))[: -len(self.FLUSHER)]
        return data


_ANSWERED = (consts.HANDLE_CALLATTR, consts.HANDLE_CLOSE, consts.HANDLE_PING)

MAX_ERROR_TEXT = 1000
"""How much of an error's text is sent, and taken, in characters."""

_SERVICE_ID = ("daadkvs.Service", 1, 1)
"""The name under which each side of a connection has the other's service, without asking for it first."""


class _ServiceProxy(netref.class_factory(_SERVICE_ID, ())):  # type: ignore[misc]
    """The other side's service."""

    __slots__ = ()

    def __del__(self) -> None:
        """RPyC would tell the other side that it is free to forget its service."""


class _Connection(rpyc.Connection):  # type: ignore[misc]
    """An RPyC connection that answers only what calling exposed methods takes, and over which only values travel."""

    @classmethod
    def _request_handlers(cls) -> dict[int, Callable[..., Any]]:
        handlers = super()._request_handlers()
        return {request: handlers[request] for request in _ANSWERED}

    def _dispatch(self, data: bytes) -> None:
        try:
            super()._dispatch(data)
        except (EOFError, MemoryError):
            raise
        except Exception as error:  # whatever brine and RPyC stumble over
            self._channel.close()
            raise _Garbage(f"it sent what is no RPyC: {type(error).__name__}: {error}"[:MAX_ERROR_TEXT]) from error

    def _box(self, obj: Any) -> tuple[int, Any]:
        if isinstance(obj, _ServiceProxy):
            return consts.LABEL_LOCAL_REF, _SERVICE_ID
        if brine.dumpable(obj):
            return consts.LABEL_VALUE, obj
        if type(obj) is tuple:
            return consts.LABEL_TUPLE, tuple(map(self._box, obj))
        raise TypeError(f"only plain values travel, and this is none: {type(obj).__name__}")

    def _unbox(self, package: Any) -> Any:
        label, value = package
        if label == consts.LABEL_VALUE:
            return value
        if label == consts.LABEL_TUPLE:
            return tuple(map(self._unbox, value))
        if label == consts.LABEL_LOCAL_REF and value == _SERVICE_ID:
            return self._local_root
        raise ValueError("a reference to an object")

    def _handle_callattr(self, obj: Any, name: str, args: tuple[Any, ...], kwargs: Any = ()) -> Any:
        if obj is not self._local_root or kwargs:
            raise TypeError("only methods of the service can be called, by position")
        return obj.called(name, args)

    def _box_exc(self, kind: type[BaseException], error: BaseException, _: object) -> tuple[Any, ...]:
        return (kind.__module__, kind.__name__), (why(error)[:MAX_ERROR_TEXT],), (), ""

    def _unbox_exc(self, raw: Any) -> Failure:
        """RPyC would make a class for every name that a peer thinks of, and keep them all."""
        (_, name), args = raw[:2]
        text = " ".join(map(str, args)).partition("\n")[0][:MAX_ERROR_TEXT]
        if name == NoRoom.__name__:
            return NoRoom(text)
        return RemoteError(text if name == MemoryError.__name__ else f"{str(name)[:MAX_ERROR_TEXT]}: {text}")


_FAREWELL = -1
"""The number of the request that a farewell answers: none has it."""


class _CallingConnection(_Connection):
    """The calling end: answers nothing, and takes nothing but answers to what it has asked."""

    def _dispatch_request(self, seq: object, raw_args: object) -> NoReturn:
        raise ValueError("a request")

    def _seq_request_callback(self, msg: int, seq: Any, is_exc: bool, obj: Any) -> None:
        if seq == _FAREWELL and is_exc:
            raise _Farewell(obj)
        if seq not in self._request_callbacks:
            raise ValueError("an answer to what was not asked")
        super()._seq_request_callback(msg, seq, is_exc, obj)


def why(error: BaseException) -> str:
    """What to say of an error that ended what somebody has asked for; one line."""
    if isinstance(error, MemoryError):
        return "no memory is left"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0]


def read(packed: Any, is_expected: messages.Check) -> Any:
    """What is packed in an answer. Raises RemoteError where that isn't what is expected."""
    try:
        return messages.unpack(packed, is_expected)
    except ValueError as error:
        raise RemoteError("a malformed answer") from error


_is_stamp = messages.checker(tuple[str, dict[str, int]])


def _is_traced_answer(answer: Any) -> bool:
    return type(answer) is tuple and len(answer) == 2 and type(answer[0]) is bytes


def _is_traced_call(args: tuple[Any, ...]) -> bool:
    return len(args) == 3 and (type(args[0]), type(args[1]), type(args[2])) == (bytes, str, tuple)


class Service(rpyc.Service):  # type: ignore[misc]
    """What one side of a connection offers: its methods named exposed_…; nothing, as it stands here.

    Their parameters are annotated with what `messages.checker` understands, and are checked before each call.
    """

    _protocol = _Connection
    _parameters: dict[str, messages.Check] = {}  # noqa: RUF012 - each class makes its own
    """Of the methods that can be called."""

    def __init_subclass__(cls) -> None:
        cls._parameters = {}
        for name, method in vars(cls).items():
            if name.startswith("exposed_"):
                hints = get_type_hints(method)
                hints.pop("return", None)
                expected = GenericAlias(tuple, tuple(hints.values()))
                cls._parameters[name.removeprefix("exposed_")] = messages.checker(expected)

    def called(self, name: str, args: tuple[Any, ...]) -> Any:
        """What the method answers. Raises what it raises, and TypeError where it can't be called so.

        In a run that is traced, a call is one of "traced": it brings its caller's clock along, and so does its answer.
        """
        if not tracing.on:
            return self._carry_out(name, args)
        if name != "traced" or not _is_traced_call(args):
            raise TypeError("a call without a clock")
        stamp, name, args = args
        tracing.called("called", name, messages.unpack(stamp, _is_stamp))
        answer = self._carry_out(name, args)
        return msgpack.packb(tracing.stamp("answer", name)), answer

    def _carry_out(self, name: str, args: tuple[Any, ...]) -> Any:
        check = self._parameters.get(name)
        if check is None:
            raise TypeError("there is no such method")
        if not check(args):
            raise TypeError(f"{name}: wrong arguments")
        return getattr(self, f"exposed_{name}")(*args)


class _Nobody(Service):
    """What a calling end offers."""

    _protocol = _CallingConnection


def _connection(sock: socket.socket, service: Service, timeout: float) -> tuple[Any, _SocketStream]:
    stream = _SocketStream(sock, timeout)
    config = {
        "allow_safe_attrs": False,
        "include_local_traceback": False,
        "include_local_version": False,
        "close_catchall": True,
        "sync_request_timeout": timeout,
    }
    return service._connect(_Channel(stream, compress=False), config), stream


# -- serving -----------------------------------------------------------------------------------------------


LONGEST_PATH = 107
"""Of a Unix socket, in bytes; what the system takes."""


def new_address(directory: str, name: str) -> str:
    """An address in *directory*, which only this user may enter. Its path may have any length."""
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


class Listener(socket.socket):
    """A listening socket that knows its path; the system may know it by another."""

    path = ""


def listen(address: str) -> Listener:
    """A listener at *address*; connections are queued from now on. Raises OSError."""
    listener = Listener(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.path = address.removeprefix("unix:")
    try:
        with _path_of(address) as path:
            listener.bind(path)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def check_place(directory: str) -> None:
    """Raise OSError, which says so, where processes can't reach each other by sockets in *directory*."""
    address = new_address(directory, "probe")
    try:
        with listen(address):
            _connected(address, 1.0).close()
        os.unlink(address.removeprefix("unix:"))
    except (OSError, Unreachable) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        reason = os.strerror(number) if number else str(error)
        raise OSError(number or errno.EIO, f"no sockets can be made there: {reason}", directory) from error


_master: int | None = None


def let_in(master: int) -> None:
    """Take connections from the process *master* as well; without this, only from this process's own session."""
    global _master
    _master = master


def _is_of_this_run(sock: socket.socket) -> bool:
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pid == _master or (pid > 0 and os.getsid(pid) == os.getsid(0))
    except ProcessLookupError:
        return False  # it has gone already


def _accept(listener: socket.socket) -> socket.socket:
    """Wait for the next connection that may come in."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            time.sleep(NO_ROOM_SECONDS)
            continue
        if _is_of_this_run(sock):
            return sock
        sock.close()


_NO_ROOM = (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NO_ROOM_SECONDS = 0.1
"""When to try again to accept, where there was no descriptor left; nobody tells when there is one."""


def accept_forever(listener: socket.socket, make_service: Callable[[], Service]) -> NoReturn:
    """Serve each connection in a daemon thread, with a service of its own. Who finds no room for that is told so."""
    while True:
        sock = _accept(listener)
        try:
            start_thread(serve, sock, make_service())
        except (NoRoom, MemoryError) as error:
            farewell(sock, error)


def start_thread(target: Callable[..., object], *args: Any) -> None:
    """Run *target* in a daemon thread. Raises NoRoom."""
    try:
        threading.Thread(target=target, args=args, daemon=True).start()
    except RuntimeError as error:
        raise NoRoom(_NO_THREAD) from error


def start_worker() -> ThreadPoolExecutor:
    """A thread that does what it is given, one thing after another. Raises NoRoom."""
    worker = ThreadPoolExecutor(1)
    try:
        worker.submit(int).result()  # starts the thread: now, and not when there is something to do
    except RuntimeError as error:
        raise NoRoom(_NO_THREAD) from error
    return worker


_NO_THREAD = (
    "no thread can be started: the system's limit on processes or on memory is reached (ulimit -u, ulimit -v, pids.max)"
)


def farewell(sock: socket.socket, error: BaseException) -> None:
    """Tell whoever is at the other end of a connection why it is not served, or no longer; close it. Never blocks."""
    raw = (type(error).__module__, type(error).__name__), (why(error)[:MAX_ERROR_TEXT],), (), ""
    data = brine.I1.pack(consts.MSG_EXCEPTION) + brine.dump((_FAREWELL, raw))
    try:
        sock.setblocking(False)
        sock.send(_Channel.FRAME_HEADER.pack(len(data), 0) + data + _Channel.FLUSHER)
    except OSError:
        pass  # it has gone, or takes nothing
    sock.close()


def turn_away(listener: socket.socket, error: BaseException) -> None:
    """Tell the first who connects, within `TURN_AWAY_SECONDS`, why there is nobody to be called."""
    try:
        listener.settimeout(TURN_AWAY_SECONDS)
        farewell(_accept(listener), error)
    except OSError:
        pass  # nobody came, or somebody has been let in before


TURN_AWAY_SECONDS = 5.0


def accept_only(listener: Listener) -> socket.socket:
    """Wait for the first connection, and take no more: the address is gone when this returns."""
    sock = _accept(listener)
    os.unlink(listener.path)
    listener.close()
    return sock


def serve(sock: socket.socket, service: Service) -> None:
    """Carry out the calls that come over *sock*, one after another, until it is closed."""
    try:
        connection, stream = _connection(sock, service, timeout=STALL_SECONDS)
        try:
            while True:
                connection.serve(None)
        except MemoryError as error:
            farewell(sock, error)
        finally:
            stream.close()
            connection.close()
    except Exception:
        pass  # the connection has ended; whoever sends what is no RPyC loses it


def serve_polled(sock: socket.socket, service: Service) -> tuple[int, Callable[[], None]]:
    """Serve from a loop of the caller's: (the descriptor to wait on, what to call when it is readable).

    The function raises EOFError once the connection has ended.
    """
    connection, stream = _connection(sock, service, timeout=STALL_SECONDS)

    def on_readable() -> None:
        try:
            while stream.wait_readable(0):
                connection.serve(0)
        except MemoryError as error:
            farewell(sock, error)
            raise EOFError(why(error)) from error

    return stream.fileno(), on_readable


# -- calling -----------------------------------------------------------------------------------------------


class Pending:
    """A call under way."""

    def __init__(self, remote: Remote, result: Any, name: str, args: tuple[Any, ...], traced: bool) -> None:
        self._remote = remote
        self._result = result
        self._name = name
        self._args = args
        self._traced = traced

    def wait(self, timeout: float | None = None) -> Any:
        """The answer. Blocks at most *timeout* seconds, the remote's own limit where that is None.

        Raises Silent, Failure, RemoteError, Interrupted. After Silent and Interrupted one may wait again; where the
        peer fell silent in the middle of a message, that then fails.
        """
        answer = self._remote._wait(self._result, timeout)
        if self._traced:
            if not _is_traced_answer(answer):
                raise RemoteError("an answer without a clock")
            stamp, answer = answer
            tracing.called("answered", self._name, read(stamp, _is_stamp))
        if not answers.fits(self._name, self._args, answer):
            raise RemoteError("a malformed answer")
        return answer


def _connected(address: str, timeout: float) -> socket.socket:
    """A socket that is connected to *address*. Blocks up to *timeout* seconds. Raises Unreachable."""
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:  # no descriptor is left
        raise NoRoom(f"no connection can be opened: {error.strerror}") from error
    # Not `settimeout`: that wouldn't wait where many connections have yet to be accepted.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
    try:
        with _path_of(address) as path:
            sock.connect(path)
    except (OSError, ValueError) as error:  # also where that is no path
        sock.close()
        raise Unreachable(why(error)) from error
    return sock


def _timeval(seconds: float) -> bytes:
    """For the system, which takes zero for no limit."""
    microseconds = max(1, int(seconds * 1_000_000))
    return struct.pack("ll", *divmod(microseconds, 1_000_000))


class Remote:
    """The calling end of a connection; for one thread only, but for `abort`.

    A remote that has raised a Failure other than Silent is closed for good.
    """

    def __init__(self, address: str | socket.socket, timeout: float) -> None:
        """Connect to *address*, or take a connected socket. *timeout*: for each call, in seconds.

        Raises Unreachable.
        """
        self.timeout = timeout
        sock = _connected(address, timeout) if isinstance(address, str) else address
        self.descriptor = sock.fileno()
        """The connection's descriptor, to poll it for its end; its own only as long as it isn't closed."""
        self._connection, self._stream = _connection(sock, _Nobody(), timeout)
        self._ended: Failure | None = None
        self._service = _ServiceProxy(self._connection, _SERVICE_ID)

    def call(self, name: str, *args: Any, timeout: float | None = None) -> Any:
        """Have the other side carry out its exposed method *name*, and wait for the answer, as `Pending.wait`."""
        return self.send(name, *args).wait(timeout)

    def send(self, name: str, *args: Any) -> Pending:
        """Start a call and don't wait for its answer. Blocks up to `timeout` where it has no room. Raises Failure."""
        called = name, args
        if tracing.on:
            called = "traced", (msgpack.packb(tracing.stamp("call", name)), name, args)
        self._stream.patience = self.timeout
        try:
            result = self._connection.async_request(consts.HANDLE_CALLATTR, self._service, *called)
        except EOFError as error:
            raise self._failure(self._last_words() or error) from error
        return Pending(self, result, name, args, tracing.on)

    def tell(self, name: str, *args: Any) -> None:
        """Start a call whose answer nobody waits for. Raises Failure.

        Takes in the answers that have come meanwhile: unread, they would stop the other side some day.
        """
        try:
            while self._stream.is_readable():
                self._connection.serve(0)
        except EOFError as error:
            raise self._failure(error) from error
        self.send(name, *args)

    def ended(self) -> Failure:
        """Close a connection whose end `descriptor` has reported; the reason, as far as the other side told it."""
        return self._failure(self._last_words() or EOFError("the connection has ended"))

    def _last_words(self) -> EOFError | None:
        """Take in what the other side has said before it hung up: the farewell, if it comes to that."""
        try:
            while not self._stream.closed and self._stream.is_readable():
                self._connection.serve(0)
        except EOFError as error:
            return error
        return None

    def _failure(self, error: EOFError) -> Failure:
        self.close()
        if self._ended is None:
            kind = Silent if isinstance(error, _Stalled) else RemoteError if isinstance(error, _Garbage) else Failure
            self._ended = error.reason if isinstance(error, _Farewell) else kind(str(error))
        return self._ended

    def _wait(self, result: Any, timeout: float | None) -> Any:
        limit = self.timeout if timeout is None else timeout
        self._stream.patience = limit
        deadline = time.monotonic() + limit
        try:
            while not result._is_ready:
                # Data that is there already counts, even if this process itself was stopped until too late.
                if not self._stream.wait_readable(deadline - time.monotonic()):
                    raise Silent("no answer in time")
                self._connection.serve(0)
        except EOFError as error:
            raise self._failure(error) from error
        except MemoryError:
            self.close()  # the rest of the message is lost
            raise
        if result._is_exc:
            raise result._obj
        return result._obj

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as the system knows; doesn't block."""
        if self._stream.closed:
            return False
        poller = select.poll()
        poller.register(self._stream.fileno(), 0)
        return not poller.poll(0)

    def abort(self) -> None:
        """End the connection under a call that another thread may have under way."""
        self._stream.shutdown()

    def close(self) -> None:
        """End the connection; never blocks."""
        self._stream.close()
        self._connection.close()
