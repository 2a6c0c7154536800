"""Exact greedy non-maximum suppression with fixed shapes.

Boxes are sorted once and visited in tiles, best first:

    tile -> drop what a kept box of an earlier tile suppresses
         -> inside the tile repeat  keep = alive & ~any(suppresses & keep)  until nothing changes
         -> append to the kept boxes; stop as soon as max_keep are there

Row j of the repetition depends only on rows before j, so its fixed point is the greedy result, and
it is reached after as many rounds as the longest chain of suppressions (6 to 9), not after n. With
one tile this is the full-matrix method, which suits a GPU; small tiles suit a CPU.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.boxes import iou_matrix
from rcnn_jax.ops.gather import gather_rows
from rcnn_jax.ops.marker import marked
from rcnn_jax.structures import Array

_CPU_TILE = 256
_ACCELERATOR_TILE = 2048  # one RPN level; the full matrix of 12000 boxes would take 144 MB of bool


def nms(
    boxes: Array,
    scores: Array,
    valid: Array,
    *,
    threshold: float,
    max_keep: int,
    tile: int | None = _CPU_TILE,
) -> tuple[jax.Array, jax.Array]:
    """Returns the boxes that greedy suppression keeps, best first.

    A box is suppressed when its IoU with a kept box of a higher score is greater than the
    threshold; of equal scores the lower index goes first. These are the semantics of ONNX
    `NonMaxSuppression`.

    Args:
      boxes: f32[n 4].
      scores: f32[n], any finite values.
      valid: bool[n]; other boxes neither stay nor suppress.
      threshold: IoU in [0, 1].
      max_keep: k, at most this many are kept.
      tile: boxes visited at a time; None for all at once. The result does not depend on it.

    Returns:
      (index i32[k], valid bool[k]); index is 0 where not valid.
    """
    # Negated rather than reversed: a reversed ascending sort would put equal scores in descending
    # order of their index.
    order = jnp.argsort(-jnp.where(valid, scores, -jnp.inf))  # stable: ties keep the lower index
    rank, kept = ranked_nms(
        jnp.asarray(boxes)[order],
        jnp.asarray(valid)[order],
        threshold=threshold,
        max_keep=max_keep,
        tile=tile,
    )
    return jnp.where(kept, order[rank], 0), kept


def ranked_nms(
    boxes: Array, valid: Array, *, threshold: float, max_keep: int, tile: int | None = _CPU_TILE
) -> tuple[jax.Array, jax.Array]:
    """Returns `nms` of boxes that are best first already, as a top-k leaves them."""
    count = boxes.shape[0]
    side = count if tile is None else min(tile, count)
    tiles = -(-count // side)
    boxes = jnp.pad(jnp.asarray(boxes), ((0, tiles * side - count), (0, 0)))
    alive = jnp.pad(jnp.asarray(valid), (0, tiles * side - count))
    slots = -(-max_keep // side) * side  # whole tiles, so that kept boxes are read tile by tile
    # A box may be suppressed only by one before it: the strict upper triangle keeps ties one-sided.
    before = jnp.arange(side)[:, None] < jnp.arange(side)[None, :]

    def visit(state):
        step, kept, kept_boxes, kept_rows = state
        here = lax.dynamic_slice_in_dim(boxes, step * side, side)

        def drop(chunk, left):
            earlier = lax.dynamic_slice_in_dim(kept_boxes, chunk * side, side)
            return left & ~jnp.any(iou_matrix(earlier, here) > threshold, axis=0)

        # Free slots hold empty boxes, whose IoU of 0 suppresses nothing.
        left = lax.dynamic_slice_in_dim(alive, step * side, side)
        left = lax.fori_loop(0, (kept + side - 1) // side, drop, left)
        keep = _fixed_point((iou_matrix(here, here) > threshold) & before, left)
        # Boxes not kept, and those beyond the last slot, are written out of range and dropped.
        # A running count gives the slot: the order is known, so nothing is sorted again.
        slot = jnp.where(keep, kept + jnp.cumsum(keep) - 1, slots)
        return (
            step + 1,
            kept + jnp.sum(keep),
            kept_boxes.at[slot].set(here, mode="drop"),
            kept_rows.at[slot].set(step * side + jnp.arange(side), mode="drop"),
        )

    _, kept, _, kept_rows = lax.while_loop(
        lambda state: (state[0] < tiles) & (state[1] < max_keep),
        visit,
        (0, 0, jnp.zeros((slots, 4), boxes.dtype), jnp.zeros(slots, jnp.int32)),
    )
    valid_slot = jnp.arange(max_keep) < kept  # the last tile may have kept more than were asked for
    return jnp.where(valid_slot, kept_rows[:max_keep], 0), valid_slot


def batched_nms(
    boxes: Array, scores: Array, valid: Array, *, threshold: float, max_keep: int
) -> tuple[jax.Array, jax.Array]:
    """Returns `nms` of every row: all levels or all classes of an image in one call.

    The tile size follows the platform the function is compiled for.

    Args:
      boxes: f32[g n 4].
      scores: f32[g n].
      valid: bool[g n].
      threshold: IoU in [0, 1].
      max_keep: k per row.

    Returns:
      (index i32[g k], valid bool[g k]).
    """
    # One mapped call for all rows: two thirds of the compilation of a call per level, and fewer
    # steps for a GPU to wait for. A CPU pays for the slowest row: 18 ms for five levels, not 13.
    op = marked("nms", _sort_and_suppress, threshold=threshold, max_keep=max_keep)
    return op(boxes, scores, valid)


def batched_ranked_nms(
    boxes: Array, scores: Array, valid: Array, *, threshold: float, max_keep: int
) -> tuple[jax.Array, jax.Array]:
    """Returns `batched_nms` of rows whose valid scores descend already, without sorting again."""
    op = marked("ranked_nms", _suppress, threshold=threshold, max_keep=max_keep)
    return op(boxes, scores, valid)


def best_over_rows(
    boxes: Array, scores: Array, index: Array, kept: Array, count: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns the best boxes that NMS kept, over all rows (levels or classes) together.

    Args:
      boxes: f32[g n 4].
      scores: f32[g n], >= 0.
      index: i32[g k] from `batched_nms`.
      kept: bool[g k] from `batched_nms`.
      count: d, how many to return; the end is invalid if there are fewer.

    Returns:
      (boxes f32[d 4], scores f32[d] descending, row i32[d], valid bool[d]); equal scores come in
      the order of rows, and invalid scores are 0.
    """
    groups, members = scores.shape
    flat_index = (jnp.arange(groups)[:, None] * members + index).reshape(-1)
    kept_scores = gather_rows(scores.reshape(-1), flat_index)
    # Below every score, so that the sign alone says what was kept.
    kept_scores = jnp.where(kept.reshape(-1), kept_scores, -1.0)
    best, chosen = lax.top_k(kept_scores, min(count, flat_index.shape[0]))
    flat_index = gather_rows(flat_index, chosen)
    missing = count - best.shape[0]
    return (
        jnp.pad(gather_rows(boxes.reshape(-1, 4), flat_index), ((0, missing), (0, 0))),
        jnp.pad(jnp.maximum(best, 0.0), (0, missing)),
        # `lax.div`: the `//` of arrays rounds down and exports as sign, remainder and select.
        jnp.pad(lax.div(flat_index, jnp.full_like(flat_index, members)), (0, missing)),
        jnp.pad(best >= 0.0, (0, missing)),
    )


def _sort_and_suppress(boxes, scores, valid, *, threshold, max_keep):
    one = functools.partial(nms, threshold=threshold, max_keep=max_keep)
    return _by_platform(one, boxes, scores, valid)


def _suppress(boxes, scores, valid, *, threshold, max_keep):
    del scores  # for the exported graph alone: here the rows are sorted already
    one = functools.partial(ranked_nms, threshold=threshold, max_keep=max_keep)
    return _by_platform(one, boxes, valid)


def _by_platform(one, *operands):
    """Maps `one` over rows, with the tile that suits the platform."""
    # Few and large steps for a GPU, where each round of a loop waits for the one before it; tiles
    # that stay in the caches for a CPU: 12000 to 1000 takes 5 ms in tiles, 507 as one matrix.
    return lax.platform_dependent(
        *operands,
        cpu=jax.vmap(functools.partial(one, tile=_CPU_TILE)),
        default=jax.vmap(functools.partial(one, tile=_ACCELERATOR_TILE)),
    )


def _fixed_point(suppresses: jax.Array, alive: jax.Array) -> jax.Array:
    """Returns bool[n], the boxes that no kept box suppresses; suppresses[i, j] is bool[n n]."""

    def again(state):
        keep, _ = state
        smaller = alive & ~jnp.any(suppresses & keep[:, None], axis=0)
        return smaller, jnp.any(smaller != keep)

    # Nothing alive, nothing to do: tiles of padding cost no round.
    keep, _ = lax.while_loop(lambda state: state[1], again, (alive, jnp.any(alive)))
    return keep
