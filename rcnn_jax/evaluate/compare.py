"""Two evaluations side by side, and which of their differences are more than noise.

The images are resampled, both models together: a difference whose 95 % interval holds zero may have the
other sign with other images of the same kind. hotcoco's `compare` does this for COCO files alone; here it
must also serve PASCAL's metric, and evaluations that were written down earlier.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.matches import ClassMatches, Matches, differences, metrics
from rcnn_jax.evaluate.pages import RECORD, error_cost
from rcnn_jax.report import charts
from rcnn_jax.report.charts import Span
from rcnn_jax.report.page import Beside, Chart, Section, Table, Text, Tone, html
from rcnn_jax.report.page import Part as PagePart
from rcnn_jax.text_file import read_text

NOISE = "within noise"
# A page is read from the top; what lies further down is within noise nearly always.
_MOST_CLASSES = 40


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """One evaluation as it was written down.

    Attributes:
      model: what it is called.
      metrics: {metric: value in [0, 1]} where there are no matches.
      images: names of the images; empty without matches.
      parts: `boxes` and `masks` -> matches.
      errors: part -> kind -> AP50 that its absence would give.
    """

    model: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    images: Sequence[str] = ()
    parts: Mapping[str, Matches] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of both.

    Attributes:
      name: of the metric.
      one: value of the first.
      other: value of the second.
      difference: second minus first with its interval; None where nothing was resampled.
    """

    name: str
    one: float
    other: float
    difference: Span | None = None

    @property
    def outcome(self) -> str:
        """`within noise`, `second better`, `first better`, or nothing where noise is not known."""
        if self.difference is None:
            return ""
        # By the interval, never by the values: a difference of 0.01 is noise on a hundred images.
        if self.difference.low > 0:
            return "second better"
        return "first better" if self.difference.high < 0 else NOISE

    def cells(self) -> list[str]:
        """Returns name, both values, difference, interval and outcome as text."""
        change = self.other - self.one
        ends = ("", "")
        if self.difference is not None:
            ends = (f"{self.difference.low:+.3f}", f"{self.difference.high:+.3f}")
        return [
            self.name,
            *map(_number, (self.one, self.other)),
            f"{change:+.3f}",
            *ends,
            self.outcome,
        ]


HEADINGS = ("metric", "first", "second", "difference", "95 % from", "to", "outcome")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two results side by side.

    Attributes:
      first: name of the first model.
      second: name of the second model.
      images: number of images of both; 0 where it is not known.
      rows: metrics, then classes.
      errors: part and kind -> AP50 lost by the first and by the second.
    """

    first: str
    second: str
    images: int
    rows: tuple[Row, ...]
    errors: Mapping[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `json.dump`."""
        return {
            "first": self.first,
            "second": self.second,
            "images": self.images,
            "metrics": [
                {
                    "name": row.name,
                    "first": row.one,
                    "second": row.other,
                    "difference": None if row.difference is None else row.difference._asdict(),
                    "verdict": row.outcome,
                }
                for row in self.rows
            ],
        }

    def sentence(self) -> str:
        """Returns the outcome for the first metric in one sentence."""
        row = self.rows[0]
        change = f"{row.name} {row.one:.3f} and {row.other:.3f}"
        if row.difference is None:
            return (
                f"{change}; whether that is more than noise is not known: compare the .json files that "
                "`evaluate --report` writes"
            )
        low, _, high = row.difference
        interval = f"{low:+.3f} to {high:+.3f} at 95 %, {self.images} images"
        if row.outcome == NOISE:
            return f"{change}: difference within noise ({interval})"
        return f"{change}: the {row.outcome.split()[0]} is better ({interval})"


def read_result(path: Path) -> Result:
    """Returns the evaluation of a file: a record of `evaluate --report`, or its plain report.

    Raises:
      DataError: it is neither.
    """
    where = str(path)
    try:
        fields = json.loads(read_text(path, "an evaluation"))
    except ValueError as error:
        raise DataError(f"{where}: is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"{where}: holds no evaluation")
    # By a mark in the file, as both forms are JSON with a `metrics` entry or could get one.
    if fields.get("what") == RECORD:
        return result_of(fields, where)
    values = fields.get("metrics", {"AP": fields.get("mAP")} if "per_iou" in fields else None)
    numbers = {str(name): _number_of(value) for name, value in _mapping(values).items()}
    if not numbers or None in numbers.values():
        raise DataError(
            f"{where}: holds no evaluation; expected a .json that `evaluate` or `evaluate --report` wrote"
        )
    # The plain report has sums alone, so two of them are compared and nothing is said of noise.
    return Result(model=where, metrics={name: value or 0.0 for name, value in numbers.items()})


def result_of(fields: Mapping[str, Any], where: str) -> Result:
    """Returns the result of a record of `evaluate.pages.record`.

    Args:
      fields: the record.
      where: its file, for messages.

    Raises:
      DataError: somebody changed it.
    """
    images, parts = fields.get("images"), fields.get("parts")
    if not isinstance(images, list) or not isinstance(parts, dict) or "boxes" not in parts:
        raise DataError(f"{where}: holds no matches of an evaluation; evaluate again with --report")
    read = {str(name): Matches.from_json(part, where) for name, part in parts.items()}
    # A record that somebody shortened would compare other images with each other.
    if any(part.images != len(images) for part in read.values()):
        raise DataError(f"{where}: has matches of another number of images than it names")
    errors: dict[str, dict[str, float]] = {}
    for part, kinds in _mapping(fields.get("errors")).items():
        gains = {
            str(kind): _number_of(_mapping(row).get("AP50"))
            for kind, row in _mapping(kinds).items()
        }
        errors[str(part)] = {kind: gain for kind, gain in gains.items() if gain is not None}
    return Result(
        model=str(fields.get("model", where)),
        images=[str(name) for name in images],
        parts=read,
        errors=errors,
    )


def compare(one: Result, other: Result) -> Comparison:
    """Returns two results side by side.

    Args:
      one: the first.
      other: the second.

    Raises:
      DataError: they are of other images, or have no metric in common.
    """
    # One record is not enough: noise is that of the difference, image by image.
    if not one.parts or not other.parts:
        before, after = _values(one), _values(other)
        rows = [
            Row(name=name, one=before[name], other=after[name]) for name in before if name in after
        ]
        if not rows:
            raise DataError(f"{one.model} and {other.model} have no metric in common")
        return Comparison(
            first=one.model, second=other.model, images=0, rows=tuple(rows), errors={}
        )
    order = _same_order(one, other)
    rows = []
    for name in (name for name in one.parts if name in other.parts):
        before, after = one.parts[name], _reordered(other.parts[name], order)
        # AP at one threshold and the mean over ten are two numbers of the same model.
        if (before.method, before.thresholds) != (after.method, after.thresholds):
            raise DataError(
                f"{one.model} was judged by {_rule(before)}, {other.model} by {_rule(after)}: evaluate "
                "both with the same metric"
            )
        first, second = metrics(before), metrics(after)
        spans = differences(before, after)
        label = "" if name == "boxes" else f" of {name}"
        rows += [
            Row(name=key + label, one=first[key], other=second[key], difference=spans[key])
            for key in spans
        ]
    # Stable, so metrics keep their order before the classes.
    rows.sort(key=lambda row: row.name.startswith("class "))
    errors = {
        f"{kind}, {part}" if len(one.errors) > 1 else kind: (gain, other.errors[part][kind])
        for part, kinds in one.errors.items()
        for kind, gain in kinds.items()
        if kind in other.errors.get(part, {})
    }
    return Comparison(
        first=one.model,
        second=other.model,
        images=len(one.images),
        rows=tuple(rows),
        errors=errors,
    )


def page(comparison: Comparison) -> str:
    """Returns the comparison as one HTML page."""
    tones: dict[str, Tone] = {"second better": "good", "first better": "warning"}
    summary: list[PagePart] = [
        Text(comparison.sentence(), tones.get(comparison.rows[0].outcome, "note")),
        Text(f"First: {comparison.first}"),
        Text(f"Second: {comparison.second}"),
    ]
    general = [row for row in comparison.rows if not row.name.startswith("class ")]
    classes = [row for row in comparison.rows if row.name.startswith("class ")]
    sections = [
        Section("Summary", [*summary, _table(general, tones)]),
    ]
    if classes:
        # Surest differences first: of eighty classes those within noise are what nobody looks for.
        classes.sort(key=lambda row: (row.outcome == NOISE, -abs(row.other - row.one)))
        more = (
            f" The first {_MOST_CLASSES} of {len(classes)}." if len(classes) > _MOST_CLASSES else ""
        )
        intro = f"Mean AP by class, clear differences first.{more}"
        sections.append(Section("Classes", [_table(classes[:_MOST_CLASSES], tones)], intro))
    if comparison.errors:
        drawings = [
            Chart(
                charts.bars(
                    {kind: error_cost(pair[index]) for kind, pair in comparison.errors.items()}
                ),
                f"{('first', 'second')[index]}: AP50 lost by kind of error",
            )
            for index in (0, 1)
        ]
        sections.append(Section("Errors", [Beside(drawings)]))
    return html("Two models compared", f"{comparison.first}; {comparison.second}", sections)


def _table(rows: Sequence[Row], tones: Mapping[str, Tone]) -> Table:
    return Table(
        HEADINGS,
        [row.cells() for row in rows],
        tones={i: tones[row.outcome] for i, row in enumerate(rows) if row.outcome in tones},
    )


def _values(result: Result) -> dict[str, float]:
    if result.parts:
        return metrics(result.parts["boxes"])
    return dict(result.metrics)


def _same_order(one: Result, other: Result) -> list[int]:
    """Returns for every image of the first its place in the second.

    Raises:
      DataError: they are not of the same images.
    """
    # Whole names first; then names alone, since two machines may keep the images in two places.
    for key in (str, lambda name: PurePath(name).name):
        first, second = [key(name) for name in one.images], [key(name) for name in other.images]
        positions = {name: number for number, name in enumerate(second)}
        if (
            len(positions) == len(second)
            and set(first) == set(second)
            and len(first) == len(second)
        ):
            return [positions[name] for name in first]
    missing = set(one.images) ^ set(other.images)
    raise DataError(
        f"{one.model} and {other.model} were evaluated on other images ({len(one.images)} and "
        f"{len(other.images)}; not in both, for example: {min(missing, default='repeated names')}): "
        "evaluate both on the same validation data"
    )


def _reordered(matches: Matches, order: Sequence[int]) -> Matches:
    """Returns matches whose images are numbered as those of another result."""
    # The inverse of the order: detections name their image by number.
    position = np.empty(len(order), np.int64)
    position[np.asarray(order, np.int64)] = np.arange(len(order))
    return Matches(
        method=matches.method,
        thresholds=matches.thresholds,
        images=matches.images,
        classes=tuple(
            ClassMatches(
                name=one.name,
                scores=one.scores,
                image=position[one.image],
                hits=one.hits,
                ignored=one.ignored,
                objects=one.objects[np.asarray(order, np.int64)],
            )
            for one in matches.classes
        ),
    )


def _rule(matches: Matches) -> str:
    low, high = matches.thresholds[0], matches.thresholds[-1]
    return f"{matches.method} at IoU {low:g}" + (f" to {high:g}" if high > low else "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number_of(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"
