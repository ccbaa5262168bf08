"""The progress line of a long script, on a pseudo-terminal."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.terminal import Terminal

from checking.driver import command, run
from console import progress

LINE = "left"

COUNT = 100_000


def write_script(path: Path) -> Path:
    """A script that takes some seconds."""
    puts = "".join(f"put 5 key{number % 100} value {number}\n" for number in range(COUNT))
    path.write_text(f"joinServer 0\njoinClient 5 0\nnonsense\n{puts}nonsense\nget 5 key7\n")
    return path


def watch(terminal: Terminal) -> bool:
    """Whether the line was visible at any time before the end."""
    seen = False

    def ended() -> bool:
        nonlocal seen
        seen = seen or LINE in terminal.line
        return terminal.process.poll() is not None

    while not ended():
        terminal.read(0.05)
    return seen


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_script(tmp_path_factory.mktemp("script") / "script.txt")


ERRORS = ["error: line 3: unknown command: nonsense", f"error: line {COUNT + 4}: unknown command: nonsense"]
ANSWER = f"key7:value {COUNT - 93}"


def test_it_is_shown_and_gone_at_the_end(tmp_path: Path, script: Path) -> None:
    with Terminal(tmp_path, stdin=script) as terminal:
        assert watch(terminal)
        assert terminal.end() == 1
        assert [line for line in terminal.lines if line] == [*ERRORS, ANSWER]


def test_a_file_that_is_named_and_answers_that_go_elsewhere(tmp_path: Path, script: Path) -> None:
    out = tmp_path / "out"
    with Terminal(tmp_path, str(script), stdout=out) as terminal:
        assert watch(terminal)
        assert terminal.end() == 1
        assert [line for line in terminal.lines if line] == [
            error.replace("line", f"{script}: line") for error in ERRORS
        ]
    assert out.read_text() == ANSWER + "\n"


def test_it_is_gone_after_ctrl_c(tmp_path: Path, script: Path) -> None:
    with Terminal(tmp_path, str(script)) as terminal:
        terminal.until(lambda: LINE in terminal.line, "the line")
        terminal.type("\x03")
        assert terminal.end() == 128 + signal.SIGINT
        assert b"^C" in terminal.raw
        assert [line for line in terminal.lines if line not in ("", "^C")] == [
            f"error: {script}: line 3: unknown command: nonsense"
        ]


def test_quiet(tmp_path: Path, script: Path) -> None:
    with Terminal(tmp_path, "--quiet", stdin=script) as terminal:
        watch(terminal)
        assert terminal.end() == 1
        assert LINE.encode() not in terminal.raw
        assert ANSWER in terminal.lines


def test_nothing_but_errors_is_in_a_pipe(script: Path) -> None:
    result = run(script.read_bytes())
    assert (result.stdout, result.errors) == (f"{ANSWER}\n".encode(), ERRORS)


# -- what it says ------------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """A terminal, as far as console/progress.py is concerned; returns what was written since the last time."""
    terminal = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=terminal))

    def fresh() -> str:
        text = terminal.getvalue()
        terminal.seek(0)
        terminal.truncate()
        return text

    return fresh


def test_for_what_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("stabilize\n")
    reader, writer = os.pipe()
    with path.open() as file:
        for term, is_terminal, fd, shown in (
            ("xterm", True, file.fileno(), True),
            ("dumb", True, file.fileno(), False),
            ("xterm", False, file.fileno(), False),
            ("xterm", True, reader, False),
        ):
            monkeypatch.setenv("TERM", term)
            with monkeypatch.context() as patch:
                patch.setattr(os, "isatty", lambda _, is_terminal=is_terminal: is_terminal)
                assert (progress.progress_of(fd) is not None) == shown
    os.close(reader)
    os.close(writer)


def test_what_it_says(monkeypatch: pytest.MonkeyPatch, written: Callable[[], str]) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    line = progress.Progress(1000)
    now += progress.SILENT_SECONDS / 2
    line.done(1000, 100)
    line.hide()
    assert written() == "", "a short script shows nothing"
    now += progress.SILENT_SECONDS
    line.done(2000, 400)
    shown = written()
    assert "3,000 commands, 2,000/s" in shown
    assert "40%" in shown
    line.done(10, 410)
    assert written() == "", "drawn again only after a while"
    now += 1.5
    line.done(2990, 2000)
    shown = written()
    assert "6,000 commands, 2,000/s" in shown
    assert "100%" in shown, "whatever the file has become"
    line.hide()
    assert written() == "\r\x1b[K", "the line is erased"
    line.hide()
    assert written() == ""
    now += 1
    line.done(1, 1000)
    assert "6,001" in written()
    line.end()
    assert written() == "\r\x1b[K"
    now += 1
    line.done(1, 1000)
    assert written() == ""


def imported_for(script: bytes) -> set[str]:
    """What a master imports for a script on its standard input."""
    listing = subprocess.run(
        [sys.executable, "-X", "importtime", *command()[1:]], input=script, capture_output=True, check=False
    ).stderr.decode()
    return {line.rpartition("|")[2].strip() for line in listing.splitlines() if line.startswith("import time")}


@pytest.mark.parametrize("script", [b"", b"# nothing\n\n"])
def test_a_script_without_commands_starts_nothing(script: bytes) -> None:
    assert "control.cluster" not in imported_for(script)


def test_it_has_no_part_in_a_script_that_is_piped() -> None:
    """What only a terminal, an option or TLS needs is not even imported: the start would take longer."""
    imported = imported_for(b"stablize\n")
    assert "control.cluster" in imported
    wanted_elsewhere = {"tqdm", "prompt_toolkit", "asyncio", "readline", "argparse", "_ssl", "hashlib"}
    assert not imported & wanted_elsewhere
    of_the_console = {name.removeprefix("console.") for name in imported if name.startswith("console.")}
    assert of_the_console == {"environment", "failures", "options", "output", "signals", "text_output"}
