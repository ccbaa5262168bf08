"""The pure parts of grading: whose answer a line is, what it is worth, and what may be printed at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checking.oracle import random_script
from control.commands import parse
from grading.cases import Allowed, Answer, Case, Question
from grading.expected import BadExpectation, allowed, allowed_by_output
from grading.foretelling import outputs
from grading.marking import Mark, mark
from grading.matching import match, read_lines
from grading.sandbox import Ran
from grading.settings import BadSetting, Settings

PEERS = Path(__file__).resolve().parent.parent / "support" / "peers"

SCRIPT = b"""\
joinServer 0
joinServer 1
joinClient 5 0
joinClient 6 1
put 5 a red
put 5 b big
get 5 a
stabilize
get 6 b
printStore 1
get 6 c
get 5 a"""
RIGHT = b"a:red\nb:big\na:red\nb:big\nc:ERR_KEY\na:red\n"

CONCURRENT = b"""\
joinServer 0
joinServer 1
joinClient 5 0
joinClient 6 1
breakConnection 0 1
put 5 k one
put 6 k two
put 5 k three
createConnection 0 1
stabilize
get 5 k
get 6 k
printStore 0"""


def case(script: bytes = SCRIPT, **settings: object) -> Case:
    """A case, as a folder with this script and nothing else gives it."""
    lines = script.split(b"\n")
    questions, keys = [], set()
    for number, line in enumerate(lines, 1):
        command = parse(line)
        assert command is not None
        if command.name in ("get", "printStore"):
            questions.append(Question(number, number - 1, line, command.key if command.name == "get" else None))
        if command.name in ("get", "put"):
            keys.add(command.key)
    chosen = Settings().changed(settings)
    numbers = tuple(range(1, len(lines) + 1))
    right = allowed(lines, chosen.conflicts)[0]
    return Case("case", tuple(lines), numbers, tuple(questions), frozenset(keys), right, chosen)


def marked(output: bytes, ending: str = "ended", script: bytes = SCRIPT, **settings: object) -> Mark:
    return mark(case(script, **settings), Ran(output, b"", ending))


def wrong_lines(found: Mark) -> list[int]:
    return [difference.line for difference in found.differences]


# -- whose answer a line is --------------------------------------------------------------------------------


def test_what_is_right_gets_everything() -> None:
    assert marked(RIGHT) == Mark(True, 6, 6)
    assert marked(RIGHT.replace(b"\n", b"\r\n")) == Mark(True, 6, 6)
    assert marked(RIGHT.rstrip()) == Mark(True, 6, 6)


@pytest.mark.parametrize("missing", range(6))
def test_a_missing_line_costs_one_answer_and_shifts_nothing(missing: int) -> None:
    lines = RIGHT.splitlines(keepends=True)
    found = marked(b"".join(lines[:missing] + lines[missing + 1 :]))
    assert (found.right, found.gained, found.total) == (False, 5, 6)
    assert wrong_lines(found) == [[7], [9], [10], [10], [11], [12]][missing]


@pytest.mark.parametrize("place", range(6))
def test_a_wrong_line_costs_one_answer(place: int) -> None:
    lines = RIGHT.splitlines()
    lines[place] = lines[place].partition(b":")[0] + b":other"
    found = marked(b"\n".join(lines))
    assert (found.right, found.gained, found.total) == (False, 5, 6)
    assert wrong_lines(found) == [[7], [9], [10], [10], [11], [12]][place]


@pytest.mark.parametrize("place", [0, 1, 2, 4, 5, 6])
def test_a_line_that_nobody_asked_for_takes_one_answer_back(place: int) -> None:
    """Or else who prints every possible answer would have all points."""
    lines = RIGHT.splitlines()
    found = marked(b"\n".join([*lines[:place], b"b:another", *lines[place:]]))
    assert not found.right
    assert found.gained == 5


def test_a_line_within_a_store_also_costs_what_it_cuts_off() -> None:
    assert marked(RIGHT.replace(b"a:red\nb:big\nc", b"a:red\nb:another\nb:big\nc")).gained == 4


def test_every_answer_that_there_could_be_is_worth_nothing() -> None:
    found = marked(b"".join(b"a:red\na:ERR_DEP\nb:big\nc:ERR_KEY\nc:ERR_DEP\n" for _ in range(8)))
    assert (found.right, found.gained) == (False, 0)


def test_chatter_costs_no_answer_but_is_not_right() -> None:
    found = marked(b"Server 0 started\n" + RIGHT)
    assert (found.right, found.gained, found.differences) == (False, 6, ())
    assert found.notes == ("It printed a line that answers nothing: 'Server 0 started'.",)


def test_nothing_is_worth_nothing() -> None:
    found = marked(b"")
    assert (found.right, found.gained, found.total) == (False, 0, 6)
    assert wrong_lines(found) == [7, 9, 10, 11, 12]
    assert {difference.came for difference in found.differences} == {"(nothing)"}


def test_a_difference_says_what_was_expected_and_what_came() -> None:
    (difference,) = marked(RIGHT.replace(b"c:ERR_KEY", b"c:ERR_DEP")).differences
    assert difference == (11, "get 6 c", ("c:ERR_KEY",), "c:ERR_DEP", ())


def test_keys_may_have_colons_in_them() -> None:
    script = b"joinServer 0\njoinClient 5 0\nput 5 a x\nput 5 a:b y\nget 5 a\nget 5 a:b\nprintStore 0"
    assert marked(b"a:x\na:b:y\na:x\na:b:y\n", script=script).right
    found = marked(b"a:b:y\na:x\na:b:y\n", script=script)
    assert (found.gained, wrong_lines(found)) == (3, [5])


def test_the_order_of_a_store_counts_unless_it_is_free() -> None:
    other = b"a:red\nb:big\nb:big\na:red\nc:ERR_KEY\na:red\n"
    assert marked(other).gained == 5
    assert not marked(other).right
    assert marked(other, order="free") == Mark(True, 6, 6)


def test_an_empty_store_is_an_answer() -> None:
    script = b"joinServer 0\njoinClient 5 0\nprintStore 0\nput 5 a x\nget 5 a"
    assert marked(b"a:x\n", script=script) == Mark(True, 2, 2)
    assert marked(b"a:y\na:x\n", script=script).gained == 1


def test_lines_are_read_by_a_pattern() -> None:
    pattern = r"^\[.*\] (?P<key>\S+) = (?P<value>.*)$"
    output = b"Welcome!\n[client 5] a = red\n[6] b = big\n..\n[1] a = red\n[1] b = big\n[6] c = ERR_KEY\n[5] a = red\n"
    assert read_lines(output, pattern)[:2] == [b"a:red", b"b:big"]
    assert marked(output, pattern=pattern) == Mark(True, 6, 6)
    assert marked(output).gained == 0


def test_a_master_that_does_not_end_keeps_its_answers() -> None:
    found = marked(RIGHT, ending="time")
    assert (found.right, found.gained) == (False, 6)
    assert found.notes == ("It had not ended after 0 s, and was killed.",)


@given(st.lists(st.sampled_from((b"a:red", b"a:blue", b"b:big", b"c:ERR_KEY", b"hello", b"")), max_size=12))
def test_each_line_is_taken_once_and_in_order(lines: list[bytes]) -> None:
    one = case()
    right = [frozenset(line for answer in answers for line in answer) for answers in one.allowed.answers]
    matched = match(one.questions, one.keys, lines, right)
    taken = [line for answer in matched.answers for line in answer or ()]
    assert sorted(taken + list(matched.extra) + list(matched.chatter)) == sorted(lines)
    rest: Iterator[bytes] = iter(lines)
    assert all(line in rest for line in taken)  # a subsequence
    for question, answer in zip(one.questions, matched.answers, strict=True):
        if question.key is not None and answer is not None:
            assert len(answer) == 1 and answer[0].startswith(question.key + b":")


def test_a_long_output_is_compared_in_time_that_grows_no_faster() -> None:
    """Where there are too many pairs, a missing line still shifts nothing."""
    script = b"\n".join([b"joinServer 0", b"joinClient 5 0", *(b"put 5 k v%d\nget 5 k" % n for n in range(1500))])
    lines = [b"k:v%d" % n for n in range(1500)]
    lines[0] = b"k:no"
    lines[-1] = b"k:nor"
    del lines[700]
    found = marked(b"\n".join(lines), script=script)
    assert (found.gained, len(found.differences)) == (1497, 3)


# -- what may be printed -----------------------------------------------------------------------------------


def printed(whole: tuple[Answer, ...]) -> bytes:
    return b"".join(line + b"\n" for answer in whole for line in answer)


def test_the_last_put_stands_unless_any_may() -> None:
    one = case(CONCURRENT)
    assert [printed(whole) for whole in one.allowed.wholes] == [b"k:three\nk:three\nk:three\n"]
    any_of_them = case(CONCURRENT, conflicts="any, but everywhere the same")
    assert {printed(whole) for whole in any_of_them.allowed.wholes} == {b"k:three\n" * 3, b"k:two\n" * 3}


def test_any_but_everywhere_the_same() -> None:
    """Client 5's own older value may not stand, and nobody may see another than the others."""
    any_of_them: dict[str, Any] = {"conflicts": "any, but everywhere the same", "script": CONCURRENT}
    assert marked(b"k:two\n" * 3, **any_of_them).right
    assert not marked(b"k:one\n" * 3, **any_of_them).right
    mixed = marked(b"k:two\nk:three\nk:two\n", **any_of_them)
    assert (mixed.right, mixed.gained) == (False, 2)


def random_conflicts(random: Random) -> bytes:
    lines = [b"joinServer 0", b"joinServer 1", b"joinClient 5 0", b"joinClient 6 1"]
    for number in range(14):
        client = random.choice((5, 6))
        lines.append(
            random.choice(
                (
                    b"put %d k v%d" % (client, number),
                    b"get %d k" % client,
                    b"stabilize",
                    b"breakConnection 0 1",
                    b"createConnection 0 1",
                    b"createConnection %d %d" % (client, random.choice((0, 1))),
                    b"breakConnection 5 0\ncreateConnection 5 1",
                )
            )
        )
    return b"\n".join([*lines, b"createConnection 0 1", b"stabilize", b"printStore 0", b"printStore 1"])


def test_an_order_by_server_ids_is_one_of_the_orders(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Which another implementation has, that keeps everything but the last put."""
    monkeypatch.syspath_prepend(str(PEERS))
    from by_id import ById  # type: ignore[import-not-found]
    from right import Peer  # type: ignore[import-not-found]

    differing = 0
    for seed in range(300):
        script = random_conflicts(Random(seed))
        wholes, _, complete = outputs(script.split(b"\n"), True, 5000)
        assert complete
        printed_by = []
        for peer in (Peer(), ById()):
            for line in script.split(b"\n"):
                peer.do(line)
            printed_by.append(capfdbinary.readouterr().out)
        expected = [printed(whole) for whole in wholes]
        assert expected[0] == printed_by[0], script
        assert printed_by[1] in expected, script
        differing += printed_by[0] != printed_by[1]
    assert differing > 10


def test_too_many_orders_are_not_all_of_them() -> None:
    wholes, _, complete = outputs(CONCURRENT.split(b"\n"), True, 1)
    assert (len(wholes), complete) == (1, False)


def test_a_given_output_is_what_is_right() -> None:
    one = case()
    given_output = allowed_by_output(RIGHT.replace(b"big", b"small"), one.questions, one.keys, one.allowed)
    assert given_output == Allowed.of(
        [((b"a:red",), (b"b:small",), (b"a:red", b"b:small"), (b"c:ERR_KEY",), (b"a:red",))]
    )


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (b"a:red\n", "the answer to line 9 is missing: get 6 b"),
        (RIGHT + b"d:4\n", "no command of the script prints 'd:4', or not at this place"),
        (b"a:red\n" + RIGHT, "no command of the script prints 'a:red', or not at this place"),
    ],
)
def test_a_given_output_that_does_not_fit_is_refused(output: bytes, why: str) -> None:
    one = case()
    with pytest.raises(BadExpectation) as refused:
        allowed_by_output(output, one.questions, one.keys, one.allowed)
    assert str(refused.value) == why


# -- values ------------------------------------------------------------------------------------------------


def test_a_case_comes_back_from_json() -> None:
    script = b"joinServer 0\njoinClient 5 0\nput 5 \xff\xfe caf\xe9\nget 5 \xff\xfe\nprintStore 0"
    one = case(script, tags=["a", "b"], points=2)
    assert Case.from_plain(json.loads(json.dumps(one.plain()))) == one


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({"pionts": 1}, "there is no setting 'pionts'; there are comments, conflicts, "),
        ({"points": "two"}, "points is a number, not 'two'"),
        ({"points": -1}, "points is at least 0, not -1.0"),
        ({"points": True}, "points is a number, not True"),
        ({"runs": 0}, "runs is at least 1, not 0"),
        ({"runs": 1.5}, "runs is a whole number, not 1.5"),
        ({"timeout": 0}, "timeout is at least 0.001, not 0.0"),
        (
            {"visibility": "secret"},
            "visibility is one of 'visible', 'hidden', 'after_due_date', 'after_published', not",
        ),
        ({"tags": "one"}, "tags is a list of strings, not 'one'"),
        ({"conflicts": "first"}, "conflicts is one of 'last put', 'any, but everywhere the same', not 'first'"),
        ({"pattern": "("}, "the pattern '(' is no regular expression: "),
        ({"pattern": "(?P<key>.)"}, "the pattern '(?P<key>.)' lacks a group (?P<key>…) or (?P<value>…)"),
    ],
)
def test_a_wrong_setting_is_refused(given_settings: dict[str, object], why: str) -> None:
    with pytest.raises(BadSetting) as refused:
        Settings().changed(given_settings)
    assert str(refused.value).startswith(why)


def test_random_scripts_are_errors_where_the_oracle_says_so() -> None:
    """And give one output."""
    lines = [line.rstrip(b"\r\n") for line in random_script(Random(3), 200)]
    wholes, errors, complete = outputs(lines, False, 10)
    assert (len(wholes), complete) == (1, True)
    assert errors
