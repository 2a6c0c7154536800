"""Mask R-CNN: config, data, task and conventions of weights."""
