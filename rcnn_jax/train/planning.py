"""The moments at which a run learns its length: its first steps are timed, the rest is planned.

What is left is planned with what a validation and a checkpoint cost, both tried here: the prediction is
compiled, which the first validation would do anyway, and the plan is saved with the steps. A correction
is saved with the next checkpoint: a resume from an earlier one goes on by the plan that it knew.
"""

import dataclasses
import time
from typing import Any

import numpy as np

from rcnn_jax.checkpoints.state import variables_of
from rcnn_jax.train import parallel
from rcnn_jax.train.course import Course
from rcnn_jax.train.milestones import save
from rcnn_jax.train.run import Run, planned
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.time_plan import Costs, TimePlan, milestones_left, plan_steps, seconds_of

_WORTH_A_NOTE = 0.05


def plan_length(
    run: Run, progress: RunState, replicas: Any, seconds: float
) -> tuple[Run, RunState, Any, Course]:
    """Returns the run, its progress and its state on the devices, all with the planned length.

    With them comes the course that keeps the run to its time.

    Args:
      run: a run to be planned.
      progress: of the step at hand.
      replicas: state on the devices.
      seconds: of a step.
    """
    plan = progress.plan
    assert plan is not None
    deadline = run.options.deadline
    if deadline is None:  # a resume without the flag, of a run that was stopped before its plan
        deadline = time.monotonic() + plan.minutes * 60 - progress.step * seconds
    state = parallel.first_replica(replicas, run.devices)
    validation = run.validate.seconds(variables_of(state)) if run.validate is not None else 0.0
    begun = time.monotonic()
    save(run, state, progress)
    costs = Costs(step=seconds, save=time.monotonic() - begun, validation=validation)
    written = run.written
    wished = written.total_steps // written.evaluate_every if written.evaluate_every else 1
    left = deadline - time.monotonic() - costs.save  # saved again below, with the plan
    plan = plan_steps(
        plan,
        left=left,
        taken=progress.step,
        costs=costs,
        steps_per_epoch=written.steps_per_epoch,
        validations=wished,
    )
    state = state.replace(tempo=np.float32(plan.tempo))
    progress = dataclasses.replace(progress, plan=plan)
    save(run, state, progress)
    _say(run, progress, costs, left)
    course = Course(
        plan,
        step=progress.step,
        costs=costs,
        deadline=deadline,
        steps_per_epoch=written.steps_per_epoch,
    )
    return planned(run, plan), progress, _at_tempo(run, plan, replicas), course


def correct_length(
    run: Run, progress: RunState, replicas: Any, course: Course, step: int, metrics: Any
) -> tuple[Run, RunState, Any]:
    """Returns the run, its progress and its state on the devices, all with the corrected length.

    Args:
      run: a planned run.
      progress: of the last milestone.
      replicas: state on the devices.
      course: of the run.
      step: steps taken so far.
      metrics: of that step.
    """
    before = progress.plan
    assert before is not None
    plan = course.correct(before, step, metrics)
    if abs(plan.total_steps - before.total_steps) > _WORTH_A_NOTE * before.total_steps:
        run.reporter.note(
            f"corrected by the time that steps have taken: {plan.total_steps} steps instead of "
            f"{before.total_steps}"
        )
    progress = dataclasses.replace(progress, plan=plan)
    return planned(run, plan), progress, _at_tempo(run, plan, replicas)


def _at_tempo(run: Run, plan: TimePlan, replicas: Any) -> Any:
    # A value of the state and no constant of the step, which would be compiled again.
    tempo = parallel.replicate(np.float32(plan.tempo), run.devices)
    return replicas.replace(tempo=tempo)


def _say(run: Run, progress: RunState, costs: Costs, left: float) -> None:
    plan = progress.plan
    assert plan is not None
    per_epoch = run.written.steps_per_epoch
    needed = seconds_of(plan, taken=progress.step, costs=costs, steps_per_epoch=per_epoch)
    validations = milestones_left(plan, 0) if run.validate is not None else 0
    run.reporter.note(
        f"planned for {plan.minutes:g} minutes: {plan.total_steps} steps "
        f"({plan.total_steps / per_epoch:.1f} epochs) of {costs.step:.2f} s and {validations} "
        f"validations of {costs.validation:.1f} s"
    )
    if needed > 1.05 * left + 1.0:
        run.reporter.warn(
            f"{plan.minutes:g} minutes are too few: start, one step and a validation take "
            f"{plan.minutes + (needed - left) / 60:.1f}"
        )
