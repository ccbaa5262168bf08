"""RPyC made safe: which of its messages are accepted, what travels over a connection, and how a method is called.

May live here: everything that depends on the internals of RPyC, except the stream below it (rpc/stream.py). May not:
sockets, threads, and the meaning of what is sent over the connections.

Only bytes, numbers, strings, None and tuples of these cross a connection, since they travel by value. Everything of
variable shape is packed with msgpack by the caller.

A method is called by its name, in one round trip from the first call on. (RPyC would first fetch the service, ask which
methods it has, and fetch one.) Only those requests of RPyC that this needs are answered. A peer that sends anything
other than RPyC loses the connection. References to objects are refused, since using one would mean calling back a peer
that may never answer, perhaps while a lock is held. A method is carried out only if its arguments match its
annotations.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import cycle
from types import GenericAlias
from typing import Any, NoReturn, get_type_hints

import messages
from rpc import forms, tracing
from rpc.failures import Failure, NoRoom, RemoteError, why
from rpc.library import Connection, brine, consts
from rpc.library import Service as RpycService
from rpc.stream import Channel, Garbage, SocketStream

__all__ = [
    "Farewell",
    "Nobody",
    "Reply",
    "Service",
    "farewell_message",
    "is_traced_answer",
    "make_connection",
]

_ANSWERED = (consts.HANDLE_CALLATTR, consts.HANDLE_CLOSE, consts.HANDLE_PING)

MAX_ERROR_TEXT = 1000
"""How much of an error's text is sent, and accepted, in characters."""


class _Connection(Connection):  # type: ignore[misc]
    """An RPyC connection that answers only the requests needed to call exposed methods, and carries only values."""

    @classmethod
    def _request_handlers(cls) -> dict[int, Callable[..., Any]]:
        handlers = super()._request_handlers()
        return {request: handlers[request] for request in _ANSWERED}

    def serve_message(self) -> None:
        """Read one message, and act on it. Blocks until it is whole. Raises EOFError.

        (A connection has one thread at each end, so the locks of RPyC's own `serve` and `_send` are not needed.)
        """
        data = self._channel.recv()
        try:
            if self._take_usual(data):
                return
            seq, args = brine.load(data[1:])
            if data[0] == consts.MSG_REQUEST:
                self._dispatch_request(seq, args)
            elif data[0] == consts.MSG_REPLY:
                self._take_answer(seq, False, self._unbox(args))
            elif data[0] == consts.MSG_EXCEPTION:
                self._take_answer(seq, True, self._unbox_exc(args))
            else:
                raise ValueError("an unknown kind of message")
        except (EOFError, MemoryError):
            raise
        except Exception as error:  # brine and RPyC raise many kinds
            self._channel.close()
            raise Garbage(f"it sent no valid RPyC: {type(error).__name__}: {error}"[:MAX_ERROR_TEXT]) from error

    def _take_usual(self, data: bytes) -> bool:
        """Act on a call, or at the calling end on an answer, if it has the usual form; returns whether it has."""
        call = forms.read_call(data)
        if call is None:
            return False
        number, name, args = call
        try:
            value = self._local_root.called(name, args)
        except BaseException as error:  # whatever it is, the other side is told
            self._send(consts.MSG_EXCEPTION, number, self._box_exc(type(error), error, None))
        else:
            if brine.dumpable(value):
                self._channel.send(forms.answer(number, value))
            else:
                self._send(consts.MSG_REPLY, number, self._box(value))
        return True

    def _take_answer(self, seq: Any, is_exc: bool, value: Any) -> None:
        """Do nothing: the serving end has asked for nothing."""

    def _send(self, msg: int, seq: Any, args: Any) -> None:
        self._channel.send(brine.I1.pack(msg) + brine.dump((seq, args)))

    def _box(self, obj: Any) -> tuple[int, Any]:
        if brine.dumpable(obj):
            return consts.LABEL_VALUE, obj
        if type(obj) is tuple:
            return consts.LABEL_TUPLE, tuple(map(self._box, obj))
        raise TypeError(f"only plain values can be sent, and this is none: {type(obj).__name__}")

    def _unbox(self, package: Any) -> Any:
        label, value = package
        if label == consts.LABEL_VALUE:
            return value
        if label == consts.LABEL_TUPLE:
            return tuple(map(self._unbox, value))
        if label == consts.LABEL_LOCAL_REF and value == forms.SERVICE_ID:
            return self._local_root
        raise ValueError("a reference to an object")

    def _handle_callattr(self, obj: Any, name: str, args: tuple[Any, ...], kwargs: Any = ()) -> Any:
        if obj is not self._local_root or kwargs or type(name) is not str:
            raise TypeError("only methods of the service can be called, by position")
        return obj.called(name, args)

    def _box_exc(self, kind: type[BaseException], error: BaseException, _: object) -> tuple[Any, ...]:
        return (kind.__module__, kind.__name__), (why(error)[:MAX_ERROR_TEXT],), (), ""

    def _unbox_exc(self, raw: Any) -> Failure:
        """The failure for an error of the other side. (RPyC would make a class for each name that a peer sends.)"""
        (_, name), args = raw[:2]
        text = " ".join(map(str, args)).partition("\n")[0][:MAX_ERROR_TEXT]
        if name == NoRoom.__name__:
            return NoRoom(text)
        return RemoteError(text if name == MemoryError.__name__ else f"{str(name)[:MAX_ERROR_TEXT]}: {text}")


_FAREWELL = -1
"""The number of the request that a farewell answers; no real request has it."""


class Reply:
    """What the other side answers to a call, once it has."""

    __slots__ = ("has_failed", "is_there", "value")

    def __init__(self) -> None:
        self.is_there = False
        self.has_failed = False
        self.value: Any = None
        """What was returned, or the Failure that was raised."""


class _CallingConnection(_Connection):
    """The calling end of a connection: it answers nothing, and takes only answers to its own calls."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._numbers = cycle(forms.NUMBERS)

    def call(self, name: str, args: tuple[Any, ...]) -> Reply:
        """Have the other side carry out its method *name*. Raises EOFError, and TypeError for what can't be sent."""
        number = next(self._numbers)
        if number in self._request_callbacks:  # so many are under way
            number = len(forms.NUMBERS) + self._get_seq_id()
        call = forms.call(number, name, args)
        reply = self._request_callbacks[number] = Reply()
        try:
            self._channel.send(call)
        except BaseException:
            del self._request_callbacks[number]
            raise
        return reply

    def _take_usual(self, data: bytes) -> bool:
        answer = forms.read_answer(data)
        if answer is None:
            return False
        number, value = answer
        self._take_answer(number, False, value)
        return True

    def _dispatch_request(self, seq: object, raw_args: object) -> NoReturn:
        raise ValueError("a request")

    def _take_answer(self, seq: Any, is_exc: bool, value: Any) -> None:
        if seq == _FAREWELL and is_exc:
            raise Farewell(value)
        if seq not in self._request_callbacks:
            raise ValueError("an answer to what was not asked")
        reply = self._request_callbacks.pop(seq)
        reply.is_there, reply.has_failed, reply.value = True, is_exc, value


class Farewell(EOFError):
    """The peer has said why it ends the connection."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(str(reason))
        self.reason = reason


_is_stamp = messages.checker(tracing.Stamp)


def is_traced_answer(answer: Any) -> bool:
    return type(answer) is tuple and len(answer) == 2 and _is_stamp(answer[0])


class Service(RpycService):  # type: ignore[misc]
    """What one side of a connection offers: its methods named exposed_…. This base class has none.

    Their parameters are annotated with hints that `messages.checker` understands, and are checked before each call.
    """

    _protocol = _Connection
    _parameters: dict[str, messages.Check] = {}  # noqa: RUF012 - each class makes its own
    """The checks of the arguments, by the name of the method."""

    def __init_subclass__(cls) -> None:
        cls._parameters = dict(cls._parameters)
        for name, method in vars(cls).items():
            if name.startswith("exposed_"):
                hints = get_type_hints(method)
                hints.pop("return", None)
                expected = GenericAlias(tuple, tuple(hints.values()))
                called = name.removeprefix("exposed_")
                cls._parameters[called] = messages.checker(expected)
                forms.expect(called)

    def called(self, name: str, args: tuple[Any, ...]) -> Any:
        """What the method *name* returns. Raises what it raises, and TypeError if it can't be called like this.

        In a traced run, the first argument of each call is its caller's stamp, and the answer is a pair with ours.
        """
        if not tracing.on:
            return self._carry_out(name, args)
        if not args or not _is_stamp(args[0]):
            raise TypeError("a call without a stamp")
        tracing.called("called", name, args[0])
        answer = self._carry_out(name, args[1:])
        return tracing.stamp("answer", name), answer

    def _carry_out(self, name: str, args: tuple[Any, ...]) -> Any:
        check = self._parameters.get(name)
        if check is None:
            raise TypeError("there is no such method")
        if not check(args):
            raise TypeError(f"{name}: wrong arguments")
        return getattr(self, f"exposed_{name}")(*args)


class Nobody(Service):
    """What the calling end of a connection offers: nothing."""

    _protocol = _CallingConnection


def make_connection(sock: socket.socket, service: Service, timeout: float) -> tuple[Any, SocketStream]:
    stream = SocketStream(sock, timeout)
    config = {
        "allow_safe_attrs": False,
        "include_local_traceback": False,
        "include_local_version": False,
        "close_catchall": True,
        "sync_request_timeout": timeout,
    }
    return service._connect(Channel(stream, compress=False), config), stream


def farewell_message(error: BaseException) -> bytes:
    """A whole frame that tells the calling end why it is not served, or no longer."""
    raw = (type(error).__module__, type(error).__name__), (why(error)[:MAX_ERROR_TEXT],), (), ""
    data: bytes = brine.I1.pack(consts.MSG_EXCEPTION) + brine.dump((_FAREWELL, raw))
    return Channel.FRAME_HEADER.pack(len(data), 0) + data + Channel.FLUSHER  # type: ignore[no-any-return]
