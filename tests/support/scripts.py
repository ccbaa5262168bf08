"""Scripts that several tests run."""

from __future__ import annotations

import subprocess
import sys

from checking.driver import ROOT

SESSIONS = """\
joinServer 0
joinServer 1
joinClient 10 0
joinClient 11 1
put 10 password swordfish
stabilize
breakConnection 0 1
put 10 password mellon
breakConnection 10 0
createConnection 10 1
get 10 password
get 11 password
get 10 shoesize
"""
"""A client moves to a server that is behind what the client has seen."""

FAULTS = ("--partition-every", "60", "--kill-every", "60", "--move-every", "30", "--stabilize-every", "150")
"""Options of scripts/generate.py, for a script with faults of all kinds."""


def generated(*options: str) -> str:
    """A random script that scripts/generate.py writes with these options."""
    command = [sys.executable, str(ROOT / "scripts" / "generate.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
