"""Boxes `(y1, x1, y2, x2)` as float32 arrays [... 4] in continuous pixel coordinates.

A box covers (y2-y1)(x2-x1) pixels: there is no "+1". Everything here is elementwise or pairwise, so
it works for any leading axes and under `jax.vmap`.
"""

import jax
import jax.numpy as jnp

from rcnn_jax.structures import Array

_MIN_UNION = 1e-9  # keeps 0/0 of two empty boxes at 0


def corners(boxes: Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Splits boxes [... 4] into (y1, x1, y2, x2), each [...]."""
    # an index instead of the squeeze becomes a gather where the batch size is symbolic (export)
    y1, x1, y2, x2 = (jnp.squeeze(c, -1) for c in jnp.split(jnp.asarray(boxes), 4, axis=-1))
    return y1, x1, y2, x2


def area(boxes: Array) -> jax.Array:
    """Returns the area f32[...] of boxes [... 4] in square pixels."""
    y1, x1, y2, x2 = corners(boxes)
    # No cut at 0: decoding and clipping keep y1 <= y2 and x1 <= x2, and the cut would be two more
    # nodes in every exported graph.
    return (y2 - y1) * (x2 - x1)


def iou_matrix(a: Array, b: Array) -> jax.Array:
    """Returns the intersection over union of every pair.

    The expression `inter / max(area_a + area_b - inter, 1e-9)` in float32 is the only one in use,
    so that NMS, matching and their tests round alike.

    Args:
      a: f32[n 4].
      b: f32[m 4].

    Returns:
      f32[n m] in [0, 1]; 0 for disjoint and for empty boxes.
    """
    top, left, bottom, right = (side[:, None] for side in corners(a))
    y1, x1, y2, x2 = (side[None, :] for side in corners(b))
    # Each side is cut at 0 before the product: two negative sides would make a positive overlap.
    height = jnp.maximum(jnp.minimum(bottom, y2) - jnp.maximum(top, y1), 0.0)
    width = jnp.maximum(jnp.minimum(right, x2) - jnp.maximum(left, x1), 0.0)
    inter = height * width  # [n m]
    union = area(a)[:, None] + area(b)[None, :] - inter
    # A quotient, although `inter > t * union` spares the division: it rounds otherwise at the
    # threshold, and then NMS, its tests and an exported graph keep different boxes.
    return inter / jnp.maximum(union, _MIN_UNION)


def clip(boxes: Array, size: Array | tuple[float, float]) -> jax.Array:
    """Moves every corner into the image.

    Args:
      boxes: f32[... 4].
      size: (height, width) in pixels, as scalars or f32[2].

    Returns:
      f32[... 4] with y in [0, height] and x in [0, width]; boxes outside become empty.
    """
    height, width = size[0], size[1]
    y1, x1, y2, x2 = corners(boxes)
    return jnp.stack(
        [
            jnp.clip(y1, 0.0, height),
            jnp.clip(x1, 0.0, width),
            jnp.clip(y2, 0.0, height),
            jnp.clip(x2, 0.0, width),
        ],
        axis=-1,
    )


def scale(boxes: Array, yx: Array | tuple[float, float]) -> jax.Array:
    """Multiplies the y of boxes [... 4] by yx[0] and the x by yx[1]."""
    y1, x1, y2, x2 = corners(boxes)
    return jnp.stack([y1 * yx[0], x1 * yx[1], y2 * yx[0], x2 * yx[1]], axis=-1)


def wide_enough(boxes: Array, min_size: float) -> jax.Array:
    """Returns bool[...], boxes [... 4] whose sides are both greater than min_size pixels."""
    y1, x1, y2, x2 = corners(boxes)
    return (y2 - y1 > min_size) & (x2 - x1 > min_size)
