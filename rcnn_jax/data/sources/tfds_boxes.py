"""TensorFlow Datasets as a data source of Faster R-CNN: boxes and labels.

Any set with an image and objects that have a box and a label will do. As with every source of this
detector, labels are read on opening, so that omissions are reported before training. Here that reads
the files once, because images and labels share them.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rcnn_jax.data.formats.image_size import encoded_image_size
from rcnn_jax.data.sources.annotations import (
    Annotation,
    ClassMap,
    LabelledBox,
    LabelTally,
    annotate,
)
from rcnn_jax.data.sources.digest import ImageDigest
from rcnn_jax.data.sources.tfds import TfdsSplit, read_boxes, read_column
from rcnn_jax.errors import DataError

_THREADS = 8
_CHUNK = 256  # examples in work at a time: bounds the memory


class TfdsBoxes:
    """One split of a prepared data set; labels are matched by name.

    Args:
      name: see `TfdsSplit`.
      split: see `TfdsSplit`.
      data_dir: see `find_dataset`.
      class_map: the classes.
      difficult_is_crowd: difficult objects and crowds become crowd, see `DetectNetRecords`.

    Raises:
      DataError: as `TfdsSplit`; or a label or box of an example is damaged.
      MissingDependencyError: the library is absent.
    """

    def __init__(
        self,
        name: str,
        split: str,
        data_dir: str | None,
        class_map: ClassMap,
        *,
        difficult_is_crowd: bool = False,
    ):
        self._split = TfdsSplit(name, split, data_dir)
        self.class_names = class_map.names
        self._sizes, self._annotations = [], []
        tally = LabelTally()
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(self._split), _CHUNK):
                chunk = range(start, min(start + _CHUNK, len(self._split)))
                for index, (size, objects) in zip(chunk, pool.map(self._read, chunk), strict=True):
                    where = self.name(index)
                    self._sizes.append(size)
                    self._annotations.append(
                        annotate(objects, class_map, size, where, tally, difficult_is_crowd)
                    )
        self.findings = (*tally.findings, *class_map.unused_keys(frozenset(tally.names)))

    def __len__(self) -> int:
        return len(self._split)

    def name(self, index: int) -> str:
        """Data set, split and number of the example."""
        return self._split.name(index)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the encoded image."""
        return self._sizes[index]

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c].

        Raises:
          DataError: the image is damaged.
        """
        return self._split.image(index, channel_order)

    def digest(self, index: int) -> ImageDigest:
        """See `TfdsSplit.digest`."""
        return self._split.digest(index)

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        return self._annotations[index]

    def _read(self, index: int) -> tuple[tuple[int, int], list[LabelledBox]]:
        """Returns (height, width) and the objects of an example."""
        example, where, keys = self._split.example(index), self.name(index), self._split.objects
        height, width = encoded_image_size(example["image"][0], where)
        boxes = read_boxes(example, keys, where) * np.array([height, width] * 2, np.float32)
        labels = read_column(example, keys.label, len(boxes), where)
        unclear = np.zeros(len(boxes), bool)
        for key in (keys.crowd, keys.difficult):
            # A column that the set lacks comes back empty, which `or` replaces.
            unclear |= np.array(read_column(example, key, len(boxes), where) or unclear, bool)
        if any(not 0 <= label < len(keys.names) for label in labels):
            raise DataError(
                f"{where}: a label is not in [0, {len(keys.names)}), the classes of the data set"
            )
        names = [keys.names[label] for label in labels]
        return (height, width), list(
            zip(names, map(tuple, boxes.tolist()), unclear.tolist(), strict=True)
        )
