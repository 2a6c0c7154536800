"""Demands of single tasks on a spec: training needs a schedule, evaluation validation data.

NVIDIA's specs for deployment have no schedule, no optimizer and no training data, and evaluate, run
and export all the same. Rules for all tasks are in `rules` and `mask_rules`.
"""

from collections.abc import Iterator

from rcnn_jax.kinds import SpecKind, TaskName
from rcnn_jax.spec import mask_rules, rules
from rcnn_jax.spec.checks import Finding
from rcnn_jax.spec.schema import Node

TASKS: tuple[TaskName, ...] = ("train", "evaluate", "inference", "export")


def whole_findings(config: Node, kind: SpecKind, task: TaskName | None) -> Iterator[Finding]:
    """Yields every broken rule of a whole config.

    Args:
      config: the config, its fields checked one by one.
      kind: what it describes.
      task: the only task to check; None for all that the config is meant for, training included if it
        has a schedule, an optimizer or training data.
    """
    # First what holds for every task: an error in the canvas is reported once, not once per task.
    yield from rules.cross_field_findings(config, kind)
    if task is not None:
        yield from task_findings(config, kind, task)
    # Without a task (`spec check`) a deployment spec must not be told that it lacks a schedule.
    elif means_to_train(config, kind):
        yield from task_findings(config, kind, "train")


def unserved(config: Node, kind: SpecKind) -> dict[TaskName, list[Finding]]:
    """Returns {task: reasons} of the tasks that a valid config cannot serve."""
    if kind == "dataset_convert":
        return {}
    reasons: dict[TaskName, list[Finding]] = {
        task: [
            *task_findings(config, kind, task),
            # Only here: a command reports missing data when it opens them, with what the flags
            # name.
            *missing_data(config, kind, task),
        ]
        for task in TASKS
    }
    return {task: findings for task, findings in reasons.items() if findings}


def task_findings(config: Node, kind: SpecKind, task: TaskName) -> Iterator[Finding]:
    """Yields the broken rules of this task alone."""
    if kind == "faster_rcnn":
        if task == "train":
            yield from rules.faster_rcnn_training_rules(config)
        elif task == "evaluate":
            yield from rules.validation_source_rules(config.dataset_config)
    elif kind == "mask_rcnn" and task == "train":
        yield from mask_rules.mask_rcnn_training_rules(config)


def missing_data(config: Node, kind: SpecKind, task: TaskName) -> Iterator[Finding]:
    """Yields absent data fields; commands report them when they open the data."""
    if kind == "faster_rcnn":
        data = config.dataset_config
        if task == "train" and not _any(data, "data_sources", "tfds_name"):
            yield "dataset_config.data_sources", "or tfds_name must be given"
        if task == "evaluate" and not (
            data.validation_data_source.enabled
            or data.validation_fold is not None
            or data.tfds_name
        ):
            yield (
                "dataset_config.validation_fold",
                "or validation_data_source or tfds_name must be given",
            )
    elif kind == "mask_rcnn":
        data = config.data_config
        if task == "train" and not _any(
            data, "training_file_pattern", "coco_train_json", "tfds_name"
        ):
            yield (
                "data_config.training_file_pattern",
                "or coco_train_json or tfds_name must be given",
            )
        if task == "evaluate" and not _any(
            data, "validation_file_pattern", "coco_val_image_dir", "tfds_name"
        ):
            yield (
                "data_config.validation_file_pattern",
                "or coco_val_image_dir or tfds_name must be given",
            )
        if task == "evaluate" and not _any(data, "val_json_file", "tfds_name"):
            yield "data_config.val_json_file", "must be given"


def means_to_train(config: Node, kind: SpecKind) -> bool:
    """Returns whether the config has a schedule, an optimizer or training data at all."""
    if kind == "faster_rcnn":
        training = config.training_config
        choices = [
            *(training.optimizer[name] for name in ("sgd", "adam", "rmsprop", "adamw")),
            *(training.learning_rate[name] for name in ("soft_start", "step", "cosine")),
        ]
        return any(each.enabled for each in choices) or _any(
            config.dataset_config, "data_sources", "tfds_name"
        )
    if kind == "mask_rcnn":
        return _any(config, "total_steps", "num_epochs") or _any(
            config.data_config, "training_file_pattern", "coco_train_json", "tfds_name"
        )
    return False


def _any(config: Node, *names: str) -> bool:
    return any(config[name] for name in names)
