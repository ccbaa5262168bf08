"""Telling a transcript: its commands are given to a real master, and its lines come back with what was printed.

May live here: what each line of a transcript does. May not: which transcripts there are, and what is asserted of them.
"""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

from checking.driver import Conversation, wait_until

__all__ = ["Ground", "Story"]

SIGNALS = {"@kill": signal.SIGKILL, "@stop": signal.SIGSTOP, "@continue": signal.SIGCONT}


def is_printed(line: bytes) -> bool:
    return line.startswith((b"> ", b"! ")) or line in (b">", b"!")


def is_idle(line: bytes) -> bool:
    """Whether it is empty or a comment: such lines start no master, so that they may stand above @options."""
    return not line.strip() or line.strip().startswith(b"#")


class Ground:
    """Where a transcript is told: on this machine, with its stores in *directory*."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self, options: list[str]) -> Conversation:
        """Start a master."""
        return Conversation(*options)

    def find(self, name: str) -> Path:
        """Where a file or folder below the directory is."""
        return self.directory / name


class Story:
    """A transcript that is being run."""

    def __init__(self, lines: list[bytes], ground: Ground) -> None:
        self._lines = lines
        self._ground = ground
        self._options = ["--gossip-interval", "0"]
        self._conversation: Conversation | None = None
        self._waiting = b""  # commands to be sent with the next one

    def tell(self) -> list[bytes]:
        """Run the transcript; returns its lines with the actual output in place of the expected output."""
        told: list[bytes] = []
        try:
            for number, line in enumerate(self._lines):
                if not is_printed(line):
                    told += [line, *self._step(line, self._expected_below(number))]
            self._stop()
        finally:
            if self._conversation is not None:
                self._conversation.process.kill()
        return told

    def _expected_below(self, number: int) -> list[bytes]:
        expected = []
        for line in self._lines[number + 1 :]:
            if not is_printed(line):
                break
            expected.append(line)
        return expected

    def _step(self, line: bytes, expected: list[bytes]) -> list[bytes]:
        word, *rest = line.decode("utf-8", "surrogateescape").split(" ")
        if word == "@options":
            assert self._conversation is None, "@options stands above the commands"
            self._options = [option.replace("{data}", str(self._ground.directory)) for option in rest]
        elif word in SIGNALS:
            self._running().signal(" ".join(rest), SIGNALS[word])
        elif word == "@restart":
            self._stop()
        elif word == "@await":
            return self._await(line.removeprefix(b"@await "), expected)
        elif word == "@damage":
            path = self._ground.find(rest[0])
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
        elif word == "@remove":
            shutil.rmtree(self._ground.find(rest[0]))
        elif self._conversation is not None or not is_idle(line):
            return self._printed(line)
        return []

    def _printed(self, line: bytes) -> list[bytes]:
        if line.startswith(b"+ "):
            self._waiting += line[2:] + b"\n"
            return []
        output = self._running().do(self._waiting + line)
        self._waiting = b""
        where = str(self._ground.directory).encode()
        told = [error.encode("utf-8", "surrogateescape").replace(where, b"{data}") for error in output.errors]
        errors = [b"! " + re.sub(rb"offset \d+: [^;]*", b"offset N: damage", error) for error in told]
        return errors + [b"> " + printed for printed in output.stdout.split(b"\n")[:-1]]

    def _await(self, line: bytes, expected: list[bytes]) -> list[bytes]:
        printed: list[bytes] = []

        def as_expected() -> bool:
            printed[:] = self._printed(line)
            return printed == expected

        wait_until(as_expected, f"{line!r} to print {expected!r}")
        return printed

    def _running(self) -> Conversation:
        if self._conversation is None:
            self._conversation = self._ground.start(self._options)
        return self._conversation

    def _stop(self) -> None:
        with self._running() as conversation:
            conversation.do()  # the mark is an error of its own, so the status is always 1
            assert conversation.end() == 1
        self._conversation = None
