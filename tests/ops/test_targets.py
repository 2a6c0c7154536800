import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.targets import roi_targets, rpn_targets
from rcnn_jax.settings.detection import RoiSamplingSettings, RpnTargetSettings
from rcnn_jax.structures import GroundTruth, Proposals
from tests.reference.boxes import exact_boxes, iou_matrix

KEY, SIZE, CODER, CLASSES = jax.random.key(0), np.float32([64, 64]), BoxCoder((10, 10, 5, 5)), 3


@pytest.fixture(scope="module")
def gt():
    """Three objects, one of them a crowd, and two rows of padding."""
    boxes = np.float32([[0, 0, 20, 20], [30, 30, 50, 60], [0, 40, 16, 60], [0, 0, 20, 20], [9] * 4])
    return GroundTruth(
        boxes=boxes,
        classes=np.int32([2, 0, 1, 1, 1]),
        valid=np.array([True, True, True, False, False]),
        crowd=np.array([False, False, True, False, False]),
    )


@pytest.fixture(scope="module")
def anchors(gt):
    rng = np.random.default_rng(0)
    near = np.repeat(gt.boxes[:3], 10, axis=0) + rng.integers(-32, 32, (30, 4)) / 16
    return np.concatenate([near, exact_boxes(rng, (90,), 48.0)]).astype(np.float32)


@pytest.fixture(scope="module")
def proposals(anchors):
    return Proposals(
        boxes=anchors,
        scores=np.linspace(1, 0, 120, dtype=np.float32),
        valid=np.arange(120) % 7 != 0,
    )


def without_objects(gt):
    return gt.replace(valid=np.zeros(5, bool))


@functools.cache
def compiled_rpn(settings):
    return jax.jit(lambda key, a, gt: rpn_targets(key, a, gt, SIZE, settings, CODER))


@functools.cache
def compiled_roi(settings):
    return jax.jit(lambda key, p, gt: roi_targets(key, p, gt, settings, CLASSES, CODER))


SAMPLED = RpnTargetSettings(batch_per_image=16, positive_fraction=0.5)
ALL_BOXES = RpnTargetSettings(batch_per_image=16, positive_fraction=0.25, box_loss_on_sample=False)
ROIS = RoiSamplingSettings(batch_per_image=16)


def test_rpn_samples_are_bounded_and_deltas_lead_to_the_object(gt, anchors):
    targets = compiled_rpn(SAMPLED)(KEY, anchors, gt)
    assert (targets.labels == 1).sum() == 8
    assert (targets.labels == 0).sum() == 8
    np.testing.assert_array_equal(targets.box_mask, targets.labels == 1)
    decoded = CODER.decode(anchors, targets.deltas)[targets.box_mask]
    nearest = gt.boxes[iou_matrix(anchors[targets.box_mask], gt.boxes[:2]).argmax(axis=1)]
    np.testing.assert_allclose(decoded, nearest, atol=1e-3)


def test_the_rpn_box_loss_may_read_all_positives(gt, anchors):
    targets = compiled_rpn(ALL_BOXES)(KEY, anchors, gt)
    assert (targets.labels == 1).sum() == 4
    assert targets.box_mask.sum() > 4
    assert targets.box_mask[targets.labels == 1].all()


def test_without_objects_the_rpn_sees_negatives_only(gt, anchors):
    targets = compiled_rpn(SAMPLED)(KEY, anchors, without_objects(gt))
    assert set(np.unique(targets.labels)) == {-1, 0}
    assert (targets.labels == 0).sum() == 16
    assert not targets.box_mask.any()
    assert np.isfinite(targets.deltas).all()


def test_rois_carry_the_class_and_box_of_their_object(gt, proposals):
    targets = compiled_roi(ROIS)(KEY, proposals, gt)
    foreground = np.asarray(targets.foreground)
    assert targets.valid.all()
    assert foreground.sum() == 4  # a quarter
    assert foreground[:4].all()
    overlap = iou_matrix(targets.boxes, gt.boxes)[:, :2]
    assert (overlap[foreground].max(axis=1) >= 0.5).all()
    assert (overlap[~foreground].max(axis=1) < 0.5).all()
    index = overlap.argmax(axis=1)[foreground]
    np.testing.assert_array_equal(targets.gt_index[foreground], index)
    np.testing.assert_array_equal(targets.classes[foreground], gt.classes[index])
    np.testing.assert_array_equal(targets.classes[~foreground], CLASSES)
    decoded = CODER.decode(targets.boxes, targets.deltas)[foreground]
    np.testing.assert_allclose(decoded, gt.boxes[index], atol=1e-3)


def test_rois_mostly_on_a_crowd_are_never_sampled(gt, proposals):
    everything = RoiSamplingSettings(batch_per_image=200, foreground_fraction=0.5)
    targets = compiled_roi(everything)(KEY, proposals, gt)
    overlap = iou_matrix(targets.boxes, gt.boxes)[np.asarray(targets.valid)]
    assert len(overlap) > 50
    assert (overlap[:, 2] <= overlap[:, :2].max(axis=1)).all()


def test_invalid_proposals_and_padding_are_never_sampled(gt, proposals):
    everything = RoiSamplingSettings(batch_per_image=200, foreground_fraction=0.5)
    targets = compiled_roi(everything)(KEY, proposals, gt)
    allowed = {tuple(b) for b in proposals.boxes[proposals.valid]} | {
        tuple(b) for b in gt.boxes[:2]
    }
    assert {tuple(b) for b in np.asarray(targets.boxes)[targets.valid]} <= allowed


@pytest.mark.parametrize("append_gt", [True, False])
def test_ground_truths_join_the_proposals_on_demand(gt, proposals, append_gt):
    settings = RoiSamplingSettings(
        batch_per_image=200, foreground_fraction=0.5, append_gt=append_gt
    )
    targets = compiled_roi(settings)(KEY, proposals, gt)
    exact = (iou_matrix(targets.boxes, gt.boxes[:2]) == 1.0) & targets.valid[:, None]
    assert (exact.sum(axis=0) > 0).tolist() == [append_gt] * 2


@pytest.mark.parametrize("background_low", [0.0, 0.1])
def test_without_objects_all_rois_are_background(gt, proposals, background_low):
    settings = RoiSamplingSettings(batch_per_image=16, background_low=background_low)
    targets = compiled_roi(settings)(KEY, proposals, without_objects(gt))
    assert targets.valid.all()
    assert not targets.foreground.any()
    assert (targets.classes == CLASSES).all()
    assert np.isfinite(targets.deltas).all()


def test_background_lies_between_its_bounds(gt, proposals):
    settings = RoiSamplingSettings(batch_per_image=200, background_low=0.05, background_high=0.3)
    targets = compiled_roi(settings)(KEY, proposals, gt)
    background = np.asarray(targets.valid & ~targets.foreground)
    overlap = iou_matrix(targets.boxes, gt.boxes[:2]).max(axis=1)[background]
    assert len(overlap) > 5
    assert ((overlap >= 0.05) & (overlap < 0.3)).all()


def test_too_few_rois_are_repeated_with_replacement(gt, proposals):
    few = proposals.replace(valid=np.arange(120) < 3)
    settings = RoiSamplingSettings(batch_per_image=16, with_replacement=True)
    assert compiled_roi(settings)(KEY, few, gt).valid.all()
    assert not compiled_roi(ROIS)(KEY, few, gt).valid.all()


def test_mapped_targets_equal_the_loop(gt, anchors, proposals):
    keys = jax.random.split(KEY, 2)
    images = [gt, without_objects(gt)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *images)
    mapped_rpn = jax.vmap(compiled_rpn(SAMPLED), in_axes=(0, None, 0))(keys, anchors, batch)
    mapped_roi = jax.vmap(compiled_roi(ROIS), in_axes=(0, None, 0))(keys, proposals, batch)
    for i in range(2):
        for mapped, one in [
            (mapped_rpn, compiled_rpn(SAMPLED)(keys[i], anchors, images[i])),
            (mapped_roi, compiled_roi(ROIS)(keys[i], proposals, images[i])),
        ]:
            jax.tree.map(
                lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-5, atol=1e-5),
                mapped,
                one,
            )
