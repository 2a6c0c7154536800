"""The files that a Mask R-CNN spec names for commands: none, flags do. No jax here."""

from typing import Any

from rcnn_jax.tasks.named_files import Config, NamedFiles

MODEL_NAME = "model"
"""The name of every Mask R-CNN run: the original's models are called model.step-N.tlt."""


def named_files(config: Config) -> NamedFiles:
    """Returns the files that a Mask R-CNN config names: none."""
    del config
    return NamedFiles()


def model_name(config: Any) -> str:
    """Returns the name of the models of a run, which is the same for all."""
    del config
    return MODEL_NAME
