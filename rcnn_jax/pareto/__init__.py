"""Search of a compressed model: prune ratio and precision, by measured latency and average precision."""
