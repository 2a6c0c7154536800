"""KITTI: a folder of images and one of label files of the same stems.

    root/images + root/labels | root/train/images + root/train/labels | training/image_2 + label_2 | ...

Source: docs/reference/datasets.md, "KITTI labels".
"""

from collections.abc import Sequence
from pathlib import Path

from rcnn_jax.data.formats.kitti import parse_label
from rcnn_jax.data.layouts.collection import (
    Collection,
    Item,
    Labelled,
    Problem,
    split_of,
    used_names,
)
from rcnn_jax.data.layouts.images import FileTree, ImageIndex
from rcnn_jax.errors import DataError
from rcnn_jax.text_file import read_text

COLUMNS = 15


def read_kitti(tree: FileTree, labels: Sequence[Path]) -> Collection:
    """Returns the collection of label files; images without one have no objects.

    Args:
      tree: the folder.
      labels: its label files.
    """
    index = ImageIndex(tree.images)
    lists, named = _split_lists(tree, labels)
    items: list[Item] = []
    problems: list[Problem] = []
    used: set[Path] = set()
    for path in labels:
        image = index.of_stem(path.stem, path)
        if image is None:
            problems.append(Problem(str(path), "no image has this name", lacks="image"))
            continue
        objects, faults = _objects(path)
        problems += faults
        # A list is the word of the author; a folder called `test` may be anything.
        split = named.get(path.stem) or split_of(image, tree.root)
        items.append(Item(image, path, objects, split=split))
        used.add(image)
    # Only beside images that are labelled: previews and other cameras have folders of their own.
    folders = {image.parent for image in used}
    alone = [image for image in tree.images if image not in used and image.parent in folders]
    # Where there are lists, the author has left the others out himself.
    missed = [image for image in alone if not lists or image.stem in named]
    problems += [
        Problem(str(image), "has no label file; an empty one means no objects", lacks="labels")
        for image in missed
    ]
    items.sort(key=lambda item: item.image)
    choices = tuple(f"split from the list {path.name}" for path in lists)
    if left_out := len(alone) - len(missed):
        choices += (f"{left_out} images have no label file and are in no list: left out",)
    return Collection(
        layout="kitti",
        root=tree.root,
        items=tuple(items),
        class_names=tuple(name for name in used_names(items) if name.lower() != "dontcare"),
        problems=tuple(problems),
        choices=choices,
    )


def _objects(path: Path) -> tuple[tuple[Labelled, ...], list[Problem]]:
    """Returns the objects of a label file, line by line, and what could not be read."""
    objects, problems = [], []
    try:
        lines = read_text(path, "label file").splitlines()
    except DataError as error:
        return (), [Problem(str(path), str(error).removeprefix(f"{path}: "))]
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            parsed = parse_label(line, where)
        except DataError as error:
            problems.append(Problem(where, str(error).removeprefix(f"{where}: ")))
            continue
        objects.append(
            Labelled(
                parsed.class_name,
                (parsed.y1, parsed.x1, parsed.y2, parsed.x2),
                # A region of KITTI in which nobody labelled: neither object nor background.
                crowd=parsed.class_name.lower() == "dontcare",
                difficult=parsed.occluded >= 1,
                where=where,
            )
        )
    return tuple(objects), problems


def _split_lists(tree: FileTree, labels: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """Returns files `train.txt`, `val.txt`, `test.txt` of stems, and stem -> split of them."""
    known, stems = set(labels), {path.stem for path in labels}
    lists, named = [], {}
    for name, split in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")):
        for path in tree.of(".txt"):
            # An image may be called `test` too: a label file is no list.
            if path.stem.lower() != name or path in known:
                continue
            try:
                names = read_text(path, "file of names").split()
            except DataError:
                continue
            # Lists hold stems, file names or whole paths of another machine; the stem is in all of them.
            listed = [Path(word).stem for word in names]
            # The first fifty tell a list of stems from a README of the same name.
            if listed and all(stem in stems for stem in listed[:50]):
                lists.append(path)
                named |= dict.fromkeys(listed, split)
    return lists, named
