"""The terms of an agent: what a master tells it before they know each other.

May live here: these values, and how they are packed. May not: how they are used.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from rpc.tls import Credentials

__all__ = ["Terms"]


class Terms(NamedTuple):
    """What an agent is started with. Times are in seconds."""

    host: str
    """What users call its host."""
    ip: str
    """Where it listens, and all processes that it starts."""
    credentials: Credentials
    data_directory: str
    """The folder of the stores on its host; empty for one that goes with the run."""
    lock_wait: float
    """How long to wait for that folder, if another agent still uses it."""
    traced: bool
    host_timeout: float
    """After how long without a sign of the master's machine the run is over here."""

    def to_bytes(self) -> bytes:
        credentials = [part.decode("ascii") for part in self.credentials]
        return json.dumps(self._replace(credentials=Credentials(*credentials))._asdict()).encode("ascii")  # type: ignore[arg-type]

    @classmethod
    def from_bytes(cls, packed: bytes) -> Terms:
        values = json.loads(packed)
        values["credentials"] = Credentials(*(part.encode("ascii") for part in values["credentials"]))
        return cls(**values)
