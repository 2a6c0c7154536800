"""Conversion of KITTI and COCO datasets to DetectNet_v2 records, for Faster R-CNN.

Images are not copied: a record holds the name, the size and the objects of one image. All
files of a conversion appear together at the end (`staging`): an error leaves nothing half-written.
Source: docs/reference/datasets.md, "Conversion spec".
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rcnn_jax.data.conversion.detectnet_writer import Notes, write_frames
from rcnn_jax.data.conversion.partition import random_partitions, sequence_partitions
from rcnn_jax.data.conversion.report import ConversionReport
from rcnn_jax.data.conversion.sample_modifier import SampleModifier
from rcnn_jax.data.findings import CROWD, NO_VALIDATION, SAME_NAME
from rcnn_jax.data.formats.coco import CocoDataset, shared_names
from rcnn_jax.data.formats.coco_entries import CocoAnnotation
from rcnn_jax.data.formats.detectnet_records import DetectNetFrame
from rcnn_jax.data.formats.image_files import require_files, require_whole
from rcnn_jax.data.formats.image_size import read_image_size
from rcnn_jax.data.formats.kitti import KittiObject, read_labels
from rcnn_jax.data.formats.kitti_calibration import read_calibration
from rcnn_jax.data.sources.annotations import joined
from rcnn_jax.data.sources.frame_images import find_files, images_of_format, note_labels_alone
from rcnn_jax.errors import DataError, SpecError
from rcnn_jax.text_file import read_text

NO_CHANGE = SampleModifier()
_LIDAR_CHANNELS = 4  # x, y, z, reflectance: fixed in the original's records
_CROWD_OCCLUSION = 3  # "unknown" in KITTI; evaluation treats 1 and more as difficult


@dataclass(frozen=True, kw_only=True)
class KittiConversion:
    """A dataset in KITTI layout and its division (`kitti_config`).

    Attributes:
      root: folder of the dataset.
      image_dir_name: folder of the images below root.
      label_dir_name: folder of the label files below root.
      image_extension: of the images, with or without the dot.
      partition_mode: `random` into validation (0) and training (1), or `sequence`.
      num_partitions: folds; 2 in mode `random`; 0 for a single one that is not named in files.
      num_shards: files of each partition; 0 for a single one that is not named in files.
      val_split: percentage of the validation partition, mode `random`.
      kitti_sequence_to_frames_file: JSON {sequence: [file names without extension]} below root,
        mode `sequence`.
      point_clouds_dir: named in the records when not empty.
      calibrations_dir: its matrices are put into the records when not empty.
      seed: of the random division.
    """

    root: Path
    image_dir_name: str
    label_dir_name: str
    image_extension: str = ".png"
    partition_mode: Literal["random", "sequence"] = "random"
    num_partitions: int = 2
    num_shards: int = 0
    val_split: float = 0.0
    kitti_sequence_to_frames_file: str = ""
    point_clouds_dir: str = ""
    calibrations_dir: str = ""
    seed: int = 42


@dataclass(frozen=True, kw_only=True)
class CocoConversion:
    """A dataset in COCO layout, one image folder and annotation file per partition (`coco_config`).

    Attributes:
      root: folder of the dataset.
      img_dir_names: image folders below root.
      annotation_files: annotation files below root.
      num_partitions: number of both.
      num_shards: files of each partition; a single value counts for all, 0 as in KittiConversion.
    """

    root: Path
    img_dir_names: tuple[str, ...]
    annotation_files: tuple[str, ...]
    num_partitions: int
    num_shards: tuple[int, ...] = (0,)


def convert_kitti(
    settings: KittiConversion,
    output: Path,
    *,
    modifier: SampleModifier = NO_CHANGE,
    validation_fold: int | None = None,
) -> ConversionReport:
    """Writes a KITTI dataset as `<output>[-fold-...][-shard-...]`.

    Classes are written in lower case. Left out, and listed in `<output>_warning.json`: boxes
    without extent (int(x1) >= int(x2), or the same in y) and boxes wholly outside their image.
    Boxes partly outside are kept as they are; training clips them. Images without objects are kept.

    Deviation: an empty partition writes no file, but the others keep their numbers: with
    `val_split: 0` training data is `-fold-001-of-002`. The original renumbers, which turns the
    training data into fold 0, the very fold that `validation_fold: 0` keeps out of training.

    Args:
      settings: the dataset.
      output: path prefix of the files; its folder is created.
      modifier: changes of the samples of training partitions.
      validation_fold: partition that `modifier` leaves alone; None for none.

    Raises:
      DataError: images, labels or other files are missing, damaged or contradictory, or a box
        looks normalised.
      SpecError: the settings contradict each other.
      UsageError: there is no such validation fold.
    """
    notes = Notes()
    if settings.partition_mode == "random":
        parts = _random_kitti_partitions(settings, notes)
    else:
        parts = _sequence_kitti_partitions(settings, notes)
    # Before the first frame is read: a conversion that fails on its last image has cost hours.
    require_files([path for part in parts for path in part], str(settings.root))
    note_labels_alone(
        settings.root / settings.label_dir_name,
        {path.stem for part in parts for path in part},
        notes.tally,
    )
    frames = [_kitti_frames(settings, part, notes) for part in parts]
    return write_frames(
        Path(output),
        frames,
        num_partitions=settings.num_partitions,
        num_shards=(settings.num_shards,) * len(parts),
        modifier=modifier,
        validation_fold=validation_fold,
        notes=notes,
    )


def convert_coco(
    settings: CocoConversion,
    output: Path,
    *,
    modifier: SampleModifier = NO_CHANGE,
    validation_fold: int | None = None,
) -> ConversionReport:
    """Writes COCO datasets as `<output>-fold-...[-shard-...]`, annotation file i as fold i.

    Class names are written in lower case without blanks; the categories of all files must agree.
    Objects are left out as by `convert_kitti`. Crowd regions are written as occluded 3, which
    evaluation takes for difficult.

    Args:
      settings: the dataset.
      output: path prefix of the files; its folder is created.
      modifier: changes of the samples of training partitions.
      validation_fold: partition that `modifier` leaves alone; None for none.

    Raises:
      DataError: images or annotations are missing, damaged or contradictory.
      SpecError: the settings contradict each other.
      UsageError: there is no such validation fold.
    """
    count = settings.num_partitions
    if not len(settings.img_dir_names) == len(settings.annotation_files) == count > 0:
        raise SpecError(
            f"coco_config: num_partitions = {count}, but there are {len(settings.img_dir_names)} "
            f"img_dir_names and {len(settings.annotation_files)} annotation_files; give as many of "
            "each as there are partitions."
        )
    num_shards = settings.num_shards or (0,)
    if len(num_shards) == 1:
        num_shards *= count
    if len(num_shards) != count:
        raise SpecError(
            f"coco_config.num_shards has {len(num_shards)} values; expected 1, or one for each of "
            f"the {count} partitions."
        )
    # Without masks: these records have none, so outlines need no check.
    datasets = [
        CocoDataset.load(settings.root / name, masks=False) for name in settings.annotation_files
    ]
    _require_equal_categories(datasets)
    notes = Notes()
    _note_merged_categories(datasets, notes)
    pairs = list(zip(datasets, settings.img_dir_names, strict=True))
    for dataset, name in pairs:
        folder = settings.root / name
        require_files([folder / image.file_name for image in dataset.images], str(dataset.path))
    frames = [_coco_frames(dataset, settings.root, name, notes) for dataset, name in pairs]
    return write_frames(
        Path(output),
        frames,
        num_partitions=count,
        num_shards=num_shards,
        modifier=modifier,
        validation_fold=validation_fold,
        notes=notes,
    )


def _random_kitti_partitions(settings: KittiConversion, notes: Notes) -> list[list[Path]]:
    if settings.num_partitions != 2:
        raise SpecError(
            f"kitti_config.num_partitions = {settings.num_partitions}: partition_mode 'random' "
            "makes 2 partitions, validation (0) and training (1); set num_partitions: 2."
        )
    if not 0 <= settings.val_split < 100:
        raise SpecError(
            f"kitti_config.val_split = {settings.val_split:g} is not in [0, 100), a percentage."
        )
    folder = settings.root / settings.image_dir_name
    images = images_of_format(folder, _extension(settings), notes.tally)
    parts = random_partitions(list(images.values()), settings.val_split, settings.seed)
    if not parts[0]:
        notes.tally.add(
            NO_VALIDATION,
            f"The validation partition is empty (val_split: {settings.val_split:g} of {len(images)} "
            "images): fold 0 has no file, all data is in fold 1.",
        )
    return parts


def _sequence_kitti_partitions(settings: KittiConversion, notes: Notes) -> list[list[Path]]:
    if not settings.kitti_sequence_to_frames_file:
        raise SpecError(
            "kitti_config.kitti_sequence_to_frames_file is missing: partition_mode 'sequence' "
            "needs a JSON file {sequence: [image names without extension]} below the root."
        )
    path = settings.root / settings.kitti_sequence_to_frames_file
    try:
        sequences = json.loads(read_text(path, "file of sequences"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    well_formed = isinstance(sequences, dict) and all(
        isinstance(stems, list)
        # An absolute name would leave the root, which `folder / stem` does not prevent.
        and all(isinstance(stem, str) and not stem.startswith("/") for stem in stems)
        for stems in sequences.values()
    )
    if not well_formed:
        raise DataError(f"{path}: expected {{sequence: [image names without extension]}}.")
    if not any(sequences.values()):
        raise DataError(f"{path}: names no image.")
    folder = settings.root / settings.image_dir_name
    return [
        find_files(folder, stems, _extension(settings), notes.tally)
        for stems in sequence_partitions(sequences, settings.num_partitions)
    ]


def _kitti_frames(
    settings: KittiConversion, images: Iterable[Path], notes: Notes
) -> Iterator[DetectNetFrame]:
    folder = settings.root / settings.image_dir_name
    labels = settings.root / settings.label_dir_name
    for path in images:
        # Relative: frames of a sequences file may lie in sub-folders, and labels mirror them.
        stem = path.relative_to(folder).with_suffix("").as_posix()
        size = _whole_image_size(path)
        label_file = labels / f"{stem}.txt"
        objects = []
        for index, item in enumerate(read_labels(label_file)):
            if not _is_usable(item, size):
                _require_pixels(item, f"{label_file}: object {index + 1}", "x1, y1, x2, y2")
                notes.skip(f"{label_file}_{index}", _whole_box(item))
                continue
            # In lower case, as in the original: programs that read its records expect it.
            name = item.class_name.lower()
            notes.label_names[item.class_name] = name
            objects.append(replace(item, class_name=name))
        yield DetectNetFrame(
            # With the folder, so that images of two folders stay apart under one
            # `image_directory_path`.
            frame_id=f"{settings.image_dir_name}/{stem}",
            height=size[0],
            width=size[1],
            objects=tuple(objects),
            extra=_lidar_features(settings, stem),
        )


def _lidar_features(settings: KittiConversion, stem: str) -> dict:
    features: dict = {}
    if settings.point_clouds_dir:
        features["point_cloud/id"] = [f"{settings.point_clouds_dir}/{stem}".encode()]
        features["point_cloud/num_input_channels"] = [_LIDAR_CHANNELS]
    if settings.calibrations_dir:
        path = settings.root / settings.calibrations_dir / f"{stem}.txt"
        to_camera, to_image = read_calibration(path)
        features["calibration/T_lidar_to_camera"] = to_camera.reshape(-1)
        features["calibration/P_lidar_to_image"] = to_image.reshape(-1)
    return features


def _coco_frames(
    dataset: CocoDataset, root: Path, folder: str, notes: Notes
) -> Iterator[DetectNetFrame]:
    for image in dataset.images:
        path = root / folder / image.file_name
        size = _whole_image_size(path)
        # Boxes belong to the stated size; a file that was resized later would train on shifted
        # boxes.
        if size != (image.height, image.width):
            raise DataError(
                f"{path}: is {size[1]} x {size[0]} pixels; {dataset.path} states {image.width} x "
                f"{image.height} for image {image.id}."
            )
        objects = []
        for annotation in dataset.annotations[image.id]:
            name = dataset.categories[annotation.category_id]
            # Without blanks, as the original's COCO conversion writes names; `ClassMap` compares
            # alike.
            item = _coco_object(annotation, joined(name))
            if not _is_usable(item, size):
                where = f"{dataset.path}: annotation {annotation.id}"
                _require_pixels(item, where, "x, y, width, height")
                notes.skip(f"{dataset.path}_{annotation.id}", _whole_box(item))
                continue
            if annotation.crowd:
                notes.tally.add(CROWD, item.class_name)
            notes.label_names[name] = item.class_name
            objects.append(item)
        yield DetectNetFrame(
            frame_id=f"{folder}/{Path(image.file_name).with_suffix('').as_posix()}",
            height=size[0],
            width=size[1],
            objects=tuple(objects),
        )


def _require_equal_categories(datasets: Sequence[CocoDataset]) -> None:
    first = {joined(name) for name in datasets[0].categories.values()}
    for dataset in datasets[1:]:
        difference = first ^ {joined(name) for name in dataset.categories.values()}
        if difference:
            raise DataError(
                f"{dataset.path}: its categories differ from those of {datasets[0].path}: "
                f"{', '.join(sorted(difference))} occur in only one of them."
            )


def _coco_object(annotation: CocoAnnotation, name: str) -> KittiObject:
    x, y, width, height = annotation.bbox
    occluded = _CROWD_OCCLUSION if annotation.crowd else 0
    return KittiObject(class_name=name, x1=x, y1=y, x2=x + width, y2=y + height, occluded=occluded)


def _note_merged_categories(datasets: Sequence[CocoDataset], notes: Notes) -> None:
    """Reports categories that become one class: records hold names, not ids."""
    for dataset in datasets:
        names = {item_id: joined(name) for item_id, name in dataset.categories.items()}
        for name, ids in shared_names(names).items():
            notes.tally.add(
                SAME_NAME,
                f"{dataset.path}: the categories {', '.join(map(str, ids))} are all called '{name}' "
                "in records and become one class",
            )


def _whole_image_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of an image file that is not cut off."""
    size = read_image_size(path)
    require_whole(path)
    return size


def _extension(settings: KittiConversion) -> str:
    return "." + settings.image_extension.removeprefix(".")


def _is_usable(item: KittiObject, size: tuple[int, int]) -> bool:
    # Compared as whole pixels: a box from 10.2 to 10.9 has no extent.
    x1, y1, x2, y2 = _whole_box(item)
    inside = item.x1 < size[1] and item.y1 < size[0] and item.x2 > 0 and item.y2 > 0
    return x1 < x2 and y1 < y2 and inside


def _require_pixels(item: KittiObject, where: str, sides: str) -> None:
    """Checks that an unusable box is not in fractions of the image: then all are.

    Raises:
      DataError: it lies in the first pixel and has an extent there.
    """
    x1, y1, x2, y2 = item.x1, item.y1, item.x2, item.y2
    if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1:
        raise DataError(
            f"{where}: its box ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}) looks normalised; expected "
            f"{sides} in pixels."
        )


def _whole_box(item: KittiObject) -> list[int]:
    return [int(item.x1), int(item.y1), int(item.x2), int(item.y2)]
