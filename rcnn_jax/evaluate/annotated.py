"""Images of a COCO annotation file, matched with those of the validation data by name or id."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.sources.masks import MaskSource
from rcnn_jax.errors import DataError


class AnnotatedImages:
    """The images of a COCO annotation file by name and by id.

    Attributes:
      content: the whole file.

    Raises:
      DataError: the file has no list of images.
    """

    def __init__(self, content: Mapping[str, Any], where: str):
        """Indexes the content of an annotation file; `where` names it in messages."""
        self.content = content
        self._where = where
        images: Any = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list) or not images:
            raise DataError(f"{where}: has no list of images; expected a COCO annotation file")
        self._sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        # Names that several folders have are ambiguous: such images are matched by id.
        names = Counter(Path(image.get("file_name", "")).name for image in images)
        self._by_name = {
            name: image["id"]
            for image in images
            if (name := Path(image.get("file_name", "")).name) and names[name] == 1
        }

    @classmethod
    def read(cls, path: Path, *, masks: bool) -> "AnnotatedImages":
        """Reads an annotation file by the rules of `CocoDataset.load_instances`.

        Args:
          path: the file.
          masks: whether masks are evaluated.

        Raises:
          DataError: the file is missing or damaged.
        """
        return cls(CocoDataset.load_instances(path, masks=masks).content(), str(path))

    def require_all_known(self, source: MaskSource) -> None:
        """Checks that every image is in the file once and has the size that the file states.

        Masks of another size overlap nothing, so every one of them would count as missed.

        Raises:
          DataError: one is missing, repeated or of another size; the message names it.
        """
        first: dict[int, str] = {}
        for index in range(len(source)):
            image_id, name = self.image_id(source, index), source.name(index)
            if image_id in first:
                raise DataError(
                    f"{name}: is image {image_id} of {self._where}, as {first[image_id]} is: an "
                    "image must not come twice"
                )
            first[image_id] = name
            (height, width), stated = source.size(index), self._sizes[image_id]
            if (height, width) != stated:
                raise DataError(
                    f"{name}: is {width} x {height} pixels; {self._where} states {stated[1]} x "
                    f"{stated[0]} for image {image_id}"
                )

    def image_id(self, source: MaskSource, index: int) -> int:
        """Returns the id of an image: that of the same file name, else the id the source states.

        Raises:
          DataError: the file has neither.
        """
        name = Path(source.file_name(index)).name
        if name in self._by_name:
            return self._by_name[name]
        stated = source.source_id(index)
        if stated in self._sizes:
            return stated
        raise DataError(
            f"{source.name(index)}: image {stated} ('{name}') is not in {self._where}: "
            "val_json_file must be the annotations of the validation images"
        )
