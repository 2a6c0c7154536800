"""Experiment: the task and every setting around it as one value, read from a config once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.kinds import Kind
from rcnn_jax.settings.data import (
    AugmentSettings,
    GeometrySettings,
    GroundTruthSettings,
    TilingSettings,
)
from rcnn_jax.settings.metrics import MetricSettings
from rcnn_jax.settings.training import (
    OptimizerSettings,
    QatSettings,
    RunSettings,
    ScheduleSettings,
    TeacherSettings,
)
from rcnn_jax.tasks.task import Task, TestSettings


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """Starting weights of a fresh workdir; at most one path is used, in this order.

    Attributes:
      resume_from: training bundle to continue.
      pruned: pruned bundle to retrain.
      pretrained: file of weights loaded by name.
      skip: regular expression; layers of `pretrained` whose name it finds are not loaded.
      min_coverage: least fraction of the backbone that `pretrained` must fill.
    """

    resume_from: str = ""
    pruned: str = ""
    pretrained: str = ""
    skip: str = ""
    min_coverage: float = 0.5


@dataclass(frozen=True, kw_only=True)
class SpecRecord:
    """The spec of an experiment as files and resumes keep it, without keys.

    Below the commands nobody reads settings from here; they are in the other attributes of `Experiment`.

    Attributes:
      text: in protobuf text form, with every field.
      fields: the same as JSON values, {name of the spec: value or fields}.
    """

    text: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All settings of a command, in the words of the field.

    Attributes:
      kind: which detector.
      task: the algorithm over its model.
      seed: of weights, shuffling and augmentation.
      geometry: from image file to canvas.
      augment: random changes of training images, or None.
      train_gt: padding of training annotations.
      eval_gt: padding of evaluation annotations; None where the metrics read their own.
      batch_per_device: training images that a device takes at a time; 0 for the most that fit.
      amp_dtype: what mixed precision computes in, where it is asked for.
      eval_batch: images per evaluation step.
      inference_batch: images per inference step.
      threads: loader threads.
      prefetch: batches held ready.
      optimizer: optimizer and penalties.
      schedule: learning rate.
      run: length and periods.
      start: weights to start from.
      evaluation: thresholds of evaluate.
      inference: thresholds of inference.
      metrics: what evaluate computes.
      visualize_threshold: least score of a drawn or dumped detection.
      captions: write class and score at every drawn box.
      notes: what the user should know of this reading of the config, one sentence each.
      train_source: opens the training images.
      eval_source: opens the validation images; None when the spec names none.
      category_ids: category id of every class in result files, 0 for none; None where results name
        classes by their names.
      spec: the spec as it is written down.
      depends: fields of the config that trained weights depend on, see `tasks.dependence`.
      qat: quantisation-aware training; None in float.
      teacher: the model that training imitates, or None.
      repeat_threshold: of repeat-factor sampling, see `data.loader.repeats`; 0 for none.
      tiling: how images are cut into tiles, or None; the sources hold whole images.
    """

    kind: Kind
    task: Task
    seed: int
    geometry: GeometrySettings
    augment: AugmentSettings | None
    train_gt: GroundTruthSettings
    eval_gt: GroundTruthSettings | None
    batch_per_device: int
    eval_batch: int
    inference_batch: int
    threads: int
    prefetch: int
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    run: RunSettings
    start: StartSettings
    evaluation: TestSettings
    inference: TestSettings
    metrics: MetricSettings
    visualize_threshold: float
    captions: bool
    train_source: Callable[[], Source]
    eval_source: Callable[[], Source] | None
    category_ids: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    spec: SpecRecord = field(default_factory=SpecRecord)
    depends: Mapping[str, Any] = field(default_factory=dict)
    amp_dtype: str = "bfloat16"
    qat: QatSettings | None = None
    teacher: TeacherSettings | None = None
    repeat_threshold: float = 0.0
    tiling: TilingSettings | None = None
