"""A diagnosis as one HTML page and as JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from rcnn_jax.diagnose.checks import Example, Observation
from rcnn_jax.diagnose.dataset import Diagnosis
from rcnn_jax.diagnose.records import Record
from rcnn_jax.errors import DataError
from rcnn_jax.evaluate.palette import class_color
from rcnn_jax.report import charts
from rcnn_jax.report.page import (
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

_THUMBNAIL = 280
_PER_KIND = 8
_MOST_PICTURES = 60
_QUALITY = 70
_MOST_CLASSES = 40


def page(diagnosis: Diagnosis) -> str:
    """Returns the page: findings by severity with thumbnails, then what the set is like."""
    records = diagnosis.records
    objects = sum(sum(counts.values()) for counts in diagnosis.objects.values())
    subtitle = (
        f"{len(records):,} images, {objects:,} objects, {len(diagnosis.objects)} classes; "
        f"{_counts(diagnosis.observations)}"
    )
    sections = [_summary(diagnosis)]
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
    }


def _counts(observations: Sequence[Observation]) -> str:
    parts = []
    for severity in ("error", "warning", "note"):
        count = sum(seen.kind.severity == severity for seen in observations)
        if count:
            parts.append(f"{count} {severity}{'s' if count > 1 else ''}")
    return ", ".join(parts) or "nothing was found"


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
            [Chart(charts.bars(common), "objects by class"), Table(["class", *names], rows)],
        ),
        Section(
            "Objects",
            [
                Chart(
                    _logarithmic(size, "side of a square of the object's area, pixels of the image")
                ),
                Chart(
                    _logarithmic(
                        sides[:, 1] / sides[:, 0] if len(sides) else size, "width / height"
                    )
                ),
                Chart(_logarithmic(np.array(per_image, np.float64), "objects in an image")),
            ],
        ),
        Section(
            "Images",
            [
                Chart(
                    _logarithmic(np.array([max(shape) for shape in shapes]), "longer side, pixels")
                ),
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


def _logarithmic(values: np.ndarray, label: str) -> str:
    """Returns a histogram over twelve intervals of equal ratio."""
    values = values[values > 0]
    if not len(values):
        return charts.histogram([], [], label)
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low, max(high, low * 1.01), 13)
    counts, _ = np.histogram(values, edges)
    return charts.histogram(counts.tolist(), edges.tolist(), label)


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
    image = record.read().image
    height, width = image.shape[:2]
    scale = min(_THUMBNAIL / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    meant = set(example.objects)
    for position, found in enumerate(record.objects):
        if found.crowd and position not in meant:
            continue
        # The object that is meant is thick; others are there for orientation.
        y1, x1, y2, x2 = (round(min(max(side * scale, -9), 9_999)) for side in found.box)
        color = class_color(names.get(found.name, 0))
        cv2.rectangle(small, (x1, y1), (x2, y2), color, 3 if position in meant else 1)
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    assert ok
    caption = record.path.name if record.path else record.name
    return Picture(data.tobytes(), f"{caption}: {example.detail}" if example.detail else caption)
