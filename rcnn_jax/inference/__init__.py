"""Inference: runs a model on images; writes annotated images and label files."""
