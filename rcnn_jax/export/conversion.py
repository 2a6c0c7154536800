"""Conversion of an exported graph into the one that an engine is built from.

`-t fp16` and `-t int8` change the graph as the export does: types and Q/DQ in the file, no flags. A
graph that has a precision already keeps it. Around int8 layers an engine computes in float16, as the
original's did, unless strict types are asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto

from rcnn_jax.checkpoints.atomic import read_file
from rcnn_jax.errors import UsageError
from rcnn_jax.export.precision.digest import check_digest, weights_digest, with_digest
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.precision.scales import digest_of_cache, read_cache
from rcnn_jax.runtime.header import Header
from rcnn_jax.runtime.onnx_file import check_graph

Precision = Literal["fp32", "fp16", "int8"]
Dims = tuple[int | None, ...]
"""Dims; None for the free batch."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def precision_of(model: onnx.ModelProto) -> Precision:
    """Returns the lowest precision among the types of a graph."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    # By the weights: a graph is fp16 as soon as some of them are, whatever layers stayed in float32.
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return "fp16"
    return "fp32"


def with_precision(
    model: onnx.ModelProto, wanted: Precision | None, cache: Path | None, *, strict: bool, name: str
) -> onnx.ModelProto:
    """Returns the graph with the precision asked for.

    Args:
      model: as it was exported.
      wanted: None keeps what the graph has.
      cache: calibration cache of `int8`; where the graph is int8 already, None will do, and of a cache
        only the digest is compared.
      strict: layers that are not int8 stay float32 instead of float16.
      name: of the file, for messages.

    Raises:
      UsageError: the graph has another precision already, or there is no cache.
      RcnnError: the graph or the cache is damaged, or the cache belongs to another graph.
    """
    precision = precision_of(model)
    if wanted not in (None, precision) and precision != "fp32":
        raise UsageError(
            f"-t {wanted}: {name} is {precision} already, and that cannot be taken back: leave -t out, "
            "or give the fp32 file"
        )
    # Passes take a graph for granted that is consistent; files come from anywhere. A graph that
    # stays as it is gets checked by TensorRT's parser.
    if "int8" in (wanted, precision) or wanted == "fp16":
        check_graph(model, name)
    if wanted == "int8" and precision == "fp32":
        assert cache is not None
        text = read_calibration(cache).decode("utf-8", "replace")
        scales = read_cache(text, str(cache))
        check_digest(digest_of_cache(text), model, f"-c {cache}")
        model = with_digest(insert_qdq(model, scales), weights_digest(model))
    elif wanted == "int8" and cache is not None and cache.is_file():
        text = read_calibration(cache).decode("utf-8", "replace")
        check_digest(digest_of_cache(text), model, f"-c {cache}")
    if wanted == "fp16" or ("int8" in (wanted, precision) and not strict):
        return to_fp16(model)
    return model


def as_int8(cache: Path) -> Callable[[onnx.ModelProto, str], onnx.ModelProto]:
    """Returns the function that makes an fp32 graph int8 with the scales of a calibration cache.

    Layers outside stay float32: on a CPU float16 would only be emulated.
    """
    return lambda model, name: with_precision(model, "int8", cache, strict=True, name=name)


def read_calibration(cache: Path) -> bytes:
    """Returns the content of a calibration cache.

    Raises:
      UsageError: there is none.
      CheckpointError: it cannot be read.
    """
    if not cache.is_file():
        raise UsageError(
            f"-c {cache}: there is no such calibration cache, and int8 needs one: "
            "export --data_type int8 --cal_cache_file FILE writes it, with the fp32 model it is for"
        )
    return read_file(cache, "calibration cache")


def describe(model: onnx.ModelProto, header: Header, name: str) -> str:
    """Returns a description of a model file, as lines of text."""
    inputs = ", ".join(f"{n} {_text(shape)}" for n, shape in values_of(model.graph.input).items())
    outputs = "".join(
        f"\n  output   {n} {_text(shape)}" for n, shape in values_of(model.graph.output).items()
    )
    opset = next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), "none")
    return (
        f"{name}: {header.kind}, {precision_of(model)}, opset {opset}, rcnn-jax {header.version}"
        f"\n  classes  {', '.join(header.class_names)}"
        f"\n  input    {inputs}, {header.channel_order}, (pixel - {_numbers(header.mean)}) / "
        f"{_numbers(header.std)}{outputs}"
    )


def values_of(values) -> dict[str, Dims]:
    """Returns {name: dims} of graph inputs or outputs."""
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in values
    }


def _text(shape: Dims) -> str:
    return "x".join("N" if dim is None else str(dim) for dim in shape)


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
