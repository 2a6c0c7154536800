import functools

import jax
import numpy as np
import pytest

from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.detections import select_detections
from rcnn_jax.settings.detection import DetectionSettings
from rcnn_jax.structures import BoxOutputs, Proposals
from tests.reference import nms as slow
from tests.reference.boxes import exact_boxes

SIZE = np.float32([48, 48])
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
SETTINGS = DetectionSettings(score_threshold=0.2, nms_threshold=0.4, max_detections=20)


@pytest.fixture(scope="module")
def heads():
    """Two images of 30 rois and 4 classes: (rois, outputs)."""
    rng = np.random.default_rng(0)
    rois = Proposals(
        boxes=exact_boxes(rng, (2, 30), 40.0),
        scores=np.ones((2, 30), np.float32),
        valid=rng.random((2, 30)) < 0.9,
    )
    logits = rng.normal(size=(2, 30, 5)).astype(np.float32) * 2
    deltas = rng.normal(size=(2, 30, 4, 4)).astype(np.float32)
    return rois, BoxOutputs(logits=logits, deltas=deltas)


@functools.cache
def compiled(settings):
    return jax.jit(lambda rois, outputs: select_detections(rois, outputs, SIZE, settings, CODER))


def slow_detections(rois, outputs, settings):
    """Class by class: decode, clip, threshold, suppress; then the best of all classes."""
    scores = np.asarray(jax.nn.softmax(outputs.logits, axis=-1))
    candidates = []
    for n in range(4):
        boxes = np.array(CODER.decode(rois.boxes, outputs.deltas[:, n])).clip(0, np.tile(SIZE, 2))
        valid = rois.valid & (scores[:, n] > settings.score_threshold)
        limit = settings.max_detections
        kept = slow.nms(boxes, scores[:, n], valid, settings.nms_threshold, limit)
        candidates += [(scores[i, n], n, boxes[i]) for i in kept]
    candidates.sort(key=lambda entry: -entry[0])
    return candidates[: settings.max_detections]


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, DetectionSettings(score_threshold=0.0, nms_threshold=0.6, max_detections=7)],
    ids=["some places stay empty", "all places are filled"],
)
def test_detections_equal_the_slow_reading(heads, settings):
    for b in range(2):
        one = jax.tree.map(lambda x, b=b: x[b], heads)
        detections = compiled(settings)(*one)
        expected = slow_detections(*one, settings)
        count = len(expected)
        assert detections.valid.tolist() == [i < count for i in range(settings.max_detections)]
        scores, classes, boxes = (np.array(part) for part in zip(*expected, strict=True))
        np.testing.assert_array_equal(detections.classes[:count], classes)
        np.testing.assert_allclose(detections.scores[:count], scores, rtol=1e-5)
        np.testing.assert_allclose(detections.boxes[:count], boxes, atol=1e-4)
        assert detections.masks is None


def hand_made(probabilities):
    """Rois side by side with given class probabilities (background last), no deltas."""
    rois = np.float32([[0, 10 * i, 8, 10 * i + 8] for i in range(len(probabilities))])
    count, columns = np.shape(probabilities)
    return Proposals(boxes=rois, scores=np.ones(count), valid=np.ones(count, bool)), BoxOutputs(
        logits=np.log(np.float32(probabilities)),
        deltas=np.zeros((count, columns - 1, 4), np.float32),
    )


def test_one_roi_may_be_detected_as_two_classes():
    settings = DetectionSettings(score_threshold=0.3, nms_threshold=0.5, max_detections=3)
    detections = select_detections(*hand_made([[0.4, 0.5, 0.1]]), SIZE, settings, CODER)
    assert detections.classes[detections.valid].tolist() == [1, 0]


def test_background_is_never_detected():
    settings = DetectionSettings(score_threshold=0.2, nms_threshold=0.5, max_detections=3)
    detections = select_detections(*hand_made([[0.1, 0.1, 0.8]]), SIZE, settings, CODER)
    assert not detections.valid.any()


def test_mapped_detections_equal_the_loop(heads):
    mapped = jax.vmap(compiled(SETTINGS))(*heads)
    for b in range(2):
        one = compiled(SETTINGS)(*jax.tree.map(lambda x, b=b: x[b], heads))
        np.testing.assert_array_equal(one.classes, mapped.classes[b])
        np.testing.assert_array_equal(one.valid, mapped.valid[b])
        np.testing.assert_allclose(one.boxes, mapped.boxes[b], atol=1e-4)


def test_the_exporter_finds_the_mapped_axis_in_front_of_classes(heads):
    jaxpr = jax.make_jaxpr(
        jax.vmap(lambda rois, outputs: select_detections(rois, outputs, SIZE, SETTINGS, CODER)),
    )(*heads)
    (nms,) = [e for e in jaxpr.eqns if e.params.get("name", "").startswith("rcnn.nms")]
    assert [v.aval.shape for v in nms.invars] == [(2, 4, 30, 4), (2, 4, 30), (2, 4, 30)]
    assert [v.aval.shape for v in nms.outvars] == [(2, 4, 20), (2, 4, 20)]
