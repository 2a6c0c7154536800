"""Training of torchvision's Mask R-CNN and ours: batch statistics, matching, losses, gradients.

Both get the same sample of anchors and rois, so no random number differs. What differs on purpose
stays out: torchvision's mask targets are not binarised, so ours is given torchvision's.
"""

import dataclasses
import importlib.util

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.checkpoints.torch_names import from_torch
from rcnn_jax.ops.losses import mask_cross_entropy
from rcnn_jax.ops.masks import select_class_masks
from rcnn_jax.ops.matcher import match_anchors
from rcnn_jax.settings.detection import RoiSamplingSettings, RpnTargetSettings
from rcnn_jax.structures import GroundTruth, Proposals
from rcnn_jax.tasks import two_stage
from tests.models import torchvision_case as case
from tests.reference.torchvision_weights import images, state_dict

pytestmark = pytest.mark.peers

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed; `make test-peers` does", allow_module_level=True)

from tests.peers import torchvision_side as side  # noqa: E402

torch = side.import_torch()
roi_heads = side.import_torchvision().models.detection.roi_heads

CANVAS = (case.SIDE, case.SIDE)
SIZE = np.float32([CANVAS, CANVAS])
ROIS, FOREGROUND = 32, 8
BOXES = np.float32(
    [
        [[8, 12, 60, 70], [40, 50, 120, 110], [64, 4, 100, 40]],
        [[20, 30, 90, 100], [70, 70, 126, 126], [0, 0, 0, 0]],
    ]
)
CLASSES = np.int32([[0, 3, 4], [2, 1, 0]])
OBJECTS = (3, 2)
LOSSES = 1e-5
# Length of the difference as a share of that of the gradient. Most leaves agree to 1e-6; but a ReLU
# whose input is within rounding of 0 opens in one network and not in the other, and one such unit of
# fc6 moves all gradients below by a thousandth.
GRADIENTS = 5e-3

SETTINGS = {
    "rpn_targets": RpnTargetSettings(force_match="ties"),
    "roi_sampling": RoiSamplingSettings(batch_per_image=ROIS),
    "losses": two_stage.LossSettings(
        regression="smooth_l1", rpn_beta=1 / 9, box_beta=1 / 9, normalize="configured"
    ),
}
"""torchvision's rules of training, which are no part of `convention`."""


@pytest.fixture(scope="module")
def weights():
    return state_dict(case.NUM_CLASSES)


@pytest.fixture(scope="module")
def model(weights):
    return side.build(weights, CANVAS, case.PROPOSALS, case.DETECTIONS)


@pytest.fixture(scope="module")
def task():
    task, _ = case.task_and_test()
    # Without the mapped axis of training.
    network = task.model.clone(bn_axis_name=None)
    return dataclasses.replace(
        task, model=network, settings=dataclasses.replace(task.settings, **SETTINGS)
    )


@pytest.fixture(scope="module")
def variables(task, weights):
    return case.variables_from(task, weights)


@pytest.fixture(scope="module")
def gt():
    valid = np.arange(3)[None, :] < np.asarray(OBJECTS)[:, None]
    return GroundTruth(
        boxes=BOXES, classes=CLASSES, valid=valid, crowd=np.zeros_like(valid), masks=None
    )


@pytest.fixture(scope="module")
def features(model):
    """The image list and the feature maps of torchvision, with gradients."""
    listed, _ = model.transform(side.tensor_of(images(2, *CANVAS)))
    return listed, model.backbone(listed.tensors)


@pytest.fixture(scope="module")
def anchors(task):
    cells = {i: np.empty((2, case.SIDE >> i, case.SIDE >> i, 3)) for i in range(2, 7)}
    return two_stage.level_anchors(case.RpnOutputs(objectness=cells, deltas={}), task.settings)


@pytest.fixture(scope="module")
def rpn_targets(task, gt, anchors):
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.device_get(two_stage.assign_rpn(keys, anchors, gt, SIZE, task.settings))


@pytest.fixture(scope="module")
def rois(task, gt):
    """Sampled from jittered objects and random boxes."""
    rng = np.random.default_rng(0)
    near = BOXES[:, :, None] + rng.uniform(-6, 6, (2, 3, 6, 4))
    corner = rng.uniform(0, 90, (2, 40, 2))
    far = np.concatenate([corner, corner + rng.uniform(8, 38, corner.shape)], axis=-1)
    boxes = np.concatenate([near.reshape(2, -1, 4), far], axis=1).clip(0, case.SIDE)
    valid = (boxes[..., 2:] - boxes[..., :2]).min(-1) > 1.0
    proposals = Proposals(
        boxes=boxes.astype(np.float32), scores=np.ones(valid.shape, np.float32), valid=valid
    )
    keys = jax.random.split(jax.random.key(1), 2)
    sampled = two_stage.sample_rois(keys, proposals, gt, case.NUM_CLASSES, task.settings)
    return jax.device_get(sampled)


def their_targets():
    return [
        {
            "boxes": torch.from_numpy(side.y_first(BOXES[i, :count])),
            "labels": torch.from_numpy(CLASSES[i, :count].astype(np.int64) + 1),
        }
        for i, count in enumerate(OBJECTS)
    ]


def test_batch_statistics_and_what_they_normalise_agree(task, variables, weights):
    model = side.build(weights, CANVAS, case.PROPOSALS, case.DETECTIONS)
    pictures = images(2, *CANVAS)
    model.backbone.train()
    listed, _ = model.transform(side.tensor_of(pictures))
    with torch.no_grad():
        theirs = model.backbone(listed.tensors)

    def extract(bound, x):
        return bound.extract(two_stage.normalize(x, task.pixels), train=True)

    # The config freezes batch norm, as torchvision does with published checkpoints.
    options = dataclasses.replace(task.model.options, freeze_bn=False)
    thawed = task.model.clone(options=options, freeze_blocks=())
    run = jax.jit(nn.apply(extract, thawed, mutable=["batch_stats"]))
    ours, new = jax.device_get(run(variables, pictures))
    for level, expected in enumerate(theirs.values(), start=2):
        assert case.relative_error(ours[level], side.channels_last(expected)) < case.DENSE

    updated = from_torch({k: v.numpy() for k, v in model.state_dict().items()})
    old = variables["batch_stats"]
    layers = {"bn_conv1": 64, "block_3b_bn_2": 8, "block_4c_bn_3": 4}  # rows of the map, per image
    for layer, rows in layers.items():
        count = 2 * rows * rows
        mean, variance = (
            new["batch_stats"][layer][leaf] for leaf in ("moving_mean", "moving_variance")
        )
        np.testing.assert_allclose(mean, updated[layer]["moving_mean"], rtol=1e-4, atol=1e-4)
        # torch keeps the unbiased variance, ours the biased one, as Keras does.
        before = 0.9 * old[layer]["moving_variance"]
        unbiased = before + (variance - before) * count / (count - 1)
        np.testing.assert_allclose(
            unbiased, updated[layer]["moving_variance"], rtol=1e-3, atol=1e-4
        )


def test_anchors_are_matched_alike(task, model, features, anchors, gt):
    listed, maps = features
    theirs = model.rpn.anchor_generator(listed, list(maps.values()))
    joined = np.concatenate([anchors[level] for level in sorted(anchors)])
    np.testing.assert_array_equal(joined, side.y_first(theirs[0].numpy()))
    labels, matched = model.rpn.assign_targets_to_anchors(theirs, their_targets())
    for image, (label, boxes) in enumerate(zip(labels, matched, strict=True)):
        matches = match_anchors(
            joined, gt.boxes[image], gt.valid[image], task.settings.rpn_targets, SIZE[image]
        )
        np.testing.assert_array_equal(matches.label, label.numpy())
        positive = np.asarray(matches.label) == 1
        assert positive.sum() > OBJECTS[image]
        own = gt.boxes[image][np.asarray(matches.gt_index)[positive]]
        np.testing.assert_array_equal(own, side.y_first(boxes.numpy())[positive])


def test_rois_are_labelled_alike(model, rois):
    assert rois.valid.all() and (rois.foreground.sum(1) >= OBJECTS).all()
    proposals = [torch.from_numpy(side.y_first(boxes)) for boxes in rois.boxes]
    targets = their_targets()
    index, labels = model.roi_heads.assign_targets_to_proposals(
        proposals, [one["boxes"] for one in targets], [one["labels"] for one in targets]
    )
    for image, label in enumerate(labels):
        expected = (label.numpy() - 1) % (case.NUM_CLASSES + 1)  # background: 0 -> last
        np.testing.assert_array_equal(rois.classes[image], expected)
        front = rois.foreground[image]
        np.testing.assert_array_equal(rois.gt_index[image][front], index[image].numpy()[front])


def test_losses_and_their_gradients_agree_for_the_same_sample(
    task, model, variables, weights, features, anchors, rpn_targets, rois
):
    model.zero_grad()
    theirs, mask_targets = their_losses(model, features, rpn_targets, rois)
    sum(theirs.values()).backward()
    gradients = {k: p.grad.numpy() for k, p in model.named_parameters()}
    gradients |= {k: a for k, a in weights.items() if "running" in k}  # so that layers are known
    expected = from_torch(gradients)

    run = jax.jit(jax.value_and_grad(our_losses(task, variables, rpn_targets, rois), has_aux=True))
    (_, ours), ours_by_layer = jax.device_get(run(variables["params"], mask_targets))
    assert ours.keys() == theirs.keys()
    for name, loss in theirs.items():
        assert ours[name] == pytest.approx(loss.item(), rel=LOSSES), name
    for layer, leaves in ours_by_layer.items():
        for leaf, gradient in leaves.items():
            other = expected[layer][leaf]
            error = np.linalg.norm(gradient - other) / np.linalg.norm(other)
            assert error < GRADIENTS, f"{layer}/{leaf}"


def their_losses(model, features, rpn_targets, rois):
    """torchvision's five losses for our sample, and its mask targets f32[b FOREGROUND 28 28]."""
    listed, maps = features
    rpn, heads, sizes = model.rpn, model.roi_heads, listed.image_sizes
    levels = list(maps.values())
    objectness, deltas = rpn.head(levels)
    anchors = rpn.anchor_generator(listed, levels)
    concatenated = side.import_torchvision().models.detection.rpn.concat_box_prediction_layers(
        objectness, deltas
    )
    labels, matched = rpn.assign_targets_to_anchors(anchors, their_targets())
    sampler, sampled = rpn.fg_bg_sampler, torch.from_numpy(np.array(rpn_targets.labels))
    rpn.fg_bg_sampler = lambda _: (list(sampled == 1), list(sampled == 0))
    try:
        rpn_class, rpn_box = rpn.compute_loss(
            *concatenated, labels, rpn.box_coder.encode(matched, anchors)
        )
    finally:
        rpn.fg_bg_sampler = sampler

    boxes = [torch.from_numpy(side.y_first(part)) for part in rois.boxes]
    classes = [
        torch.from_numpy((part + 1) % (case.NUM_CLASSES + 1)).long() for part in rois.classes
    ]
    own = [torch.from_numpy(side.y_first(BOXES[i][rois.gt_index[i]])) for i in range(2)]
    vectors = heads.box_head(heads.box_roi_pool(maps, boxes, sizes))
    logits, regression = heads.box_predictor(vectors)
    box_class, box = roi_heads.fastrcnn_loss(
        logits, regression, classes, heads.box_coder.encode(own, boxes)
    )

    front = [torch.from_numpy(part) for part in rois.foreground.copy()]
    front_boxes = [part[chosen] for part, chosen in zip(boxes, front, strict=True)]
    index = [torch.from_numpy(rois.gt_index[i][rois.foreground[i]]).long() for i in range(2)]
    masks = [torch.from_numpy(discs(BOXES[i, :count])) for i, count in enumerate(OBJECTS)]
    vectors = heads.mask_head(heads.mask_roi_pool(maps, front_boxes, sizes))
    gt_labels = [one["labels"] for one in their_targets()]
    mask = roi_heads.maskrcnn_loss(
        heads.mask_predictor(vectors), front_boxes, masks, gt_labels, index
    )
    targets = np.zeros((2, FOREGROUND, 28, 28), np.float32)
    for i in range(2):
        cut = roi_heads.project_masks_on_boxes(masks[i], front_boxes[i], index[i], 28)
        targets[i, : len(cut)] = cut.numpy()
    terms = {"rpn_class": rpn_class, "rpn_box": rpn_box, "class": box_class, "box": box}
    return {**terms, "mask": mask}, targets


def our_losses(task, variables, rpn_targets, rois):
    """A function (params, mask targets) -> (total, {name: loss}) of our network."""
    settings, pictures = task.settings, images(2, *CANVAS)

    def terms(model, mask_targets):
        def crops(boxes, crop):
            return two_stage.pool(features, boxes, crop, settings)

        features = model.extract(two_stage.normalize(pictures, task.pixels), train=False)
        losses = two_stage.rpn_losses(model.rpn(features), {}, rpn_targets, settings)
        outputs = model.classify(crops(rois.boxes, settings.roi_size), train=True)
        losses |= two_stage.box_losses(outputs, rois, settings)
        front = rois.foreground[:, :FOREGROUND]
        planes = model.segment(crops(rois.boxes[:, :FOREGROUND], model.mask_crop_size))
        classes = np.where(front, rois.classes[:, :FOREGROUND], 0)
        own = jax.vmap(select_class_masks)(planes, classes)
        losses["mask"] = mask_cross_entropy(own, mask_targets, front.astype(np.float32))
        return {name: total / count for name, (total, count) in losses.items()}

    def total(params, mask_targets):
        full = {**variables, "params": params}
        losses = nn.apply(terms, task.model)(full, mask_targets)
        return jnp.sum(jnp.stack(list(losses.values()))), losses

    return total


def discs(boxes):
    """u8[m h w], an ellipse in every box."""
    y, x = np.mgrid[: case.SIDE, : case.SIDE] + 0.5
    y1, x1, y2, x2 = (boxes[:, i, None, None] for i in range(4))
    distance = ((2 * y - y1 - y2) / (y2 - y1)) ** 2 + ((2 * x - x1 - x2) / (x2 - x1)) ** 2
    return (distance <= 1.0).astype(np.uint8)
