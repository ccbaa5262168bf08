"""examples/notebook.ipynb runs, and shows what stands in it.

    python -m pytest tests/tools/test_notebook.py --rewrite

writes what its cells show into it, to be looked at before it is committed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from checking.driver import ROOT, run

nbclient = pytest.importorskip("nbclient", reason="needs tests/requirements-notebook.txt")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
KEPT = ("cell_type", "id", "source", "metadata", "outputs")


@pytest.fixture(scope="module")
def executed() -> Any:
    """The notebook, after all of its cells have been run by a kernel of its own."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        coalesce_streams=True,  # else the pieces of a cell's output depend on time
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    return client.execute()


def shown(cell: Any) -> list[str]:
    """What a cell has shown, as text; a picture is only that there is one, since its times differ."""
    texts = []
    for output in cell.get("outputs", ()):
        html = output.get("data", {}).get("text/html")
        text = html or output.get("text") or output.get("data", {}).get("text/plain", "")
        texts.append("a picture" if "<svg" in text else text.strip())
    return texts


def test_it_shows_what_stands_in_it(executed: Any, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite"):
        rewrite(executed)
    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    for cell, now in zip(stored.cells, executed.cells, strict=True):
        assert shown(cell) == shown(now), cell.source
    assert sum(text == "a picture" for cell in stored.cells for text in shown(cell)) == 2


def rewrite(notebook: Any) -> None:
    """Keep what is shown, and nothing of when and where."""
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", ()):
            if "execution_count" in output:
                output["execution_count"] = None
            if "text/html" in output.get("data", {}):
                output.data["text/plain"] = ""
        if cell.cell_type == "code":
            cell.execution_count = None
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.write(notebook, NOTEBOOK)


def test_it_is_the_second_lesson(executed: Any) -> None:
    """It prints what the script prints."""
    lesson = (ROOT / "examples" / "2-sessions.txt").read_text()
    printed = re.findall("ERR_DEP|ERR_KEY|swordfish|mellon", run(lesson, "--gossip-interval", "0").stdout.decode())
    cells = [cell for cell in executed.cells if cell.cell_type == "code" and ".get(" in cell.source]
    said = "\n".join(text for cell in cells for text in shown(cell) if text != "a picture")
    answers = re.findall(r"^'?\(?'?(ERR_DEP|ERR_KEY|swordfish|mellon)'?,?", said, re.MULTILINE)
    assert answers == printed


def test_it_names_no_place_of_a_machine() -> None:
    text = NOTEBOOK.read_text("utf-8")
    assert not re.search(r"/(?:home|root|tmp|work|usr)/|daadkvs-\d", text)
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert '"execution_count": null' in text and not re.search(r'"execution_count": \d', text)
