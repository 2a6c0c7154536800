import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rcnn_jax.data.coco import CocoDataset
from rcnn_jax.data.coco_masks import mask_polygons, mask_rle, segmentation_mask
from rcnn_jax.errors import DataError

SQUARE = [2, 1, 5, 1, 5, 4, 2, 4]
CONTENT = {
    "images": [
        {"id": 7, "file_name": "b.png", "height": 6, "width": 8},
        {"id": 3, "file_name": "a.png", "height": 6, "width": 8},
    ],
    "categories": [{"id": 2, "name": "Big Cat"}, {"id": 1, "name": "dog"}],
    "annotations": [
        {
            "id": 11,
            "image_id": 7,
            "category_id": 2,
            "bbox": [2, 1, 3, 3],
            "area": 9,
            "iscrowd": 0,
            "segmentation": [SQUARE],
        },
        {"id": 12, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2.5, 2], "iscrowd": 1},
    ],
}


def load(tmp_path, masks=False, **changes):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({**copy.deepcopy(CONTENT), **changes}))
    return CocoDataset.load(path, masks=masks)


def annotation(**changes):
    return {"annotations": [{**CONTENT["annotations"][0], **changes}]}


def test_images_keep_their_order_and_categories_are_sorted(tmp_path):
    dataset = load(tmp_path)
    assert [image.id for image in dataset.images] == [7, 3]
    assert list(dataset.categories.items()) == [(1, "dog"), (2, "Big Cat")]
    assert dataset.annotations[3] == ()
    first, second = dataset.annotations[7]
    assert first.bbox == (2.0, 1.0, 3.0, 3.0) and first.area == 9.0 and not first.crowd
    assert second.crowd and second.area == 5.0 and second.segmentation is None


def problem(tmp_path, **changes):
    with pytest.raises(DataError) as caught:
        load(tmp_path, **changes)
    return str(caught.value).removeprefix(f"{tmp_path}/instances.json: ")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"annotations": CONTENT["annotations"][:1] * 2},
            "annotation 11: this id occurs more than o",
        ),
        ({"images": CONTENT["images"][:1] * 2}, "image 7: this id occurs more than once"),
        (annotation(image_id=5), "annotation 11: there is no image 5"),
        (annotation(category_id=9), "annotation 11: there is no category 9"),
        (
            annotation(bbox=[1, 2, 3]),
            "annotation 11: 'bbox' is [1, 2, 3]; expected four finite numbers",
        ),
        (
            annotation(bbox=[1, 2, 3, float("nan")]),
            "'bbox' is [1, 2, 3, nan]; expected four finite",
        ),
        (annotation(area="big"), "annotation 11: 'area' is 'big'; expected a finite number"),
        (annotation(iscrowd=2), "annotation 11: 'iscrowd' is 2; expected 0 or 1"),
        ({"annotations": [{"id": "x"}]}, "annotation number 0: has no whole number as 'id'"),
        ({"annotations": [{"id": 4}]}, "annotation 4: has no 'bbox'"),
        ({"images": []}, "'images' is empty"),
        ({"images": [{"id": 1, "file_name": "", "height": 1, "width": 1}]}, "'file_name' is ''"),
        (
            {"images": [{"id": 1, "file_name": "a", "height": 0, "width": 1}]},
            "image 1: its size is 1 x 0 pixels",
        ),
        ({"categories": [{"id": 1}]}, "category 1: has no 'name'"),
        ({"categories": [{"id": 1, "name": " "}]}, "category 1: 'name' is ' '"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, text):
    assert text in problem(tmp_path, **changes)


def test_problems_are_listed_together_up_to_ten(tmp_path):
    many = [{**CONTENT["annotations"][0], "id": i, "category_id": 9} for i in range(12)]
    lines = problem(tmp_path, annotations=many).splitlines()
    assert lines[0] == "12 problems in the annotations:"
    assert lines[10] == "  annotation 9: there is no category 9"
    assert lines[11] == "  and 2 more"


def test_files_that_are_not_coco_are_refused(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match="x.json: cannot read the annotations: No such file"):
        CocoDataset.load(path, masks=False)
    path.write_text('{"images": [}')
    with pytest.raises(DataError, match="x.json:1:13: is not JSON: Expecting value"):
        CocoDataset.load(path, masks=False)
    path.write_text('{"images": []}')
    with pytest.raises(
        DataError, match="x.json: has no list 'annotations'; a COCO annotation file"
    ):
        CocoDataset.load(path, masks=False)


def test_category_zero_is_refused_for_mask_rcnn(tmp_path):
    dataset = load(tmp_path, categories=[{"id": 0, "name": "dog"}], annotations=[])
    with pytest.raises(
        DataError, match=r"category id 0 \('dog'\): ids .* Add 1 to all category ids"
    ):
        dataset.require_positive_categories()
    load(tmp_path).require_positive_categories()


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
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = (rng.random((40, 60)) < share).astype(np.uint8)
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
        ([[1, 2, 3, 4]], r"its polygon \[1, 2, 3, 4\] is not a list of at least three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "is not a list of at least three points"),
        ([[1, 2, 3, 4, 5, float("nan")]], "is not a list of at least three points"),
        ([[1, 2, 3, 4, 5, 1e9]], "lies far outside the image of 8 x 6 pixels"),
    ],
)
def test_damaged_segmentations_are_refused_before_decoding(segmentation, text):
    with pytest.raises(ValueError, match=text):
        segmentation_mask(segmentation, 6, 8)


def test_real_annotations_decode_to_their_stated_area(shared):
    path = shared / "data" / "nuclei_coco" / "instances_val.json"
    dataset = CocoDataset.load(path, masks=False)
    assert len(dataset.images) == 90 and sum(map(len, dataset.annotations.values())) == 2495
    for image in dataset.images[:5]:
        for item in dataset.annotations[image.id]:
            mask = segmentation_mask(item.segmentation, image.height, image.width)
            assert mask.sum() == item.area
            rle = coco_mask.encode(np.asfortranarray(mask))
            np.testing.assert_array_equal(coco_mask.toBbox(rle), item.bbox)
