"""daadkvs.py: a cluster from Python, its answers and exceptions, its threads, and its end however that comes about."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.pages import data_of

import daadkvs
from checking.driver import LIMIT_SECONDS, ROOT, processes, run, run_directory, send_signal, wait_until
from daadkvs import DaadkvsError, Run, Uncertain

pytest_plugins = ["scripts.fixtures"]


def small(run: Run) -> Run:
    """Servers 0 and 1, client 5 at 0, which has put red."""
    run.script("joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 colour red")
    return run


def directory_of(run: Run) -> Path:
    directory = run_directory(run.pid)
    assert directory is not None
    return directory


def freeze_server(run: Run, server: int = 0) -> int:
    """Stop a server, so that it answers nothing more. Returns its process id."""
    pid = run.status().servers[server].pid
    assert pid
    send_signal(pid, signal.SIGSTOP, f"server {server}")
    return pid


def gone(directory: Path) -> None:
    wait_until(lambda: not processes(directory) and not directory.exists(), f"the end of all in {directory}")


# -- commands and answers ----------------------------------------------------------------------------------------------


def test_what_the_page_shows(daadkvs_run: Run) -> None:
    """The first example of docs/python.md, with its answers."""
    page = (ROOT / "docs" / "python.md").read_text()
    example = page.partition("\n\n")[2].partition("\n\n`daadkvs.py` needs")[0]
    shown = [line for line in example.splitlines() if "  # " in line]
    code = "\n".join(line[8:] for line in example.splitlines()[3:])
    expected = {line.partition("  # ")[0].strip(): line.partition("  # ")[2].strip() for line in shown}
    assert len(expected) == 5
    names: dict[str, object] = {"run": daadkvs_run}
    for part in re.split(r'\n(?=\S)(?!""")', code):
        line = part.partition("  # ")[0].strip()
        if line not in expected:
            exec(part, names)
            continue
        shown_value, begin = repr(eval(line, names)), expected[line].partition("…")[0]
        assert shown_value.startswith(begin) and (begin != expected[line] or shown_value == begin), line


def test_each_command_is_a_method(daadkvs_run: Run) -> None:
    run = daadkvs_run
    for server in (0, 1):
        assert run.join_server(server).command == f"joinServer {server}"
    run.join_client(5, 0)
    put = run.put(5, "colour", "red")
    assert (put.type, put.server, put.value, put.error) == ("ok", 0, None, None)
    get = run.get(5, "colour")
    assert (get.value, get.raw, get.error, get.server, get.timestamp) == ("red", b"red", None, 0, put.timestamp)
    assert get.seconds > 0 and get.line == 5 and get.json["f"] == "get"
    run.break_connection(1, 0)
    run.create_connection(5, 1)
    run.break_connection(5, 0)
    behind = run.get(5, "colour")
    assert (behind.value, behind.raw, behind.error, behind.server) == (None, None, "ERR_DEP", None)
    assert behind.why[-1].startswith("No path of links led from there")
    assert run.get(5, "shape").error == "ERR_KEY"
    run.create_connection(0, 1)
    shaped = run.shape_connection(0, 1, "3ms", loss="10%")
    assert (shaped.command, shaped.json["shape"]) == ("shapeConnection 0 1 3ms 0ms 10%", "3ms 10%")
    run.stabilize()
    assert run.print_store(1).store == run.store(1) == {"colour": "red"}
    run.kill_server(0)
    assert run.status().partitions == [[1]]
    assert run.status().servers[0] == daadkvs.Server(None)
    assert run.status().clients[5].connections == (1,)
    assert run.stores() == {1: {"colour": "red"}}
    assert repr(behind).startswith("Answer(command='get 5 colour', type='ok', error='ERR_DEP', why=(")


def test_keys_and_values_of_any_bytes(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    for key, value in (("grün", "Straße 1"), (b"\xff", b"\xfe \x00"), ("k", b"\xc3"), ("#", "#"), ("a:b", "c:d\te")):
        daadkvs_run.put(5, key, value)
        answer = daadkvs_run.get(5, key)
        assert answer.value == value
        assert answer.raw == (value if isinstance(value, bytes) else value.encode())
    assert daadkvs_run.put(5, b"ascii", b"bytes").type == "ok"
    assert list(daadkvs_run.store(0)) == ["#", "a:b", "ascii", "colour", "grün", "k", b"\xff"]


def test_values_as_large_as_they_may_be(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    value = "x" * (64 << 20)
    daadkvs_run.put(5, "large", value)
    assert daadkvs_run.get(5, "large").value == value
    with pytest.raises(DaadkvsError, match="at most 67108864 are allowed"):
        daadkvs_run.put(5, "large", value + "x")
    assert daadkvs_run.get(5, "colour").value == "red"


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("", "v", "a key is one word"),
        ("a b", "v", "a key is one word"),
        ("a\nput", "v", "a key is one word"),
        ("a\r", "v", "a key is one word"),
        ("k", "", "a value has no line end"),
        ("k", " v", "a value has no line end"),
        ("k", "v\t", "a value has no line end"),
        ("k", "v\r", "a value has no line end"),
        ("k", "v\nkillServer 0", "a value has no line end"),
    ],
)
def test_what_a_line_cannot_hold(daadkvs_run: Run, key: str, value: str, why: str) -> None:
    small(daadkvs_run)
    with pytest.raises(DaadkvsError, match=why):
        daadkvs_run.put(5, key, value)
    assert daadkvs_run.store(0) == {"colour": "red"}


def test_values_that_are_no_text(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    with pytest.raises(TypeError):
        daadkvs_run.put(5, "k", 7)  # type: ignore[arg-type]
    assert daadkvs_run.store(0) == {"colour": "red"}


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_are_exceptions_with_the_masters_text(daadkvs_run: Run) -> None:
    with pytest.raises(DaadkvsError) as refused:
        daadkvs_run.kill_server(3)
    assert str(refused.value) == "killServer: server 3 is not running"
    assert [answer.type for answer in refused.value.answers] == ["error"]
    assert not isinstance(refused.value, Uncertain)
    for line, why in (("nonsense", "unknown command: nonsense"), ("", "not one command"), ("a\nb", "not one command")):
        with pytest.raises(DaadkvsError, match=why):
            daadkvs_run.command(line)
    assert daadkvs_run.join_server(0).type == "ok"


def test_a_script_goes_on_after_an_error_and_then_raises_it(daadkvs_run: Run) -> None:
    script = "joinServer 0\n\nnonsense\n# a comment\njoinClient 5 0\nkillServer 9\nput 5 k v\nget 5 k\n"
    with pytest.raises(DaadkvsError, match=r"^unknown command: nonsense$") as raised:
        daadkvs_run.script(script)
    assert [answer.type for answer in raised.value.answers] == ["ok", "error", "ok", "error", "ok", "ok"]
    assert raised.value.answers[-1].value == "v"
    answers = daadkvs_run.script(b"killServer 9\nget 5 k", check=False)
    assert [(answer.type, answer.error, answer.value) for answer in answers] == [
        ("error", "server 9 is not running", None),
        ("ok", None, "v"),
    ]
    assert daadkvs_run.script("# nothing\n\n") == []


def test_a_long_script_that_answers_much(daadkvs_run: Run) -> None:
    """More than pipes hold, both ways at once."""
    small(daadkvs_run)
    value = "v" * 1000
    lines = [line for number in range(2000) for line in (f"put 5 k{number} {value}{number}", f"get 5 k{number}")]
    answers = daadkvs_run.script("\n".join(lines))
    assert [answer.value for answer in answers[1::2]] == [f"{value}{number}" for number in range(2000)]


def test_deaths_are_events_and_a_lost_put_is_uncertain() -> None:
    with Run("--timeout=1", gossip_interval=0) as run:
        small(run)
        pids = {ident: server.pid for ident, server in run.status().servers.items()}
        assert pids[0] and pids[1]
        send_signal(pids[1], signal.SIGKILL, "server 1")
        answer = run.get(5, "colour")
        assert answer.value == "red"
        assert answer.events == (daadkvs.Event("died", "server 1 died", (1,)),)
        send_signal(pids[0], signal.SIGSTOP, "server 0")
        with pytest.raises(Uncertain, match="uncertain: the server was lost"):
            run.put(5, "colour", "blue")
        assert [event.ids for event in run.events] == [(1,), (0,)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--show",), "argument --show: not allowed with argument --json"),
        (("--data-dir=/proc/none",), "/proc/none: "),
        (("--timeout=soon",), "not a number of seconds"),
    ],
)
def test_a_run_that_cannot_begin_says_why(options: tuple[str, ...], why: str) -> None:
    with pytest.raises(DaadkvsError, match=re.escape(why)):
        Run(*options)


# -- what has happened -------------------------------------------------------------------------------------------------


def test_history_report_and_diagram(daadkvs_run: Run, tmp_path: Path) -> None:
    small(daadkvs_run).script("breakConnection 0 1\ncreateConnection 5 1\nbreakConnection 5 0\nget 5 colour")
    history = daadkvs_run.history()
    assert [line["f"] for line in history if line.get("type") == "ok"][3] == "put"
    (tmp_path / "history").write_text("".join(json.dumps(line) + "\n" for line in history))
    check = [sys.executable, str(ROOT / "scripts" / "check.py"), str(tmp_path / "history")]
    assert subprocess.run(check, capture_output=True, text=True, check=False).stdout.startswith("valid: 8 operations")
    daadkvs_run.report(tmp_path / "report.html")
    assert "No path of links led from there" in data_of(tmp_path / "report.html")
    picture = daadkvs_run.diagram()
    assert picture.svg.startswith("<svg ") and picture.svg.rstrip().endswith("</svg>")
    for text in ("client 5", "server 1", "put 5 colour red", "get colour → ERR_DEP", "partition 1", "Read Your Writes"):
        assert text in picture.svg
    assert picture.svg in picture._repr_html_()
    with pytest.raises(DaadkvsError, match="No such file or directory"):
        daadkvs_run.report(tmp_path / "nowhere" / "report.html")


def test_nothing_is_recorded_unless_it_is_asked_for() -> None:
    with Run(trace=False) as run:
        small(run)
        for ask in (run.history, run.diagram, lambda: run.report("report.html")):
            with pytest.raises(DaadkvsError, match="nothing is recorded"):
                ask()
    with Run() as run:
        small(run)
    for ask in (run.history, run.diagram):
        with pytest.raises(DaadkvsError, match="the run has ended"):
            ask()


def test_stores_are_a_table(daadkvs_run: Run) -> None:
    small(daadkvs_run).put(5, b"\xff<", "<b>")
    stores = daadkvs_run.stores()
    assert stores == {0: {"colour": "red", b"\xff<": "<b>"}, 1: {}}
    html = stores._repr_html_()
    assert "<th>server 1</th>" in html and "<td>red</td><td></td>" in html and "&lt;b&gt;" in html
    pytest.importorskip("pandas")
    table = stores.to_pandas()
    assert list(table.columns) == ["server 0", "server 1"]
    assert table.loc["colour", "server 0"] == "red" and table.loc["colour", "server 1"] is None


def test_a_data_directory_keeps_the_stores(tmp_path: Path) -> None:
    with Run(data_dir=tmp_path) as run:
        small(run)
    with Run(data_dir=tmp_path) as run:
        run.join_server(0)
        assert run.store(0) == {"colour": "red"}


# -- threads and interruptions -----------------------------------------------------------------------------------------


def test_many_threads_may_use_a_run(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    wrong: list[object] = []

    def use(name: int) -> None:
        for number in range(50):
            daadkvs_run.put(5, f"key-{name}", f"{name}-{number}")
            found = daadkvs_run.get(5, f"key-{name}").value
            if found != f"{name}-{number}":
                wrong.append(found)

    threads = [threading.Thread(target=use, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECONDS)
    assert wrong == []
    assert len(daadkvs_run.store(0)) == 9


def test_an_interruption_ends_the_wait_and_not_the_run(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    pid = freeze_server(daadkvs_run)
    waits = threading.Event()

    def interrupt() -> None:
        waits.wait()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            waits.set()
            daadkvs_run.put(5, "colour", "blue")
            time.sleep(LIMIT_SECONDS)  # where it came later; it ends this as well
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert daadkvs_run.put(5, "shape", "round").type == "ok"
    assert daadkvs_run.get(5, "shape").value == "round"


def interrupt(*_: object) -> None:
    """The handler of a signal that raises an exception, as that of Ctrl-C does."""
    raise TimeoutError


@contextmanager
def alarms(handler: Callable[..., None]) -> Iterator[None]:
    """Within this block SIGALRM, which a timer sends, calls a handler; no timer is left at its end."""
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def alarm_while_it_waits(run: Run) -> Iterator[None]:
    """Within this block SIGALRM is sent to this thread as soon as the master has a command to answer."""
    waiting = threading.get_ident()

    def send() -> None:
        wait_until(lambda: run._talk._under_way.missing, "a command to be under way")
        signal.pthread_kill(waiting, signal.SIGALRM)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_interruptions_at_any_moment_leave_the_run_in_step(daadkvs_run: Run) -> None:
    """A timer's signal raises an exception in the middle of commands, some of them longer than a pipe takes."""
    small(daadkvs_run)
    chance = random.Random(1)
    long = "x" * 200_000
    given_up = 0
    with alarms(interrupt):
        for number in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 2e-3))
                daadkvs_run.put(5, "many", long if number % 5 == 0 else str(number))
                daadkvs_run.get(5, "many")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeoutError:
                given_up += 1
            if number % 5 == 4:
                assert daadkvs_run.put(5, "mine", str(number)).type == "ok"
                assert daadkvs_run.get(5, "mine").value == str(number)
    assert given_up


def test_a_handler_of_signals_is_told_that_its_thread_waits_already(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    pid = freeze_server(daadkvs_run)
    told: list[str] = []

    def ask(*_: object) -> None:
        try:
            daadkvs_run.get(5, "colour")
        except DaadkvsError as error:
            told.append(str(error))
        os.kill(pid, signal.SIGCONT)

    with alarms(ask), alarm_while_it_waits(daadkvs_run):
        assert daadkvs_run.put(5, "colour", "blue").type == "ok"
    assert told == ["this thread waits for another command of the run already"]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_after_its_end_a_run_says_so() -> None:
    run = Run()
    directory = directory_of(small(run))
    run.close()
    gone(directory)
    run.close()
    with pytest.raises(DaadkvsError, match="the run has ended"):
        run.get(5, "colour")


@pytest.mark.parametrize("turn", range(20))
def test_an_interrupted_close_is_no_dead_end(turn: int) -> None:
    """Whatever has happened by then, the next call says that the run has ended, and another `close` ends it."""
    run = small(Run(gossip_interval=0, trace=False))
    directory = directory_of(run)

    with suppress(TimeoutError), alarms(interrupt):
        signal.setitimer(signal.ITIMER_REAL, 1e-5 + turn * 2e-3)
        run.close()
        signal.setitimer(signal.ITIMER_REAL, 0)
    run.close()
    with pytest.raises(DaadkvsError, match="the run has ended"):
        run.get(5, "colour")
    gone(directory)


def test_a_command_that_was_given_up_and_a_close_after_it(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    freeze_server(daadkvs_run)
    with alarms(interrupt), alarm_while_it_waits(daadkvs_run), pytest.raises(TimeoutError):
        daadkvs_run.put(5, "colour", "blue")
    daadkvs_run.close()
    with pytest.raises(DaadkvsError, match="the run has ended"):
        daadkvs_run.get(5, "colour")


def test_a_master_that_is_killed_is_told_of() -> None:
    with Run() as run:
        directory = directory_of(small(run))
        os.kill(run.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(DaadkvsError, match=r"^the master was killed by signal 9$"):
                run.get(5, "colour")
    gone(directory)


def test_a_run_that_is_closed_while_somebody_waits() -> None:
    run = small(Run(gossip_interval=0))
    directory = directory_of(run)
    freeze_server(run)
    told: list[str] = []

    def wait() -> None:
        try:
            run.put(5, "colour", "blue")
        except DaadkvsError as error:
            told.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: run._talk._under_way.missing or told, "the thread to wait")
    run.close()
    thread.join(LIMIT_SECONDS)
    assert len(told) == 1
    gone(directory)


def test_a_run_is_closed_without_a_descriptor(daadkvs_run: Run) -> None:
    """While another thread waits, who sees the end of the master first, and waits for that as well."""
    small(daadkvs_run)
    directory = directory_of(daadkvs_run)
    freeze_server(daadkvs_run)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(daadkvs_run.put, 5, "colour", "blue")
        wait_until(lambda: daadkvs_run._talk._under_way.missing, "the thread to wait")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            daadkvs_run.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with pytest.raises(DaadkvsError):
            waiting.result()
    gone(directory)


def test_a_run_that_nobody_has_any_more_ends() -> None:
    run = small(Run())
    directory = directory_of(run)
    del run
    gc.collect()
    gone(directory)


FORGOTTEN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from daadkvs import Run
run = Run()
run.script("joinServer 0\\njoinClient 5 0\\nput 5 k v")
print(run.pid, flush=True)
sys.stdin.readline()
{{end}}
"""


@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise SystemExit(3)",
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "import os, signal; signal.signal(2, signal.SIG_DFL); os.killpg(0, 2)",
        "import os, time\nif os.fork():\n    os.kill(os.getpid(), 9)\ntime.sleep(600)",
    ],
    ids=["at its end", "by SystemExit", "by _exit", "by SIGKILL", "by Ctrl-C", "with a child that goes on"],
)
def test_a_forgotten_run_ends_with_its_interpreter(end: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", FORGOTTEN.format(end=end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert program.stdin and program.stdout and program.stderr
    try:
        directory = run_directory(int(program.stdout.readline()))
        assert directory is not None and len(processes(directory)) == 4
        program.stdin.write(b"\n")
        program.stdin.flush()
        program.wait(LIMIT_SECONDS)
        gone(directory)
        if "fork" not in end:
            assert program.stderr.read() == b""
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all have ended
        program.wait()
        for stream in (program.stdin, program.stdout, program.stderr):
            stream.close()


def test_a_run_is_of_one_process(daadkvs_run: Run) -> None:
    small(daadkvs_run)
    child = os.fork()
    if not child:
        try:
            daadkvs_run.get(5, "colour")
        except DaadkvsError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert daadkvs_run.get(5, "colour").value == "red"


# -- the module --------------------------------------------------------------------------------------------------------


def test_it_needs_nothing_but_python() -> None:
    """And imports little: what takes time comes when it is needed."""
    code = "import sys; before = set(sys.modules); import daadkvs; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"daadkvs"}
    assert loaded <= sys.stdlib_module_names
    assert loaded.isdisjoint({"subprocess", "json", "tempfile", "asyncio", "inspect", "dataclasses", "html"})


def test_plain_output_is_the_same(daadkvs_run: Run) -> None:
    script = (ROOT / "examples" / "5-chain.txt").read_text()
    plain = run(script, "--gossip-interval", "0").stdout.decode()
    printed = ""
    for answer in daadkvs_run.script(script):
        if answer.json["f"] == "get":
            printed += f"{answer.json['key']}:{answer.value or answer.error!s}\n"
        for key, value in (answer.store or {}).items():
            printed += f"{key!s}:{value!s}\n"
    assert printed == plain
