"""Thresholds that follow the proposals, by hand and against loops over images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.spec.load import load_spec
from rcnn_jax.structures import GroundTruth, Proposals, RoiTargets
from rcnn_jax.tasks import dynamic_thresholds as dynamic
from rcnn_jax.tasks.build import build_experiment

INTERVAL = 3


def settings(**changes):
    config = load_spec("configs/faster_rcnn/tiny.txt", "faster_rcnn").config
    config.training_config.update({"dynamic_rcnn": True, "dynamic_interval": INTERVAL, **changes})
    return build_experiment(config, "faster_rcnn").task.settings


def state_of(made):
    (state,) = dynamic.initial(made).values()
    return state


def squares(sides):
    """Returns boxes from the origin whose IoU with the square of side 10 is (side / 10)^2."""
    return np.float32([[0, 0, side, side] for side in sides])


def batch_of_proposals():
    proposals = Proposals(
        boxes=np.stack([squares([9, 5, 8, 10]), squares([2, 3, 4, 1])]),
        scores=np.zeros((2, 4), np.float32),
        valid=np.array([[True, True, True, False], [True, True, False, False]]),
    )
    gt = GroundTruth(
        boxes=np.stack([squares([10, 10])] * 2),
        classes=np.zeros((2, 2), np.int32),
        valid=np.array([[True, False], [True, True]]),
        crowd=np.array([[False, False], [False, True]]),
    )
    return proposals, gt


def test_the_overlap_of_a_rank_is_that_of_valid_proposals_only():
    proposals, gt = batch_of_proposals()
    total, count = dynamic.overlap_statistic(proposals, gt, 2)
    np.testing.assert_allclose(total, 0.64 + 0.04, rtol=1e-6)
    assert count == 2.0
    # A rank beyond the proposals is their last one.
    total, _ = dynamic.overlap_statistic(proposals, gt, 75)
    np.testing.assert_allclose(total, 0.25 + 0.04, rtol=1e-6)


def test_images_without_objects_or_proposals_do_not_count():
    proposals, gt = batch_of_proposals()
    only_crowd = dataclasses.replace(gt, crowd=gt.valid)
    assert [float(x) for x in dynamic.overlap_statistic(proposals, only_crowd, 1)] == [0.0, 0.0]
    none = proposals.replace(valid=np.zeros((2, 4), bool))
    assert [float(x) for x in dynamic.overlap_statistic(none, gt, 1)] == [0.0, 0.0]


def rois_with(errors, foreground):
    shape = np.shape(foreground)
    deltas = np.zeros((*shape, 4), np.float32)
    deltas[..., 0], deltas[..., 1] = errors, -np.asarray(errors)
    deltas[..., 2:] = 99.0
    return RoiTargets(
        boxes=np.zeros((*shape, 4), np.float32),
        classes=np.zeros(shape, np.int32),
        deltas=deltas,
        gt_index=np.zeros(shape, np.int32),
        foreground=np.asarray(foreground),
        valid=np.ones(shape, bool),
    )


def test_the_error_of_a_rank_leaves_out_background_and_copies_of_ground_truths():
    rois = rois_with(
        [[0.0, 0.5, 0.2, 0.1], [0.3, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
        [[True, True, True, False], [True, True, False, False], [True, False, False, False]],
    )
    total, count = dynamic.error_statistic(rois, 2)
    np.testing.assert_allclose(total, 0.5 + 0.3, rtol=1e-6)  # one roi: its last
    assert count == 2.0


def test_numbers_change_after_the_interval_and_not_before():
    made = settings()
    state = state_of(made)
    passes = [(0.7, 0.9), (0.8, 0.2), (0.6, 0.4)]
    for overlap, error in passes[:-1]:
        state = dynamic.updated(state, jnp.float32([2 * overlap, 2, 4 * error, 4]))
        assert (state["overlap"], state["beta"]) == (0.5, 1.0)
    overlap, error = passes[-1]
    state = dynamic.updated(state, jnp.float32([2 * overlap, 2, 4 * error, 4]))
    np.testing.assert_allclose(state["overlap"], 0.7, rtol=1e-6)  # the mean
    np.testing.assert_allclose(state["beta"], 0.4, rtol=1e-6)  # the median
    assert state["passes"] == 0 and not state["overlaps"].any()


def test_numbers_stay_within_the_bounds_of_the_spec():
    state = state_of(settings())
    for _ in range(INTERVAL):
        state = dynamic.updated(state, jnp.float32([0.2, 2, 50.0, 2]))
    assert (state["overlap"], state["beta"]) == (0.5, 1.0)


def test_passes_without_foreground_take_no_part_in_the_median():
    state = state_of(settings())
    for sums in ([1, 2, 0.6, 2], [0, 0, 0, 0], [1, 2, 0.2, 2]):
        state = dynamic.updated(state, jnp.float32(sums))
    np.testing.assert_allclose(state["beta"], 0.2, rtol=1e-6)
    for _ in range(INTERVAL):  # nothing at all: the numbers stay
        state = dynamic.updated(state, jnp.zeros(4))
    np.testing.assert_allclose(state["beta"], 0.2, rtol=1e-6)


def test_the_median_is_that_of_numpy():
    rng = np.random.default_rng(0)
    for count in range(1, 8):
        values = np.full(8, -1.0, np.float32)
        values[rng.permutation(8)[:count]] = rng.uniform(0, 1, count)
        expected = np.median(values[values >= 0])
        np.testing.assert_allclose(dynamic._median(jnp.asarray(values)), expected, rtol=1e-6)


def test_one_array_of_sums_over_devices_gives_the_numbers_of_one_device():
    """psum of the parts is the sum of the batch: an image is on one device or another."""
    proposals, gt = batch_of_proposals()
    whole = dynamic.overlap_statistic(proposals, gt, 2)
    one = lambda i: jax.tree.map(lambda leaf: leaf[i : i + 1], (proposals, gt))  # noqa: E731
    parts = [dynamic.overlap_statistic(*one(i), 2) for i in (0, 1)]
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-6)


def test_sampling_and_loss_use_the_numbers_of_the_collection():
    made = settings(classifier_max_overlap=0.4)
    state = {**state_of(made), "overlap": jnp.float32(0.62), "beta": jnp.float32(0.3)}

    used = dynamic.applied(state, made)
    np.testing.assert_allclose(used.roi_sampling.foreground_overlap, 0.62, rtol=1e-6)
    np.testing.assert_allclose(used.roi_sampling.background_high, 0.62, rtol=1e-6)
    np.testing.assert_allclose(used.losses.box_beta, 0.3, rtol=1e-6)


def test_a_run_without_it_has_no_such_state():
    config = load_spec("configs/faster_rcnn/tiny.txt", "faster_rcnn").config
    task = build_experiment(config, "faster_rcnn").task
    assert task.settings.dynamic is None and task.training_collections() == {}


def test_the_interval_is_counted_in_parts_of_steps():
    config = load_spec("configs/faster_rcnn/tiny.txt", "faster_rcnn").config
    config.training_config.update({"dynamic_rcnn": True, "accumulate_steps": 4})
    task = build_experiment(config, "faster_rcnn").task
    (state,) = task.training_collections()["dynamic"].values()
    assert state["errors"].shape == (400,)


@pytest.mark.parametrize("name", ("overlap", "beta"))
def test_every_leaf_has_memory_of_its_own(name):
    """The state is donated to the step: a buffer that is given twice is refused."""
    state = state_of(settings())
    bound = {"overlap": "overlap_low", "beta": "beta_high"}[name]
    assert state[name].unsafe_buffer_pointer() != state[bound].unsafe_buffer_pointer()
