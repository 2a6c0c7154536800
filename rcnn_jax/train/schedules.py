"""Learning rate schedules: functions of the step, traced into the train step, so jnp throughout."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rcnn_jax.settings.training import (
    CosineSchedule,
    ScheduleSettings,
    SoftStartSchedule,
    StepSchedule,
    WarmupSchedule,
)

Schedule = Callable[[jax.Array], jax.Array]
"""From the step, i32[], to the learning rate, f32[]."""


def make_schedule(settings: ScheduleSettings, total_steps: int, scale: float = 1.0) -> Schedule:
    """Returns the schedule that the settings describe, multiplied by scale.

    Args:
      settings: which schedule with what numbers.
      total_steps: length of the run that fractions refer to.
      scale: factor on every rate, the number of devices where the rate is scaled by it.
    """
    match settings:
        case SoftStartSchedule():
            rate = _soft_start(settings, total_steps)
        case StepSchedule():
            rate = _step(settings, total_steps)
        case CosineSchedule():
            rate = _cosine(settings, total_steps)
        case WarmupSchedule():
            rate = _warmup(settings, total_steps)
    return lambda step: jnp.asarray(rate(step) * scale, jnp.float32)


def _rise(base_lr: float, start_lr: float, fraction: float, progress: jax.Array) -> jax.Array:
    return start_lr + (base_lr - start_lr) * progress / max(fraction, 1e-12)


def _soft_start(settings: SoftStartSchedule, total_steps: int) -> Schedule:
    """Rise, then base_lr divided once for every annealing point that has passed.

    Source: docs/reference/faster_rcnn.md, "Learning rate".
    """
    # Counted by comparing with all points: a Python branch on the step cannot be traced, and there
    # are a handful of them.
    points = jnp.asarray(settings.annealing_points, jnp.float32)

    def rate(step: jax.Array) -> jax.Array:
        progress = step.astype(jnp.float32) / total_steps
        passed = jnp.sum(points < progress).astype(jnp.float32)
        level = settings.base_lr / settings.annealing_divider**passed
        rise = _rise(settings.base_lr, settings.start_lr, settings.soft_start, progress)
        return jnp.where(progress < settings.soft_start, rise, level)

    return rate


def _step(settings: StepSchedule, total_steps: int) -> Schedule:
    """A staircase. Deviation: the original raises gamma to a fraction, which decays smoothly."""
    # At least one step: a run shorter than 100 / step_size steps would divide by zero.
    span = max(1, int(total_steps * settings.step_size / 100.0))

    def rate(step: jax.Array) -> jax.Array:
        return settings.base_lr * jnp.float32(settings.gamma) ** (step // span).astype(jnp.float32)

    return rate


def _cosine(settings: CosineSchedule, total_steps: int) -> Schedule:
    """Rise, then half a cosine (an extension)."""
    falling = max(1.0 - settings.soft_start, 1e-12)

    def rate(step: jax.Array) -> jax.Array:
        progress = step.astype(jnp.float32) / total_steps
        phase = jnp.clip((progress - settings.soft_start) / falling, 0.0, 1.0)
        height = 0.5 * (1.0 + jnp.cos(jnp.pi * phase))
        fall = settings.end_lr + (settings.base_lr - settings.end_lr) * height
        rise = _rise(settings.base_lr, settings.start_lr, settings.soft_start, progress)
        return jnp.where(progress < settings.soft_start, rise, fall)

    return rate


def _warmup(settings: WarmupSchedule, total_steps: int) -> Schedule:
    """Source: docs/reference/mask_rcnn.md, "Learning rate"; the cosine is an extension."""
    edges = jnp.asarray(settings.boundaries, jnp.int32)
    # The 1 in front is the level before the first boundary, so the number of boundaries passed is
    # the index.
    factors = jnp.asarray((1.0, *settings.levels), jnp.float32)
    fall_steps = max(total_steps - settings.warmup_steps, 1)

    def height(step: jax.Array) -> jax.Array:
        if settings.fall == "piecewise":
            return factors[jnp.sum(step >= edges)]
        phase = (step - settings.warmup_steps).astype(jnp.float32) / fall_steps
        return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(phase, 0.0, 1.0)))

    def rate(step: jax.Array) -> jax.Array:
        progress = step.astype(jnp.float32) / max(settings.warmup_steps, 1)
        rise = _rise(settings.init_lr, settings.warmup_lr, 1.0, progress)
        return jnp.where(step < settings.warmup_steps, rise, settings.init_lr * height(step))

    return rate
