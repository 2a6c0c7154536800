"""Data sources of Faster R-CNN: images with their annotation by number.

    TFRecords + images | KITTI folder | several of them --> Source --> batches

Labels are read when a source is opened, pixels on access. Damaged records, unknown classes, useless
boxes and missing or empty image files are thus reported before a run starts. Omissions are listed in
`findings`, for the caller to show once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from rcnn_jax.data.findings import REPEATED, Finding, merged
from rcnn_jax.data.formats.detectnet_records import decode_frame
from rcnn_jax.data.formats.image_files import require_files
from rcnn_jax.data.formats.image_size import read_image_size
from rcnn_jax.data.formats.kitti import read_labels
from rcnn_jax.data.formats.tfrecord import RecordFile
from rcnn_jax.data.loader import images
from rcnn_jax.data.sources.annotations import Annotation, ClassMap, LabelTally, annotate
from rcnn_jax.data.sources.digest import ImageDigest, box_bytes, digest_image
from rcnn_jax.data.sources.frame_images import find_files, images_of_stems, note_labels_alone
from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown


class Source(Protocol):
    """Images and annotations by number; safe to use from threads.

    Attributes:
      class_names: of the classes 0..n-1, background excluded.
      findings: omissions, counted on opening.
    """

    class_names: tuple[str, ...]
    findings: tuple[Finding, ...]

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The name of the image in messages."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        ...

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c] in channel order `rgb`, `bgr` or `l`."""
        ...

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        ...

    def digest(self, index: int) -> ImageDigest:
        """A digest that changes with the image or its objects; reads no image."""
        ...


def select_shards(
    patterns: Sequence[str],
    fold: int | None = None,
    *,
    training: bool = True,
    field: str = "tfrecords_path",
) -> list[Path]:
    """Returns the TFRecord files of a data source, sorted by name.

    Args:
      patterns: globs; the `_warning.json` that conversion writes next to the shards is skipped.
      fold: the spec's `validation_fold`; None takes every file.
      training: files whose name lacks `fold-NNN-of-`, else those whose name has it.
      field: name of the patterns in the spec, for the message.

    Raises:
      DataError: a pattern matches nothing, or the fold leaves nothing.

    Source: docs/reference/specs.md, "Faster R-CNN: data".
    """
    shards = set()
    for pattern in patterns:
        paths = {path for path in _matches(pattern) if _may_be_shard(path)}
        if not paths:
            raise DataError(f"{shown(pattern)}: no file matches {field}: {_advice(pattern)}")
        shards |= paths
    if fold is not None:
        tag = f"fold-{fold:03d}-of-"
        # By the name of the file, as in the original: records themselves do not know their fold.
        kept = {path for path in shards if (tag in path.name) != training}
        if not kept:
            kind, relation = ("training", "without") if training else ("validation", "with")
            raise DataError(
                f"{', '.join(patterns)}: validation_fold = {fold} leaves no {kind} data: none of "
                f"{len(shards)} files is {relation} '{tag}' in its name. Convert again with another "
                "val_split, or leave validation_fold out"
            )
        shards = kept
    return sorted(shards)


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern)
    try:
        if path.name and path.parent.is_dir():  # whose own name may have brackets
            return list(path.parent.glob(path.name))
        rest = path.relative_to(path.anchor)
        return list(Path(path.anchor).glob(str(rest))) if rest.name else []
    except (OSError, ValueError):  # ValueError: it is no pattern
        return []


def _advice(pattern: str) -> str:
    if not pattern:
        return "the pattern is empty"
    if Path(pattern).is_dir():
        return f"it is a folder; write {Path(pattern) / '*'}"
    if "$" in pattern or pattern.startswith("~"):
        return "~ and variables of the shell are not expanded in specs; write the whole path"
    return "run dataset_convert first"


def _may_be_shard(path: Path) -> bool:
    """Excludes the report of skipped boxes and files that a conversion is still writing."""
    return path.is_file() and path.suffix != ".json" and not path.name.startswith(".")


class DetectNetRecords:
    """TFRecords of labels (DetectNet_v2 layout) and their folder of images.

    Args:
      shards: TFRecord files, see `select_shards`.
      image_dir: the image of frame `a/b` is `image_dir/a/b.<extension>`.
      image_extension: `jpg`, `jpeg` or `png`. Another spelling or format (`b.JPG`) counts
        where there is no such file.
      class_map: which classes there are.
      difficult_is_crowd: occluded objects become crowd, so that evaluation neither expects nor
        punishes them. Leave it off in training: the original trains on them.

    Raises:
      DataError: a file is damaged, a record lacks a feature or has a coordinate that is not finite,
        an image comes twice, is missing or is empty, or there is no record.

    Source: docs/reference/datasets.md, "DetectNet_v2 records".
    """

    def __init__(
        self,
        shards: Sequence[Path],
        image_dir: Path,
        image_extension: str,
        class_map: ClassMap,
        *,
        difficult_is_crowd: bool = False,
    ):
        self.class_names = class_map.names
        self._sizes, self._annotations = [], []
        frames: list[str] = []
        first_in: dict[str, str] = {}
        tally = LabelTally()
        for shard in shards:
            # Closed at once: pixels are elsewhere, and a data set may have more shards than a
            # process may open files.
            with RecordFile(shard) as file:
                for number, data in enumerate(file):
                    where = f"{shard}: record {number}"
                    frame = decode_frame(data, where)
                    name = frame.frame_id
                    # sample_modifier_config writes copies next to each other; an image that comes back
                    # later is in the records of another conversion.
                    if name in first_in and name != frames[-1]:
                        raise DataError(
                            f"{where}: image '{shown(name)}' comes twice, first in {first_in[name]}: "
                            "the folder holds the records of two conversions; delete one of them"
                        )
                    first_in.setdefault(name, where)
                    frames.append(name)
                    self._sizes.append(frame.size)
                    self._annotations.append(
                        annotate(
                            frame.objects,
                            class_map,
                            frame.size,
                            f"{where} ({shown(name)})",
                            tally,
                            difficult_is_crowd,
                        )
                    )
        if not frames:
            raise DataError(
                f"{', '.join(map(str, shards)) or 'data source'}: the TFRecords hold no image: run "
                "dataset_convert again"
            )
        self._paths = find_files(Path(image_dir), frames, "." + image_extension.lstrip("."), tally)
        where = f"{', '.join(map(str, shards[:3]))}{', ...' if len(shards) > 3 else ''}"
        # Each path once: copies of the sample modifier name the same image.
        require_files(dict.fromkeys(self._paths), where)
        self.label_names = frozenset(tally.names)
        self.findings = tally.findings

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """The path of the image."""
        return shown(self._paths[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as the record states it."""
        return self._sizes[index]

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c].

        Raises:
          DataError: the image is missing, damaged, or not of the size its record states.
        """
        path = self._paths[index]
        image = images.read_image(path, channel_order)
        images.check_size(image, self._sizes[index], str(path))
        return image

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        return self._annotations[index]

    def digest(self, index: int) -> ImageDigest:
        """The length of the image file and a digest of its record."""
        return _digest(self, self._paths[index], index)


class KittiFolder:
    """A folder of images and a folder of KITTI label files of the same stem, read directly.

    Extension: the original needs TFRecords.

    Args:
      image_dir: images; sub-folders are not entered and hidden files are no images.
      label_dir: `<stem>.txt` for every image, empty for an image without objects.
      class_map: which classes there are.
      stems: the images to use, in this order; by default all, sorted.
      difficult_is_crowd: see `DetectNetRecords`.

    Raises:
      DataError: a folder, image or label file is missing or damaged, or there is no image.
    """

    def __init__(
        self,
        image_dir: Path,
        label_dir: Path,
        class_map: ClassMap,
        *,
        stems: Sequence[str] | None = None,
        difficult_is_crowd: bool = False,
    ):
        self.class_names = class_map.names
        tally = LabelTally()
        self._paths = images_of_stems(Path(image_dir), stems, tally)
        require_files(self._paths, str(image_dir))
        if stems is None:
            note_labels_alone(Path(label_dir), {path.stem for path in self._paths}, tally)
        # From the headers, a few kilobytes each: canvases are planned before the first image is
        # decoded.
        self._sizes = [read_image_size(path) for path in self._paths]
        self._annotations = []
        for path, size in zip(self._paths, self._sizes, strict=True):
            labels = Path(label_dir) / f"{path.stem}.txt"
            objects = [
                (o.class_name, (o.y1, o.x1, o.y2, o.x2), o.occluded >= 1)
                for o in read_labels(labels)
            ]
            self._annotations.append(
                annotate(objects, class_map, size, str(labels), tally, difficult_is_crowd)
            )
        self.label_names = frozenset(tally.names)
        self.findings = tally.findings

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """The path of the image."""
        return str(self._paths[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image file."""
        return self._sizes[index]

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c].

        Raises:
          DataError: the image is missing or damaged.
        """
        return images.read_image(self._paths[index], channel_order)

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        return self._annotations[index]

    def digest(self, index: int) -> ImageDigest:
        """The length of the image file and a digest of its labels."""
        return _digest(self, self._paths[index], index)


class Concatenation:
    """Several sources as one, the records of the first first.

    Args:
      sources: at least one.

    Raises:
      DataError: there is no source, or their classes differ.
    """

    def __init__(self, sources: Sequence[Source]):
        if not sources:
            raise DataError("no data source is given: add data_sources to dataset_config")
        if any(source.class_names != sources[0].class_names for source in sources):
            listed = "; ".join(", ".join(source.class_names) for source in sources)
            raise DataError(f"the data sources have different classes: {listed}")
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])
        self.class_names = sources[0].class_names
        self.findings = merged(
            [*(item for source in sources for item in source.findings), *_repeated(sources)]
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        """The name in the source that holds the image."""
        source, inner = self._find(index)
        return source.name(inner)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image."""
        source, inner = self._find(index)
        return source.size(inner)

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c]."""
        source, inner = self._find(index)
        return source.image(inner, channel_order)

    def annotation(self, index: int) -> Annotation:
        """The objects of the image."""
        source, inner = self._find(index)
        return source.annotation(inner)

    def digest(self, index: int) -> ImageDigest:
        """The digest of the source that holds the image."""
        source, inner = self._find(index)
        return source.digest(inner)

    def _find(self, index: int) -> tuple[Source, int]:
        """Returns the source and the index within it."""
        # side="right": the first index of a source equals the end of the one before.
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[number], index - int(self._ends[number]) + len(self._sources[number])


def _digest(source: Source, path: Path, index: int) -> ImageDigest:
    annotation = source.annotation(index)
    # Names, not class numbers: a renamed class shows as that, not as a change of every image.
    names = [source.class_names[c] for c in annotation.classes]
    return digest_image(path, source.size(index), names, [box_bytes(annotation)])


def _repeated(sources: Sequence[Source]) -> list[Finding]:
    """Counts the images of several sources, a warning only: repetition makes images more frequent."""
    names = [{source.name(i) for i in range(len(source))} for source in sources]
    seen: set[str] = set()
    again: set[str] = set()
    for of_source in names:
        again |= of_source & seen
        seen |= of_source
    return [Finding(REPEATED, min(again), len(again))] if again else []
