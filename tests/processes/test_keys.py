"""Every key with a binding in prompt_toolkit: none of them loses what is typed before or after it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from prompt_toolkit.input.ansi_escape_sequences import REVERSE_ANSI_SEQUENCES
from prompt_toolkit.key_binding.defaults import load_key_bindings
from prompt_toolkit.keys import Keys
from support.terminal import Terminal

CONTROL_A, CONTROL_B = "\x01", "\x02"
AFTER = "z"  # what is typed after a key that waits for another

MEANT = {
    *("c-h", "c-d", "delete"),  # deletes a letter
    *("c-w", "c-u", "c-k", "escape c-h", "escape d", "c-delete"),  # cuts, and Ctrl-Y brings it back
    *("c-_", "c-x c-u"),  # takes back the last change
    *("c-t", "escape c", "escape l", "escape u"),  # other letters, or in another order
    *("c-r", "c-s"),  # what is typed now is searched for, and shown as that
    *("up", "c-p", "c-up", "s-up", "pageup", "escape <"),  # shows a line of the history; what was typed is below it
    *("c-c", "c-c <", "c-c >"),  # drops the line
    "c-z",  # stops the master
    "c-x r k",  # is not bound where nothing can be selected
}
"""The keys whose purpose is to change a line."""


def sequences() -> list[tuple[str, ...]]:
    """All bindings, except those that begin with a letter (for another editing mode) or belong to the mouse."""
    found = {
        tuple(key.value if isinstance(key, Keys) else key for key in binding.keys)
        for binding in load_key_bindings().bindings
    }
    of_keyboard = {keys for keys in found if (len(keys[0]) > 1 and not keys[0].startswith("<")) or keys == ("<any>",)}
    return sorted(keys for keys in of_keyboard if " ".join(keys) not in MEANT)


def typed(keys: tuple[str, ...]) -> str | None:
    """What a terminal sends for these keys; None for one that no terminal has."""
    pieces = []
    for key in keys:
        if key == "<any>":
            pieces.append(AFTER)
        elif len(key) == 1:
            pieces.append(key)
        elif Keys(key) in REVERSE_ANSI_SEQUENCES:
            pieces.append(REVERSE_ANSI_SEQUENCES[Keys(key)])
        else:
            return None
    return "".join(pieces)


@pytest.mark.parametrize("place", ["at the end", "in the middle", "at the beginning"])
def test_no_key_loses_what_is_typed(tmp_path: Path, place: str) -> None:
    """Of `hello`, a key, and `WORLD`, all letters are in the lines that are entered, each word in its order."""
    move = {"at the end": "", "in the middle": CONTROL_B * 3, "at the beginning": CONTROL_A}[place]
    cases = {keys: text for keys in sequences() if (text := typed(keys)) is not None}
    assert len(cases) > 100
    history = tmp_path / ".local/state/daadkvs/history"
    with Terminal(tmp_path) as terminal:
        terminal.until_prompt()
        wrong, before = [], 0
        for number, (keys, text) in enumerate(cases.items()):
            terminal.type(f"hello{move}{text}WORLD\r")
            terminal.type(f"mark-{number}\r")
            terminal.until(partial(_ends_with, history, f"mark-{number}\n"), f"the end of {keys}")
            terminal.until_prompt()
            entered = history.read_text("utf-8", "surrogateescape")
            lines = "".join(entered[before:].splitlines()[:-1])
            before = len(entered)
            if not (_has("hello", lines) and _has("WORLD", lines)):
                wrong.append((keys, lines))
        assert not wrong, "\n".join(map(repr, wrong))


def test_what_was_typed_is_below_the_history(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.do("nonsense")
        terminal.type("hello")
        for up, down in (("\x1b[A", "\x1b[B"), ("\x10", "\x0e"), ("\x1b[1;2A", "\x1b[1;2B"), ("\x1b<", "\x1b>")):
            terminal.type(up)
            terminal.until(lambda: terminal.line == "daadkvs> nonsense", "the line of the history")
            terminal.type(down)
            terminal.until(lambda: terminal.line == "daadkvs> hello", "what was typed")
        terminal.type("\x03")
        terminal.until_prompt()


def test_keys_that_swallow_no_letter(tmp_path: Path) -> None:
    """In Emacs these keys swallow the next letter, although nothing shows that."""
    with Terminal(tmp_path) as terminal:
        for keys in (
            "\x00",
            "\x1b5",
            "\x1b-",
            "\x1be",
            "\x18(",
            "\x18e",
            "\x1dz",
            "\x1b\x1dz",
            "\x1b[1;2D",
            "\x1b[1;2C",
        ):
            letter = keys[-1] if keys[-1] not in "\x00DC" else ""
            line = f"hello{keys} world"
            terminal.until_prompt()
            count = terminal.prompts()
            terminal.type(line + "\r")
            terminal.until_prompt(count + 1)
            shown = terminal.lines[-3].removeprefix("daadkvs> ")
            assert shown == (f"hello{letter} world" if keys != "\x1b[1;2D" else "hell worldo"), keys


def _ends_with(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8", "surrogateescape").endswith(text)
    except FileNotFoundError:
        return False


def _has(word: str, text: str) -> bool:
    """Whether the letters of *word* are in *text*, in this order."""
    rest = iter(text)
    return all(letter in rest for letter in word)
