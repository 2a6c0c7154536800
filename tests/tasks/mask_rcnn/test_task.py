"""The algorithm of Mask R-CNN on the tiny config: losses, gradients, predictions."""

import contextlib
import dataclasses
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.models.layers import Tap
from rcnn_jax.spec.load import load_spec, parse_spec
from rcnn_jax.structures import Batch, GroundTruth, Proposals, RoiTargets, RpnOutputs, RpnTargets
from rcnn_jax.tasks import two_stage
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.mask_rcnn import task as mask_rcnn

CONFIG = Path(__file__).parents[3] / "configs" / "mask_rcnn" / "tiny.txt"
CATEGORIES = Categories((2, 5, 9), ("disc", "rod", "star"))
SIDE, OBJECTS = 64, 4


def experiment_of(*changes, categories=CATEGORIES):
    text = CONFIG.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    config = parse_spec(text, "tiny.txt", "mask_rcnn").config
    return build_experiment(config, "mask_rcnn", categories=categories)


def on_one_device(task):
    """The task without the mapped axis of training."""
    fields = {name: getattr(task, name) for name in task.__dataclass_fields__}
    return type(task)(**{**fields, "model": task.model.clone(bn_axis_name=None)})


@pytest.fixture(scope="module")
def experiment():
    return experiment_of()


@pytest.fixture(scope="module")
def task(experiment):
    return on_one_device(experiment.task)


@pytest.fixture(scope="module")
def variables(task):
    return task.init(jax.random.key(0))


@pytest.fixture(scope="module")
def losses(task):
    def run(params, rest, batch):
        keys = jax.random.split(jax.random.key(1), len(batch.images))
        terms, _ = task.losses({"params": params, **rest}, batch, keys)
        terms_by_name = {
            name: jnp.sum(jnp.where(count > 0, total / jnp.maximum(count, 1e-9), 0.0))
            for name, (total, count) in terms.items()
        }
        return sum(terms_by_name.values()), terms

    return jax.jit(jax.value_and_grad(run, has_aux=True))


def batch_of(*objects_per_image):
    """Images with squares; image i has so many objects."""
    count = len(objects_per_image)
    rng = np.random.default_rng(0)
    boxes = np.zeros((count, OBJECTS, 4), np.float32)
    valid = np.zeros((count, OBJECTS), bool)
    for image, objects in enumerate(objects_per_image):
        for slot in range(objects):
            y, x = rng.uniform(0, 32, 2)
            boxes[image, slot] = y, x, y + 20, x + 24
            valid[image, slot] = True
    return Batch(
        images=rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8),
        image_size=np.full((count, 2), SIDE, np.float32),
        scale=np.ones((count, 2), np.float32),
        source_size=np.full((count, 2), SIDE, np.float32),
        image_id=np.arange(count, dtype=np.int32),
        image_valid=np.ones(count, bool),
        example_index=np.arange(count, dtype=np.int32),
        gt=GroundTruth(
            boxes=boxes,
            classes=np.ones((count, OBJECTS), np.int32),
            valid=valid,
            crowd=np.zeros((count, OBJECTS), bool),
            masks=np.ones((count, OBJECTS, 28, 28), np.uint8),
        ),
    )


def predicted(experiment, images, seed=0):
    task = on_one_device(experiment.task)
    run = jax.jit(lambda v, x: task.predict(v, x, experiment.evaluation))
    return run(task.init(jax.random.key(seed)), images)[0]


def rest_of(variables):
    return {name: tree for name, tree in variables.items() if name != "params"}


def test_losses_change_the_collections_that_the_task_names_and_no_others(task):
    task = dataclasses.replace(task, model=task.model.clone(include_mask=False))
    watched = dataclasses.replace(task, mutable=("batch_stats", "intermediates"))
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)

    def changed(task):
        _, collections = jax.eval_shape(lambda v: task.losses(v, batch_of(1, 2), keys), shapes)
        return set(collections)

    with sown_activations():
        assert changed(task) == {"batch_stats"}
        assert changed(watched) == {"batch_stats", "intermediates"}


@contextlib.contextmanager
def sown_activations():
    """Every tap stores its result in the collection `intermediates`, where that may be changed."""

    def sow(method, args, kwargs, context):
        result = method(*args, **kwargs)
        if isinstance(context.module, Tap) and context.method_name == "__call__":
            context.module.sow("intermediates", "seen", result)
        return result

    with nn.intercept_methods(sow):
        yield


def finite(tree):
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def test_an_image_without_objects_gives_finite_losses_and_teaches_no_boxes_or_masks(
    losses, variables
):
    batch = batch_of(0, 0)
    (total, terms), gradients = losses(variables["params"], rest_of(variables), batch)
    assert np.isfinite(total) and finite(gradients)
    for name in ("rpn_box", "box", "mask"):
        assert float(jnp.sum(terms[name][1])) == 0.0
    assert float(terms["class"][1]) > 0


def test_every_layer_gets_a_gradient_when_there_are_objects(losses, variables):
    (total, terms), gradients = losses(variables["params"], rest_of(variables), batch_of(3, 0))
    assert np.isfinite(total)
    assert set(terms) == {"rpn_class", "rpn_box", "class", "box", "mask"}
    silent = [
        layer
        for layer, leaves in gradients.items()
        if not any(float(jnp.abs(leaf).max()) > 0 for leaf in leaves.values())
    ]
    assert silent in (
        [],
        ["post_hoc_d5"],
    )  # its 15 anchors may all have been left out of the sample


def test_mask_loss_counts_the_cells_of_foreground_rois_only(losses, variables):
    (_, terms), _ = losses(variables["params"], rest_of(variables), batch_of(2, 0))
    cells = float(terms["mask"][1])
    foreground_deltas = float(terms["box"][1]) / 4
    assert cells == foreground_deltas * 8 * 8
    assert 2 <= foreground_deltas <= int(16 * 0.25)


def test_shares_of_the_mask_head_add_up_to_all_rois_at_once(task, variables, monkeypatch):
    batch, keys = batch_of(4, 1), jax.random.split(jax.random.key(1), 2)

    def loss(params):
        terms, _ = task.losses({"params": params, **rest_of(variables)}, batch, keys)
        return terms["mask"]

    by_size = {}
    for size in (1, 3, 100):  # of at most four foreground rois an image
        monkeypatch.setattr(mask_rcnn, "MASK_CHUNK", size)
        run = jax.jit(jax.value_and_grad(lambda params: loss(params), has_aux=True))
        by_size[size] = run(variables["params"])
    (whole, cells), gradient = by_size[100]
    assert float(cells) > 0
    for size in (1, 3):
        np.testing.assert_allclose(by_size[size][0], (whole, cells), rtol=1e-5)
        for one, all_at_once in zip(
            jax.tree.leaves(by_size[size][1]), jax.tree.leaves(gradient), strict=True
        ):
            largest = float(jnp.abs(all_at_once).max())
            np.testing.assert_allclose(one, all_at_once, atol=1e-4 * largest + 1e-9)


def test_detections_lie_on_the_canvas_best_first_with_a_mask_each(experiment, task, variables):
    images = batch_of(0, 0).images
    detections, proposals = jax.jit(lambda v, x: task.predict(v, x, experiment.evaluation))(
        variables, images
    )
    assert detections.masks.shape == (2, 8, 8, 8)
    assert (detections.masks >= 0).all() and (detections.masks <= 1).all()
    assert (detections.boxes >= 0).all() and (detections.boxes <= SIDE).all()
    assert (jnp.diff(detections.scores, axis=1) <= 0).all()
    assert (detections.classes[detections.valid] < 3).all()
    assert isinstance(proposals, Proposals) and proposals.boxes.shape == (2, 16, 4)


def test_classes_without_a_category_are_never_predicted():
    categories = Categories((1, 0, 3), ("disc", "(unused 2)", "star"))
    experiment = experiment_of(categories=categories)
    assert experiment.task.unused_classes == (1,)
    detections = predicted(experiment, batch_of(0).images, seed=3)
    assert detections.valid.any()
    assert not (detections.classes[detections.valid] == 1).any()


def test_without_masks_there_is_no_mask_layer_loss_or_output():
    experiment = experiment_of(("include_mask: true", "include_mask: false"))
    task = on_one_device(experiment.task)
    variables = task.init(jax.random.key(0))
    assert not any("mask" in layer for layer in variables["params"])
    assert "mask" not in task.loss_weights
    assert experiment.train_gt.mask_size == 0
    assert predicted(experiment, batch_of(0).images).masks is None
    batch = batch_of(1)
    batch = batch.replace(gt=batch.gt.replace(masks=None))
    keys = jax.random.split(jax.random.key(0), 1)
    terms, _ = jax.eval_shape(task.losses, variables, batch, keys)
    assert set(terms) == set(task.loss_weights)


@pytest.mark.parametrize("levels", [("3", "5"), ("2", "7")])
def test_other_pyramids_predict_too(levels):
    low, high = levels
    changes = (("min_level: 2", f"min_level: {low}"), ("max_level: 6", f"max_level: {high}"))
    rows = "".join(f'channel_plan {{ key: "p{i}" value: 16 }}\n  ' for i in (6, 7))
    plan = ('channel_plan { key: "rpn"', rows + 'channel_plan { key: "rpn"')
    experiment = experiment_of(*changes, plan, ("(64, 64)", "(128, 128)"))
    assert experiment.task.model.levels == tuple(range(int(low), int(high) + 1))
    images = np.zeros((1, 128, 128, 3), np.uint8)
    detections = predicted(experiment, images)
    assert finite(detections.boxes) and finite(detections.masks)


def test_losses_agree_with_a_slow_reading_of_the_facts(experiment):
    """docs/reference/mask_rcnn.md, "Losses": Huber, per level over the coordinates judged."""
    settings = experiment.task.settings
    rng = np.random.default_rng(0)
    sizes = {2: 12, 3: 3}
    objectness = {i: rng.normal(size=(2, n, 1, 1)).astype(np.float32) for i, n in sizes.items()}
    deltas = {i: rng.normal(size=(2, n, 1, 1, 4)).astype(np.float32) for i, n in sizes.items()}
    labels = rng.integers(-1, 2, (2, 15)).astype(np.int32)
    wanted = rng.normal(size=(2, 15, 4)).astype(np.float32)
    box_mask = rng.random((2, 15)) < 0.4
    terms = two_stage.rpn_losses(
        RpnOutputs(objectness=objectness, deltas=deltas),
        {},  # a distance of deltas needs no anchors
        RpnTargets(labels=labels, deltas=wanted, box_mask=box_mask),
        settings,
    )
    box = 0.0
    for level, own in ((2, slice(0, 12)), (3, slice(12, 15))):
        error = np.abs(deltas[level].reshape(2, -1, 4) - wanted[:, own])[box_mask[:, own]]
        small = np.minimum(error, 1 / 9)
        box += np.mean(0.5 * small**2 + (error - small) / 9)
    total, count = terms["rpn_box"]
    np.testing.assert_allclose(np.sum(total / count), box, rtol=1e-5)
    logits = np.concatenate([objectness[i].reshape(2, -1) for i in (2, 3)], axis=1)
    probability = 1 / (1 + np.exp(-logits))
    entropy = -np.where(labels == 1, np.log(probability), np.log(1 - probability))
    expected = entropy[labels >= 0].sum() / (2 * 32)
    np.testing.assert_allclose(terms["rpn_class"][0] / terms["rpn_class"][1], expected, rtol=1e-5)


def test_head_losses_agree_with_a_slow_reading_of_the_facts(experiment):
    rng = np.random.default_rng(1)
    classes = np.array([[0, 2, 3, 3]], np.int32)
    foreground = classes < 3
    logits = rng.normal(size=(1, 4, 4)).astype(np.float32)
    deltas = rng.normal(size=(1, 4, 3, 4)).astype(np.float32) * 2
    wanted = rng.normal(size=(1, 4, 4)).astype(np.float32)
    terms = two_stage.box_losses(
        two_stage.BoxOutputs(logits=logits, deltas=deltas),
        RoiTargets(
            boxes=np.zeros((1, 4, 4), np.float32),
            classes=classes,
            deltas=wanted,
            gt_index=np.zeros((1, 4), np.int32),
            foreground=foreground,
            valid=np.array([[True, True, True, False]]),
        ),
        experiment.task.settings,
    )
    errors = np.abs(deltas[0, [0, 1], [0, 2]] - wanted[0, :2])
    huber = np.where(errors < 1, 0.5 * errors**2, errors - 0.5)
    np.testing.assert_allclose(terms["box"][0] / terms["box"][1], huber.mean(), rtol=1e-5)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(
        terms["class"][0] / terms["class"][1], -log_p[range(3), classes[0, :3]].mean(), rtol=1e-5
    )


def test_frozen_blocks_are_those_of_the_backbone():
    task = experiment_of(('freeze_blocks: "[]"', 'freeze_blocks: "[0, 1]"')).task
    frozen = {"conv1", "bn_conv1", "block_1a_conv_1", "block_1a_bn_shortcut"}
    assert all(task.is_frozen(layer) for layer in frozen)
    assert not any(task.is_frozen(layer) for layer in ("block_2a_conv_1", "l2", "fc6", "rpn"))


def test_loading_the_config_gives_the_same_experiment_as_parsing_its_text():
    loaded = build_experiment(load_spec(CONFIG).config, "mask_rcnn", categories=CATEGORIES)
    assert loaded.task == experiment_of().task


def test_the_canonical_size_says_from_which_level_a_box_is_pooled():
    by_level = {
        level: jnp.full((1, 128 // 2**level, 128 // 2**level, 1), level) for level in range(2, 7)
    }
    boxes = jnp.float32([[[0, 0, 20, 20], [0, 0, 60, 60], [0, 0, 120, 120]]])

    def levels(*changes):
        settings = experiment_of(*changes).task.settings
        crops = two_stage.pool(by_level, boxes, 2, settings)
        return crops.mean((0, 2, 3, 4)).tolist()

    assert levels() == [2, 2, 3]
    smaller = ("min_level: 2", "min_level: 2 canonical_box_size: 32")
    assert levels(smaller) == [3, 4, 5]
