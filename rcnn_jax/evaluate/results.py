"""Output of an evaluation with either metric: text, JSON, numbers for logs, files."""

import json
from pathlib import Path
from typing import Any

from rcnn_jax.evaluate import report
from rcnn_jax.evaluate.coco import CocoReport
from rcnn_jax.evaluate.hypotheses import Diagnosis
from rcnn_jax.evaluate.voc import VocReport
from rcnn_jax.settings.metrics import MetricSettings, VocMetrics

Report = VocReport | CocoReport


def text(result: Report) -> str:
    """Returns the table for the console."""
    return report.coco_table(result) if isinstance(result, CocoReport) else report.table(result)


def document(result: Report) -> dict[str, Any]:
    """Returns plain values for `json.dump`."""
    if isinstance(result, CocoReport):
        return report.coco_to_json(result)
    return report.to_json(result)


def numbers(result: Report) -> dict[str, float]:
    """Returns {metric: value in [0, 1]} for logs; -1 or NaN for undefined ones."""
    if isinstance(result, CocoReport):
        return dict(result.metrics)
    return report.scalars(result)


def kpi(result: Report) -> dict[str, float]:
    """Returns the metrics for status.json: COCO's in percent, as in the original."""
    return result.kpi() if isinstance(result, CocoReport) else report.scalars(result)


def write_report(
    result: Report,
    metrics: MetricSettings,
    folder: Path,
    name: str,
    diagnosis: Diagnosis | None = None,
) -> None:
    """Writes `<name>.json` and, if asked, `<name>_PR_curve.png` into the folder.

    Args:
      result: the metrics.
      metrics: what was asked for.
      folder: made where it is absent.
      name: of the files, without suffix.
      diagnosis: why the metrics are implausible, where they are.
    """
    fields = document(result) | ({"diagnosis": diagnosis.to_json()} if diagnosis else {})
    content = json.dumps(fields, indent=2) + "\n"
    report.write_whole(folder / f"{name}.json", content.encode())
    if isinstance(result, VocReport) and isinstance(metrics, VocMetrics) and metrics.plot:
        report.plot_pr_curve(result, folder / f"{name}_PR_curve.png")
