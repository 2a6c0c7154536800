"""Mixed precision search: lower, compare with JAX, keep the most sensitive layers, repeat.

FP32 graph -> to_fp16 | insert_qdq -> compare with JAX -- passes --> done
                    ^                      | fails
                    '--- keep the worst layers in float: 1/16, 1/8, 1/4, 1/2 of them
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import onnx

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.quantize import Offsets, insert_qdq
from rcnn_jax.export.precision.sensitivity import Sensitivity
from rcnn_jax.export.verification.accuracy import Accuracy
from rcnn_jax.export.verification.agreement import Agreement
from rcnn_jax.reporter import Reporter

DataType = Literal["fp32", "fp16", "int8"]
KEPT_FRACTIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Fraction of the layers that each round keeps in float."""


@dataclass(frozen=True)
class Gate:
    """Thresholds of a data type.

    Attributes:
      agreement: smallest agreement with the detections of JAX, see `agreement`.
      loss: largest loss of an average precision in [0, 1], where images are evaluated.
    """

    agreement: float
    loss: float


GATES: dict[DataType, Gate] = {
    "fp32": Gate(agreement=0.99, loss=0.002),
    "fp16": Gate(agreement=0.97, loss=0.005),
    "int8": Gate(agreement=0.9, loss=0.02),
}
"""Trained models reach 0.995 and more in fp16, and 0.90 to 0.97 in int8 with the better methods of
calibration (`benchmarks/tables/precisions.py`: a ResNet-18 Mask R-CNN, a MobileNetV2 Faster R-CNN).
On a few dozen images an average precision of int8 moves by a point or two from one rounding to the
next."""


TRAINED = Gate(agreement=0.97, loss=0.005)
"""Of int8 with trained ranges, against the network that rounds as the graph does: what is left are last
bits that fall on the other side of a step."""


@dataclass(frozen=True)
class Comparison:
    """Result of the comparison of a graph with JAX.

    Attributes:
      agreement: with the detections of JAX.
      accuracy: on validation images, or None.
      problems: failed thresholds, one sentence each; none when the graph passes.
    """

    agreement: Agreement
    accuracy: Accuracy | None
    problems: list[str]


@dataclass(frozen=True)
class Lowered:
    """A graph in a lower precision.

    Attributes:
      model: the graph.
      comparison: of the last round.
      kept: layers that stayed in float for the graph to pass.
    """

    model: onnx.ModelProto
    comparison: Comparison
    kept: list[str]


def compare_with_thresholds(
    agreement: Agreement,
    accuracy: Accuracy | None,
    data_type: DataType,
    gate: Gate | None = None,
) -> Comparison:
    """Compares agreement and accuracy with the thresholds of the data type, or of another gate."""
    gate, problems = gate or GATES[data_type], []
    # not "less than": a comparison with NaN is a problem too
    if not agreement.score >= gate.agreement:
        problems.append(
            f"{data_type}: detections agree to {agreement.score:.3f}, "
            f"at least {gate.agreement:g} is expected"
        )
    if accuracy is not None:
        problems += [
            f"{data_type}: {name} falls from {accuracy.model[name]:.4f} to "
            f"{accuracy.graph[name]:.4f} on {accuracy.images} images, a loss of {gate.loss:g} is "
            "allowed"
            for name, loss in accuracy.losses().items()
            if not loss <= gate.loss
        ]
    return Comparison(agreement, accuracy, problems)


def lower(
    model: onnx.ModelProto,
    data_type: DataType,
    scales: dict[str, float],
    offsets: Offsets,
    keep: frozenset[str],
) -> onnx.ModelProto:
    """Returns the FP32 graph in a data type; `scales` and `offsets` are those of int8."""
    # float16 around int8 layers is left to the engine: on a CPU, where the check runs, it is
    # emulated.
    if data_type == "int8":
        return insert_qdq(model, scales, keep, offsets)
    return to_fp16(model, keep) if data_type == "fp16" else model


def lower_until_good(
    model: onnx.ModelProto,
    data_type: DataType,
    scales: dict[str, float],
    offsets: Offsets,
    sensitivity: Sensitivity,
    compare: Callable[[onnx.ModelProto], Comparison],
    session: Reporter,
) -> Lowered:
    """Returns the first graph that passes, else the last one tried.

    Args:
      model: FP32 graph.
      data_type: `fp16` or `int8`.
      scales: of int8.
      offsets: of the biases of int8 layers.
      sensitivity: order of the layers to keep.
      compare: compares a graph with JAX.
      session: gets warnings with the kept layers and the reason.

    Raises:
      ExportError: the graph cannot be lowered.
    """
    worst = list(sensitivity.layers)
    if not worst:
        raise ExportError(f"{data_type}: the graph has no layer that can be lowered")
    kept: list[str] = []
    lowered = None
    # The fraction doubles every round, since each one costs a comparison with JAX.
    for fraction in KEPT_FRACTIONS:
        if lowered is not None:
            more = worst[len(kept) : math.ceil(fraction * len(worst))]
            if not more:
                continue
            kept = kept + more
            session.warn(
                f"{lowered.comparison.problems[0]}; trying again with {len(kept)} of {len(worst)} "
                f"layers in float, now also {', '.join(more)}"
            )
        graph = lower(model, data_type, scales, offsets, frozenset(kept))
        lowered = Lowered(graph, compare(graph), kept)
        if not lowered.comparison.problems:
            break
    # The last graph is returned even if it fails: the caller reports what is wrong with it, and
    # with --accept-loss writes it.
    assert lowered is not None
    return lowered
