"""Segmentations: polygons and run lengths become masks, damaged ones are refused before."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.coco_masks import mask_polygons, mask_rle, segmentation_mask

SQUARE = [2, 1, 5, 1, 5, 4, 2, 4]


def square_mask():
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, 2:5] = 1
    return mask


def test_polygons_and_run_lengths_give_the_same_mask():
    mask = square_mask()
    compressed = mask_rle(mask)
    # Column-major runs: 2 columns and a pixel before, three times 3 in and 3 out, the rest.
    plain = {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 20]}
    for segmentation in ([SQUARE], compressed, plain):
        np.testing.assert_array_equal(segmentation_mask(segmentation, 6, 8), mask)
    as_bytes = {"size": [6, 8], "counts": compressed["counts"].encode()}
    np.testing.assert_array_equal(segmentation_mask(as_bytes, 6, 8), mask)


def test_run_lengths_may_be_whole_numbers_with_a_point():
    runs = {"size": [6, 8], "counts": [13.0, 3.0, 32.0]}
    assert segmentation_mask(runs, 6, 8).sum() == 3
    with pytest.raises(ValueError, match="its RLE is damaged"):
        segmentation_mask({"size": [6, 8], "counts": [13.5, 2.5, 32.0]}, 6, 8)


def test_polygons_of_a_mask_rasterise_to_the_mask():
    rng = np.random.Generator(np.random.Philox(0))
    for _ in range(20):
        blocks = rng.random((6, 7)) < 0.4
        mask = np.kron(blocks, np.ones((3, 4))).astype(np.uint8)
        polygons = mask_polygons(mask)
        if polygons:
            np.testing.assert_array_equal(segmentation_mask(polygons, *mask.shape), mask)


def test_a_mask_with_a_hole_has_no_polygons():
    mask = np.ones((5, 5), np.uint8)
    mask[2, 2] = 0
    assert mask_polygons(mask) is None


def test_every_run_length_encoding_of_pycocotools_is_accepted():
    rng = np.random.Generator(np.random.Philox(1))
    for fraction in (0.0, 0.02, 0.5, 1.0):
        mask = (rng.random((40, 60)) < fraction).astype(np.uint8)
        np.testing.assert_array_equal(segmentation_mask(mask_rle(mask), 40, 60), mask)
    wide = np.zeros((400, 600), np.uint8)
    wide[3, 5] = wide[390:, 500:] = 1
    np.testing.assert_array_equal(segmentation_mask(mask_rle(wide), 400, 600), wide)


GOOD = mask_rle(square_mask())


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        (None, "has no segmentation; expected polygons"),
        ([], "has no segmentation"),
        ("mask.png", "has an unknown form"),
        ({"counts": [48]}, "has an unknown form"),
        ({"size": [6, 8], "counts": 48}, "has an unknown form"),
        ({**GOOD, "size": [8, 6]}, r"its RLE is made for size \[8, 6\], the image has .* \[6, 8\]"),
        (
            {"size": [6, 8], "counts": [40, 5]},
            "its runs do not add up to the 48 pixels of the image",
        ),
        ({"size": [6, 8], "counts": [50, -2]}, "its RLE is damaged"),
        ({"size": [6, 8], "counts": GOOD["counts"] + "1"}, "its RLE is damaged"),
        ({"size": [6, 8], "counts": "zz\xff"}, "its RLE is damaged"),
        ({"size": [6, 8], "counts": ""}, "its RLE is damaged"),
        ([[1, 2, 3, 4]], "its polygons have no part of at least three points"),
        (
            [[1, 2, 3, 4, 5, 6, 7]],
            r"\[1, 2, 3, 4, 5, 6, ...\] has 7 numbers; points x, y have an even",
        ),
        ([[1, 2, 3, 4, 5, "6"]], "is not a list of at least three points"),
        ([[1, 2, 3, 4, 5, True]], "is not a list of at least three points"),
        ([[1, 2, 3, 4, 5, 10**400]], "is not a list of at least three points"),
        ([[1, 2], [3, 1], [3, 3]], "is a list of points"),
        ([GOOD], "is an RLE inside a list"),
        ([1, 2, 3, 1, 3, 3], "is one flat list of numbers; polygons are lists inside a list"),
        ([[1, 2, 3, 4, 5, float("nan")]], "is not a list of at least three points"),
        ([[1, 2, 3, 4, 5, 1e9]], "lies far outside the image of 8 x 6 pixels"),
    ],
)
def test_damaged_segmentations_are_refused_before_decoding(segmentation, text):
    with pytest.raises(ValueError, match=text):
        segmentation_mask(segmentation, 6, 8)


def test_real_annotations_decode_to_their_stated_area(shared):
    path = shared / "data" / "nuclei_coco" / "instances_val.json"
    dataset = CocoDataset.load(path, masks=True)
    assert len(dataset.images) == 90 and sum(map(len, dataset.annotations.values())) == 2495
    for image in dataset.images[:5]:
        for item in dataset.annotations[image.id]:
            mask = segmentation_mask(item.segmentation, image.height, image.width)
            assert mask.sum() == item.area
            rle = coco_mask.encode(np.asfortranarray(mask))
            np.testing.assert_array_equal(coco_mask.toBbox(rle), item.bbox)
