"""Another implementation of the nine commands, in one process: what grading is tried on.

It keeps to the contract without gossip. The wrong ones beside it are this one with one mistake each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

Version = tuple[int, bytes]
"""A number, the larger the later, and the value."""


class Fault(Exception):
    """The command can't be carried out."""


class Peer:
    """All servers and clients."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.stores: dict[int, dict[bytes, Version]] = {}
        self.links: set[frozenset[int]] = set()
        self.clients: dict[int, list[int]] = {}
        self.seen: dict[tuple[int, bytes], Version] = {}
        self.puts = 0

    # -- commands ------------------------------------------------------------------------------------------

    def joinServer(self, server: int) -> None:
        self.require(server not in self.running and server not in self.clients)
        self.links |= {frozenset((server, other)) for other in self.running}
        self.running.add(server)
        self.stores.setdefault(server, {})

    def killServer(self, server: int) -> None:
        self.require(server in self.running)
        self.running.remove(server)
        self.links = {link for link in self.links if server not in link}

    def joinClient(self, client: int, server: int) -> None:
        self.require(server in self.running and client not in self.stores)
        servers = self.clients.setdefault(client, [])
        servers += [server] * (server not in servers)

    def breakConnection(self, one: int, other: int) -> None:
        self.links.discard(frozenset((one, other)))
        for client, server in ((one, other), (other, one)):
            if server in self.clients.get(client, ()):
                self.clients[client].remove(server)

    def createConnection(self, one: int, other: int) -> None:
        for client, server in ((one, other), (other, one)):
            if client in self.clients:
                self.joinClient(client, server)
                return
        self.require({one, other} <= self.running)
        self.links.add(frozenset((one, other)))

    def stabilize(self) -> None:
        for _ in self.running:  # as many rounds as the longest way has hops
            for one, other in map(sorted, self.links):
                self.exchange(self.stores[one], self.stores[other])

    def printStore(self, server: int) -> Iterator[bytes]:
        self.require(server in self.running)
        for key, (_, value) in sorted(self.stores[server].items()):
            yield key + b":" + value

    def put(self, client: int, key: bytes, value: bytes) -> None:
        server = self.usable(client)[0]
        self.puts += 1
        self.stores[server][key] = version = self.version(client, server, key, value)
        self.remember(client, key, version)

    def get(self, client: int, key: bytes) -> Iterator[bytes]:
        for server in self.usable(client):
            version = self.stores[server].get(key, (0, b"ERR_KEY"))
            if version >= self.seen.get((client, key), (0, b"")):
                self.seen[client, key] = version
                yield key + b":" + version[1]
                return
        yield key + b":ERR_DEP"

    # -- what the wrong ones do otherwise ------------------------------------------------------------------

    def version(self, client: int, server: int, key: bytes, value: bytes) -> Version:
        return self.puts, value

    def remember(self, client: int, key: bytes, version: Version) -> None:
        self.seen[client, key] = version

    def exchange(self, one: dict[bytes, Version], other: dict[bytes, Version]) -> None:
        for key in one.keys() | other.keys():
            one[key] = other[key] = max(one.get(key, (0, b"")), other.get(key, (0, b"")))

    # -- helpers -------------------------------------------------------------------------------------------

    def usable(self, client: int) -> list[int]:
        servers = [server for server in self.clients.get(client, ()) if server in self.running]
        self.require(bool(servers))
        return servers

    def require(self, condition: bool) -> None:
        if not condition:
            raise Fault

    def do(self, line: bytes) -> None:
        name, *words = line.split(None, 3)
        command: Callable[..., Iterator[bytes] | None] = getattr(self, name.decode())
        ids = 1 if name in (b"put", b"get") else len(words)
        try:
            for printed in command(*map(int, words[:ids]), *words[ids:]) or ():
                sys.stdout.buffer.write(printed + b"\n")
        except Fault:
            print("error:", line, file=sys.stderr)


def main(peer: Peer) -> None:
    for line in sys.stdin.buffer:
        if line.strip() and not line.startswith(b"#"):
            peer.do(line.rstrip(b"\r\n"))
            sys.stdout.flush()


if __name__ == "__main__":
    main(Peer())
