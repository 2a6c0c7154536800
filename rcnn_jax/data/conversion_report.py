"""What a conversion did, for the command line to print and for `status.json`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PartitionReport:
    """One partition of a conversion.

    Attributes:
      name: `fold 1 of 2`, or what the converter calls its only partition.
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
      skipped: number of objects that were left out.
      warnings: sentences for the user.
      warnings_file: the JSON file that lists what was left out, or None.
    """

    partitions: tuple[PartitionReport, ...]
    label_names: Mapping[str, str]
    skipped: int
    warnings: tuple[str, ...]
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
