"""Grading programs of others: each gets the marks that it should, or one clear line; nothing is left running."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from checking.driver import LIMIT_SECONDS, ROOT, titles, wait_until
from grading.processes import _LISTS_CHILDREN, descendants

PEERS = ROOT / "tests" / "support" / "peers"

SESSIONS = """\
#: tags = ["sessions"]
joinServer 0
joinServer 1
joinClient 5 0
put 5 a old
stabilize
breakConnection 0 1
put 5 a new
createConnection 5 1
breakConnection 5 0
get 5 a
put 5 a own
createConnection 0 1
stabilize
get 5 a
printStore 0
"""

CONFLICT = """\
# Client 5 puts last, at the smaller server.
joinServer 0
joinServer 1
joinClient 5 0
joinClient 6 1
breakConnection 0 1
put 6 k first
put 5 k last
createConnection 0 1
stabilize
get 5 k
printStore 1
"""

MARKS = {
    "right.py": (2, 2),
    "orphans.py": (2, 2),
    "forgets.py": (1.3333, 2),
    "rereads.py": (1.6667, 2),
    "by_id.py": (1, 2),
    "hangs.py": (0, 2),
    "binary.py": (0, 2),
    "endless.py": (0, 2),
    "forks.py": (0, 2),
}
"""What each peer deserves for both scripts."""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "conflict.txt").write_text(CONFLICT)
    (folder / "sessions.txt").write_text(SESSIONS)
    return folder


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    wait_until(lambda: not [title for title in titles().values() if str(tmp_path) in title], "the end of all programs")
    assert not list(tmp_path.glob("daadkvs-grade-*"))


def grade(tests: Path, *options: str, script: str = "grade.py", **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), str(tests), *options],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        env={**os.environ, "TMPDIR": str(tests.parent)},
        **more,
    )


def results(tests: Path, *options: str) -> dict[str, Any]:
    """By submission."""
    done = grade(tests, *options, "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    return {one["name"]: one for one in json.loads(done.stdout)["submissions"]}


def hand_in(folder: Path, peer: str) -> Path:
    """A submission with this peer, in a folder that has its name."""
    submission = folder / peer
    submission.mkdir(parents=True)
    shutil.copy(PEERS / peer, submission / "master.py")
    shutil.copy(PEERS / "right.py", submission / "right.py")
    return submission


# -- processes ---------------------------------------------------------------------------------------------


def test_descendants_are_found_with_the_kernel_s_list_of_children_and_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = "import os\nfor _ in range(3): os.fork()\nprint(1, flush=True)\nos.read(0, 1)"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        assert [process.stdout.readline() for _ in range(8)] == [b"1\n"] * 8
        found = []
        for lists in {_LISTS_CHILDREN, False}:
            monkeypatch.setattr("grading.processes._LISTS_CHILDREN", lists)
            found.append(sorted(descendants(process.pid)))
        assert len(found[0]) == 7
        assert found[-1] == found[0]
        process.stdin.write(b"-" * 8)


# -- marks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "no-namespaces"])
def test_each_peer_gets_the_marks_that_it_should(tests: Path, tmp_path: Path, namespaces: bool) -> None:
    class_ = [str(hand_in(tmp_path / "in", peer)) for peer in MARKS]
    options = ["--submissions", *class_, "--timeout", "5", "--processes", "40", "--output", "1"]
    found = results(tests, *options, *([] if namespaces else ["--no-namespaces"]))
    scores = {name: (one["score"], one["max_score"]) for name, one in found.items()}
    assert scores == MARKS
    notes = {name: one["tests"][0]["notes"] for name, one in found.items()}
    assert notes["right.py"] == []
    assert notes["orphans.py"] == ["It left 2 processes running, which were killed."]
    assert notes["hangs.py"][0] == "It had not ended after 5 s, and was killed."
    assert notes["binary.py"][0] == "It printed bytes that are no text."
    assert notes["endless.py"][0] == "It printed more than it may, and was killed."
    assert notes["forks.py"][0] == "It forked more processes than it may, and was killed."


def test_a_difference_is_explained(tests: Path) -> None:
    found = results(tests, "--only", "sessions", "--master", f"{sys.executable} {PEERS / 'rereads.py'}")
    (difference,) = found[Path(sys.executable).name]["tests"][0]["differences"]
    assert (difference["line"], difference["command"]) == (11, "get 5 a")
    assert (difference["expected"], difference["came"]) == (["a:ERR_DEP"], "a:old")
    why = " ".join(difference["why"])
    assert "Client 5 had itself put a = new in line 8." in why
    assert "Server 1 had old, put by client 5 in line 5. This value is older, so the server must not answer." in why


def test_our_own_master_gets_full_marks(tests: Path) -> None:
    command = shlex.join([sys.executable, str(ROOT / "master.py"), "--gossip-interval", "0"])
    done = grade(tests, "--master", command, "--fail-under", "100")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 points" in done.stdout


def test_settings_of_tests(tests: Path, tmp_path: Path) -> None:
    """Points, runs, free conflicts, and patterns, from tests.toml and from headers."""
    pattern = r"^\[.*\] (?P<key>\S+) = (?P<value>.*)$"
    (tests / "tests.toml").write_text(
        f"[defaults]\npattern = '{pattern}'\norder = 'free'\nruns = 2\n[tests.conflict]\npoints = 3\n"
    )
    found = results(tests, "--submissions", str(hand_in(tmp_path / "in", "decorated.py")))["decorated.py"]
    assert [(one["score"], one["runs"], one["right_runs"]) for one in found["tests"]] == [(3, 2, 2), (1, 2, 2)]
    assert found["tests"][1]["tags"] == ["sessions"]
    (tests / "tests.toml").write_text("[tests.conflict]\nconflicts = 'any, but everywhere the same'\n")
    found = results(tests, "--submissions", str(hand_in(tmp_path / "in", "by_id.py")))
    assert found["by_id.py"]["score"] == 2


def test_line_by_line(tests: Path) -> None:
    master = f"{sys.executable} {PEERS / 'right.py'}"
    (found,) = results(tests, "--master", master, "--per-line", "0.01").values()
    assert found["score"] == 2


def test_an_expected_output_counts(tests: Path) -> None:
    (tests / "conflict.out").write_text("k:first\nk:first\n")
    (found,) = results(tests, "--master", f"{sys.executable} {PEERS / 'by_id.py'}").values()
    assert found["tests"][0]["passed"]


# -- formats -----------------------------------------------------------------------------------------------


def test_all_formats_say_the_same(tests: Path, tmp_path: Path) -> None:
    class_ = [str(hand_in(tmp_path / "in", peer)) for peer in ("right.py", "by_id.py")]
    files = {name: str(tmp_path / f"out.{name}") for name in ("csv", "tap", "summary")}
    if "junitparser" in sys.modules or _has_junitparser():
        files["junit"] = str(tmp_path / "out.junit")
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    done = grade(tests, "--submissions", *class_, *options, "--fail-under", "90")
    assert (done.returncode, done.stderr) == (1, "")
    assert re.findall(r"^\S.*points$", done.stdout, re.MULTILINE) == [
        "right.py: 2 of 2 points",
        "by_id.py: 1 of 2 points",
    ]
    rows = list(csv.reader(Path(files["csv"]).read_text().splitlines()))
    assert rows[0] == ["submission", "score", "conflict", "sessions", "problem"]
    assert rows[2:] == [["right.py", "2.0", "1.0", "1.0", ""], ["by_id.py", "1.0", "0.0", "1.0", ""]]
    points = re.findall("^(ok|not ok) (.*)$", Path(files["tap"]).read_text(), re.MULTILINE)
    assert [word for word, _ in points] == ["ok", "ok", "not ok", "ok"]
    assert points[2][1] == "3 - by_id.py: conflict"
    assert "## by\\_id.py: 1 of 2 points" in Path(files["summary"]).read_text()
    if "junit" in files:
        suites = ElementTree.parse(files["junit"]).getroot().findall("testsuite")
        assert [(one.get("name"), one.get("failures")) for one in suites] == [("right.py", "0"), ("by_id.py", "1")]


def _has_junitparser() -> bool:
    from importlib.util import find_spec

    return find_spec("junitparser") is not None


# -- bad input ---------------------------------------------------------------------------------------------


def test_what_cannot_be_graded_is_named_and_the_others_are_graded(tests: Path, tmp_path: Path) -> None:
    (tests / "wrong.txt").write_text("joinServer 0\njump 1\n")
    (tests / "later.txt").write_text("joinServer 0\nkillServer 3\n")
    right = hand_in(tmp_path / "in", "right.py")
    idle = tmp_path / "in" / "idle"
    idle.mkdir()
    (idle / "master").write_text("#!/bin/sh\n")
    missing = tmp_path / "in" / "nobody"
    done = grade(tests, "--submissions", *map(str, (right, idle, missing)))
    assert done.returncode == 2
    wanted = "a test that wants it says `errors = true`"
    assert [line.replace(f"{tmp_path}/", "") for line in done.stderr.splitlines()] == [
        f"error: tests/later.txt: line 2 is an error (it can't be carried out); {wanted}",
        f"error: tests/wrong.txt: line 2 is an error (unknown command: jump); {wanted}",
        "error: in/nobody: no such submission",
    ]
    assert "right.py: 2 of 2 points" in done.stdout
    assert "idle: 0 of 2 points" in done.stdout
    assert "It could not be started: it is not executable." in done.stdout


def test_a_program_may_be_named_as_the_path_finds_it(tests: Path) -> None:
    done = grade(tests, "--master", "true")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith("true: ")


@pytest.mark.parametrize("options", ["", " --gossip-interval 0", " --no-such-option"])
def test_our_own_master_starts_warm_and_is_graded_like_any_other(tests: Path, options: str) -> None:
    own = str(ROOT / "master.py")
    (warm,) = results(tests, "--master", f"{own}{options}").values()
    (cold,) = results(tests, "--master", f"{sys.executable} {own}{options}").values()
    assert warm["score"] == cold["score"] == (0 if options == " --no-such-option" else 2)


@pytest.mark.parametrize(
    ("files", "options", "told"),
    [
        ({}, ["--master", "true"], "no scripts there"),
        ({"a.txt": "stabilize\n"}, [], "there is nothing to grade"),
        ({"a.txt": "stabilize\n"}, ["--master", "no-such-program"], "no-such-program: no such program"),
        (
            {"a.txt": "stabilize\n", "tests.toml": "[defaults]\npoints = 'x'\n"},
            ["--master", "true"],
            "points is a number",
        ),
        ({"a.txt": "stabilize\n", "tests.toml": "[[[\n"}, ["--master", "true"], "tests.toml: "),
        ({"a.txt": "#: points\n"}, ["--master", "true"], "its header is not TOML"),
        ({"a.txt": "stabilize\n", "a.out": "k:v\n"}, ["--master", "true"], "a.out doesn't fit it"),
        ({"a.txt": "stabilize\n"}, ["--master", "true", "--only", "b"], "there is no test 'b'"),
        ({"a.txt": "stabilize\n"}, ["--master", "true", "--user", "nobody-like-that"], "there is no user"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_clear_line_each(tmp_path: Path, files: dict[str, str], options: list[str], told: str) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    done = grade(folder, *options)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and told in line


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda signum: signum.name)
def test_a_grader_that_is_ended_leaves_nothing(tests: Path, tmp_path: Path, signum: signal.Signals) -> None:
    peer = hand_in(tmp_path / "in", "hangs.py")
    mark = f"--mark={tmp_path}"
    command = [sys.executable, str(ROOT / "scripts" / "grade.py"), str(tests), "--submissions", str(peer)]
    command += ["--master", f"{sys.executable} master.py {mark}", "--timeout", "1000"]
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables) as grader:
        wait_until(lambda: any(title.endswith(f"master.py {mark}") for title in titles().values()), "a program")
        grader.send_signal(signum)
        stdout, stderr = grader.communicate(timeout=LIMIT_SECONDS)
    assert (stdout, stderr) == (b"", b"")
    assert grader.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[signum]
    wait_until(lambda: not list(tmp_path.glob("daadkvs-grade-*")), "the end of the private folders")


# -- Gradescope --------------------------------------------------------------------------------------------


def gradescope(tests: Path, tmp_path: Path, peer: str) -> dict[str, Any]:
    """What results.json says of a peer, in folders that are laid out as Gradescope's."""
    root, archive = tmp_path / "autograder", tmp_path / "autograder.zip"
    done = grade(tests, "-o", str(archive), script="autograder.py")
    assert (done.returncode, done.stderr) == (0, "")
    (root / "source").mkdir(parents=True)
    (root / "results").mkdir()
    with zipfile.ZipFile(archive) as packed:
        assert {"setup.sh", "run_autograder"} <= set(packed.namelist())
        assert {packed.getinfo(name).external_attr >> 16 & 0o777 for name in ("setup.sh", "run_autograder")} == {0o755}
        packed.extractall(root / "source")
    stubs = tmp_path / "stubs"  # of a Debian that has a Python, and where nothing is installed in earnest
    stubs.mkdir()
    (stubs / "python3").symlink_to(sys.executable)
    for name in ("apt-get", "useradd", "id"):
        (stubs / name).write_text("#!/bin/sh\nexit 0\n")
        (stubs / name).chmod(0o755)
    shutil.copytree(hand_in(tmp_path / "in", peer), root / "submission")
    variables = {"PATH": f"{stubs}:/usr/bin:/bin", "AUTOGRADER_ROOT": str(root), "TMPDIR": str(tmp_path)}
    for name in ("setup.sh", "run_autograder"):
        command = ["sh", str(root / "source" / name)]
        ran = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
        assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads((root / "results" / "results.json").read_text())
    return found


def test_the_zip_file_grades_where_there_is_python_alone(tests: Path, tmp_path: Path) -> None:
    (tests / "tests.toml").write_text("[tests.conflict]\npoints = 4\nvisibility = 'after_published'\n")
    found = gradescope(tests, tmp_path, "by_id.py")
    assert found["output"] == ""
    conflict, sessions = found["tests"]
    assert (conflict["name"], conflict["number"], conflict["score"], conflict["max_score"]) == ("conflict", "1", 0, 4)
    assert (conflict["status"], conflict["visibility"]) == ("failed", "after_published")
    assert "Client 5 had put k = last in line 8" in conflict["output"]
    assert (sessions["score"], sessions["status"], sessions["tags"]) == (1, "passed", ["sessions"])


def test_time_limits_fit_into_what_gradescope_gives(tests: Path, tmp_path: Path) -> None:
    (tests / "tests.toml").write_text("[defaults]\ntimeout = 100\nruns = 9\n")
    done = grade(tests, "-o", str(tmp_path / "autograder.zip"), script="autograder.py")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: time limits were made shorter, to 30%")
    with zipfile.ZipFile(tmp_path / "autograder.zip") as packed:
        prepared = json.loads(packed.read("prepared.json"))
    assert {case["settings"]["timeout"] for case in prepared["cases"]} == {30}


# -- the manual --------------------------------------------------------------------------------------------


def test_each_command_of_the_manual_runs(tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "grading.md").read_text()
    commands = re.findall(r"^    \$ (.*)$", manual, re.MULTILINE)
    assert len(commands) == 7
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    master = tmp_path / "master"
    master.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "master.py"} "$@"\n')
    master.chmod(0o755)
    (tmp_path / "lessons").mkdir()
    shutil.copy(ROOT / "examples" / "2-sessions.txt", tmp_path / "lessons")
    for peer in ("right.py", "rereads.py"):
        hand_in(tmp_path / "handed-in", peer)
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    assert (tmp_path / "autograder.zip").exists()
    assert "rereads.py,0.8571,0.8571," in (tmp_path / "marks.csv").read_text()
