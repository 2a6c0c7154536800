"""Advice before a pruned model is retrained: it follows from the two specs and the pruning records."""

import dataclasses

import pytest

from rcnn_jax.checkpoints.bundle import Bundle
from rcnn_jax.settings.training import StepSchedule, WarmupSchedule
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.retrain import SMALL, largest_rate, retrain_notes, retrain_warnings
from tests.checkpoints.headers import MODEL_HEADER
from tests.e2e.tiny import write_tiny

RATE = 0.01  # of the tiny spec


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data"), images=2)


@pytest.fixture(scope="module")
def experiment(spec):
    return with_penalties(build_experiment(load_spec(spec).config, "faster_rcnn"))


def with_penalties(experiment, l1=0.0, l2=0.0):
    optimizer = dataclasses.replace(experiment.optimizer, l1=l1, l2=l2)
    return dataclasses.replace(experiment, optimizer=optimizer)


def with_rate(experiment, rate):
    schedule = dataclasses.replace(experiment.schedule, base_lr=rate)
    return dataclasses.replace(experiment, schedule=schedule)


def bundle_of(spec, **header):
    return Bundle(kind="faster_rcnn", header={**MODEL_HEADER, "spec": spec.read_text(), **header})


def test_the_size_is_that_of_all_prunings_together(experiment, spec):
    records = [{"parameters": [1000, 600]}, {"parameters": [600, 250]}]
    note, rate = retrain_notes(experiment, bundle_of(spec, pruning=records), "m.tlt")
    assert note == "retraining m.tlt: 250 of 1,000 parameters (25.0%)"
    assert rate.endswith(f"its largest rate is {RATE:g}")


@pytest.mark.parametrize(
    "records",
    [None, [], "pruned", [None], [{"parameters": 3}], [{"parameters": [0, 5]}]]
    + [[{"parameters": [5.0, 3.0]}], [{"parameters": [True, 3]}], [{"parameters": [5, 4, 3]}]],
)
def test_records_that_another_program_wrote_are_passed_over(experiment, spec, records):
    note, _ = retrain_notes(experiment, bundle_of(spec, pruning=records), "m.tlt")
    assert note == "retraining m.tlt"


def test_an_l2_penalty_is_a_note_and_an_l1_penalty_a_warning(experiment, spec):
    bundle = bundle_of(spec)
    assert (
        "L2 penalty (0.001)" in retrain_notes(with_penalties(experiment, l2=1e-3), bundle, "m")[-1]
    )
    assert retrain_warnings(with_penalties(experiment, l2=1e-3), bundle) == []
    (warning,) = retrain_warnings(with_penalties(experiment, l1=1e-3), bundle)
    assert "L1 penalty (0.001)" in warning


@pytest.mark.parametrize(("factor", "warned"), [(1.0, 0), (SMALL * 1.01, 0), (SMALL * 0.99, 1)])
def test_rates_are_compared_with_those_of_the_first_training(experiment, spec, factor, warned):
    warnings = retrain_warnings(with_rate(experiment, factor * RATE), bundle_of(spec))
    assert len(warnings) == warned
    assert all(f"rates up to {RATE:g}" in warning for warning in warnings)


def test_a_spec_that_cannot_be_read_gives_no_advice(experiment):
    unreadable = Bundle(kind="faster_rcnn", header={**MODEL_HEADER, "spec": "model_config {"})
    assert retrain_warnings(with_rate(experiment, 1e-9), unreadable) == []


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (StepSchedule(base_lr=0.02, gamma=0.5, step_size=10.0), 0.02),
        (WarmupSchedule(init_lr=0.04, warmup_lr=0.001, warmup_steps=50), 0.04),
    ],
)
def test_the_largest_rate_of_a_schedule_is_met_in_its_run(schedule, expected):
    assert largest_rate(schedule) == pytest.approx(expected)


def test_a_warm_up_longer_than_the_run_that_is_looked_at_counts_to_its_end(experiment, spec):
    slow = WarmupSchedule(init_lr=RATE, warmup_lr=0.0, warmup_steps=500)
    assert largest_rate(slow) < SMALL * RATE  # in a run of 200 steps
    experiment = dataclasses.replace(experiment, schedule=slow)
    assert retrain_warnings(experiment, bundle_of(spec)) == []
