"""The meaning of lines, rule by rule, and how a stream of bytes is split into lines."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control import commands, script
from control.commands import COMMANDS, MAX_LINE, CommandError, parse
from messages import MAX_KEY, MAX_VALUE, Command

ID_WORDS = ("id", "id1", "id2", "clientId", "serverId")


def error_of(line: bytes) -> str:
    with pytest.raises(CommandError) as caught:
        parse(line)
    return str(caught.value)


# -- each command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"joinServer 3", Command("joinServer", (3,))),
        (b"killServer 3", Command("killServer", (3,))),
        (b"joinClient 5 3", Command("joinClient", (5, 3))),
        (b"breakConnection 1 2", Command("breakConnection", (1, 2))),
        (b"createConnection 2 1", Command("createConnection", (2, 1))),
        (b"stabilize", Command("stabilize")),
        (b"printStore 0", Command("printStore", (0,))),
        (b"put 5 colour red", Command("put", (5,), b"colour", b"red")),
        (b"get 5 colour", Command("get", (5,), b"colour")),
    ],
)
def test_each_command_is_understood(line: bytes, command: Command) -> None:
    assert parse(line) == command


def test_there_are_no_other_commands() -> None:
    assert set(COMMANDS) == {
        *("joinServer", "killServer", "joinClient", "breakConnection", "createConnection"),
        *("stabilize", "printStore", "put", "get"),
        "shapeConnection",
    }


@pytest.mark.parametrize(
    "word", ["help", "status", "exit", "quit", "nonsense", "set", "é", ":", "x" * 50, "zzputzz" * 4]
)
def test_other_words_are_unknown_in_a_script(word: str) -> None:
    assert error_of(word.encode()) == f"unknown command: {word}"
    assert error_of(word.encode() + b" 1 2") == f"unknown command: {word}"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("stablize", "stabilize"),
        ("stabilise", "stabilize"),
        ("joinserver", "joinServer"),
        ("PUT", "put"),
        ("putx", "put"),
        ("get:", "get"),
        ("jionServer", "joinServer"),
        ("joinServer0", "joinServer"),
        ("print", "printStore"),
        ("join", "joinServer or joinClient"),
        ("connection", "breakConnection or createConnection or shapeConnection"),
    ],
)
def test_an_error_about_a_misspelt_word_suggests_the_command(word: str, meant: str) -> None:
    assert error_of(word.encode() + b" 1 2") == f"unknown command: {word}; did you mean {meant}?"
    assert error_of(word.encode()) == error_of(word.encode() + b" 1 2")


def test_the_words_of_the_prompt_are_suggested_only_there() -> None:
    assert commands.unknown(b"statsu", commands.ALL_WORDS) == "unknown command: statsu; did you mean status?"
    assert error_of(b"statsu") == "unknown command: statsu"


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        (b"joinServer", "joinServer id"),
        (b"joinServer 1 2", "joinServer id"),
        (b"killServer", "killServer id"),
        (b"joinClient 1", "joinClient clientId serverId"),
        (b"joinClient 1 2 3", "joinClient clientId serverId"),
        (b"breakConnection 1", "breakConnection id1 id2"),
        (b"createConnection 1 2 3", "createConnection id1 id2"),
        (b"stabilize 1", "stabilize"),
        (b"printStore", "printStore id"),
        (b"put", "put clientId key value"),
        (b"put 1", "put clientId key value"),
        (b"put 1 key", "put clientId key value"),
        (b"put 1 key   \t ", "put clientId key value"),
        (b"get 1", "get clientId key"),
        (b"get 1 two words", "get clientId key"),
    ],
)
def test_a_wrong_number_of_words_is_answered_with_the_usage(line: bytes, usage: str) -> None:
    name = usage.split()[0]
    assert error_of(line) == f"{name}: wrong number of words; usage: {usage}"


# -- blanks and comments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"", b" ", b"\t", b" \t \t", b"#", b"# put 1 a b", b"  #x", b"\t#", b"#\xff\x00"])
def test_empty_lines_and_comments_are_nothing(line: bytes) -> None:
    assert parse(line) is None


def test_a_hash_sign_within_a_line_does_not_begin_a_comment() -> None:
    assert parse(b"put 1 # #") == Command("put", (1,), b"#", b"#")
    assert parse(b"put 1 k v # w") == Command("put", (1,), b"k", b"v # w")
    assert "wrong number of words" in error_of(b"stabilize # now")


@given(st.lists(st.sampled_from([b" ", b"\t", b"  ", b" \t\t "]), min_size=3, max_size=3))
def test_words_are_separated_by_blanks_and_blanks_around_a_line_are_ignored(blanks: list[bytes]) -> None:
    a, b, c = blanks
    assert parse(a + b"joinClient" + b + b"5" + c + b"3" + a) == Command("joinClient", (5, 3))
    assert parse(b + b"get" + c + b"5" + a + b"k" + b) == Command("get", (5,), b"k")


@pytest.mark.parametrize("blank", [b"\x0b", b"\x0c", b"\xa0", "\u2003".encode(), b"\x00", b"\r"])
def test_only_spaces_and_tabs_are_blanks(blank: bytes) -> None:
    key = b"a" + blank + b"b"
    assert parse(b"get 1 " + key) == Command("get", (1,), key)
    assert parse(b"put 1 k " + blank) == Command("put", (1,), b"k", blank)
    assert error_of(b"get" + blank + b"1 k").startswith("unknown command: get")


# -- ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "number"),
    [(b"0", 0), (b"7", 7), (b"007", 7), (b"000", 0), (b"9" * 18, 10**18 - 1), (b"0" * 17 + b"5", 5)],
)
def test_ids_are_decimal_numbers_and_leading_zeros_do_not_count(word: bytes, number: int) -> None:
    assert parse(b"joinServer " + word) == Command("joinServer", (number,))
    assert parse(b"createConnection 1 " + word) == Command("createConnection", (1, number))


@pytest.mark.parametrize(
    "word",
    [b"-1", b"+1", b"1.0", b"0x1", b"1e3", b"1_000", b"x", b"1x", b"9" * 19, b"1" + b"0" * 18, b"\x00", b"\xff"],
)
def test_other_words_are_no_ids(word: bytes) -> None:
    text = error_of(b"joinServer " + word)
    assert text.startswith("joinServer: not an id: ")
    assert text.endswith("(an id is a number of 1 to 18 digits)")


@pytest.mark.parametrize("digits", ["٣", "３", "²", "Ⅷ", "1٣", "१२"])
def test_digits_of_other_scripts_are_no_digits(digits: str) -> None:
    assert error_of(f"get {digits} k".encode()) == f"get: not an id: {digits} (an id is a number of 1 to 18 digits)"


@pytest.mark.parametrize(
    "line", [b"get x k", b"put x k v", b"joinClient x 1", b"joinClient 1 x", b"breakConnection 1 x"]
)
def test_every_id_of_a_command_is_checked(line: bytes) -> None:
    assert ": not an id: x " in error_of(line)


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_ids_keep_the_order_of_the_line(one: int, other: int) -> None:
    assert parse(b"breakConnection %d %d" % (one, other)) == Command("breakConnection", (one, other))


# -- keys and values ---------------------------------------------------------------------------------------


def test_a_value_is_the_rest_of_the_line_with_its_inner_blanks() -> None:
    assert parse(b"put 1 k \t a  b\t\tc \t") == Command("put", (1,), b"k", b"a  b\t\tc")


@given(st.binary(min_size=1, max_size=30), st.binary(min_size=1, max_size=40))
def test_keys_and_values_are_any_bytes(key: bytes, value: bytes) -> None:
    key = re.sub(rb"[ \t\n]", b"_", key)
    value = value.replace(b"\n", b"_").strip(b" \t") or b"_"
    assert parse(b"put 1 " + key + b" " + value) == Command("put", (1,), key, value)
    assert parse(b"get 1 " + key) == Command("get", (1,), key)


@pytest.mark.parametrize("value", [b"\xff\xfe", "größe".encode(), b"ERR_KEY", b"a:b", b"\x1b[31m", b"#"])
def test_bytes_pass_through_unchanged(value: bytes) -> None:
    assert parse(b"put 1 " + value + b" " + value) == Command("put", (1,), value, value)


def test_the_longest_key_is_64_kib() -> None:
    assert MAX_KEY == 64 * 1024
    key = b"k" * MAX_KEY
    assert parse(b"get 1 " + key) == Command("get", (1,), key)
    assert parse(b"put 1 " + key + b" v") == Command("put", (1,), key, b"v")
    for line in (b"get 1 k" + key, b"put 1 k" + key + b" v"):
        assert error_of(line).endswith(f": the key has {MAX_KEY + 1} bytes; at most {MAX_KEY} are allowed")


def test_the_longest_value_is_64_mib() -> None:
    assert MAX_VALUE == 64 * 1024 * 1024
    value = b"v" * MAX_VALUE
    command = parse(b"put 1 k " + value)
    assert command is not None
    assert command.value == value
    text = error_of(b"put 1 k v" + value)
    assert text == f"put: the value has {MAX_VALUE + 1} bytes; at most {MAX_VALUE} are allowed"


def test_the_longest_put_fits_into_the_longest_line() -> None:
    assert len(b"put ") + 18 + 1 + MAX_KEY + 1 + MAX_VALUE <= MAX_LINE


def test_a_longer_line_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_LINE", 20)
    assert parse(b"put 1 k " + b"v" * 12) == Command("put", (1,), b"k", b"v" * 12)
    assert error_of(b"put 1 k " + b"v" * 13) == "the line is longer than 20 bytes"


# -- anything ----------------------------------------------------------------------------------------------


NAMES = [name.encode() for name in COMMANDS]
FRAGMENTS = st.one_of(
    st.sampled_from([*NAMES, b" ", b"\t", b"#", b"0", b"17", b"9" * 19, b"k", b"\xff", b"\r", b":"]),
    st.binary(max_size=6),
)


@given(st.lists(FRAGMENTS, max_size=12).map(b"".join))
@example(b"put 1 k \xff\xff")
@example(b"\xf0\x9f\x92\xa9 1")
@example(b"joinServer 1\n2")
def test_any_line_is_either_a_command_or_nothing_or_an_error(line: bytes) -> None:
    try:
        command = parse(line)
    except CommandError as error:
        text = str(error)
        assert text.isprintable(), "an error is one line and does nothing to a terminal"
        assert len(text) < 200
        return
    if command is None:
        assert line.strip(b" \t") == b"" or line.lstrip(b" \t").startswith(b"#")
        return
    words = COMMANDS[command.name].words
    assert len(command.ids) == sum(word in ID_WORDS for word in words)
    assert bool(command.key) == ("key" in words or "delay" in words)
    assert bool(command.value) == ("value" in words)
    # Written the plain way, it means the same.
    plain = [command.name.encode(), *(b"%d" % number for number in command.ids), command.key, command.value]
    assert parse(b" ".join(word for word in plain if word)) == command


@given(st.binary(min_size=1, max_size=200).map(lambda word: re.sub(rb"[ \t]", b"x", word)))
def test_a_long_or_strange_word_is_shown_short_and_printable(word: bytes) -> None:
    text = error_of(b"joinServer " + b"z" + word)
    assert text.isprintable()
    assert len(text) <= len("joinServer: not an id:  (an id is a number of 1 to 18 digits)") + 60


# -- lines -------------------------------------------------------------------------------------------------


def rest_of(reader: script.LineReader) -> list[bytes | None]:
    """All lines up to the end of the stream."""
    lines = []
    with pytest.raises(EOFError):
        while True:
            lines.append(reader.next())
    return lines


def lines_of(pieces: Iterable[bytes]) -> list[bytes | None]:
    """What a `LineReader` makes of a pipe into which a thread writes these pieces."""
    reader, writer = os.pipe()

    def feed() -> None:
        try:
            for piece in pieces:
                os.write(writer, piece)
        finally:
            os.close(writer)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        return rest_of(script.LineReader(reader))
    finally:
        os.close(reader)
        thread.join()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\n", [b"a"]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"\n\n", [b"", b""]),
        (b"\r\n\n\r\n", [b"", b"", b""]),
        (b"a\r\r\n", [b"a\r"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"a\x0bb\x0cc\x85\xe2\x80\xa8\n\x00\n", [b"a\x0bb\x0cc\x85\xe2\x80\xa8", b"\x00"]),
        (b"\xff\xfe\n", [b"\xff\xfe"]),
    ],
)
def test_lines_end_in_lf_or_crlf_and_the_last_one_needs_no_end(data: bytes, lines: list[bytes]) -> None:
    assert lines_of([data]) == lines


def test_the_lines_do_not_depend_on_how_the_stream_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"put 1 k v\r\n\n# x\nget 1 k\r\r\nlast"
    expected = [b"put 1 k v", b"", b"# x", b"get 1 k\r", b"last"]
    for read_bytes in (*range(1, len(data) + 1), script.READ_BYTES):
        monkeypatch.setattr(script, "READ_BYTES", read_bytes)
        assert lines_of([data]) == expected
    assert lines_of(bytes([byte]) for byte in data) == expected


def test_a_line_is_returned_before_the_stream_ends() -> None:
    reader, writer = os.pipe()
    lines = script.LineReader(reader)
    try:
        for word in (b"one", b"two"):
            os.write(writer, word + b"\n")
            assert lines.next() == word
        os.write(writer, b"three\nfo")
        assert lines.next() == b"three"
        os.write(writer, b"ur\n")
        assert lines.next() == b"four"
    finally:
        os.close(writer)
    assert rest_of(lines) == []
    os.close(reader)


def test_only_a_complete_line_is_ready() -> None:
    reader, writer = os.pipe()
    lines = script.LineReader(reader)
    assert not lines.ready()
    os.write(writer, b"one")
    assert not lines.ready()
    os.write(writer, b"\r\ntwo\nthr")
    assert lines.ready()
    assert [lines.next(), lines.next()] == [b"one", b"two"]
    assert not lines.ready()
    os.write(writer, b"ee")
    os.close(writer)
    assert lines.ready(), "the last line may have no end"
    assert lines.next() == b"three"
    assert not lines.ready()
    assert rest_of(lines) == []
    os.close(reader)


def test_a_script_without_steps_is_over_once_its_end_has_come() -> None:
    reader, writer = os.pipe()
    lines = script.Script(reader, "line")
    assert not lines.is_over, "nothing has come"
    os.write(writer, b"# a comment\n\n")
    assert not lines.is_over, "more may come"
    os.close(writer)
    assert lines.is_over
    assert lines.next() is None
    os.close(reader)


@pytest.mark.parametrize("data", [b"get 5 k", b"\nget 5 k\n", b"nonsense\n"])
def test_a_script_with_a_step_is_not_over(data: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    lines = script.Script(reader, "line")
    assert not lines.is_over
    assert lines.next() is not None
    os.close(reader)


def test_a_script_that_cannot_be_read_is_not_over() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    lines = script.Script(writer, "line")  # which can only be written to
    assert lines.ready() is False
    assert lines.next() is None
    assert lines.failure == "Bad file descriptor"
    assert not lines.is_over
    os.close(writer)


def test_the_commands_that_have_arrived_are_known_before_their_turn() -> None:
    reader, writer = os.pipe()
    lines = script.Script(reader, "line")
    os.write(writer, b"joinServer 0\n\n# x\njoinServer 1\r\nget 5 k\nnonsense\nget 5 l\njoinSer")
    assert list(lines.upcoming()) == []  # nothing has been read
    assert lines.next() == script.Step("line 1", Command("joinServer", (0,)), number=1)
    expected = [Command("joinServer", (1,)), Command("get", (5,), b"k")]
    assert list(lines.upcoming()) == expected
    assert lines.ready()
    assert list(lines.upcoming()) == expected, "the one that waits counts"
    os.close(writer)
    rest = iter(lines.next, None)
    assert [step.command for step in rest if step] == [*expected, None, Command("get", (5,), b"l"), None]
    os.close(reader)


@pytest.mark.parametrize("read_bytes", [1, 2, 7, 11])
def test_a_line_that_is_too_long_is_none_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch, read_bytes: int) -> None:
    monkeypatch.setattr(commands, "MAX_LINE", 10)
    monkeypatch.setattr(script, "READ_BYTES", read_bytes)
    longest = b"x" * 10
    for long in (b"y" * 12, b"y" * 100):
        assert lines_of([longest + b"\n" + long + b"\nafter\n"]) == [longest, None, b"after"]
        assert lines_of([longest + b"\r\n" + long + b"\r\nafter"]) == [longest, None, b"after"]
        assert lines_of([long + b"\n" + long + b"\n\n" + longest]) == [None, None, b"", longest]
        assert lines_of([b"before\n" + long]) == [b"before", None]


@given(data=st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"b" * 9]), max_size=30).map(b"".join))
@pytest.mark.parametrize("read_bytes", [1, 5, 4096])
def test_lines_are_those_that_splitting_the_whole_stream_gives(read_bytes: int, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(script, "READ_BYTES", read_bytes)
        read = lines_of([data])
    *whole, rest = data.split(b"\n")
    assert read == [line.removesuffix(b"\r") for line in whole] + ([rest] if rest else [])


@given(data=st.lists(st.sampled_from([b"a", b"\n", b"b" * 5, b"\r\n"]), max_size=30).map(b"".join))
def test_lines_that_are_too_long_do_not_affect_others(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(commands, "MAX_LINE", 6)
        monkeypatch.setattr(script, "READ_BYTES", 3)
        read = lines_of([data])
    *whole, rest = data.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in whole] + ([rest] if rest else [])
    assert len(read) == len(lines)
    for got, line in zip(read, lines, strict=True):
        assert got == line if len(line) <= 6 else got is None or len(got) > 6, "parse refuses what is left of those"
