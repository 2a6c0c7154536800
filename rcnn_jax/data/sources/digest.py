"""Digest of a data set: names, sizes and objects of all images, as far as a run depends on them.

A run that is resumed on other images, or on the same ones labelled otherwise, is no longer the run
that began. Pixels are not read: an image counts as the same while its file has the same name and
length. Records carry a checksum of their own, which covers the pixels too. Objects count by the name
of their class, so that a renamed class shows as that and not as a change of every image.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rcnn_jax.data.sources.annotations import Annotation

if TYPE_CHECKING:
    from rcnn_jax.data.sources.boxes import Source

VERSION = 1
"""Version of the algorithm; digests of two versions cannot be compared."""

_SHOWN = 5


@dataclass(frozen=True)
class ImageDigest:
    """The digest of one image.

    Attributes:
      size: bytes of its file, or of its record; -1 where the file is missing.
      objects: digest of its objects and its height and width.
    """

    size: int
    objects: str


@dataclass(frozen=True)
class DataDigest:
    """The digest of a data set.

    Attributes:
      class_names: of the classes 0..n-1.
      category_ids: of the classes, where the data has such.
      images: (name, digest) in the order of the data set; no name occurs twice.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    images: tuple[tuple[str, ImageDigest], ...]

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return {
            "version": VERSION,
            "class_names": list(self.class_names),
            "category_ids": None if self.category_ids is None else list(self.category_ids),
            "images": [[name, image.size, image.objects] for name, image in self.images],
        }

    @classmethod
    def from_json(cls, values: Any) -> "DataDigest":
        """Returns the digest of values written by `to_json`.

        Raises:
          ValueError: the values are of another origin or version.
        """
        try:
            if values["version"] != VERSION:
                raise ValueError(f"version {values['version']}")
            ids = values["category_ids"]
            return cls(
                tuple(map(str, values["class_names"])),
                None if ids is None else tuple(map(int, ids)),
                tuple((str(n), ImageDigest(int(b), str(o))) for n, b, o in values["images"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a list of images ({error})") from error

    def summary(self) -> dict[str, Any]:
        """Returns the summary for a checkpoint: equal summaries mean equal data."""
        text = json.dumps(self.to_json(), separators=(",", ":")).encode()
        return {
            "version": VERSION,
            "images": len(self.images),
            "sha256": hashlib.sha256(text).hexdigest(),
        }


def digest_source(source: "Source", category_ids: Sequence[int] | None = None) -> DataDigest:
    """Returns the digest of a source.

    Args:
      source: reads no image for it.
      category_ids: category id of every class, where the data has such.
    """
    seen: Counter[str] = Counter()
    images = []
    for index in range(len(source)):
        name = source.name(index)
        seen[name] += 1
        # Copies of the sample modifier have one name; numbered, they stay apart in the comparison.
        times = f" ({seen[name]})" if seen[name] > 1 else ""
        images.append((f"{name}{times}", source.digest(index)))
    ids = None if category_ids is None else tuple(category_ids)
    return DataDigest(source.class_names, ids, tuple(images))


def digest_image(
    path: Path, size: tuple[int, int], class_names: Iterable[str], parts: Iterable[bytes]
) -> ImageDigest:
    """Returns the digest of an image that is a file.

    Args:
      path: the file; it is not opened.
      size: (height, width) in pixels.
      class_names: of its objects.
      parts: everything else about them.
    """
    try:
        length = path.stat().st_size
    except OSError:
        # A missing file is a change to report, not an error of the comparison.
        length = -1
    # Eight bytes: nobody attacks it, and `data.json` holds one for every image.
    hasher = hashlib.blake2b(repr((size, tuple(class_names))).encode(), digest_size=8)
    for part in parts:
        hasher.update(part)
    return ImageDigest(length, hasher.hexdigest())


def box_bytes(annotation: Annotation) -> bytes:
    """Returns the boxes and crowd flags of an image as bytes."""
    boxes = np.ascontiguousarray(annotation.boxes, np.float32)
    return boxes.tobytes() + annotation.crowd.tobytes()


def segmentation_bytes(segmentation: Any) -> bytes:
    """Returns a segmentation of a COCO file as bytes: polygons, run lengths or none."""
    try:
        rings = [array("d", ring).tobytes() for ring in segmentation]
        # With lengths: rings that are cut elsewhere must not give the same bytes.
        return b"".join(len(ring).to_bytes(8, "little") + ring for ring in rings)
    except (TypeError, OverflowError):
        return json.dumps(segmentation, sort_keys=True).encode()


def differences(old: DataDigest, new: DataDigest) -> list[str]:
    """Returns one line for every kind of change, with its first few images.

    An image under another name, or at another position of a record file, has moved. The same images
    in another order make other batches, too.
    """
    lines = []
    if old.class_names != new.class_names:
        lines.append(f"classes: {_listed(old.class_names)} -> {_listed(new.class_names)}")
    if old.category_ids != new.category_ids:
        lines.append(f"category ids: {_listed(old.category_ids)} -> {_listed(new.category_ids)}")
    before, after = dict(old.images), dict(new.images)
    gone = {n: image for n, image in before.items() if after.get(n) != image}
    come = {n: image for n, image in after.items() if before.get(n) != image}
    # Counted, not collected in a set: a data set may hold several images of equal digest, and each
    # that is gone explains one that has come.
    elsewhere = Counter(gone.values())
    moved = []
    for name, image in come.items():
        if elsewhere[image] > 0:
            elsewhere[image] -= 1
            moved.append(name)
    for name in moved:
        del come[name]
    for name, image in list(gone.items()):
        if elsewhere[image] > 0:
            elsewhere[image] -= 1
        else:
            del gone[name]
    replaced = [n for n in come if n in gone and come[n].size != gone[n].size]
    relabelled = [n for n in come if n in gone and come[n].size == gone[n].size]
    for verb, names in (
        ("added", [n for n in come if n not in gone]),
        ("removed", [n for n in gone if n not in come]),
        ("relabelled", relabelled),
        ("of another file length", replaced),
        ("moved or renamed", moved),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            noun = "image" if len(names) == 1 else "images"
            lines.append(f"{len(names)} {noun} {verb}: {', '.join(names[:_SHOWN])}{more}")
    if not lines and old != new:
        lines.append("the images are in another order")
    return lines


def _listed(values: Sequence[Any] | None) -> str:
    return "none" if values is None else ", ".join(map(str, values)) or "none"
