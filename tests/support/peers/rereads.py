"""Wrong: its sessions don't remember what they have written, so there is no Read Your Writes."""

from __future__ import annotations

from right import Peer, Version, main


class Rereads(Peer):
    def remember(self, client: int, key: bytes, version: Version) -> None:
        pass


if __name__ == "__main__":
    main(Rereads())
