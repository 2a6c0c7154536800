"""The files and folders of data and weights that a config names, by the tables of the spec."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import Message, Node

Reads = Literal["file", "folder", "glob"]
DATA_VARIABLE = "DATA_BASE_PATH"
"""Relative data paths lie below this folder, as in the original."""

_PUBLISHED = re.compile(r"(coco|imagenet)/\w+")

# KITTI and COCO sources name a root and folders in it: the root holds more than is read, and a
# command may well write there.
_PARTS: dict[str, dict[str, Reads]] = {
    "kitti_directory_path": {
        "kitti_image_dir_name": "folder",
        "kitti_label_dir_name": "folder",
    },
    "root_directory_path": {
        "image_dir_name": "folder",
        "label_dir_name": "folder",
        "img_dir_names": "folder",
        "annotation_files": "file",
    },
}
"""{field of a folder that is not read itself: {field next to it: kind of input in the folder}}."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """Something that a config names and a command reads.

    Attributes:
      field: dotted name of the field.
      reads: what the value is; a `glob` is a pattern of files.
      value: as the config has it.
      parts: of a folder that is not read itself, what is read in it, values relative to the folder;
        None where the value itself is read.
    """

    field: str
    reads: Reads
    value: str
    parts: "tuple[Input, ...] | None" = None


def named_inputs(config: Node, kind: SpecKind) -> Iterator[Input]:
    """Yields every input that a whole config names, optional blocks that are off left out.

    Names of published weights are no paths and are left out too.
    """
    yield from _inputs(config, TABLES[kind], "")


def is_published_name(value: str) -> bool:
    """Says whether a value is spelled like the name of published weights, `coco/...`: it has no suffix.

    Which names there are is the business of `checkpoints.published`.
    """
    return _PUBLISHED.fullmatch(value) is not None


def data_path(value: str) -> Path:
    """Returns a path of the spec; DATA_BASE_PATH counts where nothing lies at the path itself."""
    # An absolute path replaces the base when joined, so only relative ones move.
    below = Path(os.environ.get(DATA_VARIABLE, "")) / value
    return below if below.exists() or not Path(value).exists() else Path(value)


def _inputs(config: Node, table: Message, prefix: str) -> Iterator[Input]:
    for row in table.fields:
        name, value = f"{prefix}{row.name}", config[row.name]
        if row.kind == "message" and row.repeated:
            for index, block in enumerate(value):
                yield from _inputs(block, row.table, f"{name}[{index}].")
        elif row.kind == "message":
            if not row.optional or value.enabled:
                yield from _inputs(value, row.table, f"{name}.")
        elif row.reads and value and not (row.reads == "file" and is_published_name(value)):
            parts = tuple(_parts(config, row.name, prefix)) if row.name in _PARTS else None
            yield Input(field=name, reads=row.reads, value=value, parts=parts)


def _parts(config: Node, root: str, prefix: str) -> Iterator[Input]:
    for part, reads in _PARTS[root].items():
        value: str | Sequence[str] | None = config.get(part)
        for below in [value] if isinstance(value, str) else value or ():
            yield Input(field=f"{prefix}{part}", reads=reads, value=below)
