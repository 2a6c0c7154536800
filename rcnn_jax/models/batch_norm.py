"""Batch norm, and the convolution that it folds into while a step trains with frozen statistics.

Leaves are named as in Keras: `gamma` and `beta` in `params`, `moving_mean` and `moving_variance` in
`batch_stats`. All arithmetic is float32; the result is cast back.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.models.layers import Conv, DepthwiseConv
from rcnn_jax.ops.over_devices import mean_over, sum_over


class BatchNorm(nn.Module):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel over all other axes.

    In training the mean and the biased variance of the batch are used, over every device of
    `axis_name`, and the moving averages take `moving * momentum + batch * (1 - momentum)`, so the
    collection `batch_stats` must be mutable. Everywhere else, and always when `frozen`, the moving
    averages are used; gamma and beta stay trainable. All arithmetic is float32.

    Attributes:
      epsilon: added to the variance.
      momentum: weight of the old moving average.
      frozen: statistics stay as they are in training too.
      axis_name: mapped axis the statistics are averaged over, or None.
      dtype: of the result.
    """

    epsilon: float = 1e-3
    momentum: float = 0.99
    frozen: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        rows: jax.Array | None = None,
        conv: Conv | DepthwiseConv | None = None,
    ) -> jax.Array:
        """Normalises [b ... c].

        Args:
          x: what is normalised.
          train: use and update batch statistics, unless `frozen`.
          rows: f32[b], 1 for rows that count in the statistics and 0 for padding, such as rois that
            were not sampled; None where all count.
          conv: `x` is the input of this layer, which normalises its result itself; needs `frozen`.
        """
        width = getattr(conv, "features", x.shape[-1])  # a depthwise layer keeps that of its input
        shape = (width,)
        gamma = self.param("gamma", nn.initializers.ones_init(), shape)
        beta = self.param("beta", nn.initializers.zeros_init(), shape)
        moving_mean = self.variable("batch_stats", "moving_mean", jnp.zeros, shape, jnp.float32)
        moving_variance = self.variable(
            "batch_stats", "moving_variance", jnp.ones, shape, jnp.float32
        )
        if conv is None:
            x = x.astype(jnp.float32)
        if train and not self.frozen:
            keep = self.momentum
            if rows is None:
                mean, variance = self._batch_statistics(x)
            else:
                mean, variance, count = self._row_statistics(x, rows)
                keep = jnp.where(count > 0, keep, 1.0)  # nothing was seen
            # `init` returns the statistics to start from, not those of the empty image it runs on.
            if not self.is_initializing():
                moving_mean.value = keep * moving_mean.value + (1 - keep) * mean
                moving_variance.value = keep * moving_variance.value + (1 - keep) * variance
        else:
            mean, variance = moving_mean.value, moving_variance.value
        # One product and one sum per channel: the exporter folds these into the convolution before,
        # and finds nothing to fold in (x - mean) / deviation.
        scale = gamma * lax.rsqrt(variance + self.epsilon)
        offset = beta - mean * scale
        if conv is not None:
            return conv(x, affine=(scale, offset))
        per_channel = (1,) * (x.ndim - 1) + shape
        return (x * scale.reshape(per_channel) + offset.reshape(per_channel)).astype(self.dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance f32[c] of the (global) batch."""
        axes = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, axes)
        # Both moments in one pass, and one collective for both: a variance around the mean needs
        # the mean of all devices first.
        mean_of_squares = jnp.mean(lax.square(x), axes)
        # No mapped axis exists yet when variables are made.
        if self.axis_name is not None and not self.is_initializing():
            mean, mean_of_squares = mean_over(self.axis_name, (mean, mean_of_squares))
        # Cancellation may leave a constant channel slightly below zero.
        return mean, jnp.maximum(mean_of_squares - lax.square(mean), 0.0)

    def _row_statistics(
        self, x: jax.Array, rows: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mean and biased variance f32[c] of the rows that count, and the number of values."""
        axes = tuple(range(x.ndim - 1))
        weights = rows.astype(jnp.float32).reshape(-1, *(1,) * (x.ndim - 1))
        count = jnp.sum(rows, dtype=jnp.float32) * (x[0].size // x.shape[-1])
        sums = jnp.sum(x * weights, axes), jnp.sum(lax.square(x) * weights, axes), count
        if self.axis_name is not None and not self.is_initializing():
            sums = sum_over(self.axis_name, sums)  # devices may hold different numbers of rows
        total, squares, count = sums
        mean = total / jnp.maximum(count, 1.0)
        variance = jnp.maximum(squares / jnp.maximum(count, 1.0) - lax.square(mean), 0.0)
        return mean, variance, count


def normalised(
    conv: Conv | DepthwiseConv,
    norm: BatchNorm,
    x: jax.Array,
    train: bool,
    rows: jax.Array | None = None,
) -> jax.Array:
    """Convolution and batch norm, one operation where a step trains with frozen statistics.

    The scale is then a factor of the kernel, through which gradients reach kernel and gamma, and the
    result of the bare convolution is neither written nor kept for the gradient. Trained statistics need
    it, for they are its own; in prediction the exporter folds, from the two operations that its rules
    know.

    Args:
      conv: the convolution.
      norm: its batch norm.
      x: [b h w in].
      train: see `BatchNorm`.
      rows: see `BatchNorm`.
    """
    # A rounded kernel is that of the bare convolution: scales of int8 are taken before.
    if train and norm.frozen and not conv.rounded and not norm.is_initializing():
        return norm(x, train, conv=conv)
    return norm(conv(x), train, rows)
