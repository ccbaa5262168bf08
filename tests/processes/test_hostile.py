"""Hostile input: lines that are not commands, bytes that are not RPyC, calls that no process of a run would make.

Two kinds of attackers: *strangers*, processes that don't belong to a run, who find its doors shut; and *insiders*, who
are let in as clients and servers are. For the second kind a server is started by itself, in the session of the test.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal, get_type_hints

import msgpack
import pytest
import rpyc
from rpyc.core import brine, consts, netref
from rpyc.utils.factory import unix_connect

import client
import messages
import server
import watchdog
from checking.driver import (
    LIMIT_SECONDS,
    ROOT,
    Conversation,
    Result,
    command,
    run,
    run_directory,
    send_signal,
    wait_until,
)
from control import commands, roles
from control.run_directory import open_private
from engine import agent, keeper
from messages import Operation, pack_operations, unpack_operations
from rpc import answers, forms, spawner, transport
from rpc.forms import SERVICE_ID
from scripts import fuzz

LINES = 200_000
"""How many lines are compared here; `scripts/fuzz.py` does a million."""

MIB = 1 << 20


# -- lines -------------------------------------------------------------------------------------------------


def test_random_lines_mean_what_the_contract_says() -> None:
    assert fuzz.fuzz(LINES, seed=1) == LINES


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_ID_DIGITS", 17),
        ("_ID_DIGITS", 19),
        ("_WORD_END", re.compile(rb"[ \t\r]+")),
        ("_WORD_END", re.compile(rb"[ \t]")),
        ("BLANKS", b" \t\r"),
        ("BLANKS", b" "),
    ],
)
def test_the_fuzzer_finds_a_wrong_parser(monkeypatch: pytest.MonkeyPatch, name: str, wrong: object) -> None:
    monkeypatch.setattr(commands, name, wrong)
    with pytest.raises(AssertionError, match=r"the master: .*, the contract: "):
        fuzz.fuzz(50_000, seed=1)


def mixed_script(random: Random, count: int) -> tuple[bytes, bytes, list[int]]:
    """Garbage between puts and gets of two clients: (the script, what it prints, the numbers of its bad lines)."""
    lines = [b"joinServer 0", b"joinClient 7 0", b"joinClient 12 0"]
    printed, bad = [], []
    store: dict[bytes, bytes] = {}
    while len(lines) < count:
        key = b"k%d" % random.randrange(50)
        good = random.choice((b"put 7 %s %d" % (key, len(lines)), b"get 12 " + key, b"put 12 %s x" % key))
        line = good if random.random() < 0.4 else fuzz.random_line(random)
        meant = fuzz.meaning(line.removesuffix(b"\r"))
        if isinstance(meant, commands.Command) and not (meant.name in ("put", "get") and meant.ids[0] in (7, 12)):
            continue  # what is an error here depends on what was done before
        lines.append(line)
        if meant == fuzz.ERROR:
            bad.append(len(lines))
        elif isinstance(meant, commands.Command) and meant.name == "put":
            store[meant.key] = meant.value
        elif isinstance(meant, commands.Command):
            printed.append(meant.key + b":" + store.get(meant.key, b"ERR_KEY") + b"\n")
    return b"\n".join(lines) + b"\n", b"".join(printed), bad


@pytest.mark.parametrize("options", [(), ("--no-pipeline",)], ids=str)
def test_a_master_reads_good_lines_between_garbage(options: tuple[str, ...]) -> None:
    script, printed, bad = mixed_script(Random(5), 30_000)
    result = run(script, "--gossip-interval", "0", *options)
    assert result.status == 1
    assert result.stdout == printed
    numbers = [re.match(r"error: line (\d+): .", error) for error in result.errors]
    assert [int(number[1]) for number in numbers if number] == bad
    assert all(numbers)
    assert len(bad) > 5_000 and printed.count(b"\n") > 3_000


def test_a_line_without_an_end_takes_no_memory() -> None:
    with Conversation() as conversation:
        conversation.do("joinServer 0")
        before = memory(conversation.process.pid, "VmHWM")
        for _ in range(300):
            conversation.send_raw(b"put 5 k " + b"x" * MIB)
        grown = memory(conversation.process.pid, "VmHWM") - before
        assert len(conversation.do("\nprintStore 0").errors) == 1
        assert grown < 2.5 * commands.MAX_LINE


def test_standard_input_that_cannot_be_read(tmp_path: Path) -> None:
    with (tmp_path / "written").open("wb") as only_written:
        done = subprocess.run(command(), stdin=only_written, capture_output=True, timeout=LIMIT_SECONDS, check=False)
    assert (done.stdout, done.returncode) == (b"", 1)
    assert done.stderr == b"error: standard input: Bad file descriptor\n"


def test_standard_input_that_never_blocks() -> None:
    """Some programs leave it in this state: reading fails with EAGAIN instead of blocking."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen(command(), stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(reader)
        assert process.stdout is not None and process.stderr is not None
        wait_until(lambda: run_directory(process.pid), "the start")
        os.write(writer, b"joinServer 0\njoinClient 5 0\nput 5 k v\nget 5 k\n")
        assert process.stdout.readline() == b"k:v\n"
        os.write(writer, b"get 5 l")
        os.close(writer)
        assert process.stdout.read() == b"l:ERR_KEY\n"
        assert process.stderr.read() == b""
        assert process.wait(LIMIT_SECONDS) == 0


def test_scripts_that_are_no_text(tmp_path: Path) -> None:
    """A program, NUL bytes, and a pipe by name."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(b"joinServer 0\0\njoinServer 0\nprintStore 0"))
    feeder.start()
    result = run(b"\0\0\n\0", sys.executable, str(pipe), "-")
    feeder.join()
    assert (result.stdout, result.status) == (b"", 1)
    assert all(error.startswith("error: ") and error.isprintable() and len(error) < 300 for error in result.errors)
    assert [error for error in result.errors if str(pipe) in error] == [
        f"error: {pipe}: line 1: joinServer: not an id: 0\\x00 (an id is a number of 1 to 18 digits)"
    ]
    assert [error for error in result.errors if error.startswith("error: line")] == [
        "error: line 1: unknown command: \\x00\\x00",
        "error: line 2: unknown command: \\x00",
    ]


# -- what a process uses -----------------------------------------------------------------------------------


def memory(pid: int, what: str = "VmRSS") -> int:
    """Bytes, from the line *what* of a process's status."""
    match = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) << 10


def used(pid: int) -> tuple[int, int]:
    """How many threads and descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


# -- bytes that are no calls -------------------------------------------------------------------------------


def frame(data: bytes, compressed: int = 0) -> bytes:
    return struct.pack("!LB", len(data), compressed) + data + b"\n"


def request(number: int, handler: int, packed: tuple[Any, ...]) -> bytes:
    """A frame with a request as RPyC makes it."""
    return frame(brine.I1.pack(consts.MSG_REQUEST) + brine.dump((number, (handler, packed))))


def boxed(*arguments: Any) -> tuple[Any, ...]:
    """A call of the service's method `execute` with these boxed arguments."""
    root = consts.LABEL_LOCAL_REF, SERVICE_ID
    packed = consts.LABEL_TUPLE, (root, (consts.LABEL_VALUE, "execute"), (consts.LABEL_TUPLE, arguments))
    return consts.HANDLE_CALLATTR, packed


BOMB = zlib.compress(b"\1" + bytes(1 << 30), 9)

NO_RPYC = {
    "a huge length": struct.pack("!LB", 0xFFFFFFFF, 0) + b"x" * 100,
    "a length just too large": struct.pack("!LB", transport.MAX_MESSAGE, 0) + b"x" * 100,
    "compressed": frame(zlib.compress(b"\1\x10\x00"), 1),
    "a bomb": frame(BOMB, 1),
    "no kind of message": frame(b"\x09\x00"),
    "no brine": frame(b"\1\xff\xff\xff"),
    "brine that ends too soon": frame(b"\1" + brine.TAG_STR_L4 + b"\xff\xff\xff\xff"),
    "deep tuples": frame(b"\1" + brine.TAG_TUP1 * 200_000 + brine.TAG_NONE),
    "deep tuples of tuples": frame(b"\1" + (brine.TAG_TUP_L4 + b"\0\0\0\1") * 200_000),
    "a tuple of 4 billion": frame(b"\1" + brine.TAG_TUP_L4 + b"\xff\xff\xff\xff" + brine.TAG_NONE * 50),
    "a request that is a number": frame(b"\1" + brine.dump(5)),
    "a reply to nothing, of a reference": frame(b"\2" + brine.dump((1, (consts.LABEL_REMOTE_REF, ("x", 1, 2))))),
    "an exception without a form": frame(b"\3" + brine.dump((1, 5))),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * (1 << 20),
}


def garbage(seed: int) -> bytes:
    """Random bytes, or a frame with such in it, or a good request with some of its bytes changed."""
    random = Random(seed)
    junk = random.randbytes(random.randrange(1, 300))
    good = bytearray(request(0, *boxed((consts.LABEL_VALUE, b"\x90"))))
    for _ in range(random.randrange(1, 4)):
        good[random.randrange(5, len(good) - 1)] = random.randrange(256)
    return random.choice((junk, frame(junk), frame(b"\1" + junk), bytes(good)))


def connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(LIMIT_SECONDS), 0))
    try:
        sock.connect(path)  # waits while as many as may are waiting already
    except OSError:
        sock.close()
        raise
    sock.settimeout(LIMIT_SECONDS)
    return sock


def send_all(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        pass  # thrown out already


def is_dropped(sock: socket.socket) -> bool:
    """Whether the other side ends the connection; anything that it sends before is ignored."""
    try:
        while sock.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


# -- strangers ---------------------------------------------------------------------------------------------


def test_processes_of_other_runs_are_turned_away_while_the_cluster_works() -> None:
    with Conversation("--gossip-interval", "0.01") as conversation:
        conversation.do("joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 k 0\nstabilize")
        pids = [conversation.pids()[name] for name in ("server 0", "server 1")]
        directory = run_directory(conversation.process.pid)
        assert directory is not None
        before = {pid: memory(pid, "VmHWM") for pid in pids}
        at_rest = {pid: used(pid) for pid in pids}
        over = threading.Event()
        visits: list[bool] = []

        def attack(seed: int) -> None:
            random = Random(seed)
            while not over.is_set():
                guests = []
                for path in sorted(directory.glob("*-*-*")):
                    try:
                        guests += [connect(str(path)) for _ in range(25)]
                    except OSError:
                        pass  # a server that has just been killed, or one that has not begun
                for guest in guests:
                    send_all(guest, random.choice((b"", b"\0", garbage(random.randrange(1 << 30)), *NO_RPYC.values())))
                visits.extend(map(is_dropped, guests))
                for guest in guests:
                    guest.close()

        attackers = [threading.Thread(target=attack, args=(seed,)) for seed in range(3)]
        for attacker in attackers:
            attacker.start()
        try:
            for turn in range(40):
                output = conversation.do(
                    f"put 5 k {turn}\nput 6 l {turn}\nstabilize\nget 5 l\nget 6 k\nprintStore 1\n"
                    f"joinServer {100 + turn}\njoinClient {200 + turn} {100 + turn}\nget {200 + turn} nothing\n"
                    f"killServer {100 + turn}"
                )
                lines = [f"l:{turn}", f"k:{turn}", f"k:{turn}", f"l:{turn}", "nothing:ERR_KEY"]
                assert (output.lines, output.errors) == (lines, [])
        finally:
            over.set()
            for attacker in attackers:
                attacker.join()
        assert len(visits) > 500 and all(visits)

        def attackers_are_gone() -> bool:  # while connections to neighbours come and go
            return all(now <= then + 12 for pid in pids for now, then in zip(used(pid), at_rest[pid], strict=True))

        wait_until(attackers_are_gone, f"{at_rest} threads and descriptors")
        assert all(memory(pid, "VmHWM") - before[pid] < 32 * MIB for pid in pids)


VISITOR = """
import socket, sys
guest = socket.socket(socket.AF_UNIX)
guest.connect(sys.argv[1])
print("waiting", flush=True)
print(guest.recv(1), flush=True)
"""


def test_a_stranger_who_is_faster_than_the_master_does_not_get_the_one_connection(tmp_path: Path) -> None:
    """A watchdog and a client serve only the first process that connects."""
    address = transport.new_address(str(tmp_path), "one")
    listener = transport.listen(address)
    path = address.removeprefix("unix:")
    arguments = [sys.executable, "-c", VISITOR, path]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == b"waiting\n"
        with closing(connect(path)) as ours, closing(transport.accept_only(listener)) as served:
            ours.sendall(b"it is me")
            assert served.recv(100) == b"it is me"
        assert stranger.stdout.readline() == b"b''\n"


def test_a_caller_waits_where_many_wait_already(tmp_path: Path) -> None:
    """Otherwise a server to which many strangers connect would be taken for dead."""
    address = transport.new_address(str(tmp_path), "besieged")
    path = address.removeprefix("unix:")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen(0)
        siege = []
        while True:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            siege.append(sock)
            try:
                sock.connect(path)
            except BlockingIOError:
                break
        reached: list[transport.Remote] = []
        caller = threading.Thread(target=lambda: reached.append(transport.Remote(address, LIMIT_SECONDS)))
        caller.start()
        caller.join(0.3)  # time enough to find no room, and give up
        assert caller.is_alive()
        for _ in siege:  # one more than could wait: the caller is the last
            accepted, _ = listener.accept()
            accepted.close()
        caller.join()
        assert len(reached) == 1
        reached[0].close()
        for sock in siege:
            sock.close()


# -- insiders ----------------------------------------------------------------------------------------------

HOST = """
import socket, sys
import server
from rpc import transport
address, folder, transport.STALL_SECONDS = sys.argv[1], sys.argv[2], float(sys.argv[3])
server.main(transport.listen(address), socket.socket(fileno=0), server.Options(3, 1, folder, 0.01, "never", 5.0, False))
"""


class Host:
    """A server without a watchdog or a master, whose clients we are."""

    def __init__(self, folder: Path, stall_seconds: float) -> None:
        self.address = transport.new_address(str(folder), "host")
        self.path = self.address.removeprefix("unix:")
        Path(self.path).unlink(missing_ok=True)
        arguments = [sys.executable, "-c", HOST, self.address, str(folder / "store"), str(stall_seconds)]
        ours, theirs = socket.socketpair()
        self._tether = ours
        self.process = subprocess.Popen(arguments, stdin=theirs.fileno(), stderr=subprocess.PIPE, cwd=ROOT)
        theirs.close()
        self.pid = self.process.pid

        def is_up() -> bool:
            try:
                connect(self.path).close()
            except OSError:
                return False
            return True

        wait_until(is_up, "the server")
        with self.caller() as caller:
            assert caller.call("state", 5.0)[0] == "ready"
        # One that accepts, one that gossips, and the main thread.
        wait_until(lambda: used(self.pid)[0] == 3, "the end of the threads that start it")
        self.at_rest = used(self.pid)

    def wait_until_at_rest(self) -> None:
        """Wait until there are no more threads and descriptors than at the start."""
        wait_until(lambda: used(self.pid) == self.at_rest, f"{self.at_rest} threads and descriptors")

    @contextmanager
    def caller(self) -> Iterator[transport.Remote]:
        remote = transport.Remote(self.address, LIMIT_SECONDS)
        try:
            yield remote
        finally:
            remote.close()

    def call(self, name: str, *args: Any) -> Any:
        with self.caller() as caller:
            return caller.call(name, *args)

    def put(self, key: bytes, value: bytes, timestamp: int) -> None:
        answers, refusal = msgpack.unpackb(
            self.call("execute", pack_operations([Operation(key, value, timestamp, None)]))
        )
        assert len(answers) == 1 and refusal is None

    def contents(self) -> tuple[bytes, bytes]:
        return self.call("print_store"), self.call("context")

    def end(self) -> None:
        self._tether.close()
        _, told = self.process.communicate(timeout=LIMIT_SECONDS)
        assert told == b"", told.decode()


@contextmanager
def hosted(folder: Path, stall_seconds: float = 10.0) -> Iterator[Host]:
    host = Host(folder, stall_seconds)
    try:
        yield host
        host.end()
    finally:
        host.process.kill()
        host.process.wait()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A server; at the end it must still work, have the same store when it is started again, and have complained of
    nothing: not of a thread that ended by an exception either."""
    with hosted(tmp_path) as host:
        host.put(b"first", b"1", 1)
        yield host
        host.put(b"last", b"2", 1 << 61)
        before = host.call("print_store")
        assert b"first:1\n" in before and b"last:2\n" in before
    with hosted(tmp_path) as again:
        assert again.call("print_store") == before


@pytest.mark.parametrize("what", NO_RPYC)
def test_a_peer_that_sends_no_rpyc_is_disconnected_at_once(host: Host, what: str) -> None:
    before = memory(host.pid, "VmHWM")
    with closing(connect(host.path)) as guest:
        send_all(guest, NO_RPYC[what])
        assert is_dropped(guest)
    host.wait_until_at_rest()
    assert memory(host.pid, "VmHWM") - before < 64 * MIB


def test_random_bytes_do_no_harm(host: Host) -> None:
    for seed in range(600):
        with closing(connect(host.path)) as guest:
            send_all(guest, garbage(seed))
            guest.shutdown(socket.SHUT_WR)
            assert is_dropped(guest)
    host.wait_until_at_rest()


def test_three_hundred_idle_connections_hinder_nobody(host: Host) -> None:
    before = memory(host.pid)
    guests = [connect(host.path) for _ in range(300)]
    for guest in guests[::2]:
        guest.sendall(struct.pack("!LB", 70 << 20, 0) + b"begun, and never ended")
    wait_until(lambda: used(host.pid)[0] >= host.at_rest[0] + 300, "all to be let in")
    host.put(b"k", b"v", 2)
    assert b"k:v\n" in host.call("print_store")
    assert memory(host.pid) - before < 128 * MIB
    for guest in guests:
        guest.close()
    host.wait_until_at_rest()


@pytest.mark.parametrize("part", [frame(bytes(1000))[:500], b"\0", struct.pack("!LB", 10, 0) + b"123"])
def test_a_peer_that_stops_in_the_middle_of_a_message_is_disconnected(tmp_path: Path, part: bytes) -> None:
    with hosted(tmp_path, stall_seconds=0.2) as host:
        with closing(connect(host.path)) as guest:
            guest.sendall(part)
            host.put(b"k", b"v", 2)
            assert is_dropped(guest)
        host.wait_until_at_rest()


def test_a_peer_that_takes_no_answers_is_disconnected(tmp_path: Path) -> None:
    with hosted(tmp_path, stall_seconds=0.2) as host:
        host.put(b"k", b"x" * MIB, 2)
        ask = request(0, *boxed((consts.LABEL_VALUE, pack_operations([Operation(b"k", None, 3, None)]))))
        with closing(connect(host.path)) as guest:
            send_all(guest, ask * 50)
            host.wait_until_at_rest()
            host.put(b"k", b"y", 4)


def test_a_message_that_arrives_byte_by_byte_is_carried_out(host: Host) -> None:
    ask = request(7, *boxed((consts.LABEL_VALUE, pack_operations([Operation(b"first", None, 3, None)]))))
    with closing(connect(host.path)) as guest:
        for number in range(len(ask)):
            guest.sendall(ask[number : number + 1])
            if number % 16 == 0:
                host.put(b"k", b"%d" % number, 3 + number)
        assert b"1" in guest.recv(1000)


def test_exceptions_of_a_thousand_names_are_not_kept(host: Host) -> None:
    with closing(connect(host.path)) as guest:
        before = 0
        for turn in range(3):
            for number in range(8_000):
                name = f"Name{turn}-{number}" + "x" * 100
                raw = 1, (("hostile", name), (), (), "")
                guest.sendall(frame(bytes([consts.MSG_EXCEPTION]) + brine.dump(raw)))
            guest.sendall(request(turn, consts.HANDLE_PING, (consts.LABEL_VALUE, (b"all read",))))
            assert b"all read" in guest.recv(1000)
            before = before or memory(host.pid)
        assert memory(host.pid) - before < 8 * MIB


# -- RPyC as it comes --------------------------------------------------------------------------------------


@contextmanager
def stock(path: str) -> Iterator[tuple[rpyc.Connection, Any]]:
    """A connection as anybody's program makes it, and a proxy of the service."""
    connection = unix_connect(path, config={"sync_request_timeout": LIMIT_SECONDS, "allow_all_attrs": True})
    proxy = netref.class_factory(SERVICE_ID, ())(connection, SERVICE_ID)
    try:
        yield connection, proxy
    finally:
        connection.close()


def refused(attempt: Callable[[], Any]) -> str:
    """The text of the error by which an attempt fails. It must fail."""
    with pytest.raises(Exception) as caught:
        attempt()
    return f"{caught.type.__name__}: {caught.value}"


def test_only_calls_by_name_are_answered(host: Host) -> None:
    requests = [number for name, number in vars(consts).items() if name.startswith("HANDLE_")]
    answered = []
    for number in [*requests, 0, 21, -1, 1 << 40, "x", None]:
        for arguments in ((), ("execute",), ("execute", (b"\x90",)), ("__class__", ()), (b"\x90", 1, 2)):
            with stock(host.path) as (connection, proxy):
                try:
                    connection.sync_request(number, proxy, *arguments)
                except Exception:
                    continue
                answered.append((number, arguments))
    assert answered == [(consts.HANDLE_CALLATTR, ("execute", (b"\x90",)))]
    with stock(host.path) as (connection, _):
        assert connection.ping("hello") is None
        assert "KeyError" in refused(lambda: connection.root)


@pytest.mark.parametrize(
    "name",
    [
        *("_server", "_protocol", "_lines", "_parameters", "called", "on_connect", "on_disconnect", "_connect"),
        *("exposed_execute", "execute.__globals__", "exposed_execute.__globals__", "__class__", "__init__"),
        *("__reduce__", "__reduce_ex__", "__getattribute__", "__dict__", "__subclasshook__", "_rpyc_setattr"),
        *("get_service_name", "", ".", "execute\0", "ｅxecute", 5, None, b"execute", ("execute",)),
    ],
)
def test_no_other_name_can_be_called(host: Host, name: Any) -> None:
    for arguments in ((), (b"\x90",), ("execute",)):
        with host.caller() as caller, pytest.raises(transport.RemoteError, match=r"no such method|TypeError"):
            caller.call(name, *arguments)


@pytest.mark.parametrize("target", ["text", b"bytes", 5, None, (), ("tuple",)])
def test_methods_of_plain_values_cannot_be_called(host: Host, target: Any) -> None:
    with stock(host.path) as (connection, _):
        for name in ("format", "__len__", "exposed_format", "__class__"):
            call = partial(connection.sync_request, consts.HANDLE_CALLATTR, target, name, ())
            assert "only methods of the service" in refused(call)


def test_hundreds_of_calls_can_be_under_way_over_one_connection(host: Host) -> None:
    """More than there are numbers that take one byte; each call gets its own answer."""
    count = 2 * len(forms.NUMBERS) + 50
    with host.caller() as caller:
        sent = []
        for number in range(count):
            batch = pack_operations([Operation(b"k%d" % number, b"v", 2 + number, None)])
            sent.append(caller.send("execute", batch))
        answered = [msgpack.unpackb(pending.wait())[0][0] for pending in reversed(sent)]
    counters = [counter for _, _, counter in answered]
    assert counters == sorted(counters, reverse=True) and len(set(counters)) == count


METHODS = ("state", "link", "unlink", "pull_from", "execute", "execute_group", "pull", "group_answers")


@pytest.mark.parametrize("method", METHODS)
def test_a_reference_is_refused_and_nobody_is_called_back(host: Host, method: str) -> None:
    with stock(host.path) as (connection, proxy):
        called_back: list[Any] = []
        connection._dispatch_request = lambda *request: called_back.append(request)
        trap = bytearray(b"\x90")
        for arguments in ((trap,), (b"\x90", trap), ((trap,),), (1, 2, 3, trap), (proxy,)):
            told = refused(partial(connection.sync_request, 8, proxy, method, arguments))
            assert "a reference to an object" in told or "wrong arguments" in told
        assert called_back == []


def test_a_peer_that_never_answers_a_call_back_holds_up_nobody(host: Host) -> None:
    """The peer sends references to objects that claim to be bytes, and then never answers."""
    guests = []
    for label in (consts.LABEL_REMOTE_REF, consts.LABEL_LOCAL_REF):
        for name in ("builtins.bytes", "builtins.list", "unheard.of"):
            guest = connect(host.path)
            guest.sendall(request(0, *boxed((label, (name, 1, 2)))))
            guests.append(guest)
    for number, guest in enumerate(guests):
        answer = guest.recv(4096)
        assert answer[5] == consts.MSG_EXCEPTION
        host.put(b"k", b"%d" % number, 2 + number)
        guest.close()


# -- calls of the wrong shape ------------------------------------------------------------------------------

ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "state": [(), ("1",), (-1.0,), (float("nan"),), (float("inf"),), (1e300,), (None,), (1.0, 2.0)],
    "link": [
        *((), ("x",), (5,), ((5,),), (((5,),),), (((5, 5),),), ((("5", "unix:/x"),),), (((5, "unix:/x", 1),),)),
        *((((5, "unix:/x"), ("6", "unix:/x")),), (((-5, "unix:/x"),),), (((1 << 64, "unix:/x"),),), (b"bytes",)),
    ],
    "unlink": [(), ("5",), (None,), ((),), (-1,), (1 << 63,), (True,), (5.0,)],
    "ping": [(1,)],
    "reachable": [(1,)],
    "context": [(b"x",)],
    "pull_from": [(), (5, 1.0), (("5",), 1.0), ((5,), "1"), ((5,), -1.0), ((5,), float("nan")), ((5, None), 1.0)],
    "print_store": [(1,)],
    "print_version": [(), ("text",), (5,), (None,), (b"k", b"k")],
    "print_more": [(1,)],
    "group_answers": [(), (1,), ("1", 2), (1, None), (-1, 2), (1 << 64, 1), (1, 2, 3)],
    "release_group": [(1,)],
    "execute": [(), ("text",), (5,), (None,), ((),), ((b"\x90",),), (b"\x90", 1)],
    "execute_group": [(), (1, 1, 1), ("1", 1, 1, b"\x90"), (1, -1, 1, b"\x90"), (1, 1, True, b"\x90"), (1, 1, 1, "x")],
    "pull": [(), ("text",), (5,), (b"", b"")],
}


@pytest.mark.parametrize("method", ARGUMENTS)
def test_wrong_arguments_are_refused_and_change_nothing(host: Host, method: str) -> None:
    before = host.contents()
    for arguments in ARGUMENTS[method]:
        with host.caller() as caller, pytest.raises(transport.RemoteError, match="wrong arguments"):
            caller.call(method, *arguments)
    assert host.contents() == before
    assert host.call("reachable") == (3,)


SEEN = [5, 0, 1, 1, [0, 1, 1]]
GOOD = [b"new", b"value", 5, None]


def mixed(*values: object) -> tuple[object, ...]:
    """Values of several types, to be taken one after another."""
    return values


def with_item(position: int, item: Any) -> list[Any]:
    return [*GOOD[:position], item, *GOOD[position + 1 :]]


OPERATIONS: list[Any] = [
    *(5, None, "text", b"bytes", {}, {b"k": b"v"}, [5], [[]], [GOOD[:3]], [[*GOOD, 1]], ["four"], [b"four"]),
    *([with_item(0, key)] for key in mixed(5, None, "text", [], b"k" * (commands.MAX_KEY + 1))),
    *([with_item(1, value)] for value in mixed(5, "text", [], {}, True, b"v" * (commands.MAX_VALUE + 1))),
    *([with_item(2, stamp)] for stamp in mixed(-1, 1 << 63, (1 << 64) - 1, 1.5, None, "5", b"5", True, [])),
    *([with_item(3, seen)] for seen in (5, "text", b"bytes", [5], SEEN[:4], [*SEEN, 1], {1: 2})),
    *([with_item(3, [*SEEN[:number], junk, *SEEN[number + 1 :]])] for number in range(4) for junk in (None, -1, "x")),
    *([with_item(3, [*SEEN[:4], junk])] for junk in (5, [1], [1, 2], [1, 2, None], [1, 2, -3], ["a", 2, 3], {"a": 1})),
]
BLOBS = [
    *(msgpack.packb(shape) for shape in OPERATIONS if shape != {}),
    *(msgpack.packb([GOOD, shape[0]]) for shape in OPERATIONS if isinstance(shape, list) and shape and shape != [5]),
    *(
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x90\x90",
    ),
    *(b"\x91\xc7\x04\x01abcd", b"\x91\xd6\xff\0\0\0\0", b"\xa4\xff\xff\xff\xff", b"\x81\x90\x01"),
]


@pytest.mark.parametrize("method", ["execute", "execute_group"])
def test_malformed_operations_are_refused_whole(host: Host, method: str) -> None:
    """Also if valid ones precede them: nothing of the call is carried out, and nothing is logged."""
    before = host.contents()
    log = (Path(host.path).parent / "store" / "log.0").read_bytes()
    with host.caller() as caller:
        for number, blob in enumerate(BLOBS):
            arguments = (blob,) if method == "execute" else (number + 1, 5, 1, blob)
            with pytest.raises(transport.RemoteError):
                print(number, blob[:100], caller.call(method, *arguments))
    assert host.contents() == before
    assert (Path(host.path).parent / "store" / "log.0").read_bytes() == log


def test_a_group_with_a_malformed_part_is_given_up_and_the_next_is_not(host: Host) -> None:
    part = pack_operations([Operation(b"k", b"v", 5, None)])
    with host.caller() as one, host.caller() as other:
        waiting = one.send("execute_group", 1, 5, 2, part)
        with pytest.raises(transport.RemoteError):
            other.call("execute_group", 1, 6, 2, b"\xc1")
        assert other.call("group_answers", 1, 6) is None
        assert waiting.wait() is None
        waiting = one.send("execute_group", 2, 5, 2, part)
        assert other.call("execute_group", 2, 6, 2, part) is not None
        assert waiting.wait() is not None
        one.call("release_group")
    assert b"k:v\n" in host.call("print_store")


CONTEXT: list[Any] = [[], []]
REQUESTS = [
    *(5, [], [9, True, {}], [9, True, {}, [CONTEXT]], ["9", True, {}, [CONTEXT, None]], [9, 1, {}, [CONTEXT, None]]),
    *(
        [9, True, digest, [CONTEXT, None]]
        for digest in mixed(5, [], {3: 5}, {3: [5]}, {3: ["a", "b"]}, {"a": [1, 2]}, {4: []})
    ),
    *(
        [9, True, {}, [context, None]]
        for context in mixed(5, [], [[]], [[[1, 2]], []], [[[1, 2, "x"]], []], [[], [[1, 2, 3]]])
    ),
    *(
        [9, True, {}, [[[[1, 2, -3]], []], None]],
        [9, True, {}, [[[], [[1, 2, ["x"]]]], None]],
        [9, True, {}, [CONTEXT, [1]]],
    ),
]


def test_malformed_pulls_are_refused(host: Host) -> None:
    """Of a neighbour: what it tells is kept, and read by the gossip's thread."""
    with neighbour(host, lambda request: None):
        for shape in REQUESTS:
            with host.caller() as caller, pytest.raises(transport.RemoteError):
                print(shape, caller.call("pull", msgpack.packb(shape)))
        good = msgpack.packb([9, True, {}, [CONTEXT, None]])
        assert host.call("pull", good) is not None
        host.put(b"more", b"to tell", 9)


@contextmanager
def neighbour(host: Host, answer: Callable[[bytes], bytes | None], ident: int = 9) -> Iterator[list[bytes]]:
    """A neighbour of the server's that answers its pulls so; gives the requests that come."""
    asked: list[bytes] = []

    class Neighbour(transport.Service):
        def exposed_pull(self, request: bytes) -> bytes | None:
            asked.append(request)
            return answer(request)

    address = transport.new_address(str(Path(host.path).parent), f"neighbour-{len(os.listdir(Path(host.path).parent))}")
    listener = transport.listen(address)
    threading.Thread(target=transport.accept_forever, args=(listener, Neighbour), daemon=True).start()
    host.call("link", ((ident, address),))
    try:
        yield asked
    finally:
        host.call("unlink", ident)


def test_connections_to_neighbours_that_are_gone_are_not_kept(host: Host) -> None:
    answer = msgpack.packb([[delta([], CONTEXT), None], []])
    with host.caller() as caller:
        for ident in range(100, 140):
            with neighbour(host, lambda request: answer, ident):
                assert caller.call("pull_from", (ident,), 5.0)[:3] == ((), (), None)
    wait_until(lambda: used(host.pid)[1] <= host.at_rest[1] + 10, "the connections' end")


WRITE = [b"from 9", b"v", 5, 9, 1, 1, []]


def delta(writes: Any, context: Any = None) -> bytes:
    packed: bytes = msgpack.packb([writes, context])
    return packed


ANSWERS: list[Any] = [
    *(
        b"",
        b"\xc1",
        msgpack.packb(5),
        msgpack.packb([]),
        msgpack.packb([[b"", None], []]),
        msgpack.packb([[5, None], []]),
    ),
    *(msgpack.packb([[delta([write])[:-1], None], []]) for write in (WRITE,)),
    *(
        msgpack.packb([[delta([[*WRITE[:number], junk, *WRITE[number + 1 :]]]), None], []])
        for number in range(7)
        for junk in mixed(None, "x", -1, 1.5, {}, [None])
        if (number, junk) not in ((6, {}), (2, {}))
    ),
    *(msgpack.packb([[delta([WRITE, WRITE[:6]]), None], []]) for _ in (1,)),
    *(
        msgpack.packb([[delta([WRITE], context), None], []])
        for context in mixed(5, [], [[]], [[[9, 1, "x"]], []], [[], [[9, 1, 5]]])
    ),
    *(msgpack.packb([[delta([WRITE]), cursor], []]) for cursor in (5, [], [1, 2], [1, 2, "x"], "abc")),
    *(
        msgpack.packb([[delta([WRITE]), None], records])
        for records in (5, [5], [[1, 2]], [["x", [1, 2], []]], [[1, [2], []]])
    ),
    *(msgpack.packb([[delta([WRITE]), None], records]) for records in ([[1, [2, 3], ["x"]]], [[1, [2, 3], 5]])),
]


def test_malformed_answers_of_a_neighbour_are_not_learnt(host: Host) -> None:
    before = host.contents()
    current = b""
    with neighbour(host, lambda request: current):
        for current in ANSWERS:
            left, lost, refusal, _, faulty = host.call("pull_from", (9,), 5.0)
            assert (lost, refusal, faulty) == ((), None, ((9, "a malformed answer"),)), (current, left)
        assert host.contents() == before
        current = msgpack.packb([[delta([WRITE]), None], []])
        assert host.call("pull_from", (9,), 5.0)[:3] == ((), (), None)
    assert b"from 9:v\n" in host.call("print_store")


def test_a_neighbour_that_sends_no_rpyc_is_lost_and_does_no_harm(host: Host) -> None:
    address = transport.new_address(str(Path(host.path).parent), "mute")
    listener = transport.listen(address)
    replies = [*NO_RPYC.values(), *map(garbage, range(30))]

    def answer() -> None:
        for reply in replies:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1)
                send_all(sock, reply)

    threading.Thread(target=answer, daemon=True).start()
    with host.caller() as caller:
        for _ in replies:
            caller.call("link", ((9, address),))
            _, lost, refusal, _, faulty = caller.call("pull_from", (9,), 1.0)
            assert ([*lost, *(ident for ident, _ in faulty)], refusal) == ([9], None)
            caller.call("unlink", 9)


def test_operations_with_some_bits_changed_never_spoil_a_store(host: Host) -> None:
    """Some still mean something: then that is stored, and read again by the next start (see `host`)."""
    random = Random(11)
    seen = unpack_operations(msgpack.packb([with_item(3, SEEN)]))[0].seen
    good = pack_operations([Operation(b"first", b"1", 1, None), Operation(b"k", b"v", 4, seen)])
    stored = refused_ones = 0
    with host.caller() as caller:
        for _ in range(3000):
            blob = bytearray(good)
            for _ in range(random.randrange(1, 4)):
                blob[random.randrange(len(blob))] ^= 1 << random.randrange(8)
            try:
                caller.call("execute", bytes(blob))
                stored += 1
            except transport.RemoteError:
                refused_ones += 1
        caller.call("execute", pack_operations([Operation(b"first", b"1", 1 << 60, None)]))
    assert stored > 100 and refused_ones > 100


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, 1, (1 << 63) - 1], [-1, 1 << 63, 1.0, True, "1", None]),
        (float, [0, 1, 0.5, 1e6], [-0.1, float("nan"), float("inf"), 1e7, True, "1", None]),
        (bytes | None, [b"", b"x", None], ["", 0, (), bytearray()]),
        (tuple[int, ...], [(), (1,), [1, 2]], [(None,), 5, {1: 2}, {1}, b"ab"]),
        (tuple[int, str], [(1, "a"), [1, "a"]], [(1,), (1, "a", 2), ("a", 1), "ab"]),
        (list[tuple[int, list[int]]], [[], [(1, [])], [[1, [2]]]], [[1], [[1, 2]], [[1, ["x"]]]]),
        (dict[int, tuple[int, int]], [{}, {1: (2, 3)}], [{"a": (1, 2)}, {1: 2}, [], None]),
        (tuple[()], [(), []], [(1,), None]),
        (Literal["a", "b"], ["a", "b"], ["c", "", b"a", None, ["a"]]),
        (None, [None], [0, "", ()]),
    ],
    ids=str,
)
def test_hints_are_checked(hint: Any, good: list[Any], bad: list[Any]) -> None:
    check = messages.checker(hint)
    assert [value for value in good if not check(value)] == []
    assert [value for value in bad if check(value)] == []


def test_an_unknown_type_hint_is_refused() -> None:
    with pytest.raises(TypeError):
        messages.checker(set[int])


# -- answers -----------------------------------------------------------------------------------------------


def test_the_expected_answer_of_each_call_is_the_return_type_of_its_method() -> None:
    found: dict[str, set[Any]] = {}
    services = (
        spawner.SpawnerService,
        agent.AgentService,
        keeper.KeeperService,
        watchdog._Watchdog,
        client._Client,
        server._Service,
    )
    for service in services:
        for name, method in vars(service).items():
            if name.startswith("exposed_"):
                hints = get_type_hints(method)
                found.setdefault(name.removeprefix("exposed_"), set()).add(hints["return"])
    found["execute_group"] = {bytes | None}  # a client answers always, a server doesn't
    expected = {name: {type(None) if hint is None else hint} for name, hint in answers.ANSWERS.items()}
    assert found == expected


REPLACED = """
import sys
sys.path.insert(0, ".")
import os, time
import msgpack
import client, server, watchdog
from control import cluster
from rpc import spawner, tracing, transport
from collections.abc import Callable

def fail(*_):
    raise RuntimeError("on purpose")

def only_server(ident, broken, good):
    def method(self, *args):
        return (broken if self._server._options.server == ident else good)(self, *args)
    return method

def only_client(ident, broken, good):
    def method(self, *args):
        return (broken if self._ident == ident else good)(self, *args)
    return method

def speaking(file, times=1):
    data = open(file, "rb").read()
    def main(listener, *_):
        while True:
            sock, _ = listener.accept()
            try:
                for _ in range(times):
                    sock.sendall(data)
                while sock.recv(1 << 16):
                    pass
            except OSError:
                pass
    return main

def replace(owner, name, by):
    by.__annotations__ = getattr(owner, name).__annotations__
    setattr(owner, name, by)

S, C, W, P = server._Service, client._Client, watchdog._Watchdog, spawner.SpawnerService
exec(sys.argv.pop(1))
import master
sys.exit(master.main())
"""
"""A run with a part of one of its processes replaced."""


def run_replaced(replacement: str, script: str, *options: str, pipeline: bool = False) -> Result:
    ways = () if pipeline else ("--no-pipeline",)
    done = subprocess.run(
        [sys.executable, "-c", REPLACED, replacement, "--gossip-interval", "0", *ways, *options],
        input=script.encode(),
        capture_output=True,
        timeout=LIMIT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    return Result(done.stdout, done.stderr.decode("utf-8", "surrogateescape"), done.returncode)


FAILED = "server 0 failed, and was killed: "
NOT_STARTED = "joinServer: server 0 could not be started: "
MALFORMED = "a malformed answer"
ON_PURPOSE = "RuntimeError: on purpose"
SPAWNER = "the process that starts all others has failed: "
TWO = "joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 5 1\nput 5 k v\n"
CLIENT = "client 5 failed, and was killed: "


@pytest.mark.parametrize(
    ("replacement", "script", "errors"),
    [
        *(
            (f"replace(S, 'exposed_state', lambda *_: {answer})", "joinServer 0", [NOT_STARTED + MALFORMED])
            for answer in ("5", "('ready',)", "('ready', 'x', ())", "('ready', -1, ())", "('no', 5)", "('failed', 5)")
        ),
        ("replace(S, 'exposed_state', fail)", "joinServer 0", [NOT_STARTED + ON_PURPOSE]),
        (
            "replace(S, 'exposed_link', only_server(0, fail, S.exposed_link))",
            "joinServer 0",
            [f"joinServer: {FAILED}{ON_PURPOSE}", "joinServer: server 0 is not running"],
        ),
        *(
            (
                f"replace(S, 'exposed_context', only_server(0, lambda *_: {answer}, S.exposed_context))",
                TWO + "stabilize",
                [f"stabilize: {FAILED}{MALFORMED}"],
            )
            for answer in ("5", "b''", "b'\\xc1'", "msgpack.packb([[], [[1, 2, 3]]])")
        ),
        (
            "replace(S, 'exposed_context', only_server(0, fail, S.exposed_context))",
            TWO + "stabilize",
            [f"stabilize: {FAILED}{ON_PURPOSE}"],
        ),
        (
            "replace(S, 'exposed_pull', only_server(0, fail, S.exposed_pull))",
            TWO + "stabilize\nstabilize",
            [f"stabilize: {FAILED}{ON_PURPOSE}"],
        ),
        (
            "replace(S, 'exposed_pull', only_server(0, lambda *_: b'x', S.exposed_pull))",
            TWO + "stabilize\nstabilize",
            [f"stabilize: {FAILED}{MALFORMED}"],
        ),
        *(
            (
                f"replace(S, 'exposed_pull_from', only_server(0, lambda *_: {answer}, S.exposed_pull_from))",
                TWO + "stabilize",
                [f"stabilize: {FAILED}{MALFORMED}"],
            )
            for answer in (
                "None",
                "((), (77,), None, msgpack.packb([[], []]), ())",
                "((), (), None, msgpack.packb([[], []]), ((77, 'x'),))",
                "((), (), None, b'x', ())",
                "((77,), (), None, msgpack.packb([[], []]), ())",
            )
        ),
        *(
            (
                f"replace(S, 'exposed_execute', only_server(0, lambda *_: {answer}, S.exposed_execute))",
                TWO + "get 5 k",
                [f"put: {FAILED}{MALFORMED}"],
            )
            for answer in (
                "5",
                "b'x'",
                *(
                    f"msgpack.packb({shape})"
                    for shape in mixed(5, [[], None], [[5], None], [[[1, 2]], None], [[], None, 5])
                ),
                *(f"msgpack.packb({shape})" for shape in ([["ERR_KEY"], None], [[[b"v", 1, [0, 1, 1], []]], None])),
            )
        ),
        (
            "replace(S, 'exposed_execute', only_server(0, fail, S.exposed_execute))",
            TWO + "get 5 k",
            [f"put: {FAILED}{ON_PURPOSE}"],
        ),
        (
            "replace(S, 'exposed_print_store', lambda *_: 5)",
            "joinServer 0\nprintStore 0",
            [f"printStore: {FAILED}{MALFORMED}", "printStore: server 0 is not running"],
        ),
        *(
            (
                f"replace(C, 'exposed_execute', lambda *_: {answer})",
                "joinServer 0\njoinClient 5 0\nget 5 k",
                [f"get: {CLIENT}{MALFORMED}", "get: client 5 is not running"],
            )
            for answer in (
                "5",
                "b'x'",
                *(
                    f"msgpack.packb({shape})"
                    for shape in mixed(
                        5,
                        [None, []],
                        [[], []],
                        [[["stored", 0, 5]], []],
                        [[["value", "x", 0, 5]], []],
                        [[["ERR_KEY", 0]], [[77, "died"]]],
                        [[["ERR_KEY", 0]], [0]],
                    )
                ),
            )
        ),
        (
            "replace(C, 'exposed_connect', lambda *_: 5)",
            "joinServer 0\njoinClient 5 0",
            [f"joinClient: {CLIENT}{MALFORMED}", "joinClient: client 5 is not running"],
        ),
        *(
            (
                f"replace(P, 'exposed_start', lambda *_: {answer})",
                "joinServer 0",
                [f"{NOT_STARTED}{SPAWNER}{MALFORMED}; start Daadkvs anew"],
            )
            for answer in ("5", "(0, 'x')", "(-1, 'x')", "(1 << 60, 'x')", "None", "b'x'", "(5,)", "(5, 5)")
        ),
        (
            "replace(P, 'exposed_start', fail)",
            "joinServer 0",
            [f"{NOT_STARTED}{SPAWNER}{ON_PURPOSE}; start Daadkvs anew"],
        ),
        *(
            (f"replace(W, 'exposed_start', lambda *_: {answer})", "joinServer 0", [NOT_STARTED + MALFORMED])
            for answer in ("5", "(0, 'x')", "(1 << 60, 'x')", "None", "b'x'")
        ),
        ("replace(W, 'exposed_start', fail)", "joinServer 0", [NOT_STARTED + ON_PURPOSE]),
        ("replace(W, 'exposed_kill', lambda *_: 5)", "joinServer 0\nkillServer 0\njoinServer 0\nkillServer 0", []),
        ("W.exposed_kill = fail", "joinServer 0\nkillServer 0\njoinServer 0\nkillServer 0", []),
    ],
)
def test_garbage_answers_are_one_clear_error(replacement: str, script: str, errors: list[str]) -> None:
    result = run_replaced(replacement, script)
    assert [error.split(": ", 2)[2] for error in result.errors] == errors
    assert all(error.startswith("error: line ") for error in result.errors)
    assert result.status == (1 if errors else 0)


GROUP = "joinServer 0\njoinServer 1\njoinClient 5 0\njoinClient 6 1\nput 5 k v\nput 6 k w\nget 5 k\nget 6 k\n"
NO_SERVER = [f"{name}: client 5 has only server 0" for name in ("put", "get")]
NO_CLIENT = [f"{name}: client 5 is not running" for name in ("put", "get")]


@pytest.mark.parametrize(
    ("replacement", "errors"),
    [
        *(
            (
                f"replace(S, 'exposed_execute_group', only_server(0, {broken}, S.exposed_execute_group))",
                [f"put: {FAILED}{reason}", *NO_SERVER],
            )
            for broken, reason in (
                ("fail", ON_PURPOSE),
                ("lambda *_: b'x'", MALFORMED),
                ("lambda *_: msgpack.packb(['ERR_KEY', 'ERR_KEY'])", MALFORMED),
            )
        ),
        *(
            (
                "replace(C, 'exposed_execute_group', only_client(5, fail, C.exposed_execute_group)); "
                f"replace(S, 'exposed_group_answers', lambda *_: {answer})",
                [f"put: {FAILED}{MALFORMED}", f"put: {CLIENT}{ON_PURPOSE}", *NO_CLIENT],
            )
            for answer in ("5", "b'x'", "msgpack.packb([5])")
        ),
        *(
            (
                f"replace(C, 'exposed_execute_group', only_client(5, {broken}, C.exposed_execute_group))",
                [f"put: {CLIENT}{reason}", *NO_CLIENT],
            )
            for broken, reason in (
                ("fail", ON_PURPOSE),
                ("lambda *_: b'x'", MALFORMED),
                *(
                    (f"lambda *_: msgpack.packb([[{first}, ['ERR_KEY', 0]], []])", MALFORMED)
                    for first in (["refused", "x"], ["uncertain", 5], ["unusable"], ["value", b"v", 0, 5])
                ),
            )
        ),
    ],
)
def test_garbage_answers_in_a_group_are_reported_as_well(replacement: str, errors: list[str]) -> None:
    """Clients of other servers are answered."""
    result = run_replaced(replacement, GROUP, pipeline=True)
    told = [error.split(": ", 2)[2].partition(", which")[0] for error in result.errors]
    assert (result.stdout, told, result.status) == (b"k:w\n", errors, 1)


@pytest.mark.parametrize(
    ("options", "told"), [(("--fsync", "interval"), True), (("--gossip-interval", "1"), True), ((), False)]
)
def test_servers_that_wait_for_a_release_are_called(options: tuple[str, ...], told: bool) -> None:
    """Exchanges wait for it, and a log that is to be written anew; a server that has neither saves the call."""
    result = run_replaced("replace(S, 'exposed_release_group', fail)", GROUP, *options, pipeline=True)
    assert (FAILED in result.stderr) is told


def test_answers_without_a_stamp_in_a_traced_run(tmp_path: Path) -> None:
    answers = ("5", "()", "(5, 5)", "(b'x', None)", "(('x', -1), None)", "(('x', 1 << 63), None)", "((5, 5), None)")
    for number, answer in enumerate(answers):
        replacement = f"S.called = lambda *_: {answer}"
        result = run_replaced(replacement, "joinServer 0\n", "--trace", str(tmp_path / str(number)))
        (error,) = result.errors
        assert re.fullmatch(f"error: line 1: {NOT_STARTED}(a malformed answer|an answer without a stamp)", error)


FLOODS = {
    "requests": request(0, *boxed((consts.LABEL_VALUE, b"\x90"))) * 1000,
    "pings": request(0, consts.HANDLE_PING, (consts.LABEL_VALUE, b"x")) * 1000,
    "replies to nothing": frame(b"\2" + brine.dump((77, (consts.LABEL_VALUE, 5)))) * 1000,
    "errors of nothing": frame(b"\3" + brine.dump((77, (("a", "b"), ("c",), (), "")))) * 1000,
}


@pytest.mark.parametrize("role", ["server", "watchdog", "client"])
@pytest.mark.parametrize("what", [*NO_RPYC, *FLOODS])
def test_a_process_that_sends_no_rpyc_is_reported_and_killed(role: str, what: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(FLOODS.get(what) or NO_RPYC[what])
    result = run_replaced(
        f"{role}.main = speaking({str(data)!r}, {100_000 if what in FLOODS else 1})",
        "joinServer 0\njoinClient 5 0\nget 5 k\n",
        "--timeout",
        "3",
    )
    first = "error: line 2: joinClient: client 5 " if role == "client" else "error: line 1: joinServer: server 0 "
    assert result.errors[0].startswith(first)
    assert "RPyC" in result.errors[0] or "message" in result.errors[0] or "made no progress" in result.errors[0]
    assert (result.stdout, result.status) == (b"", 1)
    assert all("internal" not in error and error.startswith("error: line ") for error in result.errors)


@contextmanager
def served(service: transport.Service) -> Iterator[transport.Remote]:
    """A caller of a service that a thread of this process carries out."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=transport.serve, args=(theirs, service))
    thread.start()
    remote = transport.Remote(ours, LIMIT_SECONDS)
    try:
        yield remote
    finally:
        remote.close()
        thread.join()


OPTIONS = server.Options(3, 1, "x", 0.0, "never", 5.0, False)._asdict()


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"\xc1",
        *map(
            msgpack.packb,
            (
                5,
                [],
                {},
                {**OPTIONS, "more": 1},
                {name: value for name, value in OPTIONS.items() if name != "kept"},
                *({**OPTIONS, name: junk} for name in OPTIONS for junk in mixed(None, [], -1, b"x")),
            ),
        ),
    ],
)
def test_a_watchdog_refuses_options_that_are_none(tmp_path: Path, options: bytes) -> None:
    with served(watchdog._Watchdog(3, str(tmp_path), 0)) as caller:
        with pytest.raises(transport.RemoteError, match="message"):
            caller.call("start", transport.new_address(str(tmp_path), "server"), options)
        assert caller.call("kill") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["killed", "frozen", "told otherwise", "well"])
def test_a_server_that_was_forked_ahead(tmp_path: Path, what: str) -> None:
    """It is the one that is asked for; where it can't be, another one is."""
    options = msgpack.packb({**OPTIONS, "folder": str(tmp_path / "store")})
    address = transport.new_address(str(tmp_path), "server")
    told = transport.new_address(str(tmp_path), "other") if what == "told otherwise" else address
    guard = watchdog._Watchdog(3, str(tmp_path), os.open(os.devnull, os.O_RDONLY))
    lost = what in ("killed", "frozen")
    guard.fork_server(b"" if lost else msgpack.packb((told, options)))  # once told, it might answer before it is lost
    ahead = guard._pid
    assert ahead is not None
    if lost:
        send_signal(ahead, signal.SIGKILL if what == "killed" else signal.SIGSTOP, "the server")
    with served(guard) as caller:
        pid, where = caller.call("start", address, options)
        assert (pid == ahead) == (what == "well")
        assert where == address
        server_end = transport.Remote(address, 10.0)
        assert server_end.call("state", 10.0)[0] == "ready"
        server_end.close()
        assert caller.call("kill") is None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("master", 1, "x", b""),
        ("client", -1, "x", b""),
        ("client", 1, b"x", b""),
        (5, 1, "x", b""),
        ("client", 1, "x", "order"),
        ("client", 1, "x"),
    ],
)
def test_the_spawner_refuses_what_is_no_start(tmp_path: Path, arguments: tuple[Any, ...]) -> None:
    with served(spawner.SpawnerService(roles.load(), str(tmp_path), 0)) as caller:
        with pytest.raises(transport.RemoteError, match="wrong arguments"):
            caller.call("start", *arguments)
        with pytest.raises(transport.RemoteError, match="no such method"):
            caller.call("kill")
        reason = caller.call("start", "client", 1, "nowhere/x", b"")
        assert reason == "no process can be started: No such file or directory"


@pytest.mark.parametrize("address", ["", "unix:", "unix:/nowhere", "unix:" + "x" * 200, "\0", "tls:x", "unix:a\0b"])
def test_a_client_lives_with_odd_addresses(address: str) -> None:
    with served(client._Client(5, 0)) as caller:
        caller.call("connect", 0, address, 1.0)
        packed = caller.call("execute", msgpack.packb([[b"k", None, 5]]))
        assert msgpack.unpackb(packed) == [[["unusable"]], [[0, "died"]]]


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        b"\xc1",
        *map(msgpack.packb, (5, [5], [[]], [[b"k", None]], [[b"k", None, -1]], [["k", None, 5]], [[b"k", 5, 5]])),
    ],
)
def test_a_client_refuses_what_is_no_batch(batch: bytes) -> None:
    with served(client._Client(5, 0)) as caller:
        with pytest.raises(transport.RemoteError, match="message"):
            caller.call("execute", batch)
        assert msgpack.unpackb(caller.call("execute", msgpack.packb([]))) == [[], []]


# -- the directory of sockets ------------------------------------------------------------------------------

SCRIPT = "joinServer 0\njoinServer 1\njoinClient 5 0\nput 5 k v\nstabilize\nkillServer 1\njoinServer 1\nprintStore 1\n"


@pytest.mark.parametrize("umask", [0, 0o777, 0o277])
def test_with_any_umask_only_the_user_can_enter_a_run(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        conversation = Conversation("--data-dir", str(tmp_path / "a" / "b"))
    finally:
        os.umask(before)
    with conversation:
        assert conversation.do(SCRIPT) == (b"k:v\n", [])
        directory = run_directory(conversation.process.pid)
        assert directory is not None
        for folder in (directory, tmp_path / "a"):
            for path in (folder, *folder.rglob("*")):
                mode = path.lstat().st_mode & 0o777
                assert mode & 0o077 == 0 or not path.is_dir(), (path, oct(mode))
                assert mode & 0o600 == 0o600, (path, oct(mode))
        assert directory.stat().st_mode & 0o777 == 0o700


def plain(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def open_to_all(folder: Path) -> Path:
    plain(folder).chmod(0o755)
    return folder


def open_to_its_group(folder: Path) -> Path:
    plain(folder).chmod(0o710)
    return folder


def link_to(folder: Path) -> Path:
    plain(folder.with_name("target"))
    folder.symlink_to("target")
    return folder


def file(folder: Path) -> Path:
    folder.touch(mode=0o700)
    return folder


def somebody_else_s(folder: Path) -> Path:
    os.chown(plain(folder), 65534, 65534)
    return folder


def test_a_private_folder_is_taken(tmp_path: Path) -> None:
    os.close(open_private(str(plain(tmp_path / "run"))))


@pytest.mark.parametrize("prepare", [open_to_all, open_to_its_group, link_to, file, somebody_else_s])
def test_a_folder_that_is_not_private_is_refused(prepare: Callable[[Path], Path], tmp_path: Path) -> None:
    if prepare is somebody_else_s and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    with pytest.raises(PermissionError, match="this user alone"):
        open_private(str(prepare(tmp_path / "run")))


FOISTED = """
import sys
folder = sys.argv.pop(1)
sys.path.insert(0, ".")
import master
from control import run_directory
run_directory._make_folder = lambda *_: folder
sys.exit(master.main())
"""


@pytest.mark.parametrize("prepare", [open_to_all, link_to, file])
def test_a_run_does_not_begin_in_a_folder_that_another_user_has_made(
    prepare: Callable[[Path], Path], tmp_path: Path
) -> None:
    """As where whoever makes temporary folders for Python is not to be trusted."""
    folder = prepare(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", FOISTED, str(folder)],
        input=b"joinServer 0\n",
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.stdout, done.returncode) == (b"", 2)
    assert done.stderr == f"error: {folder}: not a folder that this user alone can enter\n".encode()
    assert sorted(path.name for path in tmp_path.rglob("*")) in (["run"], ["run", "target"])


@pytest.mark.parametrize("where", ["a link", "missing", "a file", "full of odd names"])
def test_odd_temporary_folders(where: str, tmp_path: Path) -> None:
    folder = tmp_path / "ö\n\udcff x"
    if where == "a link":
        plain(tmp_path / "target")
        folder.symlink_to("target")
    elif where == "a file":
        folder.touch()
    elif where == "full of odd names":
        plain(folder)
    result = run(SCRIPT, "--gossip-interval", "0", environment={"TMPDIR": os.fsdecode(bytes(folder))})
    assert result == Result(b"k:v\n", "", 0)
    assert list(tmp_path.rglob("daadkvs*")) == []


# -- a data directory that others can write to ---------------------------------------------------------------------

NOBODY, THIRD = 65534, 65533
needs_other_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file another user's")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory of another user's, as a shared folder may be."""
    folder = plain(tmp_path / "data")
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    return folder


@needs_other_user
@pytest.mark.parametrize("name", ["lock", "clock"])
@pytest.mark.parametrize("text", ["", "12\n", "precious\n"], ids=repr)
def test_no_link_of_another_user_s_leads_to_a_file_that_is_written(data: Path, name: str, text: str) -> None:
    target = data.with_name("target")
    target.write_text(text)
    (data / name).symlink_to(target)
    os.lchown(data / name, NOBODY, NOBODY)
    result = run(SCRIPT, "--data-dir", str(data))
    assert result == Result(b"", f"error: {data / name}: a link that another user has made\n", 2)
    assert target.read_text() == text


@needs_other_user
@pytest.mark.parametrize("name", ["lock", "log.0", "snapshot.0"])
def test_nor_in_a_server_s_folder(data: Path, name: str) -> None:
    folder, target = plain(data / "server-0"), data.with_name("target")
    target.write_text("precious\n")
    (folder / name).symlink_to(target)
    (data / "clock").write_text("1\n")
    for path in (folder, folder / name):
        os.lchown(path, NOBODY, NOBODY)
    result = run("joinServer 0\njoinServer 1\n", "--data-dir", str(data))
    told = f"server 0 could not be started: {folder / name}: a link that another user has made"
    assert result == Result(b"", f"error: line 1: joinServer: {told}\n", 1)
    assert target.read_text() == "precious\n"


@needs_other_user
@pytest.mark.parametrize("what", ["a link", "a folder"])
def test_a_server_s_folder_that_somebody_else_has_made_is_refused(data: Path, what: str) -> None:
    folder, target = data / "server-0", plain(data.with_name("target"))
    if what == "a link":
        folder.symlink_to(target)
    else:
        plain(folder).chmod(0o777)
    os.lchown(folder, THIRD, THIRD)
    result = run(SCRIPT, "--data-dir", str(data))
    told = f"server 0 could not be started: {folder}: {what} that another user has made"
    assert result.stderr.startswith(f"error: line 1: joinServer: {told}\n")
    assert (list(folder.iterdir()), list(target.iterdir()), result.status) == ([], [], 1)


def test_links_of_the_user_s_own_are_followed(tmp_path: Path) -> None:
    """A disk for each server, say."""
    (tmp_path / "data").symlink_to(plain(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere" / "server-0").symlink_to("../disk")
    plain(tmp_path / "disk")
    assert run(SCRIPT, "--data-dir", str(tmp_path / "data")) == Result(b"k:v\n", "", 0)
    assert (tmp_path / "disk" / "log.0").exists()


@pytest.mark.parametrize("name", ["lock", "clock"])
def test_a_pipe_in_a_data_directory_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    result = run(SCRIPT, "--data-dir", str(tmp_path))
    assert result == Result(b"", f"error: {tmp_path / name}: a pipe, not a file\n", 2)
