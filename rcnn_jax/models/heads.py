"""The heads: RPN, box predictor, box head and mask head.

Shapes inside are those of the original file; background is last everywhere, its box slot included.
Deltas run (dy, dx, dh, dw). Results are float32 whatever the precision of the network.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.group_norm import Norm
from rcnn_jax.models.layers import GLOROT_UNIFORM, HE_NORMAL, Initializer
from rcnn_jax.structures import BoxOutputs, Levels, RpnOutputs

PREDICTORS = frozenset(
    {
        "rpn_out_class",
        "rpn_out_regress",
        "dense_class_td",
        "dense_regress_td",
        "rpn-class",
        "rpn-box",
        "class-predict",
        "box-predict",
        "mask_fcn_logits",
        *(f"{name}-{head}" for name in ("class-predict", "box-predict") for head in (2, 3, 4)),
    }
)
"""Layers whose width is a number of classes or anchors: never narrowed, never pruned."""


@dataclass(frozen=True, kw_only=True)
class RpnNames:
    """Names of the layers of a region proposal network.

    Attributes:
      conv: of the first 3x3 convolution.
      objectness: of the predictor of objectness.
      deltas: of the predictor of deltas.
      further: of the further 3x3 convolutions, a pattern for their numbers from 1 on.
    """

    conv: str
    objectness: str
    deltas: str
    further: str = ""


class RpnHead(nn.Module):
    """3x3 convolutions, then objectness and deltas per anchor; shared by all levels.

    Attributes:
      build: makes the layers.
      names: of the layers.
      features: width of the 3x3 convolutions.
      anchors_per_cell: k.
      kernel_init: of all kernels.
      depth: number of 3x3 convolutions.
    """

    build: Builder
    names: RpnNames
    features: int
    anchors_per_cell: int
    kernel_init: Initializer = GLOROT_UNIFORM
    depth: int = 1

    def setup(self):
        """Makes the layers once; every level calls them."""
        conv, init = self.build.conv, self.kernel_init
        anchors, names = self.anchors_per_cell, [self.names.conv]
        names += [self.names.further.format(number) for number in range(1, self.depth)]
        # In `setup`, not compact: a compact method would make the layers anew for every level.
        self.convs = [
            conv(name, self.features, 3, use_bias=True, kernel_init=init) for name in names
        ]
        self.relus = [self.build.relu(f"{name}_relu") for name in names]
        self.objectness = conv(self.names.objectness, anchors, use_bias=True, kernel_init=init)
        self.deltas = conv(self.names.deltas, 4 * anchors, use_bias=True, kernel_init=init)

    def __call__(self, features: Levels) -> RpnOutputs:
        """Maps {level: f[b h w c]} to logits f32[b h w k] and deltas f32[b h w k 4] per level."""
        objectness, deltas = {}, {}
        for call, (level, x) in enumerate(features.items()):
            for conv, relu in zip(self.convs, self.relus, strict=True):
                x = relu(conv(x, call))
            objectness[level] = self.objectness(x, call).astype(jnp.float32)
            boxes = self.deltas(x, call).astype(jnp.float32)
            deltas[level] = boxes.reshape(*boxes.shape[:3], self.anchors_per_cell, 4)
        return RpnOutputs(objectness=objectness, deltas=deltas)


class BoxPredictor(nn.Module):
    """Class logits and class-specific deltas from roi vectors.

    Attributes:
      build: makes the layers.
      classes_name: name of the layer of logits.
      deltas_name: name of the layer of deltas.
      num_classes: n, without background.
      box_slots: classes that have deltas in the file: n, or n+1 with an unused last slot.
      classes_init: of the kernel of the logits.
      deltas_init: of the kernel of the deltas.
      one_box: all classes have the same deltas, and the layer four outputs (heads of a cascade).
    """

    build: Builder
    classes_name: str
    deltas_name: str
    num_classes: int
    box_slots: int
    classes_init: Initializer = GLOROT_UNIFORM
    deltas_init: Initializer = GLOROT_UNIFORM
    one_box: bool = False

    @nn.compact
    def __call__(self, vectors: jax.Array, rois: int) -> BoxOutputs:
        """Maps f[b*r c] with r = `rois` to logits f32[b r n+1] and deltas f32[b r n 4]."""
        classes = self.num_classes
        logits = self.build.dense(self.classes_name, classes + 1, self.classes_init)(vectors)
        slots = 1 if self.one_box else self.box_slots
        deltas = self.build.dense(self.deltas_name, 4 * slots, self.deltas_init)(vectors)
        if self.one_box:
            boxes = split_rois(deltas.astype(jnp.float32), rois)[:, :, None, :]
            return BoxOutputs(
                logits=split_rois(logits.astype(jnp.float32), rois),
                deltas=jnp.broadcast_to(boxes, (*boxes.shape[:2], classes, 4)),
            )
        # The slot of the background is in the file alone: no loss reads it, and leaving it out here
        # keeps tasks and exported graphs at n boxes. A slice, since `[..., :n]` may export as a
        # gather.
        deltas = lax.slice_in_dim(deltas.astype(jnp.float32), 0, 4 * classes, axis=1)
        return BoxOutputs(
            logits=split_rois(logits.astype(jnp.float32), rois),
            deltas=split_rois(deltas, rois).reshape(-1, rois, classes, 4),
        )


def merge_rois(crops: jax.Array) -> jax.Array:
    """[b r ...] -> [b*r ...]."""
    return crops.reshape(crops.shape[0] * crops.shape[1], *crops.shape[2:])


def split_rois(rows: jax.Array, rois: int) -> jax.Array:
    """[b*r ...] -> [b r ...] with r = `rois`."""
    return rows.reshape(rows.shape[0] // rois, rois, *rows.shape[1:])


class BoxHead(nn.Module):
    """From the crop to a vector: two dense layers, or four 3x3 convolutions and a dense one.

    The layers are `fc6`, `fc7`, or `box-conv-l0` to `box-conv-l3` and `fc6`.

    Attributes:
      build: makes the layers.
      features: width of the dense layers.
      convs: number of 3x3 convolutions; with any there is no `fc7`.
      norm: behind the convolutions, instead of biases.
      conv_features: width of the convolutions.
      suffix: of the names of the layers.
    """

    build: Builder
    features: int
    convs: int = 0
    norm: Norm = "none"
    conv_features: int = 256
    suffix: str = ""

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, rows: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c], flattened in the order H, W, C, to f[b*r c']; rows as in BatchNorm."""
        names = [f"box-conv-l{index}{self.suffix}" for index in range(self.convs)]
        x = _convs(self.build, names, self.conv_features, self.norm, crops, train, rows)
        # Row, column, channel. The original flattens channels first; `fc6` is reordered where
        # weights are imported, so that no transpose of all crops runs in every step.
        x = x.reshape(x.shape[0], -1)
        for layer in ("fc6",) if self.convs else ("fc6", "fc7"):
            name = f"{layer}{self.suffix}"
            x = self.build.relu(f"{name}_relu")(self.build.dense(name, self.features)(x))
        return x


class MaskHead(nn.Module):
    """Four 3x3 convolutions, upsampling by two, one logit per class and cell.

    Attributes:
      build: makes the layers.
      num_classes: n, without background; the layer has n+1 outputs, the last is unused.
      features: width of the convolutions.
      norm: behind the convolutions, instead of biases.
    """

    build: Builder
    num_classes: int
    features: int = 256
    norm: Norm = "none"

    @nn.compact
    def __call__(self, crops: jax.Array, train: bool, rows: jax.Array | None = None) -> jax.Array:
        """Maps f[b*r s s c] to logits f32[b*r 2s 2s n]; rows as in BatchNorm."""
        build, names = self.build, [f"mask-conv-l{index}" for index in range(4)]
        x = _convs(build, names, self.features, self.norm, crops, train, rows)
        x = build.transposed("conv5-mask", self.features, 2, HE_NORMAL)(x)
        x = build.relu("conv5-mask_relu")(x)
        # He like the rest of the head, unlike the other predictors: the original draws it so.
        logits = build.conv("mask_fcn_logits", self.num_classes + 1, use_bias=True)(x)
        return lax.slice_in_dim(logits.astype(jnp.float32), 0, self.num_classes, axis=3)


def _convs(
    build: Builder,
    names: list[str],
    features: int,
    norm: Norm,
    x: jax.Array,
    train: bool,
    rows: jax.Array | None,
) -> jax.Array:
    """Applies 3x3 convolutions, each with a norm or a bias and with ReLU."""
    for name in names:
        conv = build.conv(name, features, 3, use_bias=norm == "none", kernel_init=HE_NORMAL)
        if norm == "bn":
            x = normalised(conv, build.batch_norm(f"{name}_bn"), x, train, rows)
        elif norm == "group":
            x = build.group_norm(f"{name}_gn", features)(conv(x))
        else:
            x = conv(x)
        x = build.relu(f"{name}_relu")(x)
    return x
