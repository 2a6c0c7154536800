"""Advice on retraining a pruned model: what the log says of rate and penalty before the first step."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp

from rcnn_jax.checkpoints.bundle import Bundle
from rcnn_jax.checkpoints.state import stored_experiment
from rcnn_jax.errors import RcnnError
from rcnn_jax.settings.training import ScheduleSettings
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.train.schedules import make_schedule

SMALL = 0.5
"""Fraction of the first training's largest rate below which retraining falls short of it."""
STEPS = 200
"""A schedule is looked at in a run of so many steps."""


def retrain_notes(experiment: Experiment, bundle: Bundle, name: str) -> list[str]:
    """Lists the facts that matter before a model is retrained, one sentence each.

    Args:
      experiment: the run that is about to begin.
      bundle: what it begins with.
      name: of the file.
    """
    notes = [
        *_size(bundle, name),
        f"the schedule of the spec starts anew, warm-up included: its largest rate is "
        f"{_peak(experiment):g}",
    ]
    if experiment.optimizer.l2:
        notes.append(
            f"the L2 penalty ({experiment.optimizer.l2:g}) is on: NVIDIA advises none or a smaller one "
            "for retraining a pruned model"
        )
    return notes


def retrain_warnings(experiment: Experiment, bundle: Bundle) -> list[str]:
    """Lists the settings that keep a retrained model below the first one, one sentence each.

    Args:
      experiment: the run that is about to begin.
      bundle: what it begins with.
    """
    return [*_small_rates(experiment, bundle), *_penalty(experiment)]


def largest_rate(schedule: ScheduleSettings, run_steps: int = STEPS) -> float:
    """Returns the largest learning rate of a schedule."""
    rate = make_schedule(schedule, run_steps)
    return max(float(rate(jnp.int32(step))) for step in range(run_steps))


def _size(bundle: Bundle, name: str) -> Iterator[str]:
    history = bundle.header.get("pruning") or []
    records = [record for record in history if _has_counts(record)]
    if records:
        # From the first pruning on: retraining and pruning may have taken turns.
        before, after = records[0]["parameters"][0], records[-1]["parameters"][1]
        yield f"retraining {name}: {after:,} of {before:,} parameters ({after / before:.1%})"
    else:
        yield f"retraining {name}"


def _has_counts(record: Any) -> bool:
    counts = record.get("parameters") if isinstance(record, dict) else None
    return (
        isinstance(counts, list)
        and len(counts) == 2
        and all(type(count) is int and count > 0 for count in counts)
    )


def _small_rates(experiment: Experiment, bundle: Bundle) -> Iterator[str]:
    try:
        before = _peak(stored_experiment(bundle, "the pruned model"))
    except RcnnError:  # a spec that this release cannot read says nothing
        return
    now = _peak(experiment)
    if now < SMALL * before:
        yield (
            f"the model was first trained with rates up to {before:g}, this spec goes up to {now:g}: "
            "networks hardly recover from pruning with small steps. Use the base rate of the first "
            "training, with its warm-up, for half to all of its length"
        )


def _peak(experiment: Experiment) -> float:
    # a warm-up in steps may be longer than the run that is looked at
    steps = getattr(experiment.schedule, "warmup_steps", 0) + STEPS
    return largest_rate(experiment.schedule, steps)


def _penalty(experiment: Experiment) -> Iterator[str]:
    if experiment.optimizer.l1:
        yield (
            f"the L1 penalty ({experiment.optimizer.l1:g}) is on: it prepares filters for pruning, and "
            "afterwards it holds weights back; retrain with NO_REG or a small L2 penalty"
        )
