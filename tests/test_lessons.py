"""The lessons in docs/lessons/ are what their scripts in examples/ print now."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from driver import ROOT
from lessons import PAGES, learn, scripts, text

SCRIPTS = scripts()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_page_is_true(script: Path, tmp_path: Path) -> None:
    """If this fails after a change that is meant: make pages."""
    assert text(learn(script, tmp_path)) == (PAGES / f"{script.stem}.md").read_text("utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_picture_shows_the_script(script: Path) -> None:
    picture = ElementTree.parse(PAGES / f"{script.stem}.svg")
    texts = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    commands = [line for line in script.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    shown = iter(texts)
    for command in commands:
        assert any(command.startswith(drawn.removesuffix("…")) and drawn for drawn in shown), command


def test_there_are_six_and_the_readme_knows_them() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(SCRIPTS) == 6
    for script in SCRIPTS:
        assert f"docs/lessons/{script.stem}.md" in readme
