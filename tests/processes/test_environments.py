"""Machines and habits that aren't ours: Python's variables, paths of every kind, an interpreter that is gone, closed
streams, and a Ctrl-C that comes before anything has begun."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.terminal import Terminal

from checking.driver import LIMIT_SECONDS, ROOT, command, run

SCRIPT = b"joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k\n"
NAME = """a "checkout" of $HOME's 'own' $(it)"""
OURS = ("client", "commands", "console", "shared", "rpyc", "msgpack")
PYTHONS = ("argparse", "random", "signal", "pathlib", "pip", "venv")
VARIABLES = {
    "PYTHONSAFEPATH": "1",
    "PYTHONPATH": "mine:mine/too",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONINSPECT": "1",
    "PYTHONSTARTUP": "mine/too/random.py",
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "LC_ALL": "C",
}
FATAL = {"PYTHONHOME": "/nowhere", "PYTHONVERBOSE": "1", "PYTHONMALLOC": "nonsense"}
"""With these, a Python that does not ignore them can't start, or prints something."""

BARE = {**VARIABLES, "PYTHONPATH": "mine"}
"""A Python outside of a virtual environment may import modules of its own before it runs any program."""

needs_venv = pytest.mark.skipif(
    not (ROOT / ".venv" / "ready").exists()
    or (ROOT / ".venv" / "ready").read_bytes() != (ROOT / "requirements.txt").read_bytes(),
    reason="needs .venv: make",
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of a user's own, with modules whose names are taken."""
    folder = tmp_path / "mine"
    for place, modules in ((folder, OURS), (folder / "too", PYTHONS)):
        place.mkdir()
        for module in modules:
            (place / f"{module}.py").write_text(f"raise SystemExit('the wrong {module}')\n")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Another checkout, with the same .venv and a path with blanks, quotes and other special characters."""
    copy = tmp_path / NAME
    copy.mkdir()
    for source in (*ROOT.glob("*.py"), ROOT / "Makefile", *ROOT.glob("requirements*.txt")):
        shutil.copy2(source, copy)
    for folder in ("control", "rpc", "console", "checking", "grading", "scripts", "examples", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


def make(folder: Path, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user would, not as a part of the make that runs the tests."""
    known = {name: value for name, value in os.environ.items() if "MAKE" not in name and name not in LOCAL}
    return subprocess.run(
        ["make", "-C", str(folder), *arguments],
        input=stdin,
        env={**known, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * LIMIT_SECONDS,
    )


LOCAL = ("python", "script", "lesson", "words", "title")
"""What our own Makefile exports."""


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr, except make's own line about its recipe."""
    return [line for line in done.stderr.splitlines() if not line.startswith("make: ")]


def bare_python() -> str:
    """The Python that the tests' environment was made with: it has none of the packages."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")


# -- Python's variables ------------------------------------------------------------------------------------


def assert_immune(started: list[str], folder: Path, variables: dict[str, str]) -> None:
    environment = {**os.environ, **variables}
    done = subprocess.run(started, input=SCRIPT, cwd=folder, env=environment, capture_output=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"k:v\n", b"", 0)


@needs_venv
@pytest.mark.parametrize("variable", [*VARIABLES, *FATAL])
def test_a_variable_of_pythons_changes_nothing_of_what_is_run(variable: str, checkout: Path, mine: Path) -> None:
    value = {**VARIABLES, **FATAL}[variable]
    assert make(checkout).returncode == 0
    assert_immune([str(checkout / "master")], mine.parent, {variable: value})
    if variable not in FATAL:
        assert_immune([sys.executable, str(checkout / "master.py")], mine.parent, {variable: value})


@needs_venv
@pytest.mark.parametrize("options", [["-P"], ["-I"], ["-E"], ["-O"], ["-X", "utf8"], ["-W", "error"]], ids=" ".join)
def test_options_of_pythons_change_nothing_either(options: list[str], checkout: Path, mine: Path) -> None:
    for python, variables in ((sys.executable, VARIABLES), (bare_python(), BARE), (bare_python(), {})):
        assert_immune([python, *options, str(checkout / "master.py")], mine.parent, variables)


@needs_venv
@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.py") if os.access(path, 1)))
def test_variables_do_not_affect_scripts_either(script: str, checkout: Path, mine: Path) -> None:
    for python, variables in ((sys.executable, VARIABLES), (bare_python(), BARE)):
        done = subprocess.run(
            [python, str(checkout / "scripts" / script), "--help"],
            cwd=mine.parent,
            env={**os.environ, **variables},
            capture_output=True,
            check=False,
        )
        assert done.stdout.startswith(f"usage: {script} ".encode())
        assert (done.stderr, done.returncode) == (b"", 0)


@needs_venv
def test_variables_do_not_affect_make_either(checkout: Path, mine: Path) -> None:
    (checkout / "script").write_bytes(SCRIPT)
    done = make(checkout, "run", "SCRIPT=script", **{**VARIABLES, **FATAL, "PYTHONPATH": f"{mine}:{mine}/too"})
    assert (done.returncode, errors(done)) == (0, ["running script"])
    assert "k:v\n" in done.stdout


@needs_venv
def test_the_help_shows_how_the_program_was_called(checkout: Path) -> None:
    assert make(checkout).returncode == 0
    for called, name in ((["./master"], "./master"), ([sys.executable, "master.py"], "master.py")):
        done = subprocess.run([*called, "--help"], cwd=checkout, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"usage: {name} [-h]")
        assert done.stderr == ""


def test_tests_refuse_to_run_without_assertions() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/processes/test_environments.py", "--collect-only"],
        cwd=ROOT,
        env={**os.environ, "PYTHONOPTIMIZE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "takes the assertions out of the tests" in done.stdout + done.stderr


# -- packages that only bear the name ----------------------------------------------------------------------


@needs_venv
def test_packages_of_the_users_own_come_after_those_that_were_set_up(checkout: Path, tmp_path: Path) -> None:
    """A bare Python imports those in ~/.local. Without .venv, the error names the package that was found."""
    site = tmp_path / f".local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for package in ("rpyc", "msgpack", "setproctitle", "prompt_toolkit", "tqdm"):
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text("")
    started = [bare_python(), str(checkout / "master.py")]
    assert_immune(started, tmp_path, {"HOME": str(tmp_path)})
    (checkout / ".venv").unlink()
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(started, input=SCRIPT, env=environment, capture_output=True, check=False)
    assert (done.stdout, done.returncode) == (b"", 2)
    (told,) = done.stderr.decode().splitlines()
    assert told.startswith(f"error: the package rpyc in {site}/rpyc/__init__.py is not the one that this needs: ")


# -- what make is given ------------------------------------------------------------------------------------

NAMES = ("a b.txt", "it's.txt", 'say "x".txt', "$HOME.txt", "$(x.txt", "-x.txt", "a;b&c.txt", "`x`#\\.txt")


@needs_venv
@pytest.mark.parametrize("name", NAMES)
def test_make_takes_a_script_of_any_name(name: str, checkout: Path) -> None:
    (checkout / name).write_bytes(SCRIPT)
    done = make(checkout, "run", f"SCRIPT={name}")
    assert (done.returncode, errors(done)) == (0, [f"running {name}"])
    assert "k:v\n" in done.stdout
    assert "k:v\n" in make(checkout, "run", SCRIPT=name).stdout


@needs_venv
def test_make_lesson_takes_them_as_well(checkout: Path) -> None:
    name, folder = '-it\'s "x" $HOME $(x.txt', "-a 'lesson' for $5"
    (checkout / name).write_bytes(SCRIPT)
    done = make(checkout, "lesson", f"SCRIPT={name}", f"LESSON={folder}")
    assert (done.returncode, errors(done)) == (0, [])
    assert "valid: 4 operations" in done.stdout
    assert (checkout / folder / "printed").read_bytes() == b"k:v\n"
    assert "$HOME $(x.txt" in (checkout / folder / "report.html").read_text()
    done = make(checkout, "lesson", "SCRIPT=-", stdin=SCRIPT.decode(), CDPATH="/tmp")
    assert "valid: 4 operations" in done.stdout


@needs_venv
def test_a_quoted_word_in_args_stays_one(checkout: Path) -> None:
    done = make(checkout, "lesson", """ARGS=--operations "10" --topology 'a "ring" of $5'""")
    assert done.returncode
    assert """argument --topology: invalid choice: 'a "ring" of $5'""" in done.stderr
    done = make(checkout, "lesson", "ARGS=--operations '10' --keys \"3\"")
    assert (done.returncode, errors(done)) == (0, [])
    assert "valid: " in done.stdout


# -- .venv, as machines change -----------------------------------------------------------------------------

FAKE = """#!/bin/sh
# Pretends to be a Python that runs here, to what make asks of it: $1 -c 'program', or -I -m venv, or -I -m pip.
printf '%s %s\\n' "${0##*/}" "$*" >> "$CALLS"
case $* in
*'-m venv'*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*' -m '* | *' master.py'* | *'import msgpack'* | *'import setproctitle'*) ;;
*) exec REAL "$1" -c "import sys; PRETENCE; $3" ;;
esac
"""


class Machine:
    """A checkout that is not set up, and a PATH that begins with fake Pythons."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        (checkout / ".venv").unlink()
        self.pythons = checkout.parent / "pythons, $5 each"
        self.pythons.mkdir()
        self.calls = checkout.parent / "calls"

    def add(self, name: str, pretence: str = "pass") -> Path:
        """Make a Python that pretends to be another, by a statement that it runs."""
        path = self.pythons / name
        path.write_text(FAKE.replace("REAL", bare_python()).replace("PRETENCE", pretence))
        path.chmod(0o755)
        return path

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        path = f"{self.pythons}:{os.environ['PATH']}"
        return make(self.checkout, *arguments, PATH=path, CALLS=str(self.calls))

    def master(self) -> tuple[str, int]:
        """The output of ./master on stderr, and its exit status."""
        done = subprocess.run(
            [self.checkout / "master"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.stdout == ""
        return done.stderr, done.returncode

    def set_up_by(self) -> list[str]:
        """Which Python has made .venv."""
        return [line.split()[0] for line in self.calls.read_text().splitlines() if " -m venv " in line]

    def added(self) -> list[str]:
        """Which files pip has installed the packages of, checking their hashes."""
        calls = self.calls.read_text().splitlines()
        return [line.split()[-1] for line in calls if " -m pip install " in line and " --require-hashes " in line]


@pytest.fixture
def machine(checkout: Path) -> Machine:
    return Machine(checkout)


TOO_OLD = "sys.version_info = (3, 10, 13)"
NO_PIP = "sys.modules['ensurepip'] = None"
NEEDS = "error: Daadkvs needs Python 3.11 or later, with its modules venv, ensurepip and ssl"


@pytest.mark.parametrize(
    ("pretence", "told"),
    [(TOO_OLD, "it is 3.10"), (NO_PIP, "it has no module ensurepip"), ("sys.exit(1)", "it cannot be run")],
)
def test_a_python_that_does_not_suffice_is_reported_in_one_line(machine: Machine, pretence: str, told: str) -> None:
    chosen = machine.add("python", pretence)
    machine.add("python3")
    done = machine.make(f"PYTHON={chosen}")
    assert (done.returncode, errors(done)) == (2, [f"{NEEDS} ({chosen}: {told})"])
    assert not (machine.checkout / ".venv").exists()


def test_no_python_at_all(machine: Machine) -> None:
    done = machine.make("PYTHON=/nowhere/python")
    assert (done.returncode, errors(done)) == (2, [f"{NEEDS} (/nowhere/python: it cannot be run)"])


def test_the_first_python_that_suffices_is_chosen(machine: Machine) -> None:
    machine.add("python3", NO_PIP)
    machine.add("python3.13", TOO_OLD)
    machine.add("python3.12")
    machine.add("python3.11")
    done = machine.make()
    assert (done.returncode, machine.set_up_by()) == (0, ["python3.12"])
    assert errors(done) == ["setting up .venv …", "./master is ready: ./master < script"]


def test_the_python_that_is_named_is_chosen(machine: Machine) -> None:
    machine.add("python3")
    chosen = machine.add("it's one")
    assert (machine.make(f"PYTHON={chosen}").returncode, machine.set_up_by()) == (0, ["it's"])


@pytest.fixture
def set_up(machine: Machine) -> Machine:
    machine.add("python3")
    assert machine.make().returncode == 0
    assert machine.set_up_by() == ["python3"]
    assert (machine.make().returncode, machine.set_up_by()) == (0, [])  # nothing has changed
    return machine


def test_an_interpreter_that_is_gone(set_up: Machine) -> None:
    python = set_up.checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/python3.gone")
    told = f"{set_up.checkout}/.venv is missing, or the Python that it was made with is gone; `make` sets it up anew"
    assert set_up.master() == (f"error: {told}\n", 2)
    python.unlink()  # or make's copy of our Python goes to where the link leads
    assert (set_up.make().returncode, set_up.set_up_by()) == (0, ["python3"])


def test_an_interpreter_of_another_version(set_up: Machine) -> None:
    """It runs, but does not look for packages in the folder of the earlier version."""
    python = set_up.checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(bare_python())
    told, status = set_up.master()
    assert (told, status) == (
        "error: packages that this needs are missing; `make` installs everything in .venv, for ./master\n",
        2,
    )
    python.unlink()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert (set_up.make().returncode, set_up.set_up_by()) == (0, ["python3"])


def test_requirements_that_have_changed(set_up: Machine) -> None:
    requirements = set_up.checkout / "requirements.txt"
    with requirements.open("a") as file:
        file.write("# one more\n")
    later = time.time() + 5
    os.utime(requirements, (later, later))
    assert set_up.master() == (f"error: {requirements} has changed; `make` sets up .venv anew\n", 2)
    assert (set_up.make().returncode, set_up.set_up_by()) == (0, ["python3"])
    os.utime(requirements, (later + 5, later + 5))  # as good as new, and the same
    assert (set_up.make().returncode, set_up.set_up_by()) == (0, [])


def test_what_tests_and_checks_need_is_added_when_they_are_run(set_up: Machine) -> None:
    """They are not installed before, and neither this nor a change of them sets up .venv again."""
    assert set_up.added() == []
    assert (set_up.make("check").returncode, set_up.added()) == (0, ["requirements-dev.txt"])
    assert (set_up.make("check").returncode, set_up.added()) == (0, [])
    with (set_up.checkout / "requirements-dev.txt").open("a") as file:
        file.write("# one more\n")
    assert (set_up.make("run").returncode, set_up.added()) == (0, [])
    assert (set_up.make("test").returncode, set_up.added(), set_up.set_up_by()) == (0, ["requirements-dev.txt"], [])
    with (set_up.checkout / "requirements.txt").open("a") as file:
        file.write("# one more\n")
    assert set_up.make("check").returncode == 0
    assert (set_up.added(), set_up.set_up_by()) == (["requirements.txt", "requirements-dev.txt"], ["python3"])


def test_what_pip_puts_elsewhere_is_noticed(machine: Machine) -> None:
    path = machine.add("python3")
    path.write_text(path.read_text().replace("*'import msgpack'*", "nothing"))
    done = machine.make()
    assert done.returncode == 2
    assert errors(done)[-1].startswith("error: pip has not put the packages into .venv")
    assert not (machine.checkout / ".venv" / "ready").exists()


# -- standard streams --------------------------------------------------------------------------------------


def with_streams(streams: str, *options: str, script: bytes = SCRIPT) -> tuple[str, int]:
    """The output of a master on stderr with these redirections, and its exit status."""
    started = ["sh", "-c", f'exec "$@" {streams}', "sh", *command(*options)]
    done = subprocess.run(started, input=script, capture_output=True, timeout=LIMIT_SECONDS, check=False)
    assert done.stdout == b""
    return done.stderr.decode(), done.returncode


FULL = "error: standard output: No space left on device\n"
CLOSED = "error: standard output: Bad file descriptor\n"


@pytest.mark.parametrize("options", [(), ("--help",), ("--version",)], ids=" ".join)
def test_what_cannot_be_printed_is_an_error(options: tuple[str, ...]) -> None:
    assert with_streams(">/dev/full", *options) == (FULL, 1)
    assert with_streams(">&-", *options) == (CLOSED, 1)


def test_nothing_to_print_needs_no_standard_output() -> None:
    assert with_streams(">&-", script=SCRIPT.replace(b"get 5 k\n", b"")) == ("", 0)


def test_a_closed_standard_input_is_no_empty_script() -> None:
    assert with_streams("<&-") == ("error: standard input: Bad file descriptor\n", 1)


@pytest.mark.parametrize("script", ["generate.py", "check.py --help", "simulate.py --help", "load.py --help"])
def test_scripts_report_a_closed_standard_output_as_well(script: str) -> None:
    name, *options = script.split()
    started = ["sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, str(ROOT / "scripts" / name), *options]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == (FULL, 2)


# -- a Ctrl-C before anything has begun --------------------------------------------------------------------

BOMBARDED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from control import roles
from rpc import spawner

os.setpgid(0, 0)
signal.signal(signal.SIGINT, lambda *_: None)
ready, told = os.pipe()
bomber = os.fork()
if not bomber:
    os.setpgid(0, 0)
    os.write(told, b"!")
    while os.getppid() != 1:
        os.killpg(os.getppid(), signal.SIGINT)
os.read(ready, 1)
try:
    for number in range(5):
        folder = f"{sys.argv[2]}/{number}"
        os.mkdir(folder)
        started = spawner.Spawner(roles.load, folder, lambda folder=folder: os.rmdir(folder), 10.0)
        assert started.start("client", 5, "client-5")
        started.end(10.0)
finally:
    os.kill(bomber, signal.SIGKILL)
    os.waitpid(bomber, 0)
print("well")
"""


def test_the_spawner_outlives_a_ctrl_c_that_comes_as_it_is_forked(tmp_path: Path) -> None:
    """One signal after another reaches the whole group, until the spawner has a session of its own."""
    started = [sys.executable, "-c", BOMBARDED, str(ROOT), str(tmp_path)]
    done = subprocess.run(started, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert (done.stdout, done.stderr) == ("well\n", "")


@needs_venv
def test_a_ctrl_c_at_any_moment_of_the_start_ends_a_script_in_silence(checkout: Path) -> None:
    assert make(checkout).returncode == 0
    for moment in range(0, 120, 3):
        with subprocess.Popen(
            [checkout / "master"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            time.sleep(moment / 1000)
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout and process.stderr  # its input stays open: nothing else ends it
            told = process.stdout.read(), process.stderr.read(), process.wait(LIMIT_SECONDS)
        assert told in ((b"", b"", -signal.SIGINT), (b"", b"", 128 + signal.SIGINT)), f"after {moment} ms: {told}"


@needs_venv
def test_where_env_cannot_hold_it_back_it_still_ends_a_run_that_has_begun(checkout: Path, tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    (path / "env").write_text("#!/bin/sh\necho 'env: unknown option' >&2\nexit 125\n")
    (path / "env").chmod(0o755)
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    assert make(checkout, PATH=environment["PATH"]).returncode == 0
    with subprocess.Popen(
        [checkout / "master"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(SCRIPT)
        process.stdin.flush()
        assert process.stdout.readline() == b"k:v\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_SECONDS) == 128 + signal.SIGINT


@needs_venv
def test_a_ctrl_c_at_any_moment_of_the_start_ends_the_prompt_or_leaves_one_that_works(
    checkout: Path, tmp_path: Path
) -> None:
    assert make(checkout).returncode == 0
    for moment in range(0, 480, 40):
        with Terminal(tmp_path, program=[str(checkout / "master")]) as terminal:
            time.sleep(moment / 1000)
            terminal.type("\x03")
            while not terminal.prompts() and terminal.read(LIMIT_SECONDS):
                pass
            if terminal.prompts():
                terminal.type("joinServer 0\rjoinClient 5 0\rput 5 k v\rget 5 k\r")
                terminal.until_shown("k:v")
                assert terminal.end("exit\r") == 0
            else:
                assert terminal.process.wait(LIMIT_SECONDS) in (-signal.SIGINT, 128 + signal.SIGINT)


IGNORES_ENDS = (
    "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize(
    ("script", "printed"), [("", b""), ("joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k\n", b"k:v\n")]
)
def test_whoever_starts_it_ignores_the_end_of_processes(script: str, printed: bytes) -> None:
    assert run(script, prefix=(sys.executable, "-c", IGNORES_ENDS)) == (printed, "", 0)


# -- the prompt's history ----------------------------------------------------------------------------------


def test_a_history_with_another_editors_line_ends(tmp_path: Path) -> None:
    (tmp_path / "daadkvs").mkdir()
    (tmp_path / "daadkvs" / "history").write_bytes(b"\xef\xbb\xbfnonsense 1\r\njoinServer 0\r\nnonsense 2\r\n")
    up = "\x1b[A"
    with Terminal(tmp_path, environment={"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.until_prompt()
        terminal.type(f"{up}\r")
        terminal.until_shown("error: unknown command: nonsense")
        terminal.until_prompt(2)
        terminal.type(f"{up}{up}{up}\r")
        terminal.until_prompt(3)
        assert [line for line in terminal.lines if "error" in line] == ["error: unknown command: nonsense"] * 2
        assert terminal.process.poll() is None
        assert terminal.end("exit\r") == 1
