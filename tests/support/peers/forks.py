"""Wrong: it forks processes that never end. A bound, far above every limit, keeps the machine safe all the same."""

from __future__ import annotations

import os
import signal

MOST = 200

if __name__ == "__main__":
    for _ in range(MOST):
        if os.fork() == 0:
            break
    while True:
        signal.pause()
