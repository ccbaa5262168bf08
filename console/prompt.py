"""The prompt: what a user types at a terminal, and what is shown there.

May live here: the prompt's own commands (help, status, exit, quit), what is written to the terminal, Ctrl-C. May not:
how a line is edited (console/line_editor.py), what may come next in it (console/suggestions.py), what a command means
or does.

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
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from console import environment, status
from control import commands
from rpc import transport

if TYPE_CHECKING:
    from console.suggestions import Suggestion
    from console.text_output import TextOutput
    from control.cluster import Cluster

__all__ = ["Prompt", "Run"]

PROMPT = "daadkvs> "

USUAL_COLUMNS = 80
"""The width that is assumed if the terminal does not report one."""

FEWEST_COLUMNS = 20
"""On a narrower terminal, lines are left to wrap."""

KEYS = 1000
KEY_CHARACTERS = 100
"""How many keys are remembered for completion, and how long they may be."""

_BLANKS = re.compile("[ \t]+")

COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m"}
PLAIN = "\x1b[0m"


class Run(Protocol):
    """What the prompt needs from the run that it is a part of (`master.Master`)."""

    cluster: Cluster
    output: TextOutput

    def run_line(self, line: bytes) -> bool:
        """Carry out one line, and print its answer or error; returns whether there was no error."""

    def carrying_out(self, name: str) -> None:
        """From now on, errors are those of this command."""

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
        self._keys: dict[str, None] = {}
        self._interrupted = False
        self._woken, self._waker = os.pipe()
        for fd in (self._woken, self._waker):
            os.set_blocking(fd, False)
        transport.interrupt_by(self._woken)
        self._terminal = _terminal()
        self._capable = os.isatty(self._terminal) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")

    def interrupt(self, *_: object) -> None:
        """Handle SIGINT."""
        self._interrupted = True

    def run(self, greeting: str) -> None:
        """Carry out what is typed until exit, quit or Ctrl-D."""
        lines = self._lines()
        if self._capable and os.isatty(2) and not os.environ.get("NO_COLOR"):
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
        if self._capable:
            try:
                from console.line_editor import LineEditor  # not at the top: only terminals need it

                return LineEditor(PROMPT, self._terminal, self._suggestions)
            except ModuleNotFoundError as error:
                self._tell(f"(lines can't be edited without the package {error.name}; {environment.advice()})")
        return self._plain_lines()

    def _plain_lines(self) -> _PlainLines:
        return _PlainLines(self._terminal, self._woken, self._settle)

    def _suggestions(self, words: list[str]) -> list[Suggestion]:
        from console.suggestions import suggestions

        return suggestions(words, self._master.cluster.overview(), self._keys)

    def _wake_by_signals(self) -> None:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def _settle(self) -> bool:
        """Forget a Ctrl-C that has had no effect, because it arrived too late; returns whether there was one."""
        _drain(self._woken)
        interrupted, self._interrupted = self._interrupted, False
        return interrupted

    def _tell(self, text: str) -> None:
        _show(self._terminal, text + "\n")

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
        name, *words = _BLANKS.split(line.strip(" \t"))
        if name in commands.PROMPT_WORDS:
            return self._run_word(name, words)
        if not name or name.startswith("#") or name in commands.COMMANDS:
            succeeded = self._master.run_line(line.encode("utf-8", "surrogateescape"))
            if self._interrupted and succeeded:
                self._tell("(the command was carried out nevertheless)")
            if name == "put" and len(words) >= 3 and len(words[1]) <= KEY_CHARACTERS:
                self._remember(words[1])
        else:
            word = name.encode("utf-8", "surrogateescape")
            self._master.error(commands.unknown(word, commands.ALL_WORDS))
        return True

    def _run_word(self, name: str, words: list[str]) -> bool:
        if len(words) > (name == "help"):
            self._master.error(f"{name}: wrong number of words; usage: {name}{' COMMAND' * (name == 'help')}")
        elif name in ("help", "status"):
            try:
                if name == "help":
                    self._help(words)
                else:
                    self._status()
            except Exception as error:  # an internal error, which is no reason to end the run
                self._master.internal_error(name, error)
        else:
            return False
        return True

    def _remember(self, key: str) -> None:
        self._keys.pop(key, None)
        self._keys[key] = None
        if len(self._keys) > KEYS:
            del self._keys[next(iter(self._keys))]

    def _help(self, words: list[str]) -> None:
        width = _columns(self._terminal)
        if not words:
            self._tell("\n".join(_listed(_usages(), width)))
        elif words[0] in commands.ALL_WORDS:
            usage, summary = next((usage, text) for usage, text in _usages().items() if usage.split()[0] == words[0])
            self._tell("\n".join([usage, *status.wrapped("  ", summary, width)]))
        else:
            word = words[0].encode("utf-8", "surrogateescape")
            self._master.error(f"help: {commands.unknown(word, commands.ALL_WORDS)}")

    def _status(self) -> None:
        self._master.carrying_out("status")
        overview = self._master.cluster.status()
        self._tell("\n".join(status.draw(overview, _columns(self._terminal))))


def _usages() -> dict[str, str]:
    return {commands.usage(name): form.summary for name, form in commands.COMMANDS.items()} | commands.PROMPT_WORDS


def _listed(texts: dict[str, str], width: int) -> Iterable[str]:
    """Usages with their summaries beside them, or below them if there is little room."""
    usages = max(map(len, texts))
    beside = usages + 2 <= width // 2
    for usage, summary in texts.items():
        if not beside:
            yield usage
        yield from status.wrapped(f"{usage:{usages}}  " if beside else "  ", summary, width)


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
            piece = _read_terminal()
            if not piece:
                break
            data += piece
        if not data:
            raise EOFError
        return data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")

    def forget(self) -> None:
        """See `_Lines.forget`."""


def _read_terminal() -> bytes:
    try:
        return os.read(0, 65536)
    except OSError:
        return b""  # the terminal has disappeared


def _terminal() -> int:
    """The descriptor of the terminal to write to: stderr, or this process's own terminal if stderr is none."""
    if not os.isatty(2):
        try:
            return os.open("/dev/tty", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            pass  # then stderr is used
    return 2


def _columns(terminal: int) -> int:
    """The width of the terminal; `USUAL_COLUMNS` if it is not known."""
    try:
        columns = os.get_terminal_size(terminal).columns  # 0 if it has not been set
    except OSError:
        columns = 0
    return max(columns or USUAL_COLUMNS, FEWEST_COLUMNS)


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
