import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.marker import read_mark
from rcnn_jax.ops.roi_align import assign_levels, roi_align, roi_align_unaligned
from tests.reference import roi_align as slow

ROUNDING = 2e-5  # float32 positions of up to 100 cells, features of order 1
SIZES = {2: (24, 20), 3: (12, 10), 4: (6, 5)}
SPECIAL = [
    [10, 10, 10, 10],  # empty
    [-40, -40, 30, 30],  # leaves the map at the top left
    [80, 60, 140, 120],  # and at the bottom right
    [200, 200, 230, 230],  # is outside altogether
    [0, 0, 96, 80],  # the whole image
    [94, 78, 96, 80],  # the last half cell
]


@pytest.fixture(scope="module")
def pyramid():
    """Two images of a pyramid, boxes of all kinds and their levels."""
    rng = np.random.default_rng(0)
    features = {
        level: rng.normal(size=(2, *size, 3)).astype(np.float32) for level, size in SIZES.items()
    }
    first = rng.uniform(-10, 70, (2, 30, 2))
    random = np.concatenate([first, first + rng.uniform(0, 60, (2, 30, 2))], axis=2)
    boxes = np.concatenate([np.tile(SPECIAL, (2, 1, 1)), random], axis=1).astype(np.float32)
    level = rng.integers(2, 5, boxes.shape[:2]).astype(np.int32)
    return features, boxes, level


@pytest.mark.parametrize(
    ("output_size", "sampling_ratio"), [(3, 2), (4, 1), (2, 3), (3, 0), (7, 0)]
)
def test_crops_equal_the_slow_reading(pyramid, output_size, sampling_ratio):
    features, boxes, level = pyramid
    crops = roi_align(
        features, boxes, output_size=output_size, sampling_ratio=sampling_ratio, level=level
    )
    assert crops.shape == (2, 36, output_size, output_size, 3)
    for b, r in np.ndindex(level.shape):
        feature, stride = features[level[b, r]][b], 2 ** level[b, r]
        expected = slow.roi_align(feature, boxes[b, r], stride, output_size, sampling_ratio)
        np.testing.assert_allclose(crops[b, r], expected, atol=ROUNDING)


def test_unaligned_crops_are_those_of_an_operator_that_does_not_align(pyramid):
    features, boxes, level = pyramid
    slim = [[94.5, 10, 96, 40], [3, 79, 9, 80], [96, 80, 96, 80], [93, 77, 94.2, 78.5]]
    boxes = boxes.copy()
    boxes[:, 6:10] = slim  # at the end of the map, where stretching takes them beyond it
    boxes = np.clip(boxes, 0, [96, 80, 96, 80]).astype(np.float32)
    crops = roi_align_unaligned(features, boxes, output_size=3, level=level)
    beyond = 0
    for b, r in np.ndindex(level.shape):
        feature, stride = features[level[b, r]][b], 2 ** level[b, r]
        expected = slow.roi_align(feature, boxes[b, r], stride, 3, 2, aligned=False)
        np.testing.assert_allclose(crops[b, r], expected, atol=ROUNDING)
        beyond += bool((expected == 0).any())
    assert beyond >= 2  # crops with cells that lie outside were among them


@pytest.mark.parametrize("samples", [2, 0])
def test_the_gradient_equals_the_transposed_slow_reading(pyramid, samples):
    features, boxes, level = pyramid
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=(2, 36, 3, 3, 3)).astype(np.float32)
    read = functools.partial(roi_align, output_size=3, level=level, sampling_ratio=samples)
    _, pull = jax.vjp(lambda f: read(f, boxes), features)
    (gradient,) = pull(cotangent)
    expected = {i: np.zeros_like(feature) for i, feature in features.items()}
    for b, r in np.ndindex(level.shape):
        where = level[b, r]
        expected[where][b] += slow.roi_align_transposed(
            (*SIZES[where], 3), boxes[b, r], 2**where, cotangent[b, r], samples
        )
    for i in SIZES:
        np.testing.assert_allclose(gradient[i], expected[i], atol=10 * ROUNDING)  # sums of many


def test_the_gradient_equals_a_finite_difference(pyramid):
    features, boxes, level = pyramid
    rng = np.random.default_rng(2)
    direction = {i: rng.normal(size=f.shape).astype(np.float32) for i, f in features.items()}

    def loss(step):
        moved = jax.tree.map(lambda f, d: f + step * d, features, direction)
        return jnp.mean(roi_align(moved, boxes, output_size=2, level=level) ** 2)

    difference = (loss(0.01) - loss(-0.01)) / 0.02  # exact for a square up to rounding
    np.testing.assert_allclose(jax.grad(loss)(0.0), difference, rtol=1e-3)


def test_one_level_needs_no_level():
    feature = jnp.arange(16.0).reshape(1, 4, 4, 1)
    box = jnp.float32([[[0, 0, 32, 32]]])
    crops = roi_align({4: feature}, box, output_size=2, sampling_ratio=1)
    # stride 16: cells 0..2 of the map, samples at 0.5 and 1.5 cells, which are the cells' middles
    np.testing.assert_array_equal(crops[0, 0, :, :, 0], [[0.0, 1.0], [4.0, 5.0]])


def test_several_levels_without_level_are_refused(pyramid):
    features, boxes, _ = pyramid
    with pytest.raises(ValueError, match=r"features have levels \(2, 3, 4\): `level` must say"):
        roi_align(features, boxes, output_size=2)


def test_a_constant_map_gives_constant_crops_inside_the_image():
    box = np.float32([[[3, 5, 40, 61], [0, 0, 64, 64]]])
    crops = roi_align({3: np.full((1, 8, 8, 2), 7.0, np.float32)}, box, output_size=3)
    np.testing.assert_allclose(crops, 7.0, rtol=1e-6)


def test_levels_beyond_those_at_hand_are_cut(pyramid):
    features, boxes, _ = pyramid
    low, high = np.full(boxes.shape[:2], 0, np.int32), np.full(boxes.shape[:2], 9, np.int32)
    for given, used in [(low, 2), (high, 4)]:
        np.testing.assert_array_equal(
            roi_align(features, boxes, output_size=2, level=given),
            roi_align({used: features[used]}, boxes, output_size=2),
        )


def test_no_gradient_reaches_the_boxes(pyramid):
    features, boxes, level = pyramid
    gradient = jax.grad(lambda b: jnp.sum(roi_align(features, b, output_size=2, level=level)))(
        boxes
    )
    assert not gradient.any()


def test_sums_are_in_float32_under_bfloat16(pyramid):
    features, boxes, level = pyramid
    small = {i: jnp.asarray(f, jnp.bfloat16) for i, f in features.items()}
    rounded = {i: f.astype(jnp.float32) for i, f in small.items()}
    crops = roi_align(small, boxes, output_size=2, level=level)
    assert crops.dtype == jnp.bfloat16
    expected = roi_align(rounded, boxes, output_size=2, level=level)
    np.testing.assert_array_equal(crops, expected.astype(jnp.bfloat16))

    def loss(f):
        return jnp.sum(roi_align(f, boxes, output_size=2, level=level).astype(jnp.float32))

    gradient, in_float32 = jax.grad(loss)(small), jax.grad(loss)(rounded)
    for i in SIZES:
        assert gradient[i].dtype == jnp.bfloat16
        np.testing.assert_array_equal(gradient[i], in_float32[i].astype(jnp.bfloat16))


def test_the_exporter_sees_one_equation_with_features_boxes_and_level(pyramid):
    features, boxes, level = pyramid
    jaxpr = jax.make_jaxpr(lambda f, b, at: roi_align(f, b, output_size=7, level=at))(
        features, boxes, level
    )
    (equation,) = jaxpr.eqns
    attributes = {"levels": [2, 3, 4], "output_size": 7, "sampling_ratio": 2}
    assert read_mark(equation.params["name"]) == ("roi_align", attributes)
    shapes = [v.aval.shape for v in equation.invars]
    assert shapes == [*((2, *SIZES[i], 3) for i in (2, 3, 4)), (2, 36, 4), (2, 36)]


def test_levels_follow_the_square_root_of_the_area():
    sides = [0, 55, 56, 111, 112, 223.9, 224, 447, 448, 896, 5000]
    boxes = np.float32([[0, 0, side, side] for side in sides])
    expected = [2, 2, 2, 2, 3, 3, 4, 4, 5, 6, 6]
    np.testing.assert_array_equal(assign_levels(boxes, 2, 6), expected)
    np.testing.assert_array_equal(assign_levels(np.float32([[0, 0, 112, 448]]), 2, 6), [4])


def test_levels_equal_the_formula_away_from_the_borders():
    rng = np.random.default_rng(3)
    sides = np.exp(rng.uniform(1, 7, (300, 2))).astype(np.float32)
    boxes = np.concatenate([np.zeros((300, 2), np.float32), sides], axis=1)
    exact = 4 + np.log2(np.sqrt(np.prod(sides, axis=1, dtype=np.float64)) / 224)
    np.testing.assert_array_equal(assign_levels(boxes, 2, 6), np.clip(np.floor(exact), 2, 6))
