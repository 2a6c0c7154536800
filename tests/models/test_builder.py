"""What the layer factory decides for every layer: width, padding, constants, frozen norms, taps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.builder import BackboneOptions, Builder
from rcnn_jax.models.channels import ChannelPlan
from rcnn_jax.settings.network import TAO_FRCNN

IMAGE = jnp.zeros((1, 4, 4, 3))


def parameters(layer):
    return jax.eval_shape(layer.init, jax.random.key(0), IMAGE)["params"]


def test_a_pruned_width_replaces_the_published_one_for_every_kind_of_layer():
    build = Builder(channels=ChannelPlan((("a", 5), ("b", 6), ("c", 7))))
    assert parameters(build.conv("a", 64))["kernel"].shape == (1, 1, 3, 5)
    assert parameters(build.dense("b", 64))["kernel"].shape == (3, 6)
    kernel = parameters(build.transposed("c", 64, 2, jax.nn.initializers.zeros))["kernel"]
    assert 7 in kernel.shape and 64 not in kernel.shape
    assert parameters(build.conv("other", 64))["kernel"].shape[-1] == 64


@pytest.mark.parametrize(
    ("option", "argument", "biased"),
    [
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (False, True, True),
    ],
)
def test_a_layer_may_overrule_the_choice_of_the_spec_about_biases(option, argument, biased):
    build = Builder(options=BackboneOptions(use_bias=option))
    assert ("bias" in parameters(build.conv("a", 4, use_bias=argument))) == biased


def test_batch_norm_takes_the_convention_unless_layer_or_spec_say_otherwise():
    plain = Builder().batch_norm("bn")
    assert (plain.epsilon, plain.momentum) == (TAO_FRCNN.bn_eps, TAO_FRCNN.bn_momentum)
    own = Builder().batch_norm("bn", epsilon=0.5, momentum=0.25)
    assert (own.epsilon, own.momentum) == (0.5, 0.25)
    spec = Builder(options=BackboneOptions(bn_momentum=0.75)).batch_norm("bn", momentum=0.25)
    assert spec.momentum == 0.75


@pytest.mark.parametrize(
    "build",
    [
        Builder(options=BackboneOptions(freeze_bn=True)),
        Builder(is_frozen=lambda name: name == "bn"),
    ],
)
def test_a_frozen_norm_keeps_its_moving_averages_in_training(build):
    norm = build.batch_norm("bn")
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, 4, 4, 3)), jnp.float32)
    variables = norm.init(jax.random.key(0), x, train=True)
    _, changed = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    before = jax.tree.leaves(variables["batch_stats"])
    for old, new in zip(before, jax.tree.leaves(changed), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0.0, 0.0, 2.0]),
        ("sigmoid", [1 / (1 + np.exp(1.0)), 0.5, 1 / (1 + np.exp(-2.0))]),
        ("swish", [-1 / (1 + np.exp(1.0)), 0.0, 2 / (1 + np.exp(-2.0))]),
        ("tap", [-1.0, 0.0, 2.0]),
    ],
)
def test_an_activation_owns_no_variable_and_is_named_in_the_trace(name, expected):
    tap = getattr(Builder(), name)("block_1")
    x = jnp.asarray([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(tap.apply({}, x), expected, rtol=1e-6)
    assert not tap.init(jax.random.key(0), x)
    names = [
        equation.params["name"]
        for equation in jax.make_jaxpr(lambda x: tap.apply({}, x))(x).eqns
        if equation.primitive.name == "name"
    ]
    assert names == ["block_1"]


def test_leaky_relu_has_the_slope_it_is_given():
    tap = Builder().leaky_relu("a", 0.1)
    np.testing.assert_allclose(tap.apply({}, jnp.asarray([-2.0, 3.0])), [-0.2, 3.0], rtol=1e-6)
