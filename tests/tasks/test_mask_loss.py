"""The mask loss, which leaves out the parts of its rois that have no foreground."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.categories import Categories
from rcnn_jax.spec.load import load_spec
from rcnn_jax.structures import GroundTruth, RoiTargets
from rcnn_jax.tasks import mask_rcnn
from rcnn_jax.tasks.build import build_experiment

CONFIG = Path(__file__).parents[2] / "configs" / "mask_rcnn" / "tiny.txt"
WIDTH, SIDE, CLASSES, ROIS = 16, 64, 3, 16  # of the tiny config; its foreground share is 4
TASK = build_experiment(
    load_spec(CONFIG).config,
    "mask_rcnn",
    categories=Categories((2, 5, 9), ("disc", "rod", "star")),
).task


def mask_head(rng):
    shapes = {f"mask-conv-l{i}": (3, 3, WIDTH, WIDTH) for i in range(4)}
    shapes["conv5-mask"] = (2, 2, WIDTH, WIDTH)
    shapes["mask_fcn_logits"] = (1, 1, WIDTH, CLASSES + 1)
    return {
        name: {
            "kernel": rng.standard_normal(shape).astype(np.float32) * 0.1,
            "bias": rng.standard_normal(shape[-1]).astype(np.float32) * 0.1,
        }
        for name, shape in shapes.items()
    }


def case(foreground):
    """Two images, of which one has so many foreground rois and the other has none."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 30, (2, ROIS, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 30, corner.shape)], -1)
    boxes = boxes.astype(np.float32)
    is_foreground = np.stack([np.zeros(ROIS, bool), np.arange(ROIS) < foreground])
    rois = RoiTargets(
        boxes=boxes,
        classes=np.where(is_foreground, rng.integers(0, CLASSES, (2, ROIS)), CLASSES),
        deltas=np.zeros_like(boxes),
        gt_index=rng.integers(0, 5, (2, ROIS)),
        foreground=is_foreground,
        valid=np.ones((2, ROIS), bool),
    )
    gt = GroundTruth(
        boxes=boxes[:, :5],
        classes=np.zeros((2, 5), np.int32),
        valid=np.ones((2, 5), bool),
        crowd=np.zeros((2, 5), bool),
        masks=rng.integers(0, 2, (2, 5, 28, 28), np.uint8),
    )
    features = {
        level: rng.standard_normal((2, SIDE >> level, SIDE >> level, WIDTH)).astype(np.float32)
        for level in range(2, 7)
    }
    return mask_head(rng), features, jax.tree.map(jnp.asarray, rois), gt


def loss_and_gradients(foreground):
    params, features, rois, gt = case(foreground)

    def loss(params, features):
        run = nn.apply(TASK._mask_loss, TASK.model)
        total, count = run({"params": params}, features, rois, gt)
        return total, count

    (total, count), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, features)
    return total, count, gradients


@pytest.mark.parametrize("foreground", [0, 1, 2, 4])
def test_leaving_out_parts_does_not_change_the_loss(monkeypatch, foreground):
    total, count, gradients = loss_and_gradients(foreground)
    monkeypatch.setattr(
        mask_rcnn.nn, "cond", lambda _, judge, nothing, model, *leaves: judge(model, *leaves)
    )
    whole, whole_count, whole_gradients = loss_and_gradients(foreground)
    assert count == whole_count == foreground * 8 * 8
    assert (total > 0) == (foreground > 0)
    np.testing.assert_allclose(total, whole, rtol=1e-6)
    for one, other in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(whole_gradients), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_parts_cover_all_rois_once():
    for count in (1, 2, 3, 4, 7, 128):
        covered = [i for part in mask_rcnn._parts(count) for i in range(count)[part]]
        assert covered == list(range(count))
    assert [part.stop for part in mask_rcnn._parts(128)] == [32, 64, 128]


def test_compiled_step_really_leaves_parts_out():
    params, features, rois, gt = case(1)
    run = nn.apply(TASK._mask_loss, TASK.model)
    text = jax.jit(run).lower({"params": params}, features, rois, gt).as_text()
    assert text.count("stablehlo.case") == 3
