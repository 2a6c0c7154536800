"""An annotated folder in one form, whatever tool wrote it.

    KITTI | COCO | YOLO | VOC | ... --> Collection(items of objects, problems, choices)

Readers of training data stop at the first damaged item, because a run must not begin with it. These go
on: `doctor` lists all of them, and `init` needs to know what the rest of the folder is like.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Box = tuple[float, float, float, float]
"""(y1, x1, y2, x2) in pixels of the stored image, continuous, as everywhere in the package."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled object.

    Attributes:
      name: of the class, as the file calls it.
      box: of the object; not clipped, perhaps without area.
      outline: segmentation as COCO writes it (polygons or run lengths); None for a box alone.
      crowd: a region of many objects, not to be learnt.
      difficult: hard to see, by the annotator's own mark.
      where: file and line or id, for messages.
    """

    name: str
    box: Box
    outline: Any = None
    crowd: bool = False
    difficult: bool = False
    where: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One image with its objects.

    Attributes:
      image: the file; it may be missing or damaged.
      labels: the file that holds the objects.
      objects: in the order of the file.
      size: (height, width) as the annotation states it; None where the layout does not.
      split: `train`, `val`, `test`, or empty where the folder does not say.
    """

    image: Path
    labels: Path
    objects: tuple[Labelled, ...]
    size: tuple[int, int] | None = None
    split: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of an annotation that was left out.

    Attributes:
      where: file, or file and line.
      what: is wrong with it.
      lacks: what it has no partner of: labels an image, an image labels; None where it could not be read.
    """

    where: str
    what: str
    lacks: Literal["image", "labels"] | None = None


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The content of an annotated folder.

    Attributes:
      layout: name of the reader, for example `kitti`.
      root: the folder or file that was given.
      items: sorted by image path.
      class_names: as the layout declares them, in its order; else those of the objects, sorted.
      problems: what could not be read.
      choices: sentences: what was decided from the files where the layout leaves it open.
      category_ids: of every annotation file that counts, where the layout has ids.
    """

    layout: str
    root: Path
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    choices: tuple[str, ...] = ()
    category_ids: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, int]:
        """Number of images by split, in the order of first use."""
        counts: dict[str, int] = {}
        for item in self.items:
            counts[item.split] = counts.get(item.split, 0) + 1
        return counts

    def of_split(self, split: str) -> "Collection":
        """Returns the collection with the images of one split."""
        return replace(self, items=tuple(item for item in self.items if item.split == split))


def crowds_as_objects(collection: Collection) -> Collection:
    """Returns the collection with regions of many objects as single objects.

    For exports of masks that an assistant drew, which mark everything as a crowd. Regions of KITTI in
    which nobody labelled (DontCare) stay what they are.
    """

    def taken(obj: Labelled) -> Labelled:
        return replace(obj, crowd=False) if obj.name.lower() != "dontcare" else obj

    items = tuple(
        replace(item, objects=tuple(taken(obj) for obj in item.objects))
        for item in collection.items
    )
    return replace(collection, items=items)


def without_outline_as_crowds(items: Iterable[Item]) -> tuple[Item, ...]:
    """Returns the items with objects that have a box alone as crowds, along their boxes.

    Nothing is learnt of a crowd, and what a detector sees there is no error in the metrics of COCO.
    """

    def ignored(obj: Labelled) -> Labelled:
        if obj.outline is not None or obj.crowd:
            return obj
        y1, x1, y2, x2 = obj.box
        return replace(obj, crowd=True, outline=[[x1, y1, x2, y1, x2, y2, x1, y2]])

    return tuple(replace(item, objects=tuple(map(ignored, item.objects))) for item in items)


def used_names(items: Iterable[Item]) -> tuple[str, ...]:
    """Returns the names of the classes that have an object, sorted."""
    return tuple(sorted({obj.name for item in items for obj in item.objects}))


# The words of Roboflow (valid), COCO (val), VOC (trainval is split by its lists), Kaggle and KITTI.
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
# What may stand beside such a word in the name of a folder. Others make it the name of something else:
# `crash_test_3` is a scene.
_BESIDE = {"images", "image", "imgs", "img", "labels", "label", "set", "data", "dataset", "split"}


def split_of(path: Path, root: Path) -> str:
    """Returns the split that the name of a folder between `root` and a file stands for.

    The folder nearest to the root decides: a data set called `test` may hold `train` and `val`. A name
    that is the word alone goes before `train2017` and `images_val`, for the same reason.
    """
    try:
        parts = path.relative_to(root).parts[:-1]
    except ValueError:
        return ""
    alone = (_SPLITS.get(part.lower(), "") for part in parts)
    return next(filter(None, alone), "") or next(filter(None, map(_split_of_folder, parts)), "")


def _split_of_folder(name: str) -> str:
    words = _words(name)
    named = {_SPLITS[word] for word in words if word in _SPLITS}
    # `train_val` holds both.
    only = len(named) == 1 and all(word in _SPLITS or word in _BESIDE for word in words)
    return named.pop() if only else ""


def split_of_name(stem: str) -> str:
    """Returns the split that a file is named after: `instances_val2017`, `train`, `a_test`."""
    return next((_SPLITS[word] for word in _words(stem) if word in _SPLITS), "")


def _words(name: str) -> list[str]:
    # By whole words: `instances_value.json` is no `val`, and `train2017` is `train`.
    return "".join(c if c.isalpha() else " " for c in name.lower()).split()
