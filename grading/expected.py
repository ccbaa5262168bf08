"""What a script may print: the one place where grading asks what is right.

May live here: what is asked, and who is asked. May not: how programs are run, and how their output counts.

Everything else in grading works with `Allowed`, whoever has found it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, product

from checking.oracle import Mismatch
from checking.outcomes.analysis import LineAnswers, outcomes
from grading.cases import Allowed, Answer, Question
from grading.foretelling import outputs
from grading.matching import NoMatch, divide
from grading.settings import CONFLICTS

__all__ = ["MAX_WHOLES", "BadExpectation", "allowed", "allowed_by_outcomes", "allowed_by_output"]

MAX_WHOLES = 1000
"""How many whole outputs are looked for."""

MAX_ANSWERS = 1000
"""How many answers of one printStore are looked for, where there are more whole outputs than that."""


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


def allowed_by_outcomes(
    lines: Sequence[bytes], questions: Sequence[Question], keys: frozenset[bytes], reference: Allowed
) -> Allowed:
    """What a script may print, depending on how gossip runs, if the last put stands.

    *reference*: what it prints without gossip. Raises BadExpectation where there are too many possibilities.
    """
    found = outcomes(b"".join(line + b"\n" for line in lines), limit=MAX_WHOLES)
    of_line = {answers.line: answers for answers in found.lines}
    possible = [_possible(of_line[question.line]) for question in questions]
    near = Allowed((), False, tuple(frozenset([tuple(sorted(set().union(*answers)))]) for answers in possible))
    try:
        wholes = [divide(questions, keys, stdout.split(b"\n")[:-1], near) for stdout in sorted(found.stdouts)]
    except NoMatch as error:  # answers that can't be told apart, since one key begins like another's answer
        raise BadExpectation(f"what it can print can't be divided into answers: {error}") from None
    wholes = [*reference.wholes, *(whole for whole in wholes if whole not in reference.wholes)]
    if found.is_complete:
        return Allowed.of(wholes)
    if not all(answers.is_complete for answers in found.lines) or max(map(len, possible)) > MAX_ANSWERS:
        raise BadExpectation(
            f"it can print more than {MAX_WHOLES} different outputs, depending on how gossip runs; give it an expected "
            "output, or a stabilize before its answers"
        )
    return Allowed(tuple(wholes), False, tuple(map(frozenset, possible)))


def _possible(answers: LineAnswers) -> list[Answer]:
    """What a line can print, up to one more than `MAX_ANSWERS`."""
    combined = product(
        *([key + b":" + value if value is not None else None for value in values] for key, values in answers.keys)
    )
    return [tuple(line for line in lines if line is not None) for lines in islice(combined, MAX_ANSWERS + 1)]
