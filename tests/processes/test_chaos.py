"""Random scripts while processes are killed and frozen; and the judge of these runs notices falsified output."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from checking.chaos.answers import Violation
from checking.chaos.rounds import Round, run_rounds
from checking.driver import Conversation, Output


def test_many_kills_lose_nothing() -> None:
    kills, counts, _ = run_rounds(seed=0, rounds=50, kills=120, seconds=float("inf"))
    assert kills["server"] > 60
    assert counts["acknowledged puts"] > 120


SCRIPT = b"""joinServer 0
joinServer 1
joinClient 10 0
put 10 a v1
put 10 b v2
get 10 a
breakConnection 0 1
put 10 a v3
get 10 b
joinClient 11 1
get 11 a
createConnection 11 0
put 11 a v4
get 10 a
killServer 1
put 11 b v5
get 11 b
joinServer 1
createConnection 0 1
joinServer 1
stabilize
"""


Played = tuple[Output, list[int], dict[int, list[bytes]]]


@pytest.fixture(scope="module")
def played() -> Played:
    """What a real master prints for a script, the lines with errors, and the stores afterwards."""
    with Conversation("--gossip-interval", "0") as conversation:
        output = conversation.do(SCRIPT)
        return (
            output,
            conversation.numbers,
            {server: conversation.do(b"printStore %d" % server).stdout.splitlines() for server in (0, 1)},
        )


def judge(output: Output, numbers: list[int], stores: dict[int, list[bytes]]) -> None:
    """Raises Violation."""
    this = Round(0)
    for line in SCRIPT.splitlines():
        if line.startswith(b"put"):
            this.judge.put(*line.split()[2:])
    this._judge(SCRIPT.splitlines(), output, numbers)
    this.judge.stores(stores)


def test_the_judge_accepts_what_really_happened(played: Played) -> None:
    judge(*played)


def replaced(right: bytes, wrong: bytes) -> Callable[[bytes], bytes]:
    def tamper(stdout: bytes) -> bytes:
        assert right in stdout
        return stdout.replace(right, wrong, 1)

    return tamper


@pytest.mark.parametrize(
    "tamper",
    [
        replaced(b"a:v3", b"a:v1"),  # read back in time: the session had written v3
        replaced(b"a:v3", b"a:v9"),  # nobody has put it
        replaced(b"a:v3", b"a:v5"),  # put under another key
        replaced(b"a:v1\n", b""),  # a line is missing
        replaced(b"b:v2\n", b"b:v2\nb:v2\n"),  # a line too many
        replaced(b"b:v2\n", b"a:v1\n"),  # an answer to another question
        replaced(b"b:v2", b"b:ERR_KEY"),  # the session's own write is gone
        replaced(b"a:ERR_KEY", b"a:ERR_DEP"),  # out of nowhere: that session had seen nothing of the key
        replaced(b"b:v5", b"b:"),
    ],
)
def test_the_judge_notices_a_falsified_answer(played: Played, tamper: Callable[[bytes], bytes]) -> None:
    output, numbers, stores = played
    with pytest.raises(Violation):
        judge(output._replace(stdout=tamper(output.stdout)), numbers, stores)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (4, "put: internal error: KeyError: 7"),
        (4, "put: client 10 is not running"),  # then its value may not be read
        (6, "put: client 10 has no connection"),  # not what this line is about
        (9, "get: something new"),
        (21, "stabilize: server 0 is not running"),
        (99, "get: client 10 has no connection"),
    ],
)
def test_the_judge_notices_an_impossible_error(played: Played, number: int, error: str) -> None:
    output, numbers, stores = played
    with pytest.raises(Violation):
        judge(output._replace(errors=[*output.errors, error]), [*numbers, number], stores)


@pytest.mark.parametrize(
    "stores",
    [
        {0: [b"a:v4", b"b:v5"], 1: [b"a:v4", b"b:v2"]},  # they differ
        {0: [b"a:v4"], 1: [b"a:v4"]},  # an acknowledged put is gone
        {0: [b"a:v3", b"b:v5"], 1: [b"a:v3", b"b:v5"]},  # an older one stands
        {0: [b"a:v4", b"b:v5", b"c:v1"], 1: [b"a:v4", b"b:v5", b"c:v1"]},  # out of nowhere
        {0: [b"b:v5", b"a:v4"], 1: [b"b:v5", b"a:v4"]},  # not sorted
    ],
)
def test_the_judge_notices_a_falsified_store(played: Played, stores: dict[int, list[bytes]]) -> None:
    with pytest.raises(Violation):
        judge(played[0], played[1], stores)


def test_an_uncertain_put_may_stand_or_not(played: Played) -> None:
    output, numbers, _ = played
    said = "put: uncertain: the server was lost before it answered; the value may stand later"
    unsure = output._replace(
        stdout=output.stdout.replace(b"b:v5\n", b"b:v2\n"),
        errors=[*output.errors, said],
    )
    for last in (b"b:v2", b"b:v5"):
        judge(unsure, [*numbers, 16], {0: [b"a:v4", last], 1: [b"a:v4", last]})
