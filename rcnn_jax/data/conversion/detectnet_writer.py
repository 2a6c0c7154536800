"""Writer of DetectNet_v2 records: frames of all partitions to shards, and the report."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rcnn_jax.data.conversion.partition import shard_path, shards
from rcnn_jax.data.conversion.report import ConversionReport, PartitionReport, refuse_older
from rcnn_jax.data.conversion.sample_modifier import SampleModifier
from rcnn_jax.data.conversion.staging import StagedFiles
from rcnn_jax.data.findings import SHARED_BETWEEN_FOLDS, USELESS_BOX, Tally
from rcnn_jax.data.formats.detectnet_records import DetectNetFrame, encode_frame
from rcnn_jax.data.formats.tfrecord import write_records
from rcnn_jax.errors import DataError, UsageError
from rcnn_jax.printable import shown

_SHARD_NAME = re.compile(r"(-fold-\d{3,}-of-\d{3,})?(-shard-\d{5,}-of-\d{5,})?")
"""The rest of the name of a record file, behind the prefix."""


@dataclass
class Notes:
    """Observations made while frames are read.

    Attributes:
      skipped: name of an object in the warnings file -> its box (x1, y1, x2, y2) in whole pixels.
      label_names: class as written by the annotator -> class in the records.
      tally: all other findings.
    """

    skipped: dict[str, list[int]] = field(default_factory=dict)
    label_names: dict[str, str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def skip(self, name: str, box: list[int]) -> None:
        """Lists an object whose box cannot be used."""
        self.skipped[name] = box
        self.tally.add(USELESS_BOX, name)


def write_frames(
    output: Path,
    frames: Sequence[Iterable[DetectNetFrame]],
    *,
    num_partitions: int,
    num_shards: Sequence[int],
    modifier: SampleModifier,
    validation_fold: int | None,
    notes: Notes,
) -> ConversionReport:
    """Writes the frames of every partition and returns the report.

    Args:
      output: path prefix of the files.
      frames: of every partition, in order; consuming them fills `notes`.
      num_partitions: as named in the files, 0 for a single partition that is not named.
      num_shards: of every partition, 0 for a single file that is not named.
      modifier: changes of the samples of all partitions but `validation_fold`.
      validation_fold: number of a partition, or None.
      notes: filled by the iterators of `frames`.

    Raises:
      DataError: nothing is left to write, a file cannot be written, an image comes twice, or records
        of another conversion with the same prefix lie there. Nothing has been written then.
      UsageError: there is no such validation fold.
    """
    if validation_fold is not None and not 0 <= validation_fold < len(frames):
        raise UsageError(
            f"validation fold {validation_fold} does not exist: the dataset is divided into "
            f"{len(frames)} partitions, counted from 0."
        )
    # The cap of `max_training_samples` is divided among these.
    training_partitions = len(frames) - (validation_fold is not None)
    warnings_file = output.with_name(f"{output.name}_warning.json")
    reports = []
    partition_of: dict[str, int] = {}
    # Frames are iterators: labels are read here, inside the context, so that an error in the last
    # label file still removes the files of the first partitions.
    with StagedFiles() as staged:
        for number, samples in enumerate(frames):
            samples = _once(samples, number, partition_of, notes.tally)
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
        written = {path.name for report in reports for path in report.files}
        # Only now is it known which partitions have files, and a file of an empty one would be older.
        refuse_older(output.parent, output.name, _SHARD_NAME, written)
        if notes.skipped:
            text = json.dumps(notes.skipped, indent=2)
            staged.path(warnings_file).write_text(text, encoding="utf-8")
    if not notes.skipped:
        warnings_file.unlink(missing_ok=True)  # of an earlier conversion of the same name
    return ConversionReport(
        partitions=tuple(reports),
        label_names=dict(sorted(notes.label_names.items())),
        skipped=len(notes.skipped),
        findings=notes.tally.findings,
        warnings_file=warnings_file if notes.skipped else None,
    )


def _write_partition(
    name: str, samples: Iterable[DetectNetFrame], paths: Sequence[Path], staged: StagedFiles
) -> PartitionReport:
    """Writes one partition as these shards; without samples no file is written."""
    # All records of a partition at once, without pixels some hundred bytes each: shards are equal
    # runs, so their length follows from the number of records.
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


def _once(
    samples: Iterable[DetectNetFrame], partition: int, partition_of: dict[str, int], tally: Tally
) -> Iterator[DetectNetFrame]:
    """Yields the frames of a partition and records their partition.

    Raises:
      DataError: one comes twice.
    """
    # Before the modifier, which repeats frames on purpose.
    for frame in samples:
        name = frame.frame_id
        before = partition_of.get(name)
        if before == partition:
            raise DataError(
                f"image '{shown(name)}' comes twice: records name images without their extension, so "
                "every image needs a name of its own and must be listed once"
            )
        if before is not None:
            tally.add(SHARED_BETWEEN_FOLDS, name)
        partition_of[name] = partition
        yield frame


def _class_names(frame: DetectNetFrame) -> list[str]:
    return [item.class_name for item in frame.objects]
