"""Small histories, as a run might have left them, and ways to tamper with them.

A `Run` pretends to be a master with its servers: it holds versions, lets gossip run as chance has it, and writes the
history. `tamper` changes one answer of it, so that it may or may not still be one that a run can have left. A `puzzle`
is made the other way round: servers show any versions that don't contradict each other at first sight.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

KEYS = ("a", "b")


class Run:
    """A few servers and clients, and what they do."""

    def __init__(self, random: Random, gossips: bool) -> None:
        self.random = random
        self.keys = KEYS[: random.randint(1, len(KEYS))]
        self.gossips = gossips
        self.lines: list[dict[str, Any]] = []
        self.stores: dict[int, dict[str, int]] = {}
        self.running: set[int] = set()
        self.links: set[frozenset[int]] = set()
        self.clients: dict[int, list[int]] = {}
        self.seen: dict[tuple[int, str], int] = {}
        self.values: dict[int, str] = {}

    @property
    def text(self) -> str:
        """The history."""
        header = {"history": 1, "gossip_interval": 0.01 if self.gossips else 0, "kept_stores": False}
        return spelled(header, self.lines)

    def write(self, length: int) -> Run:
        """Do something, *length* times besides what is needed to begin; returns the run."""
        for server in range(self.random.randint(2, 4)):
            self.join(server)
        apart = self.random.choice((0, 0, 0.5, 1))
        for link in sorted(map(sorted, self.links)):
            if self.random.random() < apart:
                self.change("breakConnection", *link)
        for client in range(10, 10 + self.random.randint(1, 3)):
            self.change("joinClient", client, self.random.choice(sorted(self.running)))
        actions = [self.put] * 4 + [self.get] * 6 + [self.cut] * 2 + [self.connect, self.kill, self.revive]
        actions += [self.stabilize, self.print_store, self.lose]
        for _ in range(length):
            self.random.choice(actions)()
            self.gossip()
        return self

    # -- the history ---------------------------------------------------------------------------------------

    def begin(self, f: str, value: list[Any], process: int | str = "master") -> None:
        self.add("invoke", f, value, process)

    def end(self, f: str, value: list[Any], process: int | str = "master", **more: Any) -> None:
        self.add("ok", f, value, process, **more)

    def add(self, kind: str, f: str, value: list[Any], process: int | str = "master", **more: Any) -> None:
        line = {"index": len(self.lines), "type": kind, "process": process, "f": f, "value": value, "time": 0}
        self.lines.append(line | more)

    # -- topology ------------------------------------------------------------------------------------------

    def change(self, f: str, *ids: int) -> None:
        """A change of servers, links or connections that works."""
        self.begin(f, [*ids])
        if f == "joinClient":
            self.clients.setdefault(ids[0], [])
        client = next((one for one in ids if one in self.clients), None)
        if client is not None:
            (server,) = set(ids) - {client}
            connections = self.clients[client]
            if f == "breakConnection" and server in connections:
                connections.remove(server)
            elif f != "breakConnection" and server not in connections:
                connections.append(server)
        elif f == "createConnection":
            self.links.add(frozenset(ids))
        elif f == "breakConnection":
            self.links.discard(frozenset(ids))
        self.end(f, [*ids])

    def join(self, server: int) -> None:
        self.begin("joinServer", [server])
        self.links |= {frozenset((server, other)) for other in self.running}
        self.running.add(server)
        self.stores.setdefault(server, {})
        self.end("joinServer", [server])

    def stop(self, server: int) -> None:
        self.running.discard(server)
        self.links = {link for link in self.links if server not in link}

    def kill(self) -> None:
        if len(self.running) > 1:
            server = self.random.choice(sorted(self.running))
            self.begin("killServer", [server])
            self.stop(server)
            self.end("killServer", [server])

    def revive(self) -> None:
        """Start a server that was killed, or sometimes a new one."""
        dead = sorted(self.stores.keys() - self.running)
        if dead and self.random.random() < 0.7:
            self.join(self.random.choice(dead))
        elif len(self.stores) < 5:
            self.join(len(self.stores))

    def cut(self) -> None:
        ends = [sorted(link) for link in self.links]
        ends += [[client, server] for client, servers in self.clients.items() for server in servers]
        if ends:
            self.change("breakConnection", *self.random.choice(sorted(ends)))

    def connect(self) -> None:
        server = self.random.choice(sorted(self.running))
        self.change(
            "createConnection", self.random.choice(sorted({*self.running, *self.clients} - {server} or {10})), server
        )

    # -- what moves versions -------------------------------------------------------------------------------

    def gossip(self) -> None:
        for _ in range(self.random.choice((0, 0, 1, 3)) if self.gossips and self.links else 0):
            source, target = self.random.sample(sorted(self.random.choice(sorted(map(sorted, self.links)))), 2)
            for key in KEYS:
                if self.random.random() < 0.7:
                    self.raise_to(target, key, self.stores[source].get(key, 0))

    def raise_to(self, server: int, key: str, version: int) -> None:
        if version > self.stores[server].get(key, 0):
            self.stores[server][key] = version

    def stabilize(self) -> None:
        self.begin("stabilize", [])
        for _ in self.running:
            for one, other in [tuple(link) for link in self.links]:
                for key in KEYS:
                    self.raise_to(one, key, self.stores[other].get(key, 0))
                    self.raise_to(other, key, self.stores[one].get(key, 0))
        self.end("stabilize", [])

    # -- puts and answers ----------------------------------------------------------------------------------

    def usable(self, client: int) -> list[int]:
        return [server for server in self.clients[client] if server in self.running]

    def put(self, loses: bool = False) -> None:
        """With *loses*, the client's first server dies on the way."""
        client, key = self.random.choice(sorted(self.clients)), self.random.choice(self.keys)
        version = len(self.values) + 1
        value = self.random.choice(("red", "blue", f"v{version}"))
        usable = self.usable(client)
        if not usable:
            return
        self.values[version] = value
        self.begin("put", [key, value], client)
        if loses:
            if self.random.random() < 0.5:
                self.raise_to(usable[0], key, version)
            self.stop(usable[0])
            self.add("info", "died", [usable.pop(0)], error="it died")
        if not usable:
            self.add("info", "put", [key, value], client, timestamp=version, error="uncertain")
            return
        self.stores[usable[0]][key] = version
        self.seen[client, key] = version
        self.perhaps_die(usable[0])
        self.end("put", [key, value], client, server=usable[0], timestamp=version)

    def perhaps_die(self, server: int) -> None:
        """A server that has answered is found dead before its answer is recorded."""
        if len(self.running) > 1 and self.random.random() < 0.05:
            self.stop(server)
            self.add("info", "died", [server], error="it died")

    def lose(self) -> None:
        if len(self.running) > 1 and self.random.random() < 0.3:
            self.put(loses=True)

    def get(self) -> None:
        client, key = self.random.choice(sorted(self.clients)), self.random.choice(self.keys)
        seen = self.seen.get((client, key), 0)
        usable = self.usable(client)
        if not usable:
            return
        self.begin("get", [key, None], client)
        died = []
        outcome: dict[str, Any] = {"answer": "ERR_DEP"}
        for server in usable:
            if len(self.running) > 1 and self.random.random() < 0.05:
                self.stop(server)
                died.append(server)
                continue
            version = self.stores[server].get(key, 0)
            if version >= seen:
                outcome = answered(server, version)
                self.seen[client, key] = version
                break
            self.gossip()
        for lost in died:
            self.add("info", "died", [lost], error="it died")
        if len(died) < len(usable):
            self.perhaps_die(server)
        if len(died) == len(usable):
            self.add("fail", "get", [key, None], client, error="none of its servers is running")
        else:
            self.end("get", [key, self.values.get(outcome.get("timestamp", 0))], client, **outcome)

    def print_store(self) -> None:
        server = self.random.choice(sorted(self.running))
        self.begin("printStore", [server])
        store = sorted(self.stores[server].items())
        value = [[key, self.values[version]] for key, version in store]
        self.end("printStore", value, server=server, timestamp=[version for _, version in store])


def puzzle(random: Random) -> str:
    """Few links, which come and go, and stores that show any version not older than what they showed before."""
    run = Run(random, gossips=random.random() < 0.8)
    run.keys = KEYS[:1]
    servers = range(random.randint(3, 5))
    for server in servers:
        run.join(server)
        run.change("joinClient", 10 + server, server)
    for link in sorted(map(sorted, run.links)):
        if random.random() < 0.8:
            run.change("breakConnection", *link)
    shown = dict.fromkeys(servers, 0)
    for _ in range(random.randint(8, 24)):
        one, other = random.sample(servers, 2)
        action = random.choice(("put", "show", "show", "show", "link", "link", "cut", "stabilize"))
        if action == "put":
            version = shown[one] = len(run.values) + 1
            run.values[version] = f"v{version}"
            run.begin("put", [KEYS[0], f"v{version}"], 10 + one)
            run.end("put", [KEYS[0], f"v{version}"], 10 + one, server=one, timestamp=version)
        elif action == "show":
            version = shown[one] = random.choice([shown[one], *[v for v in run.values if v >= shown[one]]])
            store = {KEYS[0]: version} if version else {}
            run.begin("printStore", [one])
            run.end("printStore", [[k, f"v{v}"] for k, v in store.items()], server=one, timestamp=[*store.values()])
        elif action == "stabilize":
            run.begin("stabilize", [])
            run.end("stabilize", [])
        else:
            run.change("createConnection" if action == "link" else "breakConnection", one, other)
    return run.text


def answered(server: int, version: int) -> dict[str, Any]:
    """The fields of a get's answer."""
    return {"server": server, "timestamp": version} if version else {"server": server, "answer": "ERR_KEY"}


def spelled(header: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """The content of a history file."""
    return "".join(json.dumps(line) + "\n" for line in (header, *lines))


def tamper(text: str, random: Random) -> str:
    """Change one answer, or swap two; which may or may not matter."""
    header, *lines = map(json.loads, text.splitlines())
    answers = [line for line in lines if line["type"] == "ok" and line["f"] in ("get", "printStore")]
    if not answers:
        return text
    line = random.choice(answers)
    written: dict[str, dict[int, str]] = {key: {} for key in KEYS}
    for put in lines:
        if put["f"] == "put" and "timestamp" in put:
            written[put["value"][0]][put["timestamp"]] = put["value"][1]
    if line["f"] == "printStore":
        key = random.choice(KEYS)
        store = {pair[0]: (pair[1], version) for pair, version in zip(line["value"], line["timestamp"], strict=True)}
        store.pop(key, None)
        if written[key] and random.random() < 0.7:
            version = random.choice(sorted(written[key]))
            store[key] = written[key][version], version
        line["value"] = [[key, value] for key, (value, _) in sorted(store.items())]
        line["timestamp"] = [version for _, (_, version) in sorted(store.items())]
        return spelled(header, lines)
    key = line["value"][0]
    server = line.pop("server", random.randrange(4))
    line.pop("answer", None)
    line.pop("timestamp", None)
    kind = random.choice(
        ("other version", "other version", "ERR_KEY", "ERR_DEP", "other server", "never written", "swap")
    )
    versions = [0, *written[key]]
    if kind == "ERR_DEP":
        line |= {"value": [key, None], "answer": "ERR_DEP"}
    elif kind == "swap":
        line |= {"value": [key, None], "answer": "ERR_DEP"}
        other = random.choice([one for one in answers if one["f"] == "get" and one["value"][0] == key])
        mine = {name: line[name] for name in line.keys() - {"index", "process"}}
        theirs = {name: other[name] for name in other.keys() - {"index", "process"}}
        for one, said in ((line, theirs), (other, mine)):
            for name in (mine.keys() | theirs.keys()) & one.keys():
                del one[name]
            one |= said
    elif kind == "never written":
        line |= {"value": [key, "green"], "server": server, "timestamp": random.choice([*written[key], 99])}
    else:
        version = 0 if kind == "ERR_KEY" else random.choice(versions)
        server = random.randrange(4) if kind == "other server" else server
        line |= {"value": [key, written[key].get(version)], **answered(server, version)}
    return spelled(header, lines)
