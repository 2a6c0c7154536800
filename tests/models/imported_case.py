"""A checkpoint imported from its file, as a task with variables; stages as in `torchvision_case`."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from rcnn_jax.checkpoints.bundle import Bundle
from rcnn_jax.checkpoints.imported import ImportOptions, import_checkpoint
from rcnn_jax.checkpoints.state import stored_experiment, with_weights
from rcnn_jax.tasks.task import TestSettings
from tests.models.torchvision_case import Stages


def imported_stages(
    arrays: dict[str, np.ndarray],
    folder: Path,
    proposals: int,
    detections: int,
    options: ImportOptions | None = None,
) -> tuple[Any, Stages]:
    """Returns the task and the stages of arrays that were written to a file and imported."""
    path = folder / "checkpoint.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, path)
    bundle = import_checkpoint(path, options or ImportOptions())
    return stages_of(bundle, proposals, detections)


def stages_of(bundle: Bundle, proposals: int, detections: int) -> tuple[Any, Stages]:
    """Returns the task of a bundle and its stages, with other counts."""
    experiment, variables = with_weights(stored_experiment(bundle, "it"), bundle, "it")
    test = experiment.evaluation
    test = TestSettings(
        proposals=dataclasses.replace(test.proposals, post_nms=proposals),
        detections=dataclasses.replace(test.detections, max_detections=detections),
    )
    return experiment.task, Stages(experiment.task, test, variables)
