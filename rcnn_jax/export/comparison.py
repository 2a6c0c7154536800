"""Comparison of a graph with JAX: detections, and average precision on validation images."""

from collections.abc import Callable

import jax
import numpy as np
import onnx

from rcnn_jax.export.contracts import in_single_precision
from rcnn_jax.export.precision.fp16 import truly_half
from rcnn_jax.export.precision.lower import Comparison, DataType, Gate, compare_with_thresholds
from rcnn_jax.export.verification.accuracy import Accuracy, Subset, metrics_of
from rcnn_jax.export.verification.agreement import agreement
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from rcnn_jax.structures import Array, Detections
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

BATCH = 2
"""JAX computes any number of images in batches of this size: one compilation serves all checks."""


def reference_predictor(experiment: Experiment, variables: Variables) -> Predictor:
    """Returns the model in JAX, in float32: what every graph is compared with."""
    task = in_single_precision(experiment.task)
    # Once, not with every call; and as an argument, so that the cache of compiled programs does not
    # hold the weights of an encrypted model.
    variables = jax.device_put(variables)
    test = experiment.inference.of_one_view
    run = jax.jit(lambda v, images: task.predict(v, images, test)[0])

    def predict(images: Array) -> tuple[Detections, None]:
        images = np.asarray(images)
        missing = -len(images) % BATCH
        filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        parts = [
            jax.tree.map(np.asarray, run(variables, filled[start : start + BATCH]))
            for start in range(0, len(filled), BATCH)
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(images)], *parts), None

    return predict


def make_comparison(
    experiment: Experiment,
    reference: Predictor,
    images: np.ndarray,
    header: Header,
    data_type: DataType,
    subset: Subset | None,
    session: Reporter,
    gate: Gate | None = None,
) -> Callable[[onnx.ModelProto], Comparison]:
    """Returns the function that compares a graph with JAX.

    Args:
      experiment: metrics and geometry.
      reference: the model in JAX; runs once over everything.
      images: u8[b h w c] on which detections are compared.
      header: of the graphs.
      data_type: whose gate decides.
      subset: validation images on which average precisions are compared, or None.
      session: shows progress.
      gate: in place of that of the data type.
    """
    # Once: every round of the search compares with the same detections.
    wanted, _ = reference(images)
    before = None if subset is None else metrics_of(experiment, reference, subset, session)

    def compare(graph: onnx.ModelProto) -> Comparison:
        # A CPU computes float16 in float32: it would find no loss where a GPU has one.
        model = truly_half(graph).SerializeToString()
        run = predictor(open_session(model, "the exported graph"), header)
        agreed = agreement(wanted, run(images)[0])
        if subset is None or before is None:
            return compare_with_thresholds(agreed, None, data_type, gate)
        after = metrics_of(experiment, run, subset, session)
        accuracy = Accuracy(images=len(subset), model=before, graph=after)
        return compare_with_thresholds(agreed, accuracy, data_type, gate)

    return compare
