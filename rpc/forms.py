"""The usual forms of a call and of its answer, written and read as wholes.

May live here: these two forms, byte by byte as RPyC writes them. May not: every other message, which rpc/connection.py
leaves to brine (RPyC's serialization); and what a call does.

Nearly all that crosses a connection is a call of a method of the service, by its name and with plain values, and the
plain value that it returns. RPyC wraps both in tuples of tuples, of which all but the number of the call, the name and
the values is the same each time. To write and read these few bytes anew takes brine longer than everything else about a
call. So they are made once for each name, and compared.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from rpc.library import brine, consts

__all__ = ["NUMBERS", "SERVICE_ID", "answer", "call", "expect", "read_answer", "read_call"]

SERVICE_ID = ("daadkvs.Service", 1, 1)
"""The name by which each side of a connection refers to the other's service, without asking for it first."""

NUMBERS = range(128)
"""The numbers that calls have here, as long as no more of them are under way. brine writes each as a single byte, and a
call or answer whose number takes more than one is left to brine."""

_PAIR = brine.dump((None, None))[:1]
_CALL = brine.I1.pack(consts.MSG_REQUEST) + _PAIR
_ANSWER = brine.I1.pack(consts.MSG_REPLY) + _PAIR
_VALUE = brine.dump((consts.LABEL_VALUE, None))[:-1]
_NUMBER = len(_CALL)
"""Where the number of the call is; what is called or answered comes right behind it."""


@cache
def _head(name: str) -> bytes:
    """All that is called but the arguments, which come last.

    (brine writes a tuple as its length and then one item after another, and None as one byte.)
    """
    service, method, arguments = (consts.LABEL_LOCAL_REF, SERVICE_ID), (consts.LABEL_VALUE, name), consts.LABEL_VALUE
    called = consts.LABEL_TUPLE, (service, method, (arguments, None))
    head: bytes = brine.dump((consts.HANDLE_CALLATTR, called))[:-1]
    return head


_NAME = _NUMBER + 1 + _head("a name").index(b"a name")
"""Where the name of the method is; its length is in the byte before. (Names of up to 4 letters have no such byte.)"""

_expected: dict[bytes, str] = {}


def expect(name: str) -> None:
    """Have `read_call` know calls of this method."""
    _expected[_head(name)] = name


def call(number: int, name: str, args: tuple[Any, ...]) -> bytes:
    return _CALL + brine.dump(number) + _head(name) + brine.dump(args)  # type: ignore[no-any-return]


def read_call(data: bytes) -> tuple[int, str, Any] | None:
    """The number of a call, its method and its arguments; None where the call has another form."""
    if data[:_NUMBER] != _CALL or len(data) < _NAME:
        return None
    end = _NAME + data[_NAME - 1] + len(_VALUE)
    name = _expected.get(data[_NUMBER + 1 : end])
    number = brine.IMM_INTS_LOADER.get(data[_NUMBER : _NUMBER + 1])
    if name is None or number is None:
        return None
    return number, name, brine.load(data[end:])


def answer(number: int, value: Any) -> bytes:
    return _ANSWER + brine.dump(number) + _VALUE + brine.dump(value)  # type: ignore[no-any-return]


def read_answer(data: bytes) -> tuple[int, Any] | None:
    """The number of the call that is answered, and the value; None where the answer has another form."""
    if data[:_NUMBER] != _ANSWER or data[_NUMBER + 1 : _NUMBER + 1 + len(_VALUE)] != _VALUE:
        return None
    number = brine.IMM_INTS_LOADER.get(data[_NUMBER : _NUMBER + 1])
    return None if number is None else (number, brine.load(data[_NUMBER + 1 + len(_VALUE) :]))
