"""The teacher of a run: the finished model that it imitates, opened and compared with it."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.checkpoints.origin import check_classes, check_kind
from rcnn_jax.checkpoints.published import named_weights
from rcnn_jax.checkpoints.state import stored_experiment, with_weights
from rcnn_jax.compress.lineage import kept_features
from rcnn_jax.errors import CheckpointError
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.open import open_weights
from rcnn_jax.tasks.distillation import Teacher
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Task, Variables


@dataclass(frozen=True, kw_only=True, eq=False)
class Taught:
    """A teacher with its weights.

    Attributes:
      teacher: the model.
      variables: on the host.
    """

    teacher: Teacher
    variables: Variables


def open_teacher(experiment: Experiment, key: str | None, reporter: Reporter) -> Taught | None:
    """Returns the teacher that a spec names, or None.

    Args:
      experiment: the run, with the widths that it trains.
      key: decrypts bundles.
      reporter: told what is compared.

    Raises:
      CheckpointError: the file is missing, or its model cannot teach this one.
    """
    if experiment.teacher is None:
        return None
    path = Path(experiment.teacher.model)
    if named_weights(path) is None and not path.is_file():
        raise CheckpointError(f"{path}: the file that teacher names does not exist")
    bundle = open_weights(path, key, reporter=reporter).bundle
    check_kind(bundle.kind, experiment.kind, str(path))
    other = stored_experiment(bundle, str(path))
    # Of its own spec, not that of the run: another backbone may teach as well.
    other, variables = with_weights(other, bundle, str(path))
    ids = other.category_ids
    check_classes(bundle.kind, other.task.class_names, ids, experiment, str(path))
    _check_pixels(experiment.task, other.task, path)
    channels = _shared_channels(experiment, other, key, path)
    compared = sum(map(len, channels.values()))
    reporter.note(
        f"imitating {path}: its class logits, and {compared} channels of its features"
        if compared
        else f"imitating {path}: its class logits only. Its features have other channels than those of "
        "this model, and no pruned file at the start of the run says which of them were kept"
    )
    teacher = Teacher(
        model=other.task.model,
        pixels=other.task.pixels,
        settings=other.task.settings,
        channels=channels,
    )
    return Taught(teacher=teacher, variables=variables)


def _check_pixels(task: Task, other: Task, path: Path) -> None:
    ours, theirs = task.pixels.channel_order, other.pixels.channel_order
    if ours != theirs:
        raise CheckpointError(
            f"{path}: the teacher reads images as {theirs}, this model as {ours}: name one with the same "
            "order of channels"
        )


def _shared_channels(
    experiment: Experiment, other: Experiment, key: str | None, path: Path
) -> dict[int, np.ndarray]:
    """Returns {level: channels of the teacher's features that the model has too}.

    Raises:
      CheckpointError: the features of the two have other levels or sizes.
    """
    ours, theirs = _shapes(experiment.task), _shapes(other.task)
    if {level: shape[:3] for level, shape in ours.items()} != {
        level: shape[:3] for level, shape in theirs.items()
    }:
        raise CheckpointError(
            f"{path}: the features of the teacher have other levels or strides than those of this model"
        )
    kept = {}
    if any(shape != theirs[level] for level, shape in ours.items()) and experiment.start.pruned:
        kept = kept_features(other, read_bundle(Path(experiment.start.pruned), key))
    return {
        level: np.arange(shape[-1]) if shape == theirs[level] else kept[level]
        for level, shape in ours.items()
        if shape == theirs[level] or len(kept.get(level, ())) == shape[-1]
    }


def _shapes(task: Task) -> dict[int, tuple[int, ...]]:
    """Returns {level: shape} of the features of one image."""
    images = jax.ShapeDtypeStruct((1, 256, 256, task.pixels.channels), jnp.float32)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    features = jax.eval_shape(
        lambda v, x: task.model.apply(v, x, train=False, method="extract"), variables, images
    )
    return {level: leaf.shape for level, leaf in features.items()}
