"""Feature pyramid network: every level gets the meaning of the levels above it.

    C5 ------ l5 ---------------- d5 -- post_hoc_d5 -- P5 -- P6 ...
    C4 ------ l4 -- + up2(d5) --- d4 -- post_hoc_d4 -- P4
    ...

Source: Lin et al., Feature Pyramid Networks, 2017, section 3;
docs/reference/mask_rcnn.md, "Network".
"""

import flax.linen as nn
import jax
from jax import lax

from rcnn_jax.models.batch_norm import normalised
from rcnn_jax.models.builder import Builder
from rcnn_jax.models.group_norm import Norm
from rcnn_jax.models.layers import GLOROT_UNIFORM, Conv, upsample_nearest
from rcnn_jax.structures import Levels

BACKBONE_MAX_LEVEL = 5


class FeaturePyramid(nn.Module):
    """Laterals `l<k>`, top-down sums, smoothing `post_hoc_d<k>`, then coarser levels.

    With norm, laterals and smoothing have batch norm (`l<k>_bn`, `post_hoc_d<k>_bn`) or group norm
    (`l<k>_gn`, `post_hoc_d<k>_gn`) instead of biases.
    With max_level 6, P6 is every second cell of P5; with more, `p6`, `p7`, ... are 3x3 convolutions
    of stride 2, each on the level before.

    Attributes:
      build: makes the layers.
      min_level: finest level, 2 to 5.
      max_level: coarsest level, at least 5.
      features: channels of every level.
      norm: behind laterals and smoothing.
    """

    build: Builder
    min_level: int
    max_level: int
    features: int = 256
    norm: Norm = "none"

    @nn.compact
    def __call__(self, backbone: Levels, train: bool) -> Levels:
        """Maps {2..5: f[b h w c_l]} to {min_level..max_level: f[b h w c]}."""
        tap = self.build.tap
        inner = range(self.min_level, BACKBONE_MAX_LEVEL + 1)
        # All laterals before the first smoothing: variables are listed in the order they are made,
        # and the original's table has `l2` to `l5`, then `post_hoc_d2` to `_d5`.
        laterals = {level: self._unit(f"l{level}", backbone[level], 1, train) for level in inner}
        top = BACKBONE_MAX_LEVEL
        merged = {top: tap(f"l{top}")(laterals[top])}
        for level in reversed(inner[:-1]):
            up = tap(f"FPN_up_{level}")(upsample_nearest(merged[level + 1]))
            name = f"FPN_add_{level}"
            merged[level] = tap(name)(self.build.add(name)(laterals[level], up))
        pyramid = {level: self._smooth(level, merged[level], train) for level in inner}
        if self.max_level == BACKBONE_MAX_LEVEL + 1:
            # A stride without weights, as in the paper. Only P6 is made so: from P7 on the original
            # has convolutions, and then `p6` is one of them.
            pyramid[self.max_level] = tap(f"p{self.max_level}")(_every_second(pyramid[top]))
            return pyramid
        for level in range(BACKBONE_MAX_LEVEL + 1, self.max_level + 1):
            coarser = self._conv(f"p{level}", 3, strides=2)(pyramid[level - 1])
            pyramid[level] = tap(f"p{level}")(coarser)
        return pyramid

    def _smooth(self, level: int, x: jax.Array, train: bool) -> jax.Array:
        name = f"post_hoc_d{level}"
        return self.build.tap(name)(self._unit(name, x, 3, train))

    def _unit(self, name: str, x: jax.Array, kernel_size: int, train: bool) -> jax.Array:
        conv = self._conv(name, kernel_size, use_bias=self.norm == "none")
        if self.norm == "bn":
            return normalised(conv, self.build.batch_norm(f"{name}_bn"), x, train)
        if self.norm == "group":
            return self.build.group_norm(f"{name}_gn", self.features)(conv(x))
        return conv(x)

    def _conv(
        self, name: str, kernel_size: int = 1, strides: int = 1, *, use_bias: bool = True
    ) -> Conv:
        return self.build.conv(
            name, self.features, kernel_size, strides, use_bias=use_bias, kernel_init=GLOROT_UNIFORM
        )


def _every_second(x: jax.Array) -> jax.Array:
    """Max pooling with window 1 and stride 2, written as the slice it is."""
    # A slice has a cheap derivative, and exports as Slice rather than as a pooling of one cell.
    return lax.slice(x, (0, 0, 0, 0), x.shape, (1, 2, 2, 1))
