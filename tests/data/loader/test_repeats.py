import numpy as np
import pytest

from rcnn_jax.data.loader import plan
from rcnn_jax.data.loader.pipeline import batches_per_epoch
from rcnn_jax.data.loader.repeats import ONE, describe, expected_draws, repeat_factors
from tests.data.loader.test_batching import Memory

BOX = [0, 0, 8, 8]
A, B = (64, 96), (96, 64)


def source(classes, crowd=None):
    """Images that hold objects of these classes."""
    return Memory([(16, 16)] * len(classes), [[BOX] * len(c) for c in classes], classes, crowd)


def test_factors_are_those_of_the_paper():
    # 16 images: class 0 in all but one, class 1 in four, class 2 in one together with class 1.
    data = source([[0]] * 11 + [[0, 1]] * 3 + [[0, 1, 1, 2], []])
    factors = repeat_factors(data, 0.5)
    expected = [1.0] * 11 + [2**0.5] * 3 + [8**0.5] + [1.0]
    np.testing.assert_allclose(factors / ONE, expected, atol=1e-5)


def test_nothing_repeats_where_every_class_is_frequent_or_the_threshold_is_off():
    data = source([[0], [0, 1], [1]])
    assert repeat_factors(data, 0.0) is None
    assert repeat_factors(data, 0.6) is None
    assert repeat_factors(source([[], []]), 1.0) is None


def test_crowds_do_not_make_a_class_frequent():
    data = source([[0], [1], [1], [1]], crowd=[[False], [True], [True], [False]])
    factors = repeat_factors(data, 1.0) / ONE
    np.testing.assert_allclose(factors, [2, 1, 1, 2], atol=1e-4)


def test_an_epoch_grows_by_the_mean_factor():
    data = source([[0]] * 7 + [[1]])
    factors = repeat_factors(data, 0.5)
    assert expected_draws(factors, 8) == 9 and expected_draws(None, 8) == 8
    assert batches_per_epoch(data, 3, factors) == 3 == batches_per_epoch(data, 3)
    assert batches_per_epoch(data, 1, factors) == 9
    assert describe(factors) == (
        "repeat_factor_threshold: 1 of 8 images are drawn more than once an epoch, at most 2.0 times; "
        "an epoch has 9 images"
    )


@pytest.mark.parametrize("canvases", [[A] * 9, [A, B, B, A, A, A, B, A, A]])
@pytest.mark.parametrize("batch", [1, 4, 20])
def test_any_batch_equals_the_replayed_queues(canvases, batch):
    factors = np.rint(np.array([1, 1, 1.5, 1, 2.7, 1, 1, 1, 3.0]) * ONE).astype(np.int64)
    steps = plan.TrainingPlan(canvases, 5, batch, factors)
    phases = plan.generator(5, plan.REPEAT, 0).integers(ONE, size=9)
    queues = {canvas: [] for canvas in canvases}
    step = 0
    for epoch in range(30):
        pool = []
        for record in range(9):
            before, after = (
                (e * factors[record] + phases[record]) // ONE for e in (epoch, epoch + 1)
            )
            pool += [(record, number) for number in range(before, after)]
        for index in plan.generator(5, plan.SHUFFLE, epoch).permutation(len(pool)).tolist():
            queue = queues[canvases[pool[index][0]]]
            queue.append(pool[index])
            if len(queue) == batch:
                planned = steps[step]
                members = zip(planned.records.tolist(), planned.epochs.tolist(), strict=True)
                assert list(members) == queue
                queue.clear()
                step += 1
    assert step > 30 * 13 / batch - 3


def test_the_draws_of_many_epochs_are_the_factors_to_within_one():
    factors = np.rint(np.random.default_rng(0).uniform(1, 4, 50) * ONE).astype(np.int64)
    steps = plan.TrainingPlan([A] * 50, 1, 1, factors)
    epochs = 40
    length = steps._batches_before(epochs)
    drawn = np.bincount([steps[t].records[0] for t in range(length)], minlength=50)
    assert (np.abs(drawn - epochs * factors / ONE) < 1).all()
    # Of a single epoch the mean over seeds is the factor: rounding favours nobody.
    first = [plan.TrainingPlan([A] * 50, seed, 1, factors)._drawn_before(1) for seed in range(400)]
    np.testing.assert_allclose(np.mean(first, axis=0), factors / ONE, atol=0.12)


def test_no_draw_of_a_record_comes_twice():
    factors = np.array([ONE, 3 * ONE + 7, ONE + ONE // 2], np.int64)
    steps = plan.TrainingPlan([A] * 3, 2, 1, factors)
    seen = [(steps[t].records[0], steps[t].epochs[0]) for t in range(60)]
    assert len(set(seen)) == 60


def test_a_late_batch_of_repeated_records_needs_no_replay():
    factors = np.rint(np.random.default_rng(1).uniform(1, 9, 131) * ONE).astype(np.int64)
    steps = plan.TrainingPlan([A] * 100 + [B] * 31, 0, 16, factors)
    late = steps[10_000_000]
    epoch = 10_000_000 * 16 * ONE // factors.sum()
    assert (np.abs(late.epochs - epoch * factors[late.records] / ONE) < 20).all()
