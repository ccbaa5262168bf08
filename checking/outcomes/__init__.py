"""Every outcome that a script can have, however gossip runs: see analysis.py, and docs/outcomes.md."""
