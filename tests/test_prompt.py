"""The prompt, through a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

import pytest

from driver import LIMIT_SECONDS, command, processes, run_directory, state, wait_until

PROMPT = "daadkvs> "

CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A master at a terminal. What it shows is collected; nothing is left at the end of the `with`."""

    def __init__(self, *options: str) -> None:
        self.fd, inside = pty.openpty()
        self.process = subprocess.Popen(
            command(*options),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "TERM": "dumb", "INPUTRC": os.devnull},
            preexec_fn=_take_terminal,
        )
        os.close(inside)
        self.shown = ""
        self.pids: dict[str, int] = {}
        self.directory: Path | None = None

    def __enter__(self) -> Terminal:
        assert self.until_prompt() is not None
        self.directory = run_directory(self.process.pid)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                if self.process.poll() is None:
                    self.end("exit\n")
                assert "Traceback" not in self.shown
                assert "internal error" not in self.shown
                assert self.directory is not None and not self.directory.exists()
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.fd)
            if self.directory is not None:
                wait_until(lambda: not processes(self.directory), "the end")
                shutil.rmtree(self.directory, ignore_errors=True)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read_until(self, wanted: str) -> str:
        """What is shown up to and with *wanted*."""
        fresh = ""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not fresh.endswith(wanted):
            assert select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"so far: {fresh!r}"
            try:
                piece = os.read(self.fd, 1)
            except OSError:  # the other end is closed
                piece = b""
            assert piece, f"it ended, after {fresh!r}"
            fresh += piece.decode("latin-1")
        self.shown += fresh
        return CONTROL_SEQUENCE.sub("", fresh).replace("\r", "")

    def until_prompt(self) -> str:
        return self.read_until(PROMPT).removesuffix(PROMPT)

    def do(self, line: str) -> list[str]:
        """Type a line, and return what is shown below it, up to the next prompt."""
        self.type(line + "\n")
        echo, _, below = self.until_prompt().partition("\n")
        assert echo == line
        return below.splitlines()

    def end(self, text: str) -> int:
        """Type what ends it, and return the exit status."""
        self.type(text)
        while self.process.poll() is None:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.shown += os.read(self.fd, 1000).decode("latin-1")
                except OSError:
                    break
        return self.process.wait(LIMIT_SECONDS)


def _take_terminal() -> None:
    """In the child: be the leader of a session, whose terminal is standard input."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def freeze(terminal: Terminal, name: str) -> None:
    assert terminal.directory is not None
    pid = processes(terminal.directory)[name]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) == "T", f"{name} to stop")


def start_cluster(terminal: Terminal) -> None:
    for line in ("joinServer 0", "joinServer 1", "joinClient 5 0", "put 5 k some value"):
        assert terminal.do(line) == []


def test_commands_and_answers() -> None:
    with Terminal() as terminal:
        start_cluster(terminal)
        assert terminal.do("get 5 k") == ["k:some value"]
        assert terminal.do("") == []
        assert terminal.do("# comment") == []
        assert terminal.do("stabilize") == []
        assert terminal.do("printStore 1") == ["k:some value"]


def test_errors_are_one_line_without_a_number() -> None:
    with Terminal() as terminal:
        for line, named in (
            ("nonsense", "nonsense"),
            ("killServer 3", "server 3 is not running"),
            ("get 5", "usage"),
            ("put 5 k", "usage"),
            ("joinServer x", "x"),
        ):
            (error,) = terminal.do(line)
            assert error.startswith("error: ")
            assert named in error
            assert "line 1" not in error
        assert terminal.end("exit\n") == 1


@pytest.mark.parametrize("ending", ["exit\n", "quit\n", "\x04", " exit \n"])
def test_what_ends_it(ending: str) -> None:
    with Terminal() as terminal:
        start_cluster(terminal)
        assert terminal.end(ending) == 0


def test_gossip_is_seen_at_the_prompt() -> None:
    with Terminal("--gossip-interval", "0.01") as terminal:
        start_cluster(terminal)
        wait_until(lambda: terminal.do("printStore 1") == ["k:some value"], "gossip")


def test_help() -> None:
    with Terminal() as terminal:
        shown = "\n".join(terminal.do("help"))
        for word in ("joinServer", "killServer", "joinClient", "breakConnection", "createConnection", "stabilize"):
            assert word in shown
        for word in ("printStore", "put", "get", "help", "status", "exit", "Ctrl-D"):
            assert word in shown
        assert "put clientId key value" in "\n".join(terminal.do("help put"))
        (line,) = terminal.do("help nonsense")
        assert "nonsense" in line


def test_status() -> None:
    with Terminal() as terminal:
        assert terminal.do("status")
        start_cluster(terminal)
        assert terminal.do("breakConnection 0 1") == []
        assert terminal.do("joinServer 2") == []
        assert terminal.do("killServer 2") == []
        shown = terminal.do("status")
        for number, word in ((0, "running"), (1, "running"), (2, "killed")):
            assert any(line.startswith(f"server {number}") and word in line for line in shown)
        assert any(line.startswith("client 5") and "0" in line for line in shown)
        assert any("partition" in line for line in shown)


def test_status_notices_a_server_that_has_died() -> None:
    with Terminal() as terminal:
        start_cluster(terminal)
        assert terminal.directory is not None
        pid = processes(terminal.directory)["server 0"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
        shown = terminal.do("status")
        assert sum("server 0 died" in line for line in shown) == 1
        assert any(re.fullmatch("server 0: (?!running).*", line) for line in shown)
        assert not any("died" in line for line in terminal.do("status"))


def test_tab_completes_commands_and_ids() -> None:
    with Terminal() as terminal:
        for line in ("joinS\t12\n", "joinC\t345 1\t\n", "pu\t3\tkey value\n"):
            terminal.type(line)
            terminal.until_prompt()
        terminal.type("get 345 key\n")
        assert "key:value" in terminal.until_prompt()


def test_ctrl_c_drops_the_line() -> None:
    with Terminal() as terminal:
        start_cluster(terminal)
        terminal.type("put 5 k something el")
        terminal.read_until("something el")
        terminal.type("\x03")
        terminal.until_prompt()
        assert terminal.do("get 5 k") == ["k:some value"]
        for _ in range(5):
            terminal.type("\x03")
            terminal.until_prompt()
        assert terminal.do("get 5 k") == ["k:some value"]


@pytest.mark.parametrize("line", ["get 5 k", "put 5 k w", "printStore 0", "stabilize", "breakConnection 0 1"])
def test_ctrl_c_gives_up_waiting(line: str) -> None:
    """The time-out is a day, but for stabilize. The cluster lives on, and the frozen server can still be killed."""
    with Terminal("--timeout", "86400") as terminal:
        start_cluster(terminal)
        assert terminal.do("joinClient 6 1") == []
        freeze(terminal, "server 0")
        terminal.type(f"{line}\n")
        terminal.read_until(f"{line}\r\n")
        if line != "stabilize":  # which may end by itself
            assert not select.select([terminal.fd], [], [], 0.2)[0]
        terminal.type("\x03")
        told = terminal.until_prompt().replace("^C", "").strip().splitlines()
        assert len(told) <= 1 or line == "stabilize", told
        assert all(shown.startswith("error: ") for shown in told)
        assert terminal.do("put 6 l x") == []
        assert terminal.do("get 6 l") == ["l:x"]
        assert len(terminal.do("killServer 0")) <= (line == "stabilize")
        assert terminal.do("joinServer 0") == []
        assert terminal.do("createConnection 0 1") == []
        assert terminal.do("get 5 k") in (["k:some value"], ["k:w"])
        assert terminal.do("stabilize") == []
        assert "l:x" in terminal.do("printStore 0")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_signals_end_it(how: signal.Signals) -> None:
    with Terminal() as terminal:
        start_cluster(terminal)
        wait_until(lambda: state(terminal.process.pid) == "S", "the prompt to wait")
        terminal.process.send_signal(how)
        assert terminal.process.wait(LIMIT_SECONDS) == 128 + how


def test_everything_ends_with_the_terminal() -> None:
    with Terminal() as terminal:
        start_cluster(terminal)
        assert terminal.directory is not None
        pids = processes(terminal.directory)
        other = os.open(os.devnull, os.O_RDONLY)
        os.dup2(other, terminal.fd)  # closes the terminal
        os.close(other)
        assert terminal.process.wait(LIMIT_SECONDS) in (0, 128 + signal.SIGHUP)
        wait_until(lambda: all(state(pid) in "Zx" for pid in pids.values()), "the end", 0.0)


def test_history_and_completion() -> None:
    with Terminal() as terminal:
        start_cluster(terminal)
        assert terminal.do("get 5 k") == ["k:some value"]
        terminal.type("\x10\n")  # the line before
        terminal.read_until("get 5 k\r\n")
        assert terminal.until_prompt() == "k:some value\n"
