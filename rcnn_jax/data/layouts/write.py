"""Writes annotated images as a KITTI or a COCO tree, one folder per split.

out/train/images/*, out/train/labels/*.txt          kitti
out/train/*, out/instances_train.json               coco
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from rcnn_jax.data.conversion.staging import make_folder, require_free_space
from rcnn_jax.data.formats.kitti import KittiObject, write_labels
from rcnn_jax.data.layouts.collection import Item
from rcnn_jax.errors import DataError
from rcnn_jax.processes import unfinished_name

Form = Literal["kitti", "coco"]
Track = Callable[[Iterable[Item], int, str], Iterator[Item]]
Copy = Callable[[Path, Path], object]


def write_tree(
    items: Sequence[Item],
    out: Path,
    form: Form,
    class_names: Sequence[str],
    *,
    track: Track = lambda items, total, label: iter(items),
    copy: Copy = shutil.copyfile,
) -> None:
    """Writes images and labels; the folder appears whole, or not at all.

    Args:
      items: every one with its size.
      out: a folder that does not exist, or is empty.
      form: of the labels. Blanks in class names become `_` in KITTI, where blanks separate columns.
      class_names: order of the categories of COCO.
      track: shows progress.
      copy: writes one image from source to target.

    Raises:
      DataError: the disk is full, or the folder cannot be written.
    """
    make_folder(out.parent)
    sizes = sum(item.image.stat().st_size for item in items)
    # A tenth for labels: a full disk in the middle would cost the time of all images before it.
    require_free_space(out.parent, sizes + sizes // 10)
    temporary = unfinished_name(out)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        placed = list(zip(items, _names(items, form), strict=True))
        for folder in {name.parent for _, name in placed}:
            make_folder(temporary / folder)
        for (item, name), _ in zip(placed, track(items, len(items), "writing images"), strict=True):
            copy(item.image, temporary / name)
            if form == "kitti":
                labels = temporary / name.parents[1] / "labels" / f"{name.stem}.txt"
                labels.parent.mkdir(exist_ok=True)
                write_labels(labels, [_kitti(obj) for obj in item.objects])
        if form == "coco":
            for split in dict.fromkeys(item.split or "train" for item in items):
                rows = [(i, n.name) for i, n in placed if (i.split or "train") == split]
                text = json.dumps(_coco(rows, class_names))
                (temporary / f"instances_{split}.json").write_text(text, encoding="utf-8")
        # At the end, so that a folder of this name is a whole data set or none.
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _names(items: Sequence[Item], form: Form) -> Iterator[Path]:
    """Yields the path of every image below the output; names that repeat get their folder in front."""
    taken: set[tuple[str, str]] = set()
    for item in items:
        split = item.split or "train"
        stem, number = item.image.stem, 1
        # By stem, not by name: labels are found by it, and a.jpg and a.png would share theirs.
        while (split, stem) in taken:
            stem = f"{item.image.parent.name}_{item.image.stem}" + (
                "" if number == 1 else f"_{number}"
            )
            number += 1
        taken.add((split, stem))
        folder = Path(split) / "images" if form == "kitti" else Path(split)
        yield folder / f"{stem}{item.image.suffix}"


def _kitti(obj: Any) -> KittiObject:
    y1, x1, y2, x2 = obj.box
    return KittiObject(
        # Blanks separate the columns of the format.
        class_name=kitti_name(obj.name),
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        occluded=int(obj.difficult),
    )


def coco_text(items: Sequence[Item], images: Path, class_names: Sequence[str]) -> str:
    """Returns a COCO file of images that stay where they are.

    Args:
      items: every one with its size and below `images`.
      images: folder that file names are relative to.
      class_names: order of the categories.
    """
    rows = [(item, item.image.relative_to(images).as_posix()) for item in items]
    return json.dumps(_coco(rows, class_names))


def kitti_name(name: str) -> str:
    """Returns a class name as KITTI writes it: blanks separate columns there."""
    return "_".join(name.split())


def _coco(rows: Sequence[tuple[Item, str]], class_names: Sequence[str]) -> dict[str, Any]:
    numbers = {name: number for number, name in enumerate(class_names, start=1)}
    images, annotations = [], []
    for image_id, (item, name) in enumerate(rows, start=1):
        # Every caller knows the sizes: COCO cannot be written without.
        assert item.size is not None
        height, width = item.size
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for obj in item.objects:
            y1, x1, y2, x2 = obj.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers[obj.name],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(obj.crowd),
                    **({} if obj.outline is None else {"segmentation": obj.outline}),
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
