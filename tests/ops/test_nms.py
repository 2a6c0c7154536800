import functools

import jax
import numpy as np
import pytest

from rcnn_jax.ops import nms as nms_ops
from tests.reference import nms as slow
from tests.reference.boxes import exact_boxes

TRIALS, COUNT, KEEP = 500, 48, 20


@pytest.fixture(scope="module")
def trials():
    """Crowded boxes, scores with many ties, some boxes invalid: (boxes, scores, valid)."""
    rng = np.random.default_rng(0)
    boxes = exact_boxes(rng, (TRIALS, COUNT), size=24.0)
    copies = rng.integers(0, COUNT, (TRIALS, COUNT // 4))
    boxes[:, : COUNT // 4] = np.take_along_axis(boxes, copies[:, :, None], axis=1)
    scores = (rng.integers(0, 12, (TRIALS, COUNT)) / 12).astype(np.float32)
    return boxes, scores, rng.random((TRIALS, COUNT)) < 0.9


@pytest.fixture(scope="module", params=[0.0, 0.3, 0.5])
def expected(request, trials):
    threshold = request.param
    kept = [slow.nms(*trial, threshold, KEEP) for trial in zip(*trials, strict=True)]
    return threshold, kept


@functools.cache
def compiled(tile):
    def one(boxes, scores, valid, threshold):
        return nms_ops.nms(boxes, scores, valid, threshold=threshold, max_keep=KEEP, tile=tile)

    return jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None)))


def run(trials, threshold, tile):
    index, valid = compiled(tile)(*trials, np.float32(threshold))
    return np.asarray(index), np.asarray(valid)


@pytest.mark.parametrize("tile", [7, 16, None])
def test_nms_equals_the_slow_greedy_for_every_trial(trials, expected, tile):
    threshold, kept = expected
    index, valid = run(trials, threshold, tile)
    for row, taken, slow_row in zip(index, valid, kept, strict=True):
        assert row[taken].tolist() == slow_row


def test_kept_boxes_come_first_and_the_rest_is_index_zero(trials):
    index, valid = run(trials, 0.0, 16)
    assert not valid.all()
    assert (np.diff(valid.astype(int), axis=1) <= 0).all()
    assert (index[~valid] == 0).all()


def kept_of(boxes, scores, valid, threshold):
    """Returns the kept indices of up to three boxes, padded to one compiled shape."""
    missing = 3 - len(boxes)
    index, taken = KEEP_SEVEN(
        np.pad(np.float32(boxes), ((0, missing), (0, 0))),
        np.pad(np.float32(scores), (0, missing)),
        np.pad(valid, (0, missing)),
        threshold,
    )
    assert taken.shape == (7,)
    return index[taken].tolist()


KEEP_SEVEN = jax.jit(
    lambda boxes, scores, valid, threshold: nms_ops.nms(
        boxes, scores, valid, threshold=threshold, max_keep=7
    )
)


def test_an_overlap_equal_to_the_threshold_does_not_suppress():
    boxes = [[0, 0, 2, 2], [0, 0, 2, 1]]  # IoU 1/2
    assert kept_of(boxes, [0.9, 0.8], [True, True], 0.5) == [0, 1]
    assert kept_of(boxes, [0.9, 0.8], [True, True], 0.49) == [0]


def test_of_equal_boxes_and_scores_the_lower_valid_index_stays():
    assert kept_of([[0, 0, 4, 4]] * 3, [0.5] * 3, [False, True, True], 0.5) == [1]


def test_a_suppressed_box_suppresses_nothing():
    # A covers B, B covers C, A does not cover C: C stays.
    boxes = [[0, 0, 10, 10], [0, 3, 10, 13], [0, 6, 10, 16]]
    assert kept_of(boxes, [0.9, 0.8, 0.7], [True] * 3, 0.4) == [0, 2]


def test_nothing_valid_keeps_nothing():
    assert kept_of([[0, 0, 4, 4]] * 3, [1, 1, 1], [False] * 3, 0.5) == []


def test_more_places_than_boxes_stay_empty():
    assert kept_of([[0, 0, 1, 1], [5, 5, 6, 6]], [0.1, 0.2], [True, True], 0.5) == [1, 0]


def test_batched_nms_equals_the_loop(trials):
    rows = tuple(part[:6] for part in trials)
    one = jax.jit(functools.partial(nms_ops.nms, threshold=0.3, max_keep=KEEP))
    loop = [one(*row) for row in zip(*rows, strict=True)]
    index, taken = nms_ops.batched_nms(*rows, threshold=0.3, max_keep=KEEP)
    np.testing.assert_array_equal(index, np.stack([i for i, _ in loop]))
    np.testing.assert_array_equal(taken, np.stack([f for _, f in loop]))


def test_ranked_nms_equals_nms_of_sorted_boxes(trials):
    boxes, scores, valid = (part[:6] for part in trials)
    order = np.argsort(-scores, axis=1, kind="stable")
    boxes = np.take_along_axis(boxes, order[:, :, None], axis=1)
    scores, valid = (np.take_along_axis(part, order, axis=1) for part in (scores, valid))
    ranked = nms_ops.batched_ranked_nms(boxes, scores, valid, threshold=0.3, max_keep=KEEP)
    plain = nms_ops.batched_nms(boxes, scores, valid, threshold=0.3, max_keep=KEEP)
    jax.tree.map(np.testing.assert_array_equal, ranked, plain)


@pytest.mark.parametrize(
    ("op", "name"), [(nms_ops.batched_nms, "nms"), (nms_ops.batched_ranked_nms, "ranked_nms")]
)
def test_the_exporter_sees_one_equation_with_its_numbers(trials, op, name):
    jaxpr = jax.make_jaxpr(
        jax.vmap(lambda *rows: op(*rows, threshold=0.5, max_keep=3)),
    )(*(part[:6].reshape(2, 3, *part.shape[1:]) for part in trials))
    (equation,) = jaxpr.eqns
    assert equation.params["name"] == f'rcnn.{name}{{"max_keep": 3, "threshold": 0.5}}'
    assert [v.aval.shape for v in equation.invars] == [(2, 3, 48, 4), (2, 3, 48), (2, 3, 48)]


def test_the_best_over_rows_are_sorted_and_name_their_row():
    boxes = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    scores = np.float32([[0.2, 0.9, 0.5], [0.5, 0.1, 0.8]])
    index, kept = np.int32([[1, 2], [2, 0]]), np.array([[True, True], [True, True]])
    best_boxes, best, row, valid = nms_ops.best_over_rows(boxes, scores, index, kept, 5)
    np.testing.assert_array_equal(best, np.float32([0.9, 0.8, 0.5, 0.5, 0]))
    np.testing.assert_array_equal(row[:4], [0, 1, 0, 1])  # of equal scores the first row first
    np.testing.assert_array_equal(valid, [True] * 4 + [False])
    np.testing.assert_array_equal(
        best_boxes[:4], [boxes[0, 1], boxes[1, 2], boxes[0, 2], boxes[1, 0]]
    )
