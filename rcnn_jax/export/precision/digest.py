"""Digest of the weights that scales belong to: the same in cache, JSON and graphs.

Scales name tensors, and all models of one layout have the same tensors: those of another model would be
taken without a word, and clip or waste most of the range.
"""

import hashlib

import onnx

from rcnn_jax.errors import DataError
from rcnn_jax.export.precision.model_view import ModelView, layer_name

DIGITS = 16
PROPERTY = "rcnn_jax_weights"
"""Key in the metadata of an int8 graph, whose weights are no longer those of the digest."""


def weights_digest(model: onnx.ModelProto) -> str:
    """Returns the digest of the layers of an FP32 graph: hexadecimal digits, DIGITS of them.

    Args:
      model: the graph; an int8 graph says it in its metadata.
    """
    stored = {entry.key: entry.value for entry in model.metadata_props}
    if PROPERTY in stored:
        return stored[PROPERTY]
    view, digest = ModelView(model), hashlib.sha256()
    for node in model.graph.node:
        if view.is_layer(node) and node.input[1] in view.constants:
            digest.update(f"{layer_name(node)} {node.op_type} {node.input[0]}\n".encode())
            digest.update(view.array(node.input[1]).tobytes())
    return digest.hexdigest()[:DIGITS]


def with_digest(model: onnx.ModelProto, digest: str) -> onnx.ModelProto:
    """Writes the digest of its FP32 graph into a lowered graph, and returns it."""
    model.metadata_props.append(onnx.StringStringEntryProto(key=PROPERTY, value=digest))
    return model


def check_digest(carried: str, model: onnx.ModelProto, origin: str) -> None:
    """Refuses scales of other weights; scales that do not say whose they are pass.

    Args:
      carried: digest that the scales carry, or "".
      model: FP32 graph, or an int8 one, that they are to be used with.
      origin: of the scales, begins the message.

    Raises:
      DataError: they belong to other weights.
    """
    expected = weights_digest(model)
    if carried and carried != expected:
        raise DataError(
            f"{origin}: belongs to other weights of the same layout: it was made for {carried}, this "
            f"model is {expected}; remove it to calibrate anew, or name the one that was written with "
            "this model"
        )
