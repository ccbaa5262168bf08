"""The server process: an RPyC service and a gossip loop around one replica.

May live here: threads, locks and calls. May not: what a put, an exchange or a link does to the replica (peer.py and the
pure rooms below it), and what is on disk (storage.py). This file brings them together.

Threads
-------
One thread for each connection (of the master, a client or a neighbour) carries out the calls that come over it. One
thread gossips; it alone starts exchanges of the server's own accord. With --fsync interval, one thread syncs the log
once a second; if a sync fails, the log is replaced by a new one, and the next put is refused with the reason. One
thread does the work of storage.py that no append should wait for: it syncs snapshots and removes files. The main thread
waits until the watchdog ends, and then ends the process.

The threads of clients that have a part in the same *group* (groups.py) wait for each other, and the last one carries
out all parts. A thread that starts, answers or applies an exchange waits until no group holds exchanges.

One lock guards the peer and the storage. It is never held during a call to another process. What is sent to a client or
a neighbour has been logged before, and what has been logged is applied before the lock is released.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack

from groups import ServerGroup
from messages import Missing, Operation, Write, pack_operations, plain_answer, unpack_operations
from model import Model, pack_delta
from peer import Peer, unpack_request
from rpc import answers, pieces, tracing, transport
from rpc.exchanges import Exchanges
from rpc.options import Options
from rpc.worker import start_worker
from storage import Progress, Storage, StorageError
from vector_clock import Replica

__all__ = ["Options", "main"]


class _TimedLog:
    """The log of a storage (`peer.Log`), with the time at which the present write began."""

    def __init__(self) -> None:
        self.storage: Storage
        self.writing_since: float | None = None  # as `time.monotonic` has it; None if nothing is being written

    def append(self, delta: bytes, source: Model, group: int | None = None) -> None:
        self._write(self.storage.append, delta, source, group)

    def renew(self, source: Model) -> None:
        self._write(self.storage.renew, source)

    def _write(self, write: Callable[..., None], *args: Any) -> None:
        self.writing_since = time.monotonic()
        try:
            write(*args)
        finally:
            self.writing_since = None


class Server:
    """A replica with its disk, its links and its threads."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._peer = Peer(Replica(options.server, options.incarnation), options.gossip_interval, options.group_limit)
        self._log = _TimedLog()
        self._progress = Progress()
        self._ready = threading.Event()
        self._is_traced = threading.Event()
        self._failure: str | None = None
        self.broken: str | None = None
        """Why this server can't go on; None as long as it can."""
        self._damages: list[str] = []
        self._exchanges = Exchanges(
            self._peer, self._lock, options.timeout, StorageError, self._wait_for_release, self._after_append
        )
        self._to_sync = threading.Event()
        self._sync_failure: str | None = None  # why the last sync failed, until a put has been refused with it
        self._group_closed = threading.Condition(self._lock)
        self._released = threading.Condition(self._lock)

    # -- start ---------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Restore the replica from its disk, and start the server's own threads. `state` tells how that went."""
        try:
            options = self._options
            storage = Storage(
                Path(options.folder),
                options.incarnation,
                options.fsync,
                lock_wait=options.timeout,
                kept=options.kept,
                start_executor=start_worker,
                progress=self._progress,
            )
            gc.disable()  # a collection would traverse everything that has been read, again and again
            recovery = storage.recover()
            self._damages = recovery.damages
            self._peer.recover(recovery.deltas, bool(recovery.damages))
            gc.freeze()  # nothing that was read is garbage, so no collection needs to traverse it
            gc.enable()
            storage.start(self._peer.model)
            self._log.storage = storage
            self._peer.start(self._log)
            if options.gossip_interval > 0:
                transport.start_thread(self._gossip_forever)
            if options.fsync == "interval":
                transport.start_thread(self._sync_forever)
            if tracing.on:
                self._is_traced.wait()
                writes = pack_delta(self._peer.model.writes())
                tracing.event("started", incarnation=self._options.incarnation, delta=writes, damages=recovery.damages)
        except (StorageError, transport.NoRoom, MemoryError) as error:
            self.fail(transport.why(error))
        except Exception as error:  # a record is complete and its checksum is right, but its content is not valid
            self.fail(f"its store can't be read: {type(error).__name__}: {error}")
        self._ready.set()

    def begin_trace(self) -> None:
        """Begin the trace of this server, if the run is traced, and unless that has been done.

        To be called with each connection: a server that was started early, and that nobody wants, leaves no trace.
        """
        if tracing.on and not self._is_traced.is_set():
            try:
                tracing.begin(f"server {self._options.server}")
            except OSError as error:
                self.fail(f"{error.filename}: {error.strerror}")
            except (TypeError, ValueError) as error:  # there is one already, which is damaged
                self.fail(f"its trace can't be continued: {type(error).__name__}: {error}")
            self._is_traced.set()

    def fail(self, why: str) -> None:
        """Note that this server could not start, and why."""
        self._failure = why
        self._ready.set()

    def state(self, wait: float) -> answers.State:
        """The state of the start. Blocks for at most *wait* seconds, until the server has recovered."""
        if not self._ready.wait(wait):
            return "recovering", self._progress.done
        if self._failure is not None:
            return "failed", self._failure
        return "ready", self._peer.model.largest_timestamp, tuple(self._damages)

    # -- puts, gets and printStore -------------------------------------------------------------------------

    def execute(self, batch: bytes) -> bytes:
        """Carry out a session's operations (`messages.pack_operations`), with one append to the log.

        Returns `[[answer, …], nil]` (`messages.plain_answer`), packed. If the disk refused the writes, nothing has been
        done, and the result is `[[], why]`.
        """
        operations = unpack_operations(batch)
        with self._lock:
            try:
                answers = self._execute(operations)
            except StorageError as error:
                return _pack([[], str(error)])
            answered = [plain_answer(*pair) for pair in zip(operations, answers, strict=True)]
            if tracing.on:
                tracing.event("executed", parts=[[None, batch, _pack(answered)]])
        return _pack([answered, None])

    def execute_group(self, number: int, session: int, members: int, part: bytes) -> bytes | None:
        """Carry out a session's part of a group, together with the parts of the other members.

        *members*: how many sessions have a part at this server. Blocks until all parts have arrived, but for at most
        half of the time-out. Returns the packed list of answers (`messages.plain_answer`), or None if the group was
        given up.
        """
        operations = unpack_operations(part, session)
        with self._lock:
            group = self._peer.groups.of(number, members)
            if group is None:
                return None
            if group.add(session, operations):
                self._carry_out(group)
                self._group_closed.notify_all()
            elif not self._group_closed.wait_for(lambda: group.closed, self._options.timeout / 2):
                group.give_up()
                self._group_closed.notify_all()
            return group.answers(session)

    def _carry_out(self, group: ServerGroup) -> None:
        """Carry out a group of which all parts have arrived. The caller holds the lock."""

        def execute(operations: list[Operation], number: int) -> list[Write | Missing] | None:
            try:
                return self._execute(operations, number)
            except StorageError:
                return None

        group.carry_out(self._peer.model, execute)
        if tracing.on and group.carried_out:
            parts = [[session, pack_operations(part), group.answers(session)] for session, part in group.parts.items()]
            tracing.event("executed", parts=parts)

    def _execute(self, operations: list[Operation], group: int | None = None) -> list[Write | Missing]:
        """Carry out operations. The caller holds the lock. Raises StorageError; then nothing has been done."""
        why = self._sync_failure
        if why is not None and any(operation.value is not None for operation in operations):
            if group is None:  # the error of a put that runs alone reaches the user
                self._sync_failure = None
            raise StorageError(why)
        answers = self._peer.execute(operations, time.monotonic(), group)
        self._after_append()
        return answers

    def group_answers(self, number: int, session: int) -> bytes | None:
        """What `execute_group` has returned to a session, or will return. An incomplete group is given up."""
        with self._lock:
            answers = self._peer.groups.answers(number, session)
            self._group_closed.notify_all()
            return answers

    def release_group(self) -> None:
        """Let exchanges go on, since the group is complete at all servers."""
        with self._lock:
            self._peer.release_group()
            self._released.notify_all()

    def _wait_for_release(self) -> None:
        """Wait until no group holds exchanges. The caller holds the lock, which is released while waiting."""
        self._released.wait_for(lambda: not self._peer.groups.held)

    def writes(self, key: bytes | None = None) -> Iterable[Write]:
        """The writes that are standing at this instant, sorted by key; those of one *key*, if it is given."""
        with self._lock:
            return self._peer.model.writes(key)

    # -- links ---------------------------------------------------------------------------------------------

    def link(self, neighbours: Iterable[tuple[int, str]]) -> None:
        """Make links to these neighbours: (server id, address) of each."""
        with self._lock:
            for neighbour, address in neighbours:
                self._peer.link(neighbour, address, time.monotonic())
                if tracing.on:
                    tracing.event("linked", neighbour=neighbour)
            self._exchanges.wake_up()

    def unlink(self, neighbour: int) -> None:
        """Remove the link to a neighbour. When this returns, nothing more from there is applied or answered."""
        with self._lock:
            self._peer.unlink(neighbour, time.monotonic())
            if tracing.on:
                tracing.event("unlinked", neighbour=neighbour)
            self._exchanges.abort(neighbour)

    def shape(self, neighbours: Iterable[tuple[int, float, float, float]], seed: int) -> None:
        """Give the links to these neighbours a shape: (server id, delay, jitter, loss) of each. *seed*: the run's."""
        from shape import Shape  # not at the top, since most links have no shape

        with self._lock:
            for neighbour, *shape in neighbours:
                self._peer.shape(neighbour, Shape(*shape), seed)
            self._exchanges.end_waits()

    def reachable(self) -> tuple[int, ...]:
        """The servers that this one can reach, as far as it knows."""
        with self._lock:
            return tuple(sorted(self._peer.router.reachable()))

    def is_hung(self, limit: float) -> bool:
        """Whether one write to the log has taken *limit* seconds so far. Blocks until this is certain."""
        since = self._log.writing_since
        if since is None:
            return False
        if self._lock.acquire(timeout=max(0.0, since + limit - time.monotonic())):
            self._lock.release()
            return False
        return self._log.writing_since == since

    # -- anti-entropy --------------------------------------------------------------------------------------

    def context(self) -> bytes:
        """The replica's context, packed. Equal contexts give equal bytes."""
        with self._lock:
            return _pack(self._peer.model.context.flat())

    def answer_pull(self, request: bytes) -> bytes | None:
        """The answer to a packed `peer.Exchange.request`; None if the server that asks is not a neighbour."""
        unpacked = unpack_request(request)
        with self._lock:
            self._wait_for_release()
            answer = self._peer.answer_pull(unpacked)
            self._exchanges.wake_up()
        return None if answer is None else _pack(answer)

    def pull_from(
        self, neighbours: Iterable[int], patience: float
    ) -> tuple[tuple[int, ...], tuple[int, ...], str | None, bytes, answers.Faulty]:
        """Fetch what these neighbours hold, within stabilize. Blocks as `Exchanges.pull_from` does.

        *patience*: how long each neighbour may be silent, in seconds. Returns (the neighbours from which there is more
        to fetch, those that were silent or could not be reached, the reason why the disk refused or something was
        exhausted (or None), the context, the neighbours that failed, each with a description).
        """
        left, lost, refusal, faulty = self._exchanges.pull_from(neighbours, patience)
        return left, lost, refusal, self.context(), faulty

    # -- gossip --------------------------------------------------------------------------------------------

    def _after_append(self) -> None:
        """Wake the threads that have to do with a new record in the log, if there is one. The caller holds the lock."""
        if self._options.fsync == "interval":
            self._to_sync.set()
        self._exchanges.wake_up()

    def _gossip_forever(self) -> None:
        try:
            self._exchanges.gossip_forever()
        except MemoryError as error:  # the next call fails, so the server is killed
            self.broken = transport.why(error)

    def _sync_forever(self) -> None:
        while True:
            self._to_sync.wait()
            self._to_sync.clear()
            time.sleep(1.0)  # the interval between two syncs
            try:
                self._log.storage.sync()
            except StorageError as error:
                with self._lock:
                    self._sync_failure = str(error)
                    try:
                        renewed = self._peer.renew_log()
                    except StorageError:
                        renewed = False
                if not renewed:
                    self._to_sync.set()  # try again after an interval


class _Broken(Exception):
    """The server can't go on."""


class _Service(transport.Service):
    """The calls that a server answers on each of its connections."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pieces: Iterator[bytes] = iter(())

    def called(self, name: str, args: tuple[Any, ...]) -> Any:
        if self._server.broken is not None:
            raise _Broken(self._server.broken)
        return super().called(name, args)

    # for the master

    def exposed_state(self, wait: float) -> answers.State:
        return self._server.state(wait)

    def exposed_link(self, neighbours: tuple[tuple[int, str], ...]) -> None:
        self._server.link(neighbours)

    def exposed_unlink(self, neighbour: int) -> None:
        self._server.unlink(neighbour)

    def exposed_shape(self, neighbours: tuple[tuple[int, float, float, float], ...], seed: int) -> None:
        self._server.shape(neighbours, seed)

    def exposed_ping(self) -> None:
        """Return at once, whatever the server is busy with. An answer shows that the process is alive."""

    def exposed_is_hung(self, limit: float) -> bool:
        return self._server.is_hung(limit)

    def exposed_reachable(self) -> tuple[int, ...]:
        return self._server.reachable()

    def exposed_context(self) -> bytes:
        return self._server.context()

    def exposed_pull_from(
        self, neighbours: tuple[int, ...], patience: float
    ) -> tuple[tuple[int, ...], tuple[int, ...], str | None, bytes, answers.Faulty]:
        return self._server.pull_from(neighbours, patience)

    def exposed_print_store(self) -> bytes:
        """The first piece of the store at this instant; `exposed_print_more` returns the others."""
        self._pieces = pieces.lines(self._server.writes())
        return self.exposed_print_more()

    def exposed_print_versions(self) -> bytes:
        """The first piece of the store at this instant, with timestamps; `exposed_print_more` returns the others."""
        self._pieces = pieces.versions(self._server.writes())
        return self.exposed_print_more()

    def exposed_print_version(self, key: bytes) -> bytes:
        """What stands under one key, as a piece of the same; empty where nothing does."""
        return next(pieces.versions(self._server.writes(key)), b"")

    def exposed_print_more(self) -> bytes:
        """The next piece of the store; empty after the last one."""
        return next(self._pieces, b"")

    def exposed_group_answers(self, number: int, session: int) -> bytes | None:
        return self._server.group_answers(number, session)

    def exposed_release_group(self) -> None:
        self._server.release_group()

    # for clients

    def exposed_execute(self, batch: bytes) -> bytes:
        return self._server.execute(batch)

    def exposed_execute_group(self, number: int, session: int, members: int, part: bytes) -> bytes | None:
        return self._server.execute_group(number, session, members, part)

    # for neighbours

    def exposed_pull(self, request: bytes) -> bytes | None:
        return self._server.answer_pull(request)


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def main(listener: transport.Listener, tether: socket.socket, options: Options) -> None:
    """Serve until the watchdog, which holds the other end of *tether*, has ended. Then end the process."""
    server = Server(options)

    def make_service() -> _Service:
        server.begin_trace()
        return _Service(server)

    transport.start_thread(transport.accept_forever, listener, make_service)
    try:
        transport.start_thread(server.recover)
    except transport.NoRoom as error:
        server.fail(str(error))
    with suppress(OSError):  # where the watchdog has ended before it has read what was sent
        tether.recv(1)
    os._exit(0)
