"""What scripts/bench.py measures: a bare baseline, runs of Daadkvs, the benchmarks, and a picture of them."""
