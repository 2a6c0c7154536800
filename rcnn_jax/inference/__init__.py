"""Detections as pictures and label files."""
