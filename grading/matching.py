"""Which line of an output answers which command of the script.

May live here: reading lines that programs decorate, and finding for each question the lines that answer it. May not:
marks.

Theory of operation
-------------------
An output is a sequence of lines, and the questions of a script (its gets and printStores) are a sequence as well. As
in a comparison of two texts, the best way to lay one beside the other is looked for, in which both keep their order: a
get takes at most one line, which begins with its key; a printStore takes any number of lines that follow each other,
each with another key of the script; a line that nobody takes is *extra*. A line that is right counts more than one
that only has the right key, so one missing line shifts nothing. This is a dynamic program over questions and lines,
after the ends that agree anyway have been taken off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from grading.cases import Allowed, Answer, Question, from_text, to_text

__all__ = ["Matched", "NoMatch", "divide", "match", "read_lines", "same"]

_RIGHT, _ALIKE, _OTHER, _EXTRA = 1000, 10, 0, -1
"""What a line is worth that is allowed there, that has a key which is, that has another key, and that nobody takes."""

_MOST_CELLS = 300_000
"""How many pairs of a question and a line are compared; where there are more, each question looks a few lines ahead."""

_AHEAD = 20


class NoMatch(ValueError):
    """An output doesn't fit the script."""


class Matched(NamedTuple):
    """What a program has answered."""

    answers: tuple[Answer | None, ...]
    """For each question; None where nothing answers it."""
    extra: tuple[bytes, ...]
    """Lines that look like answers, but nobody had asked."""
    chatter: tuple[bytes, ...]
    """Lines that are no answers."""


def read_lines(output: bytes, pattern: str = "") -> list[bytes]:
    """The lines of an output as `key:value`, without those that a *pattern* is given for and doesn't match."""
    lines = [line.removesuffix(b"\r") for line in output.split(b"\n")]
    if lines[-1] == b"":
        lines.pop()
    if not pattern:
        return lines
    found = (re.search(pattern, to_text(line)) for line in lines)
    return [from_text(f"{one['key'] or ''}:{one['value'] or ''}") for one in found if one]


def same(came: Answer | None, right: Answer, free: bool) -> bool:
    """Whether an answer is the right one. *free*: the order of its lines doesn't count."""
    return came == right or (free and came is not None and sorted(came) == sorted(right))


def divide(
    questions: Sequence[Question], keys: frozenset[bytes], lines: list[bytes], near: Allowed
) -> tuple[Answer, ...]:
    """The lines of an expected output, each with its question. Raises NoMatch where lines are missing or left over."""
    matched = match(questions, keys, lines, [frozenset().union(*answers) for answers in near.answers])
    if matched.extra or matched.chatter:
        line = (matched.extra + matched.chatter)[0]
        raise NoMatch(f"no command of the script prints {to_text(line)!r}, or not at this place")
    whole = []
    for question, answer in zip(questions, matched.answers, strict=True):
        if answer is None and question.key is not None:
            raise NoMatch(f"the answer to line {question.line} is missing: {to_text(question.text)}")
        whole.append(answer or ())
    return tuple(whole)


def match(
    questions: Sequence[Question], keys: frozenset[bytes], lines: list[bytes], right: Sequence[frozenset[bytes]]
) -> Matched:
    """Find who answers what. *right*: for each question the lines that may be right there."""
    said = [line for line in lines if _key(line, keys)]
    matcher = _Matcher(questions, keys, said, right)
    answers, extra = matcher.result()
    return Matched(answers, extra, _others(lines, keys))


def _key(line: bytes, keys: frozenset[bytes]) -> bytes | None:
    """The longest key that a line may be about; None where it isn't an answer. A key may have colons in it."""
    end = line.rfind(b":")
    while end >= 0:
        if line[:end] in keys:
            return line[:end]
        end = line.rfind(b":", 0, end)
    return None


def _others(lines: Sequence[bytes], keys: frozenset[bytes]) -> tuple[bytes, ...]:
    return tuple(line for line in lines if not _key(line, keys))


class _Matcher:
    """One comparison of questions and lines."""

    def __init__(
        self,
        questions: Sequence[Question],
        keys: frozenset[bytes],
        lines: list[bytes],
        right: Sequence[frozenset[bytes]],
    ) -> None:
        self._questions = questions
        self._lines = lines
        self._keys = [_key(line, keys) for line in lines]
        self._right = right
        self._expected = [{_key(line, keys) for line in answers} for answers in right]
        self._nothing = bytes(len(lines) + 1)  # where what follows isn't looked at

    def result(self) -> tuple[tuple[Answer | None, ...], tuple[bytes, ...]]:
        """The answers, and the lines that nobody takes."""
        first, last = 0, len(self._questions)
        start, end = 0, len(self._lines)
        while first < last and start < end and self._is_plain(first, start):
            first, start = first + 1, start + 1
        while first < last and start < end and self._is_plain(last - 1, end - 1):
            last, end = last - 1, end - 1
        answers: list[Answer | None] = [(self._lines[place],) for place in range(first)]
        many = (last - first) * (end - start) > _MOST_CELLS
        middle, extra = (self._look_ahead if many else self._compare)(first, last, start, end)
        return (*answers, *middle, *((line,) for line in self._lines[end:])), tuple(extra)

    def _is_plain(self, question: int, line: int) -> bool:
        """Whether this line is the right answer to this get."""
        return self._questions[question].key is not None and self._lines[line] in self._right[question]

    def _compare(self, first: int, last: int, start: int, end: int) -> tuple[list[Answer | None], list[bytes]]:
        """The best way, from the back: what questions and lines from some place on are worth together."""
        width = end - start + 1
        best = [[0] * width for _ in range(last - first + 1)]
        taken = [[-1] * width for _ in range(last - first + 1)]  # by the question; -1: the line is extra
        for place in range(last - first, -1, -1):
            for line in range(width - 1, -1, -1):
                if place == last - first and line == width - 1:
                    continue
                options = [(best[place][line + 1] + _EXTRA, -1)] if line < width - 1 else []
                if place < last - first:
                    options += self._options(first + place, start + line, end, best[place + 1], line)
                best[place][line], taken[place][line] = max(options)
        return self._follow(taken, first, last, start, end)

    def _options(
        self, question: int, line: int, end: int, following: Sequence[int], column: int
    ) -> list[tuple[int, int]]:
        """What it is worth when a question takes so many lines from here on."""
        options = [(following[column], 0)]
        asked, right = self._questions[question], self._right[question]
        worth, seen = 0, set()
        most = 1 if asked.key is not None else end - line
        for count in range(1, min(most, end - line) + 1):
            key = self._keys[line + count - 1]
            text = self._lines[line + count - 1]
            if asked.key is not None and not text.startswith(asked.key + b":"):
                break
            if key in seen:
                break
            seen.add(key)
            worth += _RIGHT if text in right else _ALIKE if asked.key or key in self._expected[question] else _OTHER
            options.append((worth + following[column + count], count))
        return options

    def _look_ahead(self, first: int, last: int, start: int, end: int) -> tuple[list[Answer | None], list[bytes]]:
        """A way that is good enough where comparing everything would take too long."""
        answers: list[Answer | None] = []
        extra: list[bytes] = []
        for question in range(first, last):
            options = []
            for skipped in range(min(_AHEAD, end - start)):
                found = self._options(question, start + skipped, end, self._nothing, 0)
                options += [(worth - skipped, -skipped, count) for worth, count in found if count]
            worth, back, count = max(options, default=(0, 0, 0))
            if worth < _RIGHT - _AHEAD:  # nothing here is right: is this line the answer to one of the next?
                following = self._right[question + 1 : question + 1 + _AHEAD]
                is_later = start < end and any(self._lines[start] in right for right in following)
                back, count = 0, 0 if is_later else max((count for _, back, count in options if not back), default=0)
            extra += self._lines[start : start - back]
            answers.append(tuple(self._lines[start - back : start - back + count]) if count else None)
            start += count - back
        return answers, [*extra, *self._lines[start:end]]

    def _follow(
        self, taken: list[list[int]], first: int, last: int, start: int, end: int
    ) -> tuple[list[Answer | None], list[bytes]]:
        """Walk the best way."""
        answers: list[Answer | None] = []
        extra: list[bytes] = []
        place, line = 0, 0
        while place < last - first or line < end - start:
            count = taken[place][line]
            if count < 0:
                extra.append(self._lines[start + line])
                line += 1
                continue
            answers.append(tuple(self._lines[start + line : start + line + count]) if count else None)
            place, line = place + 1, line + count
        return answers, extra
