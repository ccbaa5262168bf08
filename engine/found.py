"""A host of a Dask cluster, as it was found there.

May live here: this value. May not: how hosts are found (engine/dask_cluster.py), and what is done with them.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Found"]


class Found(NamedTuple):
    """A host: what it is called, where it is, and the worker through which it is reached."""

    name: str
    ip: str
    worker: str

    @property
    def endpoint(self) -> tuple[str, int]:
        """The IP address and port at which the worker listens."""
        ip, _, port = self.worker.rpartition("://")[2].rpartition(":")
        return ip.strip("[]"), int(port)
