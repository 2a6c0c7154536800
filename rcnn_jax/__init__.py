"""Faster R-CNN and Mask R-CNN in JAX, driven by TAO/TLT spec files.

    model = rcnn_jax.load("coco/mask_rcnn_resnet50_fpn_v2")     or "model.tlt", "model.onnx"
    model("street.jpg").draw("detections.jpg")

    run = rcnn_jax.train("spec.txt")                            a run, with its models and metrics
    rcnn_jax.evaluate(run.best)                                 {"mAP": 0.61, ...}
    rcnn_jax.export(run.best, "model.onnx")                     checked against the model in JAX

The names are those of `rcnn_jax.api`, imported when they are asked for: `import rcnn_jax` takes no
JAX with it.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rcnn_jax.version import __version__

if TYPE_CHECKING:
    from rcnn_jax.api import evaluate, export, train

__all__ = [
    "Detector",
    "FramePrediction",
    "Prediction",
    "__version__",
    "api",
    "draw",
    "evaluate",
    "export",
    "load",
    "prune",
    "train",
]
_PACKAGES = ("evaluate", "export", "train")
"""Functions whose names are those of packages too."""


class _CallablePackage(ModuleType):
    """A package that is called as the function of `rcnn_jax.api` with its name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module("rcnn_jax.api"), name)(*args, **options)


class _Root(ModuleType):
    """This module; makes packages callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python stores a submodule in its parent when it has been imported, whoever imported it: a
        # function of the same name, set before or after, would hide the package or be hidden by it.
        if name in _PACKAGES and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root


def __getattr__(name: str) -> Any:
    # Through importlib: `from rcnn_jax import api` in here would ask this function for the name
    # again.
    if name == "api" or name in _PACKAGES:
        return importlib.import_module(f"rcnn_jax.{name}")
    if name in __all__:
        return getattr(importlib.import_module("rcnn_jax.api"), name)
    raise AttributeError(f"module 'rcnn_jax' has no attribute '{name}'")
