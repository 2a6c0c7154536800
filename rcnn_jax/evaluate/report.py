"""Reports of evaluations: tables as text, JSON, and the precision-recall figure."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcnn_jax.evaluate.coco import CocoReport
from rcnn_jax.evaluate.palette import class_color
from rcnn_jax.evaluate.voc import ClassResult, VocReport
from rcnn_jax.processes import sweep_once, unfinished_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RULE = 90
_COLUMN = 20
# Class colours are for photographs; on white paper they need to be darker.
_INK = 0.85


def table(report: VocReport) -> str:
    """Returns one table per IoU threshold and the mAP lines.

    Columns are 20 wide and left-aligned, numbers have 4 decimals, the RPN_recall column exists
    only when the backend has proposals. Source: docs/reference/faster_rcnn.md,
    "Evaluation".
    """
    header = ["Class", "AP", "precision", "recall"]
    if report.has_rpn_recall:
        header.append("RPN_recall")
    lines = []
    for threshold, classes, mean in zip(
        report.iou_thresholds, report.classes, report.maps, strict=True
    ):
        lines += ["=" * _RULE, _columns(header), "-" * _RULE]
        for result in classes:
            lines += [_columns(_cells(result)), "-" * _RULE]
        lines.append(f"mAP@{threshold:g} = {mean:<{_COLUMN}.4f}")
    if len(report.iou_thresholds) > 1:
        first, last = report.iou_thresholds[0], report.iou_thresholds[-1]
        lines.append(f"mAP@[{first:g}:{last:g}] = {report.mean_ap:<{_COLUMN}.4f}")
    return "\n".join(lines)


def to_json(report: VocReport) -> dict[str, Any]:
    """Returns the report as plain values for `json.dump`, without the curves."""
    return {
        "metric": report.metric,
        "mAP": report.mean_ap,
        "iou_thresholds": list(report.iou_thresholds),
        "per_iou": [
            {
                "iou": threshold,
                "mAP": mean,
                "classes": {
                    result.name: {
                        "AP": result.ap,
                        "precision": result.precision,
                        "recall": result.recall,
                        "RPN_recall": result.rpn_recall,
                        "ground_truths": result.n_gt,
                        "detections": result.n_det,
                    }
                    for result in classes
                },
            }
            for threshold, classes, mean in zip(
                report.iou_thresholds, report.classes, report.maps, strict=True
            )
        ],
    }


def scalars(report: VocReport) -> dict[str, float]:
    """Returns the metrics of a training log: `mAP@0.50` per threshold, the range if any, `mAP`.

    Source: docs/reference/faster_rcnn.md, "Validation during training".
    """
    named = {
        f"mAP@{threshold:.2f}": mean
        for threshold, mean in zip(report.iou_thresholds, report.maps, strict=True)
    }
    if len(report.iou_thresholds) > 1:
        first, last = report.iou_thresholds[0], report.iou_thresholds[-1]
        named[f"mAP@[{first:.2f}:{last:.2f}]"] = report.mean_ap
    return named | {"mAP": report.mean_ap}


def coco_table(report: CocoReport) -> str:
    """Returns the metrics as `name: value` lines sorted by name, then AP per class.

    The first line names K, the number of detections per image that count.
    """
    lines = [
        "=" * _RULE,
        f"COCO metrics over {report.images} images, "
        f"K = {report.max_detections} detections per image at most",
        "-" * _RULE,
    ]
    lines += [f"{name}: {report.metrics[name]:.9f}" for name in sorted(report.metrics)]
    kinds = sorted(report.class_ap)
    width = max([_COLUMN - 2, *(len(name) for kind in kinds for name in report.class_ap[kind])]) + 2
    lines += ["-" * _RULE, f"{'Class':<{width}}" + _columns(kinds), "-" * _RULE]
    for name in report.class_ap[kinds[0]]:
        cells = [_number(report.class_ap[kind][name]) for kind in kinds]
        lines.append(f"{name:<{width}}" + _columns(cells))
    lines.append("-" * _RULE)
    return "\n".join(lines)


def coco_to_json(report: CocoReport) -> dict[str, Any]:
    """Returns the report as plain values for `json.dump`; -1 means that no such object exists."""
    return {
        "max_detections": report.max_detections,
        "images": report.images,
        "engine": report.engine,
        "metrics": dict(report.metrics),
        "class_AP": {kind: dict(values) for kind, values in report.class_ap.items()},
    }


def pr_figure(report: VocReport, threshold_index: int = 0) -> "Figure":
    """Draws precision over recall, a line per class, best class first in the legend.

    Args:
      report: of `evaluate_voc`.
      threshold_index: index of the IoU threshold.

    Returns:
      A figure without window or global state of pyplot.
    """
    classes = report.classes[threshold_index]
    # By name, not by rank: a class keeps its colour from one evaluation to the next.
    colors = {name: index for index, name in enumerate(sorted(c.name for c in classes))}
    ranked = sorted(classes, key=lambda result: -result.ap)
    legend_columns = max(1, -(-len(ranked) // 30))
    longest = max((len(result.name) for result in ranked), default=0)
    legend_inches = legend_columns * (0.95 + 0.085 * longest)
    height = 5.2 if len(ranked) <= 20 else 6.6
    # imported here: commands that draw no curve need no matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0 + legend_inches, height), dpi=150, layout="constrained")
    # A canvas of its own instead of pyplot, whose global state is not made for threads and keeps
    # every figure alive.
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    many = len(ranked) > 12
    # Best class last, on top of the others; the legend turns the order round again.
    for result in reversed(ranked):
        index = colors[result.name]
        axes.plot(
            *_curve(result),
            color=[_INK * channel / 255 for channel in class_color(index)],
            linestyle=("-", "--", "-.", ":")[index // 13 % 4],
            linewidth=1.2 if many else 2.0,
            alpha=0.85,
            label=f"{result.name}  {result.ap:.3f}",
            clip_on=False,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="Recall", ylabel="Precision")
    kind = "11-point AP" if report.metric == "voc07" else "area AP"
    axes.set_title(
        f"Precision-recall at IoU {report.iou_thresholds[threshold_index]:g}"
        f"   (mAP {report.maps[threshold_index]:.4f}, {kind})",
        loc="left",
        fontsize=11,
    )
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if ranked:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1],
            labels[::-1],
            title="class  AP",
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0.0,
            frameon=False,
            ncols=legend_columns,
            fontsize=7.5 if many else 9,
        )
    return figure


def plot_pr_curve(report: VocReport, path: Path, threshold_index: int = 0) -> None:
    """Writes `pr_figure` as PNG."""
    buffer = io.BytesIO()
    pr_figure(report, threshold_index).savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically: under a temporary name, then renamed.

    Args:
      path: the final name; its folder is made when absent.
      content: the bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_once(path.parent)
    temporary = unfinished_name(path)
    try:
        # No sync, unlike `checkpoints.atomic`: a report can be made again, and inference writes
        # thousands of files this way.
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _cells(result: ClassResult) -> list[str]:
    cells = [result.name, _number(result.ap), _number(result.precision), _number(result.recall)]
    return cells if result.rpn_recall is None else [*cells, _number(result.rpn_recall)]


def _columns(cells: list[str]) -> str:
    return "".join(f"{cell:<{_COLUMN}}" for cell in cells)


def _number(value: float) -> str:
    return f"{value:.4f}"


def _curve(result: ClassResult) -> tuple[list[float], list[float]]:
    """Returns the points of the curve, extended to recall 0 at the first precision."""
    recall, precision = result.curve_recall, result.curve_precision
    if len(recall) == 0:
        return [0.0], [0.0]
    return [0.0, *recall.tolist()], [float(precision[0]), *precision.tolist()]
