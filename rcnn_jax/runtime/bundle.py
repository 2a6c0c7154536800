"""The backend of bundles (`.tlt`): the model in JAX."""

from collections.abc import Callable
from pathlib import Path

import jax

from rcnn_jax.checkpoints.state import load_model, stored_origin
from rcnn_jax.runtime.backend import Backend, Predictor
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings, Variables


def jax_predictor(experiment: Experiment, test: TestSettings) -> Callable[..., Predictor]:
    """Returns a function from variables to a predictor; one compilation serves all variables."""
    run = jax.jit(lambda variables, images: experiment.task.predict(variables, images, test))
    return lambda variables: lambda images: run(variables, images)


def bind(make: Callable[..., Predictor], variables: Variables) -> Predictor:
    """Puts the variables on the device once and returns the predictor over them."""
    return make(jax.device_put(variables))


def load_predictor(
    path: Path, experiment: Experiment, test: TestSettings, key: str | None
) -> Predictor:
    """Returns the predictor of a bundle.

    Args:
      path: `.tlt`.
      experiment: the model the spec describes; the file must be of the same.
      test: counts and thresholds.
      key: what the file was sealed with, or None.

    Raises:
      CheckpointError: the file cannot be used or is of another model.
    """
    experiment, variables = load_model(path, experiment, key)
    return bind(jax_predictor(experiment, test), variables)


BUNDLE = Backend(stored_origin, load_predictor)
"""Runs bundles on the devices of JAX."""
