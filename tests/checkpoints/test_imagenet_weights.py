"""The two real ImageNet backbones beside the clone, run through our own layers.

They were trained with TensorFlow's padding and ReLU6; the networks of the specs pad one pixel on
each side and use plain ReLU, so the tests that compare numbers ask our layers for the former.
"""

import json

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from rcnn_jax.models.backbones.mobilenet_v1 import MobileNetV1Tail, MobileNetV1Trunk
from rcnn_jax.models.backbones.mobilenet_v2 import MobileNetV2Tail, MobileNetV2Trunk
from rcnn_jax.models.batch_norm import BatchNorm
from rcnn_jax.models.builder import BackboneOptions, Builder

SIDE = 224
ESPRESSO, EGYPTIAN_CAT = 968, 286  # of 1001, with "background" as 0
OPTIONS = BackboneOptions(all_projections=False)
V1 = "mobilenet_v1_1.0_224_imagenet_notop.npz"
V2 = "mobilenet_v2_1.0_224_imagenet.npz"


class TensorFlowBuilder(Builder):
    """Pads every convolution as TensorFlow does."""

    def conv(self, *args, padding=None, **kwargs):
        return super().conv(*args, padding="same", **kwargs)

    def depthwise(self, name, kernel_size, strides, padding):
        return super().depthwise(name, kernel_size, strides, "same")


def photograph(shared, name):
    """f32[224 224 3] in [-1, 1]: short side 256, centre cut out."""
    image = cv2.imread(str(shared / "data" / "demo" / f"{name}.jpg"))[:, :, ::-1]
    factor = 256 / min(image.shape[:2])
    width, height = (round(side * factor) for side in (image.shape[1], image.shape[0]))
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return image[top : top + SIDE, left : left + SIDE].astype(np.float32) / 127.5 - 1


def filled(module, x, weights):
    """The module's variables from the file: every one of them."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, False))
    empty = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, np.float32), shapes)
    loaded = apply_weights(empty["params"], empty["batch_stats"], weights)
    assert loaded.coverage == 1.0 and {row.status for row in loaded.rows} == {"Yes"}
    return {"params": loaded.params, "batch_stats": loaded.batch_stats}


def below_six(method, args, kwargs, context):
    """Makes the ReLU behind a batch norm a ReLU6."""
    y = method(*args, **kwargs)
    rectified = isinstance(context.module, BatchNorm) and "project" not in context.module.name
    return jnp.minimum(y, 6.0) if rectified else y


def vectors(trunk, tail, weights, images):
    """f32[b c], the mean over the last feature map."""
    with nn.intercept_methods(below_six):
        extract = jax.jit(lambda variables, x: trunk.apply(variables, x, False)[4])
        features = extract(filled(trunk, images, weights), images)
        classify = jax.jit(lambda variables, x: tail.apply(variables, x, False))
        return np.asarray(classify(filled(tail, features, weights), features))


def probabilities(shared, images):
    """f32[b 1001] of the MobileNet v2 classifier."""
    build = TensorFlowBuilder(options=OPTIONS)
    weights = load_weights(shared / "data" / "weights" / V2)
    pooled = vectors(MobileNetV2Trunk(build), MobileNetV2Tail(build, 2), weights, images)
    kernel, bias = weights["predictions"]["kernel"][0, 0], weights["predictions_bn"]["beta"]
    return np.asarray(jax.nn.softmax(pooled @ kernel + bias, axis=-1))


def test_mobilenet_v2_knows_the_cup_and_the_cat(shared):
    images = np.stack([photograph(shared, name) for name in ("coffee", "chelsea")])
    scores = probabilities(shared, images)
    assert scores.argmax(axis=1).tolist() == [ESPRESSO, EGYPTIAN_CAT]
    # 0.76 and 0.51 are listed; how those photographs were cut to size is not
    assert scores.max(axis=1) == pytest.approx([0.76, 0.51], abs=0.1)


def test_mobilenet_v1_features_of_a_cat_are_near_its_mirror_image_and_far_from_a_cup(shared):
    cat, cup = photograph(shared, "chelsea"), photograph(shared, "coffee")
    build = TensorFlowBuilder()
    weights = load_weights(shared / "data" / "weights" / V1)
    images = np.stack([cat, cat[:, ::-1], cup])
    pooled = vectors(MobileNetV1Trunk(build), MobileNetV1Tail(build, 2), weights, images)
    units = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    mirrored, other = units[0] @ units[1], units[0] @ units[2]
    assert 0.33 <= other <= 0.49, "the listed range between a cat and a cup"
    assert mirrored > 0.71, "more than between two cats"


@pytest.mark.parametrize("name", ["coffee", "chelsea"])
@pytest.mark.peers
def test_the_classifier_has_the_probabilities_of_torch(shared, name):
    torch = pytest.importorskip("torch")
    image = photograph(shared, name)
    ours = probabilities(shared, image[None])[0]
    arrays = np.load(shared / "data" / "weights" / V2)
    rows = json.loads(str(arrays["spec"]))
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    for row in rows:
        weight, bias = (torch.from_numpy(arrays[f"{row['name']}.{part}"]) for part in "wb")
        if row is rows[-1]:
            x = x.mean((2, 3), keepdim=True)
        if row["act"] == "relu6" and row["kind"] == "conv":
            shortcut = x  # what enters the expansion of a block
        side, stride = weight.shape[-1], row["stride"]
        total = max((-(-x.shape[2] // stride) - 1) * stride + side - x.shape[2], 0)
        low, high = total // 2, total - total // 2
        padded = torch.nn.functional.pad(x, (low, high, low, high))
        groups = x.shape[1] if row["kind"] == "depthwise" else 1
        y = torch.nn.functional.conv2d(padded, weight, bias, stride, groups=groups)
        if row["act"] == "relu6":
            y = y.clamp(0, 6)
        elif y.shape == shortcut.shape:
            y = y + shortcut
        x = y
    theirs = torch.softmax(x.flatten(), 0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
