"""The loops of adaptive RoIAlign: windows, chunks and what padding may hold.

Crops and gradients over a pyramid are compared with the NumPy reference in `test_roi_align.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops import adaptive_roi_align
from rcnn_jax.ops.adaptive_roi_align import Sides, _sample_count, _window_weights, adaptive_crops

HEIGHT, WIDTH, CELLS = 12, 16, 3
TABLE = np.random.default_rng(0).normal(size=(HEIGHT * WIDTH, 2)).astype(np.float32)
ROUNDING = 1e-5


def sides(low, high, *, size, width=1):
    low, high = np.float32(low), np.float32(high)
    return Sides(
        first=jnp.zeros(len(low), jnp.int32),
        width=jnp.full(len(low), width, jnp.int32),
        low=jnp.asarray(low),
        high=jnp.asarray(high),
        size=jnp.full(len(low), size, jnp.int32),
    )


def crops_of(boxes, table=TABLE):
    """Crops f32[r s s c] of boxes (y1, x1, y2, x2) in cells of one map."""
    y1, x1, y2, x2 = np.float32(boxes).T
    down, across = sides(y1, y2, size=HEIGHT, width=WIDTH), sides(x1, x2, size=WIDTH)
    return adaptive_crops((len(TABLE), jnp.float32, CELLS), table, down, across)


def random_boxes(count):
    rng = np.random.default_rng(1)
    first = rng.uniform(-2, [HEIGHT - 2, WIDTH - 2], (count, 2))
    return np.concatenate([first, first + rng.uniform(0, 14, (count, 2))], axis=1)


@pytest.mark.parametrize(
    ("extent", "samples"), [(0.0, 0), (0.5, 1), (3.0, 1), (3.1, 2), (12.0, 4), (1e9, HEIGHT)]
)
def test_a_cell_has_as_many_samples_as_it_has_cells_of_the_map(extent, samples):
    side = sides([1.0], [1.0 + extent], size=HEIGHT)
    assert _sample_count(side, CELLS).tolist() == [samples]


@pytest.mark.parametrize(("low", "high"), [(2.0, 3.0), (1.3, 8.9), (0.5, 11.5), (3.2, 3.4)])
def test_the_weights_of_a_window_inside_the_map_add_up_to_one(low, high):
    side = sides([low], [high], size=HEIGHT)
    count = _sample_count(side, CELLS)
    parts = [
        _window_weights(side, count, CELLS, jnp.int32(offset))
        for offset in range(int(count[0]) + 1)
    ]
    total = sum(np.asarray(weight) for _, weight in parts)
    np.testing.assert_allclose(total, np.ones((1, CELLS)), atol=ROUNDING)
    indices = np.stack([np.asarray(index) for index, _ in parts])
    assert indices.min() >= 0 and indices.max() < HEIGHT


def test_the_mean_of_a_ramp_is_its_value_in_the_middle_of_a_cell():
    ramp = np.repeat(np.arange(HEIGHT, dtype=np.float32), WIDTH)[:, None]
    (crop,) = crops_of([[2.0, 3.0, 9.5, 11.0]], ramp)
    middles = 2.0 + 2.5 * (np.arange(CELLS) + 0.5) - 0.5  # half a cell: pixels are areas
    expected = np.broadcast_to(middles[:, None, None], crop.shape)
    np.testing.assert_allclose(crop, expected, atol=ROUNDING)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_crops_do_not_depend_on_the_chunk_that_a_box_falls_into(count):
    boxes = random_boxes(70)
    alone = np.concatenate([crops_of(boxes[i : i + 1]) for i in range(0, count, 10)])
    np.testing.assert_allclose(crops_of(boxes[:count])[::10], alone, atol=ROUNDING)


def test_rows_of_padding_change_nothing_whatever_they_hold():
    boxes = random_boxes(5)
    rows = [[0, 0, 0, 0], [5, 5, 1, 1], [-1e8, -1e8, 1e8, 1e8], [1e8, 1e8, 1e8, 1e8]]
    crops = crops_of(np.concatenate([boxes, rows]))
    np.testing.assert_allclose(crops[:5], crops_of(boxes), atol=ROUNDING)
    assert np.isfinite(crops).all()
    # Without extent there is no sample, and outside the map none that counts.
    assert not np.asarray(crops)[[5, 6, 8]].any()


def test_the_gradient_is_the_transpose_across_chunks():
    boxes = random_boxes(40)  # two chunks, the second padded
    rng = np.random.default_rng(2)
    cotangent = rng.normal(size=(40, CELLS, CELLS, 2)).astype(np.float32)
    direction = rng.normal(size=TABLE.shape).astype(np.float32)
    _, pull = jax.vjp(lambda table: crops_of(boxes, table), TABLE)
    (gradient,) = pull(cotangent)
    # The crops are linear in the table: <cotangent, crops(direction)> = <gradient, direction>.
    forward = np.vdot(cotangent, np.asarray(crops_of(boxes, direction)))
    assert float(np.vdot(gradient, direction)) == pytest.approx(float(forward), rel=1e-4)


def test_boxes_of_one_chunk_need_about_as_many_samples():
    small, large = [2.0, 2.0, 4.0, 4.0], [0.0, 0.0, 12.0, 16.0]
    y1, x1, y2, x2 = np.float32([large, small] * 32).T
    down, across = sides(y1, y2, size=HEIGHT), sides(x1, x2, size=WIDTH)
    order = adaptive_roi_align._order_by_samples(down, across, CELLS)
    assert set(order[:32].tolist()) == set(range(1, 64, 2))
