from rcnn_jax.settings.training import RunSettings
from rcnn_jax.train.calendar import Milestones


def test_epochs_become_steps():
    plan = Milestones.of(RunSettings(num_epochs=3, evaluate_epochs=2, save_epochs=1), 10)
    assert (plan.total_steps, plan.num_epochs) == (30, 3)
    assert [step for step in range(1, 31) if plan.evaluates(step)] == [20, 30]
    assert [step for step in range(1, 31) if plan.saves(step)] == [10, 20, 30]
    assert [step for step in range(1, 31) if plan.ends_epoch(step)] == [10, 20, 30]


def test_a_period_longer_than_the_run_leaves_only_the_end():
    plan = Milestones.of(RunSettings(num_epochs=2, evaluate_epochs=9, save_epochs=9), 10)
    assert [step for step in range(1, 21) if plan.saves(step)] == [20]
    assert [step for step in range(1, 21) if plan.evaluates(step)] == [20]


def test_no_validation_period_means_no_validation():
    plan = Milestones.of(RunSettings(num_epochs=2), 10)
    assert not any(plan.evaluates(step) for step in range(1, 21))


def test_milestones_of_steps_and_epochs_interleave():
    plan = Milestones.of(RunSettings(total_steps=25, evaluate_steps=8, save_steps=8), 10)
    milestones, step = [], 0
    while step < 25:
        step = plan.next(step)
        milestones.append(step)
    assert milestones == [8, 10, 16, 20, 24, 25]
    assert plan.num_epochs == 3
    assert [plan.epoch(step) for step in (1, 10, 11, 25)] == [1, 1, 2, 3]


def test_a_corrected_plan_counts_its_periods_from_the_correction():
    milestones = Milestones(
        steps_per_epoch=10, total_steps=31, evaluate_every=8, save_every=8, since=15
    )
    steps, step = [], 15
    while step < 31:
        step = milestones.next(step)
        steps.append(step)
    assert steps == [20, 23, 30, 31]
    assert [step for step in steps if milestones.evaluates(step)] == [23, 31]
    assert [step for step in steps if milestones.saves(step)] == [23, 31]
    assert [step for step in steps if milestones.ends_epoch(step)] == [20, 30, 31]
