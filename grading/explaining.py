"""Why a script has to be answered as it has to be, in sentences.

May live here: a run of our own master with a trace, and what its story says about each answer. May not: what is right.

The reasons for a get are those of the report page (checking/reasons.py). Those for a printStore say of each key who put
what stands there and how it came to that server, and which newer writes had not reached it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from checking.driver import command
from checking.story import MASTER, Story, StoryWrite
from checking.telling import tell
from checking.traces import NoTrace, read
from control.explaining import shown
from grading.cases import Case

__all__ = ["explain"]

_LIMIT_SECONDS = 60.0
_MOST_SENTENCES = 6


def explain(case: Case) -> Case:
    """The case, with the reasons for its answers if they can be told. Blocks while a master runs it."""
    lines = [b""] * max(case.numbers, default=0)
    for number, line in zip(case.numbers, case.script, strict=True):
        lines[number - 1] = line
    with tempfile.TemporaryDirectory(prefix="daadkvs-grade-") as folder:
        trace = Path(folder, "trace")
        try:
            subprocess.run(
                command("--gossip-interval", "0", "--trace", str(trace)),
                input=b"".join(line + b"\n" for line in lines),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_LIMIT_SECONDS,
                check=False,
            )
            story = tell(read(trace))
        except (NoTrace, OSError, subprocess.TimeoutExpired):
            return case
    return replace(case, reasons=dict(_reasons(case, story)))


def _reasons(case: Case, story: Story) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The reasons by line, of the answers that are right in this run, too."""
    commands = {event.where: number for number, event in enumerate(story.events) if event.kind == "command"}
    for question, answers in zip(case.questions, case.allowed.answers, strict=True):
        event = commands.get(f"line {question.line}")
        if event is None:
            continue
        printed = story.events[event].printed
        operation = story.events[event].operation
        if operation is not None:
            done = story.operations[operation]
            told = f"{done.key}:{done.value if done.outcome == 'value' else done.outcome}"
            why = tuple(done.why)
        else:
            told = printed
            why = tuple(_of_store(story, event, question.text.split()[1].decode()))
        if told in {shown(b"\n".join(answer), 20_000) for answer in answers}:
            yield question.line, why[:_MOST_SENTENCES]


def _of_store(story: Story, event: int, ident: str) -> Iterator[str]:
    """Why a server's store is what it is at this event."""
    name = f"server {int(ident)}"
    if name not in story.processes:
        return
    server = story.processes.index(name)
    standing: dict[str, int | None] = {}
    newest: dict[str, int] = {}
    for changed, where, key, write in story.changes:
        if changed > event:
            break
        if where == server:
            standing[key] = write
        if write is not None and story.writes[write].timestamp > story.writes[newest.get(key, write)].timestamp - 1:
            newest[key] = write
    for key in sorted(newest):
        write, latest = standing.get(key), newest[key]
        if write is not None:
            yield f"{_put(story, story.writes[write])}; {_way(story, story.writes[write], server)}."
        if write is None or story.writes[write].timestamp < story.writes[latest].timestamp:
            why = _apart(story, event, server, latest)
            yield f"{_put(story, story.writes[latest])}, but nothing had brought that to {name}{why}."


def _put(story: Story, write: StoryWrite) -> str:
    if write.operation is None:
        return f"{write.key} = {write.value} was there from the beginning"
    done = story.operations[write.operation]
    return f"{story.processes[done.client].capitalize()} had put {write.key} = {write.value} in {done.where}"


def _way(story: Story, write: StoryWrite, server: int) -> str:
    """How a write has come to a server."""
    name = story.processes[server]
    arrival = next((one for one in write.arrivals if one.server == server), None)
    if arrival is None or arrival.source is None:
        return f"{name} took it"
    before = (story.events[number] for number in range(arrival.event, -1, -1))
    command = next((one for one in before if one.kind == "command" and story.processes[one.process] == MASTER), None)
    by = f" with {command.text} in {command.where}" if command is not None else ""
    return f"it came to {name} from {story.processes[arrival.source]}{by}"


def _apart(story: Story, event: int, server: int, write: int) -> str:
    """The end of a sentence: the servers that had a write were cut off, or stabilize had not run."""
    having = {one.server for one in story.writes[write].arrivals if one.event <= event}
    components = next((parts for at, parts in reversed(story.partitions) if at <= event), [])
    if any(server in part and having & {*part} for part in components):
        return ": stabilize had not run since"
    return ", from which those who had it were cut off" if having else ""
