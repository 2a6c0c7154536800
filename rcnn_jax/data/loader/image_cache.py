"""Cache of decoded images, for batches that show an image several times within an epoch."""

import threading
from collections import OrderedDict

import numpy as np

from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.digest import ImageDigest

BYTES = 512 * 2**20
"""Of one process: about 600 images of 480 x 640 pixels. Of a larger set a part is at hand, which saves
that part of the decoding."""


class CachedImages:
    """A source that keeps decoded images, those used last; safe to use from threads.

    Args:
      source: what is read.
      limit: bytes of pixels that are kept.
    """

    def __init__(self, source: Source, limit: int = BYTES):
        self.class_names = source.class_names
        self.findings = source.findings
        self._source = source
        self._limit = limit
        self._lock = threading.Lock()
        self._bytes = 0
        self._images: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._source)

    def name(self, index: int) -> str:
        """The name of the source."""
        return self._source.name(index)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._source.size(index)

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        return self._source.annotation(index)

    def digest(self, index: int) -> ImageDigest:
        """The digest of the source."""
        return self._source.digest(index)

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c], not to be written to."""
        key = index, channel_order
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        # Outside of the lock: two threads may decode one image, and neither waits for another one's.
        image = self._source.image(index, channel_order)
        image.setflags(write=False)
        with self._lock:
            if key not in self._images:
                self._images[key] = image
                self._bytes += image.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image
