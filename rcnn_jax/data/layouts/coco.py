"""COCO: one JSON file per split, with images beside it, in a folder of its name, or anywhere below.

annotations/instances_train2017.json + train2017/ | train/_annotations.coco.json + train/*.jpg | ...

Of an image in several files of one split (an export and a later one) the objects of the newest count.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from rcnn_jax.data.layouts.json_file import read_json
from rcnn_jax.errors import DataError

# COCO itself has 1.2 crowds in 100 objects; CVAT makes one of every mask that was drawn by brush, which
# beside polygons may be a few in a hundred. A sentence too many costs less than objects not learnt.
_CROWDS = 0.05


def read_coco(tree: FileTree, files: Sequence[Path]) -> Collection:
    """Returns the collection of annotation files; of an image in several of them the newest counts.

    Args:
      tree: the folder.
      files: JSON files with the lists images, annotations and categories.
    """
    index = ImageIndex(tree.images)
    items: list[Item] = []
    problems: list[Problem] = []
    choices: list[str] = []
    names: dict[str, None] = {}
    ids: dict[Path, tuple[int, ...]] = {}
    for path in files:
        try:
            # Not `load`, which stops at the first bad file: here the sound part of it is wanted.
            dataset, faults = CocoDataset.examine(path, masks=None)
        except DataError as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
            continue
        problems += [Problem(str(path), fault) for fault in faults]
        ids[path] = tuple(dataset.categories)
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
        if crowds > _CROWDS * used.total():
            choices.append(
                f"{path.name}: {crowds} of {used.total()} objects are marked as crowds, as exports of "
                "masks drawn by an assistant or a brush are: nothing is learnt of a crowd; `rcnn-jax "
                "init --crowds-as-objects` takes them as objects"
            )
        # Among them objects without a usable outline, which are in no list below.
        choices += [finding.sentence for finding in dataset.findings if finding.sentence]
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
    items, repeated = _newest(items, tree.root)
    choices += repeated
    items.sort(key=lambda item: item.image)
    kept = {obj.name for item in items for obj in item.objects}
    return Collection(
        layout="coco",
        root=tree.root,
        items=tuple(items),
        class_names=tuple(name for name in names if name in kept),
        problems=tuple(problems),
        choices=tuple(choices),
        category_ids={path: ids[path] for path in sorted({item.labels for item in items})},
    )


def _newest(items: Sequence[Item], root: Path) -> tuple[list[Item], list[str]]:
    """Returns the items without those of which a newer file has the image, and sentences on them."""
    split = {item.labels: item.split for item in items}
    files: dict[Path, set[Path]] = {}
    for item in items:
        files.setdefault(item.image, set()).add(item.labels)
    rivals = {path for of_image in files.values() if len(of_image) > 1 for path in of_image}
    if not rivals:
        return list(items), []
    dates = _dates(rivals)
    objects = Counter({item.labels: 0 for item in items})
    for item in items:
        objects[item.labels] += len(item.objects)

    def rank(path: Path) -> tuple[bool, str, int, int, str]:
        # Files of one release have one date: COCO's own `person_keypoints_*` has the images of
        # `instances_*`, and one of its eighty classes.
        return (
            bool(split[path]),
            dates.get(path, ""),
            objects[path] if dates else 0,
            path.stat().st_mtime_ns,
            str(path),
        )

    ranks = {path: rank(path) for path in rivals}
    passed_over: Counter[tuple[Path, Path]] = Counter()
    kept = []
    for item in items:
        # In training and in validation an image stays in both: the doctor tells of such. A file of no
        # split (`all.json` beside `train.json`) adds nothing to one that is of a split.
        same = [path for path in files[item.image] if not item.split or split[path] == item.split]
        best = max(same, key=lambda path: ranks[path]) if len(same) > 1 else item.labels
        if best == item.labels:
            kept.append(item)
        else:
            passed_over[best, item.labels] += 1
    sentences = []
    for (best, path), count in sorted(passed_over.items()):
        if split[best] != split[path]:
            rule = "the one of a split counts"
        elif dates and dates[best] == dates[path]:
            rule = "of those of one date the one with most objects counts"
        else:
            rule = "the newest of them counts"
        best, path = best.relative_to(root), path.relative_to(root)
        sentences.append(f"{count} images are in several files: {rule}, {best}, not {path}")
    return kept, sentences


def _dates(paths: Iterable[Path]) -> Mapping[Path, str]:
    """Returns file -> its own date; nothing unless all of them have one that sorts as text."""
    dates = {}
    for path in paths:
        try:
            info = read_json(path).get("info")
        except DataError:
            return {}
        date = info.get("date_created") if isinstance(info, dict) else None
        # Tools write no date, an empty one, or one in words; then the date of the file decides.
        if not isinstance(date, str) or not re.match(r"\d{4}[-/]\d\d[-/]\d\d", date):
            return {}
        dates[path] = date.replace("/", "-")
    return dates


def _corners(bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return y, x, y + height, x + width
