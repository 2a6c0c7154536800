"""Faster R-CNN and Mask R-CNN in JAX, driven by TAO/TLT spec files.

    model = rcnn_jax.load("coco/mask_rcnn_resnet50_fpn_v2")     or "model.tlt", "model.onnx"
    model("street.jpg").draw("detections.jpg")

The names are those of `rcnn_jax.api`, imported when they are asked for: `import rcnn_jax` takes no
JAX with it. Training and evaluation are `rcnn_jax.api.train` and `rcnn_jax.api.evaluate`.
"""

import importlib
from typing import Any

from rcnn_jax.version import __version__

__all__ = ["Detector", "Prediction", "__version__", "api", "draw", "load"]


def __getattr__(name: str) -> Any:
    # Through importlib: `from rcnn_jax import api` in here would ask this function for the name
    # again.
    if name == "api":
        return importlib.import_module("rcnn_jax.api")
    if name in __all__:
        return getattr(importlib.import_module("rcnn_jax.api"), name)
    raise AttributeError(f"module 'rcnn_jax' has no attribute '{name}'")
