"""Smaller and faster models: quantisation-aware training."""
