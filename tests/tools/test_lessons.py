"""The lessons in docs/lessons/ show what their scripts in examples/ print now."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from checking.driver import ROOT
from checking.lessons import PAGES, learn, scripts, text

SCRIPTS = scripts()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_page_shows_what_the_script_does(script: Path, tmp_path: Path) -> None:
    """If this fails after an intended change, call `make pages`."""
    assert text(learn(script, tmp_path)) == (PAGES / f"{script.stem}.md").read_text("utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_picture_shows_the_script(script: Path) -> None:
    picture = ElementTree.parse(PAGES / f"{script.stem}.svg")
    texts = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    commands = [line for line in script.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    shown = iter(texts)
    for command in commands:
        assert any(re.match(re.escape(drawn).replace("…", ".*"), command) and drawn for drawn in shown), command


def test_there_are_seven_and_the_readme_knows_them() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(SCRIPTS) == 7
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
