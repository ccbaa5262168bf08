"""Outcomes can be packed and unpacked, and their plain values are those of earlier traces."""

from __future__ import annotations

import msgpack
import pytest

from messages import (
    NoValue,
    OperationOutcome,
    Refusal,
    Stored,
    UncertainPut,
    Unsatisfied,
    Unusable,
    Value,
    flat_outcome,
    is_flat_outcome,
    outcome_from_flat,
)

OF_PUTS: list[tuple[OperationOutcome, list[object]]] = [
    (Stored(3, 7), ["stored", 3, 7]),
    (UncertainPut(7), ["uncertain", 7]),
]
OF_GETS: list[tuple[OperationOutcome, list[object]]] = [
    (Value(b"v", 3, 7), ["value", b"v", 3, 7]),
    (NoValue(3), ["ERR_KEY", 3]),
]
OF_BOTH: list[tuple[OperationOutcome, list[object]]] = [
    (Unsatisfied(), ["ERR_DEP"]),
    (Unsatisfied(3), ["ERR_DEP", 3]),
    (Refusal("server 3: full"), ["refused", "server 3: full"]),
    (Unusable(), ["unusable"]),
]

WRONG: list[object] = [
    *(None, 5, [], [[]]),
    *(["stored", 3], ["stored", 3, -1], ["value", "text", 3, 7], ["refused", b"bytes"]),
]


@pytest.mark.parametrize(("outcome", "flat"), OF_PUTS + OF_GETS + OF_BOTH)
def test_an_outcome_comes_back_of_the_same_type(outcome: OperationOutcome, flat: list[object]) -> None:
    travelled = msgpack.unpackb(msgpack.packb(flat_outcome(outcome)))
    assert travelled == flat
    back = outcome_from_flat(travelled)
    assert (type(back), back) == (type(outcome), outcome)


@pytest.mark.parametrize(
    ("value", "fitting", "others"), [(b"v", OF_PUTS + OF_BOTH, OF_GETS), (None, OF_GETS + OF_BOTH, OF_PUTS)]
)
def test_only_outcomes_of_the_operation_are_accepted_and_only_whole_ones(
    value: bytes | None,
    fitting: list[tuple[OperationOutcome, list[object]]],
    others: list[tuple[OperationOutcome, list[object]]],
) -> None:
    for _, flat in fitting:
        assert is_flat_outcome(value, flat), flat
        assert not is_flat_outcome(value, [*flat, 1, 1, 1]), flat
        assert not is_flat_outcome(value, ["unheard of", *flat[1:]]), flat
    for _, flat in others:
        assert not is_flat_outcome(value, flat), flat
    for wrong in WRONG:
        assert not is_flat_outcome(value, wrong), wrong
