import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import ExportError
from rcnn_jax.export.lowering import marked_ops
from rcnn_jax.ops.gather import gather_rows
from rcnn_jax.ops.nms import batched_nms, batched_ranked_nms
from rcnn_jax.ops.roi_align import assign_levels, roi_align, roi_align_unaligned
from tests.export.run import assert_same, graph_of, ops_of

NCHW = (0, 3, 1, 2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def hard_boxes(rng, images, side):
    """Boxes inside, across the border, outside, empty and of a whole map."""
    corner = rng.uniform(-20, side, (images, 40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, side, (images, 40, 2))], axis=2)
    special = [[0, 0, side, side], [5, 5, 5, 5], [-90, -90, -40, -40], [side, side, 999, 999]]
    special = np.broadcast_to(np.asarray(special, float), (images, 4, 4))
    return np.concatenate([boxes, special], axis=1).astype(np.float32)


@pytest.mark.parametrize("sampling_ratio", [1, 2])
def test_roi_align_of_one_level(rng, sampling_ratio):
    boxes = hard_boxes(rng, 3, 128)
    features = rng.normal(0, 1, (3, 8, 8, 5)).astype(np.float32)

    def function(x):
        given = jnp.broadcast_to(jnp.asarray(boxes[:1]), (x.shape[0], 44, 4))
        return roi_align({4: x}, given, output_size=3, sampling_ratio=sampling_ratio)

    graph = assert_same(function, features, perm=NCHW, atol=2e-5)
    assert ops_of(graph).count("RoiAlign") == 1


@pytest.mark.parametrize("op", [roi_align, roi_align_unaligned])
def test_roi_align_reads_every_box_from_its_level_only(rng, op):
    slim = np.broadcast_to([[254.5, 9, 256, 90], [7, 255.5, 80, 256], [256] * 4], (2, 3, 4))
    boxes = np.concatenate([hard_boxes(rng, 2, 256), slim], axis=1)
    boxes = np.clip(boxes, 0, 256).astype(np.float32)
    image = rng.normal(0, 1, (2, 64, 64, 3)).astype(np.float32)

    def function(x):
        levels = {2 + i: x[:, :: 2**i, :: 2**i] * (i + 1.0) for i in range(4)}
        given = jnp.asarray(boxes) + 0.0 * x[:, :47, 0, :1]  # a fixed batch may be indexed
        return op(levels, given, output_size=2, level=assign_levels(given, 2, 5, 64.0))

    graph = assert_same(function, image, perm=NCHW, free_batch=False, atol=5e-5)
    assert ops_of(graph).count("RoiAlign") == 1


def test_a_level_outside_of_those_at_hand_is_the_nearest(rng):
    boxes = rng.uniform(0, 32, (1, 6, 2))
    boxes = np.concatenate([boxes, boxes + rng.uniform(1, 32, (1, 6, 2))], axis=2)
    level = jnp.asarray([[1, 2, 3, 4, 5, 9]], jnp.int32)
    image = rng.normal(0, 1, (1, 16, 16, 3)).astype(np.float32)

    def function(x):
        levels = {2: x, 3: x[:, ::2, ::2] * 2.0}
        given = jnp.asarray(boxes, jnp.float32) + 0.0 * x[:, :6, 0, :1]
        return roi_align(levels, given, output_size=2, level=level)

    assert_same(function, image, perm=NCHW, free_batch=False, atol=5e-5)


def crowded(rng, rows, count):
    """Boxes that suppress one another, with equal scores and invalid ones among them."""
    corner = rng.uniform(0, 30, (rows, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 25, (rows, count, 2))], axis=2)
    scores = np.round(rng.uniform(0, 1, (rows, count)), 1)
    return np.concatenate(
        [boxes, scores[..., None], rng.uniform(0, 1, (rows, count, 1)) > 0.2], axis=2
    ).astype(np.float32)


def suppressed(op, keep):
    def function(x):  # [b g n 6]
        index, kept = jax.vmap(
            lambda rows: op(
                rows[..., :4], rows[..., 4], rows[..., 5] > 0.5, threshold=0.4, max_keep=keep
            )
        )(x)
        return {"index": index, "kept": kept}

    return function


@pytest.mark.parametrize("keep", [1, 6, 40])
def test_nms_keeps_the_same_boxes_with_the_same_ties(rng, keep):
    rows = np.stack([crowded(rng, 3, 40) for _ in range(2)])
    assert_same(suppressed(batched_nms, keep), rows)


@pytest.mark.parametrize("keep", [6, 40])
def test_ranked_nms_goes_by_place(rng, keep):
    rows = np.stack([crowded(rng, 2, 40) for _ in range(3)])
    order = np.argsort(-rows[..., 4], axis=-1, kind="stable")
    rows = np.take_along_axis(rows, order[..., None], axis=2)
    assert_same(suppressed(batched_ranked_nms, keep), rows)


@pytest.mark.parametrize("valid", [0.0, 1.0])
def test_nms_of_nothing_and_of_one_heap(valid):
    rows = np.zeros((2, 2, 8, 6), np.float32)
    rows[..., 2:4], rows[..., 4], rows[..., 5] = 10.0, 0.5, valid
    assert_same(suppressed(batched_nms, 4), rows)


def test_more_boxes_than_tensorrt_looks_at_are_refused(monkeypatch):
    monkeypatch.setattr(marked_ops, "NMS_LIMIT", 7)
    with pytest.raises(ExportError, match="NMS over 8 boxes that keeps 4: TensorRT looks at 7"):
        graph_of(suppressed(batched_nms, 4), (None, 2, 8, 6))


def test_rows_are_gathered_from_own_and_from_shared_tables(rng):
    table = rng.normal(0, 1, (9, 4)).astype(np.float32)
    x = rng.uniform(0, 9, (3, 5)).astype(np.float32)

    def function(x):
        index = jnp.floor(x).astype(jnp.int32)
        own = jnp.asarray(table)[None] * jnp.sum(x, axis=1)[:, None, None]
        return {
            "shared": jax.vmap(lambda i: gather_rows(jnp.asarray(table), i))(index),
            "own": jax.vmap(gather_rows)(own, index),
            "numbers": jax.vmap(gather_rows)(jnp.sum(own, axis=2), index),
        }

    ops = ops_of(assert_same(function, x))
    assert ops.count("Gather") == 1 and ops.count("GatherND") == 2
