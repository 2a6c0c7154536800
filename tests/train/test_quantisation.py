"""The switch from float to rounding in a run, on a real run of a tiny network that takes no step."""

import dataclasses

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.state import training_bundle, with_weights
from rcnn_jax.compress.qat import is_calibrated
from rcnn_jax.errors import CheckpointError, SpecError, UsageError
from rcnn_jax.export.precision.aware import QUANTISER
from rcnn_jax.settings.training import QatSettings
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.calendar import Milestones
from rcnn_jax.train.milestones import has_stopped_early
from rcnn_jax.train.quantisation import calibrate
from rcnn_jax.train.resume import resume_or_begin
from rcnn_jax.train.run import TrainOptions, open_run
from rcnn_jax.train.run_state import RunState
from tests.e2e.tiny import write_tiny
from tests.train.listener import Listener


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("data"), images=4, training="enable_qat: true")
    return build_experiment(load_spec(spec).config, "faster_rcnn")


@pytest.fixture(scope="module")
def begun(experiment, tmp_path_factory):
    """(run, state, progress, what was said) before the calibration."""
    listener = Listener()
    options = TrainOptions(devices=1, quantiser=QUANTISER)
    run = open_run(experiment, tmp_path_factory.mktemp("run"), options, listener)
    state, progress = resume_or_begin(run)
    return run, jax.tree.map(np.asarray, state), progress, listener


@pytest.fixture(scope="module")
def calibrated(begun):
    run, state, progress, _ = begun
    progress = dataclasses.replace(progress, best_metric=0.9, best_step=3, best_loss=1.0)
    return calibrate(run, state, progress)


def test_a_run_without_something_that_calibrates_is_refused(experiment, tmp_path):
    with pytest.raises(UsageError, match="enable_qat: training needs"):
        open_run(experiment, tmp_path, TrainOptions(devices=1), Listener())


def test_an_input_of_no_fixed_size_is_refused(experiment, tmp_path):
    dynamic = dataclasses.replace(experiment.geometry, mode="short_side", short_side=96)
    dynamic = dataclasses.replace(experiment, geometry=dynamic)
    with pytest.raises(SpecError, match="enable_qat: the spec describes a dynamic input"):
        open_run(dynamic, tmp_path, TrainOptions(devices=1, quantiser=QUANTISER), Listener())


@pytest.mark.parametrize("start", [1.0, 0.999])
def test_a_run_that_ends_where_it_would_calibrate_is_refused(experiment, tmp_path, start):
    short = dataclasses.replace(experiment.run, num_epochs=1)
    late = dataclasses.replace(experiment, run=short, qat=QatSettings(start=start))
    with pytest.raises(
        SpecError, match=f"qat_start: {start:g} is the whole run, 2 steps in 1 epochs"
    ):
        open_run(late, tmp_path, TrainOptions(devices=1, quantiser=QUANTISER), Listener())


def test_ranges_are_there_from_the_first_step_on_and_empty(begun):
    run, state, _, _ = begun
    assert run.quant.sites and not run.experiment.task.model.quant.sites
    assert not is_calibrated(state.collections)
    assert set(state.collections["quant"]) == {name for name, _ in run.quant.sites}


def test_the_calibration_freezes_ranges_and_batch_norm_and_forgets_the_best_float_model(
    begun, calibrated
):
    run, state, progress = calibrated
    assert is_calibrated(state.collections)
    assert run.experiment.task.model.quant == run.quant
    assert run.experiment.task.model.options.freeze_bn
    assert (progress.best_metric, progress.best_step, progress.best_loss) == (None, None, None)
    printed = "\n".join([*begun[3].notes, *begun[3].warnings])
    assert (
        "the weights are random" in printed
        and "quantisation-aware training from step 0 on" in printed
    )


def test_calibrating_again_finds_the_same_ranges(begun, calibrated):
    run, state, progress, _ = begun
    _, again, _ = calibrate(run, state, progress)
    for one, other in zip(*map(jax.tree.leaves, (again, calibrated[1])), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_float_model_of_the_run_is_plain_and_a_rounded_one_says_where_it_rounds(
    begun, calibrated
):
    values = RunState(run_id="a").to_json()
    plain = training_bundle(begun[0].experiment, begun[1], values)
    assert "quant_plan" not in plain.header
    assert not any(name.startswith("quant/") for name in plain.arrays)
    bundle = training_bundle(calibrated[0].experiment, calibrated[1], values)
    experiment, variables = with_weights(begun[0].experiment, bundle, "a.tlt")
    assert experiment.task.model.quant == begun[0].quant
    assert is_calibrated(variables)
    name = next(name for name in bundle.arrays if name.startswith("quant/"))
    bundle.arrays[name] = np.float32(0)
    with pytest.raises(CheckpointError, match="a range of its fake quantisation is no positive"):
        with_weights(begun[0].experiment, bundle, "a.tlt")


def test_early_stopping_waits_for_the_rounded_network(begun, calibrated):
    patient = dataclasses.replace(begun[0].experiment.run, patience=1)
    stale = RunState(run_id="a", epochs_without_gain=5)
    for run, stops in ((begun[0], False), (calibrated[0], True)):
        experiment = dataclasses.replace(run.experiment, run=patient)
        assert has_stopped_early(dataclasses.replace(run, experiment=experiment), stale) is stops


@pytest.mark.parametrize(
    ("start", "step"), [(0.0, 0), (0.25, 10), (0.999, 40), (1.0, 4), (2.5, 10), (99.0, 40)]
)
def test_the_switch_is_a_milestone_at_a_fraction_or_an_epoch(experiment, start, step):
    length = dataclasses.replace(experiment.run, num_epochs=10)
    milestones = Milestones.of(length, 4, QatSettings(start=start))
    assert milestones.quantised_from == step
    assert 0 < step < 40 or milestones.quantised_from in (0, 40)
    if step > 0:
        assert milestones.next(step - 1) == step
