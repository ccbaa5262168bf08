"""Explains in sentences why an operation of a story was answered as it was.

May live here: reading reasons off a story that is complete. May not: the events of a trace (checking/telling.py), and
the sentences that a master says as well (control/explaining.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from checking.story import ServerAnswer, Story, StoryEvent, StoryOperation, StoryWrite
from control import explaining
from messages import Write

__all__ = ["Reasons"]


class Reasons:
    """The reasons in one story."""

    def __init__(
        self, story: Story, versions: list[Write], changes: dict[str, list[tuple[int, int, int | None]]]
    ) -> None:
        """*versions*: the writes, in the order of `story.writes`. *changes*: key -> (event, server, new write)."""
        self.story = story
        self._versions = versions
        self._changes = changes

    def of(self, operation: StoryOperation) -> Iterator[str]:
        """Explain why an operation was answered as it was."""
        processes, writes = self.story.processes, self.story.writes
        if operation.put:
            yield from self._explain_put(operation)
            return
        client = processes[operation.client]
        seen = writes[operation.seen] if operation.seen is not None else None
        if seen is not None and operation.seen_by is not None:
            by = self.story.operations[operation.seen_by]
            yield explaining.seen(client, operation.key, explaining.Seen(seen.value, by.put, by.where))
        else:
            yield explaining.unbound(client, operation.key)
        if not operation.asked:
            yield f"No server answered ({operation.outcome})."
        for asked in operation.asked:
            yield self._explain_answer(operation, asked, seen)
        if operation.outcome == "ERR_DEP" and operation.seen is not None and operation.asked:
            yield from self._explain_where(operation, operation.seen)

    def _explain_put(self, operation: StoryOperation) -> Iterator[str]:
        write = self.story.writes[operation.write] if operation.write is not None else None
        if write is None:
            yield f"No server is known to have stored it ({operation.outcome})."
            return
        took = [self.story.processes[asked.server] for asked in operation.asked]
        yield f"{' and then '.join(took).capitalize()} stored it."
        reached = {arrival.server for arrival in write.arrivals}
        servers = sum(name.startswith("server") for name in self.story.processes)
        yield f"In this run it reached {len(reached)} of {servers} servers."
        for rival in write.concurrent:
            other = self.story.writes[rival]
            stands = "the other one" if other.timestamp > write.timestamp else "this one"
            yield (
                f"It is concurrent with {other.value}: neither author had seen the other's write. "
                f"By their timestamps, {stands} is later, and stands."
            )

    def _explain_answer(self, operation: StoryOperation, asked: ServerAnswer, seen: StoryWrite | None) -> str:
        server, bound = self.story.processes[asked.server], seen is not None
        if asked.standing is None:
            return explaining.had(server, explaining.Had(None), bound)
        write = self.story.writes[asked.standing]
        by = self.story.operations[write.operation] if write.operation is not None else None
        author, where = (self.story.processes[by.client], by.where) if by else ("", "")
        age = ""
        if seen is not None and operation.seen is not None:
            age = (
                "same" if asked.standing == operation.seen else "older" if write.timestamp < seen.timestamp else "later"
            )
        return explaining.had(server, explaining.Had(write.value, author, where, age), bound)

    def _explain_where(self, operation: StoryOperation, seen: int) -> Iterator[str]:
        """Explain which servers held what the session asked for, and why the server that it asked did not."""
        event = operation.asked[-1].event
        least = self._versions[seen].version.timestamp
        held: dict[int, int | None] = {}
        lost: dict[int, int] = {}  # server -> the event at which it had lost the write
        for changed, server, write in self._changes.get(operation.key, ()):
            if changed > event:
                break
            if self._is_since(held.get(server), least) and not self._is_since(write, least):
                lost[server] = changed
            elif self._is_since(write, least):
                lost.pop(server, None)
            held[server] = write
        running = {
            life.process
            for life in self.story.lives
            if life.began <= event and (life.ended is None or life.ended > event)
        }
        having = [server for server, write in sorted(held.items()) if self._is_since(write, least)]
        able = [server for server in having if server in running]
        if able:
            yield explaining.somebody_could(self._names(able))
            yield self._explain_way(operation, able)
            return
        yield explaining.NOBODY_COULD
        for server in having:
            yield explaining.had_but(self.story.processes[server], *self._end_of(server, event))
        for server, started in sorted(lost.items()):
            damaged = "damaged" if "damaged" in self.story.events[started].text else "lost"
            back = f"came back without it{self._line_of(started)}: its disk was {damaged}"
            yield explaining.had_but(self.story.processes[server], back)
        if lost and not having:
            yield explaining.nobody_has(operation.key)

    def _is_since(self, write: int | None, timestamp: int) -> bool:
        return write is not None and self._versions[write].version.timestamp >= timestamp

    def _explain_way(self, operation: StoryOperation, able: list[int]) -> str:
        """Explain why the write that these servers had was not at the server that was asked."""
        event = operation.asked[-1].event
        asked = {one.server for one in operation.asked}
        components = next((parts for at, parts in reversed(self.story.partitions) if at <= event), [])
        near = [server for server in able if any(server in part and asked & {*part} for part in components)]
        if not near:
            return explaining.PARTITIONED
        return explaining.not_moved(self._names(near))

    def _end_of(self, server: int, event: int) -> tuple[str, str]:
        """How the last life of a server that is down at an event has ended, and in which line."""
        ends = [life.ended for life in self.story.lives if life.process == server and life.ended is not None]
        end = max((end for end in ends if end <= event), default=None)
        command = self._command_of(end) if end is not None else None
        if command is None or command.text != f"killServer {self.story.processes[server].removeprefix('server ')}":
            return "had died", ""
        return "had been killed", command.where

    def _command_of(self, event: int) -> StoryEvent | None:
        """Return the last command before an event."""
        before = (self.story.events[number] for number in range(event - 1, -1, -1))
        return next((moment for moment in before if moment.kind == "command"), None)

    def _line_of(self, event: int) -> str:
        """The line of the last command before an event, in brackets."""
        command = self._command_of(event)
        return f" ({explaining.line_of(command.where)})" if command is not None and command.where else ""

    def _names(self, processes: list[int]) -> list[str]:
        return [self.story.processes[process] for process in processes]
