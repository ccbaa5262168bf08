"""Wrong: it prints for ever."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    while True:
        print("a:1\n" * 1000)
        sys.stdout.flush()
