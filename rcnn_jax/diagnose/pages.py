"""A diagnosis as one HTML page and as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.diagnose.checks import Example, Observation
from rcnn_jax.diagnose.dataset import Diagnosis
from rcnn_jax.diagnose.labels import describe
from rcnn_jax.diagnose.records import Record
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.galleries import suspect
from rcnn_jax.evaluate.palette import class_color
from rcnn_jax.evaluate.suspicions import Suspicion
from rcnn_jax.report import charts
from rcnn_jax.report.page import (
    Beside,
    Chart,
    Gallery,
    Part,
    Picture,
    Section,
    Table,
    Text,
    Tone,
    html,
)
from rcnn_jax.report.pictures import Mark, thumbnail

_THUMBNAIL = 280
_PER_KIND = 8
_MOST_PICTURES = 60
_MOST_CLASSES = 40
_SUSPECTS, _SUSPECT_ROWS = 48, 200


def page(diagnosis: Diagnosis) -> str:
    """Returns the page: findings by severity with thumbnails, then what the set is like."""
    records = diagnosis.records
    objects = sum(sum(counts.values()) for counts in diagnosis.objects.values())
    subtitle = (
        f"{len(records):,} images, {objects:,} objects, {len(diagnosis.objects)} classes; "
        f"{_counts(diagnosis.observations)}"
    )
    sections = [_summary(diagnosis)]
    if diagnosis.suspicions:
        sections.append(_suspicious(diagnosis))
    budget = _MOST_PICTURES
    for seen in diagnosis.observations:
        pictures = _pictures(seen, diagnosis, min(_PER_KIND, budget))
        budget -= len(pictures)
        sections.append(_finding(seen, pictures))
    sections += _statistics(diagnosis)
    return html(f"Doctor: {diagnosis.title}", subtitle, sections)


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Returns findings and counts as plain values."""
    return {
        "title": diagnosis.title,
        "images": len(diagnosis.records),
        "classes": {name: dict(counts) for name, counts in diagnosis.objects.items()},
        "choices": list(diagnosis.choices),
        "findings": [
            {
                "severity": seen.kind.severity,
                "count": seen.count,
                "sentence": seen.finding.sentence,
                "advice": seen.kind.advice,
                "examples": [{"where": e.where, "detail": e.detail} for e in seen.examples],
            }
            for seen in diagnosis.observations
        ],
        "suspicions": [
            {
                "rank": number,
                "cause": one.cause,
                "strength": round(one.strength, 4),
                "image": diagnosis.records[one.image].name,
                "label": None if one.label is None else _label(diagnosis, one),
                "box": [round(value, 2) for value in one.box],
                "proposed": diagnosis.class_names[one.proposed] if one.proposed >= 0 else None,
            }
            for number, one in enumerate(diagnosis.suspicions, start=1)
        ],
    }


def _counts(observations: Sequence[Observation]) -> str:
    parts = []
    for severity in ("error", "warning", "note"):
        count = sum(seen.kind.severity == severity for seen in observations)
        if count:
            parts.append(f"{count} {severity}{'s' if count > 1 else ''}")
    return ", ".join(parts) or "no findings"


def _summary(diagnosis: Diagnosis) -> Section:
    rows = [
        [seen.kind.severity, seen.finding.sentence, seen.kind.advice]
        for seen in diagnosis.observations
    ]
    tones: dict[int, Tone] = {
        number: seen.kind.severity for number, seen in enumerate(diagnosis.observations)
    }
    parts: list[Part] = [Text(choice, "note") for choice in diagnosis.choices]
    if rows:
        parts.append(Table(["severity", "finding", "what to do"], rows, tones=tones))
    else:
        parts.append(Text("Nothing was found.", "good"))
    return Section("Summary", parts)


def _finding(seen: Observation, pictures: Sequence[Picture]) -> Section:
    rows = [[example.where, example.detail] for example in seen.examples]
    parts: list[Part] = [Text(seen.kind.advice, seen.kind.severity)] if seen.kind.advice else []
    if pictures:
        parts.append(Gallery(pictures))
    parts.append(Table(["where", "detail"], rows, f"{len(rows)} of {seen.count}"))
    # Without the example, which is a path as long as the page is wide; the table below has it.
    title = seen.finding.sentence.partition(", the first ")[0]
    return Section(title, parts, folded=True)


def _label(diagnosis: Diagnosis, one: Suspicion) -> dict[str, Any]:
    assert one.label is not None
    label = diagnosis.records[one.image].objects[one.label]
    return {"where": label.where, "class": label.name, "box": [float(v) for v in label.box]}


def _suspicious(diagnosis: Diagnosis) -> Section:
    pictures, rows = [], []
    for number, one in enumerate(diagnosis.suspicions[:_SUSPECT_ROWS], start=1):
        record = diagnosis.records[one.image]
        name = None if one.label is None else record.objects[one.label].name
        detail = describe(one.cause, name, one.proposed, diagnosis.class_names)
        rows.append([str(number), detail, f"{one.strength:.2f}", record.name])
        if len(pictures) >= _SUSPECTS or one.cause == "nothing":
            continue
        try:
            image = record.read().image
        except DataError:  # it was whole a minute ago, and may be gone now
            continue
        labels = np.array([obj.box for obj in record.objects], np.float32).reshape(-1, 4)
        drawn = suspect(image, one, labels, diagnosis.class_names)
        pictures.append(Picture(drawn.jpeg, f"{number}. {detail}"))
    return Section(
        "Labels that may be wrong",
        [
            Gallery(pictures),
            Table(["rank", "what", "strength", "image"], rows),
        ],
        "Ranked by how confidently the model contradicts. White: labels. Yellow: what the model says. "
        "The JSON report (--json) has all of them.",
    )


def _statistics(diagnosis: Diagnosis) -> list[Section]:
    splits = list(dict.fromkeys(record.split for record in diagnosis.records))
    names = [split or "all" for split in splits]
    totals = {name: sum(counts.values()) for name, counts in diagnosis.objects.items()}
    common = dict(sorted(totals.items(), key=lambda pair: -pair[1])[:_MOST_CLASSES])
    rows = [
        [name, *(f"{counts[split]:,}" for split in splits)]
        for name, counts in diagnosis.objects.items()
    ]
    sides = diagnosis.sides[(diagnosis.sides > 0).all(axis=1)]
    size = np.sqrt(sides.prod(axis=1)) if len(sides) else np.zeros(0)
    per_image = [sum(not o.crowd for o in record.objects) for record in diagnosis.records]
    every = Counter(record.split for record in diagnosis.records)
    full = Counter(record.split for record in diagnosis.records if record.objects)
    shapes = [scan.size for scan in diagnosis.scans if not scan.fault]
    return [
        Section(
            "Classes",
            [
                Beside(
                    [
                        Chart(charts.bars(common), "objects by class"),
                        Table(["class", *names], rows),
                    ]
                )
            ],
        ),
        Section(
            "Objects",
            _histograms(
                {
                    "side of a square of the object's area, pixels of the image": size,
                    "width / height": sides[:, 1] / sides[:, 0] if len(sides) else size,
                    "objects in an image": np.array(per_image, np.float64),
                }
            ),
        ),
        Section(
            "Images",
            [
                *_histograms({"longer side, pixels": np.array([max(shape) for shape in shapes])}),
                Table(
                    ["images", *names],
                    [
                        ["with objects", *(str(full[split]) for split in splits)],
                        ["without", *(str(every[split] - full[split]) for split in splits)],
                    ],
                ),
            ],
        ),
    ]


def _histograms(values: Mapping[str, np.ndarray]) -> list[Part]:
    """Returns histograms over twelve intervals of equal ratio, a sentence where all is one value.

    Args:
      values: label of the axis -> numbers; those that are not above 0 are left out.
    """
    drawn, same = [], []
    for label, numbers in values.items():
        positive = numbers[numbers > 0]
        low, high = (positive.min(), positive.max()) if len(positive) else (0.0, 0.0)
        if low < high:
            edges = np.geomspace(low, high, 13)
            counts, _ = np.histogram(positive, edges)
            drawn.append(Chart(charts.histogram(counts.tolist(), edges.tolist(), label)))
        elif len(positive):
            same.append(Text(f"{label}: {charts.number(float(low))} everywhere"))
        else:
            drawn.append(Chart(charts.histogram([], [], label)))
    return [*same, *([Beside(drawn)] if drawn else [])]


def _pictures(seen: Observation, diagnosis: Diagnosis, most: int) -> list[Picture]:
    names = {name: number for number, name in enumerate(diagnosis.objects)}
    pictures = []
    for example in seen.examples:
        if len(pictures) >= most:
            break
        if example.record is None or diagnosis.scans[example.record].fault:
            continue
        record = diagnosis.records[example.record]
        try:
            pictures.append(_thumbnail(record, example, names))
        except DataError:  # it was whole a minute ago, and may be gone now
            continue
    return pictures


def _thumbnail(record: Record, example: Example, names: dict[str, int]) -> Picture:
    meant = set(example.objects)
    # The object that is meant is thick; others are there for orientation.
    marks = [
        Mark(obj.box, class_color(names.get(obj.name, 0)), 3 if position in meant else 1)
        for position, obj in enumerate(record.objects)
        if not obj.crowd or position in meant
    ]
    jpeg = thumbnail(record.read().image, marks, _THUMBNAIL)
    caption = record.path.name if record.path else record.name
    return Picture(jpeg, f"{caption}: {example.detail}" if example.detail else caption)
