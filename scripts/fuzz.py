#!/usr/bin/env python3
"""Feeds random lines to the master's line reader and parser, and compares what they make of them with the grammar.

    scripts/fuzz.py                     a million lines, from seed 1
    scripts/fuzz.py --lines 50000 --seed 7
    scripts/fuzz.py --coverage --minutes 10
                                        lines that are chosen by coverage, with atheris
                                        (pip install -r scripts/requirements-fuzz.txt)

A line must give a Command, or nothing, or a CommandError; `meaning`, which states the grammar once more in another way,
says which of them. The exit status is 1 if the two disagree; then the smallest part of the lines that still fails is
shown.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__)

import argparse
import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.shared import at_least, minutes, need, run_main, show_progress
from shape import Shape

if __name__ == "__main__" and "--coverage" in sys.argv:
    need("atheris", "requirements-fuzz.txt")
    import atheris

    with atheris.instrument_imports(include=["control.commands", "control.script"]):
        from control import commands, script
else:
    from control import commands, script

STREAM_LINES = 2000
"""How many lines are read as one stream."""

SMALL_LIMITS = (12, 20, 60)
"""The longest key, value and line in half of the streams; so short that random ones exceed them."""

READ_BYTES = (100, 4096, script.READ_BYTES)
SMALL_READ_BYTES = (1, 7, 29, 60, 60)
"""How many bytes are read at once: never more than the longest line has, as in the master itself."""

ERROR = "error"
Meaning = commands.Command | str | None


# -- the grammar, once more --------------------------------------------------------------------------------

_ID, _WORD, _REST = rb"0*([0-9]{1,18})", rb"([^ \t]+)", rb"([^ \t](?:.*[^ \t])?)"

_FORMS = {
    "joinServer": (_ID,),
    "killServer": (_ID,),
    "joinClient": (_ID, _ID),
    "breakConnection": (_ID, _ID),
    "createConnection": (_ID, _ID),
    "shapeConnection": (_ID, _ID, _REST),
    "stabilize": (),
    "printStore": (_ID,),
    "put": (_ID, _WORD, _REST),
    "get": (_ID, _WORD),
}

_GRAMMAR = {
    name: re.compile(rb"[ \t]*" + rb"[ \t]+".join((name.encode(), *words)) + rb"[ \t]*", re.DOTALL)
    for name, words in _FORMS.items()
}

_NOTHING = re.compile(rb"[ \t]*(#.*)?", re.DOTALL)


def meaning(line: bytes) -> Meaning:
    """Return what a line, without its end, means by the contract: a command, nothing, or an error."""
    if _NOTHING.fullmatch(line):
        return None
    for name, grammar in _GRAMMAR.items():
        match = grammar.fullmatch(line)
        if match is None:
            continue
        ids = _FORMS[name].count(_ID)
        key, value = (*match.groups()[ids:], b"", b"")[:2]
        if (
            len(line.strip(b" \t")) > commands.MAX_LINE
            or len(key) > commands.MAX_KEY
            or len(value) > commands.MAX_VALUE
        ):
            return ERROR
        if name == "shapeConnection":
            try:
                key = str(Shape.parse(re.sub(rb"[ \t]+", b" ", key).decode("latin-1"))).encode()
            except ValueError:
                return ERROR
        return commands.Command(name, tuple(map(int, match.groups()[:ids])), key, value)
    return ERROR


def meanings(stream: bytes) -> list[tuple[int, commands.Command | str]]:
    """Return what a stream means by the contract: for each line that means something, its number and its meaning."""
    *whole, last = stream.split(b"\n")
    lines = [(line, line[:-1] if line.endswith(b"\r") else line) for line in whole] + [(last, last)]
    found = []
    for number, (raw, line) in enumerate(lines, 1):
        # The reader keeps no more of a line than a command can have, so it cannot know that a longer one is a comment.
        meant = ERROR if len(raw) > commands.MAX_LINE + 1 else meaning(line)
        if meant is not None:
            found.append((number, meant))
    return found


# -- what the master makes of it ---------------------------------------------------------------------------


def understood(stream: bytes, read_bytes: int = script.READ_BYTES) -> list[tuple[int, commands.Command | str]]:
    """Return what the master's reader and parser understand, as `meanings` does. Raises whatever they let through."""
    script.READ_BYTES = read_bytes
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, stream)
        os.lseek(fd, 0, os.SEEK_SET)
        reader = script.Script(fd, "line")
        found: list[tuple[int, commands.Command | str]] = []
        while (step := reader.next()) is not None:
            number = int(step.where.removeprefix("line "))
            if step.command is None and not (step.error.isprintable() and 0 < len(step.error) < 200):
                raise AssertionError(step.error)
            found.append((number, step.command or ERROR))
        return found
    finally:
        os.close(fd)


def disagreement(stream: bytes, read_bytes: int = script.READ_BYTES) -> str:
    """Say how the master and the contract disagree about a stream; empty if they agree."""
    try:
        got = understood(stream, read_bytes)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for one, other in zip([*got, "the end"], [*meanings(stream), "the end"], strict=False):
        if one != other:
            return f"the master: {one}, the contract: {other}"
    return ""


def smallest(stream: bytes, fails: Callable[[bytes], object]) -> bytes:
    """Return a part of *stream* that still fails: pieces are taken out as long as the rest fails."""
    size = len(stream) // 2
    while size:
        start = 0
        while start < len(stream):
            shorter = stream[:start] + stream[start + size :]
            if fails(shorter):
                stream = shorter
            else:
                start += size
        size //= 2
    return stream


# -- random lines ------------------------------------------------------------------------------------------

_NAMES = [name.encode() for name in commands.COMMANDS]
_BLANKS = (b" ", b" ", b" ", b" ", b"  ", b"\t", b" \t ")
_ODD_BLANKS = (b"", b"\x0b", b"\x0c", b"\xa0", b"\0", b"\r", "\u2003".encode(), b"  \r ")
_IDS = (b"0", b"7", b"12", b"007", b"9" * 18, b"0" * 20 + b"1")
_NO_IDS = (b"9" * 19, b"-1", b"+1", b"1.0", b"1_0", b"0x1", "٣".encode(), b"x", b"1\0", b"\xb2", b"1e3", b"#")
_SHAPES = (b"200ms", b"1.5s 3ms", b"20us\t20us  5%", b"0s 0.50%", b"61s", b"5%", b"1ms 2ms", b"1 2", b"1ms 1ms 91%")
_ENDS = (b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n", b"\n\n", b" \n", b"\t\r\n")


def random_line(source: random.Random) -> bytes:
    """Make a line without its end; most lines are nearly right."""
    chance = source.random()
    if chance < 0.05:
        return source.randbytes(source.randrange(80)).replace(b"\n", b"")
    if chance < 0.1:
        return source.choice((b"", b" \t", b"#", b" # put 1 a b", b"#\0\xff", b"\r", b" #\x0b\xfe put"))
    line = b"".join(_parts(source))
    if chance < 0.4:
        line = _damaged(line, source)
    return line.replace(b"\n", b"")


def _parts(source: random.Random) -> list[bytes]:
    choice, chance = source.choice, source.random
    name = choice(_NAMES)
    ids = _FORMS[name.decode()].count(_ID)
    parts = [choice(_BLANKS) if chance() < 0.1 else b"", name]
    others = len(_FORMS[name.decode()]) - ids + choice((0,) * 12 + (1, -1, 2))
    for number in range(ids + max(0, others)):
        parts.append(choice(_BLANKS if chance() < 0.97 else _ODD_BLANKS))
        if number < ids:
            parts.append(choice(_IDS if chance() < 0.93 else _NO_IDS))
        elif name == b"shapeConnection":
            parts.append(choice(_SHAPES))
        else:
            parts.append(source.randbytes(choice((1, 2, 5, 12, 13, 20, 21))) if chance() < 0.5 else b"key")
    if chance() < 0.1:
        parts.append(choice(_BLANKS) * choice((1, 1, 50)))
    return parts


def _damaged(line: bytes, source: random.Random) -> bytes:
    """Change, remove or insert a byte, or double a piece of the line."""
    position, kind = source.randrange(len(line)), source.randrange(4)
    if kind == 3:
        return line[:position] + line[: source.randrange(len(line))] + line[position:]
    return line[:position] + (source.randbytes(1) if kind else b"") + line[position + (kind < 2) :]


def random_stream(source: random.Random, lines: int) -> bytes:
    """Make this many lines with several kinds of line ends; the last one may have none."""
    stream = b"".join(random_line(source) + source.choice(_ENDS) for _ in range(lines))
    return stream if source.random() < 0.5 else stream.rstrip(b"\n")


# -- running -----------------------------------------------------------------------------------------------


def set_limits(key: int, value: int, line: int) -> None:
    """Set the limits, in bytes, of the parser and of `meaning`."""
    commands.MAX_KEY, commands.MAX_VALUE, commands.MAX_LINE = key, value, line


def fuzz(lines: int, seed: int, seconds: float = float("inf")) -> int:
    """Compare this many lines, or as many as the seconds allow; returns how many. Raises AssertionError."""
    limits = commands.MAX_KEY, commands.MAX_VALUE, commands.MAX_LINE
    read_bytes = script.READ_BYTES
    source = random.Random(seed)
    deadline = time.monotonic() + seconds
    done = 0
    try:
        while done < lines and time.monotonic() < deadline:
            count = min(STREAM_LINES, lines - done)
            small_ones = source.random() < 0.5
            set_limits(*(SMALL_LIMITS if small_ones else limits))
            stream, piece = random_stream(source, count), source.choice(SMALL_READ_BYTES if small_ones else READ_BYTES)
            if disagreement(stream, piece):
                small = smallest(stream, lambda part: disagreement(part, piece))  # noqa: B023 - used at once
                raise AssertionError(f"{small!r}, read by {piece} bytes: {disagreement(small, piece)}")
            done += count
            show_progress(f"{done:,} lines")
    finally:
        show_progress("")
        set_limits(*limits)
        script.READ_BYTES = read_bytes
    return done


def fuzz_by_coverage(seconds: float, seed: int) -> int:
    """Compare lines chosen by coverage until something is found or the time is over; returns the exit status."""
    source = random.Random(seed)

    def one(stream: bytes) -> None:
        set_limits(*SMALL_LIMITS)
        found = disagreement(stream, 1 + len(stream) % 7)
        if found:
            raise AssertionError(f"{stream!r}: {found}")

    with tempfile.TemporaryDirectory() as corpus:
        for number in range(300):
            Path(corpus, str(number)).write_bytes(random_stream(source, 2))
        options = f"-max_total_time={seconds:.0f} -seed={seed} -max_len=200 -artifact_prefix={corpus}/".split()
        child = os.fork()
        if not child:  # libFuzzer ends its process in its own way
            atheris.Setup([sys.argv[0], *options, corpus], one)
            atheris.Fuzz()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    """Returns the exit status: 1 if the master and the contract disagree."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --coverage is looked for above as it stands
    )
    parser.add_argument(
        "--lines", type=at_least(1), default=1_000_000, metavar="N", help="how many lines (default: a million)"
    )
    parser.add_argument("--seed", type=at_least(0), default=1, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--minutes", type=minutes, metavar="N", help="end after this time at the latest", dest="seconds"
    )
    parser.add_argument(
        "--coverage", action="store_true", help="choose lines by coverage, with atheris; for one minute, or --minutes"
    )
    arguments = parser.parse_args()
    if arguments.coverage:
        return fuzz_by_coverage(arguments.seconds or 60.0, arguments.seed)
    start = time.monotonic()
    try:
        done = fuzz(arguments.lines, arguments.seed, arguments.seconds or float("inf"))
    except AssertionError as error:
        print(f"seed {arguments.seed}: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - start
    print(f"{done} lines, {done / seconds:.0f} per second: no disagreement")
    return 0


if __name__ == "__main__":
    run_main(main)
