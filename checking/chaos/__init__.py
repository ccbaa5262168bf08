"""Random scripts on real processes that are killed, frozen and woken at random instants: see scripts/chaos.py."""
