"""Arrays that travel together: fixed shapes, explicit validity, explicit units.

Letters: b images, h w pixels or cells, c channels, k anchors per cell, a anchors, m ground truths,
p proposals, r rois, d detections, n classes (background never counted), s mask side.

Boxes are `(y1, x1, y2, x2)` in float32 absolute pixels of the network input, in continuous
coordinates: the area is (y2-y1)(x2-x1), there is no "+1". Deltas are (dy, dx, dh, dw). Entries whose
`valid` is False hold finite values of no meaning: nothing is encoded in coordinates or class ids.
The same structures hold one image (no leading b) inside functions that are mapped over a batch.
"""

from typing import Any

import flax.struct
import jax

from rcnn_jax.batches import Array as Array
from rcnn_jax.batches import Batch as Batch
from rcnn_jax.batches import GroundTruth as GroundTruth

# Registered here and not where they are defined, since `batches` must not import jax: whoever
# gives one to jax imports it from this module.
jax.tree_util.register_dataclass(GroundTruth)
jax.tree_util.register_dataclass(Batch)

Levels = dict[int, Array]
"""A feature pyramid or anything else given per level; level l has stride 2**l."""


class RpnOutputs(flax.struct.PyTreeNode):
    """Attributes: objectness {level: f32[b h w k]} logits; deltas {level: f32[b h w k 4]}."""

    objectness: Levels
    deltas: Levels


class Proposals(flax.struct.PyTreeNode):
    """Attributes: boxes f32[b p 4]; scores f32[b p] in [0, 1], descending; valid bool[b p]."""

    boxes: Array
    scores: Array
    valid: Array


class RpnTargets(flax.struct.PyTreeNode):
    """Targets of the RPN losses.

    Attributes:
      labels: i32[b a]: 1 positive, 0 negative, -1 takes no part in the objectness loss.
      deltas: f32[b a 4], encoded box of the matched ground truth, meaningful where box_mask.
      box_mask: bool[b a], anchors that take part in the box loss.
    """

    labels: Array
    deltas: Array
    box_mask: Array


class RoiTargets(flax.struct.PyTreeNode):
    """Sampled rois of training and the targets of the heads.

    Attributes:
      boxes: f32[b r 4].
      classes: i32[b r] in [0, n]; n is background.
      deltas: f32[b r 4] encoded with the weights of the box coder, meaningful where foreground.
      gt_index: i32[b r], the matched ground truth, meaningful where foreground.
      foreground: bool[b r]; foreground rois come first.
      valid: bool[b r]; False where fewer rois than r could be sampled.
    """

    boxes: Array
    classes: Array
    deltas: Array
    gt_index: Array
    foreground: Array
    valid: Array


class BoxOutputs(flax.struct.PyTreeNode):
    """Attributes: logits f32[b r n+1], background last; deltas f32[b r n 4]."""

    logits: Array
    deltas: Array


class Detections(flax.struct.PyTreeNode):
    """Final detections, best first.

    Attributes:
      boxes: f32[b d 4].
      scores: f32[b d] in [0, 1].
      classes: i32[b d] in [0, n).
      valid: bool[b d].
      masks: f32[b d s s] probabilities inside the box, or None.
    """

    boxes: Array
    scores: Array
    classes: Array
    valid: Array
    masks: Array | None = None


class TrainState(flax.struct.PyTreeNode):
    """State on the device that a step reads and writes.

    Attributes:
      step: i32[], steps already taken.
      params: trainable leaves and frozen leaves, nested by module name.
      collections: other variable collections: batch_stats, later quant.
      opt_state: state of the optimizer; nothing is kept for frozen leaves.
      ema: exponential moving average of params, or None.
      loss_scale: of float16, `train.loss_scale.LossScale`; None in other precisions.
      epoch_sums: {name: f32[2]}, (sum, count) of every loss term since the epoch began.
      key: the root key of all device randomness; constant over the run.
      tempo: f32[], steps of the written schedule per step, where the length of the run is planned by
        time; None where the spec states it.
    """

    step: Array
    params: Any
    collections: Any
    opt_state: Any
    ema: Any
    loss_scale: Any
    epoch_sums: Any
    key: Array
    tempo: Any = None
