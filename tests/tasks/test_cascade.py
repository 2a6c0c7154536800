"""Cascade heads: targets, losses, prediction, the exported graph, and the spec."""

import copy
import dataclasses
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.export.contracts import outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.targets import matched_rois
from rcnn_jax.settings.detection import RoiSamplingSettings
from rcnn_jax.spec.load import load_spec, parse_spec
from rcnn_jax.structures import Batch, BoxOutputs, GroundTruth, Proposals
from rcnn_jax.tasks import cascade
from rcnn_jax.tasks.build import build_experiment
from tests.export import tiny
from tests.export.run import assert_same
from tests.tasks.mask_rcnn.test_task import CATEGORIES

OVERLAPS = (0.5, 0.6, 0.7)
SIDE = 64


def cascade_of(experiment):
    """Returns the experiment with three box heads."""
    task = experiment.task
    plan = task.model.channels.to_json()
    plan |= {f"{name}-{head}": plan[name] for name in ("fc6", "fc7") for head in (2, 3)}
    model = task.model.clone(box_heads=3, channels=ChannelPlan.from_json(plan))
    settings = dataclasses.replace(task.settings, cascade_overlaps=OVERLAPS)
    changed = copy.copy(experiment)
    changed.task = dataclasses.replace(task, model=model, settings=settings)
    return changed


@pytest.fixture(scope="module")
def single():
    return tiny.mask_rcnn(canvas=(SIDE, SIDE), include_mask=False)


@pytest.fixture(scope="module")
def experiment(single):
    return cascade_of(single)


def test_every_head_has_its_overlap_and_a_finer_unit(experiment):
    own = [cascade.head_settings(experiment.task.settings, head) for head in range(3)]
    assert [each.roi_sampling.foreground_overlap for each in own] == [0.5, 0.6, 0.7]
    assert [each.roi_sampling.background_high for each in own] == [0.5, 0.6, 0.7]
    assert [each.box_coder.weights[0] for each in own] == [10.0, 20.0, 30.0]


def test_boxes_are_matched_again_at_the_overlap_of_the_head():
    truth = np.float32([[0, 0, 10, 10], [50, 50, 60, 60]])
    boxes = np.float32(
        [[0, 0, 10, 7], [0, 0, 10, 5.5], [50, 50, 60, 60], [3, 3, 3, 9], [0, 0, 9, 9]]
    )
    gt = GroundTruth(truth, np.int32([2, 0]), np.ones(2, bool), np.array([False, True]))
    coder = BoxCoder()
    rois = matched_rois(
        boxes,
        np.array([True, True, True, True, False]),
        gt,
        RoiSamplingSettings(batch_per_image=5, foreground_overlap=0.6),
        3,
        coder,
    )
    np.testing.assert_array_equal(rois.foreground, [True, False, False, False, False])
    # A crowd, a box without area and one that was invalid before train nothing.
    np.testing.assert_array_equal(rois.valid, [True, True, False, False, False])
    np.testing.assert_array_equal(rois.classes, [2, 3, 3, 3, 3])
    np.testing.assert_allclose(coder.decode(boxes[0], rois.deltas[0]), truth[0], atol=1e-5)


def test_refined_boxes_are_decoded_and_clipped_to_their_image():
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    boxes = np.float32([[[10, 10, 20, 30]], [[10, 10, 20, 30]]])
    deltas = np.broadcast_to(np.float32([5.0, 0, 0, 0]), (2, 1, 3, 4))  # half a height down
    outputs = BoxOutputs(logits=np.zeros((2, 1, 4), np.float32), deltas=deltas)
    moved = cascade.refined(boxes, outputs, jnp.float32([[64, 64], [22, 64]]), coder)
    np.testing.assert_allclose(moved, [[[15, 10, 25, 30]], [[15, 10, 22, 30]]], atol=1e-5)


def heads_like_the_first(variables, deltas):
    """Returns variables whose heads are all the first one, with the same deltas for every box."""
    params = jax.tree.map(np.asarray, variables["params"])
    for number in (2, 3):
        for name in ("fc6", "fc7", "class-predict"):
            params[f"{name}-{number}"] = params[name]
    for suffix, bias in zip(("", "-2", "-3"), deltas, strict=True):
        layer = params[f"box-predict{suffix}"]
        params[f"box-predict{suffix}"] = {
            "kernel": np.zeros_like(layer["kernel"]),
            "bias": np.float32(bias),
        }
    return {**variables, "params": params}


def test_heads_that_are_all_the_first_one_detect_what_it_detects(single, experiment):
    variables = heads_like_the_first(
        tiny.lively_variables(experiment, predictors=0.3), np.zeros((3, 4))
    )
    params = dict(variables["params"])
    rows = 4 * (len(tiny.NAMES) + 1)
    params["box-predict"] = {
        "kernel": np.zeros((params["fc7"]["kernel"].shape[1], rows), np.float32),
        "bias": np.zeros(rows, np.float32),
    }
    own = {name: leaves for name, leaves in params.items() if not name.endswith(("-2", "-3"))}
    images = tiny.images(1, (SIDE, SIDE))
    theirs, _ = single.task.predict({**variables, "params": own}, images, single.inference)
    ours, _ = experiment.task.predict(variables, images, experiment.inference)
    assert np.asarray(ours.valid).any()
    np.testing.assert_array_equal(ours.classes, theirs.classes)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-4)


def test_a_head_reads_the_boxes_of_the_one_before(experiment):
    """Boxes move by 1/10 + 1/20 + 1/30 of their height: each head in its own unit."""
    step = [1.0, 0.0, 0.0, 0.0]
    variables = heads_like_the_first(tiny.lively_variables(experiment, predictors=0.3), [step] * 3)
    proposals = Proposals(
        boxes=np.float32([[[10, 10, 20, 30]]]),
        scores=np.ones((1, 1), np.float32),
        valid=np.ones((1, 1), bool),
    )
    task, test = experiment.task, tiny.test_settings(score=0.0)

    def run(model, images):
        features = model.extract(images, train=False)
        size = jnp.float32([SIDE, SIDE])
        return cascade.cascade_detections(model, features, proposals, size, task.settings, test)

    images = np.random.default_rng(0).normal(size=(1, SIDE, SIDE, 3)).astype(np.float32)
    detections = nn.apply(run, task.model)(variables, images)
    down = 10 * (1 / 10 + 1 / 20 + 1 / 30)
    shown = np.asarray(detections.boxes)[np.asarray(detections.valid)]
    assert len(shown)
    np.testing.assert_allclose(shown[0], [10 + down, 10, 20 + down, 30], atol=1e-4)


def a_batch(images=1):
    boxes = np.float32([[[8, 8, 40, 40], [30, 20, 60, 50]]])
    sizes = np.full((images, 2), SIDE, np.float32)
    return Batch(
        images=tiny.images(images, (SIDE, SIDE)),
        image_size=sizes,
        scale=np.ones((images, 2), np.float32),
        source_size=sizes,
        image_id=np.arange(images),
        image_valid=np.ones(images, bool),
        example_index=np.arange(images),
        gt=GroundTruth(
            boxes, np.int32([[0, 2]]), np.ones((images, 2), bool), np.zeros((images, 2), bool)
        ),
    )


def test_every_head_has_its_terms_and_trains_no_other_head(experiment):
    task = experiment.task
    # The second head alone is wrong, by a tenth of a height: its boxes are those of the first.
    variables = heads_like_the_first(
        tiny.lively_variables(experiment), [[0.0] * 4, [2.0, 0.0, 0.0, 0.0], [0.0] * 4]
    )
    keys = jax.random.split(jax.random.key(0), 1)

    def loss(params, name):
        terms, _ = task.losses({**variables, "params": params}, a_batch(), keys)
        return terms[name][0], terms

    gradient, terms = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)(
        variables["params"], "box_2"
    )
    expected = {"rpn_class", "rpn_box"} | {
        f"{term}{suffix}" for term in ("class", "box") for suffix in ("", "_2", "_3")
    }
    assert set(terms) == expected
    assert all(np.isfinite(value).all() for term in terms.values() for value in term)
    assert terms["box_2"][0] > 0  # of the ground truths among the rois, at least
    assert np.abs(gradient["box-predict-2"]["bias"]).max() > 0
    for layer in ("fc6", "box-predict", "class-predict", "fc6-3", "box-predict-3"):
        np.testing.assert_array_equal(gradient[layer]["bias"], 0.0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_exported_graph_detects_what_jax_detects(experiment):
    variables = tiny.lively_variables(experiment, predictors=0.3)
    images = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    function = outputs_of(experiment, variables, "plain")
    graph = assert_same(function, images, perm=NCHW, atol=2e-3, rtol=1e-3)
    crops = [node for node in graph.nodes if node.op == "RoiAlign"]
    assert len(crops) == 3


def spec_text(*changes):
    text = Path("configs/mask_rcnn/tiny.txt").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


CASCADE = ("include_mask: true", "include_mask: true\n  cascade_ious: [0.5, 0.6, 0.7]")


def test_the_spec_makes_heads_overlaps_and_weights():
    text = spec_text(CASCADE)
    config = parse_spec(text, "tiny.txt", "mask_rcnn").config
    task = build_experiment(config, "mask_rcnn", categories=CATEGORIES).task
    assert task.model.box_heads == 3 and task.settings.cascade_overlaps == (0.5, 0.6, 0.7)
    weights = task.loss_weights
    assert (weights["box"], weights["box_2"], weights["box_3"]) == (1.0, 0.5, 0.25)
    assert list(task.settings.box_coder.weights) == list(config.maskrcnn_config.bbox_reg_weights)


def test_without_the_field_there_is_one_head_under_its_old_names():
    config = load_spec("configs/mask_rcnn/tiny.txt", "mask_rcnn").config
    task = build_experiment(config, "mask_rcnn", categories=CATEGORIES).task
    layers = jax.eval_shape(task.init, jax.random.key(0))["params"]
    assert task.model.box_heads == 1 and not any(name.endswith(("-2", "-3")) for name in layers)


@pytest.mark.parametrize(
    ("overlaps", "message"),
    [
        ("[0.5]", "expected two to four heads"),
        ("[0.5, 0.7, 0.6]", "does not rise"),
        ("[0.5, 0.6]\n  dynamic_rcnn: true", "exclude each other"),
        ("[0.5, 1.5]", "(0, 1)"),
    ],
)
def test_overlaps_that_make_no_cascade_are_refused(overlaps, message):
    changed = spec_text(("include_mask: true", f"include_mask: true\n  cascade_ious: {overlaps}"))
    with pytest.raises(SpecError) as caught:
        parse_spec(changed, "tiny.txt", "mask_rcnn")
    assert message in str(caught.value)
