"""TLS over TCP: how processes on several machines reach each other, and nobody else reaches them.

May live here: certificates in use, sockets until they are connected, how the loss of a machine is noticed. May not: who
makes the certificates (engine/certificates.py), and what is sent. Only rpc/addresses.py imports this room, and only
when it meets an address of this kind: a run on one machine does without TLS.

An address is `tls:IP:PORT`. Each process of a run has a certificate from the run's own authority, and both sides check
that of the other (TLS 1.3). This takes the place of asking the system for the peer's process, as Unix sockets allow.

A stranger costs a descriptor for a while, and no thread. Handshakes don't block: those that are under way are carried
on one beside the other, while the listener waits for the next connection. A handshake may take `HANDSHAKE_SECONDS`. If
there are more than `MOST_HANDSHAKES`, the oldest is dropped, so silent strangers keep nobody out.

Traps, each of which has a line here:

- `SSLSocket.shutdown` forgets the encryption, and goes on in plain text; it must be the plain socket's.
- The system does not show bytes that TLS has already decrypted. But it decrypts one record at a time, of at most
  `RECORD_BYTES`, and rpc/stream.py always asks for more than that at once. So none are ever left.
- Session tickets would make a socket readable with nothing to read; none are sent.
- A closed connection is seen by `POLLRDHUP` alone while this side is still open (`POLLHUP` on Unix sockets).
"""

from __future__ import annotations

import math
import os
import select
import socket
import ssl
import time
from typing import NamedTuple

from rpc.failures import NoRoom, Silent, Unreachable, why
from rpc.listener import Listener

__all__ = ["Credentials", "Handshake", "TlsListener", "connect", "detect_loss", "listen", "use"]

HANDSHAKE_SECONDS = 10.0
"""How long a peer may take from connecting until both sides know each other."""

MOST_HANDSHAKES = 64
"""How many handshakes one listener has under way at most."""

RECORD_BYTES = 16 << 10
"""The largest record of TLS, without what TLS adds."""

LONGEST_KEEPALIVE_SECONDS = 32767
"""The longest TCP_KEEPIDLE and TCP_KEEPINTVL that the system takes."""

HOST_TIMEOUT_SECONDS = 5.0
"""After how long without a sign of it a machine is lost, where `use` is not told."""


class Credentials(NamedTuple):
    """What a process of a run shows and accepts, each in PEM."""

    authority: bytes
    """The certificate of the run's own authority."""
    certificate: bytes
    key: bytes


class _TlsSocket(ssl.SSLSocket):
    """A connected socket after its handshake, as rpc/stream.py expects sockets to behave."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(min(buflen, RECORD_BYTES), flags)  # more never comes, but would be allocated
        except ssl.SSLWantReadError:
            raise BlockingIOError from None

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """End the connection, also while another thread waits on it."""
        socket.socket.shutdown(self, how)


class _Contexts(NamedTuple):
    listening: ssl.SSLContext
    connecting: ssl.SSLContext


_contexts: _Contexts | None = None
_host_timeout = HOST_TIMEOUT_SECONDS


def use(credentials: Credentials, host_timeout: float = HOST_TIMEOUT_SECONDS) -> None:
    """Show and accept these certificates from now on, also in processes that are forked later. Raises OSError.

    *host_timeout*: after how many seconds without a sign of it a machine is lost.
    """
    global _contexts, _host_timeout
    listening, connecting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (listening, connecting):
        context.check_hostname = False  # any process of the run may be the peer; others have no certificate
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=credentials.authority.decode("ascii"))
        _load(context, credentials)
        context.sslsocket_class = _TlsSocket
    listening.num_tickets = 0
    _contexts, _host_timeout = _Contexts(listening, connecting), host_timeout


def _load(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Have a context show a certificate. The key, which the library takes from files only, never gets to a disk."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(credentials.certificate + credentials.key)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _in_use() -> _Contexts:
    if _contexts is None:
        raise OSError("this run has no certificates")
    return _contexts


def _split(address: str) -> tuple[str, int]:
    """The IP address and the port. Raises ValueError."""
    ip, _, port = address.removeprefix("tls:").rpartition(":")
    if not ip or not 0 <= int(port) < 1 << 16:
        raise ValueError(f"not an address: {address}")
    return ip, int(port)


def _new_socket(kind: type[socket.socket], ip: str) -> socket.socket:
    return kind(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)


def _prepare(sock: socket.socket) -> None:
    """Send without delay; and have the system end the connection if the other machine is lost while it is idle.

    Nobody else ends it: a server only waits for calls of clients and neighbours. This takes four times as long as it
    takes for a machine to be lost (`detect_loss`), so that it decides nothing.
    """
    seconds = min(math.ceil(_host_timeout), LONGEST_KEEPALIVE_SECONDS)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, seconds),
        (socket.TCP_KEEPINTVL, seconds),
        (socket.TCP_KEEPCNT, 3),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


# -- listening ---------------------------------------------------------------------------------------------


class TlsListener(Listener):
    """A listening socket that admits who has a certificate of this run."""

    def __init__(self, *args: int, **named: int | None) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]
        self._handshakes: dict[int, tuple[ssl.SSLSocket, float]] = {}
        """Descriptor -> the connection, and until when it may take; the oldest comes first."""

    def admit(self) -> socket.socket:
        limit = self.gettimeout()
        until = float("inf") if limit is None else time.monotonic() + limit
        while True:
            for descriptor in self._wait_ready(until):
                if descriptor == self.fileno():
                    self._begin_handshake()
                elif descriptor in self._handshakes and self._go_on(descriptor):
                    return self._handshakes.pop(descriptor)[0]

    def _wait_ready(self, until: float) -> list[int]:
        """The descriptors that are ready. Ends handshakes that have taken too long. Raises TimeoutError."""
        now = time.monotonic()
        for connection, last in [*self._handshakes.values()]:
            if last <= now:
                self._drop(connection.fileno())
        if until <= now:
            raise TimeoutError
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        for descriptor in self._handshakes:
            poller.register(descriptor, select.POLLIN)
        first = min([until, *(last for _, last in self._handshakes.values())])
        return [fd for fd, _ in poller.poll(None if first == float("inf") else (first - now) * 1000 + 1)]

    def _begin_handshake(self) -> None:
        try:
            sock = self.accept_any()
        except BlockingIOError:
            return  # whoever it was has gone
        if len(self._handshakes) >= MOST_HANDSHAKES:
            self._drop(next(iter(self._handshakes)))
        try:
            sock.setblocking(False)
            _prepare(sock)
            made = _in_use().listening.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            sock.close()  # the peer has already gone
            return
        self._handshakes[made.fileno()] = (made, time.monotonic() + HANDSHAKE_SECONDS)

    def _go_on(self, descriptor: int) -> bool:
        """Go on with a handshake; returns whether it has succeeded. Otherwise it goes on later, or has failed."""
        try:
            self._handshakes[descriptor][0].do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False  # what a server writes always fits into the empty buffer of a new connection
        except (OSError, ValueError):
            self._drop(descriptor)
            return False
        return True

    def _drop(self, descriptor: int) -> None:
        self._handshakes.pop(descriptor)[0].close()

    def close(self) -> None:
        """Close it, and every connection that has not been admitted."""
        for descriptor in [*self._handshakes]:
            self._drop(descriptor)
        super().close()

    def withdraw(self) -> None:
        self.close()


def listen(address: str) -> TlsListener:
    """A listener at *address*, which may have 0 for any free port. Raises OSError."""
    try:
        ip, port = _split(address)
    except ValueError as error:
        raise OSError(str(error)) from error
    _in_use()
    listener = _new_socket(TlsListener, ip)
    assert isinstance(listener, TlsListener)
    try:
        listener.bind((ip, port))
        listener.listen(128)
        os.set_blocking(listener.fileno(), False)  # a connection may be gone before it is accepted
    except OSError:
        listener.close()
        raise
    listener.address = f"tls:{ip}:{listener.getsockname()[1]}"
    return listener


# -- connecting --------------------------------------------------------------------------------------------


def connect(address: str, timeout: float) -> socket.socket:
    """A socket that is connected to *address*. Blocks up to *timeout* seconds. Raises Unreachable, Silent.

    Silent: somebody is there, but does not take part. A call to a process that is frozen ends in the same way where it
    needs no handshake.
    """
    until = time.monotonic() + timeout
    return Handshake(address, timeout).finish(until - time.monotonic())


class Handshake:
    """A connection that has been begun, so that the other side does its part while this one does something else."""

    def __init__(self, address: str, timeout: float) -> None:
        """Begin to connect to *address*. Blocks for up to *timeout* seconds, until the other machine takes notice.

        Raises Unreachable.
        """
        try:
            ip, port = _split(address)
            contexts = _in_use()
            plain = _new_socket(socket.socket, ip)
        except ValueError as error:
            raise Unreachable(why(error)) from error
        except OSError as error:  # no descriptor is left
            raise NoRoom(f"no connection can be opened: {why(error)}") from error
        try:
            plain.settimeout(timeout)
            plain.connect((ip, port))
            _prepare(plain)
            self._sock = contexts.connecting.wrap_socket(plain, do_handshake_on_connect=False)
        except OSError as error:
            plain.close()
            raise Unreachable(why(error)) from error
        self._failure: OSError | ValueError | None = None
        self._fresh_until = time.monotonic() + HANDSHAKE_SECONDS / 2
        self._sock.setblocking(False)
        self.go_on()

    @property
    def is_stale(self) -> bool:
        """Whether it has not come to its end, and the other side may soon drop it, which this side would not see."""
        return time.monotonic() > self._fresh_until and self._sock.version() is None

    def go_on(self) -> None:
        """Do what can be done without waiting. What goes wrong is for `finish` to raise."""
        if self.is_stale or self._failure is not None:
            return
        try:
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # it is the other side's turn
        except (OSError, ValueError) as error:
            self._failure = error

    def finish(self, timeout: float) -> ssl.SSLSocket:
        """The connected socket. Blocks for up to *timeout* seconds. Raises Unreachable, Silent."""
        try:
            if self._failure is not None:
                raise self._failure
            self._sock.settimeout(max(0.001, timeout))
            self._sock.do_handshake()
        except TimeoutError as error:
            self.close()
            raise Silent("no answer in time") from error
        except (OSError, ValueError) as error:
            self.close()
            raise Unreachable(why(error)) from error
        return self._sock

    def close(self) -> None:
        self._sock.close()


def detect_loss(sock: socket.socket, seconds: float) -> None:
    """Have the system end a connection when the other machine has not been heard of for about *seconds*.

    The system answers for its processes, so one that is frozen is not lost. On the connections that carry data, this
    would count a peer as lost that is slow to take a large message; they end only while they are idle (`_prepare`).
    """
    for option, value in (
        (socket.TCP_KEEPIDLE, 1),
        (socket.TCP_KEEPINTVL, 1),
        (socket.TCP_USER_TIMEOUT, round(seconds * 1000)),  # the system then ignores TCP_KEEPCNT, which is 127 at most
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
