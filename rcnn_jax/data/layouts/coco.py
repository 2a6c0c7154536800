"""COCO: one JSON file per split, with images beside it, in a folder of its name, or anywhere below.

annotations/instances_train2017.json + train2017/ | train/_annotations.coco.json + train/*.jpg | ...
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.layouts.collection import (
    Collection,
    Item,
    Labelled,
    Problem,
    split_of,
    split_of_name,
)
from rcnn_jax.data.layouts.images import FileTree, ImageIndex
from rcnn_jax.errors import DataError


def read_coco(tree: FileTree, files: Sequence[Path]) -> Collection:
    """Returns the collection of annotation files.

    Args:
      tree: the folder.
      files: JSON files with the lists images, annotations and categories.
    """
    index = ImageIndex(tree.images)
    items: list[Item] = []
    problems: list[Problem] = []
    choices: list[str] = []
    names: dict[str, None] = {}
    for path in files:
        try:
            # Not `load`, which stops at the first bad file: here the sound part of it is wanted.
            dataset, faults = CocoDataset.examine(path, masks=None)
        except DataError as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
            continue
        problems += [Problem(str(path), fault) for fault in faults]
        used = Counter(
            item.category_id for annotations in dataset.annotations.values() for item in annotations
        )
        unused = [name for number, name in dataset.categories.items() if number not in used]
        if unused:  # roots of a hierarchy and labels of other projects, which tools export too
            choices.append(f"{path.name}: no object is called {', '.join(unused[:8])}: left out")
        # In the order of the ids, and of the first file that has them: a dict keeps it, a set would not.
        names |= dict.fromkeys(name for n, name in dataset.categories.items() if n in used)
        crowds = sum(
            item.crowd for annotations in dataset.annotations.values() for item in annotations
        )
        if crowds and crowds >= 0.9 * max(used.total(), 1):
            choices.append(
                f"{path.name}: {crowds} of {used.total()} objects are marked as crowds, as exports of "
                "masks drawn by an assistant are: nothing is learnt of a crowd; `rcnn-jax init "
                "--crowds-as-objects` takes them as objects"
            )
        for image in dataset.images:
            # Kept with its expected path where it is missing: that is a finding of the images.
            file = index.named(image.file_name, path) or path.parent / image.file_name
            objects = tuple(
                Labelled(
                    dataset.categories[annotation.category_id],
                    _corners(annotation.bbox),
                    annotation.segmentation,
                    crowd=annotation.crowd,
                    where=f"{path}: annotation {annotation.id}",
                )
                for annotation in dataset.annotations[image.id]
            )
            split = split_of_name(path.stem) or split_of(path, tree.root)
            items.append(Item(file, path, objects, (image.height, image.width), split))
    items.sort(key=lambda item: item.image)
    return Collection(
        layout="coco",
        root=tree.root,
        items=tuple(items),
        class_names=tuple(names),
        problems=tuple(problems),
        choices=tuple(choices),
    )


def _corners(bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return y, x, y + height, x + width
