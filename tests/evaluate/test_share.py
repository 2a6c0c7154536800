"""Results of an evaluation that processes share: bit for bit, in the order of a single process."""

import json

import numpy as np

from rcnn_jax.evaluate.share import all_coco_results, all_voc_results, pack, unpack
from rcnn_jax.evaluate.voc import ImageResult


class Pair:
    """A team of two, seen from one side: what the other gives is known."""

    is_many = True

    def __init__(self, other):
        self._other = other

    def gather(self, data):
        return [data, self._other]

    def gather_json(self, value):
        return [json.loads(json.dumps(value)), json.loads(json.dumps(self._other))]


def result(seed, detections, objects, proposals=True):
    rng = np.random.default_rng(seed)
    return ImageResult(
        boxes=rng.normal(size=(detections, 4)).astype(np.float32),
        scores=rng.random(detections).astype(np.float32),
        classes=rng.integers(0, 3, detections).astype(np.int32),
        gt_boxes=rng.normal(size=(objects, 4)).astype(np.float32),
        gt_classes=rng.integers(0, 3, objects).astype(np.int32),
        gt_crowd=rng.random(objects) > 0.5,
        proposals=rng.normal(size=(5, 4)).astype(np.float32) if proposals else None,
    )


def same(one, other):
    for name in vars(one):
        a, b = getattr(one, name), getattr(other, name)
        if a is None or b is None:
            assert a is b
            continue
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


def test_results_survive_the_way_bit_for_bit_also_without_detections_or_proposals():
    for proposals in (True, False):
        given = [result(i, d, m, proposals) for i, (d, m) in enumerate([(3, 2), (0, 0), (7, 1)])]
        unpacked, records = unpack(pack(given, [4, 9, 0]))
        assert records == [4, 9, 0]
        for one, other in zip(given, unpacked, strict=True):
            same(one, other)


def test_a_process_without_images_gives_nothing():
    assert unpack(pack([], [])) == ([], [])


def test_all_have_the_results_in_the_order_of_one():
    images = {record: result(record, record + 1, 2) for record in range(5)}
    positions = {3: 0, 0: 1, 4: 2, 1: 3, 2: 4}
    other = pack([images[0], images[1]], [0, 1])
    unpacked = all_voc_results([images[3], images[4], images[2]], [3, 4, 2], positions, Pair(other))
    for record, one in zip(positions, unpacked, strict=True):
        same(images[record], one)


def test_floats_of_coco_results_arrive_exactly_and_image_by_image():
    score = float(np.float32(0.1))
    own = [(1, 11, [{"image_id": 11, "score": score}])]
    other = [(0, 10, [{"image_id": 10, "score": 1e-300}, {"image_id": 10, "score": 0.2}])]
    ids, results = all_coco_results(own, {0: 0, 1: 1}, Pair(other))
    assert ids == [10, 11]
    assert [one["score"] for one in results] == [1e-300, 0.2, score]
