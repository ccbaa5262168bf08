"""The prompt at a pseudo-terminal: one with all capabilities (pyte), and one without any (dumb)."""

from __future__ import annotations

import os
import re
import signal
import stat
import textwrap
from pathlib import Path

import pytest
from support.terminal import PROMPT, Terminal

from checking.driver import LIMIT_SECONDS, ROOT, processes, run, send_signal, state, wait_until
from console import prompt
from master import Master
from rpc import transport

CTRL_A, CTRL_B, CTRL_C, CTRL_D, CTRL_P, CTRL_R, CTRL_Z = (chr(ord(letter) - 64) for letter in "ABCDPRZ")
CAPABLE, DUMB = "xterm-256color", "dumb"

both = pytest.mark.parametrize("term", [CAPABLE, DUMB])


def paste(text: str) -> str:
    """The bytes that a terminal sends when this text is pasted."""
    return f"\x1b[200~{text}\x1b[201~"


def start_cluster(terminal: Terminal) -> Path:
    for line in ("joinServer 0", "joinServer 1", "joinClient 5 0", "put 5 k some value"):
        assert terminal.do(line) == []
    return terminal.find_run()


def freeze(directory: Path, name: str) -> None:
    pid = processes(directory)[name]
    send_signal(pid, signal.SIGSTOP, name)


# -- commands ----------------------------------------------------------------------------------------------


@both
def test_commands_and_answers(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        start_cluster(terminal)
        assert terminal.do("get 5 k") == ["k:some value"]
        assert terminal.do("") == []
        assert terminal.do("# comment") == []
        assert terminal.do("stabilize") == []
        assert terminal.do("printStore 1") == ["k:some value"]


@both
def test_errors_are_one_line_without_a_number(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        for line, named in (
            ("nonsense", "nonsense"),
            ("killServer 3", "server 3 is not running"),
            ("get 5", "usage: get clientId key"),
            ("put 5 k", "usage"),
            ("joinServer x", "x"),
            ("exit now", "usage: exit"),
            ("help put get", "usage: help [WORD]"),
        ):
            (error,) = terminal.do(line)
            assert error.startswith("error: ")
            assert named in error
            assert "line 1" not in error
        assert terminal.end("exit\r") == 1


@both
def test_what_was_meant_is_suggested(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        assert terminal.do("stablize") == ["error: unknown command: stablize; did you mean stabilize?"]
        assert terminal.do("joinserver 1") == ["error: unknown command: joinserver; did you mean joinServer?"]
        assert terminal.do("statsu") == ["error: unknown command: statsu; did you mean status?"]
        assert terminal.do("help stablize") == ["error: help: unknown command: stablize; did you mean stabilize?"]


@both
@pytest.mark.parametrize("ending", ["exit\r", "quit\r", CTRL_D, " exit \r"])
def test_what_ends_it(tmp_path: Path, ending: str, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        start_cluster(terminal)
        assert terminal.end(ending) == 0


def test_gossip_is_seen_at_the_prompt(tmp_path: Path) -> None:
    with Terminal(tmp_path, "--gossip-interval", "0.01") as terminal:
        start_cluster(terminal)
        wait_until(lambda: terminal.do("printStore 1") == ["k:some value"], "gossip")


@both
def test_help(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        shown = "\n".join(terminal.do("help"))
        for word in ("joinServer", "killServer", "joinClient", "breakConnection", "createConnection", "stabilize"):
            assert word in shown
        for word in ("printStore", "put", "get", "help", "status", "exit", "quit", "Ctrl-D"):
            assert word in shown
        assert terminal.do("help put")[0] == "put clientId key value"
        assert terminal.do("help status")[0] == "status"


@both
def test_narrow_terminals_get_whole_words(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, "--gossip-interval", "0", term=term) as terminal:
        start_cluster(terminal)
        texts = {}
        for columns in (110, 80, 40):
            terminal.resize(300, columns)
            shown = [terminal.do(line) for line in ("help", "help status", "status")]
            assert max(len(line) for lines in shown for line in lines) <= columns
            texts[columns] = [" ".join(" ".join(lines).split()) for lines in shown]
        assert texts[110] == texts[80]
        assert texts[80][:2] == texts[40][:2]
        assert "store: lacks 1 write" in texts[40][2]


NARROW = (0, 1, 2, 5)


@both
@pytest.mark.parametrize("columns", NARROW)
def test_a_terminal_of_hardly_any_columns(tmp_path: Path, term: str, columns: int) -> None:
    """0 is what a terminal says whose size nobody has set; the screen is not looked at, since it has that width too."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    with Terminal(tmp_path, term=term, stdout=out, stderr=errors) as terminal:
        terminal.resize(0 if columns == 0 else 10, columns)
        lines = ("joinServer 0", "joinClient 5 0", "help", "help put", "status", "statsu", "put 5 k v", "get 5 k")
        terminal.type("".join(f"{line}\r" for line in lines))
        terminal.until(lambda: out.read_bytes() == b"k:v\n", "the answer")
        terminal.type("jo\tC\t\t\t" + CTRL_C)
        terminal.end("exit\r")
        assert "did you mean status?" in errors.read_text()
        assert "internal" not in errors.read_text()


@pytest.mark.parametrize("columns", [*NARROW, 8, 9])
def test_progress_in_hardly_any_columns(tmp_path: Path, columns: int) -> None:
    script = tmp_path / "script"
    script.write_text("joinServer 0\njoinClient 5 0\n" + "put 5 k v\nget 5 k\nstabilize\n" * 1500 + "nonsense\n")
    with Terminal(tmp_path, str(script), stdout=tmp_path / "out") as terminal:
        terminal.resize(0 if columns == 0 else 10, columns)
        assert terminal.end() == 1
    assert (tmp_path / "out").read_bytes() == b"k:v\n" * 1500


@pytest.mark.parametrize("columns", ["0", "1", "2", "5", "-7", "many", "9" * 30, "9" * 5000])
def test_help_whatever_the_environment_says_of_columns(columns: str) -> None:
    result = run("", "--help", environment={"COLUMNS": columns, "LINES": columns})
    assert (result.stderr, result.status) == ("", 0)
    assert b"--timeout" in result.stdout


@both
@pytest.mark.parametrize("columns", ["0", "1", "-7", "many"])
def test_the_prompt_whatever_the_environment_says_of_columns(tmp_path: Path, term: str, columns: str) -> None:
    with Terminal(tmp_path, term=term, environment={"COLUMNS": columns, "LINES": columns}) as terminal:
        start_cluster(terminal)
        assert terminal.do("help stabilize")[0] == "stabilize"
        assert terminal.do("get 5 k") == ["k:some value"]


@pytest.mark.parametrize("term", ["", "vt52", "xterm-mono", "no such terminal", "linux"])
def test_terminals_of_any_name(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        start_cluster(terminal)
        assert terminal.do("help stabilize")[0] == "stabilize"
        assert rows(terminal.do("status")).keys() == {"0", "1", "5"}


def test_status_says_what_servers_wrongly_believe_that_they_can_reach(tmp_path: Path) -> None:
    """Server 0 has heard by an exchange of the link from 1 to 2, and hears by one that it is gone."""
    with Terminal(tmp_path, "--gossip-interval", "0") as terminal:
        for line in ("joinServer 0", "joinServer 1", "joinServer 2", "breakConnection 0 2", "joinClient 5 0"):
            assert terminal.do(line) == []
        assert terminal.do("put 5 k v") == []
        assert terminal.do("stabilize") == []
        assert "outdated" not in " ".join(terminal.do("status"))
        assert terminal.do("breakConnection 1 2") == []
        shown = " ".join(" ".join(terminal.do("status")).split())
        assert re.search(r" \*0 up \d+ \S x \. 0-2 \(outdated\) up to date \*1 up", shown)
        assert shown.count("outdated") == 1, "the others know better"
        assert terminal.do("put 5 k w") == []
        assert terminal.do("stabilize") == []
        assert "outdated" not in " ".join(terminal.do("status"))


@pytest.mark.parametrize("line", ["status", "help", "help put"])
def test_an_internal_error_is_one_line_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    master = Master(pipeline=False)  # without a cluster, so that status fails as well
    monkeypatch.setattr(prompt, "_size", lambda _: 1 // 0)
    try:
        assert prompt.Prompt(master)._run(line)
    finally:
        transport.interrupt_by(None)
    error = capfd.readouterr().err
    assert re.fullmatch(rf"error: {line.split()[0]}: internal error: (ZeroDivision|Attribute)Error: .*\n", error)
    assert master.failed


# -- the README --------------------------------------------------------------------------------------------


SESSIONS = re.findall(
    r"^    \$ \./master(.*)\n((?:    .*\n|\n(?=    ))+)", (ROOT / "README.md").read_text("utf-8"), re.M
)


@pytest.mark.parametrize(("options", "session"), SESSIONS, ids=["a first session", "why", "status"])
def test_what_the_readme_shows_can_be_typed(tmp_path: Path, options: str, session: str) -> None:
    """The output is the same, line by line, except for process ids."""
    shown = textwrap.dedent(session).splitlines()
    with Terminal(tmp_path, *options.split()) as terminal:
        for line in shown:
            if line.startswith(PROMPT):
                terminal.do(line.removeprefix(PROMPT))
        assert [_without_processes(line) for line in terminal.lines[:-1]] == [
            _without_processes(line) for line in shown
        ]


def _without_processes(line: str) -> str:
    return re.sub(r"( up) +[0-9]+", r"\1 …", line)  # process ids may have fewer digits than those in the README


# -- status ------------------------------------------------------------------------------------------------


def rows(shown: list[str]) -> dict[str, str]:
    """The rows of a table that `status` shows, by their ids, without the marks of what has changed."""
    split = [line.strip().removeprefix("*").split() for line in shown]
    return {words[0]: " ".join(words[1:]) for words in split if words and words[0].isdigit()}


@both
def test_status_shows_which_writes_servers_lack(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, "--gossip-interval", "0", term=term) as terminal:
        assert terminal.do("status")[0].startswith("nothing has been started yet; joinServer 0 starts a server")
        start_cluster(terminal)
        for line in ("joinServer 2", "joinServer 3", "joinClient 6 2", "killServer 3", "createConnection 5 1"):
            assert terminal.do(line) == []
        shown = rows(terminal.do("status"))
        assert re.fullmatch(r"up \d+ \\ x x 0-2 up to date", shown["0"])
        assert re.fullmatch(r"up \d+ x \\ x 0-2 lacks 1 write", shown["1"])
        assert shown["3"] == "killed"
        assert re.fullmatch(r"up \d+ 0, 1", shown["5"])
        for line in ("breakConnection 2 0", "breakConnection 2 1", "put 6 l x", "killServer 1", "joinServer 1"):
            assert terminal.do(line) == []
        assert terminal.do("breakConnection 2 1") == []
        lines = terminal.do("status")
        shown = rows(lines)
        assert re.fullmatch(r"up \d+ \\ x \. 0-1 lacks 1 write of other partitions", shown["0"])
        assert re.fullmatch(r"up \d+ x \\ \. 0-1 lacks 1 write of its partition, 1 of others", shown["1"])
        assert re.fullmatch(r"up \d+ \. \. \\ 2 lacks 1 write of other partitions", shown["2"])
        assert "partitions: 0-1 | 2" in lines
        assert terminal.do("stabilize") == []
        assert rows(terminal.do("status"))["1"].endswith("lacks 1 write of other partitions")
        assert terminal.do("createConnection 2 0") == []
        assert terminal.do("stabilize") == []
        shown = rows(terminal.do("status"))
        assert [shown[ident].endswith("up to date") for ident in "012"] == [True] * 3


def test_status_notices_a_server_that_has_died(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        directory = start_cluster(terminal)
        pid = processes(directory)["server 0"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
        shown = terminal.do("status")
        assert shown[0] == "error: status: server 0 died"
        assert rows(shown)["0"] == "killed"
        assert rows(shown)["5"].endswith("0 (killed)")
        assert not any("died" in line for line in terminal.do("status"))


def test_status_does_not_kill_a_frozen_server(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        directory = start_cluster(terminal)
        freeze(directory, "server 0")
        shown = rows(terminal.do("status"))
        assert shown["0"].endswith("unknown unknown: silent")
        assert shown["1"].endswith("unknown: 0 is silent"), "though 0 has a write that 1 lacks"
        os.kill(processes(directory)["server 0"], signal.SIGCONT)
        wait_until(lambda: rows(terminal.do("status"))["0"].endswith("up to date"), "its answer")
        assert terminal.do("get 5 k") == ["k:some value"]


# -- typing ------------------------------------------------------------------------------------------------


def test_tab_completes_commands_ids_and_keys(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        # Typed ahead, and all at once: a word is complete before the next letter counts.
        for count, line in enumerate(("joinS\t12\r", "JOINC\t345 1\t\r", "pu\t3\tlong-key some value\r"), 2):
            terminal.type(line)
            terminal.until_prompt(count)
        assert terminal.do("get 345 long-key") == ["long-key:some value"]
        terminal.type("ge\t\tlo\t\r")
        terminal.until_prompt(6)
        assert terminal.lines[-3:-1] == [PROMPT + "get 345 long-key", "long-key:some value"]


def test_tab_shows_what_there_is_and_what_it_does(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        start_cluster(terminal)
        terminal.do("killServer 1")
        terminal.type("jo\t")
        terminal.until_shown("start or revive server ID")
        assert any("joinClient" in line and "start client" in line for line in terminal.lines)
        terminal.type("S\t")
        terminal.until(lambda: "start or revive server ID" not in "\n".join(terminal.lines), "the menu to go")
        terminal.type("\t\r")  # only server 1 can be joined again
        terminal.until_prompt()
        assert rows(terminal.do("status"))["1"].startswith("up")


def test_enter_takes_the_highlighted_word_and_does_not_run_the_line(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        terminal.type("join\t")
        terminal.until_shown("start or revive server ID")
        terminal.type("\t")
        terminal.until(lambda: terminal.line.startswith(PROMPT + "joinServer"), "the first word of the menu")
        terminal.type("\r")
        terminal.until(lambda: "start or revive server ID" not in "\n".join(terminal.lines), "the menu to go")
        assert terminal.line == PROMPT + "joinServer id", "it is to be continued"
        terminal.type("3\r")
        terminal.until_prompt(2)
        assert terminal.lines == [*terminal.lines[:1], PROMPT + "joinServer 3", PROMPT.rstrip()]
        assert rows(terminal.do("status"))["3"].startswith("up")


def test_hints_show_the_words_to_come(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        for typed, line in (
            ("pu", "pu"),
            ("t", "put clientId key value"),
            (" ", "put clientId key value"),
            ("5", "put 5 key value"),
            (" k", "put 5 k value"),
            (" v", "put 5 k v"),
            (CTRL_A + "#", "#put 5 k v"),
        ):
            terminal.type(typed)
            terminal.until(lambda line=line: terminal.line == PROMPT + line, line)  # type: ignore[misc]
        terminal.type(CTRL_C)
        terminal.until_prompt()
        terminal.type("put ")
        terminal.until(lambda: "value" in terminal.line, "the hint")
        cells = terminal.screen.buffer[terminal.screen.cursor.y]
        at = len(PROMPT)
        assert cells[at].fg == "default"
        assert {cells[place].fg for place in range(at + 4, at + 20)} == {"brightblack"}
        assert [cells[place].underscore for place in (at + 4, at + 11, at + 13)] == [True, True, False], "the next word"
        terminal.type(CTRL_C + "stablize ")
        terminal.until_shown("did you mean stabilize?")
        terminal.type(CTRL_C + "get 5 a b")
        terminal.until_shown("usage: get clientId key")
        terminal.type("\r")
        terminal.until_prompt()
        assert terminal.lines[-3] == PROMPT + "get 5 a b", "no hint is left"
        assert "usage" in terminal.lines[-2]


def test_errors_are_coloured(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        assert terminal.do("nonsense") == ["error: unknown command: nonsense"]
        row = terminal.screen.buffer[terminal.screen.cursor.y - 1]
        assert row[0].fg == "red"
        assert row[7].fg == "default"


def test_no_color(tmp_path: Path) -> None:
    """A hint is then marked by brackets."""
    with Terminal(tmp_path, environment={"NO_COLOR": "1"}) as terminal:
        assert terminal.do("nonsense") == ["error: unknown command: nonsense"]
        terminal.type("get ")
        terminal.until(lambda: terminal.line == PROMPT + "get <clientId> <key>", "the hint")
        terminal.type(CTRL_C)
        terminal.until_prompt()
        assert not re.search(rb"\x1b\[[0-9;]*\b(3[0-9]|4[0-9]|9[0-7]|10[0-7])[;0-9]*m", terminal.raw)


def test_a_dumb_terminal_gets_no_control_sequences(tmp_path: Path) -> None:
    with Terminal(tmp_path, term=DUMB) as terminal:
        start_cluster(terminal)
        terminal.do("nonsense")
        terminal.do("status")
        assert b"\x1b" not in terminal.raw


@both
@pytest.mark.parametrize(
    "line", [b"put 5 \xff\xfe\xc3 v\xe9", "put 5 ключ 値".encode(), b"put 5 a\xc2\xa0b \xe2\x80\xa8 c"]
)
def test_any_bytes_can_be_typed(tmp_path: Path, line: bytes, term: str) -> None:
    out = tmp_path / "out"
    with Terminal(tmp_path, term=term, stdout=out) as terminal:
        start_cluster(terminal)
        terminal.type(line + b"\r")
        terminal.until_prompt(6)
        assert terminal.do("breakConnection 0 1") == []
        assert terminal.do("printStore 0") == []
    _, _, key, value = re.split(rb"[ ]+", line, maxsplit=3)
    assert key + b":" + value + b"\n" in out.read_bytes()
    with Terminal(tmp_path, term=term) as terminal:  # the history holds such bytes as well
        terminal.until_prompt()


def test_control_characters_can_be_pasted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Terminal(tmp_path, stdout=out) as terminal:
        start_cluster(terminal)
        terminal.type(paste("put 5 \x01\x02 \x07bell\x00\x1b[31m\nget 5 \x01\x02\n"))
        terminal.until_prompt(7)
    assert out.read_bytes() == b"\x01\x02:\x07bell\x00\x1b[31m\n"


def test_a_long_line_can_be_pasted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    value = "v" * 6_000
    with Terminal(tmp_path, stdout=out) as terminal:
        start_cluster(terminal)
        terminal.type("put 5 long ")
        for start in range(0, len(value), 1000):
            terminal.type(value[start : start + 1000])
            terminal.read(0.01)
        terminal.type("\rget 5 long\r")
        wait_until(lambda: terminal.read(0.01) or out.stat().st_size > len(value), "the answer")
    assert out.read_text() == f"long:{value}\n"


def test_a_resized_window_does_no_harm(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        start_cluster(terminal)
        terminal.type("get 5")
        terminal.until(lambda: terminal.line == PROMPT + "get 5 key", "the hint")
        terminal.resize(200, 60)
        terminal.send_signal(signal.SIGWINCH)
        terminal.type(" k")
        terminal.until(lambda: terminal.line == PROMPT + "get 5 k", "what was typed")
        terminal.type("\r")
        terminal.until_shown("k:some value")
        terminal.until_prompt()


def test_ctrl_z_and_fg(tmp_path: Path) -> None:
    """This test plays the part of the shell."""
    with Terminal(tmp_path) as terminal:
        start_cluster(terminal)
        terminal.type("get 5 " + CTRL_Z)
        wait_until(lambda: terminal.read(0.01) or state(terminal.process.pid) == "T", "it to stop")
        terminal.send_signal(signal.SIGCONT)
        terminal.type("k\r")
        terminal.until_shown("k:some value")
        terminal.until_prompt()


# -- history -----------------------------------------------------------------------------------------------


def test_history_lasts(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.do("joinServer 70")
        terminal.do("nonsense")
    path = tmp_path / ".local/state/daadkvs/history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "joinServer 70\nnonsense\nexit\n"
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        terminal.type(CTRL_P * 3)
        terminal.until(lambda: terminal.line == PROMPT + "joinServer 70", "the line of the earlier run")
        terminal.type("1\r")
        terminal.until_prompt(2)
        terminal.type(CTRL_R + "joinserver 70")
        terminal.until_shown("joinServer 701")
        assert not any("no line" in line for line in terminal.lines)
        terminal.type("x")
        terminal.until_shown("no match in history")
        terminal.type("\x7f")
        terminal.until_shown("joinServer 701")
        terminal.type(CTRL_C)
        terminal.until_prompt()
        assert rows(terminal.do("status")).keys() == {"701"}


def test_history_is_kept_where_xdg_says(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with Terminal(tmp_path, environment={"XDG_STATE_HOME": str(folder)}) as terminal:
        terminal.do("nonsense")
    assert (folder / "daadkvs/history").read_text() == "nonsense\nexit\n"
    assert not (tmp_path / ".local").exists()


@pytest.mark.parametrize("obstacle", ["no folder", "a folder", "a pipe"])
def test_a_history_that_cannot_be_kept_is_no_error(tmp_path: Path, obstacle: str) -> None:
    folder = tmp_path / "state"
    if obstacle == "no folder":
        folder.write_text("a file")
    else:
        (folder / "daadkvs").mkdir(parents=True)
        path = folder / "daadkvs" / "history"
        path.mkdir() if obstacle == "a folder" else os.mkfifo(path)
    with Terminal(tmp_path, environment={"XDG_STATE_HOME": str(folder)}) as terminal:
        assert terminal.do("joinServer 0") == []
        assert terminal.do("joinClient 5 0") == []
        terminal.type(CTRL_P)
        terminal.until(lambda: terminal.line == PROMPT + "joinClient 5 0", "the history of this run")
        terminal.type(CTRL_C)
        terminal.until_prompt()
        assert terminal.end("exit\r") == 0


# -- pasting -----------------------------------------------------------------------------------------------


def test_several_pasted_lines_are_carried_out_in_order(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        terminal.type(
            paste("joinServer 0\r\njoinServer 1\n# a comment\n\njoinClient 5 0\nput 5 k v\nnonsense\nget 5 k\nget 5 ")
        )
        terminal.until(lambda: terminal.line == PROMPT + "get 5 key", "the last line, to be edited")
        shown = [line for line in terminal.lines if line]
        at = shown.index(PROMPT + "put 5 k v")
        assert shown[at + 1 : at + 5] == [
            PROMPT + "nonsense",
            "error: unknown command: nonsense",
            PROMPT + "get 5 k",
            "k:v",
        ]
        terminal.type("l\r")
        terminal.until_shown("l:ERR_KEY")
        terminal.until_prompt()
        terminal.type(CTRL_P * 3)
        terminal.until(lambda: terminal.line == PROMPT + "nonsense", "a pasted line in the history")
        terminal.type(CTRL_C)
        terminal.until_prompt()


def test_what_is_pasted_into_a_line_is_part_of_it(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        start_cluster(terminal)
        terminal.type("get  k" + CTRL_B * 2 + paste("5"))
        terminal.until(lambda: terminal.line == PROMPT + "get 5 k", "what was pasted")
        terminal.type("\r")
        terminal.until_shown("k:some value")
        terminal.until_prompt()


def test_lines_pasted_into_a_terminal_that_does_not_say_so(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        terminal.type("joinServer 0\rjoinClient 5 0\rput 5 k v\rget 5 k\r")
        terminal.until_shown("k:v")
        terminal.until_prompt()


def test_exit_among_pasted_lines(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        assert terminal.end(paste("joinServer 0\nexit\nnonsense\n")) == 0
        assert not any("nonsense" in line for line in terminal.lines)


# -- Ctrl-C and signals ------------------------------------------------------------------------------------


@both
def test_ctrl_c_drops_the_line(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        start_cluster(terminal)
        terminal.type("put 5 k something el")
        terminal.until_shown("something el")
        terminal.type(CTRL_C)
        terminal.until_prompt()
        assert terminal.do("get 5 k") == ["k:some value"]
        for _ in range(5):
            count = terminal.prompts()
            terminal.type(CTRL_C)
            terminal.until_prompt(count + 1)
        assert terminal.do("get 5 k") == ["k:some value"]


@both
@pytest.mark.parametrize("line", ["get 5 k", "put 5 k w", "printStore 0", "stabilize", "breakConnection 0 1"])
def test_ctrl_c_gives_up_waiting(tmp_path: Path, line: str, term: str) -> None:
    """The time-out is a day, except in stabilize. The cluster goes on, and the frozen server can still be killed."""
    with Terminal(tmp_path, "--timeout", "86400", term=term) as terminal:
        directory = start_cluster(terminal)
        assert terminal.do("joinClient 6 1") == []
        freeze(directory, "server 0")
        count = terminal.prompts()
        terminal.type(f"{line}\r")
        terminal.until(lambda: terminal.screen.cursor.x == 0, "the line to be entered")
        terminal.until_it_waits()
        if line != "stabilize":  # which may end by itself
            assert terminal.prompts() == count
        terminal.type(CTRL_C)
        terminal.until_prompt(count + 1)
        told = [shown for shown in terminal.lines if shown.startswith("error")]
        assert len(told) == 1 or line == "stabilize", told
        assert not any("^Cerror" in shown or "Ctrl-C gives up" in shown for shown in terminal.lines)
        changes = line.split()[0] in ("put", "breakConnection", "stabilize")
        assert all(error.endswith("carried out") == changes for error in told if "gave up" in error)
        assert terminal.do("put 6 l x") == []
        assert terminal.do("get 6 l") == ["l:x"]
        assert len(terminal.do("killServer 0")) <= (line == "stabilize")
        assert terminal.do("joinServer 0") == []
        assert terminal.do("createConnection 0 1") == []
        assert terminal.do("get 5 k") in (["k:some value"], ["k:w"])
        assert terminal.do("stabilize") == []
        assert "l:x" in terminal.do("printStore 0")


def test_after_ctrl_c_a_loss_that_the_client_has_noticed_is_still_reported(tmp_path: Path) -> None:
    """The client finds that the server is silent after the master has stopped waiting for its answer."""
    with Terminal(tmp_path, "--timeout", "2") as terminal:
        directory = start_cluster(terminal)
        freeze(directory, "server 0")
        count = terminal.prompts()
        terminal.type("get 5 k\r")
        terminal.until(lambda: terminal.screen.cursor.x == 0, "the line to be entered")
        terminal.until_it_waits()
        terminal.type(CTRL_C)
        terminal.until_prompt(count + 1)
        assert terminal.do("get 5 k") == [
            "error: get: server 0 made no progress for 2 s, and was killed",
            "error: get: client 5 has only server 0, which is not running",
        ]
        assert terminal.do("joinServer 0") == []
        assert terminal.do("get 5 k") == ["k:some value"]


def test_ctrl_c_drops_the_rest_of_what_was_pasted(tmp_path: Path) -> None:
    with Terminal(tmp_path, "--timeout", "86400") as terminal:
        directory = start_cluster(terminal)
        freeze(directory, "server 0")
        terminal.type(paste("get 5 k\nnonsense\nmore nonsense\nput 5 "))
        terminal.until(lambda: PROMPT + "get 5 k" in terminal.lines and terminal.screen.cursor.x == 0, "it to run")
        terminal.until_it_waits()
        terminal.type(CTRL_C)
        terminal.until_prompt(6)
        assert "error: get: gave up waiting" in terminal.lines
        assert not any(line.startswith("error: unknown") for line in terminal.lines)
        assert terminal.do("killServer 0") == []


@both
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_signals_end_it(tmp_path: Path, how: signal.Signals, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        start_cluster(terminal)
        terminal.until_prompt()
        terminal.type("get 5")
        terminal.until_shown("get 5")
        terminal.send_signal(how)
        assert terminal.end() == 128 + how


@both
def test_signals_that_come_at_once_end_it_too(tmp_path: Path, term: str) -> None:
    """They may also arrive when a line has just been read, or while its answer is being printed."""
    with Terminal(tmp_path, term=term) as terminal:
        start_cluster(terminal)
        terminal.type("get 5 k\r" * 3)
        terminal.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM


@both
def test_everything_ends_with_the_terminal(tmp_path: Path, term: str) -> None:
    with Terminal(tmp_path, term=term) as terminal:
        pids = processes(start_cluster(terminal))
        terminal.type("get 5")
        terminal.until_shown("get 5")
        other = os.open(os.devnull, os.O_RDONLY)
        os.dup2(other, terminal.fd)  # closes the terminal
        os.close(other)
        assert terminal.process.wait(LIMIT_SECONDS) in (0, 128 + signal.SIGHUP)
        wait_until(lambda: all(state(pid) in "Zx" for pid in pids.values()), "the end", 0.0)


# -- where things are written ------------------------------------------------------------------------------


@both
def test_stdout_gets_only_answers(tmp_path: Path, term: str) -> None:
    out = tmp_path / "out"
    with Terminal(tmp_path, term=term, stdout=out) as terminal:
        start_cluster(terminal)
        terminal.do("status")
        terminal.do("help")
        terminal.do("nonsense")
        assert terminal.do("get 5 k") == []
        assert terminal.do("printStore 0") == []
    assert out.read_bytes() == b"k:some value\n" * 2


@both
def test_errors_go_where_stderr_leads_and_the_rest_to_the_terminal(tmp_path: Path, term: str) -> None:
    errors = tmp_path / "errors"
    with Terminal(tmp_path, term=term, stderr=errors) as terminal:
        start_cluster(terminal)
        assert terminal.do("get 5 k") == ["k:some value"]
        assert terminal.do("nonsense") == []
        assert terminal.do("help stabilize")[0] == "stabilize"
        assert terminal.do("status")
    assert errors.read_text() == "error: unknown command: nonsense\n"


def test_ctrl_c_at_any_moment(tmp_path: Path) -> None:
    """It may arrive when a line has just been entered, or while the next prompt is drawn. There is no traceback."""
    with Terminal(tmp_path) as terminal:
        start_cluster(terminal)
        for number in range(60):
            terminal.type(("get 5 k\r", "stabilize\r", "status\r", "put 5 l")[number % 4])
            for _ in range(number % 7):
                terminal.read(0.001)
            terminal.send_signal(signal.SIGINT)
        for _ in range(100):  # what is typed too early may still be dropped by one of these
            terminal.type("\rprobe\r")
            terminal.read(0.2)
            if "error: unknown command: probe" in terminal.lines:
                break
        terminal.until_shown("error: unknown command: probe")
