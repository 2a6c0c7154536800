"""RoiAlign and NonMaxSuppression of a finished graph in standard operators, for runtimes without them.

    export -> fp32 graph -> fp16 | int8 -> to_portable -> self-check, compare, file

TensorRT for RTX has no NonMaxSuppression and makes RoiAlign's plugin on a GPU alone; WebGPU, CoreML, QNN
and LiteRT have neither. It is the last pass: precision is placed by the operators of the ordinary graph,
so scales, calibration caches and float16 borders of both flavours are the same.

The form of every replaced node is chosen by its size and written into the header. A graph that was
exported before can be made portable too: nothing but the file is read.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering import portable_nms, portable_roi_align
from rcnn_jax.export.lowering.portable_nms import NmsForm, Suppression, suppress
from rcnn_jax.export.lowering.portable_nodes import Nodes
from rcnn_jax.export.lowering.portable_roi_align import Crops, RoiForm, align
from rcnn_jax.export.precision.model_view import crops_of
from rcnn_jax.runtime.header import HEADER_KEY, Header

REPLACED = ("NonMaxSuppression", "RoiAlign")
"""Operators that a portable graph does not have."""


@dataclass(frozen=True, kw_only=True)
class Forms:
    """Forms that replace operators; None leaves the choice to the size of each node.

    Attributes:
      nms: of NonMaxSuppression.
      roi_align: of RoiAlign.
    """

    nms: NmsForm | None = None
    roi_align: RoiForm | None = None


def is_portable(model: onnx.ModelProto) -> bool:
    """Says whether a graph has none of the replaced operators."""
    return not any(node.op_type in REPLACED for node in model.graph.node)


def to_portable(model: onnx.ModelProto, forms: Forms | None = None) -> onnx.ModelProto:
    """Returns a copy of an exported model without RoiAlign and NonMaxSuppression.

    Names of other tensors, inputs and outputs stay. A model that is portable already stays as it is.

    Beside float16 layers there is no matrix product in float32: Turing (SM75) computes none, and such
    a graph would have no other. Products and a sum take its place, at about a third more of the time of
    RoiAlign on a CPU.

    Args:
      model: of any precision.
      forms: to use; None for those that suit the sizes.

    Raises:
      ExportError: another tool has changed the graph so that its parts are not found.
    """
    if is_portable(model):
        return model
    result = onnx.ModelProto()
    # The caller still needs the graph as it was, to compare the two.
    result.CopyFrom(model)
    graph, forms = result.graph, forms or Forms()
    view = _View(result)
    # Of the whole graph: one float16 initializer says that it was lowered, and then for a GPU.
    sums = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
    # By identity: names of nodes may be empty or twice in a valid graph.
    replacements: dict[int, Nodes] = {}
    chosen: dict[str, str] = {}
    for node in graph.node:
        if node.op_type not in REPLACED:
            continue
        nodes = Nodes(f"{node.output[0]}/portable")
        if node.op_type == "RoiAlign":
            target, form = node, _replace_roi_align(nodes, view, node, forms.roi_align, sums)
        else:
            target, form = _replace_nms(nodes, view, node, forms.nms, sums)
        replacements[id(target)] = nodes
        chosen[node.output[0]] = form
    nodes, constants = [], [*graph.initializer]
    for node in graph.node:
        made = replacements.get(id(node))
        if made is not None:
            nodes += made.nodes
            constants += made.constants
        # A NonMaxSuppression has no replacement at its own place: its marks appear where the
        # ScatterND was that turned its indices into marks.
        elif node.op_type not in REPLACED:
            nodes.append(node)
    _set_nodes(graph, nodes, constants)
    _note(result, chosen)
    return result


class _View:
    """Shapes, constants and neighbours of a model."""

    def __init__(self, model: onnx.ModelProto):
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.consumers[name].append(node)
        self._model = model

    @functools.cached_property
    def _shapes(self) -> dict[str, tuple[int | None, ...]]:
        try:
            # With data propagation: without it the targets of Reshape stay unknown, and with them
            # every shape behind one.
            inferred = onnx.shape_inference.infer_shapes(self._model, data_prop=True).graph
        except onnx.shape_inference.InferenceError as error:
            raise ExportError(f"the ONNX graph contradicts itself: {error}") from error
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        return {
            value.name: tuple(
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            )
            for value in values
        }

    def shape(self, name: str, known: tuple[int, ...]) -> tuple[int | None, ...]:
        """Returns the shape of a tensor, whose axes `known` have a length."""
        dims = self._shapes.get(name, ())
        if not dims or any(axis >= len(dims) or dims[axis] is None for axis in known):
            raise ExportError(
                f"the tensor '{name}' has no known shape ({dims}): a graph is made portable as "
                "`export` wrote it"
            )
        return dims

    def array(self, name: str) -> np.ndarray:
        """Returns a constant."""
        if name not in self.constants:
            raise ExportError(
                f"'{name}' is no constant: a graph is made portable as `export` wrote it"
            )
        return numpy_helper.to_array(self.constants[name])


def _replace_nms(
    nodes: Nodes, view: _View, node: onnx.NodeProto, form: NmsForm | None, sums: bool
) -> tuple[onnx.NodeProto, NmsForm]:
    """Adds the nodes of a suppression; returns the scatter that they stand for, and the form."""
    scatters = [user for user in view.consumers[node.output[0]] if user.op_type == "ScatterND"]
    # The operator's output has as many rows as boxes are kept, which no static runtime can hold.
    # The exporter turns it into marks at once, so the marks are what is replaced.
    if len(scatters) != 1 or scatters[0].input[1] != node.output[0] or len(node.input) < 5:
        raise ExportError(
            f"NonMaxSuppression '{node.name}' does not end in one ScatterND of marks: a graph is "
            "made portable as `export` wrote it"
        )
    # The fifth is a score threshold that only keeps absent boxes out; here their score says so.
    boxes, scores, most, threshold, _ = node.input
    _, count, _ = view.shape(boxes, (1, 2))
    rows = view.shape(boxes, (1, 2))[0]
    assert count is not None
    nms = Suppression(
        boxes=boxes,
        scores=scores,
        count=count,
        most=int(view.array(most).reshape(-1)[0]),
        threshold=float(view.array(threshold).reshape(-1)[0]),
        # Proposals come sorted by TopK and get falling constants for scores: the order is that of
        # the indices, and no score need be compared.
        ranked=_is_ranked(view, scores),
    )
    chosen = form or portable_nms.choose(nms.most, count, _rows_of_image(view, node, rows))
    nodes.result(suppress(nodes, nms, chosen, sums=sums), scatters[0].output[0])
    return scatters[0], chosen


def _rows_of_image(view: _View, node: onnx.NodeProto, rows: int | None) -> int:
    """Returns how many rows an image has; with a free batch, what the scores had before a reshape."""
    source = view.producers.get(node.input[1])
    # The graph has classes as rows: [b classes n] is flattened to [b * classes 1 n].
    if source is not None and source.op_type == "Reshape":
        dims = view._shapes.get(source.input[0], ())
        if len(dims) == 3 and dims[1] is not None:
            return dims[1]
        if len(dims) == 2:
            return 1
    return rows or 1


def _is_ranked(view: _View, scores: str) -> bool:
    """Says whether scores are a constant that falls along every row, or -1 where a box is absent."""
    pending, falls = [scores], False
    # Backwards from the scores, through what moves values without changing their order.
    while pending:
        name = pending.pop()
        if name in view.constants:
            array = view.array(name)
            if array.size > 1:
                rows = array.reshape(-1, array.shape[-1])
                if not (np.diff(rows, axis=1) < 0).all():
                    return False
                falls = True
            # The other side of Where: a box that is absent, which goes last whatever its place.
            elif array.size and array.reshape(-1)[0] != -1.0:
                return False
            continue
        node = view.producers.get(name)
        if node is None:
            return False
        if node.op_type == "Where":
            pending += node.input[1:]
        elif node.op_type in ("Expand", "Identity", "Reshape"):
            pending.append(node.input[0])
        else:
            return False
    return falls


def _replace_roi_align(
    nodes: Nodes, view: _View, node: onnx.NodeProto, form: RoiForm | None, sums: bool
) -> RoiForm:
    """Adds the nodes of crops; returns the form."""
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    mode = given.get("coordinate_transformation_mode", b"half_pixel"), given.get("mode", b"avg")
    samples, size = given.get("sampling_ratio", 0), given.get("output_height", 1)
    # `half_pixel` is the default from opset 16 on. The adaptive sampling ratio 0 has a number of
    # samples that depends on the box, so no static graph.
    if mode != (b"half_pixel", b"avg") or samples < 1 or size != given.get("output_width", 1):
        raise ExportError(
            f"RoiAlign '{node.name}': found {mode}, sampling_ratio {samples}; only square averages "
            "with half-pixel centres and a fixed number of samples have a portable form"
        )
    feature, rois, image = node.input
    _, channels, height, width = view.shape(feature, (1, 2, 3))
    assert channels and height and width
    crops = Crops(
        feature=feature,
        rois=rois,
        image=image,
        shape=(channels, height, width),
        per_image=_rois_of_image(view, node),
        size=size,
        samples=samples,
        scale=float(given.get("spatial_scale", 1.0)),
    )
    chosen = form or portable_roi_align.choose(crops)
    nodes.result(align(nodes, crops, chosen, sums=sums), node.output[0], crops_of(feature))
    return chosen


def _rois_of_image(view: _View, node: onnx.NodeProto) -> int:
    """Returns how many rois an image has: the graph sorts a constant number of boxes per image."""
    name, seen = node.input[1], 0
    # The box tensor of an image is a few nodes back; the bound is for graphs with a circle.
    while seen < 64:
        dims = view._shapes.get(name, ())
        if len(dims) == 3 and dims[1] is not None:
            return dims[1]
        producer = view.producers.get(name)
        if producer is None:
            break
        # of several inputs the one that is no constant leads to the boxes
        name = next((n for n in producer.input if n not in view.constants), "")
        seen += 1
    raise ExportError(
        f"RoiAlign '{node.name}': the number of boxes of an image is not found: a graph is made "
        "portable as `export` wrote it"
    )


def _set_nodes(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]
) -> None:
    """Gives a graph its nodes and constants, without those that nothing needs."""
    # Backwards: a node is needed when a later one reads what it makes. onnx has no such pass, and
    # leaving it to the runtimes would leave NonMaxSuppression in the file.
    needed, kept = {value.name for value in graph.output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            for attribute in node.attribute:
                # Bodies of Loop and If read tensors of the graph around them by name alone.
                needed.update(name for inner in attribute.g.node for name in inner.input)
            kept.append(node)
    # copies first: what is deleted from a message must not be read any more
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    tensors = [onnx.TensorProto.FromString(t.SerializeToString()) for t in constants]
    # value_info goes too: it holds shapes of tensors that no longer exist.
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(copies)
    graph.initializer.extend(tensor for tensor in tensors if tensor.name in needed)


def _note(model: onnx.ModelProto, chosen: dict[str, str]) -> None:
    """Writes the chosen forms into the header of a model that has one."""
    for entry in model.metadata_props:
        # In the file, since whoever reports a wrong box names the file and not the flags it was
        # made with.
        if entry.key == HEADER_KEY:
            header = Header.from_metadata({HEADER_KEY: entry.value})
            assert header is not None
            named = dataclasses.replace(header, portable=chosen)
            entry.value = named.to_metadata()[HEADER_KEY]


def forms_of(names: Sequence[str]) -> Forms:
    """Returns the forms of a list of names, such as `loop`, `grid`.

    Raises:
      ValueError: a name is none of them, or two are of one operator.
    """
    nms: list[NmsForm] = [name for name in portable_nms.FORMS if name in names]
    crops: list[RoiForm] = [name for name in portable_roi_align.FORMS if name in names]
    unknown = set(names) - set(nms) - set(crops)
    if unknown or len(nms) > 1 or len(crops) > 1:
        shown = ", ".join(repr(name) for name in sorted(unknown))
        raise ValueError(shown or "two forms of one operator")
    return Forms(nms=nms[0] if nms else None, roi_align=crops[0] if crops else None)
