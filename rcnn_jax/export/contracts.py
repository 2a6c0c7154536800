"""Contracts of exported graphs: names, shapes, order and units of input and outputs.

    nms_rows         input_image or Input    -> NMS [b 1 k 7], NMS_1 i32[b 1 1 1], or other names
    detection_rows   Input                   -> generate_detections [b k 6], mask_fcn_logits/BiasAdd
    plain            input_image or Input    -> boxes, scores, classes, valid, masks

The first two are read by the public DeepStream parsers (docs/reference/deepstream.md,
"Parser of Faster R-CNN" and "Parser of Mask R-CNN"). A Mask R-CNN without masks speaks to the first: the
second waits for masks.
The input is float32 NCHW, (pixel - mean) / std in the channel order of the network: nvinfer's
`net-scale-factor * (pixel - offset)`. Here background takes its place: last in Faster R-CNN, where
it needs no row, and class 0 in Mask R-CNN.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.errors import SpecError
from rcnn_jax.ops.boxes import corners
from rcnn_jax.runtime.header import DETECTIONS, MASKS, NMS_NAMES, ContractName, Header
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.task import Task, TestSettings, Variables

Outputs = Callable[[jax.Array], dict[str, jax.Array]]
"""Normalised images f32[b h w c] -> {output name: array}, in the order of the outputs."""


def make_header(
    experiment: Experiment,
    contract: ContractName,
    batch: int | None,
    nms_names: tuple[str, str] = NMS_NAMES,
) -> Header:
    """Returns the header of an experiment's graph.

    Args:
      experiment: the model.
      contract: that is asked for; `tao` is `nms` where a parser would wait for masks that are not there.
      batch: fixed batch size; None where it is free.
      nms_names: of the two outputs of `nms_rows`.

    Raises:
      SpecError: the canvas depends on the image: DeepStream and TensorRT need one size.
    """
    geometry, task = experiment.geometry, experiment.task
    if contract == "tao" and family(experiment.kind).outputs == "detection_rows" and not task.masks:
        contract = "nms"
    if geometry.mode == "short_side":
        raise SpecError(
            "the spec describes a dynamic input (size_min): an exported graph has one input size, "
            "because DeepStream allocates its buffers once; set size_height_width for the export"
        )
    return Header(
        kind=experiment.kind,
        contract=contract,
        class_names=task.class_names,
        category_ids=experiment.category_ids,
        geometry=geometry,
        channel_order=task.pixels.channel_order,
        mean=task.pixels.mean,
        std=task.pixels.std,
        batch=batch,
        nms_names=nms_names,
        depends=dict(experiment.depends),
    )


def in_single_precision(task: Any) -> Any:
    """Returns the task with a model that computes in float32, whatever it was trained in."""
    return dataclasses.replace(task, model=task.model.clone(dtype=jnp.float32))


def outputs_of(
    experiment: Experiment,
    variables: Variables,
    contract: ContractName,
    nms_names: tuple[str, str] = NMS_NAMES,
) -> Outputs:
    """Returns the function that the graph of an experiment computes, in float32.

    Args:
      experiment: its `inference` settings hold the thresholds and counts.
      variables: closed over: they become constants of the graph.
      contract: of the header.
      nms_names: of the two outputs of `nms_rows`.
    """
    task = in_single_precision(experiment.task)
    # nvinfer normalises by itself (net-scale-factor, offsets), so graphs take normalised pixels.
    # With mean 0 and deviation 1 the model's own normalisation disappears from the graph.
    raw = PixelSettings(
        channel_order=task.pixels.channel_order,
        mean=(0.0,) * task.pixels.channels,
        std=(1.0,) * task.pixels.channels,
    )
    task = dataclasses.replace(task, pixels=raw)
    test = experiment.inference.of_one_view
    if contract == "plain":
        return lambda images: plain(task.predict(variables, images, test)[0])
    if contract == "nms" or family(experiment.kind).outputs == "nms_rows":
        return lambda images: nms_rows(task, variables, images, test, nms_names)
    return lambda images: detection_rows(task, variables, images, test)


def plain(detections: Detections) -> dict[str, jax.Array]:
    """Returns detections as they are, in pixels of the network input."""
    outputs = {
        "boxes": detections.boxes,
        "scores": detections.scores,
        "classes": detections.classes,
        "valid": detections.valid,
    }
    if detections.masks is not None:
        outputs["masks"] = detections.masks
    return {name: jnp.asarray(array) for name, array in outputs.items()}


def nms_rows(
    task: Task,
    variables: Variables,
    images: jax.Array,
    test: TestSettings,
    names: tuple[str, str] = NMS_NAMES,
) -> dict[str, jax.Array]:
    """Returns the outputs for `NvDsInferParseCustomNMSTLT`.

    `NMS` f32[b 1 k 7]: image, label, score, x1, y1, x2, y2 as fractions of width and height; rows
    past the count have label -1 and score 0. `NMS_1` i32[b 1 1 1]: how many rows count.
    """
    detections, _ = task.predict(variables, images, test)
    batch, count = detections.scores.shape
    height, width = images.shape[1:3]
    valid = jnp.asarray(detections.valid)
    # The parser stops at the count, NVIDIA's deploy tool reads all rows: free ones must be
    # recognisable by label and score.
    y1, x1, y2, x2 = (jnp.where(valid, c, 0.0) for c in corners(detections.boxes))
    columns = [
        lax.broadcasted_iota(jnp.float32, (batch, count), 0),
        _or_nothing(detections),
        jnp.where(valid, detections.scores, 0.0),
        # By W and H, as the parser multiplies. The original's plugins divided by W - 1 and H - 1,
        # so its boxes grew by less than a pixel.
        x1 / width,
        y1 / height,
        x2 / width,
        y2 / height,
    ]
    rows = jnp.stack(columns, axis=-1)
    total = jnp.sum(valid.astype(jnp.float32), axis=1).astype(jnp.int32)
    return {
        names[0]: rows.reshape(batch, 1, count, 7),
        names[1]: total.reshape(batch, 1, 1, 1),
    }


def detection_rows(
    task: Task, variables: Variables, images: jax.Array, test: TestSettings
) -> dict[str, jax.Array]:
    """Returns the outputs for `NvDsInferParseCustomMrcnnTLTV2`.

    `generate_detections` f32[b k 6]: y1, x1, y2, x2 in network pixels, class, score; classes count
    from 1, free rows have class -1 and score 0. `mask_fcn_logits/BiasAdd` f32[b k n+1 m m]: logits
    of every class, background (0 throughout) first.
    """
    detections, planes = task.predict_planes(variables, images, test)
    valid = jnp.asarray(detections.valid)
    columns = [
        *(jnp.where(valid, c, 0.0) for c in corners(detections.boxes)),
        _or_nothing(detections, first=1),
        jnp.where(valid, detections.scores, 0.0),
    ]
    outputs = {DETECTIONS: jnp.stack(columns, axis=-1)}
    if planes is not None:
        # All planes: the parser picks that of the class itself. Its stride is num-detected-classes,
        # which counts the background, so the missing plane would shift every mask by one class.
        by_class = jnp.transpose(planes, (0, 1, 4, 2, 3))
        outputs[MASKS] = jnp.pad(by_class, ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))
    return outputs


def _or_nothing(detections: Detections, first: int = 0) -> jax.Array:
    """Returns the class as a float counted from `first`, -1 in free rows."""
    return jnp.where(
        detections.valid, jnp.asarray(detections.classes).astype(jnp.float32) + first, -1.0
    )
