"""The command `daadkvs`, which exists where Daadkvs is installed, but not in a checkout.

May live here: which program the command runs. May not: anything that takes time, since each start waits for it.
"""

# The wheel holds the checkout's files in the folder daadkvs/app/, and nothing beside it (see pyproject.toml). This
# folder is on the path of Daadkvs's own processes alone, so its modules keep their names: client, server, model.

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

TOOLS = ("autograder", "grade", "many", "outcomes")
"""Scripts that are called by their names."""

_APP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def main() -> int:
    """Run what the command line asks for; returns the exit status.

    `daadkvs cleanup` does what scripts/cleanup.sh does in a checkout, and `daadkvs TOOL`, for one of the `TOOLS`, does
    what that script does. Anything else is what ./master does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from a Ctrl-C
    cleans_up = sys.argv[1:2] == ["cleanup"]
    sys.path.insert(0, _APP)
    if cleans_up:
        from scripts import cleanup

        return cleanup.main(sys.argv[2:], sys.argv[0])
    from console import environment

    environment.enter("__main__")
    if sys.argv[1:2] and sys.argv[1] in TOOLS:
        from importlib import import_module

        from scripts.shared import run_main

        tool = sys.argv.pop(1)
        sys.argv[0] += f" {tool}"
        run_main(import_module(f"scripts.{tool}").main)
    import master

    return master.main()
