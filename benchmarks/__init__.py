"""How fast the parts are, beside their peers: `python -m benchmarks.run`."""
