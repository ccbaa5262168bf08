"""`--show`: each line of a script as it runs, with its answer under it; and the tour, as `make run` shows it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from checking.driver import ROOT, Conversation, command, run

SCRIPT = """\
# A comment

joinServer 0
  joinClient 5\t0
    # another, indented
put 5 k  some value\r
nonsense
get 5 k
get 5 l
printStore 0"""

SHOWN = """\
# A comment

> joinServer 0
> joinClient 5\t0
    # another, indented
> put 5 k  some value
> nonsense
> get 5 k
k:some value
> get 5 l
l:ERR_KEY
> printStore 0
k:some value
"""

ERROR = "error: line 7: unknown command: nonsense\n"


def test_each_line_is_shown_with_its_answer_under_it() -> None:
    result = run(SCRIPT, "--show")
    assert (result.stdout.decode(), result.stderr, result.status) == (SHOWN, ERROR, 1)


def test_without_it_there_are_only_answers() -> None:
    answers = "".join(line for line in SHOWN.splitlines(True) if re.match("[kl]:", line))
    assert run(SCRIPT).stdout.decode() == answers


def test_files_and_bytes_of_any_kind(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"\xef\xbb\xbfjoinServer 0\njoinClient 5 0\n# \xff\n")
    second.write_bytes(b"put 5 \xfe \xc3\nget 5 \xfe\n" + b"x" * (70 << 20) + b"\n# the end\n")
    result = run("", "--show", str(first), str(second))
    assert result.stdout == (
        b"> joinServer 0\n> joinClient 5 0\n# \xff\n> put 5 \xfe \xc3\n> get 5 \xfe\n\xfe:\xc3\n# the end\n"
    )
    assert [error.partition(" longer")[0] for error in result.errors] == [f"error: {second}: line 3: the line is"]


def test_errors_come_where_they_belong() -> None:
    """stdout and stderr are one descriptor, as at a terminal."""
    done = subprocess.run(
        command("--show"), input=SCRIPT.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.stdout.decode() == SHOWN.replace("> nonsense\n", f"> nonsense\n{ERROR}")


def test_a_line_is_shown_before_it_runs_and_no_later_one() -> None:
    with Conversation("--show") as conversation:
        shown = conversation.do("joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k").lines
        assert shown[:5] == ["> joinServer 0", "> joinClient 5 0", "> put 5 k v", "> get 5 k", "k:v"]
        assert shown[5:] == ["> mark-1"]


@pytest.mark.parametrize(
    ("term", "variables", "coloured"),
    [("xterm", {}, True), ("dumb", {}, False), ("", {}, False), ("xterm", {"NO_COLOR": "1"}, False)],
)
def test_colours_are_for_terminals(term: str, variables: dict[str, str], coloured: bool) -> None:
    outside, inside = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run(
        command("--show"),
        input=SCRIPT.encode(),
        stdout=inside,
        stderr=subprocess.DEVNULL,
        check=False,
        env={**environment, "TERM": term, **variables},
    )
    os.close(inside)
    shown = b""
    try:
        while piece := os.read(outside, 65536):
            shown += piece
    except OSError:
        pass  # all has been read
    os.close(outside)
    assert (b"\x1b" in shown) == coloured
    assert re.sub(r"\x1b\[\d*m", "", shown.decode()).replace("\r\n", "\n") == SHOWN
    if coloured:
        assert b"\r\nk:some value\r\n" in shown, "answers are plain"


def test_make_run_shows_the_tour_and_of_other_scripts_the_answers(tmp_path: Path) -> None:
    """The comments of the tour announce the answers, which are below their commands."""
    script = tmp_path / "script"
    script.write_text("joinServer 0\njoinClient 5 0\nget 5 k\n")
    make = ["make", "--no-print-directory", "-C", str(ROOT), "run"]
    if not (ROOT / ".venv" / "ready").exists():
        pytest.skip("needs .venv: make")
    tour = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    for line in (ROOT / "examples/tour.txt").read_text("utf-8").splitlines():
        assert (line if line.startswith("#") or not line else f"> {line}") in tour.splitlines()
    assert "> get 5 colour\ncolour:ERR_DEP\n" in tour
    assert tour.endswith("> stabilize\n> get 5 colour\ncolour:blue\n> printStore 1\ncolour:blue\n")
    other = subprocess.run([*make, f"SCRIPT={script}"], capture_output=True, text=True, check=True).stdout
    assert other == "k:ERR_KEY\n"
    piped = subprocess.run([*make, "SCRIPT=-"], input=script.read_text(), capture_output=True, text=True, check=True)
    assert piped.stdout == "k:ERR_KEY\n"
