"""Backends: what runs a model file. Commands choose one, evaluation and inference take it as a value."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.checkpoints.origin import Origin, check_kind, check_same_model
from rcnn_jax.kinds import Kind
from rcnn_jax.reporter import Reporter
from rcnn_jax.structures import Array, Detections, Proposals
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import TestSettings

Predictor = Callable[[Array], tuple[Detections, Proposals | None]]
"""Images u8[b h w c] on their canvas -> detections, and the proposals where the model tells them."""


@dataclass(frozen=True)
class Backend:
    """How model files of one form are run.

    Attributes:
      origin: (file, key) -> what the file says of its model.
      predictor: (file, experiment, test settings, key) -> images to detections. A graph keeps the
        settings it was exported with.
    """

    origin: Callable[[Path, str | None], Origin]
    predictor: Callable[[Path, Experiment, TestSettings, str | None], Predictor]


def experiment_of(
    backend: Backend,
    model: Path,
    config: ConfigDict,
    kind: Kind,
    *,
    key: str | None,
    session: Reporter,
    own_classes: bool,
) -> Experiment:
    """Returns the experiment of a spec that is about to be run with a model file.

    Every command that runs a model begins here, so none runs one with a spec of another.

    Args:
      backend: of the file.
      model: the file.
      config: validated config.
      kind: which detector the config is of.
      key: what the file was sealed with, or None.
      session: is told what differs and may.
      own_classes: a Mask R-CNN has the classes of the file; else those of the annotations that the
        spec names, which must be the same.

    Raises:
      CheckpointError: the file cannot be used, or is of another model than the spec.
      RcnnError: the spec or its data cannot be used.
    """
    origin = backend.origin(model, key)
    check_kind(origin.kind, kind, str(model))
    categories = origin.categories if own_classes else None
    experiment = build_experiment(config, kind, categories=categories)
    for note in check_same_model(origin, experiment, str(model)):
        session.warn(note)
    return experiment
