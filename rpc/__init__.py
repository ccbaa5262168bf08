"""Calls between processes: addresses, connections, what comes in, forking, and the trace of it all."""
