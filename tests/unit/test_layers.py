"""The layers of docs/architecture.md: imports run downwards only, and no file or function grows too long.

`make check` limits how complex a function may be (C901 and PLR0915 of ruff).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from checking.driver import ROOT

LAYERS = (
    "scripts",
    "master",
    "console",
    "grading",
    "checking",
    "control engine",
    "watchdog",
    "server client",
    "storage records compaction",
    "rpc",
    "peer groups session model router context gossip shape",
    "messages",
    "vector_clock",
    "daadkvs",  # which imports none of them
)
"""From the top downwards. What stands in one line may import each other, but for circles."""

NOT_FOR_CHECKING = ("server", "client", "watchdog", "control.roles", "control.cluster")
"""The folder checking/ judges runs from outside: it imports no process, and of rpc/ only the traces."""

LARGEST_ROOT = 18
LONGEST_FILE = 500
LONGEST_FUNCTION = 60

PRODUCT = sorted(
    path.relative_to(ROOT)
    for folder in (".", "scripts", "console", "grading", "checking", "control", "engine", "rpc")
    for path in (ROOT / folder).glob("*.py" if folder == "." else "**/*.py")
)


# -- who imports whom ----------------------------------------------------------------------------------------


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def source(path: Path) -> str:
    return (ROOT / path).read_text()


MODULES = {name_of(path): path for path in PRODUCT}


def imported_by(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports: at its top, within functions, or for types only."""
    for node in ast.walk(ast.parse(source(path))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in MODULES:
                name = f"scripts.{name}" if f"scripts.{name}" in MODULES else name.rpartition(".")[0]
            if name:
                yield name


IMPORTS = {name: set(imported_by(path)) for name, path in MODULES.items()}
RANKS = {name: rank for rank, line in enumerate(LAYERS) for name in line.split()}


def rank(module: str) -> int:
    return RANKS[module.partition(".")[0]]


def test_each_module_has_a_layer() -> None:
    found = {name.partition(".")[0] for name in MODULES}
    assert found == RANKS.keys()


def test_imports_run_downwards_only() -> None:
    upwards = {f"{a} -> {b}" for a, imported in IMPORTS.items() for b in imported if rank(b) < rank(a)}
    assert upwards == set()


def test_imports_make_no_circle() -> None:
    downwards = {a: {b for b in imported if rank(b) >= rank(a)} for a, imported in IMPORTS.items()}
    TopologicalSorter(downwards).prepare()  # raises CycleError, which names the circle


def test_the_checking_folder_runs_no_processes() -> None:
    imported = {b for a in IMPORTS if a.startswith("checking") for b in IMPORTS[a]}
    assert imported.isdisjoint(NOT_FOR_CHECKING)
    assert {name for name in imported if name.startswith("rpc.")} <= {"rpc.tracing"}


def test_nothing_of_the_product_imports_from_the_tests() -> None:
    found = {
        str(path) for path in PRODUCT if re.search(r"^ *(from|import) (support|tests)\b", source(path), re.MULTILINE)
    }
    assert found == set()


# -- sizes ---------------------------------------------------------------------------------------------------


def test_few_files_are_at_the_root() -> None:
    assert len([path for path in PRODUCT if path.parent == Path()]) <= LARGEST_ROOT


def test_no_file_is_too_long() -> None:
    page = [path.relative_to(ROOT) for path in (ROOT / "checking" / "page").iterdir()]
    long = {str(path) for path in [*PRODUCT, *page] if len(source(path).splitlines()) > LONGEST_FILE}
    assert long == set()


def test_no_function_is_too_long() -> None:
    long = {
        f"{path}: {node.name}"
        for path in PRODUCT
        for node in ast.walk(ast.parse(source(path)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert long == set()
