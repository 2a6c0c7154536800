"""The first images of a source, for evaluation on a part of the data."""

import numpy as np

from rcnn_jax.data.findings import FIRST_IMAGES, Finding
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.digest import ImageDigest
from rcnn_jax.data.sources.masks import MaskSource


class FirstImages:
    """The first images of a source.

    Args:
      source: has at least `count` images.
      count: how many to keep.
    """

    def __init__(self, source: MaskSource, count: int):
        self.class_names = source.class_names
        self.findings = (
            *source.findings,
            Finding(
                FIRST_IMAGES,
                f"the first {count} of {len(source)} validation images are evaluated (eval_samples)",
            ),
        )
        self._source = source
        self._count = count

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """The name of the image in messages."""
        return self._source.name(index)

    def source_id(self, index: int) -> int:
        """The image id that evaluation reports."""
        return self._source.source_id(index)

    def file_name(self, index: int) -> str:
        """The name of the image file; may be empty."""
        return self._source.file_name(index)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._source.size(index)

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c]."""
        return self._source.image(index, channel_order)

    def digest(self, index: int) -> ImageDigest:
        """See `Source.digest`."""
        return self._source.digest(index)

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        return self._source.annotation(index)
