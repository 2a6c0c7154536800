"""Batches: the arrays of `structures` between loader and step, without jax.

The loader runs in threads and on machines without a device, so nothing here imports jax; letters and
units are those of `structures`, which makes both classes known to jax.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

Array = Any
"""A `jax.Array` on the device or an `np.ndarray` on the host; the same structures hold both."""


# A plain dataclass: `flax.struct` would bring jax into the loader.
@dataclass(frozen=True)
class GroundTruth:
    """Annotations of a batch, padded to m objects.

    Attributes:
      boxes: f32[b m 4].
      classes: i32[b m] in [0, n).
      valid: bool[b m]; False for padding.
      crowd: bool[b m]; a region of many objects (COCO) or an object too hard to judge (KITTI
        occluded, VOC difficult): neither a positive nor a negative.
      masks: u8[b m s s] in {0, 1}, cropped to the clipped box, or None.
    """

    boxes: Array
    classes: Array
    valid: Array
    crowd: Array
    masks: Array | None = None

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other values."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Batch:
    """Input of one step, as it leaves the host.

    Attributes:
      images: u8[b h w c] in the channel order of the network, padded bottom and right with 0.
      image_size: f32[b 2], (height, width) of the part that is not padding.
      scale: f32[b 2], network pixels per source pixel, (y, x).
      source_size: f32[b 2], (height, width) of the image file.
      image_id: i32[b], index of the record in its source.
      image_valid: bool[b]; False for images that only fill up the last evaluation batch.
      example_index: i32[b], position in the global batch: the key of per-image randomness.
      gt: the ground truth, or None for inference.
    """

    images: Array
    image_size: Array
    scale: Array
    source_size: Array
    image_id: Array
    image_valid: Array
    example_index: Array
    gt: GroundTruth | None = None

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other values."""
        return dataclasses.replace(self, **changes)
