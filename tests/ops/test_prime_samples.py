import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.ops.prime_samples import classification_weights, importance
from tests.reference import box_losses as reference


def random_rois(seed, rois=40):
    rng = np.random.default_rng(seed)
    gt_index = rng.integers(0, 6, rois)
    return {
        # Rounded, so that some are equal.
        "overlap": np.float32(rng.uniform(0.3, 1, rois).round(1)),
        "gt_index": gt_index,
        "classes": gt_index % 3,
        "foreground": np.arange(rois) < rng.integers(1, rois),
        "loss": np.float32(rng.uniform(0, 3, rois)),
    }


def test_importance_is_that_of_the_numpy_reference():
    for seed in range(10):
        rois = random_rois(seed)
        np.testing.assert_allclose(
            importance(**rois), reference.importance(**rois), rtol=1e-5, atol=1e-6
        )


def test_importance_by_hand():
    # One class; object 0 has rois of IoU 0.9 and 0.8, object 1 one of 0.6: ranks 0, 2, 1 of three.
    weights = importance(
        np.float32([0.9, 0.8, 0.6, 0.0]),
        np.int32([0, 0, 1, 0]),
        np.int32([0, 0, 0, 1]),
        np.array([True, True, True, False]),
        np.float32([1.0, 1.0, 1.0, 5.0]),
    )
    raw = np.float32([1.0, 1 / 9, 4 / 9])
    np.testing.assert_allclose(weights, [*(raw * 3 / raw.sum()), 1.0], rtol=1e-6)


def test_importance_keeps_the_sum_of_the_losses_of_an_image():
    rois = random_rois(3)
    total = np.sum(rois["loss"] * importance(**rois))
    np.testing.assert_allclose(total, rois["loss"].sum(), rtol=1e-5)


def test_importance_without_foreground_or_with_losses_of_zero_is_finite():
    rois = random_rois(4)
    none = np.zeros_like(rois["foreground"])
    np.testing.assert_array_equal(importance(**rois | {"foreground": none}), 1.0)
    assert np.isfinite(importance(**rois | {"loss": np.zeros_like(rois["loss"])})).all()


def test_classification_weights_are_those_of_the_numpy_reference():
    rng = np.random.default_rng(0)
    for count in (0, 1, 7):
        logits = np.float32(rng.normal(0, 2, (12, 4)))
        classes, foreground = rng.integers(0, 3, 12), np.arange(12) < count
        np.testing.assert_allclose(
            classification_weights(logits, classes, foreground),
            reference.classification_weights(logits, classes, foreground),
            rtol=1e-5,
        )


def test_classification_weights_sum_to_the_number_of_foreground_rois():
    logits = np.float32(np.random.default_rng(1).normal(size=(9, 3)))
    weights = classification_weights(logits, np.arange(9) % 2, np.arange(9) < 5)
    np.testing.assert_allclose(weights.sum(), 5.0, rtol=1e-6)
    np.testing.assert_array_equal(weights[5:], 0.0)


def test_the_score_of_a_roi_with_a_worse_box_falls():
    classes, foreground = jnp.int32([0, 0]), jnp.array([True, True])
    loss = jnp.float32([0.1, 2.0])
    gradient = jax.grad(
        lambda logits: (classification_weights(logits, classes, foreground) * loss).sum()
    )(jnp.zeros((2, 3)))
    assert gradient[0, 0] < 0.0 < gradient[1, 0]  # descent raises the first and lowers the second
