"""From an exported model to a graph that TensorRT for RTX takes.

    ordinary graph -> to_portable -> ONNX Runtime: the same detections as before? -> builder

A graph that was exported with --portable has been checked against JAX. One that is made portable here is
compared with itself as it was; there is no model in JAX beside an ONNX file.
"""

import numpy as np
import onnx

from rcnn_jax.errors import ExportError, UsageError
from rcnn_jax.export.conversion import Precision, precision_of
from rcnn_jax.export.lowering.portable import is_portable, to_portable
from rcnn_jax.export.plan import AGAIN
from rcnn_jax.export.precision.model_view import FLOAT, ModelView
from rcnn_jax.export.verification.parity import FP32, compare_detections
from rcnn_jax.export.verification.tensorrt_gate import all_nodes
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from rcnn_jax.runtime.tensorrt_rtx import TURING

TURING_TARGET = "sm75"
IMAGES = 2
"""On which a graph is compared with its portable form."""


def portable_graph(
    lowered: onnx.ModelProto,
    model: onnx.ModelProto,
    header: Header,
    name: str,
    reporter: Reporter,
) -> onnx.ModelProto:
    """Returns a graph without RoiAlign and NonMaxSuppression.

    Args:
      lowered: in the precision of the engine.
      model: as it was exported; compared with its portable form.
      header: of the graph.
      name: of its file, for messages.
      reporter: is told what was changed.

    Raises:
      ExportError: another tool has changed the graph, or its portable form finds something else.
    """
    if is_portable(lowered):
        return lowered
    # There the portable form is checked against JAX, which cannot be done from a file alone.
    again = "export it again from its bundle with --portable"
    # Before the replacement, whose advice would be --portable, which refuses such a model too.
    if adaptive := adaptive_samples(model):
        raise ExportError(
            f"{name}: TensorRT for RTX has no RoiAlign without a GPU, and its place can be taken only "
            f"where the number of samples is fixed; '{adaptive[0]}' takes as many as a cell has cells "
            f"of the map (detectron2's POOLER_SAMPLING_RATIO 0); {AGAIN}, and {again}"
        )
    try:
        result, changed = to_portable(lowered), to_portable(model)
    except ExportError as error:
        raise ExportError(
            f"{name}: TensorRT for RTX has no RoiAlign without a GPU and no NonMaxSuppression, and "
            f"they cannot be replaced here: {error}; {again}"
        ) from error
    rng = np.random.default_rng(0)
    height, width = header.canvas
    # Blocks of colour, not noise of single pixels, in which a detector sees nothing to compare.
    coarse = rng.integers(0, 256, (header.batch or IMAGES, 8, 8, len(header.mean)), np.uint8)
    images = coarse[:, np.arange(height) * 8 // height][:, :, np.arange(width) * 8 // width]
    wanted, replaced = (
        predictor(open_session(graph.SerializeToString(), name), header)(images)[0]
        for graph in (model, changed)
    )
    same = compare_detections(wanted, replaced)
    if not same.within(FP32):
        text = (
            f"{name}: its detections differ from those of its portable form on images of noise: "
            f"{same}, allowed {FP32}; {again}, which checks it against the model"
        )
        # In fp32 the forms agree to the last bits, so a difference is a fault of theirs.
        if precision_of(model) == "fp32":
            raise ExportError(text)
        # the last bit of a crop may choose another of two roundings, which is no fault of the form
        reporter.warn(text)
    reporter.note(
        f"{name} has RoiAlign and NonMaxSuppression, which TensorRT for RTX does not build without a "
        f"GPU: standard operators take their place ({same.detections} detections in {same.images} "
        f"images of noise differ by {same.box:.1e} pixels at most)"
    )
    return result


def check_targets(model: onnx.ModelProto, targets: tuple[str, ...], name: str) -> None:
    """Stops at what a generation cannot compute, before anything is built.

    Raises:
      UsageError: Turing is among the targets and the graph multiplies matrices in float32.
    """
    # Known here by the graph; the builder would say so after minutes, and not which product it was.
    if TURING_TARGET not in targets:
        return
    products = float_products(model)
    if products:
        precision: Precision = precision_of(model)
        raise UsageError(
            f"--rtx {','.join(targets)}: {name} is {precision} and multiplies matrices in FP32 "
            f"({products[0]}{f' and {len(products) - 1} more' if products[1:] else ''}); {TURING}"
        )


def adaptive_samples(model: onnx.ModelProto) -> list[str]:
    """Returns the RoiAlign nodes whose number of samples depends on the box, by their names."""
    return [
        node.name
        for node in all_nodes(model.graph)
        # 0 is the operator's default, so a node without the attribute is one of them.
        if node.op_type == "RoiAlign"
        and not any(each.name == "sampling_ratio" and each.i for each in node.attribute)
    ]


def float_products(model: onnx.ModelProto) -> list[str]:
    """Returns the products of matrices in float32, by their output."""
    types = ModelView(model).types
    return [
        node.output[0]
        for node in all_nodes(model.graph)
        if node.op_type in ("Gemm", "MatMul") and types.get(node.output[0], FLOAT) == FLOAT
    ]
