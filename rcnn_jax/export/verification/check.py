"""The self-check of every export: is it valid, will TensorRT take it, does it agree with JAX?

    model -> onnx.checker -> table of TensorRT -> ONNX Runtime against JAX: stages, detections

What it finds is kept as a report beside the model, also when the model is not written.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from rcnn_jax.export.precision.lower import DataType
from rcnn_jax.export.precision.sensitivity import Sensitivity
from rcnn_jax.export.verification import tensorrt_gate
from rcnn_jax.export.verification.accuracy import Accuracy
from rcnn_jax.export.verification.agreement import Agreement
from rcnn_jax.export.verification.parity import (
    Parity,
    Tolerance,
    compare_detections,
    relative_difference,
)
from rcnn_jax.export.verification.stages import STAGE_PREFIX
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_runtime import open_session, predictor, preprocess

SHOWN_LAYERS = 8
"""Of the most sensitive layers in the table; the JSON lists all."""
DENSE_STAGES = ("extract", "rpn")
"""Stages before the first choice among boxes: they must agree. Later ones are reported, compared as
sets: rois of equal scores may come in either order."""


@dataclass
class CheckReport:
    """What the self-check found.

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
      lowering_problems: those of `problems` that a lower precision alone has caused.
    """

    images: str
    data_type: DataType = "fp32"
    operators: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    parity: Parity | None = None
    agreement: Agreement | None = None
    accuracy: Accuracy | None = None
    calibration: str = ""
    sensitivity: Sensitivity | None = None
    kept: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    lowering_problems: list[str] = field(default_factory=list)

    def accept(self, problems: list[str]) -> None:
        """Lets problems pass; the report keeps them."""
        self.accepted += [text for text in self.problems if text in problems]
        self.problems = [text for text in self.problems if text not in problems]

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "passed": not self.problems and not self.accepted,
            "tensorrt_table": tensorrt_gate.TENSORRT_VERSION,
            **{k: v for k, v in dataclasses.asdict(self).items() if k != "lowering_problems"},
            "accuracy": self.accuracy.to_json() if self.accuracy is not None else None,
        }

    def table(self) -> str:
        """Returns the report as lines of text."""
        lines = [f"{'stage (relative difference)':<44} {'largest':>10}"]
        lines += [f"  {name:<42} {value:>10.2e}" for name, value in self.stages.items()]
        if self.parity is not None:
            found = self.parity
            lines += [
                f"detections: {found.detections} in {found.images} images ({self.images})",
                f"  {'box, largest difference in pixels':<42} {found.box:>10.2e}",
                f"  {'score':<42} {found.score:>10.2e}",
                f"  {'mask':<42} {found.mask:>10.2e}",
                f"  {'without a partner':<42} {found.unmatched:>10d}",
            ]
        lines += [*self._precision_lines(), *self._accuracy_lines()]
        lines += [f"ACCEPTED: {text}" for text in self.accepted]
        return "\n".join([*lines, *(f"PROBLEM: {text}" for text in self.problems)])

    def _precision_lines(self) -> list[str]:
        lines = []
        if self.agreement is not None:
            found = self.agreement
            lines += [
                f"{self.data_type} against JAX: {found.detections} detections in {found.images} "
                f"images" + (f", {self.calibration}" if self.calibration else ""),
                f"  {'agreement, weighted by score':<42} {found.share:>10.4f}",
                f"  {'found by both':<42} {found.pairs:>10d}",
                f"  {'mean overlap of pairs (IoU)':<42} {found.iou:>10.4f}",
                f"  {'mean difference of masks':<42} {found.mask:>10.4f}",
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


def check_model(model: onnx.ModelProto, report: CheckReport) -> None:
    """Adds what the ONNX checker and the table of TensorRT find, and counts the operators."""
    report.operators = {}
    for node in model.graph.node:
        report.operators[node.op_type] = report.operators.get(node.op_type, 0) + 1
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        report.problems.append(f"onnx.checker: {error}")
    report.problems.extend(f"TensorRT: {text}" for text in tensorrt_gate.complaints(model))


def check_stages(
    model: onnx.ModelProto,
    reference: Callable[[np.ndarray], dict[str, Any]],
    images: np.ndarray,
    header: Header,
    tolerance: Tolerance,
    report: CheckReport,
) -> None:
    """Adds how far the stages of a graph that shows them are from JAX.

    Args:
      model: the graph with the results of its stages among the outputs.
      reference: normalised images f32[b h w c] -> {output or stage: array}.
      images: u8[b h w c].
      header: of the graph.
      tolerance: for the stages before the first choice among boxes.
      report: gets the differences.
    """
    session = open_session(model.SerializeToString(), "the exported graph")
    batch = preprocess(images, header)
    names = [o.name for o in session.get_outputs() if o.name.startswith(STAGE_PREFIX)]
    theirs = session.run(names, {session.get_inputs()[0].name: batch})
    ours = reference(batch.transpose(0, 2, 3, 1))
    for name, result in zip(names, theirs, strict=True):
        short = name.removeprefix(STAGE_PREFIX)
        dense = short.startswith(DENSE_STAGES)
        wanted, found = np.asarray(ours[name]), np.asarray(result)
        if not dense:
            wanted, found = np.sort(wanted, axis=1), np.sort(found, axis=1)
        difference = report.stages[short] = relative_difference(wanted, found)
        # not "greater than": a comparison with NaN is a problem too
        if dense and not difference <= tolerance.stage:
            report.problems.append(
                f"stage {short} differs by {difference:.2e}, allowed {tolerance.stage:.0e}"
            )


def check_detections(
    model: onnx.ModelProto,
    reference: Predictor,
    images: np.ndarray,
    header: Header,
    tolerance: Tolerance,
    report: CheckReport,
) -> None:
    """Adds how far the final detections are from JAX, for one image and for all at once."""
    run = predictor(open_session(model.SerializeToString(), "the exported graph"), header)
    wanted, _ = reference(images)
    found, _ = run(images)
    report.parity = compare_detections(wanted, found, tolerance)
    if not report.parity.within(tolerance):
        report.problems.append(f"detections differ: {report.parity}, allowed {tolerance}")
    alone = compare_detections(_first(wanted), run(images[:1])[0], tolerance)
    if not alone.within(tolerance):
        report.problems.append(f"detections of a single image differ: {alone}")


def _first(found):
    return type(found)(
        **{
            name: None if getattr(found, name) is None else np.asarray(getattr(found, name))[:1]
            for name in ("boxes", "scores", "classes", "valid", "masks")
        }
    )
