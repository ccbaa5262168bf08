"""Calls over TLS: what crosses, and what strangers get, who have no certificate of the run."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from checking.driver import LIMIT_SECONDS, wait_until
from checking.lab import stranger
from rpc import transport

pytest.importorskip("cryptography", reason="needs scripts/requirements-cluster.txt")

from engine.certificates import Authority
from rpc import tls

PLACE = "tls:127.0.0.1"
OF_THE_RUN = Authority()


class Echo(transport.Service):
    """Answers what it is asked."""

    def __init__(self, made: list[Echo]) -> None:
        made.append(self)

    def exposed_execute(self, batch: bytes) -> bytes:
        return batch


class Host:
    """A process that listens, as a thread of this one; *made*: the services that were made, one a caller."""

    def __init__(self) -> None:
        self.listener = transport.listen(transport.new_address(PLACE, "host"))
        self.address = self.listener.address
        self.port = int(self.address.rpartition(":")[2])
        self.made: list[Echo] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError, ValueError):
            transport.accept_forever(self.listener, lambda: Echo(self.made))

    def close(self) -> None:
        socket.socket.shutdown(self.listener, socket.SHUT_RDWR)  # which wakes its thread
        self._thread.join(LIMIT_SECONDS)
        self.listener.close()


@pytest.fixture
def host() -> Iterator[Host]:
    tls.use(OF_THE_RUN.issue("a test"))
    with closing(Host()) as made:
        yield made


def assert_serves(host: Host) -> None:
    with closing(transport.Remote(host.address, LIMIT_SECONDS)) as caller:
        assert caller.call("execute", b"colour") == b"colour"


# -- members of the run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, (16 << 10) - 1, 16 << 10, 100_000, 30 << 20])
def test_values_of_any_size_cross(host: Host, size: int) -> None:
    value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with closing(transport.Remote(host.address, LIMIT_SECONDS)) as caller:
        assert caller.call("execute", value) == value


def test_many_answers_that_nobody_waited_for_are_all_read(host: Host) -> None:
    """What TLS has decrypted, and the system does not show, isn't left behind."""
    with closing(transport.Remote(host.address, LIMIT_SECONDS)) as caller:
        values = [bytes([number]) * (number * 97) for number in range(256)]
        under_way = [caller.send("execute", value) for value in values]
        assert [call.wait() for call in under_way] == values


def test_the_end_of_a_connection_is_seen_without_reading(host: Host) -> None:
    ours = transport.connect(host.address, LIMIT_SECONDS)
    with closing(transport.Remote(ours, LIMIT_SECONDS)) as caller:
        assert caller.call("execute", b"x") == b"x" and caller.alive
        assert not ready(ours)  # nothing comes unasked, such as a session ticket
    other = transport.listen(transport.new_address(PLACE, "other"))
    admitted: list[socket.socket] = []
    admitting = threading.Thread(target=lambda: admitted.append(transport.accept_only(other)))
    admitting.start()
    with closing(transport.Remote(other.address, LIMIT_SECONDS)) as caller:
        admitting.join()
        assert caller.alive
        admitted[0].close()
        wait_until(lambda: not caller.alive, "the end of the connection")


def ready(sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(200))


def test_a_call_that_waits_can_be_given_up_by_another_thread() -> None:
    tls.use(OF_THE_RUN.issue("a test"))
    with closing(transport.listen(transport.new_address(PLACE, "mute"))) as listener:
        admitting = threading.Thread(target=listener.admit)
        admitting.start()
        caller = transport.Remote(listener.address, LIMIT_SECONDS)
        admitting.join()
        call = caller.send("execute", b"x")
        threading.Timer(0.1, caller.abort).start()
        with pytest.raises(transport.Failure) as raised:
            call.wait()
        assert not isinstance(raised.value, transport.Silent)
        caller.close()


def test_a_process_that_is_frozen_is_silent_and_none_is_unreachable() -> None:
    tls.use(OF_THE_RUN.issue("a test"))
    with closing(transport.listen(transport.new_address(PLACE, "frozen"))) as listener:
        with pytest.raises(transport.Silent):
            transport.Remote(listener.address, 0.2)
        address = listener.address
    with pytest.raises(transport.Unreachable):
        transport.Remote(address, LIMIT_SECONDS)
    for nonsense in ("tls:", "tls:127.0.0.1", "tls:127.0.0.1:x", "tls:127.0.0.1:99999", "tls:x:1"):
        with pytest.raises(transport.Unreachable):
            transport.Remote(nonsense, LIMIT_SECONDS)


def test_a_handshake_that_was_begun_goes_on_by_itself(host: Host) -> None:
    """What begins ahead is there at the end; the other side does its part of it meanwhile, and nobody waits."""
    begun = [tls.Handshake(host.address, LIMIT_SECONDS) for _ in range(5)]

    def all_are_connections() -> bool:
        for handshake in begun:
            handshake.go_on()
        return len(host.made) == len(begun)

    wait_until(all_are_connections, "all of them as connections")
    for handshake in begun:
        with closing(transport.Remote(handshake.finish(LIMIT_SECONDS), LIMIT_SECONDS)) as caller:
            assert caller.call("execute", b"colour") == b"colour"


def test_a_handshake_is_stale_before_the_other_side_drops_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has begun it would not notice, and believe that it is connected."""
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.5)
    slow = socket.create_server(("127.0.0.1", 0))  # for a host may be so fast that the first step is the last
    with slow, closing(tls.Handshake(f"{PLACE}:{slow.getsockname()[1]}", LIMIT_SECONDS)) as handshake:
        peer, _ = slow.accept()
        assert not handshake.is_stale
        wait_until(lambda: handshake.is_stale, "the time at which it is stale")
        with peer:
            peer.sendall(b"something that would end it")
            assert select.select([handshake._sock], [], [], LIMIT_SECONDS)[0]
            handshake.go_on()  # which does nothing any more
        assert handshake.is_stale and handshake._failure is None
    assert host.made == []
    monkeypatch.undo()  # a busy machine may take longer than that
    with closing(tls.Handshake(host.address, LIMIT_SECONDS)) as handshake:
        sock = handshake.finish(LIMIT_SECONDS)
        wait_until(lambda: len(host.made) == 1, "the connection")
        handshake._fresh_until = 0.0  # another would be stale
        with closing(transport.Remote(sock, LIMIT_SECONDS)) as caller:
            assert not handshake.is_stale and caller.call("execute", b"colour") == b"colour"


def test_what_goes_wrong_ahead_is_told_at_the_end() -> None:
    tls.use(OF_THE_RUN.issue("a test"))
    server = socket.create_server(("127.0.0.1", 0))
    with server, closing(tls.Handshake(f"{PLACE}:{server.getsockname()[1]}", LIMIT_SECONDS)) as handshake:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"no TLS at all, but a line of text\n")
            assert select.select([handshake._sock], [], [], LIMIT_SECONDS)[0]
            handshake.go_on()
        with pytest.raises(transport.Unreachable, match="WRONG_VERSION_NUMBER"):
            handshake.finish(LIMIT_SECONDS)


def test_a_key_is_never_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tls.use(OF_THE_RUN.issue("a test"))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("seconds", [1.0, 127.0, 128.0, 86400.0])
def test_the_loss_of_a_machine_is_noticed_after_any_time_that_an_option_allows(host: Host, seconds: float) -> None:
    with closing(transport.connect(host.address, LIMIT_SECONDS)) as ours:
        tls.detect_loss(ours, seconds)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == seconds * 1000
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# -- strangers -----------------------------------------------------------------------------------------------


def visitor(host: Host) -> socket.socket:
    return socket.create_connection(("127.0.0.1", host.port), LIMIT_SECONDS)


@contextmanager
def visit(host: Host, kind: str) -> Iterator[socket.socket]:
    with closing(visitor(host)) as sock:
        if kind == "plain text":
            sock.sendall(b"joinServer 0\n" * 100)
        elif kind == "half a handshake":
            sock.sendall(stranger.hello()[:50])
        yield sock


@pytest.mark.parametrize("kind", ["silent", "plain text", "half a handshake"])
def test_a_stranger_gets_nothing_and_blocks_nobody(host: Host, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_serves(host)
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.5)
    with visit(host, kind) as sock:
        assert_serves(host)
        with suppress(ConnectionResetError):
            while got := sock.recv(1000):  # until it is closed: an alert of TLS is all that there may be
                assert len(got) == 7 and got[0] == 21
    assert len(host.made) == 2


@pytest.mark.parametrize("kind", ["no certificate", "the certificate of another run", "an older TLS"])
def test_a_stranger_who_speaks_tls_gets_nothing(host: Host, kind: str) -> None:
    context = stranger.context()
    if kind == "the certificate of another run":
        tls._load(context, Authority().issue("a test"))
    elif kind == "an older TLS":
        tls._load(context, OF_THE_RUN.issue("a test"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    got = b""
    with suppress(OSError), context.wrap_socket(visitor(host)) as sock:
        sock.sendall(b"x" * 1000)
        got = sock.recv(1000)
    assert got == b""
    assert_serves(host)
    assert len(host.made) == 1


def test_a_member_does_not_talk_to_a_stranger(host: Host) -> None:
    """Who listens in place of a process that has ended doesn't get what is for that one."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls._load(theirs, Authority().issue("a test"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        got: list[bytes] = []

        def listen() -> None:
            with suppress(OSError), theirs.wrap_socket(server.accept()[0], server_side=True) as sock:
                got.append(sock.recv(1000))

        listening = threading.Thread(target=listen)
        listening.start()
        with pytest.raises(transport.Unreachable):
            transport.Remote(f"tls:127.0.0.1:{server.getsockname()[1]}", LIMIT_SECONDS)
        listening.join()
        assert got == []


def test_a_crowd_of_silent_strangers_keeps_nobody_out(host: Host) -> None:
    crowd = [visitor(host) for _ in range(tls.MOST_HANDSHAKES * 3)]
    assert_serves(host)
    assert isinstance(host.listener, tls.TlsListener)
    assert len(host.listener._handshakes) <= tls.MOST_HANDSHAKES
    assert len(host.made) == 1
    for sock in crowd:
        sock.close()
    assert_serves(host)


def test_a_stranger_who_is_faster_does_not_get_the_one_connection() -> None:
    """A watchdog, a client and an agent serve only the first process that they admit."""
    tls.use(OF_THE_RUN.issue("a test"))
    listener = transport.listen(transport.new_address(PLACE, "one"))
    port = int(listener.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as sock:
        admitted: list[socket.socket] = []
        admitting = threading.Thread(target=lambda: admitted.append(transport.accept_only(listener)))
        admitting.start()
        with closing(transport.connect(listener.address, LIMIT_SECONDS)) as ours:
            admitting.join()
            ours.sendall(b"it is me")
            assert ready(admitted[0]) and admitted[0].recv(100) == b"it is me"
        assert sock.recv(1) == b""
        admitted[0].close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
