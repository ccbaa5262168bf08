"""Wrong: it prints what is no text."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.stdout.buffer.write(bytes(range(256)) * 10)
