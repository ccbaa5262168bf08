"""rpc/forms.py: what it writes is what RPyC would write, and it reads no more than that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc import forms
from rpc.library import brine, consts

NAMES = ("pull", "printed", "execute", "a" * 255, "b" * 300)
for _name in NAMES:
    forms.expect(_name)

numbers = st.integers(0, 300)
names = st.sampled_from(NAMES)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=300) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
    max_leaves=20,
)
arguments = st.lists(values, max_size=5).map(tuple)


def as_rpyc(kind: int, number: Any, what: Any) -> bytes:
    return bytes([kind]) + brine.dump((number, what))  # type: ignore[no-any-return]


def called(name: Any, args: Any, service: Any = forms.SERVICE_ID) -> tuple[Any, ...]:
    method, passed = (consts.LABEL_VALUE, name), (consts.LABEL_VALUE, args)
    return consts.HANDLE_CALLATTR, (consts.LABEL_TUPLE, ((consts.LABEL_LOCAL_REF, service), method, passed))


@given(numbers, names, arguments)
def test_a_call_is_written_as_rpyc_writes_it(number: int, name: str, args: tuple[Any, ...]) -> None:
    assert forms.call(number, name, args) == as_rpyc(consts.MSG_REQUEST, number, called(name, args))


@given(numbers, values)
def test_an_answer_is_written_as_rpyc_writes_it(number: int, value: Any) -> None:
    assert forms.answer(number, value) == as_rpyc(consts.MSG_REPLY, number, (consts.LABEL_VALUE, value))


@given(st.sampled_from(forms.NUMBERS), st.sampled_from(["printed", "execute", "a" * 255]), values)
def test_a_call_is_read(number: int, name: str, args: Any) -> None:
    assert forms.read_call(as_rpyc(consts.MSG_REQUEST, number, called(name, args))) == (number, name, args)


@given(st.sampled_from(forms.NUMBERS), values)
def test_an_answer_is_read(number: int, value: Any) -> None:
    message = as_rpyc(consts.MSG_REPLY, number, (consts.LABEL_VALUE, value))
    assert forms.read_answer(message) == (number, value)


OTHERS = {
    "a number that takes more than one byte": (300, called("execute", ())),
    "no number": ("1", called("execute", ())),
    "an unknown method": (1, called("executed", ())),
    "a method that is called by bytes": (1, called(b"execute", ())),
    "a short name": (1, called("pull", ())),
    "a long name": (1, called("b" * 300, ())),
    "another service": (1, called("execute", (), ("daadkvs.Service", 1, 2))),
    "a reference among the arguments": (
        1,
        (
            consts.HANDLE_CALLATTR,
            (
                consts.LABEL_TUPLE,
                (
                    (consts.LABEL_LOCAL_REF, forms.SERVICE_ID),
                    (consts.LABEL_VALUE, "execute"),
                    (consts.LABEL_TUPLE, ((consts.LABEL_REMOTE_REF, ("x", 1, 2)),)),
                ),
            ),
        ),
    ),
    "another request": (1, (consts.HANDLE_PING, (consts.LABEL_VALUE, (b"hello",)))),
    "no request": (1, 5),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_request_is_left_to_rpyc(name: str) -> None:
    assert forms.read_call(as_rpyc(consts.MSG_REQUEST, *OTHERS[name])) is None


@pytest.mark.parametrize(
    "message",
    [
        as_rpyc(consts.MSG_REPLY, 300, (consts.LABEL_VALUE, b"v")),
        as_rpyc(consts.MSG_REPLY, 1, (consts.LABEL_REMOTE_REF, ("x", 1, 2))),
        as_rpyc(consts.MSG_REPLY, 1, (consts.LABEL_TUPLE, ((consts.LABEL_VALUE, b"v"),))),
        as_rpyc(consts.MSG_REPLY, 1, 5),
        as_rpyc(consts.MSG_EXCEPTION, 1, (consts.LABEL_VALUE, b"v")),
    ],
)
def test_every_other_answer_is_left_to_rpyc(message: bytes) -> None:
    assert forms.read_answer(message) is None
    assert forms.read_call(message) is None


def test_a_message_that_ends_too_soon_has_no_form_or_no_values() -> None:
    call = forms.call(1, "execute", (b"batch",))
    answer = forms.answer(1, b"outcomes")
    for message, form in ((call, forms.read_call), (answer, forms.read_answer)):
        for length in range(len(message)):
            try:
                read = form(message[:length])
            except Exception:  # brine raises many kinds; rpc/connection.py takes them all for garbage
                continue
            # A value that is cut short is shorter for brine: checks of arguments and of answers are made for that.
            assert read is None or read[-1] in (b"outcomes"[: length - len(message)], (b"batch"[: length - len(call)],))
