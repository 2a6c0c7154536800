import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops import losses


def test_sigmoid_cross_entropy_of_hand_computed_logits():
    total, count = losses.sigmoid_cross_entropy(
        np.float32([0.0, math.log(3), math.log(3), 5.0]),
        np.float32([1.0, 1.0, 0.0, 0.0]),
        np.float32([1.0, 1.0, 1.0, 0.0]),
    )
    np.testing.assert_allclose(total, math.log(2) + math.log(4 / 3) + math.log(4), rtol=1e-6)
    assert count == 3.0


def test_sigmoid_cross_entropy_of_huge_logits_is_finite_with_its_gradient():
    logits, labels = jnp.float32([1e4, -1e4]), jnp.float32([0.0, 1.0])
    value, gradient = jax.value_and_grad(
        lambda x: losses.sigmoid_cross_entropy(x, labels, jnp.ones(2))[0]
    )(logits)
    assert value == 2e4
    np.testing.assert_array_equal(gradient, [1.0, -1.0])


def test_the_gradient_of_sigmoid_cross_entropy_is_probability_minus_label():
    logits, labels = jnp.float32([-2.0, 0.0, 3.0]), jnp.float32([0.0, 1.0, 1.0])
    gradient = jax.grad(lambda x: losses.sigmoid_cross_entropy(x, labels, jnp.ones(3))[0])(logits)
    np.testing.assert_allclose(gradient, jax.nn.sigmoid(logits) - labels, rtol=1e-6)


def test_softmax_cross_entropy_of_hand_computed_logits():
    logits = np.log(np.float32([[[1, 2, 1], [3, 1, 4]]]))
    total, count = losses.softmax_cross_entropy(
        logits, np.int32([[1, 2]]), np.float32([[1.0, 0.5]])
    )
    np.testing.assert_allclose(total, math.log(2) + 0.5 * math.log(2), rtol=1e-6)
    assert count == 1.5


def test_smooth_l1_is_quadratic_below_beta_and_linear_above():
    error = np.float32([[0.0, 0.05, -0.5, 1.0]])
    total, count = losses.smooth_l1(error, np.zeros_like(error), np.ones(1, np.float32), 1 / 9)
    np.testing.assert_allclose(total, 4.5 * 0.05**2 + 0.5 + 1.0 - 2 * 0.5 / 9, rtol=1e-6)
    assert count == 4.0


def test_smooth_l1_and_its_slope_are_continuous_at_beta():
    def loss(x):
        boxes = jnp.full((1, 4), x)
        return losses.smooth_l1(boxes, jnp.zeros((1, 4)), jnp.ones(1), 0.5)[0]

    np.testing.assert_allclose(loss(0.49999), loss(0.50001), rtol=1e-4)
    np.testing.assert_allclose(jax.grad(loss)(0.49999), jax.grad(loss)(0.50001), rtol=1e-4)


def test_huber_is_delta_times_smooth_l1():
    error = np.float32([[0.05, 0.1, 0.2, 3.0]])
    total, count = losses.huber(error, np.zeros_like(error), np.ones(1, np.float32), 0.125)
    small = 0.5 * (0.05**2 + 0.1**2)
    np.testing.assert_allclose(total, small + 0.125 * (0.2 + 3.0 - 0.125), rtol=1e-6)
    assert count == 4.0


def test_mask_cross_entropy_counts_cells():
    logits, targets = np.zeros((2, 3, 5, 5), np.float32), np.ones((2, 3, 5, 5), np.float32)
    weight = np.float32([[1, 0, 1], [0, 0, 0]])
    total, count = losses.mask_cross_entropy(logits, targets, weight)
    np.testing.assert_allclose(total, 50 * math.log(2), rtol=1e-6)
    assert count == 50.0


def all_losses(dtype, weight):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(6, 4)), dtype)
    labels = rng.integers(0, 2, (6, 4)).astype(np.float32)
    return [
        losses.sigmoid_cross_entropy(x, labels, np.tile(weight[:, None], 4)),
        losses.softmax_cross_entropy(x, rng.integers(0, 4, 6), weight),
        losses.smooth_l1(x, labels, weight, 1.0),
        losses.huber(x, labels, weight, 1.0),
        losses.mask_cross_entropy(x.reshape(6, 2, 2), labels.reshape(6, 2, 2), weight),
    ]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sums_and_counts_are_float32_scalars(dtype):
    for pair in all_losses(dtype, np.ones(6, np.float32)):
        for value in pair:
            assert (value.dtype, value.shape) == (jnp.float32, ())


def test_no_weight_means_sum_and_count_of_zero():
    for pair in all_losses(jnp.float32, np.zeros(6, np.float32)):
        assert pair == (0.0, 0.0)


def test_sums_over_parts_add_up():
    whole = all_losses(jnp.float32, np.ones(6, np.float32))
    first = all_losses(jnp.float32, np.float32([1, 1, 0, 0, 0, 0]))
    rest = all_losses(jnp.float32, np.float32([0, 0, 1, 1, 1, 1]))
    for i in range(len(whole)):
        for part in range(2):
            np.testing.assert_allclose(first[i][part] + rest[i][part], whole[i][part], rtol=1e-5)
