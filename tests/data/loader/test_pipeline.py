import subprocess
import sys
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader import pipeline, plan
from rcnn_jax.data.loader.images import read_image
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import (
    AugmentSettings,
    GeometrySettings,
    GroundTruthSettings,
    LoaderSettings,
)
from tests.data.loader.test_batching import Memory

GEOMETRY = GeometrySettings(mode="keep_aspect", height=32, width=48)
GT = GroundTruthSettings(max_objects=2)
AUGMENT = AugmentSettings(
    hflip_probability=0.5, zoom_min=0.8, zoom_max=1.2, brightness_stddev=0.1, translate_max_x=4
)
LOADER = LoaderSettings(global_batch=4, seed=7, threads=3, prefetch=2)
SOURCE = Memory([(20 + i, 30) for i in range(10)], [[[i, 0, i + 9, 20]] for i in range(10)])


def training(source=SOURCE, loader=LOADER, geometry=GEOMETRY, **more):
    return pipeline.training_batches(source, geometry, AUGMENT, GT, "rgb", loader, **more)


def take(batches, count):
    collected = list(islice(batches, count))
    batches.close()
    return collected


def assert_same(a, b):
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.image_id, b.image_id)
    np.testing.assert_array_equal(a.example_index, b.example_index)
    np.testing.assert_array_equal(a.gt.boxes, b.gt.boxes)


def test_training_goes_on_beyond_an_epoch_with_full_batches():
    collected = take(training(), 5)
    ids = np.concatenate([batch.image_id for batch in collected])
    assert sorted(ids[:10]) == sorted(ids[10:]) == list(range(10))
    assert all(batch.image_valid.all() for batch in collected)


def test_epochs_are_a_constant_number_of_steps():
    assert pipeline.batches_per_epoch(SOURCE, 4) == 3


def test_a_resumed_stream_goes_on_bit_for_bit():
    whole, rest = take(training(), 6), take(training(start=4), 2)
    for a, b in zip(whole[4:], rest, strict=True):
        assert_same(a, b)


def test_threads_and_prefetch_do_not_change_batches():
    single = take(training(loader=replace(LOADER, threads=1, prefetch=1)), 4)
    for a, b in zip(single, take(training(), 4), strict=True):
        assert_same(a, b)


def test_the_number_of_processes_does_not_change_batches():
    whole = take(training(), 3)
    parts = [take(training(process_index=p, process_count=2), 3) for p in range(2)]
    for step, batch in enumerate(whole):
        for p in range(2):
            part = parts[p][step]
            np.testing.assert_array_equal(part.images, batch.images[2 * p : 2 * p + 2])
            np.testing.assert_array_equal(part.example_index, [2 * p, 2 * p + 1])


def test_a_dataset_smaller_than_a_batch_repeats_with_new_augmentation():
    small = Memory([(32, 48)], [[[4, 4, 20, 30]]])
    batch = take(training(small), 1)[0]
    assert batch.image_id.tolist() == [0] * 4
    assert len({image.tobytes() for image in batch.images}) > 1


def test_dynamic_shapes_give_few_canvases_with_one_each():
    geometry = GeometrySettings(mode="short_side", short_side=32, long_side=64, multiple=16)
    sizes = [(32, 48), (48, 32)] * 5 + [(32, 64)]
    source = Memory(sizes, [[[1, 1, 20, 20]]] * len(sizes))
    collected = take(training(source, geometry=geometry), 12)
    assert {batch.images.shape for batch in collected} == {
        (4, 32, 48, 3),
        (4, 48, 32, 3),
        (4, 32, 64, 3),
    }
    for batch in collected:
        shapes = {sizes[i] for i in batch.image_id}
        assert shapes == {batch.images.shape[1:3]}


def test_buckets_may_be_given():
    geometry = GeometrySettings(mode="short_side", short_side=32, multiple=16)
    source = Memory([(32, 48), (48, 32)], [[], []])
    collected = take(training(source, geometry=geometry, buckets=((64, 64),)), 2)
    assert {batch.images.shape for batch in collected} == {(4, 64, 64, 3)}


def test_evaluation_is_in_order_padded_and_without_augmentation():
    batches = pipeline.evaluation_batches(SOURCE, GEOMETRY, GT, "rgb", batch=4)
    collected = list(batches)
    assert np.concatenate([b.image_id[b.image_valid] for b in collected]).tolist() == list(
        range(10)
    )
    assert [b.image_valid.sum() for b in collected] == [4, 4, 2]
    np.testing.assert_array_equal(collected[0].gt.boxes[0, 0], np.float32([0, 0, 9 * 1.6, 32]))


def test_evaluation_keeps_crowd():
    source = Memory([(32, 48)], [[[0, 0, 9, 9]]], crowd=[[True]])
    gt = replace(GT, skip_crowd=True)
    batch = next(pipeline.evaluation_batches(source, GEOMETRY, gt, "rgb", batch=1))
    assert batch.gt.crowd[0, 0] and batch.gt.valid[0, 0]


class Broken(Memory):
    def image(self, index, channel_order):
        return read_image(b"", channel_order, self.name(index))


def test_an_error_of_a_thread_arrives_as_itself():
    batches = training(Broken(SOURCE.sizes, SOURCE.boxes))
    with pytest.raises(DataError, match="image-[0-9]: is empty") as caught:
        next(batches)
    assert "Grain" not in str(caught.value)
    batches.close()


def test_mistakes_are_found_before_the_first_batch():
    with pytest.raises(DataError, match="holds no image"):
        training(Memory([], []))
    crowded = Memory([(9, 9)] * 100, [[[0, 0, 5, 5]]] * 99 + [[[0, 0, 5, 5]] * 3])
    with pytest.raises(DataError, match="image-99: 3 objects"):
        training(crowded)
    with pytest.raises(ValueError, match="cannot be divided among 3"):
        training(process_count=3)


def test_the_pipeline_imports_neither_tensorflow_nor_torch():
    code = (
        "import sys, rcnn_jax.data.loader.pipeline;"
        "print([m for m in ('tensorflow', 'torch') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_opencv_threads_are_off():
    take(training(), 1)
    assert cv2.getNumThreads() == 1


COMPOSED = replace(AUGMENT, mosaic_probability=0.5, copy_paste_probability=0.5)
REPEATED = replace(LOADER, repeat_threshold=0.5)
LABELLED = Memory(
    [(20 + i, 30) for i in range(10)],
    [[[i, 0, i + 9, 12]] for i in range(10)],
    [[int(i > 7)] for i in range(10)],
)


def composed(augment=COMPOSED, loader=REPEATED, **more):
    wide = replace(GT, max_objects=8)
    return pipeline.training_batches(LABELLED, GEOMETRY, augment, wide, "rgb", loader, **more)


def test_composites_and_repeats_do_not_depend_on_threads_processes_or_resumes():
    whole = take(composed(), 6)
    for a, b in zip(
        whole, take(composed(loader=replace(REPEATED, threads=1, prefetch=1)), 6), strict=True
    ):
        assert_same(a, b)
    for a, b in zip(whole[4:], take(composed(start=4), 2), strict=True):
        assert_same(a, b)
    parts = [take(composed(process_index=p, process_count=2), 3) for p in range(2)]
    for step in range(3):
        for p in range(2):
            rows = slice(2 * p, 2 * p + 2)
            np.testing.assert_array_equal(parts[p][step].images, whole[step].images[rows])
            np.testing.assert_array_equal(parts[p][step].gt.boxes, whole[step].gt.boxes[rows])


def test_what_chance_leaves_alone_is_the_batch_without_composites():
    """They draw from streams of their own: switching them on moves no other random number."""
    never = replace(AUGMENT, mosaic_probability=1e-12, copy_paste_probability=1e-12)
    barely = replace(LOADER, repeat_threshold=1e-6)
    for a, b in zip(
        take(composed(AUGMENT, LOADER), 4), take(composed(never, barely), 4), strict=True
    ):
        assert_same(a, b)


def test_the_stream_without_extensions_is_that_of_the_first_release():
    # Recorded at bd1d1d6, before an image could be drawn more than once an epoch.
    steps = plan.TrainingPlan([(32, 48)] * 7 + [(48, 32)] * 4, seed=9, global_batch=3)
    records = [steps[t].records.tolist() for t in (0, 1, 2, 40)]
    assert records == [[9, 8, 10], [0, 2, 1], [6, 4, 3], [1, 6, 1]]


def test_mosaics_end_at_a_step_that_a_resume_knows_too():
    only = replace(COMPOSED, mosaic_probability=1.0, copy_paste_probability=0.0, mosaic_off=0.5)
    plain, run = take(composed(AUGMENT), 6), take(composed(only, total_steps=6), 6)
    same = [np.array_equal(a.images, b.images) for a, b in zip(plain, run, strict=True)]
    assert same == [False] * 3 + [True] * 3
    for a, b in zip(run[2:], take(composed(only, start=2, total_steps=6), 4), strict=True):
        assert_same(a, b)
    endless = take(composed(only), 6)
    assert not any(np.array_equal(a.images, b.images) for a, b in zip(plain, endless, strict=True))


def test_the_last_fraction_is_one_of_steps():
    assert AugmentSettings(mosaic_off=0.15).mosaic_steps(1000) == 850
    assert AugmentSettings(mosaic_off=0.0).mosaic_steps(7) == 7
    assert AugmentSettings(mosaic_off=1.0).mosaic_steps(7) == 0


def test_composites_need_ground_truth():
    batches = pipeline.training_batches(LABELLED, GEOMETRY, COMPOSED, None, "rgb", LOADER)
    plain = pipeline.training_batches(LABELLED, GEOMETRY, AUGMENT, None, "rgb", LOADER)
    for a, b in zip(take(batches, 2), take(plain, 2), strict=True):
        np.testing.assert_array_equal(a.images, b.images)
