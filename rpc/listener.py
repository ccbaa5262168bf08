"""What all listening sockets have in common, whichever way their process is reached.

May live here: accepting a connection at all. May not: who may connect (rpc/addresses.py and rpc/tls.py).
"""

from __future__ import annotations

import errno
import socket
import time
from abc import abstractmethod

__all__ = ["NO_ROOM_SECONDS", "Listener"]

_NO_ROOM = (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NO_ROOM_SECONDS = 0.1
"""How long to wait before accepting again if no descriptor was left. The system does not report when there is one."""


class Listener(socket.socket):
    """A listening socket that knows its address, and who may connect to it."""

    address = ""

    @abstractmethod
    def admit(self) -> socket.socket:
        """Wait for the next connection from a process of this run. Raises OSError, also after its time-out."""

    @abstractmethod
    def withdraw(self) -> None:
        """Have nobody find this address any more, and accept no more connections."""

    def accept_any(self) -> socket.socket:
        """Wait for the next connection from anybody; also for a descriptor, if none is left. Raises OSError."""
        while True:
            try:
                return self.accept()[0]
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                time.sleep(NO_ROOM_SECONDS)
