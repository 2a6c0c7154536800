"""Interface of a backbone: a trunk, a tail, and the ids of its blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn

from rcnn_jax.models.builder import Builder


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One row of the table of backbones.

    Attributes:
      trunk: builder -> module called as (images f[b h w c], train, keys) -> {level: f[b h w c]},
        with level 4 (stride 16) among the levels.
      tail: (builder, stride) -> module called as (crops f[b*r s s c], train, keys) -> f[b*r c'],
        `stride` (1 or 2) being the step of its first layer. `keys` are [b] dropout keys, one per
        image, or None.
      block_of: layer name -> id of the block it belongs to, or None: the ids of `freeze_blocks`.
      freeze_ids: the block ids a spec may freeze.
    """

    trunk: Callable[[Builder], nn.Module]
    tail: Callable[[Builder, int], nn.Module]
    block_of: Callable[[str], int | None]
    freeze_ids: tuple[int, ...]
