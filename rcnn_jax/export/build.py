"""From a model in JAX to its checked FP32 graph."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np
import onnx

from rcnn_jax.data.loader.pipeline import evaluation_batches
from rcnn_jax.errors import DataError
from rcnn_jax.export.contracts import outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.lowering.passes import drop_unused
from rcnn_jax.export.verification.check import (
    GraphProblem,
    check_detections,
    check_model,
    check_stages,
)
from rcnn_jax.export.verification.parity import FP32, Parity
from rcnn_jax.export.verification.stages import STAGE_PREFIX, with_stages
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.runtime.header import Header
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

IMAGES = 8
"""On which a model and its graphs are compared."""
NOISE = "random images: the spec names no images that exist"
"""Description of the images where there are no real ones; a detector detects nothing in them."""


@dataclass(frozen=True, eq=False)
class Built:
    """The FP32 graph of an experiment.

    Attributes:
      model: the graph that is written.
      showing: the same with the results of the model's stages among its outputs, for the check.
      scopes: {first output of a node: the innermost module that it belongs to}.
    """

    model: onnx.ModelProto
    showing: onnx.ModelProto
    scopes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SingleCheck:
    """Results of the checks of an FP32 graph.

    Attributes:
      operators: how many of each operator it has.
      stages: {stage: largest relative difference to JAX}; none where the graph is not valid.
      parity: of the final detections; None where the graph is not valid.
      problems: why it cannot be used; none when it can.
    """

    operators: dict[str, int]
    stages: dict[str, float] = field(default_factory=dict)
    parity: Parity | None = None
    problems: tuple[GraphProblem, ...] = ()


def build(experiment: Experiment, variables: Variables, header: Header) -> Built:
    """Returns the FP32 graph of an experiment, unchecked.

    Args:
      experiment: its `inference` settings hold the thresholds and counts.
      variables: of the model.
      header: from `make_header`.

    Raises:
      ExportError: the model uses something that has no ONNX form.
    """
    function = with_stages(outputs_of(experiment, variables, header.contract, header.nms_names))
    shape = (header.batch, *header.canvas, experiment.task.pixels.channels)
    graph = trace(function, header.input_name, shape, NCHW)
    # one trace for both: what is checked is what is written, but for the outputs that are dropped
    showing = graph.to_model("detector", header.to_metadata())
    # `showing` is a protobuf of its own by now, so the graph may lose what only the stages needed.
    graph.outputs = [name for name in graph.outputs if not name.startswith(STAGE_PREFIX)]
    drop_unused(graph)
    scopes = {node.outputs[0]: node.scope.rpartition("/")[2] for node in graph.nodes}
    return Built(graph.to_model("detector", header.to_metadata()), showing, scopes)


def check_built(
    built: Built,
    experiment: Experiment,
    variables: Variables,
    header: Header,
    images: np.ndarray,
    reference: Predictor,
) -> SingleCheck:
    """Compares an FP32 graph with the model in JAX.

    Args:
      built: the graph.
      experiment: it was built from.
      variables: it was built from.
      header: of the graph.
      images: u8[b h w c] to compare on.
      reference: the model in JAX.
    """
    looked = check_model(built.model)
    if looked.problems:  # what is not valid need not run
        return SingleCheck(operators=looked.operators, problems=looked.problems)
    if header.batch is not None:
        # A graph of fixed batch takes exactly so many; images are repeated where there are fewer.
        images = images[np.arange(header.batch) % len(images)]
    run = compiled_stages(experiment, header)
    stages = check_stages(built.showing, lambda batch: run(variables, batch), images, header, FP32)
    compared = check_detections(built.model, reference, images, header, FP32)
    return SingleCheck(
        operators=looked.operators,
        stages=stages.differences,
        parity=compared.parity,
        problems=stages.problems + compared.problems,
    )


def compiled_stages(experiment: Experiment, header: Header) -> Callable[..., dict[str, jax.Array]]:
    """Returns a function from variables and images to the outputs of the graph and its stages.

    The variables are arguments. Closed over, they would be constants of the compiled program, and
    the cache of compiled programs would hold the weights of an encrypted model in plain.
    """

    def run(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        outputs = outputs_of(experiment, variables, header.contract, header.nms_names)
        return with_stages(outputs)(images)

    return jax.jit(run)


def check_images(experiment: Experiment, header: Header) -> tuple[np.ndarray, str]:
    """Returns u8[b h w c] canvases, IMAGES at most, and what they are: validation images, or NOISE."""
    try:
        if experiment.eval_source is not None:
            batches = evaluation_batches(
                experiment.eval_source(),
                experiment.geometry,
                None,
                experiment.task.pixels.channel_order,
                batch=IMAGES,
                threads=1,
                prefetch=1,
            )
            first = next(iter(batches))
            return np.asarray(first.images)[np.asarray(first.image_valid)], "validation images"
    except DataError:
        pass  # a model may be exported far from its data
    shape = (IMAGES, *header.canvas, experiment.task.pixels.channels)
    # Blocks of an eighth of the canvas have edges and flat areas, as images have. Noise per pixel
    # is averaged away by the first strides.
    coarse = np.random.default_rng(0).integers(0, 256, (shape[0], 8, 8, shape[3]), np.uint8)
    rows = np.arange(shape[1]) * 8 // shape[1]
    columns = np.arange(shape[2]) * 8 // shape[2]
    return coarse[:, rows][:, :, columns], NOISE
