"""Findings about a data set as values: kind, first example, count.

Readers and converters collect `Finding`s in a `Tally`. Table rows and log sentences come from the
kinds below and nowhere else, so training and conversion report the same data in the same words.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rcnn_jax.printable import shown

Severity = Literal["note", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of finding.

    Attributes:
      row: heading in the table of counts; may contain `{where}`. Empty for findings without a row.
      sentence: for the log, with `{count}` and `{where}`. Empty where the row is enough.
      severity: a warning asks the user to act; an error must be mended before training.
      advice: what to do; for reports that have room for it.
      by_name: counted separately for every `where`; otherwise together, with the first `where`.
    """

    row: str = ""
    sentence: str = ""
    severity: Severity = "note"
    advice: str = ""
    by_name: bool = False


UNMAPPED = Kind(
    row="not mapped: {where}",
    sentence="{count} objects of class '{where}' are left out: target_class_mapping does not name it",
    by_name=True,
)
UNUSED_KEYS = Kind(
    sentence="target_class_mapping: no object is called {where}",
    by_name=True,
)
MISSPELT_KEY = Kind(
    sentence="target_class_mapping: no object is called {where}",
    severity="warning",
    by_name=True,
)
USELESS_BOX = Kind(
    row="box without area or outside",
    sentence="{count} boxes without area or outside their image are left out, the first in {where}",
)
OUTSIDE_BOX = Kind(
    row="box beyond the image",
    sentence="{count} boxes without extent or more than a pixel beyond their image are left out, "
    "the first is {where}",
)
CORNERS = Kind(
    sentence="{count} boxes reach beyond their images, the first is {where}; read as x1, y1, x2, y2 all "
    "boxes of the file lie inside: 'bbox' is x, y, width, height in COCO",
    severity="warning",
)
NO_OBJECT = Kind(
    sentence="{where}: no object is left, and without one nothing can be trained",
    severity="warning",
)
TINY = Kind(
    row="smaller than a pixel",
    sentence="{count} objects are too small to be learnt at the size of the canvas, the first in "
    "{where}",
)
SURPLUS = Kind(
    row="more than max_num_instances",
    sentence="{count} objects are dropped because their images have more than max_num_instances: "
    "{where} would keep all",
)
CROWD = Kind(row="crowd: {where}", by_name=True)
SHORT_PART = Kind(
    row="part of fewer than 3 points",
    sentence="{count} polygon parts of fewer than three points are left out, the first in {where}",
)
NO_OUTLINE = Kind(
    row="mask without a pixel",
    sentence="{count} objects are left out because their mask is empty or has no part of three "
    "points, the first is {where}",
)
MASK_OUTSIDE_BOX = Kind(
    row="mask outside its box (kept)",
    sentence="{count} objects have a mask outside their box, the first is {where}",
)
UNUSED_BACKGROUND = Kind(
    sentence="{where}: has no object and is left out: id 0 is the background of Mask R-CNN",
    by_name=True,
)
SAME_NAME = Kind(
    sentence="{where}",
    severity="warning",
    by_name=True,
)
OTHER_EXTENSION = Kind(
    row="image of another format",
    sentence="{count} images of another format than image_extension are left out, the first is "
    "{where}",
    severity="warning",
)
OTHER_SPELLING = Kind(
    sentence="{count} images are read under another extension than image_extension names, the first "
    "is {where}",
)
HIDDEN_FILE = Kind(
    row="hidden file",
    sentence="{count} hidden files are no images and are left out, the first is {where}",
)
LABELS_ALONE = Kind(
    row="label file without image",
    sentence="{count} label files have no image, the first is {where}",
    severity="warning",
)
NO_VALIDATION = Kind(sentence="{where}", by_name=True)
FIRST_IMAGES = Kind(sentence="{where}", by_name=True)
SHARED_BETWEEN_FOLDS = Kind(
    sentence="{count} images are in more than one fold, the first is {where}: a model would be evaluated "
    "on its own training images",
    severity="warning",
)
REPEATED = Kind(
    sentence="{count} images come from more than one data source, the first is {where}: they are "
    "trained on once for every source",
    severity="warning",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation, counted.

    Attributes:
      kind: one of this module.
      where: the first example, or the name that is counted.
      count: how often.
    """

    kind: Kind
    where: str
    count: int = 1

    @property
    def severity(self) -> Severity:
        """Whether the user should act."""
        return self.kind.severity

    @property
    def row(self) -> str:
        """Its heading in a table of counts; empty for none."""
        return self.kind.row.format(where=shown(self.where))

    @property
    def sentence(self) -> str:
        """Its sentence in the log; empty for none."""
        return self.kind.sentence.format(count=self.count, where=shown(self.where))


class Tally:
    """Mutable collection that counts findings."""

    def __init__(self):
        self._findings: dict[tuple[Kind, str], Finding] = {}

    def add(self, kind: Kind, where: str, count: int = 1) -> None:
        """Counts one more finding, or several."""
        if not count:
            return
        # One entry for a kind that is not counted by name, so that a million bad boxes take no
        # memory.
        key = (kind, where if kind.by_name else "")
        known = self._findings.get(key)
        self._findings[key] = Finding(
            # The first example stays: it is the one that a user meets first in the data.
            kind,
            known.where if known else where,
            count + (known.count if known else 0),
        )

    def extend(self, findings: Iterable[Finding]) -> None:
        """Adds the findings of another tally."""
        for item in findings:
            self.add(item.kind, item.where, item.count)

    def count(self, kind: Kind) -> int:
        """Returns the count of a kind."""
        return sum(item.count for item in self._findings.values() if item.kind is kind)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in the order of their first occurrence."""
        return tuple(self._findings.values())


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings with equal kinds (and names) added up."""
    tally = Tally()
    tally.extend(findings)
    return tally.findings
