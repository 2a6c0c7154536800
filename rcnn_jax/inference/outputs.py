"""Writers of inference: annotated images, KITTI labels, COCO results.

A writer gets one image after the other and is closed at the end. Files of an image are written as soon
as its detections are known.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rcnn_jax.data.loader import images as image_files
from rcnn_jax.evaluate.masks import image_results
from rcnn_jax.evaluate.report import write_whole
from rcnn_jax.hosts.team import team
from rcnn_jax.image_file import encode_image
from rcnn_jax.inference.draw import draw_detections
from rcnn_jax.inference.labels import (
    write_coco_results,
    write_kitti_detections,
    write_mask_labels,
)
from rcnn_jax.inference.names import picture_name
from rcnn_jax.structures import Detections


class Writer(Protocol):
    """Writer of the detections of image files."""

    def write(self, path: Path, size: tuple[int, int], detections: Detections) -> None:
        """Writes the outputs of one image.

        Args:
          path: the image file.
          size: its (height, width).
          detections: in source pixels, all valid.
        """

    def close(self) -> list[tuple[str, Path]]:
        """Writes the outputs of all images; returns (what, where) for the user."""
        ...


class Pictures:
    """Annotated copies of the images, under their own names.

    Args:
      folder: destination.
      outputs: name of every image's outputs, of `output_names`.
      class_names: written at the boxes.
      captions: write class and score at every box.
      masks: draw masks, where the model has them.
    """

    def __init__(
        self,
        folder: Path,
        outputs: Mapping[Path, str],
        class_names: Sequence[str],
        *,
        captions: bool,
        masks: bool = False,
    ):
        self._folder = folder
        self._outputs = outputs
        self._names = class_names
        self._captions = captions
        self._masks = masks

    def write(self, path: Path, size: tuple[int, int], detections: Detections) -> None:
        """Writes the annotated picture."""
        del size
        # Read again: only the canvas was kept, and a folder of images would not fit into memory.
        image = image_files.read_image(path, "rgb")
        picture = draw_detections(
            image, detections, self._names, captions=self._captions, masks=self._masks
        )
        target = self._folder / picture_name(path, self._outputs[path])
        write_whole(target, encode_image(picture, target.suffix, name=target))

    def close(self) -> list[tuple[str, Path]]:
        """Names the folder."""
        return [("annotated images", self._folder)]


class KittiLabels:
    """One KITTI file with scores per image.

    Args:
      folder: destination.
      outputs: name of every image's outputs, of `output_names`.
      class_names: first column of the lines.
    """

    def __init__(self, folder: Path, outputs: Mapping[Path, str], class_names: Sequence[str]):
        self._folder = folder
        self._outputs = outputs
        self._names = class_names

    def write(self, path: Path, size: tuple[int, int], detections: Detections) -> None:
        """Writes the lines of one image."""
        del size
        target = self._folder / f"{self._outputs[path]}.txt"
        write_kitti_detections(
            target, detections.boxes, detections.scores, detections.classes, self._names
        )

    def close(self) -> list[tuple[str, Path]]:
        """Names the folder."""
        return [("label files", self._folder)]


class CocoLabels:
    """One JSON file of annotations per image, and one of results for all next to the folder.

    Args:
      folder: destination of the files of images; results go to `<folder>.json`.
      outputs: name of every image's outputs, of `output_names`, in the order of the image ids.
      category_ids: the id of every class.
    """

    def __init__(self, folder: Path, outputs: Mapping[Path, str], category_ids: Sequence[int]):
        self._folder = folder
        self._outputs = outputs
        self._ids = image_ids(list(outputs))
        self._category_ids = category_ids
        self._results: list[dict[str, Any]] = []

    def write(self, path: Path, size: tuple[int, int], detections: Detections) -> None:
        """Writes the annotations of one image."""
        results = image_results(self._ids[path], detections, self._category_ids, size)
        write_mask_labels(self._folder / f"{self._outputs[path]}.json", results, size)
        self._results += results

    def close(self) -> list[tuple[str, Path]]:
        """Writes the results of all images."""
        # Beside the folder and not in it: tools that read a folder of labels take every file for an
        # image's.
        combined = self._folder.with_name(f"{self._folder.name}.json")
        together = team()
        results = self._results
        if together.is_many:
            position = {number: i for i, number in enumerate(self._ids.values())}
            results = [one for part in together.gather_json(results) for one in part]
            results.sort(key=lambda one: position[one["image_id"]])
        if together.is_chief:
            write_coco_results(combined, results)
        return [("label files", self._folder), ("COCO results", combined)]


def image_ids(paths: Sequence[Path]) -> dict[Path, int]:
    """Returns an id for every image: the number in its name, as in COCO, else 1, 2, ... .

    Names count only if all are different whole numbers.
    """
    numbers = [int(path.stem) for path in paths if path.stem.isdecimal()]
    # All or none: a number made up for one image could be that of another.
    if len(set(numbers)) == len(paths):
        return dict(zip(paths, numbers, strict=True))
    return {path: number for number, path in enumerate(paths, start=1)}
