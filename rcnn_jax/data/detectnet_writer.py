"""Frames of all partitions to record files that appear together, and the report about them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rcnn_jax.data.conversion_report import ConversionReport, PartitionReport
from rcnn_jax.data.detectnet_records import DetectNetFrame, encode_frame
from rcnn_jax.data.partition import shard_path, shards
from rcnn_jax.data.records import write_records
from rcnn_jax.data.sample_modifier import SampleModifier
from rcnn_jax.data.staging import StagedFiles
from rcnn_jax.errors import DataError, UsageError


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
    warnings_file = output.with_name(f"{output.name}_warning.json")
    reports = []
    with StagedFiles() as staged:
        for number, samples in enumerate(frames):
            if number != validation_fold:
                samples = modifier.apply(samples, _class_names, training_partitions)
            paths = [
                shard_path(
                    output,
                    partition=number,
                    num_partitions=num_partitions,
                    shard=shard,
                    num_shards=num_shards[number],
                )
                for shard in range(max(num_shards[number], 1))
            ]
            name = f"fold {number} of {num_partitions}" if num_partitions else "all"
            report = _write_partition(name, samples, paths, staged)
            if report.images:
                reports.append(report)
        if not reports:
            raise DataError(f"{output}: no sample is left to write; see sample_modifier_config.")
        if findings.skipped:
            text = json.dumps(findings.skipped, indent=2)
            staged.path(warnings_file).write_text(text, encoding="utf-8")
    if not findings.skipped:
        warnings_file.unlink(missing_ok=True)  # of an earlier conversion of the same name
    written = {path for report in reports for path in report.files}
    return ConversionReport(
        partitions=tuple(reports),
        label_names=dict(sorted(findings.label_names.items())),
        skipped=len(findings.skipped),
        warnings=(
            *findings.warnings,
            *_skipped_warning(findings, warnings_file),
            *_older_warning(output, written),
        ),
        warnings_file=warnings_file if findings.skipped else None,
    )


def _write_partition(
    name: str, samples: Iterable[DetectNetFrame], paths: Sequence[Path], staged: StagedFiles
) -> PartitionReport:
    """Writes one partition as these shards; without samples no file is written."""
    counts: Counter[str] = Counter()
    records = []
    for frame in samples:
        counts.update(_class_names(frame))
        records.append(encode_frame(frame))
    if records:
        for path, part in zip(paths, shards(records, len(paths)), strict=True):
            write_records(staged.path(path), part)
    objects = dict(sorted(counts.items()))
    return PartitionReport(name=name, files=tuple(paths), images=len(records), objects=objects)


def _skipped_warning(findings: Findings, warnings_file: Path) -> list[str]:
    if not findings.skipped:
        return []
    return [
        f"{len(findings.skipped)} objects have a box without extent or outside the image and were "
        f"left out; they are listed in {warnings_file}."
    ]


def _older_warning(output: Path, written: set[Path]) -> list[str]:
    """Warns of records that a pattern `<output>*` would read together with the new ones."""
    parts = (f"{output.name}-fold-", f"{output.name}-shard-")
    found = (path for path in output.parent.iterdir() if path.name.startswith(parts))
    older = sorted(set(found) - written)
    if not older:
        return []
    shown = ", ".join(path.name for path in older[:5])
    return [
        f"{len(older)} record files of an earlier conversion with the same prefix are still there "
        f"and would be read with the new ones by '{output.name}*'; delete them: {shown}"
        f"{', ...' if len(older) > 5 else ''}"
    ]


def _class_names(frame: DetectNetFrame) -> list[str]:
    return [item.class_name for item in frame.objects]
