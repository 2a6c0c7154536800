"""Optimizer and learning rate of Faster R-CNN, from the names of the spec to words of the field."""

from rcnn_jax.settings.training import (
    CosineSchedule,
    OptimizerSettings,
    ScheduleSettings,
    SoftStartSchedule,
    StepSchedule,
)
from rcnn_jax.tasks.extensions import adamw_settings
from rcnn_jax.tasks.named_files import Config


def optimizer_settings(training: Config) -> OptimizerSettings:
    """Optimizer, penalties and rate factors of a `training_config`."""
    regularizer = training.regularizer
    penalties = {
        "l1": regularizer.weight if regularizer.type == "L1" else 0.0,
        "l2": regularizer.weight if regularizer.type == "L2" else 0.0,
        # Keras penalises weight * |w|^2: no half, so a factor of 2 in the gradient.
        "l2_factor": 2.0,
        "clip_norm": training.clip_norm,
        "ema_decay": training.ema_decay,
        "backbone_factor": training.backbone_lr_factor,
        "layer_decay": training.layer_decay,
        "heads_only_steps": training.heads_only_steps,
    }
    choice = training.optimizer
    if choice.adamw.enabled:
        return adamw_settings(choice.adamw, **{**penalties, "l1": 0.0, "l2": 0.0})
    if choice.adam.enabled:
        adam = choice.adam
        return OptimizerSettings(
            kind="adam",
            beta_1=adam.beta_1,
            beta_2=adam.beta_2,
            decay=adam.decay,
            amsgrad=adam.amsgrad,
            **penalties,
        )
    if choice.sgd.enabled:
        sgd = choice.sgd
        return OptimizerSettings(
            kind="sgd",
            momentum=sgd.momentum,
            nesterov=sgd.nesterov,
            decay=sgd.decay,
            **penalties,
        )
    # No field of the spec's `rmsprop` has an effect, as in the original; its constants are Keras'.
    return OptimizerSettings(kind="rmsprop", **penalties)


def schedule_settings(learning_rate: Config) -> ScheduleSettings:
    """Learning rate over the steps of a run, by the one block of `learning_rate` that is given."""
    if learning_rate.soft_start.enabled:
        soft = learning_rate.soft_start
        return SoftStartSchedule(
            base_lr=soft.base_lr,
            start_lr=soft.start_lr,
            soft_start=soft.soft_start,
            annealing_points=tuple(soft.annealing_points),
            annealing_divider=soft.annealing_divider,
        )
    if learning_rate.cosine.enabled:
        cosine = learning_rate.cosine
        return CosineSchedule(
            base_lr=cosine.base_lr,
            start_lr=cosine.start_lr,
            soft_start=cosine.soft_start,
            end_lr=cosine.end_lr,
        )
    step = learning_rate.step
    return StepSchedule(base_lr=step.base_lr, gamma=step.gamma, step_size=step.step_size)
