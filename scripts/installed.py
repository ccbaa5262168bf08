"""The command `daadkvs`, which is there where Daadkvs is installed, not in a checkout.

May live here: which program the command runs. May not: anything that takes time, since each start waits for it.
"""

# The wheel holds the checkout's files in the folder daadkvs/app/, and nothing beside it (see pyproject.toml). This
# folder is on the path of Daadkvs's own processes alone, so its modules keep their names: client, server, model.

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

_APP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def main() -> int:
    """Run what the command line asks for; returns the exit status.

    `daadkvs cleanup` does what scripts/cleanup.sh does in a checkout, and `daadkvs many` what scripts/many.py does;
    anything else is what ./master does there.
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
    if sys.argv[1:2] == ["many"]:
        from scripts import many
        from scripts.shared import run_main

        del sys.argv[1]
        run_main(many.main)
    import master

    return master.main()
