"""Report of a conversion, for the console and `status.json`."""

import re
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.data.count_table import Column
from rcnn_jax.data.findings import Finding
from rcnn_jax.errors import DataError


@dataclass(frozen=True, kw_only=True)
class PartitionReport:
    """One partition of a conversion.

    Attributes:
      name: `fold 1 of 2`, or the name of the only partition.
      files: the record files, in order.
      images: samples written, copies included.
      objects: class name -> number of objects, sorted by name.
    """

    name: str
    files: tuple[Path, ...]
    images: int
    objects: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """The result of a conversion.

    Attributes:
      partitions: those that were written; empty ones are not.
      label_names: class as written by the annotator -> class in the records.
      skipped: number of omitted objects.
      findings: omissions, crowd regions and other observations.
      warnings_file: the JSON file with the omitted objects, or None.
    """

    partitions: tuple[PartitionReport, ...]
    label_names: Mapping[str, str]
    skipped: int
    findings: tuple[Finding, ...]
    warnings_file: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """All record files."""
        return tuple(path for partition in self.partitions for path in partition.files)

    @property
    def images(self) -> int:
        """Samples written, copies included."""
        return sum(partition.images for partition in self.partitions)

    @property
    def objects(self) -> dict[str, int]:
        """Class name -> number of objects over all partitions, sorted by name."""
        total: Counter[str] = Counter()
        for partition in self.partitions:
            total.update(partition.objects)
        return dict(sorted(total.items()))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table of counts: one for each partition, and all where there are more."""
        parts = [Column(name=p.name, images=p.images, objects=p.objects) for p in self.partitions]
        name = parts[0].name if len(parts) == 1 else "all"
        total = Column(name=name, images=self.images, objects=self.objects, findings=self.findings)
        return (total,) if len(parts) == 1 else (*parts, total)


def refuse_older(folder: Path, prefix: str, rest: re.Pattern, written: Container[str]) -> None:
    """Refuses a folder with older records that training would read together with the new ones.

    They are not deleted: only the user knows whether they are still needed.

    Args:
      folder: of the records; may not exist yet.
      prefix: common beginning of the names of record files.
      rest: pattern of the rest of a name.
      written: names of the files of this conversion.

    Raises:
      DataError: there are other record files of this prefix.
    """
    entries = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in entries if not path.is_dir())
    older = [
        name
        for name in names
        # The whole rest of the name, so that `train-2` is no older file of `train`.
        if name.startswith(prefix) and rest.fullmatch(name, len(prefix)) and name not in written
    ]
    if older:
        listed = ", ".join(older[:5]) + (", ..." if len(older) > 5 else "")
        raise DataError(
            f"{folder}: holds {len(older)} record files of an earlier conversion with the same "
            f"prefix, which '{prefix}*' would read with the new ones: {listed}. Delete them, or "
            "choose another name or folder"
        )
