"""A folder of scripts, each of which is a test, and what is said about them beside it.

May live here: which files are tests, where settings stand, and what is wrong with either. May not: what is right
(grading/expected.py), and what a setting may be (grading/settings.py).

    tests/
        sessions.txt      a script; its first lines may be settings: `#: points = 2`, as in TOML
        sessions.out      what it must print; without it, all that Daadkvs may print is right
        tests.toml        settings of all tests in [defaults], and of one in [tests.sessions]

What stands in [tests.NAME] counts more than the script's own header, and that more than [defaults].
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from control.commands import CommandError, parse
from grading.cases import Case, Question
from grading.expected import BadExpectation, allowed, allowed_by_outcomes, allowed_by_output
from grading.settings import CONFLICTS, BadSetting, Settings

__all__ = ["FILE", "NoSuite", "Suite", "read_suite", "script_files", "start_file"]

FILE = "tests.toml"
SUFFIXES = (".txt", ".in", ".kvs", ".script", "")
"""How names of scripts end."""

_HEADER = re.compile(r"#:(.*)")


class NoSuite(Exception):
    """The folder can't be used at all; the text says why."""


class Suite(NamedTuple):
    """The tests of a folder, in the order of their names."""

    cases: tuple[Case, ...]
    problems: tuple[str, ...]
    """What is wrong with those that are left out, a line each."""


class _BadTest(Exception):
    """This test is left out; the text says why."""


def script_files(folder: Path) -> list[Path]:
    """The scripts in a folder. Raises NoSuite."""
    try:
        found = [path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()]
    except OSError as error:
        raise NoSuite(f"{folder}: {error.strerror}") from error
    found = sorted(path for path in found if not path.name.startswith("."))
    if not found:
        raise NoSuite(f"{folder}: no scripts there; their names end in {', '.join(filter(None, SUFFIXES))} or nothing")
    return found


def read_suite(folder: Path, only: Sequence[str] = (), overrides: dict[str, Any] | None = None) -> Suite:
    """The tests of a folder. *only*: their names, if not all; *overrides*: settings that count most.

    Raises NoSuite where none can be had.
    """
    files = script_files(folder)
    given = _settings_file(folder)
    cases: dict[str, Case] = {}
    problems = []
    unknown = sorted({*given.tests, *only} - {path.stem for path in files})
    problems += [f"{folder}: there is no test {name!r}" for name in unknown]
    for path in files:
        if only and path.stem not in only:
            continue
        try:
            if path.stem in cases:
                raise _BadTest("another script has the same name")
            cases[path.stem] = _read_case(path, given, overrides or {})
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
        except (_BadTest, BadSetting, BadExpectation) as error:
            problems.append(f"{path}: {error}")
    if not cases:
        raise NoSuite("\n".join(problems) or f"{folder}: no test is left")
    return Suite(tuple(cases.values()), tuple(problems))


@dataclass(frozen=True)
class _Given:
    """What tests.toml says."""

    defaults: Settings
    tests: dict[str, dict[str, Any]]


def _settings_file(folder: Path) -> _Given:
    path = folder / FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return _Given(Settings(), {})
    except (OSError, UnicodeDecodeError) as error:
        raise NoSuite(f"{path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    try:
        found = tomllib.loads(text)
        unknown = found.keys() - {"defaults", "tests"}
        if unknown:
            raise BadSetting(f"there are tables [defaults] and [tests.NAME], but no {sorted(unknown)[0]!r}")
        defaults, tests = found.get("defaults", {}), found.get("tests", {})
        if not isinstance(defaults, dict) or not all(isinstance(one, dict) for one in (tests, *tests.values())):
            raise BadSetting("defaults and tests are tables")
        for name, settings in tests.items():
            Settings().changed(_of_test(name, settings))
        return _Given(Settings().changed(defaults), tests)
    except (tomllib.TOMLDecodeError, BadSetting) as error:
        raise NoSuite(f"{path}: {error}") from error


def _of_test(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of one test, checked now so that a mistake in them is told once. Raises BadSetting."""
    try:
        Settings().changed(settings)
    except BadSetting as error:
        raise BadSetting(f"test {name!r}: {error}") from None
    return settings


def _read_case(path: Path, given: _Given, overrides: dict[str, Any]) -> Case:
    lines = [line.removesuffix(b"\r") for line in path.read_bytes().split(b"\n")]
    if lines[-1] == b"":
        lines.pop()
    settings = given.defaults.changed(_header(lines)).changed(given.tests.get(path.stem, {})).changed(overrides)
    numbers, questions, keys, errors = _commands(lines, settings.comments)
    right, refused = allowed(lines, settings.conflicts)
    errors += [(line, "it can't be carried out") for line in refused if line not in dict(errors)]
    if errors and not settings.errors:
        line, why = min(errors)
        raise _BadTest(f"line {line} is an error ({why}); a test that wants it says `errors = true`")
    questions = [question for question in questions if question.line not in dict(errors)]
    keys |= {question.key for question in questions if question.key is not None}
    output = path.with_suffix(".out")
    if output.exists():
        try:
            right = allowed_by_output(output.read_bytes(), questions, frozenset(keys), right)
        except BadExpectation as error:
            raise _BadTest(f"{output.name} doesn't fit it: {error}") from None
    elif settings.conflicts == CONFLICTS[0]:
        try:
            right = allowed_by_outcomes(lines, questions, frozenset(keys), right)
        except BadExpectation as error:
            raise _BadTest(str(error)) from None
    script = tuple(lines[number - 1] for number in numbers)
    return Case(path.stem, script, tuple(numbers), tuple(questions), frozenset(keys), right, settings)


def _header(lines: list[bytes]) -> dict[str, Any]:
    """The settings in the first lines of a script."""
    found = []
    for line in lines:
        text = line.decode("utf-8", "replace")
        setting = _HEADER.match(text)
        if setting:
            found.append(setting[1].strip())
        elif text.strip() and not text.startswith("#"):
            break
    try:
        return tomllib.loads("\n".join(found))
    except tomllib.TOMLDecodeError as error:
        raise _BadTest(f"its header is not TOML: {error}") from None


def _commands(
    lines: list[bytes], comments: bool
) -> tuple[list[int], list[Question], set[bytes], list[tuple[int, str]]]:
    """The lines that programs are fed with, what they are asked, the keys that are put, and what is an error."""
    numbers: list[int] = []
    questions = []
    keys = set()
    errors = []
    for number, line in enumerate(lines, 1):
        try:
            command = parse(line)
        except CommandError as error:
            command = None
            errors.append((number, str(error)))
        else:
            if command is None and not comments:
                continue
            if command is not None and command.name == "shapeConnection":
                errors.append((number, "shapeConnection: not one of the nine commands that every program knows"))
        numbers.append(number)
        if command is not None and command.name in ("get", "printStore"):
            key = command.key if command.name == "get" else None
            questions.append(Question(number, len(numbers) - 1, line.strip(b" \t"), key))
        elif command is not None and command.name == "put":
            keys.add(command.key)
    return numbers, questions, keys, errors


def start_file(folder: Path) -> str:
    """A tests.toml to begin with, for the scripts that are there. Raises NoSuite."""
    names = [path.stem for path in script_files(folder)]
    tests = "\n".join(f"[tests.{_quoted(name)}]\npoints = 1\n" for name in names)
    return f"""\
# The settings of the tests in this folder; docs/grading.md explains them.

[defaults]
timeout = 10            # seconds
runs = 1                # how often each test is run
credit = "answers"      # each right answer counts; or "script": all or nothing
visibility = "visible"  # or "hidden", "after_due_date", "after_published"
order = "sorted"        # of what printStore prints; or "free"
conflicts = "last put"  # stands after concurrent puts; or "any, but everywhere the same"

{tests}"""


def _quoted(name: str) -> str:
    """A name as a key of TOML."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
