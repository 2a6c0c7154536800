"""A model repository of Triton Inference Server: a folder it serves as it is.

    DIR/NAME/config.pbtxt    input, outputs, batches, how images are prepared
    DIR/NAME/labels.txt      class names, in the order of the ids that the graph gives
    DIR/NAME/1/model.onnx    the graph, version 1

Decoding, suppression and masks are in the graph, so there is no ensemble. Preprocessing is not: Triton
takes the normalised float32 input, and the config's parameters say how it is made.

Source: Triton's "Model Repository" and "Model Configuration" (its `model_config.proto`).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import UsageError
from rcnn_jax.export.conversion import Dims, values_of
from rcnn_jax.runtime.header import Header

TYPES: dict[int, str] = {
    TensorProto.BOOL: "TYPE_BOOL",
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.INT64: "TYPE_INT64",
}
BACKGROUND = "background"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Paths of one model in a repository.

    Attributes:
      root: the repository, which Triton is given.
      name: of the model.
    """

    root: Path
    name: str

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.root / self.name / "config.pbtxt"

    @property
    def labels(self) -> Path:
        """The class names."""
        return self.root / self.name / "labels.txt"

    @property
    def model(self) -> Path:
        """The graph of version 1."""
        return self.root / self.name / "1" / "model.onnx"


def repository(root: Path, output: Path) -> Repository:
    """Returns the paths of a model, which is called as the exported file is."""
    # the name becomes part of an address: /v2/models/NAME/infer
    return Repository(root=root, name=re.sub(r"[^A-Za-z0-9_.-]", "_", output.stem))


def check_repository(root: Path, output: Path) -> None:
    """Stops where a model cannot be written into a repository.

    Raises:
      UsageError: it is there already, or the export is encrypted, which Triton cannot open.
    """
    # The key would have to lie beside the model on the server.
    if output.suffix != ".onnx":
        raise UsageError(
            f"--triton {root}: Triton reads plain graphs, and -o {output} is encrypted: give a name "
            "ending in .onnx"
        )
    there = repository(root, output)
    # Never over another: a server that polls its repository would take it into service at once.
    for path in (there.model, there.config):
        if path.exists():
            raise UsageError(
                f"--triton {root}: {path} exists already; remove it or name another DIR"
            )


def write_repository(
    root: Path, output: Path, model: onnx.ModelProto, header: Header, largest: int
) -> tuple[Path, ...]:
    """Writes a model into a repository; returns the files.

    Args:
      root: the repository.
      output: the exported file.
      model: its content.
      header: of the graph.
      largest: batch, where the graph leaves it free.
    """
    paths = repository(root, output)
    for path, data in (
        (paths.labels, "".join(f"{name}\n" for name in labels(header)).encode()),
        (paths.config, config(paths.name, model, header, largest).encode()),
        # last, so that a server that polls never finds a model without its config
        (paths.model, model.SerializeToString()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, [data])
    return paths.labels, paths.config, paths.model


def labels(header: Header) -> list[str]:
    """Returns the name of every class id that the graph gives, from 0."""
    # TAO's rows count classes from 1, so line 0 of the file must be something.
    background = [BACKGROUND] if header.form == "detection_rows" else []
    return [*background, *header.class_names]


def config(name: str, model: onnx.ModelProto, header: Header, largest: int) -> str:
    """Returns the configuration as protobuf text.

    Args:
      name: of the model.
      model: the graph.
      header: of the graph.
      largest: batch, where the graph leaves it free; a fixed batch is part of the dims instead.
    """
    free = header.batch is None
    types = {
        v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)
    }

    def tensor(kind: str, name: str, dims: Dims, *more: str) -> str:
        # With max_batch_size above 0 Triton adds the batch to the dims itself.
        shown = ", ".join("-1" if dim is None else str(dim) for dim in (dims[1:] if free else dims))
        fields = [
            f"name: {_quoted(name)}",
            f"data_type: {TYPES[types[name]]}",
            f"dims: [ {shown} ]",
        ]
        return f"{kind} [\n  {{\n    " + "\n    ".join([*fields, *more]) + "\n  }\n]"

    parts = [
        f"# {header.kind}, written by rcnn-jax {header.version}",
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        # The backend's own default, written out for whoever reads the file.
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {largest if free else 0}",
    ]
    parts += [tensor("input", n, dims) for n, dims in values_of(model.graph.input).items()]
    for index, (n, dims) in enumerate(values_of(model.graph.output).items()):
        named = ['label_filename: "labels.txt"'] if index == _classes_in(header) else []
        parts.append(tensor("output", n, dims, *named))
    if free:
        # Empty on purpose: the queue delay is a matter of the load, which only the operator knows.
        parts.append("dynamic_batching { }")
    parts += [
        f"parameters {{\n  key: {_quoted(key)}\n  value: {{ string_value: {_quoted(text)} }}\n}}"
        for key, text in parameters(header).items()
    ]
    return "\n".join(parts) + "\n"


def parameters(header: Header) -> dict[str, str]:
    """Preprocessing as parameters of a Triton config: input = (pixel - mean) / std, on a canvas."""
    height, width = header.canvas
    return {
        "channel_order": header.channel_order,
        "mean": json.dumps(header.mean),
        "std": json.dumps(header.std),
        "canvas": f"{height}x{width}",
        "geometry": header.geometry.mode,
        "output_form": header.form,
    }


def _classes_in(header: Header) -> int:
    """Returns the index of the output that holds the class ids."""
    # Of boxes, scores, classes, valid; DeepStream's rows are one output, in which the class is a
    # column.
    return 2 if header.form == "plain" else 0


def _quoted(text: str) -> str:
    """Returns a string of protobuf's text format, whose escapes are those of C."""
    shown = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{shown}"'
