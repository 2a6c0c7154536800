import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from rcnn_jax.models import BackboneOptions, FasterRcnn, initial_variables, narrowed
from rcnn_jax.settings.network import TORCHVISION
from rcnn_jax.structures import BoxOutputs, RpnOutputs
from tests.models.tiny import random_variables


@pytest.fixture(scope="module")
def model():
    return narrowed(FasterRcnn("resnet:10", num_classes=3, anchors_per_cell=9, pool_size=2), 1 / 16)


@pytest.fixture(scope="module")
def variables(model):
    return random_variables(model)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 64, 48, 3))


def test_layers_lie_flat_under_the_names_of_the_original(variables):
    params = variables["params"]
    assert {"conv1", "bn_conv1", "block_1a_conv_1", "block_4a_bn_shortcut"} <= set(params)
    heads = {"rpn_conv1", "rpn_out_class", "rpn_out_regress", "dense_class_td", "dense_regress_td"}
    assert heads <= set(params)
    assert all(
        isinstance(leaf, jax.Array) for leaves in params.values() for leaf in leaves.values()
    )
    assert set(variables) == {"params", "batch_stats"}


def test_every_stage_has_the_documented_shapes(model, variables, images):
    features = model.apply(variables, images, False, method=model.extract)
    assert model.levels == tuple(features) == (4,)
    assert features[4].shape == (2, 4, 3, 16)
    rpn = model.apply(variables, features, method=model.rpn)
    assert isinstance(rpn, RpnOutputs)
    assert rpn.objectness[4].shape == (2, 4, 3, 9) and rpn.deltas[4].shape == (2, 4, 3, 9, 4)
    crops = jnp.ones((2, 5, model.crop_size, model.crop_size, 16))
    boxes = model.apply(variables, crops, False, method=model.classify)
    assert isinstance(boxes, BoxOutputs)
    assert boxes.logits.shape == (2, 5, 4) and boxes.deltas.shape == (2, 5, 3, 4)


def test_anchor_and_class_are_the_slow_axes_of_deltas(model, variables):
    params = dict(variables["params"])
    for name, count in (("rpn_out_regress", 36), ("dense_regress_td", 12)):
        params[name] = {
            "kernel": jnp.zeros_like(params[name]["kernel"]),
            "bias": jnp.arange(float(count)),
        }
    bound = model.bind({**variables, "params": params})
    rpn = bound.rpn({4: jnp.ones((1, 1, 1, 16))})
    np.testing.assert_array_equal(rpn.deltas[4][0, 0, 0], np.arange(36).reshape(9, 4))
    boxes = bound.classify(jnp.ones((1, 1, 2, 2, 16)), False)
    np.testing.assert_array_equal(boxes.deltas[0, 0], np.arange(12).reshape(3, 4))


def test_rois_do_not_influence_each_other_in_evaluation(model, variables):
    crops = jax.random.normal(jax.random.key(3), (2, 3, 2, 2, 16))
    together = model.apply(variables, crops, False, method=model.classify)
    alone = model.apply(variables, crops[1:, 2:], False, method=model.classify)
    np.testing.assert_allclose(together.logits[1, 2], alone.logits[0, 0], atol=1e-5)


def test_stages_run_inside_one_function_over_the_bound_model(model, variables, images):
    def forward(bound, images):
        return bound.rpn(bound.extract(images, True))

    apply = nn.apply(forward, model, mutable=["batch_stats"])
    rpn, updated = apply(variables, images)
    old, new = variables["batch_stats"], updated["batch_stats"]
    assert (old["bn_conv1"]["moving_mean"] == 0).all()
    assert (new["bn_conv1"]["moving_mean"] != 0).any()
    np.testing.assert_array_equal(
        new["block_4a_bn_1"]["moving_mean"], old["block_4a_bn_1"]["moving_mean"]
    )
    assert np.isfinite(rpn.objectness[4]).all()


def test_frozen_batch_norm_trains_like_it_evaluates(model, variables, images):
    frozen = model.clone(options=BackboneOptions(freeze_bn=True))
    training = frozen.apply(variables, images, True, method=frozen.extract)
    evaluation = frozen.apply(variables, images, False, method=frozen.extract)
    # In a step frozen norms are folded into the kernels, which rounds differently.
    np.testing.assert_allclose(training[4], evaluation[4], rtol=1e-4, atol=1e-5)


def test_variables_do_not_depend_on_the_size_of_the_image(model, variables):
    other = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((3, 128, 160, 3)), jnp.zeros((3, 7, 4))
    )
    assert jax.tree.map(jnp.shape, other) == jax.tree.map(jnp.shape, variables)


def test_grey_images_have_one_input_channel(model):
    shapes = jax.eval_shape(lambda: initial_variables(model, jax.random.key(0), image_channels=1))
    assert shapes["params"]["conv1"]["kernel"].shape == (7, 7, 1, 4)


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32(model, variables, images):
    half = model.clone(dtype=jnp.bfloat16)
    features = half.apply(variables, images, False, method=half.extract)
    assert features[4].dtype == jnp.bfloat16
    rpn = half.apply(variables, features, method=half.rpn)
    assert rpn.objectness[4].dtype == rpn.deltas[4].dtype == jnp.float32
    full = model.apply(variables, images, False, method=model.extract)
    error = np.abs(np.asarray(features[4], np.float32) - full[4]).max()
    # bfloat16 keeps 8 bits: a few tenths of a per cent per layer.
    assert error < 0.05 * float(jnp.abs(full[4]).max())


def test_fresh_residual_network_keeps_the_scale_of_activations_in_training():
    # Without batch norm's help at the end of a unit every unit would double the variance.
    model = narrowed(FasterRcnn("resnet:50", 3, 9, pool_size=2), 1 / 16)
    variables = random_variables(model)
    images = 60 * jax.random.normal(jax.random.key(1), (2, 64, 64, 3))

    @jax.jit
    def run(variables, images):
        features, _ = model.apply(
            variables, images, True, method=model.extract, mutable=["batch_stats"]
        )
        return features, model.apply(variables, features, method=model.rpn)

    features, rpn = run(variables, images)
    assert 0.3 < float(features[4].std()) < 3.0
    assert float(jnp.abs(rpn.objectness[4]).max()) < 20.0
    assert float(jnp.abs(rpn.deltas[4]).max()) < 20.0


def test_stride_of_a_bottleneck_sits_where_the_convention_says():
    first = FasterRcnn("resnet:50", 3, 9)
    middle = first.clone(convention=TORCHVISION)
    images, boxes = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 1, 4))

    def equations(jaxpr):
        for equation in jaxpr.eqns:
            yield equation
            for inner in core.jaxprs_in_params(equation.params):
                yield from equations(inner)

    def strided(model):
        traced = jax.make_jaxpr(lambda k: model.init(k, images, boxes))(jax.random.key(0))
        return [
            equation.invars[1].aval.shape[:2]
            for equation in equations(traced.jaxpr)
            if equation.primitive.name == "conv_general_dilated"
            and equation.params["window_strides"] == (2, 2)
        ]

    one, three = (1, 1), (3, 3)
    # the stem, then conv_1 (or conv_2) and the shortcut of blocks 1, 2, 3
    assert strided(first) == [(7, 7)] + 3 * [one, one]
    assert strided(middle) == [(7, 7)] + 3 * [three, one]
