"""Rounds of random scripts on a real cluster, while a nemesis kills and freezes its processes.

May live here: the scripts, and when there are faults and when there is peace. May not: which answers are possible
(answers.py), and what is done to processes (nemesis.py).
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

from checking.chaos.answers import Judge, Violation
from checking.chaos.nemesis import TIMEOUT_SECONDS, Nemesis, wake
from checking.driver import Conversation, Output, processes, run_directory, wait_until
from checking.traces import given_up

__all__ = ["Round", "run_rounds"]

SERVERS = (0, 1, 2, 3, 4)
CLIENTS = tuple(range(10, 20))
KEYS = tuple(f"k{number}".encode() for number in range(60))
EPOCHS = 4

WEIGHTS = {
    "put": 40,
    "get": 30,
    "joinServer": 12,
    "joinClient": 5,
    "breakConnection": 3,
    "createConnection": 5,
    "killServer": 1,
    "stabilize": 0.5,
}
"""How often each command comes in an epoch with many faults."""

CALM_WEIGHTS = {"put": 40, "get": 30, "joinServer": 2, "joinClient": 0.3, "createConnection": 0.3, "stabilize": 0.5}
"""How often each command comes in a calm epoch, where many puts and gets are under way together."""

BURST = 0.01
"""How often a large value is put, and then read by many clients, in place of a single put or get."""

SIZES = {(1, 1): 80, (1, 1000): 10, (1000, 10_000): 8, (10_000, 100_000): 2}
"""(smallest, largest) size of a value -> how often values have such a size."""

GROUP_LIMITS = (None, None, 0, 300, 20_000, 200_000)
"""With how many bytes a group may answer until it is given up; None for the default."""


class Plan(NamedTuple):
    """The options of a round."""

    gossip: str
    pipeline: bool
    keep: bool
    """Whether the stores are kept, so that the master may be killed as well."""
    limit: int | None
    traced: bool
    """Whether there is a trace, from which the groups that were given up are counted."""


class Round:
    """A random script, the faults during it, and the masters that carry it out."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.plan = Plan(
            gossip=self.random.choice(("0", "0.002", "0.02", "1")),
            pipeline=self.random.random() < 0.8,
            keep=self.random.random() < 0.4,
            limit=self.random.choice(GROUP_LIMITS),
            traced=self.random.random() < 0.5,
        )
        self.judge = Judge()
        self.log: list[str] = []
        self.kills: Counter[str] = Counter()
        self.epochs = EPOCHS
        self._options: list[str] = ["--gossip-interval", self.plan.gossip, "--timeout", str(TIMEOUT_SECONDS)]
        if not self.plan.pipeline:
            self._options.append("--no-pipeline")
        if self.plan.limit is not None:
            self._options += ["--group-limit", str(self.plan.limit)]
        self._conversation: Conversation

    def run(self) -> None:
        """Run the round. Raises Violation, and AssertionError if something is left behind or hangs."""
        with ExitStack() as stack:
            if self.plan.keep:
                self._options += ["--data-dir", self._make_folder(stack)]
            trace = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daadkvs-chaos-")))
            if self.plan.traced:
                self._options += ["--trace", str(trace)]
            epochs = self.epochs
            while epochs:
                with self._start() as self._conversation:
                    epochs = self._run_master(epochs)
                if self.plan.traced:
                    self.judge.counts["groups given up, in the rounds that were traced"] += given_up(trace)

    def _make_folder(self, stack: ExitStack) -> str:
        """Make a data directory, which *stack* removes."""
        return stack.enter_context(tempfile.TemporaryDirectory(prefix="daadkvs-chaos-"))

    def _start(self) -> Conversation:
        """Start a master."""
        return Conversation(*self._options)

    def _nemesis(self, calm: bool) -> Nemesis:
        """Begin with the faults of an epoch."""
        return Nemesis(self._conversation, self.random, self.log, calm)

    def _run_master(self, epochs: int) -> int:
        """Run epochs until none is left, or the master is killed; returns how many are left."""
        self._do(b"joinServer 0\n" + b"".join(b"joinClient %d 0\n" % client for client in CLIENTS))
        self._make_peace()
        while epochs:
            epochs -= 1
            calm = self.random.random() < 0.5
            nemesis = self._nemesis(calm)
            try:
                for _ in range(self.random.randint(2, 4)):
                    self._do(self._script(self.random.choice((60, 300) if calm else (10, 60, 300)), calm))
                if self.plan.keep and epochs and self.random.random() < 0.5:
                    self._kill_master()
                    return epochs
            finally:
                nemesis.stop()
                self.kills += nemesis.kills
            self._make_peace()
        return 0

    def _kill_master(self) -> None:
        """Kill the master during a script; how far the script came is then unknown."""
        script = self._script(200, calm=False)
        self._conversation.send(script)
        threading.Event().wait(self.random.random() / 20)  # so that the kill comes at a random instant
        self._kill()
        self.log.append(f"{time.monotonic():.4f} kill master")
        self.kills["master"] += 1
        for line in script.splitlines():
            if line.startswith(b"put"):
                _, _, key, value = line.split(b" ", 3)
                self.judge.doubt(key, value)
        for client in CLIENTS:
            self.judge.forget(client)

    def _kill(self) -> None:
        """Kill the master by SIGKILL, and wait for the end of all its processes."""
        directory = run_directory(self._conversation.process.pid)
        self._conversation.process.kill()
        self._conversation.process.wait()
        if directory is not None:
            for pid in processes(directory).values():
                wake(pid)  # a frozen process cannot notice that the master is gone
            wait_until(lambda: not processes(directory), "the end of all processes")

    def _do(self, script: bytes) -> None:
        self.log += [f"{time.monotonic():.4f} send {line[:100]!r}" for line in script.splitlines()]
        output = self._conversation.do(script)
        self._judge(script.splitlines(), output, self._conversation.numbers)

    def _judge(self, lines: list[bytes], output: Output, numbers: list[int]) -> None:
        """*numbers*: for each error, the line that it is about."""
        errors: dict[int, list[str]] = {}
        for number, error in zip(numbers, output.errors, strict=True):
            if not 1 <= number <= len(lines) + 1:
                raise Violation(f"this error is about no line: {error}")
            errors.setdefault(number, []).append(error)
        answers = output.stdout.splitlines()
        for number, line in enumerate(lines, 1):
            self.judge.outcome(line, errors.get(number, []), answers)
        if answers:
            raise Violation(f"no command has asked for {answers}")

    def _heal(self) -> None:
        """Wait until all processes can be started."""

    def _make_peace(self) -> None:
        """Start and connect all processes, stabilize, and check that all servers hold the same."""
        self._heal()
        # Each server twice, since a joinServer may be the first command to notice a death.
        self._do(b"".join(b"joinServer %d\n" % server for server in (*SERVERS, *SERVERS)))
        pairs = [(one, other) for one in SERVERS for other in SERVERS if one < other]
        self._do(b"".join(b"createConnection %d %d\n" % pair for pair in pairs))
        for client in CLIENTS:
            home = self.random.choice(SERVERS)
            settled = self.random.random() < 0.7  # it has one connection, so several of its commands may be under way
            away = [server for server in SERVERS if server != home and settled]
            moves = [b"breakConnection %d %d\n" % (client, server) for server in away]
            self._do(b"joinClient %d %d\n" % (client, home) + b"".join(moves))
        self._do(b"stabilize\n")
        self.judge.stores(
            {server: self._conversation.do(b"printStore %d" % server).stdout.splitlines() for server in SERVERS}
        )

    def _script(self, length: int, calm: bool) -> bytes:
        weights = CALM_WEIGHTS if calm else WEIGHTS
        lines: list[bytes] = []
        while len(lines) < length:
            (kind,) = self.random.choices(tuple(weights), tuple(weights.values()))
            if kind in ("put", "get") and self.random.random() < BURST:
                lines += self._burst()
            else:
                lines.append(self._line(kind))
        return b"".join(line + b"\n" for line in lines)

    def _burst(self) -> list[bytes]:
        """Put a large value, perhaps stabilize, and have many clients get it."""
        choose = self.random.choice
        key = choose(KEYS)
        lines = [self._put(key, self.random.randint(1000, 100_000))]
        if self.random.random() < 0.5:
            lines.append(b"stabilize")
        for _ in range(self.random.randint(2, 20)):
            lines.append(b"get %d %s" % (choose(CLIENTS), key))
            if self.random.random() < 0.3:
                lines.append(self._line("put"))
        return lines

    def _put(self, key: bytes, size: int) -> bytes:
        value = (b"v%d" % (self.judge.last + 1)).ljust(size, b".")
        self.judge.put(key, value)
        return b"put %d %s %s" % (self.random.choice(CLIENTS), key, value)

    def _line(self, kind: str) -> bytes:
        choose = self.random.choice
        if kind == "put":
            (sizes,) = self.random.choices(tuple(SIZES), tuple(SIZES.values()))
            return self._put(choose(KEYS), self.random.randint(*sizes))
        if kind == "get":
            return b"get %d %s" % (choose(CLIENTS), choose(KEYS))
        if kind == "joinClient":
            return b"joinClient %d %d" % (choose(CLIENTS), choose(SERVERS))
        if kind in ("breakConnection", "createConnection"):
            one = choose(SERVERS)
            other = choose([end for end in (*SERVERS, *CLIENTS) if end != one])
            return b"%s %d %d" % (kind.encode(), one, other)
        return kind.encode() if kind == "stabilize" else b"%s %d" % (kind.encode(), choose(SERVERS))


def run_rounds(
    seed: int,
    rounds: float,
    kills: float,
    seconds: float,
    progress: Callable[[str], None] = lambda _: None,
    make: Callable[[int], Round] = Round,
) -> tuple[Counter[str], Counter[str], int]:
    """Run rounds until one of the three limits is reached; returns kills, counts and the number of rounds.

    *progress* is called after each round; *make* makes a round of a seed. Raises what `Round.run` raises, with the
    round in its notes.
    """
    deadline = time.monotonic() + seconds
    killed: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    done = 0
    while done < rounds and killed.total() < kills and time.monotonic() < deadline:
        this = make(seed + done)
        try:
            this.run()
        except Exception as error:
            fd, file = tempfile.mkstemp(".log", f"daadkvs-chaos-{this.seed}-")
            with open(fd, "w") as log:
                log.write("\n".join(this.log) + "\n")
            error.add_note(f"in a round with {this.plan}; what was sent and done, with times in seconds, is in {file}")
            error.add_note(f"to run a similar round: scripts/chaos.py --seed {this.seed} --rounds 1")
            raise
        killed += this.kills
        counts += this.judge.counts
        done += 1
        progress(f"{done} rounds, {killed.total()} kills")
    return killed, counts, done
