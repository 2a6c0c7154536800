"""Benchmarks of the parts against their peers: `python -m benchmarks.run`."""
