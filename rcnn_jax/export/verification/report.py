"""Report of an export: results of its checks, as JSON for programs and as a table for people."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rcnn_jax.export.precision.lower import DataType
from rcnn_jax.export.precision.sensitivity import Sensitivity
from rcnn_jax.export.verification import tensorrt_gate
from rcnn_jax.export.verification.accuracy import Accuracy
from rcnn_jax.export.verification.agreement import Agreement
from rcnn_jax.export.verification.parity import Parity

SHOWN_LAYERS = 8
"""Of the most sensitive layers in the table; the JSON lists all."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Results of the checks of an export; its fields, in this order, are those of the JSON.

    Attributes:
      images: where the images came from.
      data_type: of the graph that is written; stages and parity are always of the FP32 graph.
      operators: how many of each operator the graph has.
      stages: {name: largest relative difference}.
      parity: of the final detections; None when the check did not get that far.
      agreement: of the lowered graph's detections with those of JAX.
      accuracy: average precision of JAX and the graph, where images were evaluated.
      calibration: where the scales of int8 came from.
      sensitivity: signal to noise of lowered layers and tensors, the worst first.
      kept: layers that stayed in float because the graph was not good enough without.
      problems: one sentence each; the check has passed when there are none.
      accepted: problems that the user let pass.
    """

    images: str
    data_type: DataType = "fp32"
    operators: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    parity: Parity | None = None
    agreement: Agreement | None = None
    accuracy: Accuracy | None = None
    calibration: str = ""
    sensitivity: Sensitivity | None = None
    kept: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "passed": not self.problems and not self.accepted,
            # The gate is a table of one version of TensorRT; a later one may read more.
            "tensorrt_table": tensorrt_gate.TENSORRT_VERSION,
            **dataclasses.asdict(self),
            # Of the same keys as the fields above, so their order stays.
            "agreement": self.agreement.to_json() if self.agreement is not None else None,
            "accuracy": self.accuracy.to_json() if self.accuracy is not None else None,
        }

    def table(self) -> str:
        """Returns the report as lines of text."""
        lines = [f"{'stage (relative difference)':<44} {'largest':>10}"]
        lines += [f"  {name:<42} {value:>10.2e}" for name, value in self.stages.items()]
        if self.parity is not None:
            parity = self.parity
            lines += [
                f"detections: {parity.detections} in {parity.images} images ({self.images})",
                f"  {'box, largest difference in pixels':<42} {parity.box:>10.2e}",
                f"  {'score':<42} {parity.score:>10.2e}",
                f"  {'mask':<42} {parity.mask:>10.2e}",
                f"  {'without a partner':<42} {parity.unmatched:>10d}",
            ]
        lines += [*self._precision_lines(), *self._accuracy_lines()]
        lines += [f"ACCEPTED: {text}" for text in self.accepted]
        return "\n".join([*lines, *(f"PROBLEM: {text}" for text in self.problems)])

    def _precision_lines(self) -> list[str]:
        lines = []
        if self.agreement is not None:
            agreement = self.agreement
            lines += [
                f"{self.data_type} against JAX: {agreement.detections} detections in {agreement.images} "
                f"images" + (f", {self.calibration}" if self.calibration else ""),
                f"  {'agreement, weighted by score':<42} {agreement.score:>10.4f}",
                f"  {'detected by both':<42} {agreement.pairs:>10d}",
                f"  {'mean overlap of pairs (IoU)':<42} {agreement.iou:>10.4f}",
                f"  {'mean difference of masks':<42} {agreement.mask:>10.4f}",
            ]
        if self.sensitivity is not None:
            worst = list(self.sensitivity.layers.items())[:SHOWN_LAYERS]
            lines.append(f"{'most sensitive layers (signal to noise)':<44} {'dB':>10}")
            lines += [
                f"  {_shortened(name):<42} {value:>10.1f}"
                + (" kept in float" if name in self.kept else "")
                for name, value in worst
            ]
            if self.kept:
                lines.append(f"kept in float: {len(self.kept)} of {len(self.sensitivity.layers)}")
        return lines

    def _accuracy_lines(self) -> list[str]:
        if self.accuracy is None:
            return []
        title = f"{self.accuracy.images} validation images"
        lines = [f"{title:<33} {'JAX':>10} {self.data_type:>10}"]
        for name, value in self.accuracy.model.items():
            lines.append(f"  {name:<31} {value:>10.4f} {self.accuracy.graph[name]:>10.4f}")
        return lines


def _shortened(name: str) -> str:
    return name if len(name) <= 42 else f"...{name[-39:]}"
