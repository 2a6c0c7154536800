"""Placement of Q/DQ in a graph, by TensorRT's rules.

    relu --+-- Q/DQ --+-- Conv -- Relu -- Q/DQ -- Conv --+
           |          |                                  Add -- Relu -- Q/DQ -- ...
           |          +---------- shortcut --------------+
           +-- RoiAlign            (other readers keep the float tensor)

Calibration, Q/DQ insertion, sensitivity and the calibration cache name the same tensors, because they
all call `place`. The rules:

- A layer is Conv, ConvTranspose, Gemm or MatMul with constant weights. It runs in int8 where its
  output feeds another layer; the last layer of every head, and all that follows, stays float.
- A convolution with fewer than 16 input or output channels stays float unless their number is a multiple
  of 8, and so does a product of one row or column: int8 kernels are no faster there, and the rounding of
  few channels costs most.
- Its input is quantised per tensor; nothing stands between a layer and the activation after it.
- Of a residual sum the shortcut is quantised; the other, deeper branch ends in a layer that becomes one
  kernel with the sum and its activation, so its scale is that of the result. Where neither branch ends in
  an int8 layer, both are quantised: a sum with one quantised input runs in float. Other layers that read
  a branch read the same quantised tensor.
- RoiAlign reads the float tensor.
- Tensors connected by operators that keep values (max pooling, Concat, Resize, ...) have one scale.

Source: TensorRT developer guide, "Working with Quantized Types"; TensorRT Model Optimizer, ONNX
quantisation (narrow layers); docs/reference/tensorrt.md, "Placement of Q/DQ".
"""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from rcnn_jax.export.precision.model_view import FLOAT, PASSING, ModelView, cropped_map, layer_name

ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
UNCHANGED = frozenset({
    "Concat", "Flatten", "MaxPool", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
"""Operators whose output values are among their input values."""
NARROW = 16
"""Channels from which on the rounding of a convolution pays, unless they are a multiple of 8."""
Reader = tuple[str, int]
"""(name of a node: its first output, input index)."""


@dataclass(frozen=True)
class Placement:
    """The quantised tensors and layers of a graph.

    Attributes:
      layers: names of the int8 layers, in the order of computation.
      readers: {tensor: inputs that read its quantised form}, in the order of computation.
      tied: groups of tensors with one scale.
    """

    layers: tuple[str, ...]
    readers: dict[str, tuple[Reader, ...]]
    tied: tuple[frozenset[str], ...]


def place(view: ModelView, keep: frozenset[str] = frozenset()) -> Placement:
    """Returns the placement of Q/DQ in a float graph.

    Args:
      view: of the FP32 graph.
      keep: layers to leave in float, by their output tensors.
    """
    layers = [node for node in view.model.graph.node if _can_be_quantised(view, node)]
    feeding = _feeding(view, layers)
    # A narrow layer is no int8 layer, but what feeds it is not the end of a head.
    chosen = [
        node
        for node in layers
        if node.output[0] in feeding and layer_name(node) not in keep and not _is_narrow(view, node)
    ]
    readers: dict[str, list[Reader]] = {}
    for node in chosen:
        readers.setdefault(node.input[0], []).append((layer_name(node), 0))
    names = {layer_name(node) for node in chosen}
    # Residual sums after the layers: whether the shortcut is quantised depends on who reads the
    # sum.
    depths = _depths(view)
    for node in view.model.graph.node:
        if not is_sum(view, node):
            continue
        end = _fused_end(view, node, depths)
        # A layer that is kept in float takes its sum with it: another keep-list must not ask for the
        # scale of a tensor that the calibration has not seen.
        if end is not None and node.input[end] in keep:
            continue
        # Only where the sum or its activation is quantised: otherwise nothing of it runs in int8.
        if _results(view, node).intersection(readers):
            for index, tensor in enumerate(node.input):
                if index != end or tensor not in names:
                    readers.setdefault(tensor, []).append((node.output[0], index))
    return Placement(
        layers=tuple(layer_name(node) for node in chosen),
        readers={tensor: tuple(inputs) for tensor, inputs in readers.items()},
        tied=_tied(view, readers),
    )


def tied_scales(placement: Placement, scales: dict[str, float]) -> dict[str, float]:
    """Returns the scale of every quantised tensor; tied ones have the largest of their group."""
    chosen = {tensor: scales[tensor] for tensor in placement.readers}
    for group in placement.tied:
        # The largest, so that nothing is clipped that one of them calibrated as in range.
        largest = max(chosen[tensor] for tensor in group)
        chosen.update(dict.fromkeys(group, largest))
    return chosen


def channel_axis(node: onnx.NodeProto) -> int:
    """Returns the axis of a layer's weights that counts its output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if _attribute(node, "transB", 0) else 1
    return 1  # ConvTranspose [in out k k], MatMul [in out]


def _can_be_quantised(view: ModelView, node: onnx.NodeProto) -> bool:
    if not view.is_layer(node) or node.input[1] not in view.constants:
        return False
    weight = view.constants[node.input[1]]
    # Grouped and stacked weights have no single axis of output channels for the scales; a transposed
    # first factor (transA) is no layer of a detector.
    grouped = node.op_type == "ConvTranspose" and _attribute(node, "group", 1) != 1
    transposed = node.op_type == "Gemm" and _attribute(node, "transA", 0)
    stacked = node.op_type == "MatMul" and len(weight.dims) != 2
    return weight.data_type == FLOAT and not (grouped or transposed or stacked)


def _is_narrow(view: ModelView, node: onnx.NodeProto) -> bool:
    """Returns whether int8 does not pay for a layer."""
    weight = view.constants[node.input[1]]
    if node.op_type in ("Gemm", "MatMul"):
        return min(weight.dims) == 1
    own, per_group = weight.dims[:2]  # Conv [out in/g k k], ConvTranspose [in out/g k k]
    widths = (own, per_group * _attribute(node, "group", 1))
    return any(width < NARROW and width % 8 for width in widths)


def is_sum(view: ModelView, node: onnx.NodeProto) -> bool:
    """Returns whether the node adds two activations."""
    return node.op_type == "Add" and not any(name in view.constants for name in node.input)


def _feeding(view: ModelView, layers: list[onnx.NodeProto]) -> set[str]:
    """Returns the tensors that reach a layer through sums, activations and crops."""
    feeding: set[str] = set()
    waiting = [node.input[0] for node in layers]
    while waiting:
        tensor = waiting.pop()
        if tensor in feeding or tensor in view.constants or not tensor:
            continue
        feeding.add(tensor)
        node = view.producers.get(tensor)
        if node is None:
            continue
        feature = cropped_map(node)
        if feature is not None:
            waiting.append(feature)  # boxes are no features
        elif node.op_type in PASSING:
            waiting.extend(n for n in node.input if view.types.get(n, FLOAT) == FLOAT)
    return feeding


def _depths(view: ModelView) -> dict[str, int]:
    """Returns {tensor: largest number of layers between it and the input}."""
    depths: dict[str, int] = {}
    for node in view.model.graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0)
        depths.update(dict.fromkeys(node.output, depth + view.is_layer(node)))
    return depths


def _fused_end(view: ModelView, node: onnx.NodeProto, depths: dict[str, int]) -> int | None:
    """Returns the input of a residual sum whose layer fuses with the sum, or None.

    Independent of the layers kept in float: keeping more never needs the scale of a new tensor.
    """
    ends = [
        index
        for index, name in enumerate(node.input)
        if (maker := view.producers.get(name)) is not None
        and view.is_layer(maker)
        and len(_real_consumers(view, name)) == 1
    ]
    # Both branches may end in a layer (a projection shortcut). The deeper one fuses, as TensorRT
    # does it.
    return max(ends, key=lambda index: depths[node.input[index]], default=None)


def _real_consumers(view: ModelView, name: str) -> list[onnx.NodeProto]:
    """Returns the readers of a tensor, without Identity nodes, which only name graph outputs."""
    return [node for node, _ in view.consumers[name] if node.op_type != "Identity"]


def _results(view: ModelView, node: onnx.NodeProto) -> set[str]:
    """Returns the result of a sum and of the activation that follows it."""
    after = [n for n in _real_consumers(view, node.output[0]) if n.op_type in ACTIVATIONS]
    return {node.output[0], *(n.output[0] for n in after)}


def _tied(view: ModelView, tensors: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Returns the groups of quantised tensors that are connected by UNCHANGED operators."""
    quantised = set(tensors)
    groups: list[set[str]] = []
    for node in view.model.graph.node:
        if node.op_type not in UNCHANGED:
            continue
        # Further inputs are shapes, sizes and scales; of a Concat all are data.
        sources = node.input if node.op_type == "Concat" else node.input[:1]
        group = quantised.intersection((*sources, *node.output))
        if len(group) < 2:
            continue
        # Merged one by one: a tensor in two groups makes them one, through any chain of
        # operators.
        near = [other for other in groups if other & group]
        groups = [other for other in groups if not other & group]
        groups.append(group.union(*near))
    return tuple(frozenset(group) for group in groups)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)
