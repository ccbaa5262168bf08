"""Ctrl-C while a command waits for a process that is stopped: the messages are true, and nothing is left half done.

The time-out is a day, so that nothing but Ctrl-C ends a wait.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from support.terminal import Terminal

from checking.driver import processes, send_signal, state, titles, wait_until

CTRL_C = "\x03"
NOT_STARTED = "gave up waiting; {} was not started"
DONE = "(the command was carried out nevertheless)"
MAY_BE = "gave up waiting; it may still be carried out"
GAVE_UP = "gave up waiting"


class Run:
    """Servers 0 and 1, client 5 at 0, client 6 at 1, and a server 2 that was killed."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        for line in (
            *("joinServer 0", "joinServer 1", "joinServer 2", "killServer 2", "joinClient 5 0", "joinClient 6 1"),
            "put 5 k v",
        ):
            self.do(line)
        self.directory = terminal.find_run()

    def do(self, line: str) -> None:
        """Carry out a command that prints nothing and succeeds."""
        assert self.terminal.do(line) == []

    def stop(self, name: str) -> int:
        pid = processes(self.directory)[name]
        send_signal(pid, signal.SIGSTOP, name)
        return pid

    def give_up(self, line: str) -> list[str]:
        """Type a command, and Ctrl-C once it waits; returns what is shown then."""
        self.terminal.until_prompt()
        count, row = self.terminal.prompts(), self.terminal.screen.cursor.y
        self.terminal.type(f"{line}\r")
        self.terminal.until(lambda: self.terminal.screen.cursor.y > row, "the line to be entered")
        self.terminal.until_it_waits()
        assert self.terminal.prompts() == count, "it has ended by itself"
        self.terminal.type(CTRL_C)
        self.terminal.until_prompt(count + 1)
        told = [shown.removeprefix("^C") for shown in self.terminal.lines[row + 1 : -1]]
        return [shown for shown in told if shown]

    # -- what there must be afterwards ---------------------------------------------------------------------

    def rows(self, kind: str) -> dict[str, list[str]]:
        """Id -> what `status` shows of each "server" or "client"."""
        lines = [line.split() for line in self.terminal.do("status")]
        heads = [number for number, words in enumerate(lines) if words[:2] == ["client", "state"]]
        shown = lines[: heads[0]] if kind == "server" else lines[heads[0] :]
        return {words[0].lstrip("*"): words[1:] for words in shown if words[1:2] in (["up"], ["killed"], ["died"])}

    def pids(self) -> Counter[tuple[str, int]]:
        """The servers and clients that there are, by name and process; the watchdogs without."""
        found: Counter[tuple[str, int]] = Counter()
        for pid, title in titles().items():
            match = re.fullmatch(r"daadkvs ((server|client|watchdog) \d+) \((\S+)\)", title)
            if match and match[3] == str(self.directory) and state(pid) != "Z":
                found[match[1], 0 if match[2] == "watchdog" else pid] += 1
        return found

    def check_processes(self) -> None:
        """Those that `status` knows are there, and no others; a server that was killed may have a watchdog."""
        known: Counter[tuple[str, int]] = Counter()
        spare: Counter[tuple[str, int]] = Counter()
        for kind in ("server", "client"):
            for ident, row in self.rows(kind).items():
                if row[0] == "up":
                    known[f"{kind} {ident}", int(row[1])] = 1
                if kind == "server":
                    (known if row[0] == "up" else spare)[f"watchdog {ident}", 0] = 1
        wait_until(lambda: self.pids() - spare == known, f"{known} to be all; there is {self.pids()}")

    def check_links(self) -> None:
        """A put reaches those that `status` shows as connected, and no others."""
        shown = self.terminal.do("status")
        running = [ident for ident, row in self.rows("server").items() if row[0] == "up"]
        parts = next((line for line in shown if line.startswith("partitions")), None)
        listed = parts.partition(": ")[2].split(" | ") if parts else []
        of = {ident: next((part for part in listed if ident in _idents(part)), "all") for ident in running}
        for ident in running:
            self.do(f"joinClient 10{ident} {ident}")
            self.do(f"put 10{ident} probe-{ident} x")
        self.do("stabilize")
        for ident in running:
            printed = self.terminal.do(f"printStore {ident}")
            probes = {line.partition(":")[0].removeprefix("probe-") for line in printed if line.startswith("probe-")}
            assert probes == {other for other in running if of[other] == of[ident]}, (ident, shown)


def _idents(part: str) -> set[str]:
    """Those that a list like `0-2, 5` names."""
    bounds = [span.split("-") for span in part.split(", ")]
    return {str(ident) for low, *high in bounds for ident in range(int(low), int(high[0] if high else low) + 1)}


CASES = [
    ("spawner", "joinClient 7 0", NOT_STARTED.format("client 7")),
    ("spawner", "joinServer 3", NOT_STARTED.format("server 3")),
    ("watchdog 2", "joinServer 2", NOT_STARTED.format("server 2")),
    ("watchdog 1", "killServer 1", DONE),
    ("server 0", "killServer 1", DONE),
    ("server 0", "joinServer 2", MAY_BE),
    ("server 0", "joinServer 3", MAY_BE),
    ("server 0", "breakConnection 0 1", MAY_BE),
    ("server 1", "breakConnection 0 1", MAY_BE),
    ("server 0", "createConnection 0 1", MAY_BE),
    ("server 1", "createConnection 1 0", MAY_BE),
    ("server 0", "printStore 0", GAVE_UP),
    ("server 0", "put 5 k w", MAY_BE),
    ("server 0", "get 5 k", GAVE_UP),
    ("client 5", "joinClient 5 1", MAY_BE),
    ("client 5", "createConnection 5 1", MAY_BE),
    ("client 5", "breakConnection 5 0", MAY_BE),
    ("client 5", "put 5 k w", MAY_BE),
    ("client 5", "get 5 k", GAVE_UP),
    ("server 0", "stabilize", MAY_BE),
]


@pytest.mark.parametrize(("stopped", "line", "told"), CASES, ids=lambda value: value.replace(" ", "-"))
def test_an_interrupted_command_is_carried_out_or_undone(tmp_path: Path, stopped: str, line: str, told: str) -> None:
    with Terminal(tmp_path, "--timeout", "86400", "--gossip-interval", "0") as terminal:
        run = Run(terminal)
        if line.startswith("createConnection") and "5" not in line:
            run.do("breakConnection 0 1")
        pid = run.stop(stopped)
        shown = run.give_up(line)
        if line != "stabilize":  # which probes a silent server after 2 s, and may kill it just then
            assert shown == [told if told == DONE else f"error: {line.split()[0]}: {told}"]
        run.check_processes()
        os.kill(pid, signal.SIGCONT)
        run.check_processes()
        if told == NOT_STARTED.format("server 2") or line == "killServer 1":
            run.do("joinServer 2")
            run.do("joinServer 1" if line == "killServer 1" else "joinServer 3")
        if line.startswith("joinClient 7"):
            run.do("joinServer 7")
            run.do("killServer 7")
        run.check_processes()
        run.check_links()


@pytest.mark.parametrize(
    ("stopped", "line"),
    [
        ("spawner", "joinClient 7 0"),
        ("spawner", "joinServer 3"),
        ("watchdog 2", "joinServer 2"),
        ("server 0", "joinServer 3"),
    ],
)
def test_the_run_can_end_after_an_interrupted_command(tmp_path: Path, stopped: str, line: str) -> None:
    """`Terminal` sees to it that nothing is left, though the process is still stopped."""
    with Terminal(tmp_path, "--timeout", "86400") as terminal:
        run = Run(terminal)
        run.stop(stopped)
        for _ in range(2 if stopped == "spawner" else 1):
            assert len(run.give_up(line)) == 1
        assert terminal.end("exit\r") == 1


def test_an_interrupted_start_can_be_repeated(tmp_path: Path) -> None:
    """An answer that arrives late is not taken for the answer to the next call, and its process is not used."""
    with Terminal(tmp_path, "--timeout", "86400", "--gossip-interval", "0") as terminal:
        run = Run(terminal)
        pid = run.stop("spawner")
        for _ in range(3):
            run.give_up("joinClient 7 0")
            run.give_up("joinServer 3")
        os.kill(pid, signal.SIGCONT)
        run.do("joinClient 7 0")
        run.do("joinServer 3")
        assert terminal.do("get 7 k") == ["k:v"]
        run.check_processes()
        run.check_links()


def test_a_watchdog_that_was_asked_in_vain_is_replaced(tmp_path: Path) -> None:
    with Terminal(tmp_path, "--timeout", "86400", "--gossip-interval", "0") as terminal:
        run = Run(terminal)
        watchdog = run.stop("watchdog 2")
        assert run.give_up("joinServer 2") == ["error: joinServer: " + NOT_STARTED.format("server 2")]
        wait_until(lambda: state(watchdog) in "Zx", "the watchdog to be gone")
        run.do("joinServer 2")
        run.check_processes()
        assert terminal.do("joinClient 2 0") == ["error: joinClient: id 2 is taken by a server"]
        run.check_links()


def test_a_server_that_waits_for_its_folder_is_taken_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Terminal(tmp_path, "--timeout", "86400", "--gossip-interval", "0", "--data-dir", str(data)) as terminal:
        run = Run(terminal)
        with (data / "server-2" / "lock").open("ab") as held:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert run.give_up("joinServer 2") == ["error: joinServer: " + NOT_STARTED.format("server 2")]
            run.check_processes()
        run.do("joinServer 2")
        run.check_processes()
        run.check_links()
