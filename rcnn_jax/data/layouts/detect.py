"""Which tool wrote an annotated folder: decided from the content of its files, not from names.

    folder | annotation file --> Collection

A reader is asked for files of its form; of several forms in one folder the one that annotates the most
images is taken, and the choice is said.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rcnn_jax.data.layouts.coco import read_coco
from rcnn_jax.data.layouts.collection import Collection
from rcnn_jax.data.layouts.cvat import is_cvat, read_cvat
from rcnn_jax.data.layouts.images import FileTree
from rcnn_jax.data.layouts.json_file import read_json
from rcnn_jax.data.layouts.kitti import COLUMNS, read_kitti
from rcnn_jax.data.layouts.label_studio import is_label_studio, read_label_studio
from rcnn_jax.data.layouts.voc import read_voc
from rcnn_jax.data.layouts.yolo import is_yolo_line, read_yolo
from rcnn_jax.data.layouts.yolo_set import NAME_LISTS
from rcnn_jax.errors import DataError

_SAMPLED = 200
"""Label files whose lines are looked at: a folder may hold a hundred thousand."""
# Enough for twenty lines of labels, and for the first tag of an XML file behind a long comment.
_HEAD = 4096
_LISTS = (
    "train",
    "val",
    "valid",
    "test",
    "trainval",
    "readme",
    "readme.roboflow",
    "readme.dataset",
)

LAYOUTS = (
    "KITTI, COCO, YOLO, Pascal VOC (also as Roboflow exports them), CVAT for images 1.1, Label Studio "
    "(JSON, JSON-MIN)"
)

Reader = Callable[[FileTree, Sequence[Path]], Collection]


def read_collection(source: Path) -> Collection:
    """Returns the annotations of a folder, or of one annotation file, whatever tool wrote them.

    Args:
      source: the folder of a data set, or an annotation file with its images beside or below.

    Raises:
      DataError: there is no such folder, or nothing in it is annotated.
    """
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder")
    tree = FileTree.below(source if source.is_dir() else source.parent)
    if source.is_file() and not tree.images:  # annotations/x.json beside a folder of images
        tree = FileTree.below(source.parent.parent)
    candidates = [
        (reader, files)
        for reader, files in (
            *_json_files(tree, source),
            (read_voc, _xml_files(tree, lambda head: b"<annotation>" in head)),
            (read_cvat, _xml_files(tree, is_cvat)),
            *_text_files(tree),
        )
        if files and (source.is_dir() or source in files)
    ]
    # Read by all of them: how many images have objects is known only then, and decides.
    collections = [reader(tree, files) for reader, files in candidates]
    collections.sort(key=lambda each: (_annotated(each), -len(each.problems)), reverse=True)
    if not collections or not any(each.items for each in collections):
        raise DataError(_nothing(source, tree, collections))
    best, *others = collections
    notes = tuple(
        f"read as {best.layout}: {_annotated(best)} images have objects, {_annotated(other)} as "
        f"{other.layout}, whose files lie here too"
        for other in others
    )
    return replace(best, choices=(*notes, *best.choices))


def _annotated(collection: Collection) -> int:
    return sum(bool(item.objects) for item in collection.items)


def _json_files(tree: FileTree, source: Path) -> list[tuple[Reader, list[Path]]]:
    """Returns the files of COCO and of Label Studio; each is read once for the question."""
    coco: list[Path] = []
    label_studio: list[Path] = []
    for path in [source] if source.is_file() else tree.of(".json"):
        if path.suffix.lower() != ".json":
            continue
        try:
            content = read_json(path)
        except DataError:
            continue
        if _is_coco(content):
            coco.append(path)
        elif is_label_studio(content):
            label_studio.append(path)
    return [(read_coco, coco), (read_label_studio, label_studio)]


def _is_coco(content: Any) -> bool:
    """Says whether a JSON file has the three lists; their order in the file is anyone's choice."""
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )


def _xml_files(tree: FileTree, is_own: Callable[[bytes], bool]) -> list[Path]:
    return [path for path in tree.of(".xml") if is_own(_head(path))]


def _text_files(tree: FileTree) -> list[tuple[Reader, list[Path]]]:
    """Returns the label files of KITTI and of YOLO, told apart by the lines of a sample."""
    # By folder, as one tool writes a folder: label files of a mixture would outvote each other.
    by_folder: dict[Path, list[Path]] = {}
    for path in tree.of(".txt"):
        if path.name not in NAME_LISTS:
            by_folder.setdefault(path.parent, []).append(path)
    labels: dict[str, list[Path]] = {"kitti": [], "yolo": [], "": []}
    for files in by_folder.values():
        form = _form(files)
        # Lists and notes lie among label files too; an image may be called `test` all the same.
        labels[form] += [path for path in files if path.stem.lower() not in _LISTS or _form([path])]
    return [(read_kitti, labels["kitti"]), (read_yolo, labels["yolo"])]


def _form(files: Sequence[Path]) -> str:
    """Returns `kitti`, `yolo` or an empty text for the label files of one folder."""
    votes = {"kitti": 0, "yolo": 0, "": 0}
    step = max(1, len(files) // _SAMPLED)
    for path in files[::step]:
        for columns in _first_lines(path):
            # Fifteen columns also fit a polygon of seven points; its class is a number, and KITTI
            # has a name.
            if len(columns) in (COLUMNS, COLUMNS + 1) and not columns[0].isdigit():
                votes["kitti"] += 1
            elif is_yolo_line(columns):
                votes["yolo"] += 1
            elif columns:
                votes[""] += 1
    best = max(votes, key=lambda form: votes[form])
    return best if votes[best] else ""


def _first_lines(path: Path) -> list[list[str]]:
    """Returns the columns of the first lines of a text file, at most 20 of them."""
    head = _head(path)
    lines = [line.split() for line in head.decode("utf-8", "replace").splitlines()[:20]]
    if len(head) == _HEAD and lines:
        # A polygon along every pixel is longer than what was read. The line that the end cuts is left
        # out; where there is no other, its whole points say what it is.
        *whole, cut = lines
        lines = whole or [cut[: (len(cut) - 2) // 2 * 2 + 1]]
    return lines


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _nothing(source: Path, tree: FileTree, collections: Sequence[Collection]) -> str:
    """Returns the message where no image is annotated: what is there, and what was expected."""
    problems = [problem for each in collections for problem in each.problems]
    if problems:
        first = problems[0]
        return (
            f"{source}: annotations of {collections[0].layout} were found, but none belongs to an image: "
            f"{first.where}: {first.what} ({len(problems)} of this kind)"
        )
    counts = ", ".join(
        f"{len(files)} {suffix or 'without ending'}"
        for suffix, files in sorted(tree.others.items(), key=lambda pair: -len(pair[1]))[:5]
    )
    return (
        f"{source}: no annotation was found; expected {LAYOUTS}, found {len(tree.images)} images"
        + (f" and {counts}" if counts else "")
    )
