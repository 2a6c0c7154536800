import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.anchors import level_anchors
from rcnn_jax.ops.box_coder import BoxCoder
from rcnn_jax.ops.proposals import select_proposals
from rcnn_jax.settings.detection import ProposalSettings
from rcnn_jax.settings.network import AnchorConvention
from rcnn_jax.structures import RpnOutputs
from tests.reference import nms as slow

SHAPES = {3: (8, 6), 4: (4, 3), 5: (2, 2)}
ANCHORS = {
    level: level_anchors(
        shape, 2**level, ((2.0**level * 2, 2.0**level * 3), (20.0, 10.0)), AnchorConvention()
    )
    for level, shape in SHAPES.items()
}
SIZE = np.float32([60, 44])
CODER = BoxCoder((1.0, 1.0, 2.0, 2.0))
SETTINGS = ProposalSettings(pre_nms=30, post_nms=25, nms_threshold=0.5, min_size=4.0)


@pytest.fixture(scope="module")
def rpn():
    rng = np.random.default_rng(0)
    return RpnOutputs(
        objectness={i: rng.normal(size=(2, *s, 2)).astype(np.float32) for i, s in SHAPES.items()},
        deltas={i: rng.normal(size=(2, *s, 2, 4)).astype(np.float32) for i, s in SHAPES.items()},
    )


@functools.cache
def compiled(settings):
    return jax.jit(lambda rpn, size: select_proposals(rpn, ANCHORS, size, settings, CODER))


def image(rpn, b):
    return jax.tree.map(lambda x: x[b], rpn)


def slow_proposals(rpn, settings):
    """Level by level: best logits, decode, clip, drop, suppress; then the best of all levels."""
    candidates = []
    for level, anchors in ANCHORS.items():
        logits = rpn.objectness[level].reshape(-1)
        order = np.argsort(-logits, kind="stable")[: settings.pre_nms]
        boxes = np.array(CODER.decode(anchors, rpn.deltas[level].reshape(-1, 4)))[order]
        boxes = boxes.clip(0, np.tile(SIZE, 2))
        scores = np.asarray(jax.nn.sigmoid(logits))[order]
        valid = ((boxes[:, 2:] - boxes[:, :2]) > settings.min_size).all(axis=1)
        kept = slow.nms(boxes, scores, valid, settings.nms_threshold, settings.post_nms)
        candidates += [(scores[i], boxes[i]) for i in kept]
    candidates.sort(key=lambda pair: -pair[0])
    return candidates[: settings.post_nms]


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        ProposalSettings(pre_nms=7, post_nms=60, nms_threshold=0.7),
        ProposalSettings(pre_nms=1000, post_nms=3, nms_threshold=0.1),
    ],
    ids=["plain", "more places than candidates", "few places"],
)
def test_proposals_equal_the_slow_reading(rpn, settings):
    for b in range(2):
        proposals = compiled(settings)(image(rpn, b), SIZE)
        expected = slow_proposals(image(rpn, b), settings)
        assert proposals.boxes.shape == (settings.post_nms, 4)
        assert proposals.valid.sum() == len(expected)
        assert proposals.valid[: len(expected)].all()
        scores, boxes = (np.array(part) for part in zip(*expected, strict=True))
        np.testing.assert_allclose(proposals.scores[: len(expected)], scores, rtol=1e-6)
        np.testing.assert_allclose(proposals.boxes[: len(expected)], boxes, atol=1e-4)


def test_proposals_lie_in_the_image_and_scores_descend(rpn):
    proposals = compiled(SETTINGS)(image(rpn, 0), SIZE)
    boxes = np.asarray(proposals.boxes)
    assert (boxes >= 0).all()
    assert (boxes <= np.tile(SIZE, 2)).all()
    assert (np.diff(proposals.scores) <= 0).all()


def test_saturated_scores_keep_the_order_of_their_logits():
    logits = np.float32([30, 50, 40, 20]).reshape(1, 4, 1)
    anchors = {2: np.float32([[0, 10 * i, 8, 10 * i + 8] for i in range(4)])}
    rpn = RpnOutputs(objectness={2: logits}, deltas={2: np.zeros((1, 4, 1, 4), np.float32)})
    settings = ProposalSettings(pre_nms=4, post_nms=4)
    proposals = select_proposals(rpn, anchors, (50.0, 50.0), settings, BoxCoder())
    assert (proposals.scores == 1.0).all()
    np.testing.assert_allclose(proposals.boxes, anchors[2][[1, 2, 0, 3]], atol=1e-5)


def test_no_gradient_flows_through_proposals(rpn):
    one = image(rpn, 0)
    gradient = jax.grad(lambda x: jnp.sum(compiled(SETTINGS)(x, SIZE).boxes))(one)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_mapped_proposals_equal_the_loop(rpn):
    mapped = jax.vmap(compiled(SETTINGS), in_axes=(0, None))(rpn, SIZE)
    for b in range(2):
        one = compiled(SETTINGS)(image(rpn, b), SIZE)
        np.testing.assert_array_equal(one.valid, mapped.valid[b])
        np.testing.assert_allclose(one.boxes, mapped.boxes[b], atol=1e-4)


def test_the_exporter_finds_the_mapped_axis_in_front_of_levels():
    rpn = RpnOutputs(
        objectness={i: jnp.zeros((7, *s, 2)) for i, s in SHAPES.items()},
        deltas={i: jnp.zeros((7, *s, 2, 4)) for i, s in SHAPES.items()},
    )
    jaxpr = jax.make_jaxpr(
        jax.vmap(lambda x: select_proposals(x, ANCHORS, SIZE, SETTINGS, CODER)),
    )(rpn)
    (nms,) = [e for e in jaxpr.eqns if e.params.get("name", "").startswith("rcnn.ranked_nms")]
    assert [v.aval.shape for v in nms.invars] == [(7, 3, 30, 4), (7, 3, 30), (7, 3, 30)]
    assert [v.aval.shape for v in nms.outvars] == [(7, 3, 25), (7, 3, 25)]
