import hashlib
import json

import cv2
import numpy as np
import pytest

from rcnn_jax.data.conversion.mask_rcnn import MaskRcnnConversion, convert_mask_rcnn
from rcnn_jax.data.formats.coco_masks import mask_rle
from rcnn_jax.data.formats.mask_rcnn_records import (
    decode_mask,
    decode_record,
)
from rcnn_jax.data.formats.tfrecord import RecordFile, decode_example
from rcnn_jax.errors import DataError, SpecError

HEIGHT, WIDTH = 20, 40
SQUARE = [4, 5, 14, 5, 14, 10, 4, 10]
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[5:10, 4:14] = 1


def annotation(number, image_id=1, **changes):
    entry = {
        "id": number,
        "image_id": image_id,
        "category_id": 3,
        "bbox": [4, 5, 10, 5],
        "area": 50,
        "iscrowd": 0,
        "segmentation": [SQUARE],
    }
    return {**entry, **changes}


def make(tmp_path, annotations, count=1, **changes):
    (tmp_path / "images").mkdir()
    images = [
        {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH}
        for i in range(1, count + 1)
    ]
    for image in images:
        cv2.imwrite(str(tmp_path / "images" / image["file_name"]), MASK * image["id"])
    categories = [{"id": 3, "name": "dog"}, {"id": 90, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories, **changes}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return MaskRcnnConversion(
        image_dir=tmp_path / "images",
        annotations_file=tmp_path / "instances.json",
        output_dir=tmp_path / "out",
        num_shards=1,
    )


def change(settings, **changes):
    return MaskRcnnConversion(**{**vars(settings), **changes})


def read(report):
    return [data for path in report.files for data in RecordFile(path)]


def outputs(tmp_path):
    folder = tmp_path / "out"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_record_has_the_keys_and_values_of_the_original(tmp_path):
    report = convert_mask_rcnn(make(tmp_path, [annotation(8)]))
    assert outputs(tmp_path) == ["instances-00000-of-00001.tfrecord"]
    example = decode_example(read(report)[0])
    encoded = (tmp_path / "images" / "1.png").read_bytes()
    (png,) = example.pop("image/object/mask")
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), -1), MASK)
    assert example == {
        "image/encoded": [encoded],
        "image/source_id": [b"1"],
        "image/height": [HEIGHT],
        "image/width": [WIDTH],
        "image/filename": [b"1.png"],
        "image/key/sha256": [hashlib.sha256(encoded).hexdigest().encode()],
        "image/format": [b"png"],
        "image/object/bbox/xmin": [pytest.approx(4 / WIDTH)],
        "image/object/bbox/xmax": [pytest.approx(14 / WIDTH)],
        "image/object/bbox/ymin": [5 / HEIGHT],
        "image/object/bbox/ymax": [10 / HEIGHT],
        "image/object/class/label": [3],
        "image/object/class/text": [b"dog"],
        "image/object/area": [50.0],
        "image/object/is_crowd": [0],
    }
    assert report.objects == {"dog": 1} and report.label_names == {"dog": "3", "cat": "90"}
    assert report.findings == () and report.warnings_file is None


def test_polygons_run_lengths_and_crowds_become_the_same_mask(tmp_path):
    plain = {"size": [HEIGHT, WIDTH], "counts": [85, *([5, 15] * 9), 5, 530]}
    forms = [[SQUARE], plain, mask_rle(MASK)]
    annotations = [annotation(i, segmentation=form, iscrowd=i % 2) for i, form in enumerate(forms)]
    record = decode_record(read(convert_mask_rcnn(make(tmp_path, annotations)))[0])
    assert record.crowd.tolist() == [False, True, False]
    for png in record.masks:
        np.testing.assert_array_equal(decode_mask(png), MASK)


def test_image_i_goes_to_shard_i_modulo_their_number(tmp_path):
    settings = change(make(tmp_path, [], count=5), num_shards=2, tag="train")
    report = convert_mask_rcnn(settings)
    assert [path.name for path in report.files] == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    shards = [[decode_record(data).image_id for data in RecordFile(path)] for path in report.files]
    assert shards == [[1, 3, 5], [2, 4]]
    assert report.objects == {}


def test_more_shards_than_images_give_empty_files(tmp_path):
    report = convert_mask_rcnn(change(make(tmp_path, [annotation(1)]), num_shards=3))
    assert [len(RecordFile(path)) for path in report.files] == [1, 0, 0]


def test_objects_that_cannot_be_used_are_left_out_and_listed(tmp_path):
    empty = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    annotations = [
        annotation(1, bbox=[4, 5, 0, 5]),
        annotation(2, bbox=[4, 5, 10, -1]),
        annotation(3, bbox=[35, 5, 10, 5]),
        annotation(4, bbox=[-3, 5, 10, 5]),
        annotation(5, segmentation=empty),
        annotation(6, bbox=[7, 5, 7, 5]),
        annotation(7, bbox=[30.5, 5, 10, 15.9], segmentation=[[31, 5, 40, 5, 40, 20, 31, 20]]),
    ]
    report = convert_mask_rcnn(make(tmp_path, annotations))
    text = (tmp_path / "out" / "instances_warnings.json").read_text()
    assert json.loads(text) == {"1": {"box": [1, 2, 3, 4], "mask": [5, 6]}}
    record = decode_record(read(report)[0])
    assert len(record.boxes) == 2
    np.testing.assert_allclose(record.boxes[1], [5 / 20, 30.5 / 40, 1, 1])  # clipped by less than 1
    assert report.skipped == 5 and report.objects == {"dog": 2}
    assert [(item.row, item.count) for item in report.findings] == [
        ("box beyond the image", 4),
        ("mask without a pixel", 1),
        ("mask outside its box (kept)", 1),
    ]
    assert report.findings[0].sentence == (
        "4 boxes without extent or more than a pixel beyond their image are left out, the first is "
        f"{tmp_path}/instances.json: annotation 1 of image 1 (1.png)"
    )


def test_masks_can_be_left_out(tmp_path):
    settings = make(tmp_path, [annotation(1, segmentation=None)])
    record = decode_record(read(convert_mask_rcnn(change(settings, include_masks=False)))[0])
    assert record.masks is None and len(record.boxes) == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"segmentation": None},
            "annotation 2 of image 2 (2.png): has no segmentation; expected pol",
        ),
        (
            {"segmentation": "x"},
            "annotation 2 of image 2 (2.png): its segmentation has an unknown",
        ),
        (
            {"segmentation": mask_rle(MASK.T)},
            "its RLE is made for size [40, 20], the image has [heig",
        ),
        (
            {"bbox": [0.1, 0.2, 0.5, 0.5]},
            "its bbox [0.1, 0.2, 0.5, 0.5] looks normalised; expected x",
        ),
        ({"category_id": 0}, "annotation 2: there is no category 0"),
        ({"category_id": 5}, "annotation 2: there is no category 5"),
        ({"id": 1}, "annotation 1: this id occurs more than once"),
    ],
)
def test_bad_annotations_are_named_and_nothing_is_written(tmp_path, changes, text):
    settings = make(tmp_path, [annotation(1), {**annotation(2, image_id=2), **changes}], count=2)
    with pytest.raises(DataError) as caught:
        convert_mask_rcnn(settings)
    assert str(caught.value).startswith(f"{tmp_path}/instances.json: ") and text in str(
        caught.value
    )
    assert outputs(tmp_path) == []


def test_category_zero_is_refused(tmp_path):
    settings = make(tmp_path, [], categories=[{"id": 0, "name": "dog"}])
    with pytest.raises(DataError, match=r"category id 0 \('dog'\): ids of categories begin with 1"):
        convert_mask_rcnn(settings)


def test_crowds_are_counted_separately(tmp_path):
    report = convert_mask_rcnn(make(tmp_path, [annotation(1), annotation(2, iscrowd=1)]))
    assert report.objects == {"dog": 1}
    assert [(item.row, item.count) for item in report.findings] == [("crowd: dog", 1)]


def test_shards_of_an_earlier_conversion_are_refused(tmp_path):
    settings = change(make(tmp_path, [annotation(1)], count=4), num_shards=4)
    convert_mask_rcnn(settings)
    before = outputs(tmp_path)
    with pytest.raises(DataError, match=r"holds 4 record files .* which 'instances\*' would read"):
        convert_mask_rcnn(change(settings, num_shards=2))
    assert outputs(tmp_path) == before
    convert_mask_rcnn(settings)  # the same files are replaced
    convert_mask_rcnn(change(settings, num_shards=2, tag="other"))


def test_an_image_that_is_cut_in_half_is_refused(tmp_path):
    settings = make(tmp_path, [annotation(1)])
    path = tmp_path / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="1.png: the image is cut off before its end"):
        convert_mask_rcnn(settings)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"1.png: is empty \(0 bytes\)"):
        convert_mask_rcnn(settings)
    assert outputs(tmp_path) == []


def test_missing_damaged_and_turned_images_are_named(tmp_path):
    settings = make(tmp_path, [annotation(1)], count=2)
    image = tmp_path / "images" / "2.png"
    cv2.imwrite(str(image), MASK.T)
    with pytest.raises(
        DataError, match=r"2.png: is 20 x 40 pixels; .* states 40 x 20 for image 2\."
    ):
        convert_mask_rcnn(settings)
    image.write_bytes(b"not an image")
    with pytest.raises(DataError, match="2.png: is not an image, or is damaged"):
        convert_mask_rcnn(settings)
    image.unlink()
    with pytest.raises(DataError, match="1 image cannot be used:\n .*2.png: No such file or dir"):
        convert_mask_rcnn(settings)
    assert outputs(tmp_path) == []


def test_the_number_of_shards_is_checked(tmp_path):
    with pytest.raises(SpecError, match="num_shards = 0; expected at least 1"):
        convert_mask_rcnn(change(make(tmp_path, []), num_shards=0))


def test_a_real_dataset_is_converted(shared, tmp_path):
    folder = shared / "data" / "nuclei_coco"
    settings = MaskRcnnConversion(
        image_dir=folder / "images",
        annotations_file=folder / "instances_val.json",
        output_dir=tmp_path,
        num_shards=4,
    )
    report = convert_mask_rcnn(settings)
    assert report.images == 90 and report.objects == {"nucleus": 2495} and report.findings == ()
    record = decode_record(RecordFile(report.files[0])[0])
    areas = [decode_mask(png).sum() for png in record.masks]
    np.testing.assert_array_equal(areas, record.area)
