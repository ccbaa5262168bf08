"""What a script may print: the one place where grading asks what is right.

May live here: what is asked, and who is asked. May not: how programs are run, and how their output counts.

Everything else in grading works with `Allowed`, whoever has found it out.
"""

from __future__ import annotations

from collections.abc import Sequence

from checking.oracle import Mismatch
from grading.cases import Allowed, Answer, Question
from grading.foretelling import outputs
from grading.matching import NoMatch, divide
from grading.settings import CONFLICTS

__all__ = ["MAX_WHOLES", "BadExpectation", "allowed", "allowed_by_output"]

MAX_WHOLES = 1000
"""How many whole outputs are looked for."""


class BadExpectation(ValueError):
    """An expected output doesn't fit its script, or it can't be said what the script prints."""


def allowed(lines: Sequence[bytes], conflicts: str = CONFLICTS[0]) -> tuple[Allowed, list[int]]:
    """What a script may print where nobody says so, and the numbers of its lines that are errors.

    Updates move with `stabilize` alone: there is one output, but for concurrent puts where *conflicts* says that any of
    them may stand. Raises BadExpectation.
    """
    try:
        wholes, errors, complete = outputs(lines, conflicts != CONFLICTS[0], MAX_WHOLES)
    except Mismatch as mismatch:
        raise BadExpectation(str(mismatch)) from mismatch
    return Allowed.of(wholes, complete), errors


def allowed_by_output(
    output: bytes, questions: Sequence[Question], keys: frozenset[bytes], reference: Allowed
) -> Allowed:
    """What a script may print where its expected output is given. Raises BadExpectation.

    *reference*: what it may print otherwise; it tells where the answer of a printStore ends if that isn't plain.
    """
    lines = output.splitlines()
    try:
        whole: tuple[Answer, ...] = divide(questions, keys, lines, reference)
    except NoMatch as error:
        raise BadExpectation(str(error)) from None
    return Allowed.of([whole])
