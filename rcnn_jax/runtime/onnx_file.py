"""Reading ONNX files that anybody may have written: whole, self-contained, made by the exporter.

An ONNX file may name further files that hold its tensors. The exporter never writes such names, and
a runtime that follows them reads whatever file the author chose; they are refused unread.

Optimisers and quantisers of others drop the metadata of a file, and with it the header. Then the
header of the file it was made from is handed over (`--header`).
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.atomic import read_file
from rcnn_jax.errors import CheckpointError
from rcnn_jax.runtime.header import HEADER_KEY, Header
from rcnn_jax.runtime.stored_fields import parse_json

_LAST_WHOLE_TYPE = onnx.TensorProto.FLOAT8E5M2FNUZ
"""Later number types of ONNX have less than a byte."""
_FIRST_FIELD = b"\x08"
"""Every writer begins with field 1 of the ModelProto, the version of the format."""


def read_onnx(path: Path, key: str | None) -> onnx.ModelProto:
    """Returns the model of a plain or encrypted file.

    Args:
      path: `.onnx` or `.etlt`.
      key: of the encryption; a plain file ignores it.

    Raises:
      CheckpointError: no such file, wrong key, truncated or damaged, no ONNX model, or a model that
        names files of its own: a message each.
    """
    data = read_file(path, "exported model")
    # Any .etlt: one that is not encrypted here is the original's, and `decrypt` says what to do
    # with it.
    if container.is_encrypted(data) or path.suffix == ".etlt":
        data = container.decrypt(data, key, str(path))
    return parse_onnx(data, str(path))


def parse_onnx(data: bytes, name: str) -> onnx.ModelProto:
    """Returns the model in the bytes of a file.

    Args:
      data: content of a file.
      name: of the file, begins every message.

    Raises:
      CheckpointError: they hold none, a damaged one, or one that names files of its own.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        # Protobuf finds an empty message in an empty file, and fields of some kind in much else.
        whole = bool(model.graph.node and model.opset_import)
    except DecodeError:
        whole = False
    if not whole:
        if data[:1] == _FIRST_FIELD:
            raise CheckpointError(
                f"{name}: is an ONNX model that was cut off or damaged; copy it again"
            )
        raise CheckpointError(f"{name}: is no ONNX model; give a file that `export` wrote")
    if not all(isinstance(text, str) for text in _strings(model)):
        raise CheckpointError(
            f"{name}: is an ONNX model with names that are no UTF-8 text; copy it again"
        )
    # Before anything else sees the model: loaders of ONNX follow such names by themselves.
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            paths = [entry.value for entry in tensor.external_data if entry.key == "location"]
            raise CheckpointError(
                f"{name}: the tensor '{tensor.name}' lies in another file "
                f"('{paths[0] if paths else ''}'), which is not opened: an exported model is one "
                "file; export it again, or let onnx.save write it without external data"
            )
        if not _is_whole(tensor):
            raise CheckpointError(
                f"{name}: the tensor '{tensor.name}' is damaged: it holds {len(tensor.raw_data)} bytes "
                f"for the shape {list(tensor.dims)}; copy the file again"
            )
    return model


def check_graph(model: onnx.ModelProto, name: str) -> None:
    """Stops when a model is no valid ONNX, before its nodes are changed one by one.

    Raises:
      CheckpointError: it is not.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{name}: is no valid ONNX model: {reason}; export it again"
        ) from error


def _is_whole(tensor: onnx.TensorProto) -> bool:
    """Returns whether a tensor in one piece has as many bytes as its shape asks for."""
    if any(dim < 0 for dim in tensor.dims):
        return False
    # Numbers in a typed field were parsed one by one and cannot be half of one.
    if not tensor.raw_data:
        return True
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        return False
    count = math.prod(tensor.dims)
    # Types of less than a byte, which NumPy pads, lie packed.
    return len(tensor.raw_data) == count * kind.itemsize or tensor.data_type > _LAST_WHOLE_TYPE


def read_header(
    model: onnx.ModelProto, name: str, source: Path | None = None, key: str | None = None
) -> Header:
    """Returns the header of a model.

    Args:
      model: the graph.
      name: of its file, begins every message.
      source: file whose header the model has, where another tool dropped its own.
      key: of `source`, where it is encrypted.

    Raises:
      CheckpointError: another program made the file, or the header was changed.
    """
    header = own_header(model, name) if source is None else handed_header(model, source, key)
    if header is None:
        raise CheckpointError(
            f"{name}: is no model that rcnn-jax exported: it has no header. If another tool made it "
            "from such a model, name that one: --header FROM.onnx, in Python "
            "rcnn_jax.load(..., header=...)"
        )
    if not _is_of(model.graph, header):
        raise CheckpointError(
            f"{name}: its header is of another graph: inputs and outputs do not fit; export the "
            "model again"
        )
    return header


def own_header(model: onnx.ModelProto, name: str) -> Header | None:
    """Returns the header in the metadata of a model, None where there is none.

    Raises:
      CheckpointError: it was changed.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        return Header.from_metadata(metadata)
    except ValueError as error:
        raise CheckpointError(
            f"{name}: its header was changed or is of another version of rcnn-jax ({error}): "
            "export the model again"
        ) from error


def handed_header(model: onnx.ModelProto, source: Path, key: str | None) -> Header:
    """Returns the header of one file for the graph of another.

    Args:
      model: the graph; a tool that dropped the header may have fixed the batch too.
      source: `.onnx` or `.etlt` that `export` wrote, or a JSON file: an engine's description or the
        header alone.
      key: of an encrypted `.etlt`.

    Raises:
      CheckpointError: the file holds no header.
    """
    if source.suffix in (".onnx", ".etlt"):
        header = own_header(read_onnx(source, key), str(source))
        if header is None:
            raise CheckpointError(f"--header {source}: has no header; give the file `export` wrote")
    else:
        try:
            fields = parse_json(read_file(source, "file with a header"))
            # The header alone, inside metadata, or inside the description of an engine.
            for name in (HEADER_KEY, "header"):
                fields = fields.get(name, fields) if isinstance(fields, dict) else fields
            header = Header.from_json(fields)
        except ValueError as error:
            raise CheckpointError(
                f"--header {source}: holds no header ({error}); give the .onnx file that `export` "
                "wrote, or the .json file of an engine"
            ) from error
    batch = model.graph.input[0].type.tensor_type.shape.dim[:1] if model.graph.input else ()
    fixed = [dim.dim_value for dim in batch if dim.dim_value > 0]
    return dataclasses.replace(header, batch=fixed[0] if fixed else None)


def _strings(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Yields the names that are read from a model: bytes where the file holds no UTF-8 text."""
    graph = model.graph
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _is_of(graph: onnx.GraphProto, header: Header) -> bool:
    """Returns whether the inputs and outputs of a graph are those of a header."""
    if len(graph.input) != 1:
        return False
    dims = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim[1:]]
    outputs = {value.name for value in graph.output}
    return (
        dims == [len(header.mean), *header.canvas]
        and outputs.issuperset(header.output_names())
        and (len(outputs) == 2 or header.form != "nms_rows")  # read by place
    )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yields every tensor of a model: of the graph, its attributes, its subgraphs and functions."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
    for training in model.training_info:
        yield from _tensors_of_graph(training.initialization)
        yield from _tensors_of_graph(training.algorithm)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of_graph(graph)
