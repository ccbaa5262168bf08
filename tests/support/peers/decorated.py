"""Right, but it greets, and decorates each answer, as many programs do."""

from __future__ import annotations

from collections.abc import Iterator

from right import Peer, main


class Decorated(Peer):
    def printStore(self, server: int) -> Iterator[bytes]:
        for line in reversed(list(super().printStore(server))):
            yield b"[server %d] " % server + line.replace(b":", b" = ", 1)

    def get(self, client: int, key: bytes) -> Iterator[bytes]:
        for line in super().get(client, key):
            yield b"[client %d] " % client + line.replace(b":", b" = ", 1)


if __name__ == "__main__":
    print("Welcome: all is well", flush=True)
    main(Decorated())
