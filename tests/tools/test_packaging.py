"""What an installed Daadkvs is, and what the requirements files pin."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import master
from checking.driver import LIMIT_SECONDS, ROOT, processes, run_directory, wait_until

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "requirements.txt": None,
    "requirements-dev.txt": ("test", "check", "grading"),
    "tests/requirements-browser.txt": ("browser",),
    "tests/requirements-notebook.txt": ("notebook",),
    "scripts/requirements-book.txt": ("book",),
    "scripts/requirements-plots.txt": ("plots",),
    "scripts/requirements-grading.txt": ("grading",),
    "scripts/requirements-fuzz.txt": ("fuzz",),
    "scripts/requirements-cluster.txt": ("cluster",),
}
"""Each requirements file, with the extras that it is for."""

SCRIPT = "joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k\n"


# -- what is pinned ------------------------------------------------------------------------------------------------


def pinned(path: Path) -> dict[str, set[str]]:
    """The packages of a requirements file with their versions; which one counts may depend on the Python."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=[a-zA-Z])", path.read_text()):
        match = re.match(r"([a-z0-9-]+)==(\S+)", entry)
        if match:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{path.name}: {match[1]} has no hash"
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_each_file_pins_what_the_project_asks_for(name: str) -> None:
    versions = pinned(ROOT / name)
    asked = [*PROJECT["dependencies"]]
    for extra in LOCKS[name] or ():
        asked += PROJECT["optional-dependencies"][extra]
    for text in asked:
        requirement = Requirement(text)
        found = versions.get(requirement.name.replace("_", "-"), set())
        assert found, f"{name} lacks {requirement.name}; make lock"
        assert all(requirement.specifier.contains(version) for version in found), f"{text}: {found}; make lock"


def test_the_files_agree_on_versions() -> None:
    first: dict[str, set[str]] = {}
    for name in LOCKS:
        for package, versions in pinned(ROOT / name).items():
            assert first.setdefault(package, versions) == versions, package


def test_what_runs_needs_no_tools() -> None:
    """The exception is pytest, which was asked for."""
    runs = pinned(ROOT / "requirements.txt")
    assert runs.keys() >= {"rpyc", "msgpack", "pytest"}
    assert runs.keys().isdisjoint({"mypy", "ruff", "hypothesis", "pytest-xdist", "uv", "hatchling"})


@pytest.mark.parametrize("path", [*LOCKS, "scripts/requirements-lock.txt"])
def test_no_file_names_an_index(path: str) -> None:
    text = (ROOT / path).read_text()
    assert pinned(ROOT / path)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)


# -- what is installed ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the hatchling that is installed: nothing is fetched."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment in which only the wheel and its dependencies are installed."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    environment = {**os.environ, "PIP_USER": "0"}
    requirements = [*pip, "--require-hashes", "-r", str(ROOT / "requirements.txt")]
    done = subprocess.run(requirements, env=environment, capture_output=True, text=True, check=False)
    if re.search("No matching distribution found|Connection|Network", done.stderr):
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr
    subprocess.run([*pip, "--no-index", str(wheel)], env=environment, check=True, capture_output=True)
    yield folder


def test_the_wheel_has_the_product_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout of git")
    product = {
        f"daadkvs/app/{name}"
        for name in listed.stdout.splitlines()
        if (name.count("/") == 0 and name.endswith(".py") and name != "daadkvs.py")
        or name.startswith(("control/", "rpc/", "console/", "checking/", "grading/", "engine/"))
        or re.fullmatch(r"scripts/.*\.py", name)
    } - {"daadkvs/app/console/py.typed"}
    assert names == product | {"daadkvs/__init__.py", "daadkvs/py.typed"}


def test_the_command_is_all_that_is_added_to_an_environment(installed: Path) -> None:
    (packages,) = installed.glob("lib/python*/site-packages")
    ours = {path.name for path in packages.iterdir() if "daadkvs" in path.name.lower()}
    assert ours == {"daadkvs", f"daadkvs-{master.__version__}.dist-info"}
    assert not {"client.py", "server.py", "model.py", "master.py", "control", "scripts"} & {
        path.name for path in packages.iterdir()
    }
    check = [str(installed / "bin" / "python"), "-m", "pip", "check"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("variables", [{}, {"PYTHONPATH": "."}, {"PYTHONSAFEPATH": "1"}], ids=str)
def test_an_installed_daadkvs_runs_files_and_standard_input(
    installed: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    """It may be started in any folder, also beside modules with the names of its own."""
    for name in ("client", "model", "console", "control"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "script").write_text(SCRIPT)
    command = str(installed / "bin" / "daadkvs")
    environment = {**os.environ, **variables}
    for arguments, stdin in ((["script"], ""), ([], SCRIPT)):
        done = subprocess.run(
            [command, *arguments],
            input=stdin,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("k:v\n", "", 0)
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert version == f"Daadkvs {master.__version__}\n"


def test_an_installed_daadkvs_names_its_command_in_the_help(installed: Path) -> None:
    done = subprocess.run([installed / "bin" / "daadkvs", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: daadkvs [-h]")


def test_an_installed_daadkvs_without_its_packages_advises_to_reinstall_it(installed: Path) -> None:
    (packages,) = installed.glob("lib/python*/site-packages")
    program = (
        f"import sys; sys.path.append({str(packages / 'daadkvs' / 'app')!r}); "
        "import scripts.installed; sys.exit(scripts.installed.main())"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "error: packages that this needs are missing; reinstall Daadkvs\n"
    assert (done.stdout, done.returncode) == ("", 2)


USE = """
import os, sys
import daadkvs

with daadkvs.Run(gossip_interval=0) as run:
    run.script("joinServer 0\\njoinClient 5 0\\nput 5 k v")
    print(run.get(5, "k").value, run.diagram().svg[:4])
    run.report("report.html")
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"client", "model", "console", "control", "rpyc", "msgpack"}))
"""

FIXTURE = """
def test_a_run_of_its_own(daadkvs_run):
    daadkvs_run.join_server(0)
    daadkvs_run.join_client(5, 0)
    assert daadkvs_run.get(5, "k").error == "ERR_KEY"
"""


def test_an_installed_daadkvs_can_be_imported(installed: Path, tmp_path: Path) -> None:
    """Beside modules with the names of its own, of which none comes into the importing process."""
    for name in ("client", "model", "console", "control"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "test_use.py").write_text(FIXTURE)
    python = str(installed / "bin" / "python")
    used = subprocess.run([python, "use.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (used.stdout, used.stderr) == ("v <svg\n[]\n", "")
    assert "</html>" in (tmp_path / "report.html").read_text("utf-8")
    tested = subprocess.run([python, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in tested.stdout, tested.stdout


def test_an_installed_daadkvs_grades_and_packs(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "one.txt").write_text(SCRIPT)
    command = str(installed / "bin" / "daadkvs")
    for arguments, told in (
        (["grade", "tests", "--master", command], "daadkvs: 1 of 1 points\n  ok    one  1/1  right\n"),
        (["autograder", "tests"], "autograder.zip: 1 test, worth 1 in all\n"),
    ):
        done = subprocess.run(
            [command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == (told, "", 0)
    assert (tmp_path / "autograder.zip").exists()


def started(command: list[str]) -> subprocess.Popen[bytes]:
    """A master with a server, which goes on until its input ends."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write(SCRIPT.encode())
    process.stdin.flush()
    assert process.stdout.readline() == b"k:v\n"
    return process


def test_cleanup_ends_the_runs_of_its_own_installation_alone(installed: Path, tmp_path: Path) -> None:
    """It ends a hung master, one that still waits for its script, and orphans. The runs of the checkout go on."""
    command = str(installed / "bin" / "daadkvs")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    other = started([sys.executable, str(ROOT / "master.py")])
    hung, orphaned = started([command]), started([command])
    waiting = subprocess.Popen([command, str(pipe)])
    try:
        left = run_directory(orphaned.pid)
        assert left is not None
        for _, pid in sorted(processes(left).items(), key=lambda item: item[0] != "spawner"):
            os.kill(pid, signal.SIGSTOP)
        orphaned.kill()
        orphaned.wait()
        os.kill(hung.pid, signal.SIGSTOP)
        done = subprocess.run([command, "cleanup"], capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
        assert (done.returncode, done.stderr) == (0, "")
        assert {hung.pid, waiting.pid} == {int(pid) for pid in re.findall(r"ended master (\d+)", done.stdout)}
        assert hung.wait(LIMIT_SECONDS) == waiting.wait(LIMIT_SECONDS) == -signal.SIGKILL
        wait_until(lambda: not processes(left) and not left.exists(), "the end of the orphans")
        assert other.poll() is None
        again = subprocess.run([command, "cleanup"], capture_output=True, text=True, check=False)
        assert (again.stdout, again.returncode) == ("", 0)
        wrong = subprocess.run([command, "cleanup", "--all"], capture_output=True, text=True, check=False)
        assert wrong.returncode == 2 and wrong.stderr.startswith("error: unknown option: --all\n")
    finally:
        for process in (other, hung, orphaned, waiting):
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def test_pre_commit_and_the_workflow_call_the_same_commands() -> None:
    hooks = re.findall(r"^\s+entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert hooks == ["make check"]
    workflow = (ROOT / ".github" / "workflows" / "check.yml").read_text()
    assert re.findall(r"^\s+- run: (.*)$", workflow, re.MULTILINE) == ["make check", "make book", "make test"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert re.findall(r'"(3\.\d+)"', workflow) == ["3.11", "3.12", "3.13", "3.14"]


def test_the_paths_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]*(?:/|\.(?:py|txt|toml|md|sh)))`", text)) - {"__version__"}
    named |= set(re.findall(r"\]\(([^):]+)\)", text))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
