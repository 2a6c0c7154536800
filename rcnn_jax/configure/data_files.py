"""Data files that a spec names: the user's own where readers take them, else converted copies.

KITTI as its readers want it, COCO with one file per split    named where they are
whatever else a COCO reader is to read                        new annotation files, images in place
whatever else a KITTI reader is to read                       a KITTI tree, images copied
images to be turned as EXIF shows them                        a tree, images copied
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.data.formats.image_folder import is_image_name
from rcnn_jax.data.layouts.collection import Collection, Item
from rcnn_jax.data.layouts.json_file import read_json
from rcnn_jax.data.layouts.write import Form, Track, coco_text, write_tree
from rcnn_jax.diagnose.exif import turning_copy
from rcnn_jax.errors import DataError
from rcnn_jax.tasks.draft import LabelFiles


@dataclass(frozen=True)
class DataFiles:
    """Paths of the data of a spec.

    Attributes:
      train: folders of training images.
      val: of validation images.
      converted: labels are written anew, so their names are those of `write_tree`.
      sentences: what was done.
    """

    train: tuple[LabelFiles, ...]
    val: LabelFiles
    converted: bool
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Wish:
    """Data that a spec should name.

    Attributes:
      form: of the labels that the spec reads.
      items: images with their sizes, in `train` or `val`.
      class_names: to learn, in their order.
      as_found: the labels may be used as they are: nothing was left out, changed or unreadable.
      beside: folder for what is written.
      orientations: image -> EXIF orientation, of images that are copied as they are shown.
    """

    form: Form
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    as_found: bool
    beside: Path
    orientations: Mapping[Path, int] = field(default_factory=dict)

    def of(self, split: str) -> list[Item]:
        """The images of a split."""
        return [item for item in self.items if item.split == split]


def provide_files(wish: Wish, collection: Collection, track: Track) -> DataFiles:
    """Returns the files that the spec will name, after writing those that are missing.

    Args:
      wish: what is to be named.
      collection: the folder as it was read.
      track: shows progress.

    Raises:
      DataError: something cannot be written.
    """
    # In place wherever it goes: copies of images cost the disk, and go stale.
    if wish.form == collection.layout == "kitti" and wish.as_found:
        in_place = _kitti_in_place(wish)
        if in_place is not None:
            return in_place
    if wish.form == "coco" and not wish.orientations:
        unchanged = collection.layout == "coco" and wish.as_found
        return (_coco_in_place(wish) if unchanged else None) or _coco_files(wish, collection.layout)
    # A KITTI reader wants all images of a split in one folder, which other layouts seldom have.
    copy = turning_copy(wish.orientations)
    write_tree(wish.items, wish.beside, wish.form, wish.class_names, track=track, copy=copy)
    folder = wish.beside
    train, val = (
        LabelFiles(images=str(folder / split / "images"), labels=str(folder / split / "labels"))
        if wish.form == "kitti"
        else LabelFiles(images=str(folder / split), labels=str(folder / f"instances_{split}.json"))
        for split in ("train", "val")
    )
    copies = "copies of the images"
    if wish.orientations:
        copies += f", of which {len(wish.orientations)} stand as EXIF shows them"
    notes = (f"{collection.layout} was written as {wish.form} into {folder}, with {copies}",)
    return DataFiles((train,), val, True, notes)


def with_sizes(items: Sequence[Item], sizes: Sequence[tuple[int, int]]) -> tuple[Item, ...]:
    """Returns the items with the sizes of their files, whatever their annotation states."""
    return tuple(
        dataclasses.replace(item, size=size) for item, size in zip(items, sizes, strict=True)
    )


def _kitti_in_place(wish: Wish) -> DataFiles | None:
    """Returns KITTI folders as they are; None where the readers of specs cannot use them."""
    parts: dict[str, list[LabelFiles]] = {}
    lists: dict[Path, list[str]] = {}
    for split in ("train", "val"):
        folders: dict[tuple[Path, Path], list[Item]] = {}
        for item in wish.of(split):
            folders.setdefault((item.image.parent, item.labels.parent), []).append(item)
        if split == "val" and len(folders) > 1:  # a spec has one source of validation data
            return None
        for number, ((images, labels), items) in enumerate(folders.items()):
            stems = [item.image.stem for item in items]
            # Readers of KITTI find labels by the name of the image.
            if any(item.labels.stem != item.image.stem for item in items):
                return None
            listing = ""
            # A folder is read whole: where a split is a part of it, the part must be listed.
            if set(stems) != _stems_in(images):
                if any(len(stem.split()) != 1 for stem in stems):  # blanks separate the list
                    return None
                path = wish.beside / (f"{split}.txt" if number == 0 else f"{split}_{number}.txt")
                lists[path], listing = stems, str(path)
            parts.setdefault(split, []).append(
                LabelFiles(images=str(images), labels=str(labels), listing=listing)
            )
    for path, stems in lists.items():
        write_file(path, ["".join(f"{stem}\n" for stem in stems).encode()])
    notes = ["the KITTI folders are used where they are"]
    if lists:
        notes.append(f"lists of the splits: {', '.join(map(str, lists))}")
    return DataFiles(tuple(parts["train"]), parts["val"][0], False, tuple(notes))


def _stems_in(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if is_image_name(path.name)}


def _coco_in_place(wish: Wish) -> DataFiles | None:
    """Returns COCO files as they are; None where a split is no whole file or has other names."""
    files, numbers = {}, []
    for split in ("train", "val"):
        items = wish.of(split)
        labels = {item.labels for item in items}
        if len(labels) != 1:
            return None
        (path,) = labels
        content = read_json(path)
        names = [entry.get("file_name", "") for entry in content["images"]]
        categories = {entry.get("id"): entry.get("name") for entry in content["categories"]}
        numbers.append(categories)
        # A file with more images than the split would train on what validates.
        if len(names) != len(items) or sorted(categories.values()) != sorted(wish.class_names):
            return None
        folder = _folder_of(items, names)
        if folder is None:
            return None
        files[split] = LabelFiles(images=str(folder), labels=str(path))
    if numbers[0] != numbers[1]:  # classes are taken from one of the files, and meant for both
        return None
    notes = ("the COCO files are used where they are",)
    return DataFiles((files["train"],), files["val"], False, notes)


def _folder_of(items: Sequence[Item], names: Sequence[str]) -> Path | None:
    """Returns the folder that all file names are relative to."""
    name = names[0]
    depth = len(Path(name).parts)
    first = next((item for item in items if str(item.image).endswith(name)), None)
    if first is None or len(first.image.parts) <= depth:
        return None
    folder = Path(*first.image.parts[:-depth])
    there = {item.image for item in items}
    # Every one, since equal names in two folders pass the first test.
    return folder if all(folder / each in there for each in names) else None


def _coco_files(wish: Wish, layout: str) -> DataFiles:
    """Writes annotation files for images of any layout that stay where they are."""
    common = _common_folder([item.image for item in wish.items])
    files = {}
    for split in ("train", "val"):
        path = wish.beside / f"instances_{split}.json"
        items = wish.of(split)
        write_file(path, [coco_text(items, common, wish.class_names).encode()])
        files[split] = LabelFiles(images=str(common), labels=str(path))
    labels = "annotation files" if layout == "coco" else f"the {layout} labels as COCO files"
    notes = (f"{labels} were written into {wish.beside}; the images stay in {common}",)
    return DataFiles((files["train"],), files["val"], True, notes)


def _common_folder(paths: Sequence[Path]) -> Path:
    common = paths[0].parent
    for path in paths:
        while not path.is_relative_to(common):
            if common == common.parent:
                raise DataError(f"{path} and {paths[0]} have no folder in common")
            common = common.parent
    return common
