"""Convolutions and pooling with forms that XLA compiles well on a CPU."""
