"""Comparison of runtimes and precisions on this machine: average precision, latency, size of a model."""
