import json

import cv2
import numpy as np
import pytest

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.mask_rcnn_records import MaskRcnnRecord, encode_mask, encode_record
from rcnn_jax.data.formats.tfrecord import write_records
from rcnn_jax.data.loader.batching import BatchSettings, make_batch
from rcnn_jax.data.loader.mask_crops import Polygons, Raster
from rcnn_jax.data.loader.plan import evaluation_plan
from rcnn_jax.data.sources.masks import CocoFolder, MaskRcnnRecords
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import GeometrySettings, GroundTruthSettings

IDS, NAMES = {3: 0, 7: 1}, ("cat", "dog")
SETTINGS = BatchSettings(
    geometry=GeometrySettings(mode="keep_aspect", height=32, width=32),
    gt=GroundTruthSettings(max_objects=2, mask_size=4),
    channel_order="rgb",
)


def half_mask():
    mask = np.zeros((8, 16), np.uint8)
    mask[0:4, 0:4] = 1
    return mask


def record(**changes):
    pixels = np.full((8, 16, 3), (1, 2, 3), np.uint8)
    fields = {
        "encoded": cv2.imencode(".png", pixels)[1].tobytes(),
        "source_id": "42",
        "filename": "a.png",
        "height": 8,
        "width": 16,
        "boxes": np.float32([[0, 0, 0.5, 0.5]]),
        "labels": np.array([7]),
        "class_names": (),
        "area": np.float32([16]),
        "crowd": np.array([False]),
        "masks": (encode_mask(half_mask()),),
    }
    return encode_record(MaskRcnnRecord(**{**fields, **changes}))


def records(folder, *shards, masks=True):
    paths = []
    for number, content in enumerate(shards):
        paths.append(folder / f"train-{number:05d}.tfrecord")
        write_records(paths[-1], content)
    return MaskRcnnRecords(paths, IDS, NAMES, masks=masks)


def coco(folder, annotations, **image):
    cv2.imwrite(str(folder / "a.png"), np.full((8, 16, 3), (1, 2, 3), np.uint8))
    path = folder / "instances.json"
    base = {"id": 42, "file_name": "a.png", "height": 8, "width": 16}
    content = {
        "images": [{**base, **image}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": i + 1, "image_id": 42, "iscrowd": 0, "area": 16, **item}
            for i, item in enumerate(annotations)
        ],
    }
    path.write_text(json.dumps(content))
    return CocoFolder(CocoDataset.load(path, masks=True), folder, IDS, NAMES)


SQUARE = {"category_id": 7, "bbox": [0, 0, 8, 4], "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}


def test_coco_boxes_alone_are_data_without_masks(tmp_path):
    coco(tmp_path, [SQUARE])
    dataset = CocoDataset.load(tmp_path / "instances.json", masks=False)
    # A tuple of no masks would be data with masks to what follows: copy-paste would cut along none.
    assert CocoFolder(dataset, tmp_path, IDS, NAMES).annotation(0).masks is None


def test_records_give_pixels_boxes_classes_and_masks(tmp_path):
    source = records(
        tmp_path,
        [record(), record(source_id="43")],
        [],
        [record(source_id="44", labels=np.array([3]))],
    )
    assert len(source) == 3 and source.size(1) == (8, 16)
    assert source.source_id(1) == 43
    assert source.name(2).endswith("train-00002.tfrecord: record 0")
    np.testing.assert_array_equal(source.image(0, "rgb")[0, 0], (3, 2, 1))
    assert [source.annotation(i).classes.tolist() for i in range(3)] == [[1], [1], [0]]
    np.testing.assert_array_equal(source.annotation(0).boxes, [[0, 0, 4, 8]])
    np.testing.assert_array_equal(source.annotation(0).masks[0].decode(), half_mask())


@pytest.mark.parametrize("kind", ["records", "polygons", "rle"])
def test_every_kind_of_mask_gives_the_same_batch(tmp_path, kind):
    if kind == "records":
        source = records(tmp_path, [record()])
    else:
        counts = [0, *[4, 4] * 3, 4, 8 * 12 + 4]  # columns of eight: four inside, four outside
        rle = {"size": [8, 16], "counts": counts}
        item = {**SQUARE, "segmentation": rle} if kind == "rle" else SQUARE
        source = coco(tmp_path, [item])
    batch = make_batch(source, evaluation_plan([(32, 32)], 1)[0], SETTINGS)
    np.testing.assert_array_equal(batch.gt.boxes[0, 0], [0, 0, 8, 16])
    np.testing.assert_array_equal(batch.gt.masks[0, 0], [[1, 1, 0, 0]] * 4)
    assert batch.gt.classes[0, 0] == 1


def test_records_without_images_are_an_error(tmp_path):
    with pytest.raises(DataError, match="hold no image"):
        records(tmp_path, [])
    with pytest.raises(DataError, match="data source: the TFRecords hold no image"):
        records(tmp_path)


def test_unknown_categories_are_an_error(tmp_path):
    with pytest.raises(DataError, match="record 0: category id 9 is unknown; .* made from 3, 7"):
        records(tmp_path, [record(labels=np.array([9]))])


def test_boxes_that_are_not_finite_are_an_error(tmp_path):
    with pytest.raises(DataError, match="record 0: a box is not finite"):
        records(tmp_path, [record(boxes=np.float32([[0, 0, np.nan, 1]]))])
    with pytest.raises(DataError, match="record 0: a box reaches 300 times the size of the image"):
        records(tmp_path, [record(boxes=np.float32([[0, 0, 300, 1]]))])


def test_an_image_that_comes_twice_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"image 42 \('a.png'\) comes twice, first in .*record 0"):
        records(tmp_path, [record(), record(source_id="1")], [record()])


def test_records_that_call_one_id_two_names_are_an_error(tmp_path):
    source = records(tmp_path, [record(class_names=("dog",))])
    assert source.category_names == {7: "dog"}
    other = record(source_id="1", class_names=("cow",))
    with pytest.raises(DataError, match="category 7 is called 'cow' here, but 'dog' in other rec"):
        records(tmp_path, [record(class_names=("dog",))], [other])


def test_a_mask_of_another_size_is_found_when_the_source_is_opened(tmp_path):
    wrong = encode_mask(np.ones((9, 16), np.uint8))
    with pytest.raises(DataError, match="a mask is 9x16 pixels .* its image 8x16"):
        records(tmp_path, [record(masks=(wrong,))])


def test_an_image_of_another_size_than_stated_is_an_error(tmp_path):
    with pytest.raises(DataError, match="the image is 8x16 .* its record states 16x8"):
        records(tmp_path, [record(height=16, width=8)]).image(0, "rgb")
    with pytest.raises(DataError, match="a.png: the image is 8x16 .* made for 9x16"):
        coco(tmp_path, [], height=9).image(0, "rgb")


def test_records_without_masks_have_none(tmp_path):
    source = records(tmp_path, [record(masks=None)], masks=False)
    assert source.annotation(0).masks is None
    with pytest.raises(DataError, match="its 1 objects have no masks: convert .*include_mask: Fa"):
        records(tmp_path, [record(masks=None)])


def test_coco_folders_are_read_directly(tmp_path):
    crowd = {
        "category_id": 3,
        "bbox": [2, 1, 4, 5],
        "iscrowd": 1,
        "segmentation": {"size": [8, 16], "counts": [0, 128]},
    }
    empty = {"category_id": 3, "bbox": [2, 1, 0, 5], "segmentation": []}
    source = coco(tmp_path, [SQUARE, crowd, empty])
    actual = source.annotation(0)
    np.testing.assert_array_equal(actual.boxes, [[0, 0, 4, 8], [1, 2, 6, 6]])
    np.testing.assert_array_equal(actual.classes, [1, 0])
    np.testing.assert_array_equal(actual.crowd, [False, True])
    assert isinstance(actual.masks[0], Polygons) and isinstance(actual.masks[1], Raster)
    assert actual.masks[1].decode().all()
    assert source.source_id(0) == 42 and source.name(0).endswith("a.png")
    assert "1 boxes without area" in source.findings[0].sentence


def test_damaged_segmentations_are_named_when_the_file_is_loaded(tmp_path):
    broken = {**SQUARE, "segmentation": {"size": [8, 16], "counts": [3]}}
    with pytest.raises(DataError, match="annotation 1 of image 42 .*: its RLE is damaged"):
        coco(tmp_path, [broken])
    with pytest.raises(DataError, match="annotation 1 of image 42 .*: has no segmentation"):
        coco(tmp_path, [{**SQUARE, "segmentation": []}])


def test_missing_images_are_found_when_the_folder_is_opened(tmp_path):
    with pytest.raises(
        DataError, match="instances.json: 1 image cannot .*\n.*/b.png: No such file"
    ):
        coco(tmp_path, [], file_name="b.png")


def test_the_real_nuclei_fill_about_their_annotated_area(shared):
    root = shared / "data" / "nuclei_coco"
    dataset = CocoDataset.load(root / "instances_val.json", masks=True)
    source = CocoFolder(dataset, root / "images", {next(iter(dataset.categories)): 0}, ("nucleus",))
    settings = BatchSettings(
        geometry=GeometrySettings(mode="keep_aspect", height=256, width=256),
        gt=GroundTruthSettings(max_objects=400, mask_size=28, on_overflow="truncate"),
        channel_order="rgb",
    )
    batch = make_batch(source, evaluation_plan([(256, 256)] * len(source), 1)[0], settings)
    valid = batch.gt.valid[0]
    boxes, masks = batch.gt.boxes[0, valid], batch.gt.masks[0, valid]
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = masks.mean(axis=(1, 2)) * sides.prod(axis=1) / batch.scale[0].prod()
    annotated = np.array([a.area for a in dataset.annotations[source.source_id(0)]])
    assert len(areas) == len(annotated)
    np.testing.assert_allclose(areas.sum(), annotated.sum(), rtol=0.05)
