"""Rewrites of the finished graph: affine maps go into the convolution before them.

    Conv -> Mul -> Add          becomes  Conv     (batch norm, biases)
    MatMul -> Add               becomes  Gemm
    x >= 0 ? x : a x            becomes  LeakyRelu
    exp(x - max) / sum          becomes  Softmax
    ReduceSum -> Div            becomes  ReduceMean

All of them leave names and shapes of what is used as they are.
"""

import itertools
from collections import Counter

import numpy as np

from rcnn_jax.export.lowering.graph import Graph, Node
from rcnn_jax.export.lowering.values import is_static


def simplify(graph: Graph) -> None:
    """Applies every rewrite once and drops what no output needs."""
    # First: a tensor read by a dead node counts as shared, and nothing shared is absorbed.
    drop_unused(graph)
    fold_affine(graph)
    find_leaky_relu(graph)
    find_softmax(graph)
    find_mean(graph)
    # After the convolutions have taken their Adds: those that are left belong to dense layers.
    make_gemm(graph)
    # Again: the nodes that the patterns replaced are still there.
    drop_unused(graph)


def name_taps(graph: Graph) -> None:
    """Names tensors after their taps; of a tap that runs several times, the later ones get a number.

    It comes last: until then equations and rewrites refer to tensors by the names of their nodes. A
    tensor that a rewrite has absorbed has no name any more.
    """
    made = [output for node in graph.nodes for output in node.outputs]
    tapped = set(made).intersection(graph.taps).difference(graph.outputs)
    taken = {*graph.inputs, *graph.constants, *made} - tapped
    names: dict[str, str] = {}
    for tensor in made:
        if tensor in tapped:
            tap = graph.taps[tensor]
            candidates = itertools.chain([tap], (f"{tap}_{i}" for i in itertools.count(1)))
            names[tensor] = next(name for name in candidates if name not in taken)
            taken.add(names[tensor])
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.outputs = [names.get(name, name) for name in node.outputs]
    graph.tensors = {names.get(name, name): tensor for name, tensor in graph.tensors.items()}


def drop_unused(graph: Graph) -> None:
    """Removes nodes and constants that no output needs."""
    needed, kept = set(graph.outputs), []
    # Nodes stand in the order of computation, so one pass from the end sees every reader first.
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = {n: a for n, a in graph.constants.items() if n in needed}


def fold_affine(graph: Graph) -> None:
    """Puts products and sums with one number per channel into the convolution before them."""
    # Behind a convolution only. In front of one a sum could not be folded where there is padding:
    # the zeros at the border do not get it.
    uses, makers = _uses(graph), {}
    kept = []
    for node in graph.nodes:
        conv = _affine_input(graph, node, makers, uses)
        if conv is None:
            kept.append(node)
            makers.update(dict.fromkeys(node.outputs, node))
            continue
        _absorb(graph, conv, node)
        del makers[conv.outputs[0]]
        # It takes the name of what it absorbed, so readers and taps stay; as the maker of that
        # tensor it also absorbs the next node (Mul, then Add).
        conv.outputs = node.outputs
        makers[conv.outputs[0]] = conv
    # A convolution keeps its position: nothing reads it before the node it absorbed.
    graph.nodes = kept


def find_leaky_relu(graph: Graph) -> None:
    """Recognises a leaky ReLU by its three nodes."""
    # As three nodes an activation would end the float16 part and keep its layer from fusing: Where
    # is neither in `model_view.PASSING` nor in `placement.ACTIVATIONS`.
    makers = _makers(graph)
    for node in graph.nodes:
        if node.op != "Where":
            continue
        condition, source, otherwise = node.inputs
        test, scaled = makers.get(condition), makers.get(otherwise)
        if test is None or scaled is None or test.op != "GreaterOrEqual" or scaled.op != "Mul":
            continue
        slopes = [graph.constants[n] for n in scaled.inputs if n in graph.constants]
        zero = graph.constants.get(test.inputs[1])
        if test.inputs[0] != source or source not in scaled.inputs or zero is None:
            continue
        if len(slopes) == 1 and slopes[0].size == 1 and zero.size == 1 and not zero.any():
            node.op, node.inputs = "LeakyRelu", [source]
            node.attributes = {"alpha": float(slopes[0].item())}


def find_softmax(graph: Graph) -> None:
    """Recognises a softmax over the last axis."""
    makers = _makers(graph)

    def behind(name: str, *ops: str) -> str | None:
        """Returns the first input of the last op, when ops made the tensor in this order."""
        for op in reversed(ops):
            node = makers.get(name)
            if node is None or node.op != op:
                return None
            name = node.inputs[0]
        return name

    for node in graph.nodes:
        powers = node.inputs[0]
        shifted = makers.get(behind(powers, "Exp") or "") if node.op == "Div" else None
        if shifted is None or shifted.op != "Sub":
            continue
        source = shifted.inputs[0]
        rank = len(graph.shape_of(source))
        largest = behind(shifted.inputs[1], "ReduceMax", "Reshape")
        total = behind(node.inputs[1], "ReduceSum", "Reshape")
        # Maximum and sum must be those of single rows: of any other axis the reshape has another
        # shape.
        thin = (*graph.shape_of(source)[:-1], 1)
        rows = all(graph.shape_of(name) == thin for name in (shifted.inputs[1], node.inputs[1]))
        if largest == source and total == powers and rows:
            node.op, node.inputs, node.attributes = "Softmax", [source], {"axis": rank - 1}


def find_mean(graph: Graph) -> None:
    """Recognises a mean as a sum divided by the count."""
    # ReduceSum would end the float16 part too, and its sum over a map can exceed 65504. ReduceMean
    # is passed through, and computed in float32 (`fp16.SINGLE_ONLY`).
    makers = _makers(graph)
    for node in graph.nodes:
        total = makers.get(node.inputs[0]) if node.op == "Div" else None
        count = graph.constants.get(node.inputs[-1])
        if total is None or total.op != "ReduceSum" or count is None or count.size != 1:
            continue
        axes = graph.constants[total.inputs[1]].tolist()
        stored = graph.shape_of(total.inputs[0])
        dims = tuple(stored[axis] for axis in axes)
        # Division of integers rounds and is no mean; a sum over the batch has no fixed count.
        number = np.issubdtype(count.dtype, np.floating) and is_static(dims)
        if number and float(np.prod(dims)) == count.item():
            node.op, node.inputs = "ReduceMean", [total.inputs[0]]
            node.attributes = {"axes": axes, "keepdims": 0}


def make_gemm(graph: Graph) -> None:
    """Joins a product of matrices with the sum after it."""
    uses, makers = _uses(graph), {}
    for node in graph.nodes:
        if node.op == "Add":
            for x, bias in (node.inputs, node.inputs[::-1]):
                product, array = makers.get(x), graph.constants.get(bias)
                if product is None or product.op != "MatMul" or array is None or uses[x] != 1:
                    continue
                weight = graph.constants.get(product.inputs[1])
                # Gemm takes matrices; MatMul, whose rows may be stacked, keeps its Add.
                if weight is None or len(graph.tensors[x].stored) != 2:
                    continue
                if array.size in (1, weight.shape[1]):
                    flat = np.broadcast_to(array.reshape(-1), weight.shape[1:])
                    graph.scope = node.outputs[0].rsplit("/", 1)[0]
                    inputs = [*product.inputs, graph.constant(flat, "bias")]
                    node.op, node.inputs, node.attributes = "Gemm", inputs, {}
                    break
        makers.update(dict.fromkeys(node.outputs, node))


def _affine_input(graph: Graph, node: Node, makers: dict, uses: Counter) -> Node | None:
    """Returns the convolution that can absorb the node."""
    if node.op not in ("Add", "Sub", "Mul", "Div"):
        return None
    names = [name for name in node.inputs if name not in graph.constants]
    # Another reader would get the absorbed form too, and c / x is not affine.
    if len(names) != 1 or uses[names[0]] != 1 or (node.op == "Div" and names[0] != node.inputs[0]):
        return None
    conv = makers.get(names[0])
    if conv is None or conv.op not in ("Conv", "ConvTranspose"):
        return None
    array = _constant_of(graph, node)
    # Feature maps are stored NCHW: axis 1 counts channels.
    per_channel = (array.ndim == 4 and array.shape[1] == array.size) or array.size == 1
    if not per_channel or any(n not in graph.constants for n in conv.inputs[1:]):
        return None
    return conv


def _constant_of(graph: Graph, node: Node) -> np.ndarray:
    return next(graph.constants[name] for name in node.inputs if name in graph.constants)


def _absorb(graph: Graph, conv: Node, node: Node) -> None:
    """Changes weights and bias of a convolution so that it does the work of the node too."""
    weight = graph.constants[conv.inputs[1]]
    # Conv stores [out in k k], ConvTranspose [in out k k].
    channels = 0 if conv.op == "Conv" else 1
    width = weight.shape[channels]
    bias = np.zeros(width) if len(conv.inputs) < 3 else graph.constants[conv.inputs[2]]
    # In float64, so that a kernel is rounded once however many nodes it absorbs at a time.
    number = np.broadcast_to(_constant_of(graph, node).reshape(-1).astype(np.float64), (width,))
    scale, shift = np.ones(width), np.zeros(width)
    if node.op == "Mul":
        scale = number
    elif node.op == "Div":
        scale = 1.0 / number
    elif node.op == "Add":
        shift = number
    elif node.inputs[0] in graph.constants:  # c - x
        scale, shift = -scale, number
    else:
        shift = -number
    scaled = weight * scale.reshape([-1 if i == channels else 1 for i in range(4)])
    _set(graph, conv, scaled.astype(weight.dtype), (bias * scale + shift).astype(weight.dtype))


def _set(graph: Graph, conv: Node, weight: np.ndarray, bias: np.ndarray) -> None:
    layer = conv.outputs[0].rsplit("/", 1)[0]
    graph.scope = layer
    conv.inputs = [conv.inputs[0], graph.constant(weight, "kernel"), graph.constant(bias, "bias")]


def _makers(graph: Graph) -> dict[str, Node]:
    return {output: node for node in graph.nodes for output in node.outputs}


def _uses(graph: Graph) -> Counter:
    counts = Counter(name for node in graph.nodes for name in node.inputs)
    counts.update(graph.outputs)
    return counts
