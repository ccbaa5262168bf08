"""What is where in a wheel: hatchling calls this when it builds one (pyproject.toml).

    daadkvs/__init__.py    daadkvs.py of the checkout: what `import daadkvs` gives
    daadkvs/py.typed       type checkers may believe its annotations
    daadkvs/app/           all of the product, as it is in the checkout

May live here: that. May not: anything that a run needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["Layout"]

ELSEWHERE = ("docs", "examples", "tests", "book", "lesson")
"""Folders of the checkout that are no product; the last two are made by `make book` and `make lesson`."""

PRODUCT = (".py", ".js", ".css", ".html", ".LICENSE")
"""How the names of the product's files end."""

GRADESCOPE = "grading/gradescope/"
"""Whatever is in this folder is packed into an autograder, and so belongs to the product as well."""


class Layout(BuildHookInterface[Any]):
    """The hook. Files and folders that are added to the product go in by themselves."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say what goes in, and under which name."""
        root = Path(self.root)
        folders = [path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._"]
        found = [*root.glob("*.py"), *(path for folder in folders for path in folder.rglob("*"))]
        for path in sorted(found):
            inside = path.relative_to(root)
            is_packed = inside.as_posix().startswith(GRADESCOPE) and path.is_file() and path.suffix != ".pyc"
            if (path.name.endswith(PRODUCT) or is_packed) and inside.parts[0] not in ELSEWHERE:
                build_data["force_include"][str(path)] = f"daadkvs/app/{inside.as_posix()}"
        build_data["force_include"] |= {
            str(root / "daadkvs.py"): "daadkvs/__init__.py",
            str(root / "console" / "py.typed"): "daadkvs/py.typed",
        }
