"""Steps with overlap losses, moving thresholds and prime samples: devices, checkpoints, parts."""

import dataclasses

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import slim
from rcnn_jax.checkpoints.state import restore_training, training_bundle, with_weights
from rcnn_jax.errors import CheckpointError
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny
from tests.train.test_step import run

FIELDS = """
  dynamic_rcnn: true
  dynamic_interval: 2
  dynamic_overlap_rank: 4
  dynamic_error_rank: 2
  box_loss: "smooth_l1"
  rpn_box_loss: "giou"
  prime_samples: true
  carl_weight: 0.5
"""


def experiment_at(folder, fields):
    spec = write_tiny(folder, training=fields)
    return build_experiment(load_spec(spec).config, "faster_rcnn")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return experiment_at(tmp_path_factory.mktemp("losses"), FIELDS)


@pytest.fixture(scope="module")
def one(experiment):
    return run(experiment, 1, 3)


def thresholds(state):
    return state.collections["dynamic"]["roi_thresholds"]


def test_losses_are_finite_and_thresholds_move_once_in_two_steps(one):
    before, after, metrics, traces = one
    assert traces == 1
    assert all(np.isfinite(value) for row in metrics for value in row.values())
    assert all(row["carl"] > 0 for row in metrics)
    assert thresholds(before)["passes"] == 0 and thresholds(after)["passes"] == 1
    assert thresholds(after)["beta"] < 1.0
    assert thresholds(after)["overlap"] >= 0.5


def test_two_devices_give_the_state_of_one(experiment, one):
    _, after, metrics, _ = one
    _, other, others, _ = run(experiment, 2, 3)
    for a, b in zip(metrics, others, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    for a, b in zip(
        jax.tree.leaves(thresholds(after)), jax.tree.leaves(thresholds(other)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3)


def test_a_checkpoint_holds_the_thresholds_and_a_model_does_not(experiment, one):
    before, after, _, _ = one
    bundle = training_bundle(experiment, after, {"run_id": "x"})
    state, _ = restore_training(bundle, before, "x.tlt")
    for a, b in zip(
        jax.tree.leaves(thresholds(after)), jax.tree.leaves(thresholds(state)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert not any(name.startswith("dynamic") for name in slim(bundle).arrays)
    _, variables = with_weights(experiment, slim(bundle), "x.tlt")
    assert "dynamic" not in variables


def test_a_run_cannot_resume_from_one_without_thresholds(experiment, one):
    before, after, _, _ = one
    bundle = training_bundle(experiment, after, {"run_id": "x"})
    arrays = {n: a for n, a in bundle.arrays.items() if not n.startswith("dynamic")}
    with pytest.raises(CheckpointError):
        restore_training(dataclasses.replace(bundle, arrays=arrays), before, "x.tlt")


def test_parts_of_a_step_share_one_threshold(tmp_path):
    """With two parts, the interval of one step ends with the second part of a step."""
    fields = FIELDS.replace("dynamic_interval: 2", "dynamic_interval: 1\n  accumulate_steps: 2")
    _, after, metrics, _ = run(experiment_at(tmp_path, fields), 1, 2, accumulate=2)
    assert thresholds(after)["errors"].shape == (2,) and thresholds(after)["passes"] == 0
    assert all(np.isfinite(value) for row in metrics for value in row.values())
