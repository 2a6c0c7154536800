import jax
import numpy as np

from rcnn_jax.ops.masks import mask_targets, select_class_masks


def slow_mask_target(mask, box, roi, size):
    """Pads the crop by one cell of zeros, maps the roi into it and reads once per cell."""
    padded = np.pad(mask.astype(np.float64), 1)
    side = mask.shape[0]
    target = np.zeros((size, size))
    for i, j in np.ndindex(size, size):
        spot = []
        for k, at in ((0, i), (1, j)):
            pixel = roi[k] + (roi[k + 2] - roi[k]) * (at + 0.5) / size
            cell = (pixel - box[k]) / (box[k + 2] - box[k]) * side - 0.5 + 1.0
            spot.append(min(max(cell, 0.0), side + 1.0))
        y, x = (min(int(s), side) for s in spot)
        down, across = spot[0] - y, spot[1] - x
        value = (1 - down) * ((1 - across) * padded[y, x] + across * padded[y, x + 1])
        value += down * ((1 - across) * padded[y + 1, x] + across * padded[y + 1, x + 1])
        target[i, j] = value >= 0.5
    return target


def test_the_roi_that_is_the_box_sees_the_mask_itself():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (3, 8, 8)).astype(np.uint8)
    boxes = np.float32([[0, 0, 16, 32], [5, 6, 9, 7], [10, 10, 90, 50]])
    targets = mask_targets(masks, boxes, boxes, np.arange(3), 8)
    np.testing.assert_array_equal(targets, masks)
    assert targets.dtype == np.float32


def test_a_quarter_of_the_box_sees_a_quarter_of_the_mask():
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 2:, :2] = 1
    box = np.float32([[0, 0, 40, 40]])
    rois = np.float32([[20, 0, 40, 20], [0, 0, 20, 20], [20, 20, 40, 40]])
    targets = mask_targets(mask, box, rois, np.zeros(3, np.int32), 2)
    # The value half a cell inside the border is 0.75 of the way to the cell that is set.
    np.testing.assert_array_equal(targets[0], np.ones((2, 2)))
    np.testing.assert_array_equal(targets[1:], np.zeros((2, 2, 2)))


def test_outside_the_box_is_empty():
    mask, box = np.ones((1, 4, 4), np.uint8), np.float32([[8, 8, 16, 16]])
    rois = np.float32([[0, 0, 24, 24], [30, 30, 40, 40]])
    targets = mask_targets(mask, box, rois, np.zeros(2, np.int32), 6)
    expected = np.zeros((6, 6))
    expected[2:4, 2:4] = 1
    np.testing.assert_array_equal(targets, [expected, np.zeros((6, 6))])


def test_targets_equal_the_slow_reading():
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 2, (4, 6, 6)).astype(np.uint8)
    boxes = np.float32([[3, 5, 31, 44], [0, 0, 17, 13], [20, 20, 29, 60], [7, 1, 60, 33]])
    index = rng.integers(0, 4, 40)
    rois = (boxes[index] + rng.uniform(-6, 6, (40, 4))).astype(np.float32)
    targets = np.asarray(mask_targets(masks, boxes, rois, index, 7))
    expected = [
        slow_mask_target(masks[g], boxes[g], roi, 7) for g, roi in zip(index, rois, strict=True)
    ]
    np.testing.assert_array_equal(targets, expected)


def test_padding_boxes_give_finite_masks():
    targets = mask_targets(
        np.ones((1, 4, 4), np.uint8), np.zeros((1, 4), np.float32),
        np.float32([[0, 0, 0, 0], [1, 2, 9, 9]]), np.zeros(2, np.int32), 3,
    )  # fmt: skip
    assert np.isin(targets, [0.0, 1.0]).all()


def test_mapped_targets_equal_the_loop():
    rng = np.random.default_rng(2)
    masks = rng.integers(0, 2, (2, 3, 5, 5)).astype(np.uint8)
    first = rng.uniform(0, 20, (2, 3, 2))
    boxes = np.concatenate([first, first + rng.uniform(5, 20, (2, 3, 2))], 2).astype(np.float32)
    index = rng.integers(0, 3, (2, 4))
    rois = np.take_along_axis(boxes, index[:, :, None], 1) + np.float32(1.5)
    mapped = jax.vmap(lambda *x: mask_targets(*x, 6))(masks, boxes, rois, index)
    loop = [mask_targets(*x, 6) for x in zip(masks, boxes, rois, index, strict=True)]
    np.testing.assert_array_equal(mapped, np.stack(loop))


def test_every_roi_gets_the_plane_of_its_class():
    logits = np.random.default_rng(3).normal(size=(5, 4, 4, 3)).astype(np.float32)
    classes = np.int32([2, 0, 1, 1, 2])
    planes = select_class_masks(logits, classes)
    np.testing.assert_array_equal(
        planes, np.stack([logits[i, :, :, c] for i, c in enumerate(classes)])
    )


def test_the_gradient_of_a_plane_reaches_its_class_only():
    gradient = jax.grad(lambda x: select_class_masks(x, np.int32([1, 0])).sum())(
        np.zeros((2, 2, 2, 3), np.float32)
    )
    np.testing.assert_array_equal(gradient[0, 0, 0], [0, 1, 0])
    np.testing.assert_array_equal(gradient[1, 1, 1], [1, 0, 0])
