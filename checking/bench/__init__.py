"""What scripts/bench.py measures: the bare baseline, runs of Daadkvs, the benchmarks, and a picture of them."""
