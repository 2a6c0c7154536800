"""Settings of training: optimizer, learning-rate schedules, length of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Optimizer and penalties; the learning rate comes from a schedule.

    Attributes:
      kind: `sgd`, `adam`, `adamw` or `rmsprop`.
      momentum: sgd.
      nesterov: sgd.
      beta_1: adam, adamw.
      beta_2: adam, adamw.
      epsilon: adam, adamw, rmsprop.
      amsgrad: adam.
      rho: rmsprop.
      decay: the rate is divided by 1 + decay * step.
      weight_decay: adamw; a step takes this part of a kernel away, times its learning rate.
      l1: weight of the L1 penalty on kernels.
      l2: weight of the L2 penalty, the gradient of l2 * |w|^2 / 2 * l2_factor.
      l2_factor: 2.0 where the penalty is l2 * |w|^2 (Keras), 1.0 where it is half of that.
      regularize: which leaves are penalised: `kernels`, or `kernels_and_gamma` (TAO Mask R-CNN).
      bias_gradient_factor: gradients of biases and betas are multiplied by this.
      clip_norm: global norm the gradients are clipped to; 0 for none.
      ema_decay: weight of the old average in a step; 0 for no average.
      backbone_factor: the rate of the backbone is multiplied by this.
      layer_decay: the rate of a block of the backbone is multiplied by this once for every block between
        it and the heads, and once more.
      heads_only_steps: first steps in which the backbone keeps its values and statistics.
    """

    kind: Literal["sgd", "adam", "adamw", "rmsprop"]
    momentum: float = 0.0
    nesterov: bool = False
    beta_1: float = 0.9
    beta_2: float = 0.999
    # Keras' constant, whatever a spec says: tuned specs carry values that never had an effect.
    epsilon: float = 1e-7
    amsgrad: bool = False
    rho: float = 0.9
    decay: float = 0.0
    weight_decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    l2_factor: float = 1.0
    regularize: Literal["kernels", "kernels_and_gamma"] = "kernels"
    bias_gradient_factor: float = 1.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    backbone_factor: float = 1.0
    layer_decay: float = 1.0
    heads_only_steps: int = 0


# Periods and annealing points are fractions of the run, so that a longer run anneals later; Mask
# R-CNN's schedule has steps, as its spec does.
@dataclass(frozen=True, kw_only=True)
class SoftStartSchedule:
    """Linear rise over a fraction of the run, then divided at every annealing point, a fraction too."""

    base_lr: float
    start_lr: float
    soft_start: float
    annealing_points: tuple[float, ...]
    annealing_divider: float


@dataclass(frozen=True, kw_only=True)
class StepSchedule:
    """base_lr * gamma^n with n the completed spans of `step_size` percent of the run."""

    base_lr: float
    gamma: float
    step_size: float


@dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """Linear rise over a fraction of the run, then half a cosine down to end_lr."""

    base_lr: float
    start_lr: float
    soft_start: float
    end_lr: float


@dataclass(frozen=True, kw_only=True)
class WarmupSchedule:
    """Linear warm-up over steps, then a fall.

    Attributes:
      init_lr: rate after the warm-up.
      warmup_lr: rate of the first step.
      warmup_steps: length of the rise.
      fall: `piecewise`, init_lr times the level of the last boundary reached; `cosine`, half a
        cosine from init_lr to 0 at the end of the run (an extension).
      boundaries: steps at which the rate falls.
      levels: factor of init_lr from each boundary on.
    """

    init_lr: float
    warmup_lr: float
    warmup_steps: int
    fall: Literal["piecewise", "cosine"] = "piecewise"
    boundaries: tuple[int, ...] = ()
    levels: tuple[float, ...] = ()


ScheduleSettings = SoftStartSchedule | StepSchedule | CosineSchedule | WarmupSchedule


@dataclass(frozen=True, kw_only=True)
class QatSettings:
    """Quantisation-aware training: when it begins, and how ranges are calibrated.

    Attributes:
      start: below 1 the fraction of the run that trains in float first, else that many epochs.
      method: choice of the range of a tensor, as of `export --cal_method`.
      batches: number of calibration batches.
      batch_size: images in each.
    """

    start: float = 0.0
    method: Literal["max", "percentile", "entropy"] = "percentile"
    batches: int = 10
    batch_size: int = 8

    def first_step(self, steps_per_epoch: int, total_steps: int) -> int:
        """Returns the number of steps that are taken in float."""
        steps = self.start * (total_steps if self.start < 1 else steps_per_epoch)
        return min(round(steps), total_steps)


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """Distillation: whom a model imitates, and how much.

    Attributes:
      model: file of the teacher.
      weight: of each of its two loss terms.
    """

    model: str
    weight: float = 1.0


TrackerName = Literal["wandb", "clearml", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """An experiment tracker that the numbers of a run are sent to.

    Attributes:
      name: which one.
      options: fields of its block in the spec that are set.
      secrets: values among them that no message may show.
    """

    name: TrackerName
    options: Mapping[str, Any] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Length of a run and periods of its milestones; 0 for never.

    Attributes:
      num_epochs: length in epochs; 0 when total_steps gives it.
      total_steps: length in steps; 0 when num_epochs gives it.
      evaluate_epochs: epochs between validations.
      evaluate_steps: steps between validations.
      save_epochs: epochs between bundles.
      save_steps: steps between bundles.
      log_steps: steps between lines of metrics.jsonl and TensorBoard.
      keep_checkpoints: newest resumable checkpoints kept.
      monitor: what ends a run early when it gets no better: the training `loss` of the epochs, or the
        main metric of the validations, `map`.
      patience: epochs, or validations, without a gain before the run ends early; 0 for never.
      min_delta: a loss, or a metric, counts as better when it is so by more than this.
      accumulate_steps: parts of a step that a device computes one after the other.
      sharding: `fsdp` divides weights and optimizer state among the devices.
      lr_scaling: the learning rate is multiplied by the number of devices, or not.
      images_in_tensorboard: augmented images written at the start.
      detections_in_tensorboard: validation images written with their detections, per validation.
      tensorboard: write TensorBoard files.
      weight_histograms: write histograms of the weights after every epoch.
      trackers: other places that the numbers are sent to.
    """

    num_epochs: int = 0
    total_steps: int = 0
    evaluate_epochs: int = 0
    evaluate_steps: int = 0
    save_epochs: int = 0
    save_steps: int = 0
    log_steps: int = 10
    keep_checkpoints: int = 2
    monitor: Literal["loss", "map"] = "loss"
    patience: int = 0
    min_delta: float = 0.0
    accumulate_steps: int = 1
    sharding: Literal["none", "fsdp"] = "none"
    lr_scaling: Literal["devices", "none"] = "none"
    images_in_tensorboard: int = 0
    detections_in_tensorboard: int = 0
    tensorboard: bool = True
    weight_histograms: bool = False
    trackers: tuple[TrackerSettings, ...] = ()
