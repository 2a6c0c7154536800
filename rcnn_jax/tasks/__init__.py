"""The detectors: their algorithms as pure functions, and the readers of their configs."""
