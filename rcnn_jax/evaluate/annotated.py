"""Which image of the annotation file an image of the validation data is."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcnn_jax.data.mask_sources import MaskSource
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.coco import read_annotations


class AnnotatedImages:
    """The images of a COCO annotation file by name and by id.

    Attributes:
      content: the whole file.

    Raises:
      DataError: the file has no list of images.
    """

    def __init__(self, content: Mapping[str, Any], where: str):
        """Takes the content of an annotation file, and what messages call it."""
        self.content = content
        self._where = where
        images: Any = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list) or not images:
            raise DataError(f"{where}: has no list of images; expected a COCO annotation file")
        self._ids = {image["id"] for image in images}
        names = Counter(Path(image.get("file_name", "")).name for image in images)
        self._by_name = {
            name: image["id"]
            for image in images
            if (name := Path(image.get("file_name", "")).name) and names[name] == 1
        }

    @classmethod
    def read(cls, path: Path) -> "AnnotatedImages":
        """Reads an annotation file.

        Raises:
          DataError: the file is missing, no JSON, or has no list of images.
        """
        return cls(read_annotations(path), str(path))

    def image_id(self, source: MaskSource, index: int) -> int:
        """Returns the id of an image: that of the same file name, else the id the source states.

        Raises:
          DataError: the file knows neither.
        """
        name = Path(source.file_name(index)).name
        if name in self._by_name:
            return self._by_name[name]
        stated = source.source_id(index)
        if stated in self._ids:
            return stated
        raise DataError(
            f"{source.name(index)}: image {stated} ('{name}') is not in {self._where}: "
            "val_json_file must be the annotations of the validation images"
        )
