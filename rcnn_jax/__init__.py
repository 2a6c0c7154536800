"""Faster R-CNN and Mask R-CNN in JAX, driven by TAO/TLT spec files."""

__version__ = "0.1.0"
