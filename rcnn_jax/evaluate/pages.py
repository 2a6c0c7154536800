"""An analysis as one HTML page, and the record that `compare` reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.evaluate.analysis import ERRORS, Analysis, Part, sentences
from rcnn_jax.evaluate.galleries import Budget, sentence_of, suspect_pictures, worst_pictures
from rcnn_jax.evaluate.hypotheses import Diagnosis
from rcnn_jax.evaluate.matches import REPLICATES, first_name
from rcnn_jax.evaluate.results import document
from rcnn_jax.report import charts
from rcnn_jax.report.page import Beside, Chart, Gallery, Picture, Section, Table, Text, html
from rcnn_jax.report.page import Part as PagePart
from rcnn_jax.version import __version__

RECORD = "rcnn_jax evaluation"
"""Mark of the record of an evaluation."""
MOST_BYTES = 4_500_000
"""Of pictures in a page, as base64: mail programs refuse attachments of more than a few megabytes."""
_MOST_CURVES = 8
_MOST_CLASSES = 25


def page(
    analysis: Analysis,
    source: Source,
    *,
    title: str,
    subtitle: str,
    diagnosis: Diagnosis | None = None,
) -> str:
    """Returns the page of an evaluation.

    Args:
      analysis: what it shows.
      source: the images, read again for the pictures.
      title: of the page.
      subtitle: model, spec, images.
      diagnosis: why the metrics are implausible, where they are.
    """
    budget = Budget(MOST_BYTES)
    worst = list(worst_pictures(analysis, source, budget))
    suspects = list(suspect_pictures(analysis, source, budget))
    sections = [
        _summary(analysis, diagnosis),
        Section(
            "Errors",
            [part for one in analysis.parts for part in _errors(one)],
            "What kinds of errors there are, and by how much AP50 would rise without each kind.",
        ),
        _stages(analysis),
        _curves(analysis),
        _thresholds(analysis),
        _calibration(analysis),
        _confusion(analysis),
        Section(
            "Worst images",
            [Gallery(worst)] if worst else [Text("No image has an error.", "good")],
            f"At a score of {analysis.threshold:.2f}. Green: right. Red: false. Yellow: missed object. "
            "White: object that was found.",
        ),
        _suspicions(analysis, source, suspects),
    ]
    return html(title, subtitle, sections)


def record(analysis: Analysis, *, model: str, spec: str, names: Sequence[str]) -> dict[str, Any]:
    """Returns the evaluation as plain values, with all matches.

    Args:
      analysis: of the evaluation.
      model: what the model is called.
      spec: what the spec is called.
      names: of the images, in their order.
    """
    return {
        "what": RECORD,
        "version": __version__,
        "model": model,
        "spec": spec,
        "classes": list(analysis.evaluation.class_names),
        "images": list(names),
        "report": document(analysis.evaluation.report),
        "threshold": analysis.threshold,
        "parts": {part.name: part.matches.to_json() for part in analysis.parts},
        "errors": {
            part.name: {
                ERRORS[kind][0]: {"count": count, "AP50": gain}
                for kind, (count, gain) in part.errors.items()
            }
            for part in analysis.parts
        },
    }


def _summary(analysis: Analysis, diagnosis: Diagnosis | None) -> Section:
    parts: list[PagePart] = []
    if diagnosis is not None:
        parts.append(Text(diagnosis.sentence(), "error"))
    parts += [Text(line, "note") for line in sentences(analysis)]
    rows, several = [], len(analysis.parts) > 1
    for part in analysis.parts:
        for name, span in part.intervals.items():
            if not name.startswith("class "):
                label = f"{name} of {part.name}" if several else name
                rows.append([label, *(f"{value:.3f}" for value in (span.value, *span[::2]))])
    headings = ["metric", "value", "95 % from", "to"]
    charted: list[Table | Chart] = [Table(headings, rows)]
    for part in analysis.parts:
        classes = {
            name.removeprefix("class "): span
            for name, span in part.intervals.items()
            if name.startswith("class ")
        }
        ranked = dict(sorted(classes.items(), key=lambda pair: -pair[1].value)[:_MOST_CLASSES])
        label = f" of {part.name}" if several else ""
        more = f", the best {_MOST_CLASSES} of {len(classes)}" if len(classes) > len(ranked) else ""
        charted.append(
            Chart(
                charts.bars({name: span.value for name, span in ranked.items()}, spans=ranked),
                f"AP{label} by class with 95 % intervals{more}",
            )
        )
    intro = (
        f"Intervals are from {REPLICATES} resamplings of the images: with other images of the same kind "
        "the value would lie there 95 times of 100."
    )
    return Section("Summary", [*parts, Beside(charted)], intro)


def error_cost(gain: float) -> float:
    """Returns the AP50 that errors cost, for a chart, from what would be gained without them.

    In the three digits of the tables: 1.27e-06 behind a bar of no length says less than 0. An error's
    absence may also lose AP by a rounding, and a bar below zero would say that errors help.
    """
    return max(round(gain, 3), 0.0)


def _errors(part: Part) -> list[PagePart]:
    gains = {ERRORS[kind][0]: error_cost(gain) for kind, (_, gain) in part.errors.items()}
    rows = [
        [ERRORS[kind][0], f"{count:,}", f"{gain:.3f}", ERRORS[kind][1]]
        for kind, (count, gain) in part.errors.items()
    ]
    chart = charts.bars(gains)
    caption = f"AP50 of {part.name} that would be gained without the errors"
    return [Beside([Chart(chart, caption), Table(["error", "number", "AP50", "what it is"], rows)])]


def _stages(analysis: Analysis) -> Section:
    proposals = any(row.proposed is not None for row in analysis.recalls)
    headings = ["objects", "number", *(["RPN"] if proposals else []), "any class", "right class"]
    headings.append(f"score ≥ {analysis.threshold:.2f}")
    rows = []
    for row in analysis.recalls:
        first = [] if not proposals else ["-" if row.proposed is None else f"{row.proposed:.1%}"]
        rest = [f"{value:.1%}" for value in (row.located, row.classified, row.confident)]
        rows.append([row.group, f"{row.objects:,}", *first, *rest])
    intro = (
        "Recall at IoU 0.5, stage by stage: proposed by the RPN, detected as any class, as the right "
        "class, and that with a score above the working threshold. The first column that is much lower "
        "than the one before is where objects are lost."
    )
    if not proposals:
        intro += " This backend gives no proposals: evaluate the .tlt to see the RPN."
    return Section("Two stages", [Table(headings, rows)], intro)


def _curves(analysis: Analysis) -> Section:
    every, *classes = analysis.curves
    shown = sorted(classes, key=lambda c: -len(c.scores))[:_MOST_CURVES]
    name = first_name(analysis.parts[0].matches).replace("AP", "IoU 0.")
    by_recall = {
        curve.name: list(zip(curve.recall.tolist(), curve.precision.tolist(), strict=True))
        for curve in ([every, *shown] if len(shown) > 1 else shown or [every])
    }
    # Of equal scores only the last point is one that a threshold can choose.
    last = np.append(np.diff(every.scores) != 0, True) if len(every.scores) else np.zeros(0, bool)
    scores = every.scores[last][::-1].tolist()
    by_score = {
        label: list(zip(scores, values[last][::-1].tolist(), strict=True))
        for label, values in (
            ("precision", every.precision),
            ("recall", every.recall),
            ("F1", every.f1),
        )
    }
    best = float(every.f1.max()) if len(every.f1) else 0.0
    mark = [(analysis.threshold, best, f"{analysis.threshold:.2f}")] if len(every.f1) else []
    return Section(
        "Curves",
        [
            Beside(
                [
                    Chart(
                        charts.lines(by_recall, "recall", "precision", y_range=(0, 1)),
                        f"Precision by recall at {name}",
                    ),
                    Chart(
                        charts.lines(
                            by_score,
                            "threshold of the score",
                            "fraction",
                            y_range=(0, 1),
                            marks=mark,
                        ),
                        f"What a threshold gives over all classes; best F1 {best:.3f} at "
                        f"{analysis.threshold:.2f}",
                    ),
                ]
            )
        ],
    )


def _thresholds(analysis: Analysis) -> Section:
    rows = []
    for one in analysis.choices:
        reached = one.threshold is not None
        rows.append(
            [
                one.name,
                f"{one.threshold:.3f}" if one.threshold is not None else "-",
                f"{one.recall:.1%}" if reached else "-",
                f"{one.best:.3f}",
                f"{one.best_f1:.3f}",
            ]
        )
    headings = ["class", f"precision {analysis.wanted:.0%} from", "recall there"]
    return Section(
        "Thresholds by class",
        [Table([*headings, "best F1 at", "F1"], rows)],
        f"The lowest score at which {analysis.wanted:.0%} of a class's detections are right (another "
        "precision: --precision). A dash: no threshold reaches it.",
    )


def _calibration(analysis: Analysis) -> Section:
    parts: list[PagePart] = []
    for part in analysis.parts:
        bins = [row for row in part.calibration["bins"] if row["count"]]
        points = [(row["avg_confidence"], row["avg_accuracy"]) for row in bins]
        series = {"ideal": [(0.0, 0.0), (1.0, 1.0)], part.name: points}
        rows = [
            [
                f"{row['bin_lower']:.1f} to {row['bin_upper']:.1f}",
                f"{row['count']:,}",
                f"{row['avg_confidence']:.3f}",
                f"{row['avg_accuracy']:.3f}",
            ]
            for row in bins
        ]
        ece = float(part.calibration["ece"])
        caption = f"{part.name}: expected calibration error {ece:.3f}"
        chart = charts.lines(series, "mean score", "fraction right", y_range=(0, 1))
        table = Table(["score", "number", "mean score", "right"], rows)
        parts.append(Beside([Chart(chart, caption), table]))
    return Section(
        "Calibration",
        parts,
        "Whether a score of 0.8 means that eight of ten are right, at IoU 0.5. Below the line: scores "
        "promise too much.",
        folded=True,
    )


def _confusion(analysis: Analysis) -> Section:
    counts, names = analysis.confusion, [*analysis.evaluation.class_names, "nothing"]
    # By traffic: a matrix of eighty classes is as wide as a poster and mostly empty.
    order = np.argsort(-(counts.sum(0) + counts.sum(1))[:-1], kind="stable")[:_MOST_CLASSES]
    kept = [*sorted(order.tolist()), len(names) - 1]
    shown = [names[number] for number in kept]
    cells = counts[np.ix_(kept, kept)].tolist()
    more = f" The {_MOST_CLASSES} busiest classes." if len(kept) < len(names) else ""
    return Section(
        "Confusion",
        [Chart(charts.matrix(cells, shown, shown, "object \\ found as"))],
        f"At IoU 0.5 and a score of {analysis.threshold:.2f}. The last column is missed objects, the "
        f"last row detections where nothing is.{more}",
    )


def _suspicions(analysis: Analysis, source: Source, pictures: Sequence[Picture]) -> Section:
    rows = [
        [str(number), sentence_of(one, analysis.evaluation.class_names), f"{one.strength:.2f}"]
        + [source.name(analysis.evaluation.records[one.image])]
        for number, one in enumerate(analysis.suspicions[:100], start=1)
    ]
    parts: list[PagePart] = [Gallery(pictures)] if pictures else []
    parts.append(Table(["rank", "what", "strength", "image"], rows))
    return Section(
        "Labels that may be wrong",
        parts,
        "Ranked by how confidently the model contradicts. White: the label. Yellow: what the model "
        "says. `rcnn-jax doctor --model` ranks the training labels too.",
    )
