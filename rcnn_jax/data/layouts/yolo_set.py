"""What describes a YOLO data set beside its label files: names of classes, splits, key points.

    data.yaml: names, kpt_shape, train | val | test: folder, list of folders, or list file
    train.txt, autosplit_val.txt, ...: one image a line

Source: Ultralytics documentation, "Detection datasets" and "Pose estimation datasets".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rcnn_jax.data.layouts.collection import Problem, split_of_name
from rcnn_jax.data.layouts.images import FileTree, ImageIndex
from rcnn_jax.errors import DataError
from rcnn_jax.text_file import read_text

_LONGEST_YAML = 1 << 20
NAME_LISTS = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels")
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Description:
    """The file that names the classes.

    Attributes:
      path: of the file; None where there is none.
      names: number -> name, numbered as the file does.
      content: of a YAML file; empty for a list of names.
      passed_over: other YAML files with names.
    """

    path: Path | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    content: Mapping[Any, Any] = field(default_factory=dict)
    passed_over: tuple[Path, ...] = ()

    @property
    def key_point_values(self) -> int:
        """Numbers that stand behind the box of a line: `kpt_shape: [points, values of a point]`."""
        shape = self.content.get("kpt_shape")
        if not isinstance(shape, list) or len(shape) != 2 or set(map(type, shape)) != {int}:
            return 0
        return shape[0] * shape[1] if min(shape) > 0 else 0


def described(tree: FileTree) -> tuple[Description, list[Problem]]:
    """Returns the description of a data set, and what is wrong with the files that might be it."""
    problems: list[Problem] = []
    entries: list[Description] = []
    # The YAML file first: lists of names lie about from earlier exports and are not kept up to date.
    for path in (*tree.of(".yaml"), *tree.of(".yml")):
        content = _yaml(path)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict):
            continue
        try:
            numbered = {int(number): str(name) for number, name in names.items()}
        except (TypeError, ValueError):
            problems.append(Problem(str(path), "'names' is a map whose keys are no numbers"))
            continue
        entries.append(Description(path, numbered, content))
    if entries:
        first, *others = entries
        passed_over = tuple(other.path for other in others if other.path is not None)
        return Description(first.path, first.names, first.content, passed_over), problems
    for path in (p for files in tree.others.values() for p in files if p.name in NAME_LISTS):
        try:
            lines = read_text(path, "list of names").splitlines()
        except DataError:
            continue
        names = {n: line.strip() for n, line in enumerate(lines) if line.strip()}
        return Description(path, names), problems
    return Description(), problems


def declared_splits(
    tree: FileTree, index: ImageIndex, description: Description
) -> tuple[dict[Path, str], list[str]]:
    """Returns image -> split as the author declares it, and the sentences that say where.

    The YAML file goes before lists that lie beside it, as those may be of an earlier split.

    Args:
      tree: the folder.
      index: of its images.
      description: the file that names the classes.
    """
    if description.path is not None and any(key in description.content for key in _SPLITS):
        images, missing = _of_yaml(tree, index, description.content, description.path)
        name = description.path.name
        lost = [
            f"'{split}' of {name} is {word}, which is not here: passed over"
            for split, word in missing
        ]
        if images:
            splits, again = _first(images)
            return splits, [f"splits from {name}", *again, *lost]
        splits, choices = _of_lists(tree, index)
        return splits, [*choices, *lost]
    return _of_lists(tree, index)


def _yaml(path: Path) -> Any:
    """Returns the content of a YAML file, or None; only plain values are read from it."""
    try:
        # The safe loader makes plain values only; tags of Python objects are errors.
        return yaml.safe_load(read_text(path, "YAML file", limit=_LONGEST_YAML))
    except (DataError, yaml.YAMLError, RecursionError, ValueError):
        return None


def _of_yaml(
    tree: FileTree, index: ImageIndex, content: Mapping[Any, Any], path: Path
) -> tuple[dict[str, list[Path]], list[tuple[str, str]]]:
    """Returns split -> images, and (split, what it names) of what is not here."""
    base = content.get("path")
    # A `path:` of another machine is common: the folder of the file is tried too.
    bases = [path.parent / base] if isinstance(base, str) else []
    bases += [path.parent, tree.root]
    folders = {image.parent for image in tree.images}
    resolved = {folder: folder.resolve() for folder in folders}

    def held(candidate: Path) -> list[Path]:
        if not candidate.is_dir():
            return [image for image in _listed(candidate, index) if image is not None]
        inside = candidate.resolve()
        below = {folder for folder, real in resolved.items() if real.is_relative_to(inside)}
        return [image for image in tree.images if image.parent in below]

    images: dict[str, list[Path]] = {}
    missing = []
    for split in _SPLITS:
        words = content.get(split)
        for word in words if isinstance(words, list) else [words]:
            if not isinstance(word, str) or not word.strip():
                continue
            entries = next(filter(None, map(held, _candidates(word.strip(), bases))), [])
            if entries:
                images.setdefault(split, []).extend(entries)
            else:
                missing.append((split, word.strip()))
    return images, missing


def _candidates(word: str, bases: Sequence[Path]) -> Iterator[Path]:
    """Yields the folders and list files that a word of a YAML file may mean, the likeliest first."""
    parts = word.replace("\\", "/").split("/")
    # `../train/images` of exports of Roboflow lies one folder lower than it says, and absolute paths
    # are those of another machine: folders in front of a word count less than its end.
    for start in range(len(parts)):
        if start and parts[start] in ("", ".", ".."):
            continue
        for base in bases:
            candidate = base / "/".join(parts[start:])
            try:
                if candidate.is_dir() or candidate.suffix.lower() == ".txt":
                    yield candidate
            except (OSError, ValueError):  # a NUL character, a name that is too long
                return


def _of_lists(tree: FileTree, index: ImageIndex) -> tuple[dict[Path, str], list[str]]:
    """Returns image -> split of files `train.txt`, `val.txt`, ... of images, and the sentences."""
    images: dict[str, list[Path]] = {}
    lists = []
    for path in tree.of(".txt"):
        split = split_of_name(path.stem)
        listed = list(_listed(path, index)) if split else []
        # The first fifty tell a list from label files and notes of the same name. Not all: images are
        # deleted after a list was written.
        if listed and None not in listed[:50]:
            lists.append(path.name)
            images.setdefault(split, []).extend(image for image in listed if image is not None)
    splits, again = _first(images)
    return splits, [f"splits from {', '.join(lists)}", *again] if lists else []


def _listed(path: Path, index: ImageIndex) -> Iterator[Path | None]:
    """Yields the image of every line; None where it is not here."""
    try:
        lines = read_text(path, "list of images").splitlines()
    except DataError:
        return
    for line in lines:
        if line.strip():
            yield index.named(line.strip(), path)


def _first(images: Mapping[str, Sequence[Path]]) -> tuple[dict[Path, str], list[str]]:
    """Returns image -> split; of several the first of train, val, test, which is said."""
    splits: dict[Path, str] = {}
    again = 0
    for split in _SPLITS:
        own = set(images.get(split, ()))
        # Sets without a held-out part name their training images twice, since the key is required.
        again += sum(image in splits for image in own)
        splits = dict.fromkeys(own, split) | splits
    if not again:
        return splits, []
    return splits, [f"{again} images are in two splits: they count in the first, train before val"]
