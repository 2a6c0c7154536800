import jax
import pytest

from rcnn_jax.models import (
    ChannelPlan,
    FasterRcnn,
    MaskRcnn,
    initial_variables,
    layer_order,
    layer_widths,
    narrowed,
    parameter_order,
)


@pytest.mark.parametrize(
    "model",
    [FasterRcnn("resnet:10", 3, 9, pool_size=2), MaskRcnn(3, 3, arch="resnet:10")],
    ids=["faster", "mask"],
)
def test_order_names_exactly_the_parameters_with_their_shapes(model):
    params = jax.eval_shape(lambda: initial_variables(model, jax.random.key(0)))["params"]
    shapes = {
        f"{layer}/{leaf}": value.shape
        for layer, leaves in params.items()
        for leaf, value in leaves.items()
    }
    order = parameter_order(model)
    assert dict(order) == shapes and len(order) == len(shapes)


def test_kernel_precedes_bias_and_gamma_precedes_beta():
    names = [name for name, _ in parameter_order(FasterRcnn("resnet:10", 3, 9))]
    assert names[:3] == ["conv1/kernel", "bn_conv1/gamma", "bn_conv1/beta"]
    assert names.index("rpn_conv1/bias") == names.index("rpn_conv1/kernel") + 1


def test_widths_leave_out_the_predictors():
    widths = layer_widths(FasterRcnn("resnet:10", 3, 9))
    assert widths["conv1"] == 64 and widths["rpn_conv1"] == 512
    assert not {"rpn_out_class", "rpn_out_regress", "dense_class_td"} & set(widths)


def test_narrowed_network_keeps_its_layers_and_its_predictors():
    model = FasterRcnn("resnet:10", 3, 9)
    narrow = narrowed(model, 1 / 8)
    before, after = dict(parameter_order(model)), dict(parameter_order(narrow))
    assert list(before) == list(after)
    assert after["conv1/kernel"] == (7, 7, 3, 8)
    assert after["rpn_out_class/kernel"] == (1, 1, 64, 9)
    assert narrow.channels == ChannelPlan.from_json(narrow.channels.to_json())


def test_same_key_gives_the_same_weights_and_another_key_others():
    model = narrowed(FasterRcnn("resnet:10", 3, 9, pool_size=2), 1 / 64)

    @jax.jit  # so that only this kernel is drawn
    def stem(seed):
        return initial_variables(model, jax.random.key(seed))["params"]["conv1"]["kernel"]

    assert (stem(7) == stem(7)).all() and (stem(7) != stem(8)).any()


def test_layers_run_in_the_order_of_the_paper_with_those_without_weights():
    order = layer_order(FasterRcnn("mobilenet_v2", 3, 4))
    assert order[:6] == (
        "conv1",
        "bn_conv1",
        "conv1_relu",
        "expanded_conv_depthwise",
        "expanded_conv_depthwise_bn",
        "expanded_conv_depthwise_relu",
    )
    at = order.index("block_2_project")
    assert order[at:][:4] == (
        "block_2_project",
        "block_2_project_bn",
        "block_2_projected_inputs",
        "block_2_add",
    )
    assert order[-3:] == ("avg_pool", "dense_class_td", "dense_regress_td")


@pytest.mark.parametrize(
    "model",
    [FasterRcnn("googlenet", 3, 4), MaskRcnn(3, 2, arch="resnet:10")],
    ids=["googlenet", "mask"],
)
def test_every_layer_with_weights_is_in_the_order_once(model):
    order = layer_order(model)
    assert len(set(order)) == len(order)
    assert {name.split("/")[0] for name, _ in parameter_order(model)} < set(order)
