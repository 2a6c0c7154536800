"""The moment at which a run learns its length, on a real run of a tiny network."""

import dataclasses
import time

import jax
import numpy as np
import pytest

from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train import parallel
from rcnn_jax.train.planning import correct_length, plan_length
from rcnn_jax.train.run import TrainOptions, open_run, planned
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.step import init_state
from rcnn_jax.train.time_plan import TimePlan
from tests.e2e.tiny import write_tiny
from tests.models.tiny import random_variables
from tests.train.listener import Listener

STEPS = 2  # of an epoch
VALIDATION = 0.5  # seconds that one is said to take
TAKEN = 1


class Clock:
    """Stands for a validation, which would compile the network."""

    def seconds(self, variables):
        assert variables["params"]
        return VALIDATION


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("data"), images=4)
    return build_experiment(load_spec(spec).config, "faster_rcnn")


def begun(experiment, workdir, *, minutes, deadline, devices=1, validate=True):
    """(run, progress, state on the devices) after one step of a run to be planned."""
    options = TrainOptions(devices=devices, minutes=minutes, deadline=deadline)
    run = open_run(experiment, workdir, options, Listener())
    plan = TimePlan(minutes=minutes, written_steps=run.written.total_steps)
    run = dataclasses.replace(planned(run, plan), validate=Clock() if validate else None)
    variables = random_variables(experiment.task.model, seed=1)
    state = init_state(experiment.task, variables, experiment.optimizer, run.schedule, 0)
    state = jax.tree.map(np.asarray, state).replace(step=np.int32(TAKEN))
    replicas = parallel.replicate(state, run.devices)
    return run, RunState(run_id="a", step=TAKEN, plan=plan), replicas


def test_the_rest_of_the_time_is_filled_with_steps(experiment, tmp_path):
    run, progress, replicas = begun(
        experiment, tmp_path, minutes=2.0, deadline=time.monotonic() + 120.0
    )
    run, progress, replicas, _ = plan_length(run, progress, replicas, seconds=0.25)
    plan = progress.plan
    # 120 s of steps of 0.25 s, less a second at the end, one validation and the checkpoints of epochs,
    # which take as long as this disk does.
    assert TAKEN < plan.total_steps < 1 + 120 / 0.25
    assert run.milestones.total_steps == plan.total_steps
    assert run.milestones.save_every == plan.period == run.milestones.evaluate_every
    # The rate is still that of the written length: it is stretched, not cut.
    assert run.written.total_steps == plan.written_steps
    assert any(f"{plan.total_steps} steps" in note for note in run.reporter.notes)
    assert run.reporter.warnings == []


def test_the_plan_lies_in_the_checkpoint_and_its_tempo_in_the_state(experiment, tmp_path):
    run, progress, replicas = begun(
        experiment, tmp_path, minutes=2.0, deadline=time.monotonic() + 120.0, devices=2
    )
    run, progress, replicas, _ = plan_length(run, progress, replicas, seconds=0.25)
    template = parallel.first_replica(replicas, run.devices)
    state, saved = run.store.restore(template)
    assert RunState.from_json(saved["run"]).plan == progress.plan
    tempo = np.float32(progress.plan.tempo)
    assert 0 < tempo < 1 and state.tempo == tempo
    assert template.tempo == tempo and template.step == TAKEN


def test_without_a_deadline_the_steps_taken_count_as_time(experiment, tmp_path):
    run, progress, replicas = begun(experiment, tmp_path, minutes=1.0, deadline=None)
    # The step that was taken lasted as long as all of the run may: nothing is left but one more.
    _, progress, _, _ = plan_length(run, progress, replicas, seconds=60.0)
    assert progress.plan.total_steps == TAKEN + 1


def test_too_few_minutes_still_give_one_step_and_a_warning(experiment, tmp_path):
    run, progress, replicas = begun(
        experiment, tmp_path, minutes=0.1, deadline=time.monotonic() - 30.0, validate=False
    )
    run, progress, _, _ = plan_length(run, progress, replicas, seconds=0.25)
    assert progress.plan.total_steps == TAKEN + 1
    (warning,) = run.reporter.warnings
    assert "0.1 minutes are too few" in warning


def test_a_correction_reaches_the_milestones_and_the_tempo_on_all_devices(experiment, tmp_path):
    run, progress, replicas = begun(
        experiment, tmp_path, minutes=2.0, deadline=time.monotonic() + 120.0, devices=2
    )
    run, progress, replicas, course = plan_length(run, progress, replicas, seconds=0.25)
    before = progress.plan
    step = TAKEN + (before.total_steps - TAKEN) // 2
    assert course.is_due(step) and not course.is_due(step - 1)
    # All these steps took no time: far more of them fit into what is left.
    run, progress, replicas = correct_length(run, progress, replicas, course, step, np.zeros(()))
    plan = progress.plan
    assert plan.total_steps > before.total_steps
    assert run.milestones.total_steps == plan.total_steps
    assert run.milestones.since == plan.since and run.milestones.evaluate_every == plan.period
    assert parallel.first_replica(replicas, run.devices).tempo == np.float32(plan.tempo)
    assert any(f"{plan.total_steps} steps instead of" in note for note in run.reporter.notes)
