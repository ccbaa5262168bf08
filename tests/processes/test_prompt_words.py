"""The prompt's own words at a pseudo-terminal: why, run, step, report and help, and who is said to be waited for."""

from __future__ import annotations

import os
import re
import signal
import termios
from pathlib import Path

import pytest
from support.pages import data_of
from support.terminal import PROMPT, Terminal

from checking.driver import ROOT, processes, run, send_signal
from checking.telling import tell
from checking.traces import read
from console.help import PAGES, TOPICS
from control import commands

CTRL_C, CTRL_D, ESCAPE, ARROW = "\x03", "\x04", "\x1b", "\x1b[A"

both = pytest.mark.parametrize("term", ["xterm-256color", "dumb"])

MOVED = (
    "joinServer 0",
    "joinServer 1",
    "joinClient 5 0",
    "put 5 colour red",
    "stabilize",
    "breakConnection 0 1",
    "put 5 colour blue",
    "createConnection 5 1",
    "breakConnection 5 0",
)
"""After these, client 5 gets ERR_DEP."""


def move(terminal: Terminal) -> None:
    for line in MOVED:
        assert terminal.do(line) == []


def freeze(terminal: Terminal, name: str) -> int:
    pid = processes(terminal.find_run())[name]
    send_signal(pid, signal.SIGSTOP, name)
    return pid


def sentences(shown: list[str]) -> list[str]:
    """What stands behind the dashes; a sentence may have several lines."""
    return [" ".join(part.split()) for part in "\n".join(shown).split("\n- ")[1:]]


def written(home: Path, text: str) -> str:
    """The name of a script with this text."""
    (home / "a script.txt").write_text(text)
    return "~/a script.txt"


# -- why ---------------------------------------------------------------------------------------------------


@both
def test_why_gives_the_reasons_that_the_report_gives(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, "--gossip-interval", "0", "--trace", str(tmp_path / "trace"), term=term) as terminal:
        assert terminal.do("why") == ["(no get has said ERR_DEP so far; ERR_KEY says that there is no value)"]
        move(terminal)
        assert terminal.do("get 5 colour") == ["colour:ERR_DEP"]
        assert terminal.do("createConnection 0 1") == terminal.do("stabilize") == []
        shown = terminal.do("why")
        assert shown[0] == "line 11: get 5 colour says ERR_DEP.", "the first line was why itself"
        assert "put by client 5 in line 5" in " ".join(sentences(shown)), "what it had then, not what it has now"
        assert terminal.do("why 11") == shown
        assert terminal.do("why 7") == ["(no get has said ERR_DEP in line 7; it was said in line 11)"]
        assert terminal.do("why x") == ["error: why: not the number of a line: x"]
        assert terminal.do("why 1 2") == ["error: why: wrong number of words; usage: why [LINE]"]
    story = tell(read(tmp_path / "trace"))
    (told,) = [operation.why for operation in story.operations if operation.outcome == "ERR_DEP"]
    assert sentences(shown) == told


def test_why_says_that_a_server_is_silent(tmp_path: Path) -> None:
    with Terminal(tmp_path, "--gossip-interval", "0") as terminal:
        move(terminal)
        freeze(terminal, "server 0")
        assert terminal.do("get 5 colour") == ["colour:ERR_DEP"]
        assert sentences(terminal.do("why"))[-1] == "Server 0 is silent, so what it has is unknown."
        assert terminal.do("killServer 0") == []


# -- run and step ------------------------------------------------------------------------------------------


@both
def test_run_shows_each_line_with_its_number_and_its_answer(tmp_path: Path, term: str) -> None:
    script = written(tmp_path, "# A comment\n\n" + "\n".join(MOVED) + "\nget 5 colour\nstatus\nget 5 shape")
    with Terminal(tmp_path, "--gossip-interval", "0", term=term) as terminal:
        shown = terminal.do(f"run {script}")
        assert shown[:3] == ["  1 # A comment", "", "  3 > joinServer 0"]
        assert shown[-6:] == [
            " 12 > get 5 colour",
            "colour:ERR_DEP",
            " 13 > status",
            f"error: {script}: line 13: unknown command: status",
            " 14 > get 5 shape",
            "shape:ERR_KEY",
        ]
        assert "put colour = blue in line 9" in " ".join(sentences(terminal.do("why 12")))
        (error,) = terminal.do("nonsense")
        assert error == "error: unknown command: nonsense", "the script is at its end"
        assert terminal.do("run") == ["error: run: wrong number of words; usage: run FILE"]
        assert terminal.do("run /nope") == ["error: run: /nope: No such file or directory"]
        assert terminal.do(f"run {tmp_path}") == [f"error: run: {tmp_path}: is a directory"]
        os.mkfifo(tmp_path / "pipe")
        assert terminal.do(f"step {tmp_path}/pipe") == [f"error: step: {tmp_path}/pipe: is no file"]
        assert terminal.end("exit\r") == 1


def test_only_answers_of_a_script_are_on_stdout(tmp_path: Path) -> None:
    script = written(tmp_path, "joinServer 0\njoinClient 5 0\nput 5 k v\n# comment\nget 5 k\nnonsense\n")
    with Terminal(tmp_path, stdout=tmp_path / "out") as terminal:
        terminal.do(f"run {script}")
    assert (tmp_path / "out").read_text() == "k:v\n"


def test_ctrl_c_ends_a_script(tmp_path: Path) -> None:
    script = written(tmp_path, "get 5 k\nnonsense\nnonsense\n")
    with Terminal(tmp_path, "--timeout", "86400") as terminal:
        for line in ("joinServer 0", "joinClient 5 0", "put 5 k v"):
            assert terminal.do(line) == []
        pid = freeze(terminal, "server 0")
        terminal.type(f"run {script}\r")
        terminal.until_shown("Ctrl-C gives up")
        terminal.type(CTRL_C)
        terminal.until_prompt(5)
        assert terminal.lines[-4:-1] == [
            f"error: {script}: line 1: get: gave up waiting",
            "  2 > nonsense",
            f"({script} ends here; line 2 and the rest are not run)",
        ]
        os.kill(pid, signal.SIGCONT)
        assert terminal.do("get 5 k") == ["k:v"]


@both
def test_step_waits_for_enter_before_each_line(tmp_path: Path, term: str) -> None:
    script = written(tmp_path, "joinServer 0\n# About the client\njoinClient 5 0\nget 5 k\nnonsense\n")
    with Terminal(tmp_path, term=term) as terminal:
        terminal.until_prompt()
        terminal.type(f"step {script}\r")
        for number, line in ((1, "joinServer 0"), (3, "joinClient 5 0"), (4, "get 5 k")):
            terminal.until_shown(f"  {number} > {line}")
            terminal.until(lambda: terminal.line == "Enter runs it, Esc ends", "the question")
            assert "k:ERR_KEY" not in terminal.lines
            terminal.type("xy" + ARROW + "\r")
        terminal.until_shown("  5 > nonsense")
        assert "k:ERR_KEY" in terminal.lines
        terminal.until(lambda: terminal.line == "Enter runs it, Esc ends", "the question")
        terminal.type(ESCAPE)
        terminal.until_prompt(2)
        assert terminal.lines[-2] == f"({script} ends here; line 5 and the rest are not run)"
        assert not any("unknown command" in line for line in terminal.lines)
        if term != "dumb":
            assert not any("Enter runs it" in line for line in terminal.lines)
        assert terminal.do("get 5 k") == ["k:ERR_KEY"], "what is typed is shown again"


@both
@pytest.mark.parametrize("key", [CTRL_C, CTRL_D], ids=["Ctrl-C", "Ctrl-D"])
def test_what_else_ends_step(tmp_path: Path, key: str, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        terminal.until_prompt()
        terminal.type(f"step {written(tmp_path, 'joinServer 0')}\r")
        terminal.until(lambda: terminal.line == "Enter runs it, Esc ends", "the question")
        terminal.type(key)
        terminal.until_prompt(2)
        assert terminal.do("joinServer 0") == [], "it has not been run"


def test_a_signal_during_step_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        before = termios.tcgetattr(terminal.fd)[3] | termios.ICANON | termios.ECHO
        terminal.type(f"step {written(tmp_path, 'joinServer 0')}\r")
        terminal.until(lambda: terminal.line == "Enter runs it, Esc ends", "the question")
        assert not termios.tcgetattr(terminal.fd)[3] & termios.ECHO
        terminal.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM
        assert termios.tcgetattr(terminal.fd)[3] & (termios.ICANON | termios.ECHO) == before & (
            termios.ICANON | termios.ECHO
        )


def test_names_of_files_are_completed(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "one.txt").write_text("joinServer 7\n")
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        terminal.type(f"run {tmp_path}/scr\to\t\r")
        terminal.until_prompt(2)
        assert "  1 > joinServer 7" in terminal.lines


def test_they_are_words_of_the_prompt_only() -> None:
    result = run("why\nwhy 3\nrun x\nstep x\nreport\nhelp\n")
    assert result.status == 1
    assert result.stdout == b""
    lines = result.stderr.splitlines()
    assert [line.partition("; did")[0] for line in lines] == [
        f"error: line {number}: unknown command: {word}"
        for number, word in enumerate(("why", "why", "run", "step", "report", "help"), 1)
    ]


# -- report ------------------------------------------------------------------------------------------------


def test_report_writes_a_page_of_the_session_so_far(tmp_path: Path) -> None:
    trace, other = tmp_path / "trace", tmp_path / "my page.html"
    with Terminal(tmp_path, "--trace", str(trace)) as terminal:
        assert terminal.do("joinServer 0") == terminal.do("joinClient 5 0") == terminal.do("put 5 colour teal") == []
        told = f"{trace}/report.html shows the session so far; open it in a browser"
        assert "".join(terminal.do("report")).replace(" ", "") == told.replace(" ", "")  # it may be cut at a blank
        assert "teal" in data_of(trace / "report.html")
        assert terminal.do("put 5 colour mauve") == []
        assert "my page.html shows the session" in "".join(terminal.do(f"report {other}"))
        assert "mauve" in data_of(other)
        assert "mauve" not in data_of(trace / "report.html")
        (error,) = terminal.do("report /nope/page.html")
        assert error == "error: report: /nope/page.html: No such file or directory"


def test_without_a_trace_report_says_how_to_get_one(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        (error,) = terminal.do("report")
        assert error == "error: report: this session is not traced; begin one with ./master --trace DIR"


# -- who is waited for -------------------------------------------------------------------------------------


def test_after_half_a_second_it_is_said_who_is_waited_for(tmp_path: Path) -> None:
    """The line is gone when the command is done, and never on stdout."""
    with Terminal(tmp_path, "--timeout", "86400", stdout=tmp_path / "out") as terminal:
        for line in ("joinServer 0", "joinServer 1", "joinClient 5 0", "put 5 k v"):
            assert terminal.do(line) == []
        pid = freeze(terminal, "server 0")
        for line, whom in (("printStore 0", "server 0"), ("get 5 k", "client 5, which asks server 0")):
            terminal.type(f"{line}\r")
            terminal.until(lambda whom=whom: terminal.line == f"waiting for {whom} … Ctrl-C gives up", whom)  # type: ignore[misc]
            os.kill(pid, signal.SIGCONT)
            terminal.until_prompt()
            assert terminal.lines[-2] == PROMPT + line
            freeze(terminal, "server 0")
        count = terminal.prompts()
        terminal.type("printStore 0\r")
        terminal.until_shown("waiting for server 0")
        terminal.type(CTRL_C)
        terminal.until_prompt(count + 1)
        assert terminal.lines[-2] == "error: printStore: gave up waiting"
        os.kill(pid, signal.SIGCONT)
        assert not any("waiting for" in line for line in terminal.lines)
    assert (tmp_path / "out").read_bytes() == b"k:v\n" * 2


def test_an_error_while_waiting_does_not_stand_in_the_line(tmp_path: Path) -> None:
    with Terminal(tmp_path, "--timeout", "1") as terminal:
        for line in ("joinServer 0", "joinClient 5 0", "put 5 k v"):
            assert terminal.do(line) == []
        freeze(terminal, "server 0")
        assert terminal.do("get 5 k") == [
            "error: get: server 0 made no progress for 1 s, and was killed",
            "error: get: client 5 has only server 0, which is not running",
        ]
        assert b"waiting for client 5" in terminal.raw


def test_a_dumb_terminal_gets_no_such_line(tmp_path: Path) -> None:
    with Terminal(tmp_path, "--timeout", "1", term="dumb") as terminal:
        for line in ("joinServer 0", "joinClient 5 0"):
            assert terminal.do(line) == []
        freeze(terminal, "server 0")
        assert len(terminal.do("get 5 k")) == 2
        assert b"waiting" not in terminal.raw
        assert b"\x1b" not in terminal.raw


# -- help --------------------------------------------------------------------------------------------------


def test_each_command_has_a_page_and_what_it_points_to_exists() -> None:
    assert {*PAGES} >= {*commands.COMMANDS}
    assert {*PAGES} <= {*commands.ALL_WORDS}
    known = {*commands.ALL_WORDS, *TOPICS}
    for page in PAGES.values():
        assert {*page.also} <= known
    for _, _, also in TOPICS.values():
        assert {*also} <= known


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_the_example_of_a_command_prints_what_help_says(name: str) -> None:
    lines = PAGES[name].example
    assert any(line.split()[0] == name for line in lines)
    result = run("\n".join(line for line in lines if not line.startswith("  ")) + "\n")
    assert result.stderr == ""
    assert result.stdout.decode().splitlines() == [line.strip() for line in lines if line.startswith("  ")] or (
        name == "stabilize" and result.stdout == b"colour:red\n"
    )


def test_the_errors_that_help_names_are_those_that_come() -> None:
    """Each is an error in the transcripts, but for its ids."""
    paths = (ROOT / "tests" / "transcripts").glob("*.txt")
    known = "\n".join(path.read_text("utf-8", "backslashreplace") for path in paths)
    errors = {re.sub("[0-9]+", "N", line) for line in known.splitlines() if line.startswith("! ")}
    for name, page in PAGES.items():
        for error in page.errors:
            wanted = re.sub("[0-9]+", "N", f"! {name}: {error}")
            assert wanted in errors


def test_help_fits_on_a_usual_terminal(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.resize(24, 80)
        for line in ("help", *(f"help {word}" for word in (*PAGES, *TOPICS))):
            assert len(terminal.do(line)) <= 22, line


@both
def test_help_shows_pages_and_topics(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        shown = terminal.do("help put")
        assert shown[0] == "put clientId key value"
        assert "example:" in shown
        assert "errors, such as:" in shown
        assert shown[-1] == "see also: get, guarantees"
        assert "Monotonic Reads" in "\n".join(terminal.do("help guarantees"))
        for answer in ("ERR_DEP", "ERR_KEY"):
            assert terminal.do(f"help {answer}") == terminal.do("help guarantees")
        assert "gossip" in "\n".join(terminal.do("help links"))
        assert terminal.do("help nope") == ["error: help: unknown command: nope"]
        assert terminal.do("help guarantee") == ["error: help: unknown command: guarantee; did you mean guarantees?"]


# -- quotes ------------------------------------------------------------------------------------------------


@both
def test_quotes_are_said_to_be_part_of_the_key(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        assert terminal.do("joinServer 0") == terminal.do("joinClient 5 0") == []
        note = "(quotes are part of the key, which is one word)"
        assert terminal.do('put 5 "my key" v') == [note]
        assert terminal.do('get 5 "my') == ['"my:key" v', note]
        assert terminal.do('put 5 k "v"') == []
        if term != "dumb":
            terminal.type('put 5 "a')
            terminal.until_shown("quotes are part of the key")
            terminal.type(CTRL_C)
            terminal.until_prompt()


# -- the echo of Ctrl-C ------------------------------------------------------------------------------------


@both
def test_the_echo_of_ctrl_c_stands_alone(tmp_path: Path, term: str) -> None:
    """It also does before the line appears that says who is waited for."""
    with Terminal(tmp_path, "--timeout", "86400", term=term) as terminal:
        for line in ("joinServer 0", "joinClient 5 0"):
            assert terminal.do(line) == []
        pid = freeze(terminal, "server 0")
        terminal.type("get 5 k\r")
        terminal.until(lambda: terminal.screen.cursor.x == 0, "the line to be entered")
        terminal.until_it_waits()
        terminal.type(CTRL_C)
        terminal.until_prompt(4)
        assert "error: get: gave up waiting" in terminal.lines
        os.kill(pid, signal.SIGCONT)
