"""The lessons in docs/lessons/ show what their scripts in examples/ print now."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from checking.driver import ROOT
from checking.driver import run as run_master
from checking.exercises import Exercise, exercises
from checking.lessons import EXAMPLES, PAGES, learn, scripts, text
from checking.outcomes.analysis import outcomes
from checking.rumours import picture

SCRIPTS = scripts()
TRACED = [script for script in SCRIPTS if script.stem != "8-rumours"]
EXERCISES = {
    f"{script.stem} {number}": exercise
    for script in SCRIPTS
    for number, exercise in enumerate(exercises(EXAMPLES / "exercises" / script.name), 1)
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_page_shows_what_the_script_does(script: Path, tmp_path: Path) -> None:
    """If this fails after an intended change, call `make pages`."""
    assert text(learn(script, tmp_path)) == (PAGES / f"{script.stem}.md").read_text("utf-8")


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_a_solution_prints_what_stands_in_it(exercise: Exercise) -> None:
    result = run_master(exercise.script, "--gossip-interval", "0")
    assert (result.stdout.decode(), result.stderr, result.status) == (exercise.printed, "", 0)


def test_each_lesson_has_exercises_and_each_exercise_a_lesson() -> None:
    assert {name.split()[0] for name in EXERCISES} == {script.stem for script in SCRIPTS}
    assert {path.stem for path in (EXAMPLES / "exercises").iterdir()} == {script.stem for script in SCRIPTS}


def test_the_solutions_of_what_can_this_print_have_one_output() -> None:
    for exercise in exercises(EXAMPLES / "exercises" / "9-outcomes.txt"):
        assert outcomes(exercise.script.encode()).is_always_the_same
        lines = exercise.script.splitlines(keepends=True)
        without = "".join(line for line in lines if not line.startswith(("stabilize", "breakConnection")))
        assert len(outcomes(without.encode()).outcomes) == 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_page_asks_before_it_tells(script: Path) -> None:
    """What a command prints stands in the folded answers only, below the question about it."""
    page = (PAGES / f"{script.stem}.md").read_text("utf-8").partition("## What happened")[0]
    assert page.count("<details") == page.count("</details>") > 0
    unfolded = re.sub("<details.*?</details>", "", page, flags=re.DOTALL)
    listed = re.findall(r"^    ( +\d+ )? +(.*)", unfolded, re.MULTILINE)
    assert listed and all(number for number, line in listed if line != "…")
    asked = re.findall(r"What will lines? ([\d, and]+) print", page)
    numbers = [number for question in asked for number in re.findall(r"\d+", question)]
    source = script.read_text("utf-8").splitlines()
    printing = [str(n) for n, line in enumerate(source, 1) if line.split(" ")[0] in ("get", "printStore")]
    assert {*numbers} >= {*printing}


def test_the_picture_of_a_hundred_servers_is_that_of_the_simulation() -> None:
    """If this fails after an intended change, call `make pages`."""
    assert (PAGES / "8-rumours.svg").read_text("utf-8") == picture()


@pytest.mark.parametrize("script", TRACED, ids=lambda path: path.stem)
def test_the_picture_shows_the_script(script: Path) -> None:
    picture = ElementTree.parse(PAGES / f"{script.stem}.svg")
    texts = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    commands = [line for line in script.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    shown = iter(texts)
    for command in commands:
        assert any(re.match(re.escape(drawn).replace("…", ".*"), command) and drawn for drawn in shown), command


def test_the_readme_knows_all_of_them() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(SCRIPTS) == 9
    for script in SCRIPTS:
        assert f"docs/lessons/{script.stem}.md" in readme


@pytest.mark.skipif(not (ROOT / ".venv" / "ready").exists(), reason="needs .venv: make")
def test_make_lesson_takes_any_script_and_keeps_the_last_report_where_there_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "lesson"

    def make(*variables: str, script: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-C", str(ROOT), "lesson", f"LESSON={folder}", *variables]
        environment |= {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(command, input=script, env=environment, capture_output=True, text=True, check=False)

    done = make("SCRIPT=-", script="joinServer 1\nstabilize\n")
    assert done.returncode == 0, done.stderr
    assert "valid: 2 operations" in done.stdout
    assert (folder / "report.html").exists()
    for wrong in ("SCRIPT=/nope", "ARGS=--nope"):
        assert make(wrong).returncode
        assert (folder / "report.html").exists()
        assert (folder / "script").read_text() == "joinServer 1\nstabilize\n"
    (tmp_path / "other").write_text("joinServer 7\n")
    done = make(SCRIPT=str(tmp_path / "other"))
    assert "valid: 1 operations" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"script", "history", "trace", "printed", "report.html"}
