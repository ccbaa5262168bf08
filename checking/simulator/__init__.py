"""The deterministic simulator: a whole cluster in one process. simulation.py explains it; see scripts/simulate.py."""
