"""The matcher: which ground truth an anchor belongs to, and whether it is positive or negative.

    overlap >= positive_overlap, or forced by a ground truth      1
    overlap <  negative_overlap                                   0
    between, outside the image (`outside`), or mostly crowd      -1

270,000 anchors times 200 ground truths would be 216 MB per image, so ground truths are visited a
few at a time, all anchors at once, and only up to the last one that is not padding.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.boxes import corners, iou_matrix
from rcnn_jax.settings.detection import RpnTargetSettings
from rcnn_jax.structures import Array

# Ground truths visited at a time: 270,000 anchors times 8 overlaps are 8.6 MB, near the caches;
# with one at a time, the loop would read all anchors once for each object.
_BLOCK = 8


class Matches(flax.struct.PyTreeNode):
    """The matches of a anchors.

    Attributes:
      gt_index: i32[a], the ground truth with the best overlap, or the one that forced the match;
        meaningful where label is 1.
      label: i32[a], 1 positive, 0 negative, -1 neither.
      overlap: f32[a], the best IoU with a ground truth that is not crowd.
    """

    gt_index: jax.Array
    label: jax.Array
    overlap: jax.Array


def match_anchors(
    anchors: Array,
    gt_boxes: Array,
    gt_valid: Array,
    settings: RpnTargetSettings,
    image_size: Array,
    gt_crowd: Array | None = None,
) -> Matches:
    """Matches the anchors of one image.

    Ties between ground truths go to the lower index; ties between anchors for the best one go to the
    lower index too (except `ties`, where all win). An anchor that two ground truths force goes to the
    one with the higher index. Overlap 0 forces nothing.

    Args:
      anchors: f32[a 4].
      gt_boxes: f32[m 4].
      gt_valid: bool[m]; padding is never matched.
      settings: thresholds and rules.
      image_size: (height, width) that decides what is outside.
      gt_crowd: bool[m] or None. Crowd is never matched; an anchor whose best overlap is with a
        crowd box is -1 unless a ground truth forces it.

    Source: Ren et al. 2015, section 3.1.2; docs/reference/faster_rcnn.md, "RPN targets",
    without its "+1"; docs/reference/mask_rcnn.md, "RPN targets".
    """
    anchors, gt_boxes = jnp.asarray(anchors), jnp.asarray(gt_boxes)
    count = anchors.shape[0]
    inside = _taking_part(anchors, image_size, settings)
    real = jnp.asarray(gt_valid)
    if gt_crowd is not None:
        real &= ~jnp.asarray(gt_crowd)
    best = _best_overlaps(anchors, inside, gt_boxes, real)
    positive = inside & (best.overlap >= settings.positive_overlap)
    label = jnp.where(positive, 1, jnp.where(best.overlap < settings.negative_overlap, 0, -1))
    if gt_crowd is not None:
        crowd = _best_overlaps(anchors, inside, gt_boxes, gt_valid & jnp.asarray(gt_crowd))
        # Greater, not equal: an anchor that fits an object and a crowd alike is the object's.
        label = jnp.where(crowd.overlap > best.overlap, -1, label)
        positive &= label == 1
    # After the thresholds: overlaps outside the image were set to 0 and read as negative there.
    label = jnp.where(inside, label, -1)

    gt_index = best.gt_index
    if settings.force_match == "ties":
        label = jnp.where(best.ties_gt, 1, label)
    else:
        # An object that overlaps no anchor has anchor 0 as its argmax and must not force it.
        forcing = best.gt_overlap > 0.0
        if settings.force_match == "unmatched_best":
            matched = jnp.zeros(forcing.shape, bool).at[gt_index].max(positive, mode="drop")
            forcing &= ~matched
        # An anchor is forced by the highest index; -1 stands for none.
        numbers = jnp.arange(forcing.shape[0])
        forced = jnp.full(count, -1).at[best.gt_anchor].max(jnp.where(forcing, numbers, -1))
        label = jnp.where(forced >= 0, 1, label)
        gt_index = jnp.where(forced >= 0, forced, gt_index)
    return Matches(gt_index=gt_index, label=label, overlap=best.overlap)


class _Best(NamedTuple):
    """Best overlaps both ways.

    Attributes:
      overlap: f32[a], of every anchor with any ground truth.
      gt_index: i32[a], the first ground truth with that overlap.
      ties_gt: bool[a], the anchor has the best overlap, above 0, of some ground truth.
      gt_overlap: f32[m], of every ground truth with any anchor.
      gt_anchor: i32[m], the first anchor with that overlap.
    """

    overlap: jax.Array
    gt_index: jax.Array
    ties_gt: jax.Array
    gt_overlap: jax.Array
    gt_anchor: jax.Array


def _best_overlaps(anchors, inside, gt_boxes, real) -> _Best:
    """Returns the best overlaps between anchors that are inside and ground truths that are real."""
    count, truths = anchors.shape[0], gt_boxes.shape[0]
    blocks = -(-truths // _BLOCK)
    # Whole blocks: `dynamic_slice` moves a last block that is too long back, onto objects of the
    # block before it.
    padded_boxes = jnp.pad(gt_boxes, ((0, blocks * _BLOCK - truths), (0, 0)))
    padded_real = jnp.pad(real, (0, blocks * _BLOCK - truths))
    # Counted to the last real object, since padding need not be at the end: with crowd masked out
    # there are gaps. The trip count is a value, not a shape: one compilation for all images.
    needed = jnp.max(jnp.where(real, jnp.arange(truths) + 1, 0), initial=0)

    def visit(block, best):
        first = block * _BLOCK
        boxes = lax.dynamic_slice_in_dim(padded_boxes, first, _BLOCK)
        used = lax.dynamic_slice_in_dim(padded_real, first, _BLOCK)
        overlap = iou_matrix(boxes, anchors)
        overlap = jnp.where(used[:, None] & inside[None, :], overlap, 0.0)  # [8 a]
        # The comparisons below are for equality, so the overlaps must have one rounding: without the
        # barrier XLA may compute them twice, in fusions that round differently.
        overlap = lax.optimization_barrier(overlap)
        anchor_best = jnp.max(overlap, axis=0)
        # Strictly greater, as argmax is within a block: of equal overlaps the lower index stays.
        better = anchor_best > best.overlap
        gt_overlap = jnp.max(overlap, axis=1)
        is_best = (overlap == gt_overlap[:, None]) & (gt_overlap > 0.0)[:, None]
        gt_anchor = jnp.argmax(overlap, axis=1).astype(jnp.int32)
        return _Best(
            overlap=jnp.maximum(anchor_best, best.overlap),
            gt_index=jnp.where(
                better, first + jnp.argmax(overlap, axis=0).astype(jnp.int32), best.gt_index
            ),
            ties_gt=best.ties_gt | jnp.any(is_best, axis=0),
            gt_overlap=lax.dynamic_update_slice_in_dim(best.gt_overlap, gt_overlap, first, 0),
            gt_anchor=lax.dynamic_update_slice_in_dim(best.gt_anchor, gt_anchor, first, 0),
        )

    best = lax.fori_loop(
        0,
        (needed + _BLOCK - 1) // _BLOCK,
        visit,
        _Best(
            overlap=jnp.zeros(count, jnp.float32),
            gt_index=jnp.zeros(count, jnp.int32),
            ties_gt=jnp.zeros(count, bool),
            gt_overlap=jnp.zeros(blocks * _BLOCK, jnp.float32),
            gt_anchor=jnp.zeros(blocks * _BLOCK, jnp.int32),
        ),
    )
    return best._replace(gt_overlap=best.gt_overlap[:truths], gt_anchor=best.gt_anchor[:truths])


def _taking_part(anchors: jax.Array, image_size: Array, settings: RpnTargetSettings) -> jax.Array:
    """Returns bool[a], which anchors may be positive or negative."""
    if settings.outside == "train":
        return jnp.ones(anchors.shape[0], bool)
    inside = _inside(anchors, image_size)
    if settings.outside == "ignore":
        return inside
    by_size = inside.reshape(-1, settings.anchors_per_cell)
    # A size that fits nowhere trains everywhere: untrained, it would keep the scores of its first
    # weights and fill the proposals (docs/tao_differences.md, "Training").
    return (by_size | ~jnp.any(by_size, axis=0, keepdims=True)).reshape(-1)


def _inside(boxes: jax.Array, image_size: Array) -> jax.Array:
    """Returns bool[a], boxes within the image, borders included."""
    y1, x1, y2, x2 = corners(boxes)
    return (y1 >= 0.0) & (x1 >= 0.0) & (y2 <= image_size[0]) & (x2 <= image_size[1])
