"""Faster R-CNN: config, data and task."""
