"""A case: a script with what may be asked of it, what it may print, and how it counts.

May live here: the values that grading works with, and how they are kept as JSON, so that a machine without Daadkvs can
grade. May not: where cases come from (grading/suite.py), and what is right (grading/expected.py).

Bytes are kept as text in which each byte that isn't UTF-8 stands as a lone surrogate (PEP 383).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from grading.settings import Settings

__all__ = ["Allowed", "Answer", "Case", "Question", "from_text", "to_text"]

Answer = tuple[bytes, ...]
"""The lines that one command prints: one of a get, any number of a printStore."""


def to_text(data: bytes) -> str:
    """Bytes as text, from which they can be had again."""
    return data.decode("utf-8", "surrogateescape")


def from_text(text: str) -> bytes:
    """The bytes of such a text."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Question:
    """A command of the script that is answered: a get or a printStore."""

    line: int
    """Its number in the script, from 1."""
    fed: int
    """Its position among the lines that the program is fed with, from 0."""
    text: bytes
    key: bytes | None
    """None for a printStore."""


@dataclass(frozen=True)
class Allowed:
    """What a script may print."""

    wholes: tuple[tuple[Answer, ...], ...]
    """Whole outputs, each with an answer for every question."""
    complete: bool = True
    """Whether these are all that there are."""
    answers: tuple[frozenset[Answer], ...] = ()
    """For each question what it may be answered with, in any output; at least what `wholes` has."""

    @staticmethod
    def of(wholes: Sequence[tuple[Answer, ...]], complete: bool = True) -> Allowed:
        """What these outputs allow."""
        return Allowed(tuple(wholes), complete, tuple(map(frozenset, zip(*wholes, strict=True))))


@dataclass(frozen=True)
class Case:
    """A script that programs are graded by."""

    name: str
    script: tuple[bytes, ...]
    """The lines that a program is fed with, without their ends."""
    numbers: tuple[int, ...]
    """Which lines of the file these are, from 1."""
    questions: tuple[Question, ...]
    keys: frozenset[bytes]
    """All that the script names."""
    allowed: Allowed
    settings: Settings = field(default_factory=Settings)
    reasons: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """By line, why it has to be answered as it has to be; empty as long as nobody has asked for it."""

    @property
    def awaited(self) -> frozenset[int]:
        """Which lines that a program is fed with are answered with something in any case."""
        return frozenset(
            question.fed for question, answers in zip(self.questions, self.allowed.answers, strict=True) if all(answers)
        )

    def plain(self) -> dict[str, Any]:
        """As values for JSON."""
        return {
            "name": self.name,
            "script": [*map(to_text, self.script)],
            "numbers": list(self.numbers),
            "questions": [
                [one.line, one.fed, to_text(one.text), None if one.key is None else to_text(one.key)]
                for one in self.questions
            ],
            "keys": sorted(map(to_text, self.keys)),
            "wholes": [[[*map(to_text, answer)] for answer in whole] for whole in self.allowed.wholes],
            "complete": self.allowed.complete,
            "answers": [[[*map(to_text, answer)] for answer in sorted(answers)] for answers in self.allowed.answers],
            "settings": asdict(self.settings),
            "reasons": {str(line): list(reasons) for line, reasons in self.reasons.items()},
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Case:
        """A case from what `plain` has made of it."""

        def answer(lines: Sequence[str]) -> Answer:
            return tuple(map(from_text, lines))

        questions = [
            Question(line, fed, from_text(text), None if key is None else from_text(key))
            for line, fed, text, key in plain["questions"]
        ]
        return Case(
            plain["name"],
            answer(plain["script"]),
            tuple(plain["numbers"]),
            tuple(questions),
            frozenset(map(from_text, plain["keys"])),
            Allowed(
                tuple(tuple(map(answer, whole)) for whole in plain["wholes"]),
                plain["complete"],
                tuple(frozenset(map(answer, answers)) for answers in plain["answers"]),
            ),
            Settings(**{**plain["settings"], "tags": tuple(plain["settings"]["tags"])}),
            {int(line): tuple(reasons) for line, reasons in plain["reasons"].items()},
        )
