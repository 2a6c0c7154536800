import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.iou_loss import iou_loss, iou_losses, paired_iou
from tests.reference import box_losses as reference

KINDS = ("iou", "giou", "diou", "ciou")


def random_boxes(count, seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    return np.float32(np.concatenate([corner, corner + rng.uniform(1, 50, (count, 2))], axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_numpy_reference(kind):
    predictions, targets = random_boxes(200, 0), random_boxes(200, 1)
    expected = [reference.iou_loss(a, b, kind) for a, b in zip(predictions, targets, strict=True)]
    np.testing.assert_allclose(
        iou_losses(predictions, targets, kind), expected, rtol=1e-4, atol=1e-5
    )


def test_losses_of_boxes_side_by_side_by_hand():
    # Two unit squares with one unit between them: hull 3, diagonal^2 10, distance of centres 2.
    a, b = jnp.float32([0, 0, 1, 1]), jnp.float32([0, 2, 1, 3])
    assert iou_losses(a, b, "iou") == 1.0
    np.testing.assert_allclose(iou_losses(a, b, "giou"), 1 + 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(iou_losses(a, b, "diou"), 1 + 4 / 10, rtol=1e-6)
    np.testing.assert_allclose(iou_losses(a, b, "ciou"), 1 + 4 / 10, rtol=1e-6)  # one aspect ratio


@pytest.mark.parametrize("kind", KINDS)
def test_equal_boxes_have_loss_zero_and_a_finite_gradient(kind):
    boxes = random_boxes(20, 2)
    np.testing.assert_allclose(iou_losses(boxes, boxes, kind), 0.0, atol=1e-6)
    gradient = jax.grad(lambda x: iou_losses(x, boxes, kind).sum())(jnp.asarray(boxes))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", KINDS)
def test_losses_do_not_depend_on_the_size_of_the_boxes(kind):
    a, b = random_boxes(20, 3), random_boxes(20, 4)
    np.testing.assert_allclose(
        iou_losses(a, b, kind), iou_losses(a * 16, b * 16, kind), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "boxes",
    [
        ([5, 5, 5, 5], [5, 5, 5, 5]),
        ([5, 5, 5, 25], [5, 5, 5, 25]),
        ([0, 0, 0, 0], [0, 0, 10, 10]),
        ([0, 0, 10, 10], [3, 3, 3, 3]),
        ([0, 0, 0, 1e6], [0, 0, 1e6, 0]),
        ([0, 0, 1e5, 1e-5], [0, 0, 1e-5, 1e5]),
    ],
)
def test_boxes_without_area_have_a_finite_loss_and_gradient(kind, boxes):
    a, b = (jnp.float32(box) for box in boxes)
    value, gradient = jax.value_and_grad(lambda x: iou_losses(x, b, kind))(a)
    assert np.isfinite(value) and 0.0 <= value <= 3.0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", KINDS)
def test_deltas_of_any_size_have_a_finite_gradient_through_the_coder(kind):
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    reference_box, target = jnp.float32([10, 10, 30, 30]), jnp.float32([12, 8, 33, 29])
    for size in (0.0, 1.0, -100.0, 1e4):
        gradient = jax.grad(
            lambda deltas: iou_losses(coder.decode(reference_box, deltas), target, kind)
        )(jnp.full(4, size))
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ("giou", "diou", "ciou"))
def test_disjoint_boxes_are_drawn_together(kind):
    target = jnp.float32([0, 40, 10, 50])
    step = jax.grad(lambda x: iou_losses(x, target, kind))(jnp.float32([0, 0, 10, 10]))
    assert step[1] + step[3] < 0.0  # a descent moves the box to the right
    plateau = jax.grad(lambda x: iou_losses(x, target, "iou"))(jnp.float32([0, 0, 10, 10]))
    np.testing.assert_array_equal(plateau, 0.0)


def test_descent_on_every_loss_but_iou_meets_a_disjoint_target():
    target = jnp.float32([20, 30, 40, 60])
    coder = BoxCoder()
    reference_box = jnp.float32([0, 0, 10, 10])
    for kind in ("giou", "diou", "ciou"):

        def loss(deltas, kind=kind):
            return iou_losses(coder.decode(reference_box, deltas), target, kind)

        gradient = jax.grad(loss)

        def body(_, state, gradient=gradient):
            deltas, speed = state
            speed = 0.9 * speed + gradient(deltas)
            return deltas - 0.01 * speed, speed

        deltas, _ = jax.lax.fori_loop(0, 4000, body, (jnp.zeros(4), jnp.zeros(4)))
        iou, _ = paired_iou(coder.decode(reference_box, deltas), target)
        assert iou > 0.95, kind


def test_boxes_of_weight_zero_count_in_neither_part():
    a, b = random_boxes(3, 5), random_boxes(3, 6)
    total, count = iou_loss(a, b, np.float32([1.0, 0.0, 0.5]), "giou")
    each = iou_losses(a, b, "giou")
    np.testing.assert_allclose(total, each[0] + 0.5 * each[2], rtol=1e-6)
    assert count == 1.5
