"""A course corrects a plan half-way through what is left, by what was measured since."""

import itertools

import numpy as np
import pytest

from rcnn_jax.train.course import Course
from rcnn_jax.train.time_plan import LEAST_LEFT, Costs, TimePlan, milestones_left, plan_steps

PER_EPOCH = 100


def finished_after(minutes, seconds_per_step, *, thought=0.5, validation=8.0, validations=4):
    """(seconds of a whole run, its plans) with a clock of our own, in which every step takes its time."""
    now = [0.0]
    costs = Costs(step=thought, save=0.2, validation=10.0)
    plan = plan_steps(
        TimePlan(minutes=minutes, written_steps=1000),
        left=minutes * 60,
        taken=0,
        costs=costs,
        steps_per_epoch=PER_EPOCH,
        validations=validations,
    )
    course = Course(
        plan,
        step=0,
        costs=costs,
        deadline=minutes * 60,
        steps_per_epoch=PER_EPOCH,
        clock=lambda: now[0],
    )
    plans, step, validated = [plan], 0, []
    while step < plan.total_steps:
        left = milestones_left(plan, step)
        step += 1
        now[0] += seconds_per_step(step)
        if milestones_left(plan, step) < left:
            now[0] += validation + 0.6
            course.leave_out(validation + 0.6, validated=True)
            validated.append(step)
        elif step % PER_EPOCH == 0:
            now[0] += 0.2
            course.leave_out(0.2, validated=False)
        elif course.is_due(step) and step < plan.total_steps:
            plan = course.correct(plan, step, np.zeros(()))
            plans.append(plan)
    assert validated[-1] == step and len(validated) <= milestones_left(plans[0], 0)
    gaps = [b - a for a, b in itertools.pairwise(validated)]
    assert all(gap > plans[0].period / 2 for gap in gaps), (validated, plans)
    return now[0], plans


@pytest.mark.parametrize("minutes", [5.0, 25.0])
@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_first_steps_that_were_mistimed_cost_no_time(minutes, factor):
    seconds, plans = finished_after(minutes, lambda step: 0.5 * factor)
    assert seconds == pytest.approx(minutes * 60, rel=0.03)
    assert len(plans) > 3


def test_a_machine_that_becomes_busy_ends_in_time():
    def busy(step):
        return 0.5 if step < 150 else 0.8

    seconds, plans = finished_after(5.0, busy)
    assert seconds == pytest.approx(300.0, rel=0.03)
    assert plans[-1].total_steps < plans[0].total_steps


def test_the_last_seconds_are_left_alone():
    seconds, plans = finished_after(1.0, lambda step: 0.5, validation=1.0, validations=1)
    late = [plan for plan in plans if plan == plans[-1]]
    assert len(late) > 1  # asked again, and not changed
    assert seconds < 60.0 + LEAST_LEFT
