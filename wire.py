"""What comes in over a connection: is it what it should be?

May live here: checking plain values against type hints, unpacking messages. May not: what a message means, sockets,
threads, files.

A malformed message must be refused before anything of it has been used. Else it could be half applied, or stand in a
log that nobody can read again, or leave a value in a replica that ends a thread much later. So every message is
checked whole, where it comes in, against the hints that tell a reader its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import call
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgpack

__all__ = ["Check", "are_numbers", "checker", "unpack"]

Check = Callable[[Any], bool]

LARGEST_NUMBER = (1 << 63) - 1
LARGEST_SECONDS = 1e6


def checker(hint: Any) -> Check:
    """A function that says whether a value is what *hint* says.

    int: a number from 0 to 2**63 - 1, as all ids, counters and timestamps are. float: seconds, any number from 0 to a
    million. bool, str, bytes and None; Literal["…"]. Of these list[…], tuple[…, ...], tuple[…, …] of a fixed length,
    dict[…, …] and … | …, in any depth. Lists and tuples are the same: msgpack knows only lists, RPyC passes only tuples
    by value.
    """
    if hint is int:
        return lambda value: type(value) is int and 0 <= value <= LARGEST_NUMBER
    if hint is float:
        return lambda value: type(value) in (int, float) and 0 <= value <= LARGEST_SECONDS
    if hint in (bool, str, bytes, NoneType):
        return lambda value: type(value) is hint
    if hint is None:
        return lambda value: value is None
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return lambda value: type(value) is str and value in parts
    checks = [checker(part) for part in parts if part is not ...]
    if origin in (Union, UnionType):
        return lambda value: any(check(value) for check in checks)
    if origin is dict:
        key, item = checks
        return lambda value: type(value) is dict and all(map(key, value)) and all(map(item, value.values()))
    if origin is list or ... in parts:
        (each,) = checks
        return lambda value: type(value) in (list, tuple) and all(map(each, value))
    if origin is tuple:
        count = len(checks)
        return lambda value: type(value) in (list, tuple) and len(value) == count and all(map(call, checks, value))
    raise TypeError(f"nothing is known of {hint}")


def are_numbers(values: Iterable[Any]) -> bool:
    """The same as `checker(list[int])`, several times as fast: for what each put and get brings."""
    for value in values:  # noqa: SIM110 - all() takes three times as long
        if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
            return False
    return True


def unpack(packed: bytes, is_expected: Check, unicode_errors: str = "strict") -> Any:
    """The value that msgpack made these bytes of. Raises ValueError where it isn't what is expected."""
    try:
        value = msgpack.unpackb(packed, strict_map_key=False, unicode_errors=unicode_errors)
    except MemoryError:
        raise
    except Exception as error:  # msgpack raises half a dozen kinds
        raise ValueError(f"not a message: {error}") from error
    if not is_expected(value):
        raise ValueError("not the message that is expected here")
    return value
