"""The state that a run goes on from, in real folders of a tiny network that takes no step."""

import dataclasses

import jax
import numpy as np
import pytest

from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.milestones import save
from rcnn_jax.train.resume import resume_or_begin
from rcnn_jax.train.run import TrainOptions, open_run
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.step import init_state
from rcnn_jax.train.time_plan import TimePlan
from tests.e2e.tiny import write_tiny
from tests.models.tiny import random_variables
from tests.train.listener import Listener

STEPS = 2  # of an epoch, of which the run has two


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("data"), images=4)
    return build_experiment(load_spec(spec).config, "faster_rcnn")


@pytest.fixture(scope="module")
def trained(experiment):
    """Weights that no seed gives: a restored state is told from a fresh one by them."""
    variables = random_variables(experiment.task.model, seed=1)
    state = init_state(experiment.task, variables, experiment.optimizer, lambda step: 0.1, 0)
    return jax.tree.map(np.asarray, state)


def opened(experiment, workdir, **options):
    return open_run(experiment, workdir, TrainOptions(**{"devices": 1, **options}), Listener())


def stored(experiment, trained, workdir, step=STEPS, *, options=None, **progress):
    """Writes a checkpoint into the folder; returns its run."""
    run = opened(experiment, workdir, **(options or {}))
    state = trained.replace(step=np.int32(step))
    save(run, state, RunState(run_id="mine", step=step, **progress))
    return run


def arrays_of(run, step=STEPS):
    """Files that hold the arrays of a checkpoint; its manifest lies beside their folder."""
    folder = run.workdir / "checkpoints" / str(step) / "state"
    return [path for path in folder.rglob("*") if path.is_file()]


def same_weights(one, other):
    leaves = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def test_an_empty_folder_begins_with_the_weights_of_the_seed(experiment, trained, tmp_path):
    state, progress = resume_or_begin(opened(experiment, tmp_path / "a"))
    again, other = resume_or_begin(opened(experiment, tmp_path / "b"))
    assert (progress.step, progress.finished, progress.plan) == (0, False, None)
    assert same_weights(state, again) and not same_weights(state, trained)
    assert progress.run_id and progress.run_id != other.run_id


def test_the_newest_checkpoint_is_gone_on_from(experiment, trained, tmp_path):
    stored(experiment, trained, tmp_path, step=1)
    stored(experiment, trained, tmp_path, step=STEPS, best_metric=0.25, best_step=1)
    run = opened(experiment, tmp_path)
    state, progress = resume_or_begin(run)
    assert same_weights(state, trained) and int(state.step) == STEPS
    assert progress == RunState(run_id="mine", step=STEPS, best_metric=0.25, best_step=1)
    assert f"resuming {tmp_path} after step {STEPS}" in run.reporter.notes


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(experiment, trained, tmp_path):
    stored(experiment, trained, tmp_path, step=1)
    run = stored(experiment, trained, tmp_path, step=STEPS)
    for path in arrays_of(run):
        path.write_bytes(path.read_bytes()[:-1])
    state, progress = resume_or_begin(opened(experiment, tmp_path))
    assert (int(state.step), progress.step) == (1, 1)


def test_a_finished_run_stays_finished_until_it_is_given_more_epochs(experiment, trained, tmp_path):
    stored(experiment, trained, tmp_path, step=2 * STEPS, finished=True)
    run = opened(experiment, tmp_path)
    assert resume_or_begin(run)[1].finished
    assert not any("resuming" in note for note in run.reporter.notes)
    longer = dataclasses.replace(experiment.run, num_epochs=3)
    _, progress = resume_or_begin(opened(dataclasses.replace(experiment, run=longer), tmp_path))
    assert not progress.finished and progress.step == 2 * STEPS


def test_other_settings_are_refused_before_arrays_are_read(experiment, trained, tmp_path):
    run = stored(experiment, trained, tmp_path)
    for path in arrays_of(run):
        path.write_bytes(b"")  # would be another error
    with pytest.raises(CheckpointError, match="use_amp: False -> True"):
        resume_or_begin(opened(experiment, tmp_path, use_amp=True))


def test_another_cut_of_the_batch_is_a_warning(experiment, trained, tmp_path):
    stored(experiment, trained, tmp_path, options={"body": "pmap"})
    run = opened(experiment, tmp_path)
    assert resume_or_begin(run)[1].step == STEPS
    (warning,) = run.reporter.warnings
    assert "data_parallel pmap -> shard_map" in warning and "devices" not in warning


def test_fresh_deletes_what_the_run_left_and_begins_anew(experiment, trained, tmp_path):
    earlier = stored(experiment, trained, tmp_path)
    model = earlier.files.folder / "stranger.txt"
    model.write_text("of the user")
    run = opened(experiment, tmp_path, fresh=True)
    state, progress = resume_or_begin(run)
    assert (progress.step, run.store.all_steps()) == (0, [])
    assert not same_weights(state, trained) and progress.run_id != "mine"
    assert model.read_text() == "of the user"


def test_minutes_begin_with_a_plan_without_a_length(experiment, tmp_path):
    state, progress = resume_or_begin(opened(experiment, tmp_path, minutes=3.0))
    assert progress.plan == TimePlan(minutes=3.0, written_steps=2 * STEPS)
    assert float(state.tempo) == 1.0


def test_a_planned_run_goes_on_by_its_plan_whatever_the_flag_says(experiment, trained, tmp_path):
    plan = TimePlan(minutes=3.0, written_steps=2 * STEPS, total_steps=16, period=4)
    trained = trained.replace(tempo=np.float32(plan.tempo))
    stored(experiment, trained, tmp_path, plan=plan)
    for options in ({}, {"minutes": 99.0}):
        run = opened(experiment, tmp_path, **options)
        state, progress = resume_or_begin(run)
        assert progress.plan == plan and state.tempo == np.float32(0.25)
        assert any("16 steps; it goes on by that" in note for note in run.reporter.notes)


def test_a_run_of_a_written_length_gets_no_plan_afterwards(experiment, trained, tmp_path):
    stored(experiment, trained, tmp_path)
    with pytest.raises(CheckpointError, match="began without --minutes"):
        resume_or_begin(opened(experiment, tmp_path, minutes=3.0))


def test_minutes_and_fake_quantisation_exclude_each_other(experiment, tmp_path):
    run = opened(experiment, tmp_path, minutes=3.0)
    quantised = dataclasses.replace(run.quant, sites=("conv1",))
    with pytest.raises(UsageError, match="do not go together"):
        resume_or_begin(dataclasses.replace(run, quant=quantised))
