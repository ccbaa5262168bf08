#!/usr/bin/env python3
"""Random scripts on real processes, while these are killed, frozen and woken from outside at random instants.

    scripts/chaos.py                        ten minutes, or until something is wrong
    scripts/chaos.py --kills 200            until so many processes have been killed
    scripts/chaos.py --seed 7 --rounds 1    one round: the same script, the same events; but no two runs are alike,
                                            since nobody can hit the same instant twice

Afterwards everything that was acknowledged must be there, all servers must hold the same, no session may ever have
read backwards, and no process or file may be left. What was expected and what came is said from the contract alone:
each value is put once, so a value that is read names its put. (Compare Jepsen's nemeses.)

A round is one master (some are killed themselves, and another goes on with their data directory) and some *epochs*: a
few hundred commands under fire, then peace: everything is continued, joined, connected and stabilized, and looked at.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]  # not there by itself after python -P

import environment

environment.enter(__name__)

import argparse
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from shared import at_least, minutes, run_main, show_progress
from support.driver import Conversation, Output, processes, run_directory, states, wait_until
from support.stalls import given_up

SERVERS = (0, 1, 2, 3, 4)
CLIENTS = tuple(range(10, 20))
KEYS = tuple(f"k{number}".encode() for number in range(60))
TIMEOUT_SECONDS = 1.0
EPOCHS = 4

FREEZES_SECONDS = {0.01: 6, 0.05: 6, 0.2: 6, 0.4: 3, 0.6 * TIMEOUT_SECONDS: 4, 1.6 * TIMEOUT_SECONDS: 1}
"""How long processes are frozen, and how often: some for more than half a time-out, after which a server goes on
without a client, and some until they are taken for dead."""

EVENTS_PER_SECOND = 25
CALM_EVENTS_PER_SECOND = 8

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
"""How often each command comes in an epoch."""

CALM_WEIGHTS = {"put": 40, "get": 30, "joinServer": 2, "joinClient": 0.3, "createConnection": 0.3, "stabilize": 0.5}
"""The same in a calm one, where many puts and gets are under way together."""

BURST = 0.01
"""How often, for each put or get, a large value is put and then asked for by everybody."""

SIZES = {(1, 1): 80, (1, 1000): 10, (1000, 10_000): 8, (10_000, 100_000): 2}
"""How large values are, from and to, and how often."""

GROUP_LIMITS = (None, None, 0, 300, 20_000, 200_000)
"""How many bytes a group may answer with before it is given up; None is the usual."""

NOTICES = re.compile(r"\w+: (server|client) (\d+) (died|made no progress for \S+ s, and was killed)")
"""What is reported of others: the command itself goes on."""

FAILURES = re.compile(
    r"(put|get): ("
    r"client \d+ is not running(?P<cut>; uncertain: the value may stand later)?|"
    r"client \d+ has no connection|"
    r"client \d+ has only server \d+, which is not running|"
    r"none of the servers of client \d+ is running: .*|"
    r"(?P<uncertain>uncertain: the server was lost before it answered; the value may stand later))"
)
"""Why a put or get may fail."""

TOPOLOGY_FAILURES = re.compile(
    r"joinServer: server \d+ (is already running|is not running|could not be started: .*)|"
    r"joinClient: (client \d+ could not be started: .*|client \d+ is not running|server \d+ is not running)|"
    r"(kill|print)\w+: server \d+ is not running|"
    r"(break|create)Connection: (server|client) \d+ is not running|"
    r"(break|create)Connection: id \d+ is unknown: .*"
)


class Violation(Exception):
    """Something that the contract doesn't allow."""


class Judge:
    """What has been put, acknowledged and seen; raises Violation where an answer can't be true."""

    def __init__(self) -> None:
        self.last = 0  # put
        self.puts: dict[bytes, tuple[bytes, int]] = {}  # value -> its key, and its place in the order of puts
        self.acknowledged: dict[bytes, int] = {}  # key -> the last put that stands for certain
        self.uncertain: dict[bytes, set[int]] = {}  # key -> puts that may stand
        self.seen: dict[tuple[int, bytes], int] = {}  # client, key -> the last put that it has made or read
        self.counts: Counter[str] = Counter()

    def put(self, key: bytes, value: bytes) -> None:
        """A put that is going to be sent. No value may come twice."""
        self.last += 1
        self.puts[value] = key, self.last

    def outcome(self, line: bytes, errors: list[str], answers: list[bytes]) -> None:
        """What a command has come to: its error lines, and what is next on stdout, from which it takes its own."""
        failure = self._hear(line, errors)
        self.counts["commands"] += 1
        word, *words = line.split(b" ", 3)
        if word == b"put":
            self._conclude_put(int(words[0]), words[1], words[2], failure)
        elif word == b"get" and failure is None:
            if not answers:
                raise Violation(f"{line!r} has printed nothing")
            self._conclude_get(int(words[0]), words[1], answers.pop(0))

    def _hear(self, line: bytes, errors: list[str]) -> re.Match[str] | None:
        """Take in a command's error lines; returns why it failed, if it did."""
        failure = None
        for error in errors:
            notice = NOTICES.fullmatch(error)
            if notice is not None:
                if notice[1] == "client":
                    self.forget(int(notice[2]))
                self.counts[re.sub(r"\d+ ", "", error.partition(": ")[2]).partition(" for ")[0]] += 1
                continue
            allowed = FAILURES if line.startswith((b"put", b"get")) else TOPOLOGY_FAILURES
            match = allowed.fullmatch(error)
            if match is None or failure is not None or not error.startswith(line.split()[0].decode()):
                raise Violation(f"{line!r}: {error}")
            failure = match
        return failure

    def forget(self, client: int) -> None:
        """The client has died: the next with its id is a new session."""
        for seen in [seen for seen in self.seen if seen[0] == client]:
            del self.seen[seen]

    def _conclude_put(self, client: int, key: bytes, value: bytes, failure: re.Match[str] | None) -> None:
        number = self.puts[value][1]
        if failure is None:
            self.acknowledged[key] = self.seen[client, key] = number
            self.counts["acknowledged puts"] += 1
        elif failure["uncertain"] or failure["cut"]:
            self.doubt(key, value)
        else:
            del self.puts[value]  # it has not been carried out, so nobody may ever read it

    def doubt(self, key: bytes, value: bytes) -> None:
        """Nobody knows whether this put has been carried out."""
        self.uncertain.setdefault(key, set()).add(self.puts[value][1])
        self.counts["uncertain puts"] += 1

    def _number(self, key: bytes, value: bytes, where: str) -> int:
        known, number = self.puts.get(value, (b"", 0))
        if known != key:
            raise Violation(f"{where}: {value!r}, which nobody has put there")
        return number

    def _conclude_get(self, client: int, key: bytes, answer: bytes) -> None:
        where = f"get {client} {key.decode()}"
        if not answer.startswith(key + b":"):
            raise Violation(f"{where}: {answer!r}")
        value, seen = answer[len(key) + 1 :], self.seen.get((client, key), 0)
        if value in (b"ERR_KEY", b"ERR_DEP"):
            if bool(seen) != (value == b"ERR_DEP"):
                raise Violation(f"{where}: {value.decode()}, where the session had seen put {seen}")
            return
        number = self._number(key, value, where)
        if number < seen:
            raise Violation(f"{where}: put {number}, where the session had seen put {seen}")
        self.seen[client, key] = number

    def stores(self, stores: dict[int, list[bytes]]) -> None:
        """What printStore has shown of all servers, in peace and after stabilize."""
        first = stores[min(stores)]
        for server, store in stores.items():
            if store != first:
                differing = [line[:40] for line in sorted(set(store) ^ set(first))]
                raise Violation(f"servers {min(stores)} and {server} differ after stabilize: {differing}")
        found = dict(line.split(b":", 1) for line in first)
        if list(found) != sorted(found) or len(found) != len(first):
            raise Violation(f"printStore is not sorted: {first}")
        for key in sorted({*found, *self.acknowledged}):
            number = self._number(key, found[key], "printStore") if key in found else 0
            last = self.acknowledged.get(key, 0)
            if number != last and not (number > last and number in self.uncertain.get(key, ())):
                raise Violation(f"printStore: {key!r} has put {number}; put {last} had been acknowledged")
            self.acknowledged[key] = number
        self.uncertain.clear()


class Nemesis:
    """Kills, freezes and wakes processes of a run at random instants, until it is told to stop."""

    def __init__(self, conversation: Conversation, random: Random, log: list[str], calm: bool) -> None:
        """*calm*: rarely, and it mostly freezes clients."""
        self.kills: Counter[str] = Counter()
        self._conversation = conversation
        self._random = random
        self._log = log
        self._calm = calm
        self._over = threading.Event()
        self._frozen: list[tuple[float, int]] = []  # when to wake whom
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End all this, and wake everybody."""
        self._over.set()
        self._thread.join()
        self._wake(float("inf"))

    def _run(self) -> None:
        rate, weights = (CALM_EVENTS_PER_SECOND, (6, 1, 93)) if self._calm else (EVENTS_PER_SECOND, (86, 4, 10))
        while not self._over.wait(self._random.expovariate(rate)):
            self._wake(time.monotonic())
            found = self._conversation.pids()
            (kind,) = self._random.choices(("server", "watchdog", "client"), weights)
            victims = sorted(name for name in found if name.startswith(kind))
            freeze = self._random.random() < (0.95 if kind == "client" else 0.25)
            (seconds,) = self._random.choices(tuple(FREEZES_SECONDS), tuple(FREEZES_SECONDS.values()))
            if victims:
                self._hit(name := self._random.choice(victims), found[name], seconds if freeze else 0.0)

    def _hit(self, name: str, pid: int, freeze: float) -> None:
        try:
            os.kill(pid, signal.SIGSTOP if freeze else signal.SIGKILL)
        except ProcessLookupError:
            return
        self._log.append(f"{time.monotonic():.4f} {f'freeze for {freeze} s' if freeze else 'kill'} {name}")
        if freeze:
            self._frozen.append((time.monotonic() + freeze, pid))
        else:
            self.kills[name.split()[0]] += 1
            wait_until(lambda: all(state in "ZXx" for state in states(pid)), f"the end of {name}")

    def _wake(self, now: float) -> None:
        for when, pid in [frozen for frozen in self._frozen if frozen[0] <= now]:
            self._frozen.remove((when, pid))
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass


class Plan(NamedTuple):
    """The options of a round."""

    gossip: str
    pipeline: bool
    keep: bool
    """Whether the stores are kept, and the master is killed now and then."""
    limit: int | None
    traced: bool
    """Whether the groups that are given up are counted."""


class Round:
    """One script, and what befalls it."""

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
        self._options: list[str] = ["--gossip-interval", self.plan.gossip, "--timeout", str(TIMEOUT_SECONDS)]
        if not self.plan.pipeline:
            self._options.append("--no-pipeline")
        if self.plan.limit is not None:
            self._options += ["--group-limit", str(self.plan.limit)]
        self._conversation: Conversation

    def run(self) -> None:
        """Raises Violation, and AssertionError where something is left behind or hangs."""
        with ExitStack() as stack:
            if self.plan.keep:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="daadkvs-chaos-"))
                self._options += ["--data-dir", folder]
            trace = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daadkvs-chaos-")))
            if self.plan.traced:
                self._options += ["--trace", str(trace)]
            epochs = EPOCHS
            while epochs:
                with Conversation(*self._options) as self._conversation:
                    epochs = self._run_master(epochs)
                if self.plan.traced:
                    self.judge.counts["groups given up, in the rounds that were traced"] += given_up(trace)

    def _run_master(self, epochs: int) -> int:
        """Epochs until there are no more, or the master is killed; returns how many are left."""
        self._do(b"joinServer 0\n" + b"".join(b"joinClient %d 0\n" % client for client in CLIENTS))
        self._make_peace()
        while epochs:
            epochs -= 1
            calm = self.random.random() < 0.5
            nemesis = Nemesis(self._conversation, self.random, self.log, calm)
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
        """Kill the master under a script; what that has come to, nobody knows."""
        script = self._script(200, calm=False)
        self._conversation.send(script)
        threading.Event().wait(self.random.random() / 20)  # the instant is the point
        directory = run_directory(self._conversation.process.pid)
        self._conversation.process.kill()
        self.log.append(f"{time.monotonic():.4f} kill master")
        self.kills["master"] += 1
        for line in script.splitlines():
            if line.startswith(b"put"):
                _, _, key, value = line.split(b" ", 3)
                self.judge.doubt(key, value)
        for client in CLIENTS:
            self.judge.forget(client)
        self._conversation.process.wait()
        if directory is not None:
            for pid in processes(directory).values():
                try:
                    os.kill(pid, signal.SIGCONT)  # who is frozen can't see that the master is gone
                except ProcessLookupError:
                    pass
            wait_until(lambda: not processes(directory), "the end of all processes")

    def _do(self, script: bytes) -> None:
        self.log += [f"{time.monotonic():.4f} send {line[:100]!r}" for line in script.splitlines()]
        output = self._conversation.do(script)
        self._judge(script.splitlines(), output, self._conversation.numbers)

    def _judge(self, lines: list[bytes], output: Output, numbers: list[int]) -> None:
        """*numbers*: the lines that the errors are about."""
        errors: dict[int, list[str]] = {}
        for number, error in zip(numbers, output.errors, strict=True):
            if not 1 <= number <= len(lines) + 1:
                raise Violation(f"not about any line: {error}")
            errors.setdefault(number, []).append(error)
        answers = output.stdout.splitlines()
        for number, line in enumerate(lines, 1):
            self.judge.outcome(line, errors.get(number, []), answers)
        if answers:
            raise Violation(f"nobody has asked for {answers}")

    def _make_peace(self) -> None:
        """Everybody is there and connected, and holds the same."""
        # Twice, since a death that came just now may be noticed by any of these.
        self._do(b"".join(b"joinServer %d\n" % server for server in (*SERVERS, *SERVERS)))
        pairs = [(one, other) for one in SERVERS for other in SERVERS if one < other]
        self._do(b"".join(b"createConnection %d %d\n" % pair for pair in pairs))
        for client in CLIENTS:
            home = self.random.choice(SERVERS)
            settled = self.random.random() < 0.7  # there alone, so that it may have several commands under way
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
        """A large value is put, brought to all that can be reached or not, and asked for by many."""
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


def run_rounds(seed: int, rounds: float, kills: float, seconds: float) -> tuple[Counter[str], Counter[str], int]:
    """Run rounds, until one of the three is reached; returns kills, counts and how many rounds there were.

    Raises what `Round.run` raises, with the round in its notes.
    """
    deadline = time.monotonic() + seconds
    killed: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    done = 0
    while done < rounds and killed.total() < kills and time.monotonic() < deadline:
        this = Round(seed + done)
        try:
            this.run()
        except Exception as error:
            fd, file = tempfile.mkstemp(".log", f"daadkvs-chaos-{this.seed}-")
            with open(fd, "w") as log:
                log.write("\n".join(this.log) + "\n")
            error.add_note(f"in a round with {this.plan}; what was sent and done, with times in seconds: {file}")
            error.add_note(f"again, more or less: scripts/chaos.py --seed {this.seed} --rounds 1")
            raise
        killed += this.kills
        counts += this.judge.counts
        done += 1
        show_progress(f"{done} rounds, {killed.total()} kills")
    return killed, counts, done


def main() -> int:
    """Returns the exit status: 1 for a violation."""
    parser = argparse.ArgumentParser(
        description="Runs random scripts on real processes, which are killed, frozen and woken at random instants.",
        epilog="The seed decides the scripts and the events; not the instants, which no two runs share.",
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="of the first round (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="M",
        help="how long (default: 10, where nothing else is said)",
        dest="seconds",
    )
    parser.add_argument("--kills", type=at_least(1), metavar="N", help="end when so many processes have been killed")
    parser.add_argument("--rounds", type=at_least(1), metavar="N", help="end after so many rounds")
    options = parser.parse_args()
    endless = float("inf")
    seconds = options.seconds or (endless if options.kills or options.rounds else 600.0)
    begin = time.monotonic()
    show_progress("the first round runs")
    try:
        killed, counts, rounds = run_rounds(options.seed, options.rounds or endless, options.kills or endless, seconds)
    except (Violation, AssertionError) as error:
        show_progress("")
        print(f"violation: {error}", *error.__notes__, sep="\n")
        return 1
    show_progress("")
    print(f"{rounds} rounds in {time.monotonic() - begin:.0f} s: no violation")
    print("killed:", ", ".join(f"{count} {name}s" for name, count in sorted(killed.items())))
    print("\n".join(f"{count:>8} {name}" for name, count in counts.most_common()))
    return 0


if __name__ == "__main__":
    run_main(main)
