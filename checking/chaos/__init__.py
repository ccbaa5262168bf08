"""Random scripts on real processes, which are killed, frozen and woken at random instants: see scripts/chaos.py."""
