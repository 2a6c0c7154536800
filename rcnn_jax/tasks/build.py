"""Builds an experiment from a config, by the reader of its detector."""

import dataclasses
import json
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.kinds import Kind
from rcnn_jax.settings.views import ViewSettings
from rcnn_jax.spec.render import redact, render
from rcnn_jax.tasks.dependence import dependence
from rcnn_jax.tasks.experiment import Experiment, SpecRecord
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
      bf16: compute in mixed precision even when the config does not ask for it.
      categories: the classes of a trained Mask R-CNN; None takes them from the annotations the spec
        names. The spec of a Faster R-CNN names its classes itself.
    """
    experiment = family(kind).read(config, axis_name=AXIS, categories=categories)
    experiment = dataclasses.replace(
        experiment, depends=dependence(config, kind), spec=spec_record(config, kind)
    )
    return with_amp(experiment) if bf16 else experiment


def spec_record(config: ConfigDict, kind: Kind) -> SpecRecord:
    """Returns the record of a config for files and resumes; keys are redacted."""
    shown = redact(config)
    # By way of JSON: what a run compares itself with when it is resumed was read from JSON.
    return SpecRecord(text=render(shown, kind), fields=json.loads(shown.to_json()))


def with_views(experiment: Experiment, views: ViewSettings | None) -> Experiment:
    """Returns the experiment with test-time augmentation in evaluation and inference, or without any."""
    return dataclasses.replace(
        experiment,
        evaluation=dataclasses.replace(experiment.evaluation, views=views),
        inference=dataclasses.replace(experiment.inference, views=views),
    )


def with_amp(experiment: Experiment) -> Experiment:
    """Returns the experiment in mixed precision: convolutions in bfloat16, or what the spec names."""
    task: Any = experiment.task
    # The dtype of the computation alone: parameters are float32 either way, and files load
    # unchanged.
    dtype = jnp.dtype(experiment.amp_dtype)
    task = dataclasses.replace(task, model=task.model.clone(dtype=dtype))
    return dataclasses.replace(experiment, task=task)
