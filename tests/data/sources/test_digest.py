import json

import numpy as np
import pytest

from rcnn_jax.data.formats.coco import CocoDataset
from rcnn_jax.data.formats.tfrecord import RecordFile, write_records
from rcnn_jax.data.sources.boxes import ClassMap, Concatenation, KittiFolder
from rcnn_jax.data.sources.digest import (
    DataDigest,
    ImageDigest,
    differences,
    digest_source,
    segmentation_bytes,
)
from rcnn_jax.data.sources.masks import CocoFolder
from rcnn_jax.data.synthetic import write_coco, write_kitti
from tests.data.sources.test_boxes import frame, records, write_image
from tests.data.sources.test_masks import record
from tests.data.sources.test_masks import records as mask_records

A, B, C = (ImageDigest(size, "00") for size in (1, 2, 3))
CLASSES = ClassMap({"disc": "disc", "star": "star", "rod": "rod"})


def data(*images, classes=("cat", "dog"), ids=None) -> DataDigest:
    return DataDigest(classes, ids, images)


@pytest.fixture
def kitti(tmp_path):
    write_kitti(tmp_path, seed=1, count=4, height=40, width=50)
    return lambda: digest_source(KittiFolder(tmp_path / "images", tmp_path / "labels", CLASSES))


def test_the_same_data_has_the_same_digest(kitti):
    assert kitti() == kitti()
    assert kitti().summary() == kitti().summary()
    assert kitti().summary()["images"] == 4


def test_a_digest_survives_json(kitti):
    back = DataDigest.from_json(json.loads(json.dumps(kitti().to_json())))
    assert back == kitti() and back.summary() == kitti().summary()


@pytest.mark.parametrize("values", [None, [], {}, {"version": 1}, {"version": 99}, {"version": []}])
def test_a_digest_of_somebody_else_is_refused(values):
    with pytest.raises(ValueError):
        DataDigest.from_json(values)


def test_a_moved_box_and_another_class_are_relabelled_images(kitti, tmp_path):
    before = kitti()
    first, second = sorted((tmp_path / "labels").iterdir())[:2]
    columns = first.read_text().splitlines()[0].split(" ")
    columns[4] = str(float(columns[4]) + 1)
    rest = first.read_text().splitlines()[1:]
    first.write_text("\n".join([" ".join(columns), *rest]) + "\n")
    name = second.read_text().split(" ")[0]
    second.write_text(second.read_text().replace(name, "star" if name != "star" else "disc"))
    (line,) = differences(before, kitti())
    assert line.startswith("2 images relabelled: ")
    assert first.stem in line and second.stem in line


def test_added_and_removed_images_and_those_of_another_length_differ(kitti, tmp_path):
    before = kitti()
    images = sorted((tmp_path / "images").iterdir())
    images[0].unlink()
    (tmp_path / "labels" / "new.txt").write_text("")
    write_image(tmp_path / "images", "new", 40, 50)
    with images[1].open("ab") as file:
        file.write(b"x")
    lines = differences(before, kitti())
    assert lines == [
        f"1 image added: {tmp_path / 'images' / 'new.png'}",
        f"1 image removed: {images[0]}",
        f"1 image of another file length: {images[1]}",
    ]


def test_records_of_labels_are_digested_with_their_images(tmp_path):
    write_image(tmp_path, "a")
    one = digest_source(records(tmp_path, frame("a", [("car", 1, 2, 11, 12, 0)])))
    two = digest_source(records(tmp_path, frame("a", [("car", 1, 2, 11, 13, 0)])))
    assert differences(one, two) == [f"1 image relabelled: {tmp_path / 'a.png'}"]


def test_a_record_with_its_image_is_known_by_its_own_checksum(tmp_path):
    other = record(source_id="7", labels=np.array([3]))
    one = digest_source(mask_records(tmp_path, [record(), other]), (3, 7))
    lengths = [len(record()), len(other)]
    assert [image.size for _, image in one.images] == lengths
    assert one.category_ids == (3, 7)
    two = digest_source(mask_records(tmp_path, [record(), record(source_id="43")]), (3, 7))
    assert len(differences(one, two)) == 1
    path = tmp_path / "train-00000.tfrecord"
    assert f"{path}: record 1" in differences(one, two)[0]


def test_a_record_put_in_front_moves_the_others_and_is_no_relabelling(tmp_path):
    first, second, new = (record(source_id=str(n)) for n in (1, 2, 3))
    one = digest_source(mask_records(tmp_path, [first, second]))
    two = digest_source(mask_records(tmp_path, [new, first, second]))
    path = tmp_path / "train-00000.tfrecord"
    assert differences(one, two) == [
        f"1 image added: {path}: record 0",
        f"2 images moved or renamed: {path}: record 1, {path}: record 2",
    ]


def test_the_checksum_of_a_record_is_read_without_its_data(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_records(path, [b"first", b"the second"])
    with RecordFile(path) as file:
        assert [file.checksum(i)[0] for i in range(2)] == [5, 10]
        assert file.checksum(0)[1] != file.checksum(1)[1]
        with pytest.raises(IndexError):
            file.checksum(2)


def test_polygons_and_categories_of_a_coco_file_count(tmp_path):
    write_coco(tmp_path, seed=1, train_count=3, val_count=1, height=40, width=50)
    path = next(tmp_path.rglob("*train*.json"))
    folder = next(tmp_path.rglob("*.png")).parent

    def read():
        dataset = CocoDataset.load(path, masks=True)
        ids = {item_id: index for index, item_id in enumerate(dataset.categories)}
        source = CocoFolder(dataset, folder, ids, tuple(dataset.categories.values()))
        return digest_source(source, tuple(dataset.categories))

    before = read()
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content, indent=1))
    assert read() == before, "spaces in the file are no change"
    polygon = content["annotations"][0]["segmentation"]
    content["annotations"][0]["segmentation"] = [[value + 0.5 for value in polygon[0]]]
    path.write_text(json.dumps(content))
    (line,) = differences(before, read())
    assert line.startswith("1 image relabelled")
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], [*names[1:], names[0]], strict=True):
        category["name"] = name
    path.write_text(json.dumps(content))
    lines = differences(before, read())
    assert lines[0] == f"classes: {', '.join(names)} -> {', '.join([*names[1:], names[0]])}"


def test_segmentations_that_are_none_are_digested_too():
    for value in (None, {"counts": "ab", "size": [1, 2]}, [[]], [["a"]], [[1e400]], 5, [[10**400]]):
        assert isinstance(segmentation_bytes(value), bytes)
    assert segmentation_bytes([[1, 2], [3]]) != segmentation_bytes([[1], [2, 3]])
    assert segmentation_bytes([[1, 2]]) == segmentation_bytes([[1.0, 2.0]])


def test_an_image_that_comes_twice_is_two_images(tmp_path):
    write_kitti(tmp_path, seed=1, count=2, height=40, width=50)
    source = KittiFolder(tmp_path / "images", tmp_path / "labels", CLASSES)
    digest = digest_source(Concatenation([source, source]))
    assert len(dict(digest.images)) == 4
    assert digest.images[2][0] == f"{digest.images[0][0]} (2)"
    assert digest.images[2][1] == digest.images[0][1]


def test_classes_and_ids_are_compared_in_order():
    assert differences(data(), data(classes=("dog", "cat"))) == ["classes: cat, dog -> dog, cat"]
    assert differences(data(ids=(1, 2)), data(ids=(2, 1))) == ["category ids: 1, 2 -> 2, 1"]
    assert differences(data(ids=None), data(ids=(1,))) == ["category ids: none -> 1"]


def test_another_order_alone_is_a_difference():
    one, two = data(("a", A), ("b", B)), data(("b", B), ("a", A))
    assert differences(one, two) == ["the images are in another order"]
    assert one.summary() != two.summary()
    assert differences(one, one) == []


def test_a_renamed_image_is_one_that_moved():
    assert differences(data(("a", A), ("b", B)), data(("a", A), ("c", B))) == [
        "1 image moved or renamed: c"
    ]
    assert differences(data(("a", A), ("b", A)), data(("b", A), ("c", C))) == [
        "1 image added: c",
        "1 image removed: a",
    ]


def test_only_the_first_images_of_a_long_list_are_named():
    many = [(f"image{n}", ImageDigest(n, "")) for n in range(9)]
    assert differences(data(), data(*many)) == [
        "9 images added: image0, image1, image2, image3, image4 and 4 more"
    ]
