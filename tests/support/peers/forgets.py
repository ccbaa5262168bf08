"""Wrong: its gossip moves what one server lacks, and forgets what it has newer itself."""

from __future__ import annotations

from right import Peer, Version, main


class Forgets(Peer):
    def exchange(self, one: dict[bytes, Version], other: dict[bytes, Version]) -> None:
        other.update(one)


if __name__ == "__main__":
    main(Forgets())
