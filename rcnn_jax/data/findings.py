"""What readers notice about a data set, as values: a kind, the first place, a count.

Readers and converters collect `Finding`s in a `Tally`. Rows of tables and sentences are made of the
kinds below and nowhere else, so that training and conversion say the same of the same data.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rcnn_jax.printable import shown

Severity = Literal["note", "warning"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of finding.

    Attributes:
      row: what the table of counts calls it; may name `{where}`. Empty for findings without a row.
      sentence: for the log, with `{count}` and `{where}`. Empty where the row says it all.
      severity: a warning asks the user to act.
      by_name: counted for every `where` on its own, not together with the first place kept.
    """

    row: str = ""
    sentence: str = ""
    severity: Severity = "note"
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
    sentence="{count} images are in more than one fold, the first is {where}: a model would be judged "
    "by what it was trained on",
    severity="warning",
)
REPEATED = Kind(
    sentence="{count} images come from more than one data source, the first is {where}: they count "
    "as often as they come",
    severity="warning",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was noticed.

    Attributes:
      kind: one of this module.
      where: the first place, or the name it stands for.
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
        """What the log says; empty for nothing."""
        return self.kind.sentence.format(count=self.count, where=shown(self.where))


class Tally:
    """Findings that are still being counted."""

    def __init__(self):
        self._found: dict[tuple[Kind, str], Finding] = {}

    def add(self, kind: Kind, where: str, count: int = 1) -> None:
        """Counts one more finding, or several."""
        if not count:
            return
        key = (kind, where if kind.by_name else "")
        known = self._found.get(key)
        self._found[key] = Finding(
            kind, known.where if known else where, count + (known.count if known else 0)
        )

    def extend(self, findings: Iterable[Finding]) -> None:
        """Adds what another tally found."""
        for item in findings:
            self.add(item.kind, item.where, item.count)

    def count(self, kind: Kind) -> int:
        """Returns how often a kind was found."""
        return sum(item.count for item in self._found.values() if item.kind is kind)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, in the order of the first time."""
        return tuple(self._found.values())


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings with those of one kind (and name) added up."""
    tally = Tally()
    tally.extend(findings)
    return tally.findings
