"""The calls to other processes that a group needs (`groups.Calls`).

May live here: those calls. May not: what follows from the answers (groups.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from control.calls import failure_of
from control.members import Members
from control.settings import Settings
from control.supervisor import Supervisor
from groups import Group, MemberAnswer
from messages import outcome_from_flat
from rpc import answers, transport
from storage import StorageError

__all__ = ["GroupCalls"]


class GroupCalls:
    """The calls to other processes that one group needs (`groups.Calls`)."""

    def __init__(
        self,
        group: Group,
        settings: Settings,
        members: Members,
        supervisor: Supervisor,
        warn: Callable[[str], None],
    ) -> None:
        """*warn* is called if a group can't be cut off a server's log."""
        self._group = group
        self._settings = settings
        self._members = members
        self._supervisor = supervisor
        self._warn = warn
        self._pending: dict[int, transport.Pending] = {}
        self._deadline = time.monotonic() + 2 * settings.timeout

    def send(self, client: int, number: int, members: int, part: bytes) -> None:
        remote = self._members.clients[client].remote
        assert remote is not None
        try:
            self._pending[client] = remote.send("execute_group", number, members, part)
        except transport.Failure:
            pass  # the client has died, and `wait` will return None

    def wait(self, client: int) -> MemberAnswer | None:
        end = self._members.clients[client]
        try:
            packed = self._pending[client].wait(max(0.0, self._deadline - time.monotonic()))
            expected = answers.of_a_client(self._group.values(client), end.connections, in_group=True)
            outcomes, losses = transport.read(packed, expected)
        except (KeyError, transport.Failure) as failure:
            end.loss = failure if isinstance(failure, transport.Failure) else None
            return None
        outcomes = None if outcomes is None else [outcome_from_flat(flat) for flat in outcomes]
        return MemberAnswer(outcomes, losses[-1][1] if losses else None)

    def kill_client(self, client: int) -> None:
        self._supervisor.kill_client(self._members.clients[client])

    def answers_of(self, server: int, number: int, client: int) -> list[Any] | None:
        packed = self._supervisor.ask_servers({server: ("group_answers", number, client)}).get(server)
        if packed is None:
            return None
        try:
            return list(transport.read(packed, answers.to_operations(self._group.values(client))))
        except transport.RemoteError as failure:
            self._supervisor.lose({server: failure})
            return None

    def is_running(self, server: int) -> bool:
        return self._members.servers[server].running

    def take_back(self, server: int, loss: str, number: int) -> None:
        lost = self._members.servers[server]
        if lost.running:
            lost.loss = None if loss == "died" else failure_of(loss)
            self._supervisor.kill([lost])
        try:
            assert lost.host is not None
            lost.host.cut_group(server, number, self._settings.fsync)
        except transport.Failure:
            lost.uncut = number  # its host is lost as well; what is there can wait until the server is to be revived
        except StorageError as error:
            self._warn(f"{error}; server {server} may keep the last puts of its clients")

    def undo(self, client: int) -> None:
        self._supervisor.ask_client(self._members.clients[client], "undo_group")
