"""A time plan is arithmetic: what it promises is what its parts add up to."""

import pytest

from rcnn_jax.train.time_plan import (
    Costs,
    TimePlan,
    corrected,
    milestones_left,
    plan_steps,
    seconds_of,
)

COSTS = Costs(step=0.5, save=1.0, validation=12.0)


def planned(left, costs=COSTS, taken=20, steps_per_epoch=100, validations=4):
    wish = TimePlan(minutes=20.0, written_steps=1000)
    return plan_steps(
        wish,
        left=left,
        taken=taken,
        costs=costs,
        steps_per_epoch=steps_per_epoch,
        validations=validations,
    )


def test_a_plan_worked_out_by_hand():
    # Two validations of 15 s (with three files) and one second to leave: 969 s for steps of 0.51 s.
    plan = planned(1000.0, validations=2)
    assert plan.total_steps == 20 + 1900
    assert plan.period == 960
    assert plan.tempo == pytest.approx(1000 / 1920)
    assert (plan.minutes, plan.written_steps) == (20.0, 1000)


@pytest.mark.parametrize("left", [60.0, 117.0, 290.0, 1170.0, 6000.0, 86_000.0])
@pytest.mark.parametrize("steps_per_epoch", [3, 103, 5000])
@pytest.mark.parametrize(
    "costs",
    [
        COSTS,
        Costs(step=0.05, save=0.3, validation=4.0),
        Costs(step=0.9, save=0.1, validation=0.0),
    ],
)
def test_the_parts_of_a_plan_add_up_to_the_time_within_three_percent(left, steps_per_epoch, costs):
    plan = planned(left, costs, steps_per_epoch=steps_per_epoch)
    needed = seconds_of(plan, taken=20, costs=costs, steps_per_epoch=steps_per_epoch)
    slack = max(0.03 * left, costs.step + costs.save)
    assert left - slack <= needed <= left + slack


def test_validations_take_a_tenth_at_most_and_the_last_is_never_left_out():
    assert planned(1000.0).period * 4 >= planned(1000.0).total_steps
    slow = Costs(step=0.5, save=1.0, validation=47.0)
    plan = planned(1000.0, slow)
    assert plan.period == -(-plan.total_steps // 2)  # 2 x 50 s of 1000 s
    assert planned(200.0, slow).period == planned(200.0, slow).total_steps


def test_no_time_left_still_takes_one_step():
    for left in (10.0, 0.0, -50.0):
        plan = planned(left)
        assert plan.total_steps == 21
        assert plan.period == 21


def test_an_unplanned_schedule_runs_at_its_own_tempo():
    assert TimePlan(minutes=2.0, written_steps=100).tempo == 1.0
    assert TimePlan(minutes=2.0, written_steps=100, total_steps=400, period=400).tempo == 0.25


def test_a_correction_keeps_the_distance_of_validations():
    plan = TimePlan(minutes=20.0, written_steps=1000, total_steps=400, period=100)
    assert [milestones_left(plan, step) for step in (0, 99, 100, 399, 400)] == [4, 4, 3, 1, 0]
    # Steps take twice as long as was thought: of three validations two are left, 9 s each, and of 178 s
    # 159 for steps.
    slow = Costs(step=1.0, save=0.0, validation=9.0)
    later = corrected(plan, left=178.0, taken=150, costs=slow, steps_per_epoch=10_000)
    assert (later.total_steps, later.since, later.period) == (309, 100, 105)
    assert milestones_left(later, 150) == 2
    assert later.tempo == pytest.approx(1000 / 309)
    assert (later.minutes, later.written_steps) == (20.0, 1000)


def test_a_validation_whose_step_has_passed_comes_later():
    plan = TimePlan(minutes=20.0, written_steps=1000, total_steps=400, period=200)
    costs = Costs(step=1.0, save=0.0, validation=9.0)
    # The end moves to step 220, and half-way to it would have been step 110.
    later = corrected(plan, left=89.0, taken=150, costs=costs, steps_per_epoch=10_000)
    assert (later.total_steps, later.since, later.period) == (229, 0, 229)
    far = TimePlan(minutes=20.0, written_steps=1000, total_steps=1000, period=150)
    later = corrected(far, left=200.0, taken=149, costs=costs, steps_per_epoch=10_000)
    assert later.since + later.period > 149
    assert milestones_left(later, 149) >= 1


@pytest.mark.parametrize("taken", [30, 240, 250, 333, 700, 949])
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_a_corrected_plan_ends_in_time_too(taken, factor):
    plan = planned(1000.0)
    costs = Costs(step=0.5 * factor, save=1.0, validation=12.0)
    left = factor * 0.5 * (plan.total_steps - taken) * 0.9
    later = corrected(plan, left=left, taken=taken, costs=costs, steps_per_epoch=100)
    assert 1 <= milestones_left(later, taken) <= milestones_left(plan, taken)
    needed = seconds_of(later, taken=taken, costs=costs, steps_per_epoch=100)
    assert needed == pytest.approx(left, abs=3.0)


def test_a_correction_out_of_time_takes_one_step_more():
    plan = TimePlan(minutes=1.0, written_steps=1000, total_steps=400, period=400)
    assert corrected(plan, left=-9.0, taken=70, costs=COSTS, steps_per_epoch=10).total_steps == 71
