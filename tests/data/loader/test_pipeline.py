import subprocess
import sys
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader import pipeline
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
