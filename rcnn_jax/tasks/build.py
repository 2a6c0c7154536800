"""From a config to an experiment: the door to both readers."""

import dataclasses

from ml_collections import ConfigDict

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.dependence import dependence
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family

AXIS = "data"
"""Name of the mapped axis over devices."""


def build_experiment(
    config: ConfigDict, kind: Kind, *, bf16: bool = False, categories: Categories | None = None
) -> Experiment:
    """Returns the experiment that a validated config describes.

    Args:
      config: from `spec.load`, perhaps with overrides validated again.
      kind: which detector.
      bf16: compute convolutions in bfloat16 even when the config does not ask for it.
      categories: the classes of a trained Mask R-CNN; None takes them from the annotations the spec
        names. The spec of a Faster R-CNN names its classes itself.
    """
    experiment = family(kind).read(config, bf16=bf16, axis_name=AXIS, categories=categories)
    return dataclasses.replace(experiment, depends=dependence(config, kind))
