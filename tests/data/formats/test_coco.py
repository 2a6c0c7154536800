import copy
import json

import pytest

from rcnn_jax.data.formats.coco import CocoDataset, unique_names
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


def problem(tmp_path, masks=False, **changes):
    with pytest.raises(DataError) as caught:
        load(tmp_path, masks=masks, **changes)
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
        (annotation(area="big"), "annotation 11: 'area' is 'big'; expected a number of pixels"),
        (annotation(area=1e300), "'area' is 1e+300; expected a number of pixels, 0 or more"),
        (annotation(area=-4), "'area' is -4; expected a number of pixels, 0 or more"),
        (annotation(iscrowd=2), "annotation 11: 'iscrowd' is 2; expected 0 or 1"),
        (
            {"annotations": [{"id": "x"}]},
            "annotation number 0: 'id' is 'x'; expected a whole number",
        ),
        ({"annotations": [{"id": 4}]}, "annotation 4: has no 'bbox'"),
        ({"images": []}, "1 problem in the annotations:\n  'images' is empty"),
        ({"categories": []}, "1 problem in the annotations:\n  'categories' is empty"),
        ({"images": [{"id": 1, "file_name": "", "height": 1, "width": 1}]}, "'file_name' is ''"),
        (
            {"images": [{"id": 1, "file_name": "a", "height": 0, "width": 1}]},
            "image 1: its size is 1 x 0 pixels",
        ),
        ({"categories": [{"id": 1}]}, "category 1: has no 'name'"),
        (
            annotation(category_id="1"),
            "annotation 11: 'category_id' is '1', text where a whole number belongs: write it with",
        ),
        (
            annotation(category_id=[1]),
            "annotation 11: 'category_id' is [1]; expected a whole number",
        ),
        (annotation(image_id={"a": 1}), "annotation 11: 'image_id' is {'a': 1}; expected a whole"),
        (annotation(category_id=True), "annotation 11: 'category_id' is True; expected a whole"),
        (annotation(id=10**400), "ids are 0 or more and fit 64 bits"),
        (annotation(bbox=[10**400, 1, 2, 3]), "annotation 11: 'bbox' is [1"),
        (annotation(bbox=[1e9, 0, 1, 1]), "which is outside any image"),
        (annotation(iscrowd=[1]), "annotation 11: 'iscrowd' is [1]; expected 0 or 1"),
        ({"annotations": [[1]]}, "annotation number 0: is [1], not an object {...}"),
        ({"images": [{**CONTENT["images"][0], "file_name": "a\0b"}]}, "it holds a NUL character"),
        ({"images": [{**CONTENT["images"][0], "file_name": "a\udce9"}]}, "it is not UTF-8"),
        ({"images": [{**CONTENT["images"][0], "width": 1 << 40}]}, "image 7: its size is 10995"),
        (
            {"images": [CONTENT["images"][0], {**CONTENT["images"][1], "file_name": "b.png"}]},
            "image 3: its file b.png is that of image 7 too",
        ),
        (
            {"images": [CONTENT["images"][0], {**CONTENT["images"][1], "file_name": "./b.png"}]},
            "image 3: its file ./b.png is that of image 7 too",
        ),
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
    with pytest.raises(DataError, match="x.json: there is no such annotation file"):
        CocoDataset.load(path, masks=False)
    path.write_text(" \n")
    with pytest.raises(DataError, match="x.json: the annotation file is empty"):
        CocoDataset.load(path, masks=False)
    path.write_text('{"images": [}')
    with pytest.raises(DataError, match="x.json:1:13: is not JSON: Expecting value"):
        CocoDataset.load(path, masks=False)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="x.json: is nested too deeply"):
        CocoDataset.load(path, masks=False)
    path.write_text('{"images": ' + "1" * 5000 + "}")
    with pytest.raises(DataError, match="x.json: holds a number that is too long"):
        CocoDataset.load(path, masks=False)
    path.write_text('{"images": []}')
    with pytest.raises(
        DataError, match="x.json: has no list 'annotations'; a COCO annotation file"
    ):
        CocoDataset.load(path, masks=False)


def load_instances(tmp_path, masks=False, **changes):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({**copy.deepcopy(CONTENT), **changes}))
    return CocoDataset.load_instances(path, masks=masks)


def test_a_category_zero_with_objects_is_refused_for_mask_rcnn(tmp_path):
    zero = [{"id": 0, "name": "dog"}, *CONTENT["categories"]]
    with pytest.raises(
        DataError, match=r"category id 0 \('dog'\): ids .* Add 1 to all category ids"
    ):
        load_instances(tmp_path, categories=zero, **annotation(category_id=0))
    with pytest.raises(DataError, match=r"category id 0 \('dog'\): ids"):
        load_instances(tmp_path, categories=zero[:1], annotations=[])


def test_a_category_zero_without_objects_is_left_out_and_reported(tmp_path):
    zero = [{"id": 0, "name": "cells-x1"}, *CONTENT["categories"]]
    dataset = load_instances(tmp_path, categories=zero)
    assert list(dataset.categories) == [1, 2]
    (sentence,) = (item.sentence for item in dataset.findings)
    assert sentence.endswith(
        "category 0 ('cells-x1'): has no object and is left out: id 0 is the background of Mask R-CNN"
    )
    assert load_instances(tmp_path).findings == ()


def test_two_categories_of_one_name_are_reported_and_stay_two_classes(tmp_path):
    twins = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}]
    dataset = load_instances(tmp_path, categories=twins)
    (sentence,) = (item.sentence for item in dataset.findings)
    assert "the categories 1, 2 are all called 'cat'; they stay different classes" in sentence
    assert unique_names(dataset.categories) == {1: "cat (id 1)", 2: "cat (id 2)", 5: "dog"}


def test_a_part_of_two_points_is_left_out_and_the_object_kept(tmp_path):
    dataset = load(tmp_path, masks=True, **annotation(segmentation=[[1, 1, 2, 2], SQUARE]))
    assert dataset.annotations[7][0].segmentation == [SQUARE]
    (finding,) = dataset.findings
    assert finding.row == "part of fewer than 3 points" and finding.count == 1


def test_an_object_without_any_outline_is_left_out_and_counted(tmp_path):
    dataset = load(tmp_path, masks=True, **annotation(segmentation=[[1, 1, 2, 2]]))
    assert dataset.annotations[7] == ()
    (finding,) = dataset.findings
    assert finding.row == "mask without a pixel" and finding.where.endswith("annotation 11")
    kept = load(tmp_path, masks=False, **annotation(segmentation=[[1, 1, 2, 2]]))
    assert len(kept.annotations[7]) == 1 and kept.findings == ()


def test_all_segmentations_that_cannot_be_used_are_listed_together(tmp_path):
    bad = [
        {**CONTENT["annotations"][0], "id": i, "segmentation": segmentation}
        for i, segmentation in enumerate([None, [1, 2, 3, 4, 5, 6], [[1, 1, 1e9, 1, 1, 2]]])
    ]
    lines = problem(tmp_path, masks=True, annotations=bad).splitlines()
    assert lines[0] == "3 problems in the annotations:"
    assert lines[1].startswith("  annotation 0 of image 7 (b.png): has no segmentation")
    assert "is one flat list of numbers" in lines[2] and "far outside the image" in lines[3]


def test_polygons_in_shares_of_the_image_are_told_by_their_box(tmp_path):
    fractions = annotation(segmentation=[[0.2, 0.1, 0.6, 0.1, 0.6, 0.7]])
    assert "looks normalised; expected pixels" in problem(tmp_path, masks=True, **fractions)
    tiny = annotation(segmentation=[[0, 0, 1, 0, 1, 1]], bbox=[0, 0, 1, 1])
    assert len(load(tmp_path, masks=True, **tiny).annotations[7]) == 1


def test_boxes_that_are_corners_are_said(tmp_path):
    dataset = load(tmp_path, **annotation(bbox=[3, 2, 8, 5]))
    (finding,) = dataset.findings
    assert finding.severity == "warning" and "read as x1, y1, x2, y2" in finding.sentence
    both = [
        {**CONTENT["annotations"][0], "id": i, "bbox": b}
        for i, b in enumerate([[3, 2, 8, 5], [4, 1, 3, 4]])
    ]
    assert load(tmp_path, annotations=both).findings == ()


def test_an_empty_iscrowd_is_none(tmp_path):
    assert not load(tmp_path, **annotation(iscrowd=None)).annotations[7][0].crowd


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = tmp_path / "instances.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CONTENT).encode())
    assert len(CocoDataset.load(path, masks=False).images) == 2
    path.write_bytes(json.dumps(CONTENT).encode("utf-16"))
    with pytest.raises(DataError, match="is saved as UTF-16; save it as UTF-8"):
        CocoDataset.load(path, masks=False)


def test_the_content_is_that_of_the_file(tmp_path):
    content = load(tmp_path, masks=False).content()
    assert [image["id"] for image in content["images"]] == [7, 3]
    assert content["annotations"][1] == {
        "id": 12,
        "image_id": 7,
        "category_id": 1,
        "bbox": [0.0, 0.0, 2.5, 2.0],
        "area": 5.0,
        "iscrowd": 1,
    }
