"""Losses of boxes and weights of samples, from the spec to the terms of a batch."""

import numpy as np
import pytest

from rcnn_jax.ops import losses as loss_ops
from rcnn_jax.spec.load import load_spec
from rcnn_jax.structures import BoxOutputs, RoiTargets, RpnOutputs, RpnTargets
from rcnn_jax.tasks import two_stage
from rcnn_jax.tasks.build import build_experiment
from tests.reference import box_losses as reference
from tests.tasks.mask_rcnn.test_task import CATEGORIES

DETECTORS = ("faster_rcnn", "mask_rcnn")


def task_of(kind, **fields):
    config = load_spec(f"configs/{kind}/tiny.txt", kind).config
    message = config.training_config if kind == "faster_rcnn" else config.maskrcnn_config
    message.update(fields)
    categories = None if kind == "faster_rcnn" else CATEGORIES
    return build_experiment(config, kind, categories=categories).task


def rois(seed=0, images=2, count=12, classes=3):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (images, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 40, (images, count, 2))], axis=-1)
    front = np.arange(count) < np.array([[5], [3]])
    gt_index = rng.integers(0, 2, (images, count)).astype(np.int32)
    names = np.where(front, gt_index % classes, classes).astype(np.int32)
    outputs = BoxOutputs(
        logits=rng.normal(size=(images, count, classes + 1)).astype(np.float32),
        deltas=rng.normal(size=(images, count, classes, 4)).astype(np.float32),
    )
    targets = RoiTargets(
        boxes=boxes.astype(np.float32),
        classes=names,
        deltas=rng.normal(size=(images, count, 4)).astype(np.float32),
        gt_index=gt_index,
        foreground=front,
        valid=np.arange(count) < np.array([[12], [9]]),
    )
    return outputs, targets


def own_deltas(outputs, targets):
    last = np.minimum(targets.classes, outputs.deltas.shape[2] - 1)
    return np.take_along_axis(outputs.deltas, last[:, :, None, None], axis=2)[:, :, 0]


def overlap_losses(boxes, deltas, wanted, coder, kind):
    ours, theirs = np.asarray(coder.decode(boxes, deltas)), np.asarray(coder.decode(boxes, wanted))
    return np.array([reference.iou_loss(a, b, kind) for a, b in zip(ours, theirs, strict=True)])


@pytest.mark.parametrize("kind", DETECTORS)
def test_without_the_fields_every_bit_is_that_of_smooth_l1_and_cross_entropy(kind):
    task = task_of(kind)
    outputs, targets = rois()
    terms = two_stage.box_losses(outputs, targets, task.settings)
    assert set(terms) == {"class", "box"}
    distance = loss_ops.huber if kind == "mask_rcnn" else loss_ops.smooth_l1
    deltas, weight = own_deltas(outputs, targets), targets.foreground.astype(np.float32)
    box, box_count = distance(deltas, targets.deltas, weight, 1.0)
    entropy, count = loss_ops.softmax_cross_entropy(
        outputs.logits, targets.classes, targets.valid.astype(np.float32)
    )
    if kind == "faster_rcnn":
        count = box_count = np.float32(targets.valid.size)
    assert [float(x) for x in (*terms["class"], *terms["box"])] == [
        float(x) for x in (entropy, count, box, box_count)
    ]


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("loss", ("iou", "giou", "diou", "ciou"))
def test_box_loss_is_the_overlap_of_decoded_boxes(kind, loss):
    task = task_of(kind, box_loss=loss)
    outputs, targets = rois()
    total, count = two_stage.box_losses(outputs, targets, task.settings)["box"]
    deltas, front = own_deltas(outputs, targets), targets.foreground
    each = overlap_losses(
        targets.boxes[front], deltas[front], targets.deltas[front], task.settings.box_coder, loss
    )
    np.testing.assert_allclose(total, each.sum(), rtol=1e-4)
    assert count == (front.size if kind == "faster_rcnn" else front.sum())


@pytest.mark.parametrize("kind", DETECTORS)
def test_rpn_box_loss_is_the_overlap_of_decoded_anchors(kind):
    task = task_of(kind, rpn_box_loss="giou")
    rng = np.random.default_rng(3)
    sizes = {4: 6} if kind == "faster_rcnn" else {2: 6, 3: 4}
    objectness = {i: np.zeros((2, n, 1, 1), np.float32) for i, n in sizes.items()}
    deltas = {i: rng.normal(size=(2, n, 1, 1, 4)).astype(np.float32) for i, n in sizes.items()}
    anchors = {i: rois(i, count=n)[1].boxes[0] for i, n in sizes.items()}
    cells = sum(sizes.values())
    wanted = rng.normal(size=(2, cells, 4)).astype(np.float32)
    mask = rng.random((2, cells)) < 0.6
    total, count = two_stage.rpn_losses(
        RpnOutputs(objectness=objectness, deltas=deltas),
        anchors,
        RpnTargets(labels=np.zeros((2, cells), np.int32), deltas=wanted, box_mask=mask),
        task.settings,
    )["rpn_box"]
    sums, counts, start = [], [], 0
    for level, n in sizes.items():
        own, start = slice(start, start + n), start + n
        each = [
            overlap_losses(
                anchors[level][mask[i, own]],
                deltas[level][i, :, 0, 0][mask[i, own]],
                wanted[i, own][mask[i, own]],
                task.settings.rpn_coder,
                "giou",
            )
            for i in (0, 1)
        ]
        sums.append(np.concatenate(each).sum())
        counts.append(mask[:, own].sum())
    if kind == "faster_rcnn":
        np.testing.assert_allclose(total, sums[0], rtol=1e-4)
        assert count == 2 * task.settings.rpn_targets.batch_per_image
    else:
        np.testing.assert_allclose(total, sums, rtol=1e-4)
        np.testing.assert_array_equal(count, counts)


@pytest.mark.parametrize("kind", DETECTORS)
def test_prime_samples_weigh_the_class_loss_and_keep_its_count(kind):
    task, plain = task_of(kind, prime_samples=True), task_of(kind)
    outputs, targets = rois()
    total, count = two_stage.box_losses(outputs, targets, task.settings)["class"]
    before, count_before = two_stage.box_losses(outputs, targets, plain.settings)["class"]
    assert count == count_before
    # Its factor keeps the sum over the foreground of an image.
    np.testing.assert_allclose(total, before, rtol=1e-5)
    entropy = np.asarray(loss_ops.softmax_cross_entropies(outputs.logits, targets.classes))
    deltas, coder, expected = own_deltas(outputs, targets), task.settings.box_coder, 0.0
    for i in (0, 1):
        ours, theirs = (
            coder.decode(targets.boxes[i], deltas[i]),
            coder.decode(targets.boxes[i], targets.deltas[i]),
        )
        overlap = [1 - reference.iou_loss(a, b, "iou") for a, b in zip(ours, theirs, strict=True)]
        weights = reference.importance(
            overlap, targets.gt_index[i], targets.classes[i], targets.foreground[i], entropy[i]
        )
        expected += np.sum(entropy[i] * weights * targets.valid[i])
    np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("loss", ("smooth_l1", "giou"))
def test_carl_is_the_box_loss_weighted_by_scores(kind, loss):
    task = task_of(kind, carl_weight=0.5, box_loss=loss)
    assert task.loss_weights["carl"] == 0.5
    outputs, targets = rois()
    terms = two_stage.box_losses(outputs, targets, task.settings)
    deltas, expected = own_deltas(outputs, targets), 0.0
    for i in (0, 1):
        weights = reference.classification_weights(
            outputs.logits[i], targets.classes[i], targets.foreground[i]
        )
        if loss == "smooth_l1":
            error = np.abs(deltas[i] - targets.deltas[i])
            each = np.where(error < 1, 0.5 * error**2, error - 0.5).sum(-1)
        else:
            each = overlap_losses(
                targets.boxes[i], deltas[i], targets.deltas[i], task.settings.box_coder, loss
            )
        expected += np.sum(weights * each)
    np.testing.assert_allclose(terms["carl"][0], expected, rtol=1e-4)
    assert terms["carl"][1] == terms["box"][1]


@pytest.mark.parametrize("kind", DETECTORS)
def test_all_losses_of_a_task_have_a_weight(kind):
    task = task_of(kind, carl_weight=1.0, prime_samples=True, box_loss="ciou")
    outputs, targets = rois()
    assert set(two_stage.box_losses(outputs, targets, task.settings)) <= set(task.loss_weights)
    assert "carl" not in task_of(kind).loss_weights
