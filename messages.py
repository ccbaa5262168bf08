"""Typed values, and how they travel: operations, answers and outcomes.

May live here: the values that processes send each other about puts and gets, the limits on their sizes, how they are
packed, and the check that what comes in has the shape it should have. May not: what a replica, a session or a group
does with them; sockets, threads, files.

Theory of operation
-------------------
A put or a get appears in four forms on its way from the master to a replica and back:

    master                 client                server                 replica
    | -- Command --------> | -- Operation -----> | -- Operation ------> |
    | <- Outcome --------- | <- plain answer --- | <- Write, Missing -- |

A *command* is a line of the script. An *operation* is a put or get together with what the session has seen of its key.
The *answer* is what one server says to it. The *outcome* is what has come of the command in the end, after the client
has gone on to other servers where it had to.

A malformed message must be refused before any part of it is used. Otherwise half of it might be applied, or it might
enter a log that nobody can read afterwards, or leave a value in a replica that stops a thread much later. So each
message is checked as a whole where it comes in, against the type hints that tell a reader its shape.

msgpack and RPyC carry plain values only: numbers, strings, bytes, and lists or tuples of them. The *flat* form of a
value here is such a plain value; it stands in traces, so it stays readable in later versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from operator import call
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgpack

from vector_clock import EMPTY_CLOCK, Dot, Replica, Seen, VectorClock, Version

__all__ = [
    "MAX_KEY",
    "MAX_VALUE",
    "Check",
    "Command",
    "Done",
    "Lines",
    "Missing",
    "NoValue",
    "Operation",
    "OperationOutcome",
    "Outcome",
    "Refusal",
    "Store",
    "Stored",
    "UncertainPut",
    "Unsatisfied",
    "Unusable",
    "Value",
    "Write",
    "are_numbers",
    "check_entry",
    "checker",
    "flat_outcome",
    "is_flat_outcome",
    "outcome_from_flat",
    "outcome_of",
    "pack_operations",
    "plain_answer",
    "unpack",
    "unpack_operations",
]

MAX_KEY = 64 << 10
"""The largest key, in bytes."""

MAX_VALUE = 64 << 20
"""The largest value, in bytes."""

WRITE_OVERHEAD_BYTES = 64
"""About what a write takes in the log in addition to its key and value."""

LARGEST_NUMBER = (1 << 63) - 1
LARGEST_SECONDS = 1e6


# -- checks of plain values --------------------------------------------------------------------------------

Check = Callable[[Any], bool]
"""Whether a plain value has the expected shape."""


def checker(hint: Any) -> Check:
    """A function that says whether a plain value has the shape that the type *hint* describes.

    int stands for a number from 0 to 2**63 - 1, as all ids, counters and timestamps are; float for seconds, which may
    be any number from 0 to a million. The other simple hints are bool, str, bytes, None and Literal["…"]. They may be
    combined, in any depth, by list[…], tuple[…, ...], tuple[…, …] of a fixed length, dict[…, …] and … | ….
    Lists and tuples are not distinguished: msgpack knows only lists, and RPyC passes only tuples by value.
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
    """Whether all of these are what `checker(int)` accepts. Fast, since every put and every get is checked by it."""
    for value in values:  # noqa: SIM110 - all() takes three times as long
        if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
            return False
    return True


def check_entry(key: object, value: object, numbers: Iterable[object]) -> None:
    """Raise ValueError unless these are a key, a value, and numbers as in `are_numbers`."""
    if type(key) is not bytes or len(key) > MAX_KEY:
        raise ValueError("not a key")
    if type(value) is not bytes or len(value) > MAX_VALUE:
        raise ValueError("not a value")
    if not are_numbers(numbers):
        raise ValueError("not a number")


def unpack(packed: bytes, is_expected: Check, unicode_errors: str = "strict") -> Any:
    """The value that msgpack has packed into these bytes. Raises ValueError unless it is as expected."""
    try:
        value = msgpack.unpackb(packed, strict_map_key=False, unicode_errors=unicode_errors)
    except MemoryError:
        raise
    except Exception as error:  # msgpack raises half a dozen kinds
        raise ValueError(f"not a message: {error}") from error
    if not is_expected(value):
        raise ValueError("not the message that is expected here")
    return value


# -- commands, operations and writes -----------------------------------------------------------------------


class Command(NamedTuple):
    """One parsed line of a script. *ids* are in the order of the line; *key* and *value* are empty if it has none."""

    name: str
    ids: tuple[int, ...] = ()
    key: bytes = b""
    value: bytes = b""

    @property
    def line(self) -> bytes:
        """A line with the same meaning."""
        words = [self.name.encode(), *(b"%d" % ident for ident in self.ids), self.key, self.value]
        return b" ".join(word for word in words if word)


class Write(NamedTuple):
    """A value under a key, and its version."""

    key: bytes
    value: bytes
    version: Version

    def flat(self) -> list[Any]:
        """The write as plain values: key, value, timestamp, server, incarnation, counter, clock.

        The clock is left empty if it contains only the dot, that is, if the session had seen nothing of the key.
        """
        timestamp, dot, clock = self.version
        (server, incarnation), counter = dot
        seen = [] if clock.entries == (dot,) else clock.flat()
        return [self.key, self.value, timestamp, server, incarnation, counter, seen]

    @classmethod
    def from_flat(cls, flat: list[Any]) -> Write:
        """The inverse of `flat`."""
        key, value, timestamp, server, incarnation, counter, seen = flat
        dot = Dot(Replica(server, incarnation), counter)
        clock = VectorClock.from_flat(seen) if seen else EMPTY_CLOCK.with_dot(dot)
        return cls(key, value, Version(timestamp, dot, clock))

    @property
    def size(self) -> int:
        """About how many bytes the write takes in the log."""
        return len(self.key) + len(self.value) + WRITE_OVERHEAD_BYTES


class Operation(NamedTuple):
    """One put (*value* is bytes) or get (*value* is None) of a session, and what the session has seen of the key.

    *seen* does not include the other operations that are carried out together with this one. *session* distinguishes
    the sessions whose operations are carried out together.
    """

    key: bytes
    value: bytes | None
    timestamp: int
    seen: Seen | None
    session: int = 0


def pack_operations(operations: Iterable[Operation]) -> bytes:
    """Operations as bytes: what a client sends to its server."""
    packed: bytes = msgpack.packb(
        [(key, value, timestamp, seen.flat() if seen else None) for key, value, timestamp, seen, _ in operations]
    )
    return packed


def unpack_operations(packed: bytes, session: int = 0) -> list[Operation]:
    """The inverse of `pack_operations`, as the operations of *session*.

    Raises ValueError or TypeError if the bytes are anything else.
    """
    operations = []
    for key, value, timestamp, seen in msgpack.unpackb(packed):
        numbers = (timestamp, *seen[:-1], *seen[-1]) if seen else (timestamp,)
        check_entry(key, b"" if value is None else value, numbers)
        operations.append(Operation(key, value, timestamp, Seen.from_flat(seen) if seen else None, session))
    return operations


# -- what a server answers ---------------------------------------------------------------------------------


class Missing(Enum):
    """Why a get returns no value."""

    KEY = "ERR_KEY"
    """The replica has no value for the key, and the session has not seen one."""
    DEPENDENCY = "ERR_DEP"
    """The replica is behind: its value is older than what the session has seen, or it has none yet."""


def plain_answer(operation: Operation, answer: Write | Missing) -> Any:
    """A replica's answer to an operation, as plain values.

    For a put, the dot of its write: `[server, incarnation, counter]`. For a get, `[value, timestamp, dot, clock]`, or
    the name of the reason why there is no value: "ERR_KEY" or "ERR_DEP".
    """
    if isinstance(answer, Missing):
        return answer.value
    timestamp, ((server, incarnation), counter), clock = answer.version
    dot = [server, incarnation, counter]
    return dot if operation.value is not None else [answer.value, timestamp, dot, clock.flat()]


# -- what comes of a command -------------------------------------------------------------------------------
# Compare these by type first: as tuples, outcomes of different types with equal fields are equal.


class Stored(NamedTuple):
    """*server* has acknowledged the put, whose write has this timestamp."""

    server: int
    timestamp: int


class Value(NamedTuple):
    """*server* has answered the get with this value; *timestamp* is that of the write which the value comes from."""

    value: bytes
    server: int
    timestamp: int


class NoValue(NamedTuple):
    """*server* satisfies the session, and has no value for the key (ERR_KEY)."""

    server: int


class Unsatisfied(NamedTuple):
    """Every server that answered is behind what the session has seen of the key (ERR_DEP)."""

    server: int | None = None
    """The only server that was asked, in a group; None otherwise."""


class Refusal(NamedTuple):
    """A server could not carry out the operation, for instance because its disk is full, and has not done it."""

    why: str


class UncertainPut(NamedTuple):
    """The put may have been carried out by a server that was lost, and its value may appear later."""

    timestamp: int


class Unusable(NamedTuple):
    """The client has no server that can be reached, and nothing has been done."""


class Lines(NamedTuple):
    """The store of a server as printStore prints it, in pieces."""

    pieces: list[bytes]


class Store(NamedTuple):
    """The store of a server, with the timestamps that a history needs: (key, value, timestamp) for each key."""

    server: int
    entries: list[tuple[bytes, bytes, int]]


class Done(NamedTuple):
    """A command has done what it should, and there is nothing more to say."""


OperationOutcome = Stored | Value | NoValue | Unsatisfied | Refusal | UncertainPut | Unusable
"""What has come of a put or get. These travel from the client to the master."""

Outcome = OperationOutcome | Lines | Store | Done
"""What has come of any command."""

_TYPES: dict[str, Callable[..., OperationOutcome]] = {
    "stored": Stored,
    "value": Value,
    "ERR_KEY": NoValue,
    "ERR_DEP": Unsatisfied,
    "refused": Refusal,
    "uncertain": UncertainPut,
    "unusable": Unusable,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def outcome_of(answer: Any, server: int, issued: int) -> OperationOutcome:
    """The outcome that a server's answer (`plain_answer`) makes, for an operation *issued* with this timestamp."""
    if isinstance(answer, str):
        return NoValue(server) if answer == Missing.KEY.value else Unsatisfied(server)
    if isinstance(answer[0], int):
        return Stored(server, issued)
    value, timestamp, _, _ = answer
    return Value(value, server, timestamp)


def flat_outcome(outcome: OperationOutcome) -> tuple[Any, ...]:
    """An outcome as plain values: its name and its fields, for instance `("stored", server, timestamp)`."""
    if type(outcome) is Unsatisfied and outcome.server is None:
        return (Missing.DEPENDENCY.value,)
    return (_NAMES[type(outcome)], *outcome)


def outcome_from_flat(flat: list[Any]) -> OperationOutcome:
    """The inverse of `flat_outcome`, of plain values that `is_flat_outcome` has accepted."""
    return _TYPES[flat[0]](*flat[1:])


_is_flat_put_outcome = checker(
    tuple[Literal["stored"], int, int]
    | tuple[Literal["ERR_DEP"], int]
    | tuple[Literal["ERR_DEP", "unusable"]]
    | tuple[Literal["refused"], str]
    | tuple[Literal["uncertain"], int]
)
_is_flat_get_outcome = checker(
    tuple[Literal["value"], bytes, int, int]
    | tuple[Literal["ERR_KEY", "ERR_DEP"], int]
    | tuple[Literal["ERR_DEP", "unusable"]]
    | tuple[Literal["refused"], str]
)


def is_flat_outcome(value: bytes | None, flat: Any) -> bool:
    """Whether a put of *value*, or a get if that is None, may have this outcome. Fast for the usual outcomes."""
    if value is None:
        if type(flat) is list and len(flat) == 4 and flat[0] == "value":
            return type(flat[1]) is bytes and are_numbers(flat[2:])
        return _is_flat_get_outcome(flat)
    if type(flat) is list and len(flat) == 3 and flat[0] == "stored":
        return are_numbers(flat[1:])
    return _is_flat_put_outcome(flat)
