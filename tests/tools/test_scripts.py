"""Complete scripts that are piped into a real master: stdout, stderr and the exit status."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from checking.driver import ROOT, Conversation, Result, command, run
from checking.oracle import OBSERVER, Oracle, check, random_script

INTERVALS = ("0", "0.002", "0.01", "1")
MIB = 1 << 20
PAIR = "joinServer 0\njoinClient 5 0\n"


def assert_silent(result: Result) -> None:
    assert (result.stderr, result.status) == ("", 0)


def assert_errors(result: Result, lines: list[int], prefix: str = "") -> None:
    """There is exactly one error for each of these lines, and the exit status is that of errors."""
    told = [re.match(rf"error: {re.escape(prefix)}line (\d+): .", error) for error in result.errors]
    assert all(told), result.stderr
    assert [int(match[1]) for match in told if match] == lines
    assert result.status == (1 if lines else 0)


# -- against the oracle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", INTERVALS)
def test_random_scripts_get_no_answer_that_the_contract_does_not_allow(interval: str) -> None:
    """Without gossip every byte can be predicted. With gossip, every answer is one of those that are allowed."""

    def compare(seed: int) -> Oracle:
        script = random_script(Random(seed), 140)
        result = run(b"".join(script), "--gossip-interval", interval)
        try:
            return check(script, *result, gossip=interval != "0")
        except AssertionError as mismatch:
            raise AssertionError(f"seed {seed}, gossip interval {interval}: {mismatch}") from None

    with ThreadPoolExecutor(2) as pool:
        oracles = list(pool.map(compare, range(24)))
    assert any(oracle.seen for oracle in oracles)


@pytest.mark.parametrize("seed", range(3))
def test_a_script_fed_line_by_line_is_answered_the_same(seed: int) -> None:
    script = random_script(Random(1000 + seed), 90)
    oracle = Oracle(gossip=False)
    with Conversation("--gossip-interval", "0") as conversation:
        for line in script:
            output = conversation.do(line)
            oracle.answers.extend(output.stdout.split(b"\n")[:-1])
            assert len(output.errors) == oracle.step(line), (line, output.errors)
            oracle.check_end()


def test_scripts_that_stabilize_before_they_look_elsewhere_always_print_the_same() -> None:
    """The last put in the script stands, in whatever order gossip runs."""
    random = Random(7)
    script = [f"joinServer {server}" for server in range(4)]
    script += [f"joinClient {10 + server} {server}" for server in range(4)]
    last = {}
    for turn in range(6):
        for number in range(60):
            key, value = f"k{random.randrange(9)}", f"{turn}-{number}"
            script.append(f"put {random.randrange(10, 14)} {key} {value}")
            last[key] = value
        if turn % 2:
            ends = random.sample(range(4), 2)
            script += [f"breakConnection {ends[0]} {ends[1]}", f"killServer {turn % 4}", f"joinServer {turn % 4}"]
        script.append("stabilize")
        script += [f"get {random.randrange(10, 14)} k{random.randrange(9)}" for _ in range(20)]
    script += [f"printStore {server}" for server in range(4)]
    store = "".join(f"{key}:{last[key]}\n" for key in sorted(last)).encode()
    data = "\n".join(script)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda interval: run(data, "--gossip-interval", interval), INTERVALS * 4))
    for result in results:
        assert_silent(result)
        assert result.stdout.endswith(store * 4)
    assert len({result.stdout for result in results}) == 1


# -- much and large ----------------------------------------------------------------------------------------


def test_four_thousand_puts_over_five_clients_reach_five_servers() -> None:
    lines = [f"joinServer {server}" for server in range(5)]
    lines += [f"joinClient {10 + server} {server}" for server in range(5)]
    expected = {}
    for number in range(4000):
        key, value = f"key-{number % 900}", f"{number}-".ljust(800, chr(97 + number % 26))
        lines.append(f"put {10 + number % 5} {key} {value}")
        expected[key] = value
    lines += ["stabilize", *(f"printStore {server}" for server in range(5))]
    result = run("\n".join(lines))
    assert_silent(result)
    assert result.stdout == 5 * "".join(f"{key}:{expected[key]}\n" for key in sorted(expected)).encode()


def test_a_value_of_4_mib_reaches_the_other_server() -> None:
    value = Random(4).randbytes(4 * MIB).translate(None, b"\r\n\t ") + b"!"
    script = PAIR.encode() + b"joinServer 1\nput 5 k " + value + b"\nstabilize\nget 5 k\nprintStore 1\n"
    result = run(script, "--gossip-interval", "0")
    assert_silent(result)
    assert result.stdout == 2 * (b"k:" + value + b"\n")


def test_a_value_may_have_64_mib_and_not_one_byte_more() -> None:
    value = b"x" * (64 * MIB)
    script = [PAIR.encode(), b"put 5 k ", value, b"\nput 5 k ", value, b"y\nget 5 k\nprintStore 0\nget 5 l"]
    result = run(b"".join(script), "--gossip-interval", "0")
    assert_errors(result, [4])
    assert result.stdout == 2 * (b"k:" + value + b"\n") + b"l:ERR_KEY\n"


def test_a_key_may_have_64_kib_and_not_one_byte_more() -> None:
    key = "k" * (64 << 10)
    result = run(f"{PAIR}put 5 {key} v\nput 5 {key}k v\nget 5 {key}\nget 5 {key}k\n")
    assert_errors(result, [4, 6])
    assert result.stdout == f"{key}:v\n".encode()


def test_a_line_of_200_mib_is_one_error() -> None:
    with Conversation() as conversation:
        conversation.do(PAIR)
        for _ in range(200):
            assert conversation.process.stdin is not None
            conversation.process.stdin.write(b"x" * MIB)
        output = conversation.do("\nput 5 k v\nget 5 k")
        assert output.lines == ["k:v"]
        assert len(output.errors) == 1
        assert len(output.errors[0]) < 200


def test_a_hundred_thousand_lines() -> None:
    filler = ["# a comment", "", "   ", "get 5 k", "#", "\t"]
    lines = [filler[number % 6] for number in range(100_000)]
    lines[50_000] = "put 5 k v"
    lines[99_998] = "nonsense"
    result = run(f"{PAIR}" + "\n".join(lines))
    assert_errors(result, [100_001])
    before = sum(line.startswith("get") for line in lines[:50_000])
    after = sum(line.startswith("get") for line in lines[50_000:])
    assert result.stdout == b"k:ERR_KEY\n" * before + b"k:v\n" * after


@pytest.mark.parametrize("script", ["", "\n", "# nothing", " \t\r\n\n"])
def test_an_empty_script(script: str) -> None:
    assert run(script) == Result(b"", "", 0)


def test_a_thousand_bad_lines() -> None:
    bad = ["nonsense", "put 5", "get 6 k", "joinServer x", "killServer 9", "joinClient 5 5", "breakConnection 0 0"]
    lines = [bad[number % len(bad)] for number in range(1000)]
    result = run(PAIR + "\n".join(lines) + "\nput 5 k v\nget 5 k\nprintStore 0")
    assert_errors(result, list(range(3, 1003)))
    assert result.stdout == b"k:v\nk:v\n"


# -- how lines are spelled ---------------------------------------------------------------------------------


def test_crlf_and_a_missing_last_line_end() -> None:
    result = run("joinServer 0\r\njoinClient 5 0\r\n\r\n# comment\r\nput 5 k a value\r\nput 5 l w \t\r\nprintStore 0")
    assert result == Result(b"k:a value\nl:w\n", "", 0)


def test_a_carriage_return_inside_a_value_stays() -> None:
    assert run(f"{PAIR}put 5 k a\rb\r\r\nget 5 k\n").stdout == b"k:a\rb\r\n"


def test_bytes_of_every_kind_pass_through() -> None:
    value = bytes(set(range(256)) - {10, 13, 32, 9}) + b" \t\r " + b"\0\xff\xfe."
    result = run(PAIR.encode() + b"put 5 \xff\x00:k " + value + b"\nget 5 \xff\x00:k\nprintStore 0\n")
    assert_silent(result)
    assert result.stdout == 2 * (b"\xff\x00:k:" + value + b"\n")


def test_bytes_of_every_kind_in_bad_lines_stay_one_line() -> None:
    junk = bytes(set(range(256)) - {10})
    script = PAIR.encode() + junk + b"\nput 5 " + junk + b"\njoinServer \x1b[2J\x85\xe2\x80\xa8\n" + b"z" * 100_000
    result = run(script)
    assert result.stdout == b""
    assert_errors(result, [3, 5, 6])  # line 4 is a put: there are blanks in the junk
    assert all(len(error) < 300 and error.isprintable() for error in result.errors)


# -- files as arguments ------------------------------------------------------------------------------------


def test_several_files_and_standard_input(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second script"
    first.write_text(f"{PAIR}nonsense\nput 5 k v")  # the last line has no end, and is still one of its own
    second.write_text("get 5 k\n\nnonsense\n")
    result = run("get 5 k\nnonsense\nput 5 l w\n", str(first), "-", str(second), str(second))
    assert result.stdout == b"k:v\n" * 3
    assert [error.partition(" unknown")[0] for error in result.errors] == [
        f"error: {first}: line 3:",
        "error: line 2:",
        f"error: {second}: line 3:",
        f"error: {second}: line 3:",
    ]
    assert result.status == 1


def test_a_file_without_errors_leaves_standard_input_alone(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"{PAIR}put 5 k v\nget 5 k\n")
    assert run("get 5 k\nget 5 k\n", str(script)) == Result(b"k:v\n", "", 0)


@pytest.mark.parametrize("missing", ["no such file", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, missing: str) -> None:
    script = tmp_path / "script"
    script.write_text(f"{PAIR}get 5 k\n")
    result = run("", str(script), missing, cwd=tmp_path)
    assert (result.stdout, result.status) == (b"", 2)
    assert len(result.errors) == 1
    assert result.stderr.startswith(f"error: {missing}: ")


@pytest.mark.parametrize("missing", [True, False])
def test_a_files_name_may_hold_anything_and_errors_stay_one_line(tmp_path: Path, missing: bool) -> None:
    script = tmp_path / "one\ntwo\x1b[2J"
    if not missing:
        script.write_text("nonsense\n")
    result = run("", str(script))
    assert (result.stdout, result.status) == (b"", 2 if missing else 1)
    (error,) = result.errors
    assert error.startswith(f"error: {tmp_path}/one\\x0atwo\\x1b[2J: ")


def test_more_files_than_descriptors(tmp_path: Path) -> None:
    """There are also more than select can wait for."""
    names = []
    for number in range(1100):
        names.append(str(tmp_path / f"{number}.txt"))
        Path(names[-1]).write_text("# nothing\n")
    (tmp_path / "last.txt").write_text(f"{PAIR}put 5 k v\nget 5 k\n")
    for limit in (64, 4000):
        few = ("sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh")
        assert run("", *names, str(tmp_path / "last.txt"), prefix=few) == Result(b"k:v\n", "", 0)


def test_a_file_that_is_removed_before_its_turn_is_reported(tmp_path: Path) -> None:
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    os.mkfifo(first)
    second.write_text("nonsense\n")
    third.write_text("get 5 k\n")
    started = command(str(first), str(second), str(third))
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as master:
        with first.open("w") as writer:  # from here on the first is being read
            second.unlink()
            writer.write(f"{PAIR}put 5 k v\n")
        stdout, stderr = master.communicate(timeout=60)
    assert (stdout, master.returncode) == (b"k:v\n", 1)
    assert stderr.decode() == f"error: {second}: No such file or directory\n"


def test_a_byte_order_mark_at_the_beginning_does_not_count(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"\xef\xbb\xbf" + PAIR.encode() + b"put 5 \xef\xbb\xbfk v\nget 5 \xef\xbb\xbfk\n")
    assert run("", str(script)) == Result(b"\xef\xbb\xbfk:v\n", "", 0)


def test_a_full_standard_output_is_reported() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(), input=f"{PAIR}put 5 k v\nget 5 k\n".encode(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"error: standard output: No space left on device\n")


def test_a_standard_input_that_is_a_folder_is_reported(tmp_path: Path) -> None:
    """Python would end with ten lines about its own state."""
    command = ["sh", str(ROOT / "scripts" / "master.sh")]
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        done = subprocess.run(command, stdin=fd, capture_output=True, check=False)
    finally:
        os.close(fd)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"error: standard input: Is a directory\n", 2)


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--nonsense",),
        ("--gossip-interval",),
        ("--gossip-interval", "-1"),
        ("--gossip-interval", "soon"),
        ("--gossip-interval", "nan"),
        ("--gossip-interval", "inf"),
        ("--timeout", "0"),
        ("--timeout", "1e-9"),
        ("--timeout", "x"),
        ("--fsync", "sometimes"),
        ("--data-dir",),
        ("--data-dir", "/dev/null"),
        ("--data-dir", "/dev/null/below"),
        ("--trace", "/dev/null/below"),
        ("--trace", "/proc"),
        ("--history", "/proc/none/below"),
        ("--group-limit", "-1"),
        ("--group-limit", "1e3"),
    ],
    ids=" ".join,
)
def test_wrong_options(options: tuple[str, ...]) -> None:
    result = run("joinServer 0\nnonsense\n", *options)
    assert (result.stdout, result.status) == (b"", 2)
    assert "Traceback" not in result.stderr
    assert "error" in result.stderr
    assert "nonsense" not in result.stderr.replace("--nonsense", "")


@pytest.mark.parametrize("option", ["--data-dir", "--trace"])
def test_a_folder_in_one_that_is_gone(option: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    result = run(
        "joinServer 0\n", option, "here", prefix=("sh", "-c", f'cd "{gone}" && rmdir "{gone}" && exec "$@"', "sh")
    )
    assert (result.stdout, result.stderr, result.status) == (b"", "error: here: No such file or directory\n", 2)


def test_help_mentions_every_option_and_command() -> None:
    result = run("", "--help")
    assert_silent(result)
    shown = result.stdout.decode()
    options = set(
        re.findall(r'add_argument\(\s*"(--[a-z-]+)"(?!.*SUPPRESS)', (ROOT / "console/command_line.py").read_text())
    )
    assert options >= {"--data-dir", "--gossip-interval", "--fsync", "--timeout", "--version"}
    commands = ("joinServer", "killServer", "joinClient", "breakConnection", "createConnection", "stabilize")
    for word in (*options, *commands, "printStore", "put clientId key value", "get clientId key", "FILE", "--help"):
        assert word in shown


def bare_python(*options: str) -> subprocess.CompletedProcess[bytes]:
    """master.py, started with the Python that the tests' environment was made with."""
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    script = b"joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k\n"
    return subprocess.run(
        [str(python), *options, str(ROOT / "master.py")], input=script, capture_output=True, check=False
    )


@pytest.mark.skipif(not (ROOT / ".venv" / "ready").exists(), reason="needs .venv: make")
def test_any_python_finds_the_environment() -> None:
    done = bare_python()
    assert (done.stdout, done.stderr, done.returncode) == (b"k:v\n", b"", 0)


def test_missing_packages_are_an_error() -> None:
    done = bare_python("-S")  # no packages at all, there or in .venv
    assert (done.stdout, done.returncode) == (b"", 2)
    assert re.fullmatch(rb"error: packages that this needs are missing; .*\n", done.stderr)


def test_a_package_that_only_tests_need_comes_with_make_check() -> None:
    program = "from console import environment; environment.enter('__main__', ('msgpack', 'no_such_package'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    told = "packages that this needs are missing; `make check` adds no_such_package to .venv, with all that tests need"
    assert (done.stdout, done.stderr, done.returncode) == ("", f"error: {told}\n", 2)


def test_version() -> None:
    result = run("joinServer 0\n", "--version")
    assert_silent(result)
    assert re.fullmatch(rb"Daadkvs \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize("policy", ["always", "interval", "never"])
def test_all_fsync_policies_print_the_same(policy: str, tmp_path: Path) -> None:
    lines = ["joinServer 0", "joinServer 1", "joinClient 5 0"]
    lines += [f"put 5 k{number % 7} {number}" for number in range(100)]
    lines += ["stabilize", "killServer 0", "joinServer 0", "killServer 1", "joinServer 1", "printStore 0"]
    options = ("--fsync", policy, "--data-dir", str(tmp_path))
    result = run("\n".join(lines), *options)
    assert_silent(result)
    assert result.stdout == "".join(f"k{number}:{100 - (99 - number) % 7 - 1}\n" for number in range(7)).encode()
    assert run("joinServer 1\nprintStore 1\n", *options) == result


# -- a harness that waits for answers ----------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--gossip-interval", "0.002")], ids=" ".join)
def test_a_harness_that_waits_for_each_answer_gets_it(options: tuple[str, ...]) -> None:
    """No line is held back until more lines arrive; otherwise both sides would wait for ever."""
    process = subprocess.Popen(command(*options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(PAIR.encode() + b"joinClient 6 0\n")
        for number in range(300):
            process.stdin.write(b"put 5 k %d\nget 6 k\n" % number)
            assert read_line(process.stdout.fileno()) == b"k:%d\n" % number
            process.stdin.write(b"get 5 k")  # no line yet: nothing may be said
            process.stdin.write(b"k%d\n" % number)
            assert read_line(process.stdout.fileno()) == b"kk%d:ERR_KEY\n" % number
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def read_line(fd: int) -> bytes:
    """Read a line byte by byte; each byte must arrive within a minute."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([fd], [], [], 60)[0], f"no answer, so far {line!r}"
        byte = os.read(fd, 1)
        assert byte, f"the end, after {line!r}"
        line += byte
    return line


def test_the_oracle_notices_wrong_output() -> None:
    """It rejects a wrong byte, a missing or additional line, and a missing error."""
    script = [
        b"joinServer 0\n",
        b"joinServer 1\n",
        b"joinClient 5 0\n",
        b"put 5 k one\n",
        b"joinClient %d 1\n" % OBSERVER,
        b"get %d k\n" % OBSERVER,
        b"stabilize\n",
        b"get %d k\n" % OBSERVER,
        b"killServer 7\n",
    ]
    stderr = "error: line 9: killServer: server 7 is not running\n"
    check(script, b"k:ERR_KEY\nk:one\n", stderr, 1, gossip=False)
    check(script, b"k:one\nk:one\n", stderr, 1, gossip=True)
    wrong: list[tuple[bytes, str, int, bool]] = [
        (b"k:one\nk:one\n", stderr, 1, False),
        (b"k:ERR_KEY\nk:ERR_KEY\n", stderr, 1, True),
        (b"k:ERR_DEP\nk:one\n", stderr, 1, True),
        (b"k:ERR_KEY\n", stderr, 1, False),
        (b"k:ERR_KEY\nk:one\nk:one\n", stderr, 1, False),
        (b"k:ERR_KEY\nk:one", stderr, 1, False),
        (b"k:ERR_KEY\nk:one\n", "", 1, False),
        (b"k:ERR_KEY\nk:one\n", stderr + stderr, 1, False),
        (b"k:ERR_KEY\nk:one\n", stderr.replace("9", "8"), 1, False),
        (b"k:ERR_KEY\nk:one\n", stderr, 0, False),
    ]
    for stdout, told, status, gossip in wrong:
        with pytest.raises(AssertionError):
            check(script, stdout, told, status, gossip)
