"""Right, but each of its servers has a process that is forked twice, leaves the session, and never ends."""

from __future__ import annotations

import os
import signal

from right import Peer, main


class Orphans(Peer):
    def joinServer(self, server: int) -> None:
        super().joinServer(server)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                signal.pause()
        os._exit(0)


if __name__ == "__main__":
    main(Orphans())
