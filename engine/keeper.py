"""The keeper: it removes the files of a run from the master's machine, also if the master is killed.

May live here: that process. On one machine the spawner does this, which a run with an engine does not have there.
"""

from __future__ import annotations

import os

from control.run_directory import RunDirectory
from rpc.forking import fork

__all__ = ["Keeper"]


class Keeper:
    """The master's end of the keeper."""

    def __init__(self, run: RunDirectory) -> None:
        """Fork the keeper. To be called while the process has one thread. Raises OSError."""
        theirs, self._tether = os.pipe()

        def main() -> None:
            os.read(theirs, 1)  # nothing is ever written: this is the end of the master
            run.remove_folders()

        self._pid = fork(f"daadkvs keeper ({run.path})", (theirs,), main, lambda _: None, leads=True)
        os.close(theirs)
        try:
            run.note_spawner(self._pid)
        except OSError:
            self.end()
            raise

    def end(self) -> None:
        """Have it remove the files, and wait until it has ended."""
        os.close(self._tether)
        os.waitpid(self._pid, 0)
