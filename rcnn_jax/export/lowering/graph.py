"""A growing ONNX graph: nodes, initializers, and the layout of what flows between them.

Every emitted node is remembered by operator, inputs and attributes: equal expressions share one
node. Initializers are remembered by content.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering.values import (
    Const,
    Operand,
    Perm,
    Shape,
    Value,
    collapse,
    identity,
    is_static,
)

# RoiAlign has its coordinate mode from 16 on; 18 turns the axes of reductions into inputs, which
# nothing here needs. Only float16 around Q/DQ asks for more (`fp16.QDQ_OPSET`). The IR version is
# that of opset 17: left to itself, onnx writes its newest, which an older ONNX Runtime refuses.
OPSET = 17
IR_VERSION = 8


@dataclass
class Node:
    """One operator.

    Attributes:
      op: its type.
      inputs: tensors; "" for an optional one that is left out.
      outputs: tensors.
      attributes: by name.
      scope: path of the layer that it was emitted for.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    scope: str = ""


@dataclass
class Tensor:
    """Shape as stored and type of a tensor."""

    stored: Shape
    dtype: np.dtype


@dataclass
class Graph:
    """Builder of an ONNX graph.

    Attributes:
      nodes: in the order of computation.
      constants: initializers by name.
      tensors: every tensor that is no constant.
      inputs: (tensor, shape for the file) of the graph inputs.
      outputs: tensors the graph returns.
      scope: layer that new tensors are named after.
      taps: {tensor: name of the tap behind it}, in the order of computation.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    scope: str = ""
    taps: dict[str, str] = field(default_factory=dict)
    _made: dict[Any, list[str]] = field(default_factory=dict)
    _kept: dict[Any, str] = field(default_factory=dict)
    _producers: dict[str, Node] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def add_input(self, name: str, shape: Shape, dtype: Any, perm: Perm) -> Value:
        """Returns a new graph input of the logical shape, stored in the order `perm`."""
        stored = tuple(shape[axis] for axis in perm)
        self._taken.add(name)
        self.tensors[name] = Tensor(stored, np.dtype(dtype))
        self.inputs.append(name)
        return Value(name, shape, np.dtype(dtype), perm, stored)

    def add_output(self, operand: Operand, name: str) -> None:
        """Makes an operand, in its logical order, a graph output called `name`.

        Raises:
          ExportError: a tensor of the graph has this name already.
        """
        value = self.value(operand)
        # Through an Identity, because an output may be a constant, the input, or a tensor with two
        # names in the contract; readers inside keep the tensor of the layer.
        source = self.full(value, identity(len(value.shape)))
        node = Node("Identity", [source], [self._unique(name, exact=True)], {})
        self._add(node, [Tensor(value.shape, value.dtype)])
        self.outputs.append(node.outputs[0])

    def emit(
        self, op: str, inputs: Sequence[str], results: Sequence[Tensor], **attributes: Any
    ) -> list[str]:
        """Adds a node, or finds the one that does the same; returns the names of its outputs."""
        # A jaxpr repeats an expression as often as Python wrote it. The layer is no part of the
        # key: the first one to compute something names it.
        key = (op, tuple(inputs), tuple(sorted((k, _hashable(v)) for k, v in attributes.items())))
        if key not in self._made:
            base = f"{self.scope}/{op}" if self.scope else op
            outputs = [self._unique(base) for _ in results]
            self._add(Node(op, list(inputs), outputs, attributes, self.scope), results)
            self._made[key] = outputs
        return self._made[key]

    def constant(self, array: np.ndarray, name: str = "const") -> str:
        """Returns the name of an initializer with this content."""
        array = np.asarray(array, order="C")
        # By content: the RPN head runs once per pyramid level, and each run transposes its kernel
        # anew. Without this, weights are stored once per use, as jax2onnx does.
        digest = hashlib.sha1(array.tobytes()).digest()
        key = (array.dtype.str, array.shape, digest)
        if key not in self._kept:
            base = f"{self.scope}/{name}" if self.scope else name
            self._kept[key] = self._unique(base)
            self.constants[self._kept[key]] = array
        return self._kept[key]

    def integers(self, *numbers: int) -> str:
        """Returns an i64[n] initializer."""
        return self.constant(np.asarray(numbers, np.int64))

    def producer(self, name: str) -> Node | None:
        """Returns the node that makes a tensor; None for inputs and constants."""
        return self._producers.get(name)

    def stored(self, operand: Operand, perm: Perm) -> tuple[str, Shape]:
        """Returns (tensor, its shape) of an operand stored in the order `perm`.

        The tensor may have length 1 where the operand repeats itself: enough for broadcasting ops.
        """
        if isinstance(operand, Const):
            array = collapse(operand.array).transpose(perm)
            return self.constant(array), tuple(array.shape)
        if operand.perm == perm:
            return operand.name, operand.stored
        order = [operand.perm.index(axis) for axis in perm]
        target = tuple(operand.stored[i] for i in order)
        moved = [i for i in order if not _is_one(operand.stored[i])]
        if moved == sorted(moved):  # only axes of length 1 move
            return self.reshaped(operand.name, target), target
        results = [Tensor(target, operand.dtype)]
        return self.emit("Transpose", [operand.name], results, perm=order)[0], target

    def full(self, operand: Operand, perm: Perm) -> str:
        """Returns the tensor of a whole operand stored in the order `perm`."""
        name, have = self.stored(operand, perm)
        want = tuple(operand.shape[axis] for axis in perm)
        if have == want:
            return name
        shape = self._expansion(have, want)
        return self.emit("Expand", [name, shape], [Tensor(want, operand.dtype)])[0]

    def value(self, operand: Operand) -> Value:
        """Returns an operand as a tensor, with nothing left to be repeated if it was a constant."""
        if isinstance(operand, Value):
            return operand
        perm = identity(len(operand.shape))
        return Value(self.full(operand, perm), operand.shape, operand.dtype, perm, operand.shape)

    def make(self, name: str, shape: Shape, dtype: Any) -> Value:
        """Returns a tensor stored in logical order as a value."""
        return Value(name, shape, np.dtype(dtype), identity(len(shape)), shape)

    def reshaped(self, name: str, target: Shape) -> str:
        """Returns the tensor with another shape and the same order of numbers."""
        node = self.producer(name)
        # Reshapes never reorder, so of two in a row the first one is superfluous; where the second
        # leads back, so is the second.
        if node is not None and node.op == "Reshape":
            name = node.inputs[0]
        have = self.shape_of(name)
        if have == target:
            return name
        # -1 takes what is left, so one length may be unknown, and it may be a product with the
        # batch, such as rois of all images in one axis. 0 would copy the length at the same index
        # of the input.
        numbers = [-1 if not is_static((dim,)) else int(dim) for dim in target]
        if numbers.count(-1) > 1:
            raise ExportError(f"cannot reshape {have} to {target}: two unknown lengths")
        results = [Tensor(target, self._dtype_of(name))]
        return self.emit("Reshape", [name, self.integers(*numbers)], results)[0]

    def batch_size(self) -> str:
        """Returns i64[1], the batch size while the graph runs."""
        source = self.inputs[0]
        rank = len(self.tensors[source].stored)
        # From the input, whose first axis is the batch in every layout; any other tensor would do,
        # but this one is there from the start and the nodes are shared.
        shape = self.emit("Shape", [source], [Tensor((rank,), np.dtype(np.int64))])[0]
        bounds = [self.integers(0), self.integers(1), self.integers(0)]
        return self.emit("Slice", [shape, *bounds], [Tensor((1,), np.dtype(np.int64))])[0]

    def batch_index(self, rank: int, axis: int = 0) -> str:
        """Returns f32, the index of the image along `axis`, length 1 along all others."""
        batch = self.tensors[self.inputs[0]].stored[0]
        stored = tuple(batch if i == axis else 1 for i in range(rank))
        if is_static((batch,)):
            return self.constant(np.arange(batch, dtype=np.float32).reshape(stored))
        # Ones and an exclusive CumSum instead of Range, whose limit would be a tensor: TensorRT's
        # table has no Range.
        one = np.ones(1, np.float32)
        flat = [Tensor((batch,), np.dtype(np.float32))]
        ones = self.emit("ConstantOfShape", [self.batch_size()], flat, value=one)[0]
        zero = self.constant(np.asarray(0, np.int64))
        index = self.emit("CumSum", [ones, zero], flat, exclusive=1)[0]
        return self.reshaped(index, stored)

    def to_model(self, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """Returns the graph as an ONNX model; the batch axis is called `batch` where it is free."""
        nodes = [
            helper.make_node(
                node.op,
                node.inputs,
                node.outputs,
                # ONNX Runtime and TensorRT report nodes by name: this way their messages name the
                # layer.
                name=node.outputs[0],
                **{k: _attribute(v) for k, v in node.attributes.items()},
            )
            for node in self.nodes
        ]
        initializers = [numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        graph = helper.make_graph(
            nodes,
            name,
            [self.describe(n) for n in self.inputs],
            [self.describe(n) for n in self.outputs],
            initializers,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="rcnn-jax",
        )
        helper.set_model_props(model, metadata)
        return model

    def describe(self, name: str) -> onnx.ValueInfoProto:
        """Returns the type of a tensor as ONNX writes it."""
        tensor = self.tensors[name]
        dims = [int(d) if is_static((d,)) else str(d) for d in tensor.stored]
        # Only inputs and outputs come here. jax writes the dimension as an expression; `batch` is
        # what optimisation profiles and users look for.
        dims = ["batch" if i == 0 and isinstance(d, str) else d for i, d in enumerate(dims)]
        kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        return helper.make_tensor_value_info(name, kind, dims)

    def _add(self, node: Node, results: Sequence[Tensor]) -> None:
        self.nodes.append(node)
        for output, tensor in zip(node.outputs, results, strict=True):
            self.tensors[output] = tensor
            self._producers[output] = node

    def shape_of(self, name: str) -> Shape:
        """Returns the shape of a tensor or constant as stored."""
        if name in self.constants:
            return tuple(self.constants[name].shape)
        return self.tensors[name].stored

    def _dtype_of(self, name: str) -> np.dtype:
        return self.constants[name].dtype if name in self.constants else self.tensors[name].dtype

    def _expansion(self, have: Shape, want: Shape) -> str:
        """Returns the shape input of an Expand; 1 keeps a length."""
        target = tuple(1 if a == b else b for a, b in zip(have, want, strict=True))
        if is_static(target):
            return self.integers(*target)
        # Of all lengths of a detector only the batch is known no earlier than at run time:
        # proposals and detections are padded to fixed counts.
        batch = self.tensors[self.inputs[0]].stored[0]
        parts = []
        for dim in target:
            if not is_static((dim,)) and dim != batch:
                raise ExportError(f"cannot repeat {have} to {want}")
            parts.append(self.integers(dim) if is_static((dim,)) else self.batch_size())
        results = [Tensor((len(target),), np.dtype(np.int64))]
        return self.emit("Concat", parts, results, axis=0)[0]

    def _unique(self, base: str, *, exact: bool = False) -> str:
        name, count = base, 1
        while name in self._taken:
            if exact:
                raise ExportError(f"two tensors are called {base}")
            name, count = f"{base}_{count}", count + 1
        self._taken.add(name)
        return name


def _is_one(dim: Any) -> bool:
    return is_static((dim,)) and int(dim) == 1


def _hashable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return tuple(value) if isinstance(value, list | tuple) else value


def _attribute(value: Any) -> Any:
    return numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
