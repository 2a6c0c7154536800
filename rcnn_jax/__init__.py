"""Faster R-CNN and Mask R-CNN in JAX, driven by TAO/TLT spec files.

    model = rcnn_jax.load("model.tlt", key="...")
    (found,) = model(["picture.jpg"])

`load` and `draw` are those of `rcnn_jax.detector`, imported when they are asked for.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("load", "draw"):
        return getattr(importlib.import_module("rcnn_jax.detector"), name)
    raise AttributeError(f"module 'rcnn_jax' has no attribute '{name}'")
