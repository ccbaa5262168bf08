"""Typing a line at a real terminal: editing, completion, hints, and a history that lasts.

May live here: everything that depends on prompt_toolkit. May not: what a line means; which words and hints are shown
(console/suggestions.py).

prompt_toolkit runs an event loop of its own for each line. A signal that ends the run is therefore only noted while
this loop runs. Then the line is given up, the terminal is restored, and the signal is handled.
"""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, get_common_complete_suffix
from prompt_toolkit.document import Document
from prompt_toolkit.filters import completion_is_selected
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from console.suggestions import Suggestion, hint, split

__all__ = ["LineEditor", "history_path"]

HISTORY_LINES = 2000
HISTORY_LINE_BYTES = 4096
"""How many lines the history file keeps at least, and how long they may be. Longer lines are forgotten with the run."""

MOVES = ("left", "right", "up", "down", "home", "end", "c-left", "c-right", "c-home", "c-end")
"""The keys that move the cursor. With Shift, they would select text, which the next letter would then replace."""

SWALLOWING: list[tuple[Keys | str, ...]] = [
    *(("escape", letter) for letter in "0123456789-aet"),
    *(("c-x", letter) for letter in "()e"),
    ("c-]", Keys.Any),
    ("escape", "c-]", Keys.Any),
]
"""Keys of Emacs that swallow the next letter, although nothing on the screen shows that."""

STYLE = Style.from_dict({"hint": "ansibrightblack", "hint.current": "ansibrightblack underline"})


Suggest = Callable[[list[str], str], list[Suggestion]]
"""Returns what may follow the given words, where so much of the next one has been typed."""


class LineEditor:
    """Lines typed at the terminal that is standard input, one after another."""

    def __init__(self, prompt: str, terminal: int, suggest: Suggest) -> None:
        """*terminal*: the descriptor of the terminal to write to."""
        colours = not os.environ.get("NO_COLOR")
        screen = io.TextIOWrapper(io.BufferedWriter(_Screen(terminal, "wb", closefd=False)), "utf-8")
        output = create_output(screen)
        if isinstance(output, Vt100_Output):
            output.enable_cpr = False  # asking for the position of the cursor disturbs what is being typed ahead
        assert isinstance(sys.stdin, io.TextIOWrapper)
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        self._pasted: list[str] = []
        self._begun = ""
        self._session: PromptSession[str] = PromptSession(
            prompt,
            history=_History(history_path()),
            completer=_Completer(suggest),
            complete_while_typing=False,
            enable_suspend=True,
            search_ignore_case=True,
            input_processors=[_Hints(colours)],
            key_bindings=self._bindings(),
            style=STYLE,
            input=create_input(sys.stdin),
            output=output,
        )

    def read(self) -> list[str]:
        """The next line, or several lines if they were pasted. Bytes that are not valid UTF-8 become surrogates.

        Blocks. Raises EOFError for Ctrl-D or the end of the terminal, and KeyboardInterrupt for Ctrl-C.
        """
        self._pasted = []
        begun, self._begun = self._begun, ""
        with self._signals_noted() as noted:
            first = self._session.prompt(
                default=begun, handle_sigint=False, pre_run=lambda: self._give_up() if noted else None
            )
        for line in self._pasted:
            if line:
                self._session.history.append_string(line)
        return [*first.split("\n"), *self._pasted]  # a line end can be typed too, with Ctrl-Q

    def forget(self) -> None:
        """Drop the last line of what was pasted, which had no line end and would be offered for editing next."""
        self._begun = ""

    @contextmanager
    def _signals_noted(self) -> Iterator[list[int]]:
        """Within this block, signals only give up the line. They are handled at its end. Yields the list of them.

        (asyncio wakes up for every signal with a handler as long as it has a handler itself, here that of SIGWINCH.)
        """
        noted: list[int] = []

        def note(signum: int, _: FrameType | None) -> None:
            noted.append(signum)
            loop = self._session.app.loop
            if loop is not None:
                loop.call_soon_threadsafe(self._give_up)

        handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
        for signum, handler in handlers.items():
            if callable(handler):  # those that are ignored stay ignored
                signal.signal(signum, note)
        try:
            yield noted
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            for signum, handler in handlers.items():
                if signum in noted and signum != signal.SIGINT and callable(handler):
                    handler(signum, None)
            if noted:
                raise KeyboardInterrupt

    def _give_up(self) -> None:
        app = self._session.app
        if app.future is not None and not app.future.done():
            app.exit(exception=EOFError())

    # -- keys ----------------------------------------------------------------------------------------------

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("tab")
        def _(event: KeyPressEvent) -> None:
            _complete(event.current_buffer)

        @bindings.add("enter", filter=completion_is_selected)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.complete_state = None  # the highlighted word is in the line already; close the menu

        @bindings.add("c-@")
        def _(event: KeyPressEvent) -> None:
            """Do nothing. Ctrl-Space would begin a selection, in which nothing can be typed."""

        for move in MOVES:
            shifted = f"c-s-{move[2:]}" if move.startswith("c-") else f"s-{move}"
            bindings.add(shifted)(partial(_press, KeyPress(Keys(move))))
        for keys in SWALLOWING:
            bindings.add(*keys)(_press_last)

        @bindings.add(Keys.BracketedPaste)
        def _(event: KeyPressEvent) -> None:
            self._paste(event.current_buffer, event.data)

        return bindings

    def _paste(self, buffer: Buffer, text: str) -> None:
        """Insert what was pasted. If it has line ends, all its lines count as entered, except the last."""
        first, *others = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if not others:
            buffer.insert_text(first)
            return
        before, after = buffer.document.text_before_cursor, buffer.document.text_after_cursor
        *self._pasted, last = others
        self._begun = last + after
        buffer.document = Document(before + first)
        buffer.validate_and_handle()


def _press(key: KeyPress, event: KeyPressEvent) -> None:
    """Behave as if this key had been pressed instead."""
    event.key_processor.feed(key, first=True)


def _press_last(event: KeyPressEvent) -> None:
    """Behave as if only the last of several keys had been pressed."""
    _press(event.key_sequence[-1], event)


class _Screen(io.FileIO):
    """A terminal that may disappear. What is written after that is lost, and the end of its input ends the run."""

    def write(self, data: object) -> int:
        """Write bytes; returns how many were written."""
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError:
            return len(data)  # type: ignore[arg-type]


# -- completion and hints ----------------------------------------------------------------------------------


def _complete(buffer: Buffer) -> None:
    """Complete the word at the cursor as far as it is unambiguous, or else show what fits.

    This happens at once, and not in the background, so that typing ahead works.
    """
    if buffer.complete_state:
        buffer.complete_next()
        return
    assert buffer.completer is not None
    found = list(buffer.completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
    if len(found) == 1:
        buffer.apply_completion(found[0])
    elif found:
        buffer.insert_text(get_common_complete_suffix(buffer.document, found))
        buffer.start_completion()


class _Completer(Completer):
    """Completes words. Upper and lower case count as equal in the name of a command."""

    def __init__(self, suggest: Suggest) -> None:
        self._suggest = suggest

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        whole, typed = split(document.text_before_cursor)
        try:
            suggested = self._suggest(whole, typed)
        except Exception:  # an internal error, which need not disturb the user
            return
        for word, note, more in suggested:
            if word.startswith(typed) or (not whole and word.lower().startswith(typed.lower())):
                yield Completion(word + " " * more, -len(typed), display=word, display_meta=note)


class _Hints(Processor):
    """Shows in grey, after the line, the words that are still missing, or that Ctrl-R finds nothing.

    Without colours, they are shown in angle brackets.
    """

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        document = transformation_input.document
        shown: StyleAndTextTuples = list(transformation_input.fragments)
        app = get_app()
        if app.layout.is_searching:
            if app.current_buffer.text.lower() not in document.text.lower():
                shown.append(("class:hint", self._marked("  no match in history")))
        elif document.is_cursor_at_the_end and not app.is_done:
            for text, current in hint(document.text):
                shown.append(("class:hint.current" if current else "class:hint", self._marked(text)))
        return Transformation(shown)

    def _marked(self, text: str) -> str:
        word = text.lstrip()
        return text if self._colours else f"{text[: len(text) - len(word)]}<{word}>"


# -- history -----------------------------------------------------------------------------------------------


def history_path() -> Path | None:
    """The file that keeps the history; None if there is no folder for it."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.expanduser("~/.local/state")
    return Path(state, "daadkvs", "history") if os.path.isabs(state) else None


class _History(InMemoryHistory):
    """The lines of this run and of earlier ones, in a file that only its user can read. It never raises."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = self._read()
        if len(lines) > 2 * HISTORY_LINES:
            lines = lines[-HISTORY_LINES:]
            self._write(lines, os.O_TRUNC)
        super().__init__(lines)

    def store_string(self, string: str) -> None:
        """Keep a line for later runs."""
        super().store_string(string)
        if len(string) <= HISTORY_LINE_BYTES:
            self._write([string], os.O_APPEND)

    def _read(self) -> list[str]:
        try:
            # O_NONBLOCK: the name may belong to something else, such as a pipe.
            fd = os.open(self._path or "", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                text = file.read() if stat.S_ISREG(os.fstat(fd).st_mode) else ""
        except OSError:
            return []
        # An editor may have added a byte order mark, or changed the line ends.
        return [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")[:-1]]

    def _write(self, lines: list[str], how: int) -> None:
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        try:
            if self._path is not None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | how
                fd = os.open(self._path, flags, 0o600)
                try:
                    os.write(fd, data)
                finally:
                    os.close(fd)
        except OSError:
            pass  # a line that can't be kept is forgotten with the run
