from collections import Counter

import numpy as np
import pytest

from rcnn_jax.data.loader import plan
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import GeometrySettings

A, B = (64, 96), (96, 64)
SHORT = GeometrySettings(mode="short_side", short_side=60, multiple=32)


def queues_with_carry_over(canvases, seed, batch, epochs):
    """The plan as it is described: shuffle, queue per canvas, emit full batches."""
    queues = {canvas: [] for canvas in canvases}
    for epoch in range(epochs):
        order = plan.generator(seed, plan.SHUFFLE, epoch).permutation(len(canvases))
        for record in order.tolist():
            queue = queues[canvases[record]]
            queue.append((record, epoch))
            if len(queue) == batch:
                yield canvases[record], list(queue)
                queue.clear()


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 25])
@pytest.mark.parametrize("canvases", [[A] * 10, [A, B, B, A, A, A, B, A, A, (96, 96)]])
def test_any_batch_equals_the_replayed_queues(canvases, batch):
    steps = plan.TrainingPlan(canvases, seed=5, global_batch=batch)
    count = 0
    for step, (canvas, members) in enumerate(queues_with_carry_over(canvases, 5, batch, 60)):
        planned = steps[step]
        assert planned.canvas == canvas
        assert list(zip(planned.records.tolist(), planned.epochs.tolist(), strict=True)) == members
        assert planned.valid.all()
        count += 1
    # each canvas holds back less than a batch
    assert count > 60 * 10 / batch - len(set(canvases))


def test_batches_of_one_canvas_are_slices_of_the_concatenated_epochs():
    steps = plan.TrainingPlan([A] * 5, seed=1, global_batch=3)
    stream = np.concatenate([steps[t].records for t in range(10)])
    for epoch in range(6):
        assert sorted(stream[epoch * 5 : epoch * 5 + 5]) == [0, 1, 2, 3, 4]


def test_a_dataset_smaller_than_the_batch_is_drawn_repeatedly_with_new_epochs():
    first = plan.TrainingPlan([A] * 3, seed=1, global_batch=8)[0]
    assert Counter(first.epochs.tolist()) == {0: 3, 1: 3, 2: 2}
    assert sorted(first.records[:3]) == sorted(first.records[3:6]) == [0, 1, 2]


def test_plans_depend_on_the_seed_and_on_nothing_else():
    canvases = [A] * 50
    one, again, other = (plan.TrainingPlan(canvases, seed, 8) for seed in (1, 1, 2))
    again[99]  # looking elsewhere first changes nothing
    np.testing.assert_array_equal(one[7].records, again[7].records)
    assert not np.array_equal(one[7].records, other[7].records)


def test_a_late_batch_is_found_at_once():
    steps = plan.TrainingPlan([A] * 100 + [B] * 31, seed=0, global_batch=16)
    late = steps[10_000_000]
    assert abs(late.epochs[0] - 10_000_000 * 16 // 131) <= 2


def test_an_epoch_is_a_constant_number_of_steps():
    assert plan.batches_per_epoch(205, 16) == 13
    assert plan.batches_per_epoch(208, 16) == 13
    assert plan.batches_per_epoch(3, 16) == 1


def test_empty_data_is_an_error():
    with pytest.raises(DataError, match="training data holds no image"):
        plan.TrainingPlan([], 0, 4)
    with pytest.raises(DataError, match="validation data holds no image"):
        plan.evaluation_plan([], 4)


def test_evaluation_visits_every_record_once_in_order_and_pads():
    planned = plan.evaluation_plan([A] * 5, 2)
    assert [p.records.tolist() for p in planned] == [[0, 1], [2, 3], [4, 0]]
    assert [p.valid.tolist() for p in planned] == [[True, True], [True, True], [True, False]]


def test_evaluation_groups_canvases():
    planned = plan.evaluation_plan([B, A, B, A, B], 2)
    assert [p.canvas for p in planned] == [A, B, B]
    assert [p.records[p.valid].tolist() for p in planned] == [[1, 3], [0, 2], [4]]


def test_few_buckets_hold_every_image():
    rng = np.random.default_rng(0)
    sizes = [tuple(int(n) for n in rng.integers(60, 400, 2)) for _ in range(60)]
    buckets = plan.choose_buckets(sizes, SHORT, limit=3)
    assert len(buckets) <= 3
    canvases = plan.assign_canvases(sizes, SHORT, buckets)
    assert set(canvases) <= set(buckets)


def test_buckets_are_the_canvases_that_occur_when_those_are_few():
    assert plan.choose_buckets([(60, 80), (60, 90), (80, 60)], SHORT) == (A, B)


def test_the_cheapest_union_is_joined():
    # (64, 96) and (64, 128) waste 2048 pixels together, either with (96, 64) more
    sizes = [(60, 90), (60, 120), (90, 60)]
    assert plan.choose_buckets(sizes, SHORT, limit=2) == ((96, 64), (64, 128))


def test_other_modes_have_one_canvas():
    geometry = GeometrySettings(mode="stretch", height=64, width=96)
    assert plan.choose_buckets([(1, 2), (500, 3)], geometry) == (A,)


def test_generators_of_different_purposes_epochs_and_records_differ():
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    firsts = {plan.generator(*key).integers(2**62) for key in keys}
    assert len(firsts) == 5
    assert plan.generator(-1, 0, 0).integers(9) == plan.generator(2**64 - 1, 0, 0).integers(9)
