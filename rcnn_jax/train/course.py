"""The course of a planned run: steps are timed on, and half-way to its end it is planned again.

    20 steps -> plan -> half of the rest -> correction -> half of the rest -> correction -> end in time

The first steps tell the time of a step to a tenth or two: the first batches are ready before they are
wanted, and other work on the machine comes and goes. Halving leaves an error of the last stretch alone,
and corrects often where it matters and seldom where a jump of the learning rate would.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from rcnn_jax.train.time_plan import LEAST_LEFT, Costs, TimePlan, corrected


class Course:
    """Costs of a planned run as they are measured, and the step at which they are used."""

    def __init__(
        self,
        plan: TimePlan,
        *,
        step: int,
        costs: Costs,
        deadline: float,
        steps_per_epoch: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Begins at a step, with a plan that was made there.

        Args:
          plan: with its length.
          step: steps taken so far.
          costs: that it was made with.
          deadline: value of the clock at which the run should have ended.
          steps_per_epoch: every epoch ends with a checkpoint.
          clock: in seconds.
        """
        self._costs = costs
        self._deadline = deadline
        self._steps_per_epoch = steps_per_epoch
        self._clock = clock
        self._begin(step, plan)

    def is_due(self, step: int) -> bool:
        """Tells whether the plan is to be corrected after so many steps."""
        return step >= self._next

    def leave_out(self, seconds: float, *, validated: bool) -> None:
        """Takes the time of a milestone, which is no time of steps."""
        self._begun += seconds
        if validated:
            # With the files around it: they are counted by the milestone, see `Costs`.
            files = self._costs.milestone - self._costs.validation
            self._costs = dataclasses.replace(self._costs, validation=max(seconds - files, 0.0))

    def correct(self, plan: TimePlan, step: int, metrics: Any) -> TimePlan:
        """Returns the plan by what steps and validations took since the last correction.

        Args:
          plan: so far.
          step: steps taken so far.
          metrics: of that step, which are waited for.
        """
        jax.block_until_ready(metrics)
        seconds = max(self._clock() - self._begun, 1e-6) / (step - self._first)
        self._costs = dataclasses.replace(self._costs, step=seconds)
        left = self._deadline - self._clock()
        # Otherwise a run that is late already would end with a jump of the learning rate.
        if left >= LEAST_LEFT:
            plan = corrected(
                plan,
                left=left,
                taken=step,
                costs=self._costs,
                steps_per_epoch=self._steps_per_epoch,
            )
        self._begin(step, plan)
        return plan

    def _begin(self, step: int, plan: TimePlan) -> None:
        self._first, self._begun = step, self._clock()
        self._next = step + max((plan.total_steps - step) // 2, 1)
