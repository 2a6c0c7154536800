import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.box_coder import BoxCoder

EXP_ROUNDING = 5e-5  # exp of a vector lane and of a scalar differ by an ulp; boxes reach 500 pixels


def random_boxes(rng, count):
    first = rng.uniform(-50, 200, (count, 2))
    return np.concatenate([first, first + rng.uniform(2, 100, (count, 2))], axis=1).astype(
        np.float32
    )


def test_encode_of_a_hand_computed_box():
    # reference 10 x 20 centred at (5, 10); box 20 x 10 centred at (10, 5)
    deltas = BoxCoder((1.0, 2.0, 1.0, 5.0)).encode(
        np.float32([[0, 0, 10, 20]]), np.float32([[0, 0, 20, 10]])
    )
    np.testing.assert_allclose(deltas, [[0.5, -0.5, math.log(2), -5 * math.log(2)]], rtol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decode_undoes_encode(weights):
    rng = np.random.default_rng(0)
    references, boxes = random_boxes(rng, 200), random_boxes(rng, 200)
    coder = BoxCoder(weights)
    decoded = coder.decode(references, coder.encode(references, boxes))
    np.testing.assert_allclose(decoded, boxes, atol=2e-4)  # 1000 float32 ulps of a small side


def test_encode_undoes_decode():
    rng = np.random.default_rng(1)
    references = random_boxes(rng, 200)
    deltas = rng.normal(size=(200, 4)).astype(np.float32)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    np.testing.assert_allclose(
        coder.encode(references, coder.decode(references, deltas)), deltas, atol=2e-3
    )


def test_zero_deltas_give_the_reference():
    references = random_boxes(np.random.default_rng(2), 10)
    decoded = BoxCoder().decode(references, np.zeros((10, 4), np.float32))
    np.testing.assert_allclose(decoded, references, atol=1e-4)


def test_deltas_do_not_depend_on_position_and_unit():
    rng = np.random.default_rng(3)
    references, boxes = random_boxes(rng, 20), random_boxes(rng, 20)
    coder = BoxCoder()
    moved = coder.encode(references * 2 + 16, boxes * 2 + 16)
    np.testing.assert_allclose(moved, coder.encode(references, boxes), rtol=1e-4, atol=1e-5)


def test_huge_size_deltas_are_cut():
    decoded = BoxCoder().decode(np.float32([[0, 0, 16, 16]]), np.float32([[0, 0, 99, 99]]))
    np.testing.assert_allclose(decoded, [[-492, -492, 508, 508]], rtol=1e-5)  # side 16 * 1000/16


def test_padding_encodes_to_finite_numbers():
    empty, box = np.zeros((1, 4), np.float32), np.float32([[1, 2, 30, 40]])
    coder = BoxCoder()
    for references, boxes in [(empty, box), (box, empty), (empty, empty)]:
        assert np.isfinite(coder.encode(references, boxes)).all()


def test_decode_broadcasts_over_classes_and_computes_in_float32():
    rng = np.random.default_rng(4)
    references = random_boxes(rng, 6)
    deltas = rng.normal(size=(6, 3, 4)).astype(np.float32)
    coder = BoxCoder()
    decoded = coder.decode(references[:, None], deltas)
    one_class = coder.decode(references, deltas[:, 1])
    np.testing.assert_allclose(decoded[:, 1], one_class, atol=EXP_ROUNDING)
    assert coder.decode(references, jnp.zeros((6, 4), jnp.bfloat16)).dtype == jnp.float32


def test_mapped_decode_equals_the_loop():
    rng = np.random.default_rng(5)
    references = np.stack([random_boxes(rng, 7) for _ in range(3)])
    deltas = rng.normal(size=(3, 7, 4)).astype(np.float32)
    coder = BoxCoder()
    mapped = jax.vmap(coder.decode)(references, deltas)
    loop = np.stack(list(map(coder.decode, references, deltas)))
    np.testing.assert_allclose(mapped, loop, atol=EXP_ROUNDING)
