"""Daadkvs from Python: a cluster in a process of its own, each command a method.

    with Run(gossip_interval=0) as run:
        run.join_server(0)
        run.join_client(5, 0)
        run.put(5, "colour", "red")
        run.get(5, "colour").value      # 'red'

May live here: a client of `master.py --json` (docs/json.md), which needs only Python, and its face for notebooks. May
not: anything of the other rooms, so that it works in every interpreter; slow imports.

Many threads may use a run, one after another. A Ctrl-C, or a notebook's *interrupt*, gives up the wait for a command,
which is carried out all the same, before the next. The master has a session of its own, which no Ctrl-C reaches; it
ends when its input does: by `close`, at the end of a `with`, or with this process. docs/python.md has examples.
"""

import os
import select
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # what stands in quotes below; all other annotations are evaluated, since text would be compiled
    from pathlib import Path
    from typing import Self

__all__ = [
    *("Answer", "Client", "DaadkvsError", "Diagram", "Event", "Run", "Server", "Status", "Stores", "Text", "Uncertain")
]

Text = str | bytes  # a key or a value: str where it is UTF-8, else bytes

END_SECONDS = 10.0
"""How long a master may take to end before it is killed."""


class DaadkvsError(Exception):
    """A command could not be carried out, in the master's words, and the state is as it was; or there is no run."""

    def __init__(self, text: str, answers: "list[Answer] | None" = None) -> None:
        super().__init__(text)
        self.answers = answers or []
        """The answers so far: one for a command, and one for each line of a script."""


class Uncertain(DaadkvsError):
    """Nobody knows whether a command was carried out: a put's value may stand later."""


class Event(NamedTuple):
    """Something that has happened by itself: a process has "died", or there is a "warning"."""

    type: str
    text: str
    ids: tuple[int, ...] = ()


class Answer(NamedTuple):
    """What has come of one command.

    `command` is its line, and `line` that line's number in the run; `type` is "ok", "error" or "uncertain". `value` is
    what a get has read; `error` is "ERR_KEY" or "ERR_DEP" for a get without a value, the master's text where `type`
    isn't "ok", and else None; `why` says in sentences why it is ERR_DEP. `server` has answered (None for ERR_DEP, where
    all have been asked); `timestamp` is that of the version, in microseconds; `store` is what a printStore has printed.
    It took `seconds` in the cluster, `events` were noticed meanwhile, and `json` is the master's object (docs/json.md).
    """

    command: str
    type: str
    value: Text | None
    error: str | None
    why: tuple[str, ...]
    server: int | None
    timestamp: int | None
    store: dict[Text, Text] | None
    seconds: float
    events: tuple[Event, ...]
    line: int
    json: dict[str, Any]

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self._asdict().items() if name != "json" and value]
        return f"Answer({', '.join(shown)})"

    @property
    def raw(self) -> bytes | None:
        """The value as bytes, whether it is UTF-8 or not."""
        return self.value.encode() if isinstance(self.value, str) else self.value


class Stores(dict[int, dict[Text, Text]]):
    """What stands in each running server, by key."""

    def to_pandas(self) -> Any:
        """A pandas.DataFrame: a row for each key, a column for each server. Raises ImportError without pandas."""
        import pandas

        heads, keys, rows = self._table()
        return pandas.DataFrame(rows, index=keys, columns=heads, dtype=object)

    def _table(self) -> tuple[list[str], list[Text], list[list[Text | None]]]:
        keys = sorted({key for store in self.values() for key in store}, key=_bytes)
        return [f"server {server}" for server in self], keys, [[one.get(key) for one in self.values()] for key in keys]

    def _repr_html_(self) -> str:
        from html import escape

        def row(kind: str, cells: list[Any]) -> str:
            shown = ("" if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in cells)
            return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in shown)}</tr>"

        heads, keys, rows = self._table()
        lines = [row("td", [key, *cells]) for key, cells in zip(keys, rows, strict=True)]
        return f"<table>{row('th', ['key', *heads])}{''.join(lines)}</table>"


class Server(NamedTuple):
    """A server: its process (None where it is killed), its neighbours, and how many writes have not reached it yet.

    Those are two numbers, of writes that others of its partition know of and of the rest; None where it is silent.
    """

    pid: int | None
    links: tuple[int, ...] = ()
    lacks: tuple[int, int] | None = None


class Client(NamedTuple):
    """A client: its process, None where it has died, and its connections in order."""

    pid: int | None
    connections: tuple[int, ...]


class Status(NamedTuple):
    """What there is, by id. The running servers of a partition can reach each other."""

    servers: dict[int, Server]
    partitions: list[list[int]]
    clients: dict[int, Client]


class Diagram(NamedTuple):
    """The space-time diagram of a run, as a picture; a notebook shows it in place."""

    svg: str

    def _repr_html_(self) -> str:
        return f'<div style="overflow: auto; max-height: 40em">{self.svg}</div>'


class Run:
    """A cluster, from its start to `close`. Every method blocks until its command is done.

    Each raises DaadkvsError where the command is an error, and Uncertain where nobody knows; `ERR_KEY` and `ERR_DEP`
    are answers. Ids are numbers, keys and values str or bytes.
    """

    def __init__(
        self, *options: str, gossip_interval: float = 1.0, data_dir: "str | Path | None" = None, trace: bool = True
    ) -> None:
        """Start one, without servers. *options* are others of ./master's, such as "--timeout=2" or "--fsync=always".

        *trace*: record what every process does, for `history`, `report` and `diagram`; the record goes with the run.
        Raises DaadkvsError where it can't begin.
        """
        kept = [] if data_dir is None else [f"--data-dir={os.path.abspath(data_dir)}"]
        recorded = ["--record"] if trace else []
        self._talk = _Talk([f"--gossip-interval={gossip_interval}", *kept, *recorded, *options])
        self._end = weakref.finalize(self, self._talk.close)
        begun = self._talk.ask(b"", 1)[0]
        self.version: str = begun["version"]
        self.pid: int = self._talk.process.pid  # the master's
        self._trace: str | None = begun.get("trace")
        self._history: str | None = begun.get("history")
        self.events: list[Event] = []
        """All that has happened by itself so far: deaths and warnings."""

    def close(self) -> None:
        """End all processes of the run, and remove its files; nothing happens where that is done already.

        A command that somebody still waits for is given up.
        """
        self._talk.close()
        self._end()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def join_server(self, server: int) -> Answer:
        """Start a server, or revive it; it is connected to every running server."""
        return self._do("joinServer", server)

    def kill_server(self, server: int) -> Answer:
        """Kill a server's process; what it acknowledged stays on its disk."""
        return self._do("killServer", server)

    def join_client(self, client: int, server: int) -> Answer:
        """Start a client, or go on with it, and connect it to a server."""
        return self._do("joinClient", client, server)

    def break_connection(self, one: int, other: int) -> Answer:
        """Cut two servers, or a client and a server, from each other."""
        return self._do("breakConnection", one, other)

    def create_connection(self, one: int, other: int) -> Answer:
        """Connect two servers, or a client and a server."""
        return self._do("createConnection", one, other)

    def shape_connection(self, one: int, other: int, delay: str, jitter: str = "0ms", loss: str = "0%") -> Answer:
        """Delay the messages between two servers, or a client and a server, and lose some: "200ms", "50ms", "10%"."""
        return self._do("shapeConnection", one, other, f"{delay} {jitter} {loss}")

    def stabilize(self) -> Answer:
        """Return when all servers that can reach each other hold the same store."""
        return self._do("stabilize")

    def print_store(self, server: int) -> Answer:
        """What stands in a server, in the answer's `store`."""
        return self._do("printStore", server)

    def put(self, client: int, key: Text, value: Text) -> Answer:
        """Have a client store a value."""
        _check(key, value)
        return self._do("put", client, key, value)

    def get(self, client: int, key: Text) -> Answer:
        """Have a client read a key: the answer's `value`, or its `error`."""
        _check(key)
        return self._do("get", client, key)

    def _do(self, name: str, *words: int | Text) -> Answer:
        return self.command(b" ".join([name.encode(), *map(_word, words)]))

    def command(self, line: Text) -> Answer:
        """Carry out one line of a script."""
        answers = [] if b"\n" in _bytes(line) else self.script(line)
        if not answers:
            raise DaadkvsError(f"this is not one command: {line!r:.80}")
        return answers[0]

    def script(self, text: Text, check: bool = True) -> list[Answer]:
        """Carry out a script as ./master does, several puts and gets at a time: the answers to its commands.

        With *check*, an error among them is raised when all are done: the first one, with all answers in its `answers`.
        """
        lines = _bytes(text).removesuffix(b"\n")
        objects = self._talk.ask(lines + b"\n", lines.count(b"\n") + 1)
        answers = self._answers(objects)
        failed = next((answer for answer in answers if answer.type != "ok"), None)
        if check and failed is not None:
            name = failed.json.get("f")
            kind = Uncertain if failed.type == "uncertain" else DaadkvsError
            raise kind(f"{name}: {failed.error}" if name else f"{failed.error}", answers)
        return answers

    def _answers(self, objects: list[dict[str, Any]]) -> list[Answer]:
        answers: list[Answer] = []
        events: list[Event] = []
        for found in objects:
            if _is_event(found):
                events.append(Event(found["type"], found["error"], tuple(found.get("ids", ()))))
            elif found["type"] != "skipped":
                answers.append(_answer(found, tuple(events)))
                self.events += events
                events = []
        self.events += events
        return answers

    def store(self, server: int) -> dict[Text, Text]:
        """What stands in a server, in the order of the keys' bytes."""
        return self.print_store(server).store or {}

    def stores(self) -> Stores:
        """What stands in each running server; one after another, while gossip may go on."""
        return Stores({ident: self.store(ident) for ident, one in self.status().servers.items() if one.pid is not None})

    def status(self) -> Status:
        """Servers, clients and partitions."""
        found = self._do("status").json["status"]
        servers = {}
        for server in found["servers"]:
            lacks = server.get("lacks") and (server["lacks"]["here"], server["lacks"]["elsewhere"])
            servers[server["id"]] = Server(server.get("pid"), tuple(server.get("links", ())), lacks)
        clients = {one["id"]: Client(one.get("pid"), tuple(one["connections"])) for one in found["clients"]}
        return Status(servers, found["partitions"], clients)

    def history(self) -> list[dict[str, Any]]:
        """What was asked and answered so far, as docs/history.md has it; the first entry tells of the run."""
        with open(self._recorded(self._history), encoding="ascii") as file:
            return [self._talk.loads(line) for line in file]

    def report(self, path: "str | Path") -> None:
        """Make the page that shows what has happened so far (docs/trace.md); any browser opens it."""
        self._show("-o", os.path.abspath(path))

    def diagram(self) -> Diagram:
        """The space-time diagram of what has happened so far."""
        return Diagram(self._show("--svg", "-"))

    def _show(self, *options: str) -> str:
        import subprocess

        command = [*_program("scripts", "report.py"), self._recorded(self._trace), *options]
        done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
        if done.returncode:
            raise DaadkvsError(done.stderr.strip().removeprefix("error: "))
        return done.stdout

    def _recorded(self, path: str | None) -> str:
        if path is None or not self._end.alive:
            ended = "the run has ended, and its record is gone with it"
            raise DaadkvsError("nothing is recorded: Run(trace=True) would" if path is None else ended)
        return path


def _bytes(text: Text) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else memoryview(text).tobytes()


def _word(word: int | Text) -> bytes:
    """An id, a key or a value, as it stands in a line."""
    return b"%d" % word if isinstance(word, int) else _bytes(word)


def _check(key: Text, value: Text = "-") -> None:
    """Raise DaadkvsError for what a line can't hold."""
    word, rest = _bytes(key), _bytes(value)
    if not word or set(word) & set(b" \t\n") or word.endswith(b"\r"):
        raise DaadkvsError(f"a key is one word, without blanks and line ends: {key!r:.80}")
    if not rest or b"\n" in rest or rest.strip(b" \t") != rest or rest.endswith(b"\r"):
        raise DaadkvsError(f"a value has no line end in it and no blanks around it, and isn't empty: {value!r:.80}")


def _text(spelled: str) -> Text:
    """A key or a value, from JSON."""
    if spelled.isascii():
        return spelled
    raw = spelled.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _is_event(found: dict[str, Any]) -> bool:
    """Whether this object reports an event, and not the result of a line."""
    return found["type"] in ("died", "warning") or not ("line" in found or "json" in found)


def _answer(found: dict[str, Any], events: tuple[Event, ...]) -> Answer:
    get, value = found.get, _text(found["value"]) if "value" in found else None
    store = {_text(key): _text(value) for key, value in found["store"]} if "store" in found else None
    error, why, seconds = get("error", get("answer")), tuple(get("why", ())), found["took"] / 1e9
    said = get("text", ""), found["type"], value, error, why, get("server"), get("timestamp"), store
    return Answer(*said, seconds, events, found["line"], found)


# -- talking to the master ---------------------------------------------------------------------------------


def _program(*path: str) -> list[str]:
    """The command that starts a program of Daadkvs's: installed, or of the checkout that this file is in."""
    here = os.path.dirname(os.path.realpath(__file__))
    python, app = sys.executable, os.path.join(here, "app")
    if not os.path.isdir(app):
        app, own = here, os.path.join(here, ".venv", "bin", "python")
        python = own if os.access(own, os.X_OK) else python
    return [python or "python3", "-E", os.path.join(app, *path)]


class _UnderWay(NamedTuple):
    """What is under way, and, in `wrote` and `read`, what has happened since that was worked out."""

    unsent: memoryview
    missing: int  # how many objects are still to come, events aside
    objects: list[dict[str, Any]]  # what has come; only the first of it counts, as far as `taken`
    taken: int
    wrote: list[int]
    read: list[bytes]  # pieces, of which no one but the last ends an object


class _Talk:
    """A master, and what goes to it and comes from it.

    The handler of a signal may raise an exception between any two instructions, as that of Ctrl-C does. So each write
    and read is recorded by the very instruction that makes it, which extends a list by a map of `os.write` or
    `os.read`; what follows from the records takes its place by one assignment. Whoever asks next goes on from there.
    """

    def __init__(self, options: list[str]) -> None:
        import json
        import subprocess

        self.loads = json.loads
        command, pipe = [*_program("master.py"), "--json", *options], subprocess.PIPE
        try:  # in a session of its own: a Ctrl-C here isn't one there
            self.process: Any = subprocess.Popen(command, 0, None, pipe, pipe, pipe, start_new_session=True)
        except OSError as error:
            raise DaadkvsError(f"no master could be started: {error.strerror}") from error
        self._owner = os.getpid()
        self._why: str | None = None  # why nothing more is to be had from the master
        self._closed = False
        self._gate = threading.Lock()  # held while something is asked, and at the end
        self._asker = 0  # the thread that holds it to ask
        self._under_way = _UnderWay(memoryview(b""), 0, [], 0, [], [])
        _talks.add(self)

    def ask(self, data: bytes, count: int) -> list[dict[str, Any]]:
        """Have the master carry out *count* lines, and wait for their objects."""
        if self._owner != os.getpid():
            raise DaadkvsError("this run belongs to the process that this one was forked from")
        if self._gate.locked() and self._asker == threading.get_ident():  # this is the handler of a signal
            raise DaadkvsError("this thread waits for another command of the run already")
        if not self._closed:
            with self._gate:
                self._asker = threading.get_ident()
                try:
                    if not self._closed:
                        return self._exchange(data, count)
                finally:
                    self._asker = 0
        raise DaadkvsError("the run has ended")

    def _exchange(self, data: bytes, count: int) -> list[dict[str, Any]]:
        events = [one for one in (self._finish() if self._under_way.missing else []) if _is_event(one)]  # given up
        self._under_way = _UnderWay(memoryview(data), count, events, len(events), [], self._under_way.read)
        return self._finish()

    def _finish(self) -> list[dict[str, Any]]:
        """Write and read until nothing is missing: the objects. A master whose objects nobody reads takes no lines."""
        stdin, stdout, room = self.process.stdin.fileno(), self.process.stdout.fileno(), select.poll()
        room.register(stdin, select.POLLOUT)
        room.register(stdout, select.POLLIN)
        while True:
            was = self._under_way
            if was.wrote:
                self._under_way = was._replace(unsent=was.unsent[was.wrote[0] :], wrote=[])
            elif was.read and b"\n" in was.read[-1]:
                *whole, rest = b"".join(was.read).split(b"\n")
                was.objects[was.taken :] = found = [self.loads(line) for line in whole]
                missing, read = was.missing - sum(not _is_event(one) for one in found), [rest] if rest else []
                self._under_way = was._replace(missing=missing, taken=len(was.objects), read=read)
            elif was.read and not was.read[-1]:
                raise DaadkvsError(self._why_ended())
            elif was.unsent and dict(room.poll()).get(stdin) == select.POLLOUT:
                with suppress(BrokenPipeError):  # what is read next tells of the end
                    was.wrote.extend(map(os.write, [stdin], [was.unsent[: select.PIPE_BUF]]))
            elif was.unsent or was.missing:
                was.read.extend(map(os.read, [stdout], [64 << 10]))
            else:
                return was.objects

    def _why_ended(self) -> str:
        if self._why is None:
            status = self.process.wait()
            said = self.process.stderr.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            how = f"was killed by signal {-status}" if status < 0 else f"has ended, with status {status}"
            self._why = said.removeprefix("error: ") or f"the master {how}"
        return self._why

    def close(self) -> None:
        """End the master, and wait for that. What is under way is given up."""
        if self._owner != os.getpid():
            return
        self._closed = True
        if self._gate.locked() or self._under_way.missing:
            self.process.terminate()
        else:
            self.process.stdin.close()
        room = select.poll()
        with suppress(ValueError):  # another thread has closed the pipe already
            room.register(self.process.stderr, 0)  # which ends with the master. (Popen.wait only looks now and then.)
            if not room.poll(END_SECONDS * 1000):
                self.process.kill()  # the others end by themselves within 2 s
        self.process.wait()
        if self._asker != threading.get_ident():
            with self._gate:  # whoever waits for an answer sees the end of the master now
                for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                    pipe.close()


_talks: weakref.WeakSet[_Talk] = weakref.WeakSet()


def _forget() -> None:
    """In a process that was forked off: have nothing to do with masters, which would not see their input end."""
    for talk in _talks:
        for pipe in (talk.process.stdin, talk.process.stdout, talk.process.stderr):
            pipe.close()
        talk.process.returncode = 0


os.register_at_fork(after_in_child=_forget)
