"""Some records of a source as a source of its own."""

from collections.abc import Sequence

import numpy as np

from rcnn_jax.data.findings import Finding
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.digest import ImageDigest


class Subset:
    """Some records of a source, in order.

    Args:
      source: any source; one with masks stays one.
      records: which.
    """

    def __init__(self, source: Source, records: Sequence[int] | np.ndarray):
        self._source = source
        self._records = [int(record) for record in records]
        self.class_names = source.class_names
        self.findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        """Name of the image in messages."""
        return self._source.name(self._records[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._source.size(self._records[index])

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c]."""
        return self._source.image(self._records[index], channel_order)

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        return self._source.annotation(self._records[index])

    def digest(self, index: int) -> ImageDigest:
        """Digest that differs when the image or its objects do."""
        return self._source.digest(self._records[index])

    def source_id(self, index: int) -> int:
        """The image id that evaluation reports; of sources with masks."""
        return self._source.source_id(self._records[index])  # type: ignore[attr-defined]

    def file_name(self, index: int) -> str:
        """The name of the image file; of sources with masks."""
        return self._source.file_name(self._records[index])  # type: ignore[attr-defined]
