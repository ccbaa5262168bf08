"""The script of a run as it ran: its lines with what they printed, and where to begin to look.

May live here: reading both off a story that is complete. May not: the events of a trace (checking/telling.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from checking.story import ScriptLine, Story, StoryEvent

__all__ = ["listing", "opening"]

WHERE = re.compile(r"(?:.*?: )?line \d+(?=: )")
"""The place at which an error says that it happened."""


def listing(story: Story) -> list[ScriptLine]:
    """The lines that ran, in their order; one that was carried out twice stands once, with its last answer."""
    lines: list[ScriptLine] = []
    at: dict[str, int] = {}  # where -> position in `lines`
    for number, event in enumerate(story.events):
        if event.kind == "command":
            line = ScriptLine(number, event.where, event.text, _answer(story, event))
            if event.where and event.where in at:
                lines[at[event.where]].answer = line.answer
                continue
        elif event.kind in ("error", "warning"):
            place = WHERE.match(event.text)
            where = place[0] if place else ""
            error = event.text[len(where) :].removeprefix(": ")
            known = at.get(where) if where else len(lines) - 1 if lines else None
            if known is not None:
                lines[known].error = "; ".join(filter(None, (lines[known].error, error)))
                continue
            line = ScriptLine(number, where, "", "", error)
        else:
            continue
        if line.where:
            at[line.where] = len(lines)
        lines.append(line)
    return lines


def _answer(story: Story, event: StoryEvent) -> str:
    """What a command printed."""
    if event.operation is None:
        return event.printed
    done = story.operations[event.operation]
    if done.put or done.outcome not in ("value", "ERR_KEY", "ERR_DEP"):
        return ""
    return f"{done.key}:{done.value if done.outcome == 'value' else done.outcome}"


def opening(story: Story) -> int | None:
    """The event that is worth seeing first: an ERR_DEP, a conflict, a partition, or else any put or get."""
    return next(filter(lambda event: event is not None, _worth_seeing(story)), None)


def _worth_seeing(story: Story) -> Iterator[int | None]:
    for done in story.operations:
        if done.outcome == "ERR_DEP":
            yield done.event
    # Two writes meet where the second of them comes to a server that has the first.
    meetings = [
        min(arrival.event for arrival in write.arrivals if arrival.source is not None)
        for write in story.writes
        if write.concurrent and any(arrival.source is not None for arrival in write.arrivals)
    ]
    yield min(meetings, default=None)
    yield from (event for event, components in story.partitions if len(components) > 1)
    yield from (done.event for done in story.operations)
