"""How long Dask may take for what is asked of it, in seconds.

May live here: these limits. The keeper keeps to them (engine/dask_cluster.py), and the master gives it a little longer
(engine/keeper.py). The master can't take them from the keeper's room, which imports Dask.
"""

from __future__ import annotations

__all__ = ["CALL", "CONNECT", "END", "END_AGENT", "HOSTS", "IMPORT", "LONGER", "START", "START_AGENT"]

IMPORT = 60.0
"""How long the first answer may take: on a slow machine, that is how long it takes to import Dask."""

CONNECT = 10.0
"""How long the scheduler may take to accept a connection."""

CALL = 2.0
"""How long the scheduler may take for what it does by itself: to say which workers there are, and to take leave."""

START_AGENT = 20.0
"""How long an agent may take to start."""

END_AGENT = 4.0
"""How long the scheduler may take to accept a connection, and then a worker to end its agent, as a last resort."""

LONGER = 4.0
"""How much longer the one who waits for an answer may wait than the one who has to give it."""

HOSTS = CONNECT + CALL
"""How long it may take to learn which hosts there are, all in all."""

START = START_AGENT + LONGER + CALL
"""How long it may take to start agents, all in all. The call of each worker has `LONGER`, for connecting as well."""

END = END_AGENT + CALL + END_AGENT
"""How long it may take to have agents killed, all in all."""
