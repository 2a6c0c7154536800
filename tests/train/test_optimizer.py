import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.settings.training import OptimizerSettings
from rcnn_jax.train.optimizer import (
    global_norm,
    join_params,
    make_optimizer,
    penalty,
    rate_factors,
    split_params,
)

PARAMS = {
    "conv1": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])},
    "bn_conv1": {"gamma": jnp.array([2.0]), "beta": jnp.array([1.0])},
}


def one_step(settings, gradients, rate=0.1, steps=1):
    trainable, frozen = split_params(PARAMS, lambda layer: False)
    optimizer = make_optimizer(settings, lambda step: jnp.float32(rate))
    state = optimizer.init(trainable)
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, trainable)
        trainable = optax.apply_updates(trainable, updates)
    return join_params(trainable, frozen)


def zeros():
    return jax.tree.map(jnp.zeros_like, split_params(PARAMS, lambda layer: False)[0])


def test_split_and_join_are_inverse_and_frozen_leaves_have_no_optimizer_state():
    trainable, frozen = split_params(PARAMS, lambda layer: layer == "conv1")
    assert set(trainable) == {"bn_conv1/gamma", "bn_conv1/beta"}
    assert jax.tree.all(jax.tree.map(jnp.array_equal, join_params(trainable, frozen), PARAMS))
    state = make_optimizer(OptimizerSettings(kind="adam"), lambda step: jnp.float32(0.1)).init(
        trainable
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sizes == [1, 1, 1, 1]  # two moments of two trainable leaves


def test_keras_l2_shrinks_kernels_only_by_twice_the_weight():
    settings = OptimizerSettings(kind="sgd", l2=0.1, l2_factor=2.0)
    after = one_step(settings, zeros(), rate=0.5)
    np.testing.assert_allclose(
        after["conv1"]["kernel"], [[1 - 0.5 * 0.2, -2 + 0.5 * 0.4]], rtol=1e-6
    )
    for layer, leaf in (("conv1", "bias"), ("bn_conv1", "gamma"), ("bn_conv1", "beta")):
        np.testing.assert_array_equal(after[layer][leaf], PARAMS[layer][leaf])


def test_mask_rcnn_penalty_includes_gamma():
    settings = OptimizerSettings(kind="sgd", l2=0.1, regularize="kernels_and_gamma")
    after = one_step(settings, zeros(), rate=1.0)
    np.testing.assert_allclose(after["bn_conv1"]["gamma"], [1.8], rtol=1e-6)
    np.testing.assert_array_equal(after["bn_conv1"]["beta"], [1.0])


def test_gradient_of_the_penalty_is_what_the_optimizer_adds():
    settings = OptimizerSettings(kind="sgd", l1=0.3, l2=0.1, l2_factor=2.0)
    trainable, _ = split_params(PARAMS, lambda layer: False)
    gradient = jax.grad(lambda leaves: penalty(leaves, settings))(trainable)
    after, _ = split_params(one_step(settings, zeros(), rate=1.0), lambda layer: False)
    for path in trainable:
        np.testing.assert_allclose(trainable[path] - gradient[path], after[path], rtol=1e-6)


def test_bias_gradients_are_doubled_where_asked():
    gradients = jax.tree.map(jnp.ones_like, zeros())
    after = one_step(OptimizerSettings(kind="sgd", bias_gradient_factor=2.0), gradients)
    np.testing.assert_allclose(after["conv1"]["bias"], [0.5 - 0.2], rtol=1e-6)
    np.testing.assert_allclose(after["bn_conv1"]["gamma"], [2.0 - 0.1], rtol=1e-6)


def test_momentum_accumulates():
    gradients = jax.tree.map(jnp.ones_like, zeros())
    after = one_step(OptimizerSettings(kind="sgd", momentum=0.9), gradients, steps=2)
    np.testing.assert_allclose(after["conv1"]["bias"], [0.5 - 0.1 - 0.19], rtol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_first_adaptive_step_has_the_size_of_the_rate(kind):
    gradients = jax.tree.map(lambda leaf: 3.0 * jnp.ones_like(leaf), zeros())
    after = one_step(OptimizerSettings(kind=kind, rho=0.0), gradients)
    np.testing.assert_allclose(after["conv1"]["bias"], [0.4], rtol=1e-5)


def test_decay_divides_the_rate_by_the_steps():
    gradients = jax.tree.map(jnp.ones_like, zeros())
    after = one_step(OptimizerSettings(kind="sgd", decay=1.0), gradients, steps=2)
    np.testing.assert_allclose(after["conv1"]["bias"], [0.5 - 0.1 - 0.05], rtol=1e-6)


def test_clipping_bounds_the_global_norm():
    gradients = jax.tree.map(lambda leaf: 1000.0 * jnp.ones_like(leaf), zeros())
    after = one_step(OptimizerSettings(kind="sgd", clip_norm=1.0), gradients, rate=1.0)
    moved = jax.tree.map(lambda a, b: a - b, after, PARAMS)
    assert float(optax.tree.norm(moved)) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("shapes", [[(3, 3, 4, 5), (7,), ()], [(6, 2)], [(4,), (9,)], []])
def test_global_norm_is_that_of_optax(shapes):
    rng = np.random.default_rng(0)
    tree = {
        str(i): jnp.asarray(rng.normal(size=shape), jnp.float32) for i, shape in enumerate(shapes)
    }
    assert float(global_norm(tree)) == pytest.approx(float(optax.tree.norm(tree)), rel=1e-6)


def test_clipping_leaves_shorter_gradients_as_they_are():
    gradients = jax.tree.map(lambda leaf: 0.1 * jnp.ones_like(leaf), zeros())
    free, clipped = (
        one_step(OptimizerSettings(kind="sgd", clip_norm=norm), gradients) for norm in (0.0, 99.0)
    )
    jax.tree.map(np.testing.assert_array_equal, free, clipped)


def test_rates_of_the_backbone_fall_with_the_distance_from_the_heads():
    blocks = {"conv1": 0, "block_1a_conv_1": 1, "block_2a_conv_1": 2, "stem": None, "l2": None}
    settings = OptimizerSettings(kind="sgd", backbone_factor=0.5, layer_decay=0.1)
    factors = rate_factors(blocks, settings, lambda layer: layer != "l2", blocks.get)
    expected = {"conv1": 0.5e-3, "block_1a_conv_1": 0.5e-2, "block_2a_conv_1": 0.5e-1}
    expected |= {"stem": 0.5e-1, "l2": 1.0}  # what no block holds counts to the last one
    assert factors == pytest.approx(expected)


def test_without_factors_every_rate_is_that_of_the_schedule():
    factors = rate_factors(["conv1"], OptimizerSettings(kind="sgd"), lambda _: True, lambda _: 0)
    assert factors == {"conv1": 1.0}


def kernels(tree):
    return {path: path.endswith("kernel") for path in tree}


def test_adamw_is_that_of_optax_by_value_without_decay_of_norms_and_biases():
    settings = OptimizerSettings(kind="adamw", beta_1=0.8, epsilon=1e-8, weight_decay=0.05)
    ours = make_optimizer(settings, lambda step: 0.1 / (1.0 + step))
    theirs = optax.adamw(
        lambda step: 0.1 / (1.0 + step), 0.8, 0.999, weight_decay=0.05, mask=kernels
    )
    trees = [split_params(PARAMS, lambda layer: False)[0]] * 2
    states = [ours.init(trees[0]), theirs.init(trees[1])]
    for turn in range(3):
        for side, optimizer in enumerate((ours, theirs)):
            # Other gradients every time: with equal ones Adam's step is the sign alone.
            gradients = {p: jnp.cos(w * (turn + 1.0)) for p, w in trees[side].items()}
            updates, states[side] = optimizer.update(gradients, states[side], trees[side])
            trees[side] = optax.apply_updates(trees[side], updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *trees)
    # Decoupled: without a gradient a kernel shrinks by rate times decay, and nothing else moves.
    after = one_step(OptimizerSettings(kind="adamw", weight_decay=0.05), zeros(), rate=0.5)
    np.testing.assert_allclose(after["conv1"]["kernel"], [[0.975, -1.95]], rtol=1e-6)
    for layer, leaf in (("conv1", "bias"), ("bn_conv1", "gamma"), ("bn_conv1", "beta")):
        np.testing.assert_array_equal(after[layer][leaf], PARAMS[layer][leaf])


def test_adamw_on_slices_of_a_weight_steps_as_on_the_whole():
    settings = OptimizerSettings(kind="adamw", weight_decay=0.05)
    optimizer = make_optimizer(settings, lambda step: 0.1)
    whole = {"conv1/kernel": jnp.arange(1.0, 9.0)}

    def stepped(tree):
        gradients = jax.tree.map(jnp.sin, tree)
        return optimizer.update(gradients, optimizer.init(tree), tree)[0]["conv1/kernel"]

    halves = [stepped({"conv1/kernel": whole["conv1/kernel"][i : i + 4]}) for i in (0, 4)]
    np.testing.assert_array_equal(jnp.concatenate(halves), stepped(whole))
