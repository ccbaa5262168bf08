"""Tells the story of a run from the events of its traces.

May live here: what the events of rpc/tracing.py mean. May not: files, what a story consists of (checking/story.py), why
operations were answered as they were (checking/reasons.py), and how anything looks (checking/report.py).

Theory of operation
-------------------
The times in all traces are those of one clock (engine/traces.py has seen to it where a run had several hosts), which
agrees with the vector clocks: the cause of an event is older than the event. So the events of all processes, in the
order of their times, are a history that can be told from its beginning to its end. On the way, the teller keeps what
each server's store holds (what the server started with, what clients put, what it has learnt from other servers), which
links there are, and what each session has seen. So it can say for each ERR_DEP what was missing, and for each write
where it went.

An event of a trace is one event of the story; only a batch of operations becomes one event for each operation, in the
order of the script. These share their time and their clock.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import msgpack

import router
from checking.listing import listing, opening
from checking.reasons import Reasons
from checking.sentences import say
from checking.story import MASTER, Arrival, Life, Message, ServerAnswer, Story, StoryEvent, StoryOperation, StoryWrite
from checking.traces import in_order
from control.explaining import shown
from messages import Operation, Stored, Value, Write, outcome_from_flat, unpack_operations
from model import unpack_delta
from rpc.tracing import Event
from vector_clock import EMPTY_CLOCK, Dot, Seen, VectorClock, Version

__all__ = ["tell"]

PRINTED_BYTES = 20_000
"""How many bytes of a command's output are shown."""


def tell(traces: Mapping[str, Iterable[Event]]) -> Story:
    """Tell the story of a run from the events of each process."""
    return _Teller(traces).story


def _name_order(process: str) -> tuple[int, int]:
    kind, _, ident = process.partition(" ")
    return ("master", "client", "server").index(kind), int(ident or 0)


class _Teller:
    """Goes through all events once."""

    def __init__(self, traces: Mapping[str, Iterable[Event]]) -> None:
        names = sorted(traces, key=_name_order)
        self.story = Story(processes=names)
        self._process = {name: index for index, name in enumerate(names)}
        self._numbered: dict[tuple[int, int], int] = {}  # (process, number of its event) -> event of the story
        self._begun: dict[int, int] = {}  # timestamp -> operation
        self._key_names: dict[bytes, str] = {}
        self._taken: set[str] = set()  # the names in `_key_names`
        self._commands: list[tuple[int, bytes]] = []  # (event, line) of the last command, or of each of the last group
        self._answers_due: dict[int, list[StoryOperation]] = {}  # client -> those not yet answered at the master
        self._dots: dict[tuple[int, int, int], int] = {}
        self._written: dict[int, int] = {}  # timestamp -> write; after a fail-over, the last copy
        self._versions: list[Write] = []
        self._stores: dict[int, dict[bytes, int]] = {}
        self._changes: dict[str, list[tuple[int, int, int | None]]] = {}  # key -> (event, server, write)
        self._lives: dict[int, list[int]] = {}  # server -> its incarnations
        self._running: dict[int, int] = {}  # server -> the event with which it began
        self._joining: set[int] = set()  # servers without a link so far; they do not count as partitions yet
        self._linked: set[tuple[int, int]] = set()
        self._sessions: dict[tuple[int, str], tuple[int, int]] = {}  # (client, key) -> (write, operation)
        # client -> each of its last operations -> what the session had seen of the key before
        self._before: dict[int, dict[int, tuple[int, int] | None]] = {}
        self._carrying: dict[int, list[int]] = {}  # client -> messages about the operations that are under way
        self._differing: dict[bytes, tuple[bool, bool]] = {}
        self._counts = [0, 0]
        self._components: list[list[int]] = []
        self._last_answer: dict[tuple[int, int], int] = {}  # (server, neighbour) -> message
        self._tell(in_order({name: traces[name] for name in names}))

    def _tell(self, events: Iterator[tuple[str, Event, dict[str, int]]]) -> None:
        start = time = None
        for name, event, new in events:
            time = event.time
            if start is None:
                start = time
            process = self._process[name]
            entries = [(self._process[other], number) for other, number in new.items() if other in self._process]
            handler = getattr(self, f"_on_{event.name}", None)
            microseconds = round((time - start) / 1000, 1)
            moment = StoryEvent(process, microseconds, sys.intern(event.name), tuple(chain(*entries)))
            self._numbered[process, event.number] = len(self.story.events)
            if handler is not None:
                handler(moment, event.details)
            else:
                self._add(moment)
        if start is None or time is None:
            return
        self.story.length = round((time - start) / 1000, 1)
        for server, began in self._running.items():
            self.story.lives.append(Life(server, began, None))
        self.story.lives.sort(key=lambda life: life.began)
        reasons = Reasons(self.story, self._versions, self._changes)
        for record in self.story.operations:
            if not record.outcome:
                record.outcome = "lost"
            record.why = list(reasons.of(record))
        say(self.story)
        self.story.lines = listing(self.story)
        self.story.opening = opening(self.story)

    def _add(self, moment: StoryEvent) -> int:
        self.story.events.append(moment)
        return len(self.story.events) - 1

    def _add_again(self, moment: StoryEvent, **changes: Any) -> int:
        """Add one more event of the same time, without any new entry of the clock."""
        return self._add(StoryEvent(moment.process, moment.time, moment.kind, (), **changes))

    def _key(self, key: bytes) -> str:
        """Return a key as a text that no other key has, even if they look alike once they are cut or escaped."""
        name = self._key_names.get(key)
        if name is None:
            alike, name = 1, shown(key)
            while name in self._taken:
                alike += 1
                name = f"{shown(key)} [{alike}]"
            self._key_names[key] = name
            self._taken.add(name)
        return name

    # -- the master ----------------------------------------------------------------------------------------

    def _on_run(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        self.story.version = details["version"]
        self.story.options = details["options"]
        self.story.scripts = details.get("scripts", [])
        self._add(moment)

    def _on_command(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        moment.text, moment.where = shown(details["text"]), details["where"]
        event = self._add(moment)
        self._commands = [(event, details["text"])]
        if self._joining:
            self._joining.clear()
            self._look_around(event)

    def _on_group(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        moment.kind = "command"
        self._commands = []
        for where, text in details["commands"]:
            self._commands.append((self._add_again(moment, text=shown(text), where=where), text))
        self.story.events[self._commands[0][0]].clock = moment.clock

    def _on_issued(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        self._add(moment)
        for (command, line), timestamp in zip(self._commands, details["timestamps"], strict=False):
            asked = self.story.events[command]
            name, ident, key = line.split(b" ", 3)[:3]
            client = self._process.get(f"client {int(ident)}")
            if client is None:
                continue  # this client has left no trace
            record = StoryOperation(
                client, name == b"put", self._key(key), "", asked.where, timestamp, asked.time, command, asked.time
            )
            asked.operation = len(self.story.operations)
            self._begun[timestamp] = asked.operation
            self.story.operations.append(record)
            self._answers_due.setdefault(client, []).append(record)

    def _on_printed(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        moment.text = shown(details["text"].rstrip(b"\n"), PRINTED_BYTES)
        self._add(moment)
        if len(self._commands) == 1:
            self.story.events[self._commands[0][0]].printed = moment.text

    def _on_error(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        moment.text = details["text"]
        self._add(moment)

    _on_warning = _on_error

    def _on_stable(self, moment: StoryEvent, _: dict[str, Any]) -> None:
        moment.text = "stable"
        self._add(moment)

    def _on_killed(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        server = self._process.get(f"server {details['server']}")
        moment.text = f"server {details['server']} is dead"
        event = self._add(moment)
        if server is not None and server in self._running:
            self.story.lives.append(Life(server, self._running.pop(server), event))
            self._unlink_all(server)
            self._look_around(event)

    # -- messages ------------------------------------------------------------------------------------------

    def _on_called(self, moment: StoryEvent, details: dict[str, Any], answer: bool = False) -> None:
        moment.text = details["name"]
        received = self._add(moment)
        sender = self._process.get(details["by"])
        sent = self._numbered.get((sender, details["number"])) if sender is not None else None
        if sender is None or sent is None:
            return
        self.story.messages.append(Message(sent, received, sys.intern(details["name"]), answer))
        if answer and details["name"] == "pull":
            self._last_answer[moment.process, sender] = len(self.story.messages) - 1
        if details["name"] in ("execute", "execute_group"):
            self._on_operation_message(len(self.story.messages) - 1, sender, moment)

    def _on_operation_message(self, message: int, sender: int, moment: StoryEvent) -> None:
        """A call that carries operations has arrived, or its answer; which operations, is known once they are done."""
        arrived = self.story.messages[message]
        if arrived.answer and moment.process == self._process.get(MASTER):
            arrived.operations = list(self._before.get(sender, ()))
            for record in self._answers_due.pop(sender, ()):
                record.ended = moment.time
            return
        clients = [
            process for process in (sender, moment.process) if self.story.processes[process].startswith("client")
        ]
        for client in clients:
            self._carrying.setdefault(client, []).append(message)

    def _on_answered(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        self._on_called(moment, details, answer=True)

    def _on_call(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        moment.text = details["name"]
        self._add(moment)

    _on_answer = _on_call

    def _on_lost(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        answer = details["way"] == "answer"
        moment.text = f"{details['name']}: {details['way']} {'from' if answer else 'to'} {details['peer']} lost"
        event, peer = self._add(moment), self._process.get(details["peer"])
        if peer is not None:
            self.story.lose(event, moment.process, peer, details["name"], answer)

    # -- clients -------------------------------------------------------------------------------------------

    def _on_operated(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        operations = msgpack.unpackb(details["operations"])
        outcomes = msgpack.unpackb(details["outcomes"])
        before = self._before[moment.process] = {}
        first = len(self.story.events)
        for (key, value, timestamp), flat in zip(operations, outcomes, strict=True):
            outcome = outcome_from_flat(flat)
            number = self._begun.get(timestamp)
            if number is None:
                continue
            record = self.story.operations[number]
            record.key, record.outcome = self._key(key), flat[0]
            record.event = self._add_again(moment, operation=number)
            record.ended = moment.time
            remembered = self._sessions.get((record.client, record.key))
            before[number] = remembered
            record.seen, record.seen_by = remembered or (None, None)
            if isinstance(outcome, Value):
                record.value, record.write = shown(outcome.value), self._written.get(outcome.timestamp)
            elif value is not None:
                record.value = shown(value)
            self.story.events[record.event].text = record.text
            if record.write is not None and isinstance(outcome, Stored | Value):
                if not record.put:
                    self.story.writes[record.write].reads.append(number)
                if record.write != record.seen:
                    self._sessions[record.client, record.key] = (record.write, number)
        for message in self._carrying.pop(moment.process, ()):
            self.story.messages[message].operations = list(before)
        if len(self.story.events) > first:
            self.story.events[first].clock = moment.clock
        else:
            self._add(moment)

    def _on_undone(self, moment: StoryEvent, _: dict[str, Any]) -> None:
        for number, remembered in reversed(self._before.pop(moment.process, {}).items()):
            record = self.story.operations[number]
            record.outcome = "undone"
            if remembered is None:
                self._sessions.pop((record.client, record.key), None)
            else:
                self._sessions[record.client, record.key] = remembered
        moment.text = "forgets the last answers: the server was lost before every client had its own"
        self._add(moment)

    # -- servers -------------------------------------------------------------------------------------------

    def _on_started(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        writes, _ = unpack_delta(details["delta"], from_disk=True)
        server = moment.process
        again = "revived" if server in self._lives else "starts"
        moment.text = f"{again} with {len(writes)} write{'s' * (len(writes) > 1)}" if writes else f"{again} empty"
        if details["damages"]:
            moment.text += f", {len(details['damages'])} damaged"
        event = self._add(moment)
        self._lives.setdefault(server, []).append(details["incarnation"])
        self._unlink_all(server)
        self._running[server] = event
        self._joining.add(server)
        found = {write.key: self._known(write) for write in writes}
        store = self._stores.setdefault(server, {})
        for key in [key for key in store if key not in found]:
            del store[key]
            self._change(event, server, key, None)
        for key, write in found.items():
            if store.get(key) != write:
                store[key] = write
                self._change(event, server, key, write)

    def _on_linked(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        other = self._process.get(f"server {details['neighbour']}")
        moment.text = f"link to {details['neighbour']}"
        event = self._add(moment)
        if other is not None:
            self._linked.add((moment.process, other))
            self._look_around(event)

    def _on_unlinked(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        other = self._process.get(f"server {details['neighbour']}")
        moment.text = f"cut from {details['neighbour']}"
        event = self._add(moment)
        if other is not None:
            self._linked.discard((moment.process, other))
            self._look_around(event)

    def _on_executed(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        operations: list[tuple[Operation, Any]] = []
        for session, packed, answers in details["parts"]:
            operations += zip(unpack_operations(packed, session or 0), msgpack.unpackb(answers), strict=True)
        operations.sort(key=lambda entry: entry[0].timestamp)
        first = len(self.story.events)
        learnt: dict[tuple[int, bytes], Seen] = {}  # (session, key) -> from earlier operations (Model.decide)
        for operation, answer in operations:
            number = self._begun.get(operation.timestamp)
            record = self.story.operations[number] if number is not None else None
            key = self._key(operation.key)
            event = self._add_again(moment, operation=number)
            standing = self._stores.setdefault(moment.process, {}).get(operation.key)
            seen = learnt.get((operation.session, operation.key), operation.seen)
            if operation.value is not None:
                write = self._put(moment.process, event, operation, seen, answer)
                learnt[operation.session, operation.key] = Seen.first(self._versions[write].version)
                kind = "stored"
                self.story.events[event].text = f"{key} = {shown(operation.value)}"
                self.story.events[event].writes = [write]
                if record is not None:
                    record.write, record.value = write, shown(operation.value)
                    self.story.writes[write].operation = number
            elif isinstance(answer, str):
                kind = answer
                self.story.events[event].text = f"{key}: {answer}"
            else:
                value, timestamp, dot, clock = answer
                version = Version(timestamp, Dot.from_flat(dot), VectorClock.from_flat(clock))
                learnt[operation.session, operation.key] = seen.then(version) if seen else Seen.first(version)
                kind = "value"
                self.story.events[event].text = f"{key}: {shown(value)}"
            if record is not None:
                record.asked.append(ServerAnswer(moment.process, event, kind, standing))
        if len(self.story.events) > first:
            self.story.events[first].clock = moment.clock

    def _put(self, server: int, event: int, operation: Operation, seen: Seen | None, dot: list[int]) -> int:
        assert operation.value is not None
        named = Dot.from_flat(dot)
        clock = (seen.clock if seen else EMPTY_CLOCK).with_dot(named)
        version = Version(operation.timestamp, named, clock)
        number = self._known(Write(operation.key, operation.value, version))
        self._arrive(server, event, number, None, None)
        return number

    def _on_learnt(self, moment: StoryEvent, details: dict[str, Any]) -> None:
        source = self._process.get(f"server {details['neighbour']}")
        writes, _ = unpack_delta(details["delta"], from_disk=True)
        numbers = [self._known(write) for write in writes]
        moment.writes = numbers
        if len(numbers) == 1:
            write = self.story.writes[numbers[0]]
            moment.text = f"learns {write.key} = {write.value}"
        else:
            moment.text = f"learns {len(numbers)} writes"
        event = self._add(moment)
        message = self._last_answer.get((moment.process, -1 if source is None else source))
        if message is not None:
            self.story.messages[message].writes += numbers
        for number in numbers:
            self._arrive(moment.process, event, number, source, message)

    def _known(self, write: Write) -> int:
        """Return the number of a write, which is added to the story if it is new."""
        (server, life), counter = write.version.dot
        number = self._dots.get((server, life, counter))
        if number is None:
            number = self._dots[server, life, counter] = len(self.story.writes)
            self._written[write.version.timestamp] = number
            self._versions.append(write)
            version = write.version
            clock = [self._dot(dot) for dot in version.clock.entries]
            key, value = self._key(write.key), shown(write.value)
            self.story.writes.append(StoryWrite(key, value, version.timestamp, self._dot(version.dot), clock))
        return number

    def _dot(self, dot: Dot) -> str:
        """Return a dot as people read it: the server, its life unless it is the first of this run, and the counter."""
        (server, incarnation), counter = dot
        lives = self._lives.get(self._process.get(f"server {server}", -1), [])
        if incarnation not in lives:
            return f"{server}, earlier run: {counter}"
        life = lives.index(incarnation) + 1
        return f"{server}: {counter}" if life == 1 else f"{server}, life {life}: {counter}"

    def _arrive(self, server: int, event: int, number: int, source: int | None, message: int | None) -> None:
        write = self._versions[number]
        store = self._stores.setdefault(server, {})
        standing = store.get(write.key)
        stands = standing is None or self._versions[standing].version.order < write.version.order
        self.story.writes[number].arrivals.append(Arrival(server, event, source, message, stands))
        if standing is not None and standing != number:
            self._compare(number, standing)
        if stands:
            store[write.key] = number
            self._change(event, server, write.key, number)
            self._look_at(write.key)
            self._note_staleness(event)

    def _change(self, event: int, server: int, key: bytes, write: int | None) -> None:
        self.story.changes.append((event, server, self._key(key), write))
        self._changes.setdefault(self._key(key), []).append((event, server, write))

    def _compare(self, one: int, other: int) -> None:
        first, second = self._versions[one].version, self._versions[other].version
        if first.timestamp != second.timestamp and first.clock.compare(second.clock).value == "concurrent":
            for number, rival in ((one, other), (other, one)):
                if rival not in self.story.writes[number].concurrent:
                    self.story.writes[number].concurrent.append(rival)

    # -- links and staleness -------------------------------------------------------------------------------

    def _unlink_all(self, server: int) -> None:
        self._linked = {link for link in self._linked if server not in link}

    def _look_around(self, event: int) -> None:
        """Links or servers have changed: find out which partitions there are now, and which keys differ."""
        links: dict[int, set[int]] = {server: set() for server in self._running}
        for server, other in self._linked:
            if (other, server) in self._linked and server in links and other in links:
                links[server].add(other)
        self._joining = {server for server in self._joining if not links.get(server)}
        for server in self._joining:
            links.pop(server, None)
        components = sorted(sorted(component) for component in router.components(links))
        if components != self._components:
            self._components = components
            self.story.partitions.append((event, components))
            for key in {key for server in self._running for key in self._stores.get(server, ())} | {*self._differing}:
                self._look_at(key)
            self._note_staleness(event)

    def _look_at(self, key: bytes) -> None:
        """Note whether a key differs between servers now, or even within a partition."""
        within = any(len({self._stores[server].get(key) for server in component}) > 1 for component in self._components)
        across = within or len({self._stores[server].get(key) for server in self._running}) > 1
        was = self._differing.pop(key, (False, False))
        if across:
            self._differing[key] = (across, within)
        for position, (now, before) in enumerate(zip((across, within), was, strict=True)):
            self._counts[position] += now - before

    def _note_staleness(self, event: int) -> None:
        time = self.story.events[event].time
        across, within = self._counts
        points = self.story.staleness
        if points and points[-1][0] == time:
            points.pop()
        if not points or points[-1][1:] != (across, within):
            points.append((time, across, within))
