"""Group normalisation: every image for itself, in groups of neighbouring channels.

    gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and variance of a group of an image or roi

It needs no statistics of a batch, so a batch of one image trains as one of many, training and prediction
are one function, and devices exchange nothing. Source: Wu and He, Group Normalization, 2018
(arXiv:1803.08494).
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.ops.marker import marked

Norm = Literal["none", "bn", "group"]
"""Normalisation behind convolutions; `none` leaves them a bias."""

GROUPS = 32
"""Of the paper, and of every published network."""


def size_of(features: int) -> int:
    """Returns the channels of a group: of 32 groups, or of the largest number below that divides.

    They are two or more: one alone has variance 0 on a map of one cell, and says nothing.

    Args:
      features: published channels of the layer.
    """
    limit = max(1, min(GROUPS, features // 2))
    return features // next(count for count in range(limit, 0, -1) if features % count == 0)


def groups_of(channels: int, features: int) -> int:
    """Returns the number of groups of a layer that may have been pruned.

    Pruning takes whole groups: what remains is normalised as before. Of a width that is no multiple of
    the published size, which only a spec can ask for, groups are made anew.

    Args:
      channels: of the layer.
      features: published channels of the layer.
    """
    size = size_of(features)
    return channels // (size if channels % size == 0 else size_of(channels))


class GroupNorm(nn.Module):
    """Normalises [b h w c] per image; `gamma` [c], `beta` [c]. All arithmetic is float32.

    Attributes:
      features: published channels, see `groups_of`.
      epsilon: added to the variance.
      dtype: of the result.
    """

    features: int
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, rows: jax.Array | None = None
    ) -> jax.Array:
        """Normalises [b h w c].

        Args:
          x: what is normalised.
          train: without effect, as `rows`: the signature of batch norm.
          rows: see `train`.
        """
        del train, rows
        channels = x.shape[-1]
        gamma = self.param("gamma", nn.initializers.ones_init(), (channels,))
        beta = self.param("beta", nn.initializers.zeros_init(), (channels,))
        normalise = marked(
            "group_norm",
            _group_norm,
            groups=groups_of(channels, self.features),
            epsilon=self.epsilon,
            size=size_of(self.features),
        )
        return normalise(x.astype(jnp.float32), gamma, beta).astype(self.dtype)


def _group_norm(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, groups: int, epsilon: float, size: int
) -> jax.Array:
    del size  # read by the channel rule of pruning (`compress.channels`)
    b, h, w, c = x.shape
    cells = x.reshape(b, h * w, groups, c // groups)
    # Around the mean, in two passes: with few cells in a group the mean of squares minus the square
    # of the mean cancels to noise.
    centred = cells - jnp.mean(cells, (1, 3), keepdims=True)
    variance = jnp.mean(lax.square(centred), (1, 3), keepdims=True)
    normal = (centred * lax.rsqrt(variance + epsilon)).reshape(b, h, w, c)
    return normal * gamma.reshape(1, 1, 1, c) + beta.reshape(1, 1, 1, c)
