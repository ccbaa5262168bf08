"""What has just happened, in one sentence for each event of a story.

May live here: the sentences of events. May not: why an operation was answered as it was (checking/reasons.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from checking.story import ServerAnswer, Story, StoryEvent, StoryOperation
from control.explaining import capital, line_of, listed, place

__all__ = ["say"]

MOST_WRITES = 3
"""How many writes a sentence names."""


def say(story: Story) -> None:
    """Give each event that is more than a call or an answer its sentence."""
    sentences = _Sentences(story)
    for number, event in enumerate(story.events):
        event.said = sentences.of(number, event)


class _Sentences:
    """What the sentences of one story need to know."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._partitions = dict(story.partitions)
        self._asked = {asked.event: (done, asked) for done in story.operations for asked in done.asked}
        self._known: set[str] = set()  # clients that have been named so far

    def of(self, number: int, event: StoryEvent) -> str:
        say: Callable[[int, StoryEvent], str] | None = getattr(self, f"_on_{event.kind}", None)
        sentence = say(number, event) if say is not None else ""
        return " ".join([sentence, *self._parted(number)]).strip()

    def _name(self, process: int) -> str:
        return self._story.processes[process]

    def _capital(self, process: int) -> str:
        return self._name(process).capitalize()

    def _of_id(self, ident: str) -> str:
        """The name of the process with this id."""
        names = (f"server {int(ident)}", f"client {int(ident)}") if ident.isdecimal() else ()
        return next((name for name in names if name in self._story.processes), ident)

    def _pair(self, write: int) -> str:
        return f"{self._story.writes[write].key} = {self._story.writes[write].value}"

    def _parted(self, number: int) -> Iterator[str]:
        """How the servers are partitioned from this event on, if that has changed."""
        parts = self._partitions.get(number)
        if parts is not None and len(parts) > 1:
            names = "; ".join(listed(map(self._name, part)) for part in parts)
            yield f"The servers are now in {len(parts)} partitions: {names}."
        elif parts is not None and len(parts[0] if parts else ()) > 1:
            before = [len(found) for event, found in self._story.partitions if event < number]
            if before and before[-1] > 1:
                yield "All running servers can reach each other again."

    # -- the master ----------------------------------------------------------------------------------------

    def _on_command(self, _: int, event: StoryEvent) -> str:
        where = capital(line_of(event.where)) or "The prompt"
        name, *words = event.text.split(" ", 3)
        sentence = self._of_command(name, words)
        return f"{where} {sentence}." if sentence else f"{where}: {event.text}."

    def _of_command(self, name: str, words: list[str]) -> str:
        match name, words:
            case "joinServer", [ident, *_]:
                return f"starts server {ident}"
            case "killServer", [ident, *_]:
                return f"kills server {ident}"
            case "joinClient", [client, server, *_]:
                if client in self._known:
                    return f"gives client {client} a connection to server {server}"
                self._known.add(client)
                return f"starts client {client}, with a connection to server {server}"
            case "breakConnection", [one, other, *_]:
                return f"breaks the connection between {self._of_id(one)} and {self._of_id(other)}"
            case "createConnection", [one, other, *_]:
                return f"connects {self._of_id(one)} and {self._of_id(other)}"
            case "stabilize", []:
                return "lets servers that can reach each other exchange writes until all of them hold the same"
            case "printStore", [ident, *_]:
                return f"prints the store of server {ident}"
            case "put", [client, key, value]:
                return f"has client {client} put {key} = {value}"
            case "get", [client, key, *_]:
                return f"has client {client} get {key}"
        return ""

    def _on_printed(self, _: int, event: StoryEvent) -> str:
        return f"The master prints {event.text}." if event.text else ""

    def _on_error(self, _: int, event: StoryEvent) -> str:
        return f"The master says: {event.kind}: {event.text}."

    _on_warning = _on_error

    def _on_stable(self, _: int, __: StoryEvent) -> str:
        return "stabilize is done: servers that can reach each other hold the same."

    def _on_killed(self, _: int, event: StoryEvent) -> str:
        return f"{event.text.capitalize()}: its links are gone, and its disk stays."

    # -- messages ------------------------------------------------------------------------------------------

    def _on_lost(self, _: int, event: StoryEvent) -> str:
        name, way, *peer = event.text.replace(":", "").split(" ")
        here, there = self._name(event.process), " ".join(peer[1:-1])
        if way == "call":
            return f"A call from {here} to {there} ({name}) is lost on its way."
        return f"The answer from {there} to {here} ({name}) is lost on its way."

    # -- clients -------------------------------------------------------------------------------------------

    def _on_operated(self, _: int, event: StoryEvent) -> str:
        if event.operation is None:
            return ""
        done, client = self._story.operations[event.operation], self._capital(event.process)
        match done.outcome:
            case "stored":
                return f"{client} is told that {done.key} = {done.value} is stored."
            case "value":
                return f"{client} reads {done.key} = {done.value}."
            case "ERR_KEY":
                return f"{client} is answered ERR_KEY: there is no value for {done.key}."
            case "ERR_DEP":
                return (
                    f"{client} is answered ERR_DEP: {self._seen(done)}, and no server that it asked has that or newer."
                )
        return f"{client} is left without an answer: its {'put' if done.put else 'get'} is {done.outcome}."

    def _seen(self, done: StoryOperation) -> str:
        """What the session of an operation had seen."""
        if done.seen is None:
            return "it has seen a value"
        by = self._story.operations[done.seen_by] if done.seen_by is not None else None
        return f"it has {'put' if by and by.put else 'read'} {self._pair(done.seen)}{place(by.where) if by else ''}"

    def _on_undone(self, _: int, event: StoryEvent) -> str:
        return f"{self._capital(event.process)} {event.text}."

    # -- servers -------------------------------------------------------------------------------------------

    def _on_started(self, _: int, event: StoryEvent) -> str:
        how = event.text.replace("revived", "is revived").replace(" empty", " with an empty store")
        return f"{self._capital(event.process)} {how}."

    def _on_linked(self, _: int, event: StoryEvent) -> str:
        return f"{self._capital(event.process)} can now exchange writes with server {event.text.rpartition(' ')[2]}."

    def _on_unlinked(self, _: int, event: StoryEvent) -> str:
        return f"{self._capital(event.process)} no longer reaches server {event.text.rpartition(' ')[2]} directly."

    def _on_executed(self, number: int, event: StoryEvent) -> str:
        server = self._capital(event.process)
        done, asked = self._asked.get(number, (None, None))
        if done is None or asked is None:
            return f"{server} carries out an operation: {event.text}."
        return f"{server} {self._answered(done, asked)}."

    def _answered(self, done: StoryOperation, asked: ServerAnswer) -> str:
        standing = self._story.writes[asked.standing].value if asked.standing is not None else None
        match asked.answer:
            case "stored":
                instead = "" if standing is None else f", where {standing} stood"
                return f"stores {done.key} = {done.value}{instead}"
            case "ERR_KEY":
                return f"has no value for {done.key}, so it answers ERR_KEY"
            case "ERR_DEP":
                has = f"has only {standing}, which is older" if standing is not None else f"has no value for {done.key}"
                client = self._name(done.client)
                return f"{has}; since {client} has seen a newer one, it must not answer: ERR_DEP"
        return f"answers that {done.key} is {standing if standing is not None else done.value}"

    def _on_learnt(self, number: int, event: StoryEvent) -> str:
        if not event.writes:
            return f"{self._capital(event.process)} learns nothing new."
        arrivals = self._story.writes[event.writes[0]].arrivals
        arrival = next((one for one in arrivals if one.event == number), None)
        origin = f" from {self._name(arrival.source)}" if arrival and arrival.source is not None else ""
        pairs = [self._pair(write) for write in event.writes[:MOST_WRITES]]
        rest = len(event.writes) - len(pairs)
        named = listed([*pairs, f"{rest} more"] if rest else pairs)
        late = ", but holds a later one already" if len(event.writes) == 1 and arrival and not arrival.stood else ""
        return f"{self._capital(event.process)} learns {named}{origin}{late}."
