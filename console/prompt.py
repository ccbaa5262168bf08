"""The prompt: what a user types at a terminal, and what is shown there.

May live here: the prompt's own commands, what is written to the terminal, Ctrl-C. May not: how a line is edited
(console/line_editor.py), what may come next in it (console/suggestions.py), what a command means or does, and texts for
help (console/help.py).

Only the answers of commands are written to stdout. Everything that is written here goes to the terminal itself, and
errors go to stderr. On a terminal without any capabilities (TERM=dumb), lines are read without editing and colours.

Ctrl-C drops the line that is being typed, or ends the waiting for the command that is running. For this purpose every
signal that is caught also writes a byte into a pipe, which wakes up whoever waits for a process or for a line.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from console import environment, help, status
from console.output import hidden_when_writing
from console.playing import Player, read_terminal
from console.prompt_output import PromptOutput
from console.suggestions import QUOTED, Suggestion, is_quoted, suggestions
from console.waiting import Waiting
from control import commands, explaining
from rpc import tracing, transport

if TYPE_CHECKING:
    from console.text_output import TextOutput
    from control.cluster import Cluster
    from control.overview import Overview
    from control.script import Step

__all__ = ["Prompt", "Run"]

PROMPT = "daadkvs> "

USUAL_COLUMNS, USUAL_ROWS = 80, 24
"""The size that is assumed if the terminal does not report one."""

FEWEST_COLUMNS = 20
"""On a narrower terminal, lines are left to wrap."""

KEYS = 1000
KEY_CHARACTERS = 100
"""How many keys are remembered for completion, and how long they may be."""

FILES = 200
"""How many files are suggested at most."""

PLACES = 5
"""How many places of ERR_DEP are named at most."""

FILE_WORDS = ("run", "step", "report")
ARGUMENTS = {"help": (0, 1), "why": (0, 1), "run": (1, 1), "step": (1, 1), "report": (0, 1)}
"""How many words may follow a word of the prompt, at least and at most; for others, none."""

REPORT = Path(__file__).resolve().parent.parent / "scripts" / "report.py"

_BLANKS = re.compile("[ \t]+")

COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m"}
PLAIN = "\x1b[0m"


class Run(Protocol):
    """What the prompt needs from the run that it is a part of (`master.Master`)."""

    cluster: Cluster
    output: TextOutput

    def run_line(self, line: bytes, where: str) -> bool:
        """Carry out one line, and print its answer or error; returns whether there was no error."""

    def run_step(self, step: Step) -> None:
        """Carry out one step of a script, and print its answer or error."""

    def carrying_out(self, name: str) -> None:
        """From now on, errors are those of this command, which stands in no script."""

    def error(self, text: str) -> None:
        """Show an error."""

    def internal_error(self, name: str, error: Exception) -> None:
        """Show an internal error in the command or the part of the program that *name* describes."""


class _Lines(Protocol):
    """A source of lines."""

    def read(self) -> list[str]:
        """The next line, or several that were pasted. Blocks.

        Raises EOFError at the end, and KeyboardInterrupt for Ctrl-C.
        """

    def forget(self) -> None:
        """Drop the rest of what was pasted."""


class Prompt:
    """The conversation of a run with its user. It must be made before the cluster, whose calls it can interrupt."""

    def __init__(self, master: Run) -> None:
        self._master = master
        self._output = PromptOutput(lambda: master.cluster)
        master.output = self._output
        self._keys: dict[str, None] = {}
        self._number = 0
        """How many lines have been typed."""
        self._before: Overview | None = None
        """What `status` has shown last."""
        self._interrupted = False
        self.woken, self._waker = os.pipe()
        for fd in (self.woken, self._waker):
            os.set_blocking(fd, False)
        transport.interrupt_by(self.woken)
        self.terminal = _terminal()
        self.capable = os.isatty(self.terminal) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        self._waiting = Waiting(
            self.capable,
            lambda text: _show(self.terminal, text),
            self.columns,
            lambda: master.cluster.awaited(),
        )

    def interrupt(self, *_: object) -> None:
        """Handle SIGINT."""
        self._interrupted = self._waiting.echoed = True

    def columns(self) -> int:
        """How wide the terminal is."""
        return _size(self.terminal)[0]

    def interrupted(self) -> bool:
        """See `console.playing.Stage`."""
        return self._interrupted

    def run(self, greeting: str) -> None:
        """Carry out what is typed until exit, quit or Ctrl-D."""
        lines = self._lines()
        if self.capable and os.isatty(2) and not os.environ.get("NO_COLOR"):
            self._master.output.dress = _coloured
        self._tell(greeting)
        self._wake_by_signals()
        try:
            while True:
                try:
                    typed = lines.read()
                except EOFError:
                    self._tell("")
                    return
                except KeyboardInterrupt:
                    continue
                except Exception as error:
                    if isinstance(lines, _PlainLines):
                        raise
                    self._master.internal_error("editing lines", error)
                    lines = self._plain_lines()
                    continue
                if not self._run_all(typed):
                    return
                if self._settle():
                    lines.forget()
        finally:
            signal.set_wakeup_fd(-1)
            self._settle()

    def _lines(self) -> _Lines:
        if self.capable:
            try:
                from console.line_editor import LineEditor  # not at the top: only terminals need it

                return LineEditor(PROMPT, self.terminal, self._suggestions)
            except ModuleNotFoundError as error:
                self._tell(f"(lines can't be edited without the package {error.name}; {environment.advice()})")
        return self._plain_lines()

    def _plain_lines(self) -> _PlainLines:
        return _PlainLines(self.terminal, self.woken, self._settle)

    def _suggestions(self, words: list[str], typed: str) -> list[Suggestion]:
        if words and words[0] in FILE_WORDS:
            return [Suggestion(name) for name in _files(typed)] if len(words) == 1 else []
        return suggestions(words, self._master.cluster.overview(), self._keys)

    def _wake_by_signals(self) -> None:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def _settle(self) -> bool:
        """Forget a Ctrl-C that has had no effect, because it arrived too late; returns whether there was one."""
        _drain(self.woken)
        interrupted, self._interrupted = self._interrupted, False
        self._waiting.hide()
        return interrupted

    def _tell(self, text: str) -> None:
        self.show(text + "\n")

    def show(self, text: str) -> None:
        """Write to the terminal."""
        self._waiting.hide()
        _show(self.terminal, text)

    # -- what was typed ------------------------------------------------------------------------------------

    def _run_all(self, typed: list[str]) -> bool:
        """Carry out lines that were pasted, until Ctrl-C; returns whether the prompt goes on."""
        self._wake_by_signals()  # again, since prompt_toolkit has changed it
        self._settle()
        for number, line in enumerate(typed):
            if self._interrupted:
                self._tell(f"(the {len(typed) - number} pasted lines that follow are dropped)")
                return True
            if number:
                self._tell(PROMPT + "".join(c if c.isprintable() else " " for c in line))
            if not self._run(line):
                return False
        return True

    def _run(self, line: str) -> bool:
        """Carry out a line; returns whether the prompt goes on."""
        self._number += 1
        name, *words = _BLANKS.split(line.strip(" \t"))
        if name in commands.PROMPT_WORDS:
            return self._run_word(name, line.strip(" \t")[len(name) :].lstrip(" \t"))
        if not name or name.startswith("#") or name in commands.COMMANDS:
            with self._waited_for():
                succeeded = self._master.run_line(line.encode("utf-8", "surrogateescape"), f"line {self._number}")
            if self._interrupted and succeeded:
                self._tell("(the command was carried out nevertheless)")
            if name == "put" and len(words) >= 3 and len(words[1]) <= KEY_CHARACTERS:
                self._remember(words[1])
            if name in ("put", "get") and succeeded and len(words) > 1 and is_quoted(words[1]):
                self._tell(QUOTED)
        else:
            word = name.encode("utf-8", "surrogateescape")
            self._master.error(commands.unknown(word, commands.ALL_WORDS))
        return True

    def _run_word(self, name: str, rest: str) -> bool:
        """Carry out a word of the prompt, with the *rest* of its line; returns whether the prompt goes on."""
        words = _BLANKS.split(rest) if rest else []
        if name in FILE_WORDS:
            words = [rest] if rest else []  # the name of a file may have blanks
        fewest, most = ARGUMENTS.get(name, (0, 0))
        if not fewest <= len(words) <= most:
            self._master.error(f"{name}: wrong number of words; usage: {commands.prompt_usage(name)}")
            return True
        if name in ("exit", "quit"):
            return False
        carry_out: dict[str, Callable[..., None]] = {
            "help": self._help,
            "status": self._status,
            "why": self._why,
            "run": self._play,
            "step": lambda file: self._play(file, stepping=True),
            "report": self._report,
        }
        try:
            carry_out[name](*words)
        except Exception as error:  # an internal error, which is no reason to end the run
            self._master.internal_error(name, error)
        return True

    @contextmanager
    def _waited_for(self) -> Iterator[None]:
        """Within this block, it is said who is waited for, once that takes long."""
        self._waiting.begin()
        with hidden_when_writing(self._waiting):
            yield

    def _remember(self, key: str) -> None:
        self._keys.pop(key, None)
        self._keys[key] = None
        if len(self._keys) > KEYS:
            del self._keys[next(iter(self._keys))]

    def _help(self, word: str = "") -> None:
        width = self.columns()
        if not word:
            self._tell("\n".join(help.listed(width)))
        elif word in commands.ALL_WORDS or word in help.TOPICS or word in help.ANSWERS:
            self._tell("\n".join(help.about(word, width)))
        else:
            data = word.encode("utf-8", "surrogateescape")
            self._master.error(f"help: {commands.unknown(data, (*commands.ALL_WORDS, *help.TOPICS))}")

    def _status(self) -> None:
        self._master.carrying_out("status")
        width, rows = _size(self.terminal)
        before, self._before = self._before, self._master.cluster.status()
        self._tell("\n".join(status.draw(self._before, width, rows - 1, before)))

    def _why(self, line: str = "") -> None:
        if line and not (line.isdecimal() and len(line) <= 18):
            self._master.error(f"why: not the number of a line: {line}")
            return
        found = self._output.find(int(line) if line else None)
        if found is None:
            places = [explained.where for explained in self._output.explained][-PLACES:]
            known = f"; it was said in {', '.join(places)}" if places else "; ERR_KEY says that there is no value"
            self._tell(f"(no get has said ERR_DEP{f' in line {line}' if line else ' so far'}{known})")
            return
        width = self.columns()
        command = explaining.shown(found.command.line)
        lines = status.wrapped("", f"{found.where}: {command} says ERR_DEP.", width)
        for reason in found.reasons or ["What the servers had could not be found out."]:
            lines += status.wrapped("- ", reason, width)
        self._tell("\n".join(lines))

    def _play(self, name: str, stepping: bool = False) -> None:
        word = "step" if stepping else "run"
        try:
            failure = Player(self, name, stepping).play()
        except OSError as error:
            failure = str(error.strerror)
        self._master.carrying_out(word)
        if failure:
            self._master.error(f"{word}: {name}: {failure}")

    def carry_out(self, step: Step) -> None:
        """See `console.playing.Stage`."""
        with self._waited_for():
            self._master.run_step(step)

    def _report(self, name: str = "") -> None:
        folder = tracing.folder()
        if folder is None:
            self._master.error("report: this session is not traced; begin one with ./master --trace DIR")
            return
        page = Path(name).expanduser() if name else folder / "report.html"
        command = [sys.executable, str(REPORT), str(folder), "-o", str(page)]
        import subprocess  # not at the top: few sessions need it

        with self._waited_for():
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if self._interrupted:
            self._master.error("report: given up")
        elif done.returncode:
            text = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            self._master.error(f"report: {text.removeprefix('error: ')}")
        else:
            self._tell(f"{page} shows the session so far; open it in a browser")


def _coloured(text: str) -> str:
    """An error or a warning with its first word in colour."""
    kind, colon, rest = text.partition(":")
    return f"{COLOURS[kind]}{kind}{colon}{PLAIN}{rest}" if kind in COLOURS else text


# -- the terminal ------------------------------------------------------------------------------------------


class _PlainLines:
    """Lines that are edited by the means of the terminal itself."""

    def __init__(self, terminal: int, woken: int, interrupted: Callable[[], bool]) -> None:
        """*woken* is a descriptor that is readable after a signal; *interrupted* then says whether it was Ctrl-C."""
        self._terminal = terminal
        self._woken = woken
        self._interrupted = interrupted

    def read(self) -> list[str]:
        """See `_Lines.read`."""
        _show(self._terminal, PROMPT)
        data = b""
        while not data.endswith(b"\n"):
            if self._woken in select.select([0, self._woken], [], [])[0]:
                if self._interrupted():
                    _show(self._terminal, "\n")
                    raise KeyboardInterrupt
                continue
            piece = read_terminal(65536)
            if not piece:
                break
            data += piece
        if not data:
            raise EOFError
        return data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")

    def forget(self) -> None:
        """See `_Lines.forget`."""


def _terminal() -> int:
    """The descriptor of the terminal to write to: stderr, or this process's own terminal if stderr is none."""
    if not os.isatty(2):
        try:
            return os.open("/dev/tty", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            pass  # then stderr is used
    return 2


def _size(terminal: int) -> tuple[int, int]:
    """The columns and rows of the terminal; `USUAL_COLUMNS` and `USUAL_ROWS` if they are not known."""
    try:
        columns, rows = os.get_terminal_size(terminal)  # 0 if they have not been set
    except OSError:
        columns = rows = 0
    return max(columns or USUAL_COLUMNS, FEWEST_COLUMNS), rows or USUAL_ROWS


def _files(typed: str) -> list[str]:
    """The files and folders whose names begin with what has been typed; folders end with a slash."""
    folder, _, begin = typed.rpartition("/")
    place = Path(folder + "/" if "/" in typed else ".").expanduser()
    try:
        with os.scandir(place) as entries:
            found = [entry.name + "/" * entry.is_dir() for entry in entries if entry.name.startswith(begin)]
    except OSError:
        return []
    shown = [name for name in found if begin or not name.startswith(".")]
    return [typed[: len(typed) - len(begin)] + name for name in sorted(shown)[:FILES]]


def _show(fd: int, text: str) -> None:
    """Write to the terminal. If it has disappeared, the text is lost, and the end of its input ends the run."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
