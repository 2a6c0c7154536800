"""Time plan: how many steps and validations end a run after a wanted time. Arithmetic alone, no clock.

    what a step, a validation and a checkpoint cost  +  time left  -->  length and periods of the run

The plan is made when the first steps have been timed, and corrected as the run goes on: on a machine with
other work a step takes a fifth longer in one minute than in the next. It is stored with every checkpoint;
a resume goes on by it, bit for bit, and ends after the step that it names.
"""

import dataclasses
import math
from dataclasses import dataclass

FIRST_STEPS = 20
"""Steps that are timed."""

WARM_STEPS = 4
"""Of them, not counted: the pipeline fills, and memory is touched for the first time."""

LEAST_SECONDS = 5.0
"""Fast steps are timed for at least so long: batches that were made ahead flatter the first ones."""

MOST_STEPS = 200
"""The plan is made here at the latest."""

LEAST_LEFT = 15.0
"""Seconds below which a plan is left as it is: there is little to win, and the rate should settle."""

_VALIDATING = 0.1  # of the time: in five minutes one validation more is forty steps fewer
_LEAVING = 1.0  # seconds from the last checkpoint to the end of the process
_SAVES_OF_VALIDATION = 3  # the steps before it, the model after it, the milestone


@dataclass(frozen=True, kw_only=True)
class TimePlan:
    """The length of a run that is to end after a wanted time.

    Attributes:
      minutes: the wanted time.
      written_steps: length that the spec states, which the learning rate is stretched from.
      total_steps: planned length; 0 until the steps have been timed.
      period: steps between validations and between model files; 0 until then.
      since: step that periods are counted from: that of a milestone or of a correction.
    """

    minutes: float
    written_steps: int
    total_steps: int = 0
    period: int = 0
    since: int = 0

    @property
    def tempo(self) -> float:
        """Steps of the written schedule per step of the run."""
        return self.written_steps / self.total_steps if self.total_steps else 1.0


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of the parts of a run, in seconds.

    Attributes:
      step: one step.
      save: writing one checkpoint or model file.
      validation: one validation; 0 without validation data.
    """

    step: float
    save: float
    validation: float

    @property
    def milestone(self) -> float:
        """A validation with all files that are written around it."""
        return self.validation + _SAVES_OF_VALIDATION * self.save


def plan_steps(
    plan: TimePlan,
    *,
    left: float,
    taken: int,
    costs: Costs,
    steps_per_epoch: int,
    validations: int,
) -> TimePlan:
    """Returns the plan with its length and period.

    At most a tenth of the time goes into validations, but there is always one at the end.

    Args:
      plan: as it was wished.
      left: seconds until the run should have ended.
      taken: steps that were taken already.
      costs: of the parts.
      steps_per_epoch: every epoch ends with a checkpoint.
      validations: that the spec asks for over the whole run, at least 1.
    """
    count = (
        int(_VALIDATING * max(left, 0.0) / costs.milestone) if costs.milestone > 0 else validations
    )
    count = min(max(count, 1), max(validations, 1))
    training = left - count * costs.milestone - _LEAVING
    steps = max(int(training / (costs.step + costs.save / steps_per_epoch)), 1)
    total = taken + steps
    return dataclasses.replace(plan, total_steps=total, period=math.ceil(total / count))


def seconds_of(plan: TimePlan, *, taken: int, costs: Costs, steps_per_epoch: int) -> float:
    """Returns how long a planned run takes from `taken` steps to its end.

    Args:
      plan: with its length.
      taken: steps that were taken already.
      costs: of the parts.
      steps_per_epoch: every epoch ends with a checkpoint.
    """
    total = plan.total_steps
    milestones = milestones_left(plan, taken)
    epochs = total // steps_per_epoch - taken // steps_per_epoch
    return (
        (total - taken) * costs.step + epochs * costs.save + milestones * costs.milestone + _LEAVING
    )


def milestones_left(plan: TimePlan, taken: int) -> int:
    """Returns how many validations come after `taken` steps, the one at the end included."""
    whole, rest = divmod(plan.total_steps - plan.since, plan.period)
    return whole + (rest > 0) - (taken - plan.since) // plan.period


def corrected(
    plan: TimePlan, *, left: float, taken: int, costs: Costs, steps_per_epoch: int
) -> TimePlan:
    """Returns a plan with a length that ends in time, and no more validations than it had.

    Args:
      plan: with its length.
      left: seconds until the run should have ended.
      taken: steps that were taken already, fewer than its length.
      costs: of the parts, as they were measured since.
      steps_per_epoch: every epoch ends with a checkpoint.
    """
    step = costs.step + costs.save / steps_per_epoch
    # From the last milestone on, with about as many steps between two of them as there were: a run that
    # has become shorter has fewer, and not its last two at its very end.
    since = taken - (taken - plan.since) % plan.period
    most = milestones_left(plan, taken)
    for count in range(most, 0, -1):
        training = left - count * costs.milestone - _LEAVING
        total = taken + max(int(training / step), 1)
        if count == 1 or round((total - since) / plan.period) >= count:
            break
    period = math.ceil((total - since) / count)
    if since + period <= taken:  # the next one would lie behind
        count = max(min(round((total - taken) / plan.period), count), 1)
        since, period = taken, math.ceil((total - taken) / count)
    return dataclasses.replace(plan, total_steps=total, period=period, since=since)
