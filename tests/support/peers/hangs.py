"""Wrong: it answers until the first stabilize, never returns from that one, and doesn't heed SIGTERM."""

from __future__ import annotations

import signal

from right import Peer, main


class Hangs(Peer):
    def stabilize(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()


if __name__ == "__main__":
    main(Hangs())
