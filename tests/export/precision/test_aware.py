"""Fake quantisation is the exported graph's: same places, same integers, same scales, same numbers."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from onnx import numpy_helper

from rcnn_jax.compress.qat import collection, ranges_of, rounded_kernels, rounded_variables
from rcnn_jax.errors import ExportError
from rcnn_jax.export.build import build
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.precision.aware import plan_of, rounded_graph, rounded_inputs, trained_scales
from rcnn_jax.export.precision.calibration import observe, scales_of
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import is_sum, place, tied_scales
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.verification.stages import with_stages
from rcnn_jax.models.faster_rcnn import FasterRcnn
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.models.variables import layer_order
from rcnn_jax.runtime.backend import preprocess
from rcnn_jax.runtime.onnx_runtime import open_session
from tests.export import tiny

WIDTH = 0.25  # of ResNet-10: 16 channels and more


def case(kind, *, flipped=False):
    """A tiny detector that rounds, its variables, and the int8 graph of its rounded weights.

    Flipped: every second channel of all batch norms has a negative gamma.
    """
    make = {"faster_rcnn": tiny.faster_rcnn, "mask_rcnn": tiny.mask_rcnn}[kind]
    experiment = make(width=WIDTH)
    variables = tiny.lively_variables(experiment)
    if flipped:
        variables = {**variables, "params": with_negative_gammas(variables["params"])}
    graph = rounded_graph(experiment, variables)
    x = preprocess(tiny.images(2), graph.header)
    scales = scales_of(observe(graph.model, [x]), "max")
    scales = tied_scales(place(ModelView(graph.model)), scales)
    ranges = {site: scales[tensor] for site, tensor in graph.tensors.items()}
    variables = {**variables, "quant": collection(graph.plan, ranges)}
    built = build(experiment, rounded_variables(variables, graph.plan), graph.header)
    task = dataclasses.replace(experiment.task, model=experiment.task.model.clone(quant=graph.plan))
    return SimpleNamespace(
        experiment=experiment,
        quantised=SimpleNamespace(**{**vars(experiment), "task": task}),
        variables=variables,
        plan=graph.plan,
        built=built,
        scales=trained_scales(built, variables, graph.plan),
        x=x,
    )


def with_negative_gammas(params):
    """Parameters whose batch norms flip the sign of every second channel."""
    return {
        layer: {**leaves, "gamma": leaves["gamma"] * np.resize((1, -1), leaves["gamma"].shape)}
        if "gamma" in leaves
        else leaves
        for layer, leaves in params.items()
    }


@pytest.fixture(scope="module", params=["faster_rcnn", "mask_rcnn"])
def detector(request):
    return case(request.param)


def initializers(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def folded(detector, layer):
    """Factor of every output channel that batch norm puts into a kernel; 1 where none follows."""
    params, statistics = detector.variables["params"], detector.variables["batch_stats"]
    order = layer_order(detector.experiment.task.model)
    follower = order[order.index(layer) + 1] if layer in order[:-1] else ""
    if follower not in statistics:
        return np.ones(params[layer]["kernel"].shape[-1], np.float32)
    epsilon = detector.experiment.task.model.convention.bn_eps
    variance = statistics[follower]["moving_variance"]
    return np.asarray(params[follower]["gamma"] / np.sqrt(variance + np.float32(epsilon)))


def test_every_integer_of_the_weights_is_that_of_jax(detector):
    assert (compared_integers(detector) == 1).all()


def test_integers_flip_with_the_sign_of_gamma_and_scales_stay_positive():
    signs = compared_integers(case("faster_rcnn", flipped=True))
    assert 0.2 < (signs == -1).mean() < 0.5  # half of the channels that a batch norm follows


def compared_integers(detector):
    """Compares the int8 kernels of the graph with JAX's; returns the signs that batch norm folds in.

    A negative factor of a channel goes into its integers, because scales of Q/DQ are positive.
    """
    signs = []
    arrays = initializers(insert_qdq(detector.built.model, detector.scales))
    kernels = rounded_kernels(detector.variables, detector.plan)
    view, seen = ModelView(detector.built.model), set()
    for node in place(view).layers:
        layer, maker = detector.built.scopes[node], view.producers[node]
        steps = arrays[f"{maker.input[1]}/int8"]
        scale = arrays[f"{maker.input[1]}/scale"]
        wanted = kernels[layer].steps
        if maker.op_type == "Conv":
            wanted = wanted.transpose(3, 2, 0, 1)
        elif maker.op_type == "ConvTranspose":
            wanted = wanted.transpose(2, 3, 0, 1)
        elif layer == "fc6":  # the graph flattens crops as they are stored, channels first
            side = detector.experiment.task.model.box_crop_size
            rows = wanted.reshape(side, side, -1, wanted.shape[-1]).transpose(2, 0, 1, 3)
            wanted = rows.reshape(wanted.shape)
        factor = folded(detector, layer)
        # The axis of the output channels: the first of a convolution, the second of a transposed one.
        axis = {"Conv": 0, "ConvTranspose": 1}.get(maker.op_type, wanted.ndim - 1)
        sign = np.sign(factor).astype(np.int8)
        flips = sign.reshape([-1 if side == axis else 1 for side in range(wanted.ndim)])
        np.testing.assert_array_equal(steps, wanted * flips, err_msg=layer)
        expected = kernels[layer].scale * np.abs(factor)
        np.testing.assert_allclose(scale, expected, rtol=4e-7, err_msg=layer)
        signs.append(sign)
        if (factor == 1).all():
            np.testing.assert_array_equal(scale, kernels[layer].scale, err_msg=layer)
        seen.add(layer)
    assert seen == set(kernels), "no rounded layer of JAX is missing in the graph"
    return np.concatenate(signs)


def test_every_scale_of_an_activation_is_that_of_jax(detector):
    arrays = initializers(insert_qdq(detector.built.model, detector.scales))
    ranges = ranges_of(detector.variables, detector.plan)
    sites = rounded_inputs(detector.built)
    assert sites.keys() == ranges.keys()
    for site, tensor in sites.items():
        assert arrays[f"{tensor}/scale"] == np.float32(ranges[site]), site
        assert detector.scales[tensor] == ranges[site]


def test_the_rounded_network_computes_what_the_int8_graph_computes(detector):
    """In ONNX Runtime, stage by stage; a last bit may move a value to the next step, here and there."""
    outputs = with_stages(outputs_of(detector.quantised, detector.variables, "plain"))
    images = np.transpose(detector.x, (0, 2, 3, 1))
    wanted = jax.jit(lambda batch: outputs(batch))(images)
    graph = insert_qdq(detector.built.showing, detector.scales)
    session = open_session(graph.SerializeToString(), "int8")
    names = [output.name for output in session.get_outputs()]
    stages = dict(
        zip(names, session.run(names, {session.get_inputs()[0].name: detector.x}), strict=True)
    )
    for name in ("boxes", "scores", *(n for n in names if n.startswith("stage:"))):
        exact = np.asarray(wanted[name], np.float32)
        far = np.abs(stages[name] - exact) > 1e-4 * np.abs(exact).max()
        # One value that moves to the next step moves all cells of a mask that it reaches, by little:
        # the mean below is what holds the two networks together.
        assert far.mean() < 0.2, name
        assert np.abs(stages[name] - exact).mean() < 2e-3 * np.abs(exact).max(), name


def test_ranges_that_are_not_those_of_the_graph_are_refused(detector):
    sites = dict(detector.plan.sites)
    dropped = next(iter(sites))
    other = QuantPlan.of({name: ids for name, ids in sites.items() if name != dropped})
    index = sites[dropped][0]
    with pytest.raises(ExportError, match=f"1 differ, the first is input {index} of '{dropped}'"):
        trained_scales(detector.built, detector.variables, other)


WHOLE = ("mobilenet_v2", "efficientnet", "googlenet")
"""Backbones whose narrowest layers would fall below 16 channels, where nothing is rounded."""

# A squeeze of 4, 6 and 10 channels, which no int8 kernel takes; that of later blocks is wider.
SQUEEZES = {
    f"block{block}_se_{part}"
    for block in ("2a", "2b", "3a", "3b", "4a")
    for part in ("reduce", "expand")
}


def backbone(arch):
    """An experiment of a backbone as narrow as rounding allows."""
    width = 1.0 if arch.startswith(WHOLE) else 0.5 if arch == "mobilenet_v1" else WIDTH
    return tiny.faster_rcnn(arch, width=width)


@pytest.mark.parametrize(
    ("arch", "stays"),
    [
        ("resnet:18", set()),
        ("darknet:53", set()),
        ("mobilenet_v1", set()),
        ("vgg:16", set()),
        ("mobilenet_v2", set()),
        pytest.param("googlenet", set(), marks=pytest.mark.long),
        ("resnet:50", set()),
        pytest.param("efficientnet:b0", SQUEEZES, marks=pytest.mark.long),
    ],
)
def test_no_convolution_stays_float_but_the_first_and_the_ends_of_the_heads(arch, stays):
    """Counted by layer; and both branches of every sum between int8 layers have a scale."""
    experiment = backbone(arch)
    plan = plan_of(experiment)
    variables = tiny.lively_variables(experiment)
    built = build(experiment, variables, make_header(experiment, "plain", None))
    view = ModelView(built.model)
    layers = {built.scopes[n.output[0]] for n in built.model.graph.node if view.is_layer(n)}
    heads = {"rpn_out_class", "rpn_out_regress", "dense_class_td", "dense_regress_td"}
    first = {next(built.scopes[n.output[0]] for n in built.model.graph.node if view.is_layer(n))}
    last = last_layers(built, view)
    float_layers = layers - {name for name, _ in plan.sites}
    assert stays <= float_layers <= heads | first | last | stays
    ranges = {site: 0.05 for site in rounded_inputs(built)}
    scales = trained_scales(built, {**variables, "quant": collection(plan, ranges)}, plan)
    quantised = {r for readers in place(view).readers.values() for r in readers}
    for node in sums(view, built):
        both = [name in scales for name in node.input]
        assert all(both), f"{node.output[0]}: {both}"
        made = [view.producers[name].output[0] in place(view).layers for name in node.input]
        read = [(node.output[0], index) in quantised for index in range(2)]
        assert all(np.logical_or(made, read)), f"{node.output[0]}: made {made}, read {read}"


def last_layers(built, view):
    """Layers behind which no layer but the float heads reads anything."""
    names = place(view).layers
    return {
        built.scopes[n.output[0]]
        for n in built.model.graph.node
        if view.is_layer(n) and n.output[0] not in names and "tail" in n.output[0]
    }


def sums(view, built):
    """Sums of the trunk, all of which an int8 layer reads."""
    return [n for n in built.model.graph.node if is_sum(view, n) and "trunk" in n.output[0]]


def test_the_plan_survives_json():
    plan = QuantPlan.of({"rpn": (1, 0), "conv": (0,)})
    assert plan.sites == (("conv", (0,)), ("rpn", (0, 1)))
    assert QuantPlan.from_json(plan.to_json()) == plan
    assert (plan.inputs("rpn"), plan.inputs("other")) == ((0, 1), ())


def test_a_network_without_a_plan_has_no_ranges():
    experiment = tiny.faster_rcnn(width=WIDTH)
    assert isinstance(experiment.task.model, FasterRcnn)
    shapes = jax.eval_shape(experiment.task.init, jax.random.key(0))
    assert "quant" not in shapes
