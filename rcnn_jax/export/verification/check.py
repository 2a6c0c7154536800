"""Checks of an exported graph: validity, TensorRT's operators, agreement with JAX.

    model -> onnx.checker -> table of TensorRT -> ONNX Runtime against JAX: stages, detections

Each check returns its results; `report.CheckReport` is made of all of them at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from rcnn_jax.export.verification import tensorrt_gate
from rcnn_jax.export.verification.parity import (
    Parity,
    Tolerance,
    compare_detections,
    relative_difference,
)
from rcnn_jax.export.verification.stages import STAGE_PREFIX
from rcnn_jax.runtime.backend import Predictor, preprocess
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_runtime import open_session, predictor

DENSE_STAGES = ("extract", "rpn")
"""Stages before the first choice among boxes: they must agree. Later ones are reported, compared as
sets: rois of equal scores may come in either order."""


@dataclass(frozen=True)
class GraphProblem:
    """Why a graph is not written.

    Attributes:
      text: one sentence.
      lowering: the lower precision alone has caused it; the user may let it pass.
    """

    text: str
    lowering: bool = False


@dataclass(frozen=True)
class GraphCheck:
    """Results of the static checks of a graph.

    Attributes:
      operators: how many of each operator it has.
      problems: of the ONNX checker and the table of TensorRT.
    """

    operators: dict[str, int]
    problems: tuple[GraphProblem, ...]


@dataclass(frozen=True)
class StageCheck:
    """Differences between the stages of a graph and JAX.

    Attributes:
      differences: {stage: largest relative difference}.
      problems: one for every dense stage beyond the tolerance.
    """

    differences: dict[str, float]
    problems: tuple[GraphProblem, ...]


@dataclass(frozen=True)
class DetectionCheck:
    """Differences between the final detections of a graph and JAX.

    Attributes:
      parity: for all images at once.
      problems: what is beyond the tolerance, for all images or for a single one.
    """

    parity: Parity
    problems: tuple[GraphProblem, ...]


def check_model(model: onnx.ModelProto) -> GraphCheck:
    """Runs the ONNX checker and the table of TensorRT, and counts the operators."""
    operators: dict[str, int] = {}
    for node in tensorrt_gate.all_nodes(model.graph):
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    problems = []
    try:
        # full_check infers shapes strictly: without it, a wrong length passes and fails in the
        # engine build.
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        problems.append(GraphProblem(f"onnx.checker: {error}"))
    problems += [GraphProblem(f"TensorRT: {text}") for text in tensorrt_gate.complaints(model)]
    return GraphCheck(operators, tuple(problems))


def check_stages(
    model: onnx.ModelProto,
    reference: Callable[[np.ndarray], dict[str, Any]],
    images: np.ndarray,
    header: Header,
    tolerance: Tolerance,
) -> StageCheck:
    """Compares the stages of a graph that returns them with JAX.

    Args:
      model: the graph with the results of its stages among the outputs.
      reference: normalised images f32[b h w c] -> {output or stage: array}.
      images: u8[b h w c].
      header: of the graph.
      tolerance: for the stages before the first choice among boxes.
    """
    session = open_session(model.SerializeToString(), "the exported graph")
    batch = preprocess(images, header)
    names = [o.name for o in session.get_outputs() if o.name.startswith(STAGE_PREFIX)]
    theirs = session.run(names, {session.get_inputs()[0].name: batch})
    ours = reference(batch.transpose(0, 2, 3, 1))
    differences, problems = {}, []
    for name, result in zip(names, theirs, strict=True):
        short = name.removeprefix(STAGE_PREFIX)
        dense = short.startswith(DENSE_STAGES)
        wanted, actual = np.asarray(ours[name]), np.asarray(result)
        if not dense:
            wanted, actual = np.sort(wanted, axis=1), np.sort(actual, axis=1)
        difference = differences[short] = relative_difference(wanted, actual)
        # not "greater than": a comparison with NaN is a problem too
        if dense and not difference <= tolerance.stage:
            problems.append(
                GraphProblem(
                    f"stage {short} differs by {difference:.2e}, allowed {tolerance.stage:.0e}"
                )
            )
    return StageCheck(differences, tuple(problems))


def check_detections(
    model: onnx.ModelProto,
    reference: Predictor,
    images: np.ndarray,
    header: Header,
    tolerance: Tolerance,
) -> DetectionCheck:
    """Compares the final detections with JAX, for one image and for all at once."""
    run = predictor(open_session(model.SerializeToString(), "the exported graph"), header)
    wanted, _ = reference(images)
    detections, _ = run(images)
    parity = compare_detections(wanted, detections, tolerance)
    problems = []
    if not parity.within(tolerance):
        problems.append(GraphProblem(f"detections differ: {parity}, allowed {tolerance}"))
    # a free batch is one graph for every size: a wrong broadcast shows at one size only
    alone = compare_detections(_first(wanted), run(images[:1])[0], tolerance)
    if not alone.within(tolerance):
        problems.append(GraphProblem(f"detections of a single image differ: {alone}"))
    return DetectionCheck(parity, tuple(problems))


def _first(detections):
    return type(detections)(
        **{
            name: None
            if getattr(detections, name) is None
            else np.asarray(getattr(detections, name))[:1]
            for name in ("boxes", "scores", "classes", "valid", "masks")
        }
    )
