import functools

import jax
import numpy as np
import pytest

from rcnn_jax.ops.matcher import match_anchors
from rcnn_jax.settings.detection import RpnTargetSettings
from tests.reference.boxes import exact_boxes, iou_matrix

SIZE = np.float32([64, 64])
RULES = ("best", "unmatched_best", "ties")


@functools.cache
def compiled(rule, outside="train"):
    settings = RpnTargetSettings(
        positive_overlap=0.5,
        negative_overlap=0.25,
        force_match=rule,
        outside=outside,
        anchors_per_cell=6,
    )
    return jax.jit(
        lambda anchors, boxes, valid, crowd: match_anchors(
            anchors, boxes, valid, settings, SIZE, crowd
        )
    )


def slow_match(anchors, boxes, valid, crowd, rule, outside):
    """The matcher, anchor by anchor and ground truth by ground truth."""
    overlap = iou_matrix(anchors, boxes)
    labels, index = [], []
    inside = [
        outside == "train" or (a[0] >= 0 and a[1] >= 0 and a[2] <= SIZE[0] and a[3] <= SIZE[1])
        for a in anchors
    ]
    if outside == "auto":
        fits = [any(inside[i::6]) for i in range(6)]
        inside = [inside[i] or not fits[i % 6] for i in range(len(anchors))]
    real = [g for g in range(len(boxes)) if valid[g] and not crowd[g]]
    crowds = [g for g in range(len(boxes)) if valid[g] and crowd[g]]
    for i in range(len(anchors)):
        best = max(real, key=lambda g: (overlap[i, g], -g), default=0)
        value = overlap[i, best] if real else 0.0
        label = 1 if value >= 0.5 else 0 if value < 0.25 else -1
        if not inside[i] or any(overlap[i, g] > value for g in crowds):
            label = -1
        labels.append(label)
        index.append(best if value > 0 else 0)
    first_labels, first_index = list(labels), list(index)
    for g in real:
        usable = [i for i in range(len(anchors)) if inside[i]]
        best = max((overlap[i, g] for i in usable), default=0.0)
        if best == 0:
            continue
        winners = [i for i in usable if overlap[i, g] == best]
        if rule == "ties":
            for i in winners:
                labels[i] = 1
            continue
        has_one = any(
            label == 1 and k == g for label, k in zip(first_labels, first_index, strict=True)
        )
        if rule == "unmatched_best" and has_one:
            continue
        labels[winners[0]], index[winners[0]] = 1, g
    return np.array(labels), np.array(index)


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        anchors, boxes = exact_boxes(rng, (60,), 40.0), exact_boxes(rng, (11,), 40.0)
        anchors[:4] = anchors[4:8]  # ties between anchors
        anchors[5::6, 2:] += 80.0  # a size that lies inside nowhere
        boxes[:3] = boxes[3:6]  # ties between ground truths
        rows.append((anchors - 4, boxes, rng.random(11) < 0.7, rng.random(11) < 0.2))
    return rows


@pytest.mark.parametrize("outside", ["train", "ignore", "auto"])
@pytest.mark.parametrize("rule", RULES)
def test_matches_equal_the_slow_reading(scenes, rule, outside):
    for scene in scenes:
        matches = compiled(rule, outside)(*scene)
        labels, index = slow_match(*scene, rule, outside)
        np.testing.assert_array_equal(matches.label, labels)
        np.testing.assert_array_equal(matches.gt_index[labels == 1], index[labels == 1])


@pytest.mark.parametrize("rule", RULES)
def test_padded_ground_truths_are_never_matched(scenes, rule):
    anchors, boxes, valid, crowd = scenes[0]
    everywhere = np.where(valid[:, None], boxes, anchors[:11])  # padding that fits anchors exactly
    matches = compiled(rule)(anchors, everywhere, valid, crowd)
    assert valid[matches.gt_index[matches.label == 1]].all()
    moved = compiled(rule)(anchors, np.where(valid[:, None], boxes, 0), valid, crowd)
    jax.tree.map(np.testing.assert_array_equal, matches, moved)


@pytest.mark.parametrize("rule", RULES)
def test_without_ground_truth_every_anchor_is_negative(scenes, rule):
    anchors, boxes, valid, crowd = scenes[0]
    matches = compiled(rule)(anchors, boxes, np.zeros_like(valid), crowd)
    assert (matches.label == 0).all()
    assert (matches.overlap == 0).all()


def example(rule, crowd=(False, False)):
    anchors = np.zeros((60, 4), np.float32)
    anchors[:4] = [[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 24], [20, 26, 30, 30]]
    boxes = np.zeros((11, 4), np.float32)
    boxes[:2] = [[0, 0, 10, 10], [20, 20, 30, 30]]
    valid, crowded = np.arange(11) < 2, np.zeros(11, bool)
    crowded[:2] = crowd
    return compiled(rule)(anchors, boxes, valid, crowded)


@pytest.mark.parametrize(
    ("rule", "labels"), [("best", [1, 1, 1, -1]), ("ties", [1, 1, 1, 1])], ids=["best", "ties"]
)
def test_a_hand_made_scene_shows_what_forcing_does(rule, labels):
    # Anchors 2 and 3 overlap ground truth 1 by 0.4 each: below 0.5, but nothing is better.
    matches = example(rule)
    np.testing.assert_array_equal(matches.label[:4], labels)
    np.testing.assert_array_equal(matches.gt_index[:4], [0, 0, 1, 1])
    np.testing.assert_allclose(matches.overlap[:4], [1.0, 0.5, 0.4, 0.4])


def test_anchors_on_a_crowd_are_neither_positive_nor_negative():
    matches = example("best", crowd=(True, False))
    np.testing.assert_array_equal(matches.label[:4], [-1, -1, 1, -1])


def test_mapped_matching_equals_the_loop(scenes):
    # The loop over ground truths runs as long as the longest image needs.
    batch = [np.stack(part) for part in zip(*scenes[:4], strict=True)]
    batch[2][1] = False
    batch[2][2, 8:] = False
    mapped = jax.vmap(compiled("best"))(*batch)
    for i, scene in enumerate(zip(*batch, strict=True)):
        one = compiled("best")(*scene)
        jax.tree.map(np.testing.assert_array_equal, one, jax.tree.map(lambda x, i=i: x[i], mapped))
