"""How long Dask may take for what is asked of it, in seconds.

May live here: these limits. The keeper keeps to them (engine/dask_cluster.py), and the master gives it a little longer
(engine/keeper.py). It has a room of its own because that of the keeper's part takes all of Dask to import.
"""

from __future__ import annotations

__all__ = ["CALL", "CONNECT", "END", "END_AGENT", "HOSTS", "IMPORT", "LONGER", "START", "START_AGENT"]

IMPORT = 60.0
"""How long the first answer may take: on a slow machine, that is how long it takes to import Dask."""

CONNECT = 10.0
"""How long the scheduler may take to let us in."""

CALL = 2.0
"""How long the scheduler may take for what it does by itself: to say which workers there are, and to take leave."""

START_AGENT = 20.0
"""How long an agent may take to start."""

END_AGENT = 4.0
"""How long the scheduler may take to let us in, and then a worker to end its agent, where that is the last resort."""

LONGER = 4.0
"""How much longer the one who waits for an answer may wait than the one who has to give it."""

HOSTS = CONNECT + CALL
"""How long it may take to learn which hosts there are, all in all."""

START = CONNECT + START_AGENT + LONGER + CALL
"""How long it may take to start agents, all in all."""

END = END_AGENT + CALL + END_AGENT
"""How long it may take to have agents killed, all in all."""
