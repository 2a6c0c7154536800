"""The box coder: a box as its offset from a reference box.

    dy = wy (cy - cy_ref) / h_ref        dh = wh log(h / h_ref)        and the same for x, w

with centres c, sides h w and one weight per delta. The laws: `decode(r, encode(r, b)) == b` for
boxes up to exp(max_log_size) times their reference, and `decode(r, 0) == r`.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rcnn_jax.ops.boxes import corners
from rcnn_jax.structures import Array

_MIN_SIDE = 1e-8  # padding boxes are empty: their logarithms and quotients stay finite


@dataclass(frozen=True)
class BoxCoder:
    """Encodes boxes as deltas (dy, dx, dh, dw) and back, in float32.

    Attributes:
      weights: factors of (dy, dx, dh, dw): `std_scaling` for the RPN of Faster R-CNN,
        `classifier_regr_std` or (10, 10, 5, 5) for the box heads.
      max_log_size: decoded dh and dw are cut to this, so that an untrained network makes no
        infinite boxes. Deviation: TAO Faster R-CNN does not cut; no trained network comes near.

    Source: Ren et al. 2015, section 3.1.2; docs/reference/faster_rcnn.md, "RPN targets",
    without its "+1".
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    max_log_size: float = math.log(1000.0 / 16.0)

    def encode(self, references: Array, boxes: Array) -> jax.Array:
        """Returns the deltas f32[... 4] that lead from references to boxes, both f32[... 4].

        Empty references or boxes give finite deltas of no meaning.
        """
        ref_y, ref_x, ref_h, ref_w = _centre_form(references)
        y, x, h, w = _centre_form(boxes)
        ref_h, ref_w, h, w = (jnp.maximum(side, _MIN_SIDE) for side in (ref_h, ref_w, h, w))
        # Not cut to max_log_size as decoding is: a cut target would teach boxes that are too small,
        # and only a match forced at an IoU below 1/62 comes to the limit.
        wy, wx, wh, ww = self.weights
        return jnp.stack(
            [
                wy * (y - ref_y) / ref_h,
                wx * (x - ref_x) / ref_w,
                wh * jnp.log(h / ref_h),
                ww * jnp.log(w / ref_w),
            ],
            axis=-1,
        )

    def decode(self, references: Array, deltas: Array) -> jax.Array:
        """Returns the boxes f32[... 4] that deltas describe; a broadcast axis of length 1 is fine.

        Args:
          references: f32[... 4].
          deltas: [... 4] of any float type; computed in float32.
        """
        ref_y, ref_x, ref_h, ref_w = _centre_form(references)
        dy, dx, dh, dw = corners(jnp.asarray(deltas).astype(jnp.float32))
        wy, wx, wh, ww = self.weights
        y = ref_y + dy / wy * ref_h
        x = ref_x + dx / wx * ref_w
        # The cut comes before the exponential: after it, an empty reference gives 0 * inf, a NaN.
        half_h = 0.5 * ref_h * jnp.exp(jnp.minimum(dh / wh, self.max_log_size))
        half_w = 0.5 * ref_w * jnp.exp(jnp.minimum(dw / ww, self.max_log_size))
        return jnp.stack([y - half_h, x - half_w, y + half_h, x + half_w], axis=-1)


def _centre_form(boxes: Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns (centre y, centre x, height, width), each [...]."""
    y1, x1, y2, x2 = corners(jnp.asarray(boxes).astype(jnp.float32))
    return (y1 + y2) * 0.5, (x1 + x2) * 0.5, y2 - y1, x2 - x1
