"""Records in the DetectNet_v2 layout: a frame and its objects, without pixels.

Source: reference of datasets, section 2.6.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rcnn_jax.data.conversion_report import ConversionReport, PartitionReport
from rcnn_jax.data.kitti import KittiObject
from rcnn_jax.data.partition import shard_path, shards
from rcnn_jax.data.records import FeatureValues, encode_example, write_records
from rcnn_jax.data.sample_modifier import SampleModifier
from rcnn_jax.data.staging import StagedFiles
from rcnn_jax.errors import DataError, UsageError


@dataclass(frozen=True, kw_only=True)
class DetectNetFrame:
    """One image.

    Attributes:
      frame_id: image folder, `/`, file name without extension.
      height: pixels.
      width: pixels.
      objects: boxes in pixels; class names as they stand in the record.
      extra: further features, for example those of a point cloud.
    """

    frame_id: str
    height: int
    width: int
    objects: tuple[KittiObject, ...]
    extra: Mapping[str, FeatureValues] = field(default_factory=dict)


@dataclass
class Findings:
    """What is noticed while frames are made.

    Attributes:
      skipped: name of an object in the warnings file -> its box (x1, y1, x2, y2) in whole pixels.
      label_names: class as written by the annotator -> class in the records.
      warnings: sentences for the user.
    """

    skipped: dict[str, list[int]] = field(default_factory=dict)
    label_names: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def encode_frame(frame: DetectNetFrame) -> bytes:
    """Returns the serialized example of a frame, with the original's keys and types."""
    objects = frame.objects
    floats = {
        "truncation": [item.truncated for item in objects],
        "observation_angle": [item.alpha for item in objects],
        "coordinates_x1": [item.x1 for item in objects],
        "coordinates_y1": [item.y1 for item in objects],
        "coordinates_x2": [item.x2 for item in objects],
        "coordinates_y2": [item.y2 for item in objects],
        "world_bbox_h": [item.dimensions[0] for item in objects],
        "world_bbox_w": [item.dimensions[1] for item in objects],
        "world_bbox_l": [item.dimensions[2] for item in objects],
        "world_bbox_x": [item.location[0] for item in objects],
        "world_bbox_y": [item.location[1] for item in objects],
        "world_bbox_z": [item.location[2] for item in objects],
        "world_bbox_rot_y": [item.rotation_y for item in objects],
    }
    return encode_example(
        {
            "frame/id": [frame.frame_id.encode()],
            "frame/height": [frame.height],
            "frame/width": [frame.width],
            "target/object_class": [item.class_name.encode() for item in objects],
            "target/occlusion": np.array([item.occluded for item in objects], np.int64),
            **{f"target/{name}": np.array(values, np.float32) for name, values in floats.items()},
            **frame.extra,
        }
    )


def write_frames(
    output: Path,
    frames: Sequence[Iterable[DetectNetFrame]],
    *,
    num_partitions: int,
    num_shards: Sequence[int],
    modifier: SampleModifier,
    validation_fold: int | None,
    findings: Findings,
) -> ConversionReport:
    """Writes the frames of every partition and returns the report.

    Args:
      output: path prefix of the files.
      frames: of every partition, in order; consuming them fills `findings`.
      num_partitions: as named in the files, 0 for a single partition that is not named.
      num_shards: of every partition, 0 for a single file that is not named.
      modifier: changes of the samples of all partitions but `validation_fold`.
      validation_fold: number of a partition, or None.
      findings: what the makers of `frames` noticed.

    Raises:
      DataError: nothing is left to write, or a file cannot be written.
      UsageError: there is no such validation fold.
    """
    if validation_fold is not None and not 0 <= validation_fold < len(frames):
        raise UsageError(
            f"validation fold {validation_fold} does not exist: the dataset is divided into "
            f"{len(frames)} partitions, counted from 0."
        )
    training_partitions = len(frames) - (validation_fold is not None)
    reports = []
    with StagedFiles() as staged:
        for number, (samples, shard_count) in enumerate(zip(frames, num_shards, strict=True)):
            if number != validation_fold:
                samples = modifier.apply(samples, _class_names, training_partitions)
            counts: Counter[str] = Counter()
            records = []
            for frame in samples:
                counts.update(_class_names(frame))
                records.append(encode_frame(frame))
            if not records:
                continue
            files = []
            for shard, part in enumerate(shards(records, shard_count)):
                path = shard_path(
                    output,
                    partition=number,
                    num_partitions=num_partitions,
                    shard=shard,
                    num_shards=shard_count,
                )
                write_records(staged.path(path), part)
                files.append(path)
            reports.append(
                PartitionReport(
                    name=f"fold {number} of {num_partitions}" if num_partitions else "all",
                    files=tuple(files),
                    images=len(records),
                    objects=dict(sorted(counts.items())),
                )
            )
        if not reports:
            raise DataError(f"{output}: no sample is left to write; see sample_modifier_config.")
        warnings_file = output.with_name(f"{output.name}_warning.json")
        if findings.skipped:
            text = json.dumps(findings.skipped, indent=2)
            staged.path(warnings_file).write_text(text, encoding="utf-8")
            findings.warnings.append(
                f"{len(findings.skipped)} objects have a box without extent or outside the image "
                f"and were left out; they are listed in {warnings_file}."
            )
    if not findings.skipped:
        warnings_file.unlink(missing_ok=True)  # of an earlier conversion of the same name
    written = {path for report in reports for path in report.files}
    older = sorted(_record_files(output) - written)
    if older:
        findings.warnings.append(
            f"{len(older)} record files of an earlier conversion with the same prefix are still "
            f"there and would be read with the new ones by '{output.name}*'; delete them: "
            f"{', '.join(path.name for path in older[:5])}{', ...' if len(older) > 5 else ''}"
        )
    return ConversionReport(
        partitions=tuple(reports),
        label_names=dict(sorted(findings.label_names.items())),
        skipped=len(findings.skipped),
        warnings=tuple(findings.warnings),
        warnings_file=warnings_file if findings.skipped else None,
    )


def _class_names(frame: DetectNetFrame) -> list[str]:
    return [item.class_name for item in frame.objects]


def _record_files(output: Path) -> set[Path]:
    parts = (f"{output.name}-fold-", f"{output.name}-shard-")
    return {path for path in output.parent.iterdir() if path.name.startswith(parts)}
