import cv2
import numpy as np
import pytest

from rcnn_jax.data.formats.tfrecord import decode_example, encode_example, write_records
from rcnn_jax.data.sources.boxes import (
    ClassMap,
    Concatenation,
    DetectNetRecords,
    KittiFolder,
    select_shards,
)
from rcnn_jax.errors import DataError

CLASSES = ClassMap({"Car": "Vehicle", "van": "vehicle", "Pedestrian": "person"})


def frame(name, objects, height=20, width=30):
    """Objects are (class, x1, y1, x2, y2, occluded)."""
    columns = list(zip(*objects, strict=True)) or [()] * 6
    sides = {
        f"target/coordinates_{side}": np.array(column, np.float32)
        for side, column in zip(("x1", "y1", "x2", "y2"), columns[1:5], strict=True)
    }
    return encode_example(
        {
            "frame/id": [name.encode()],
            "frame/height": [height],
            "frame/width": [width],
            "target/object_class": [c.encode() for c in columns[0]],
            "target/occlusion": np.array(columns[5], np.int64),
            **sides,
        }
    )


def records(folder, *frames, **options):
    path = folder / "train-fold-001-of-002"
    write_records(path, frames)
    for data in frames:  # what a source needs to open: files that are there
        for name in decode_example(data).get("frame/id", []):
            if not list(folder.glob(f"{name.decode()}.*")):
                write_image(folder, name.decode())
    return DetectNetRecords([path], folder, "png", CLASSES, **options)


def write_image(folder, name, height=20, width=30):
    path = folder / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), (1, 2, 3), np.uint8))


def kitti_line(name, x1, y1, x2, y2, occluded=0):
    return f"{name} 0.0 {occluded} 0 {x1} {y1} {x2} {y2} 0 0 0 0 0 0 0\n"


def test_records_give_boxes_classes_sizes_and_pixels(tmp_path):
    write_image(tmp_path, "images/a")
    source = records(
        tmp_path, frame("images/a", [("car", 1, 2, 11, 12, 0), ("pedestrian", 3, 4, 5, 6, 2)])
    )
    assert len(source) == 1 and source.size(0) == (20, 30)
    assert source.name(0) == str(tmp_path / "images/a.png")
    actual = source.annotation(0)
    np.testing.assert_array_equal(actual.boxes, np.float32([[2, 1, 12, 11], [4, 3, 6, 5]]))
    np.testing.assert_array_equal(actual.classes, [1, 0])
    assert not actual.crowd.any() and actual.masks is None
    np.testing.assert_array_equal(source.image(0, "rgb")[0, 0], (3, 2, 1))
    assert source.image(0, "l").shape == (20, 30, 1)
    assert source.findings == ()


def test_occluded_objects_are_crowd_only_where_asked(tmp_path):
    data = frame("a", [("car", 1, 2, 11, 12, 0), ("car", 3, 4, 5, 6, 1)])
    source = records(tmp_path, data, difficult_is_crowd=True)
    np.testing.assert_array_equal(source.annotation(0).crowd, [False, True])


def test_omissions_are_counted_and_reported_once(tmp_path):
    source = records(
        tmp_path,
        frame("a", [("tram", 0, 0, 9, 9, 0), ("car", 5, 5, 5, 9, 0), ("car", 1, 1, 4, 4, 0)]),
        frame("b", [("tram", 0, 0, 9, 9, 0), ("misc", 0, 0, 9, 9, 0), ("car", 40, 2, 50, 9, 0)]),
    )
    assert [len(source.annotation(i).classes) for i in range(2)] == [1, 0]
    tram, boxes, misc = source.findings
    assert tram.sentence.startswith("2 objects of class 'tram' are left out: target_class_mapping")
    assert (tram.row, misc.row, misc.count) == ("not mapped: tram", "not mapped: misc", 1)
    assert boxes.sentence.startswith("2 boxes without area or outside their image")
    assert boxes.where.endswith("(a)") and source.label_names == {"tram", "misc", "car"}


def test_images_without_objects_are_ordinary(tmp_path):
    source = records(tmp_path, frame("a", []))
    assert source.annotation(0).boxes.shape == (0, 4)
    assert source.findings == ()


def test_a_coordinate_that_is_not_finite_is_an_error_naming_the_record(tmp_path):
    with pytest.raises(
        DataError, match=r"record 1 \(b\): object 1 \(car\) has the box .*nan.* not fin"
    ):
        records(tmp_path, frame("a", []), frame("b", [("car", 1, float("nan"), 4, 4, 0)]))


def test_missing_and_empty_images_are_found_when_a_source_is_opened(tmp_path):
    data = [frame("a", []), frame("b", []), frame("c", [])]
    records(tmp_path, *data)
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"")
    path = tmp_path / "train-fold-001-of-002"
    with pytest.raises(DataError) as caught:
        DetectNetRecords([path], tmp_path, "png", CLASSES)
    assert str(caught.value) == (
        f"{path}: 2 images cannot be used:\n"
        f"  {tmp_path}/a.png: No such file or directory\n"
        f"  {tmp_path}/b.png: is empty (0 bytes)"
    )


def test_images_of_another_spelling_are_found(tmp_path):
    write_image(tmp_path, "a")
    (tmp_path / "a.png").rename(tmp_path / "a.PNG")
    source = records(tmp_path, frame("a", []))
    assert source.name(0).endswith("a.PNG") and source.image(0, "rgb").shape == (20, 30, 3)
    assert "1 images are read under another extension" in source.findings[0].sentence
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="'a' may be any of a.PNG, a.jpg: remove all but one"):
        records(tmp_path, frame("a", []))


def test_an_image_that_comes_twice_is_named_and_copies_are_not(tmp_path):
    a, b = frame("a", []), frame("b", [])
    assert len(records(tmp_path, a, a, b)) == 3  # sample_modifier_config writes copies
    with pytest.raises(DataError, match="record 2: image 'a' comes twice, first in .*record 0"):
        records(tmp_path, a, b, a)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"frame/id": [b"\xff"]}, "'frame/id' is b'.xff', which is not UTF-8 text"),
        ({"frame/id": [b"a\0"]}, "holds a NUL character"),
        ({"frame/id": [1]}, "'frame/id' holds int, expected bytes"),
        ({"frame/height": [-4]}, "its size is 4 x -4 pixels"),
        ({"frame/width": [1 << 40]}, "its size is 1099511627776 x 4 pixels"),
        ({"frame/width": [4.0]}, "'frame/width' holds float, expected int"),
        ({"target/object_class": [b"\xe9"]}, "'target/object_class' is .* not UTF-8"),
        ({"target/occlusion": [0.5]}, "'target/occlusion' holds float, expected int"),
    ],
)
def test_values_of_a_wrong_kind_are_named(tmp_path, changes, text):
    example = {
        "frame/id": [b"a"],
        "frame/height": [4],
        "frame/width": [4],
        "target/object_class": [b"car"],
        **{f"target/coordinates_{side}": [1.0] for side in ("x1", "y1", "x2", "y2")},
        **changes,
    }
    path = tmp_path / "shard"
    write_records(path, [encode_example(example)])
    with pytest.raises(DataError, match=text):
        DetectNetRecords([path], tmp_path, "png", CLASSES)


def test_records_of_another_kind_are_an_error(tmp_path):
    with pytest.raises(DataError, match="record 0: frame/id.* is missing; found other"):
        records(tmp_path, encode_example({"other": [1]}))


def test_columns_of_different_length_are_an_error(tmp_path):
    data = encode_example(
        {
            "frame/id": [b"a"],
            "frame/height": [4],
            "frame/width": [4],
            "target/object_class": [b"car", b"car"],
            "target/coordinates_x1": [1.0],
        }
    )
    with pytest.raises(DataError, match=r"\(a\): 2 class names, but 0, 1, 0, 0 coordinates"):
        records(tmp_path, data)


def test_records_without_images_are_an_error(tmp_path):
    with pytest.raises(DataError, match="hold no image"):
        records(tmp_path)


def test_an_image_of_another_size_than_its_record_is_an_error(tmp_path):
    write_image(tmp_path, "a", 30, 20)
    with pytest.raises(DataError, match=r"a.png: the image is 30x20 .* made for 20x30.*EXIF"):
        records(tmp_path, frame("a", [])).image(0, "rgb")


def test_shards_of_the_fold_validate_and_the_others_train(tmp_path):
    names = [f"d-fold-00{k}-of-002-shard-0000{s}-of-00002" for k in (0, 1) for s in (0, 1)]
    for name in [*names, "d_warning.json", ".d-fold-001.partial"]:
        (tmp_path / name).touch()
    pattern = [str(tmp_path / "*")]
    assert [p.name for p in select_shards(pattern, 0, training=False)] == names[:2]
    assert [p.name for p in select_shards(pattern, 0)] == names[2:]
    assert [p.name for p in select_shards(pattern)] == names


def test_a_fold_that_leaves_nothing_is_explained(tmp_path):
    (tmp_path / "d-fold-000-of-002").touch()
    with pytest.raises(
        DataError, match="validation_fold = 0 leaves no training data.*another val_split"
    ):
        select_shards([str(tmp_path / "d*")], 0)
    with pytest.raises(DataError, match="validation_fold = 1 leaves no validation data"):
        select_shards([str(tmp_path / "d*")], 1, training=False)


def test_a_pattern_without_files_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"tfrecords/\*: no file matches tfrecords_path"):
        select_shards(["tfrecords/*"])


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("", "the pattern is empty"),
        ("/", "it is a folder"),
        (".", "it is a folder"),
        ("set", r"it is a folder; write set/\*"),
        ("$HOME/x*", "variables of the shell are not expanded"),
        ("~/x*", "variables of the shell are not expanded"),
        ("a**b", "run dataset_convert first"),
    ],
)
def test_a_pattern_of_another_form_is_told_how_it_is_written(
    pattern, advice, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").touch()
    with pytest.raises(DataError, match=f"no file matches tfrecords_path: .*{advice}"):
        select_shards([pattern])


def test_a_folder_may_have_brackets_in_its_name(tmp_path):
    folder = tmp_path / "set [v2]"
    folder.mkdir()
    (folder / "a-00").touch()
    assert select_shards([f"{folder}/a*"]) == [folder / "a-00"]


def test_kitti_folders_are_read_directly(tmp_path):
    write_image(tmp_path, "images/b")
    write_image(tmp_path, "images/a", 10, 12)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("")
    (tmp_path / "labels/b.txt").write_text(
        kitti_line("Car", 1, 2, 11, 12, 1) + kitti_line("DontCare", -1, -1, -1, -1)
    )
    folders = (tmp_path / "images", tmp_path / "labels", CLASSES)
    source = KittiFolder(*folders, difficult_is_crowd=True)
    assert [source.size(i) for i in range(len(source))] == [(10, 12), (20, 30)]
    np.testing.assert_array_equal(source.annotation(1).boxes, [[2, 1, 12, 11]])
    assert source.annotation(1).crowd.all()
    assert source.image(0, "bgr").shape == (10, 12, 3)
    assert source.findings[0].row == "not mapped: DontCare"
    assert KittiFolder(*folders, stems=["b"]).name(0).endswith("b.png")
    with pytest.raises(DataError, match="1 of 2 listed images are not there, the first is zebra"):
        KittiFolder(*folders, stems=["b", "zebra"])


def test_hidden_files_are_no_images_and_labels_without_image_are_counted(tmp_path):
    write_image(tmp_path, "images/a")
    for name in ("._a.png", ".DS_Store"):
        (tmp_path / "images" / name).write_bytes(b"x")
    (tmp_path / "labels").mkdir()
    for name in ("a.txt", "b.txt", "._a.txt"):
        (tmp_path / "labels" / name).write_text("")
    source = KittiFolder(tmp_path / "images", tmp_path / "labels", CLASSES)
    assert len(source) == 1
    assert [(item.row, item.count) for item in source.findings] == [
        ("hidden file", 1),
        ("label file without image", 1),
    ]


def test_kitti_images_need_a_label_file(tmp_path):
    write_image(tmp_path, "images/b")
    with pytest.raises(DataError, match="b.txt"):
        KittiFolder(tmp_path / "images", tmp_path / "labels", CLASSES)


def test_an_empty_kitti_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no image"):
        KittiFolder(tmp_path, tmp_path, CLASSES)


def test_images_with_one_stem_are_an_error(tmp_path):
    write_image(tmp_path, "a")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="a.png: a.jpg has the same stem"):
        KittiFolder(tmp_path, tmp_path, CLASSES)


def test_concatenated_sources_are_one(tmp_path):
    for name, count in (("one", 2), ("two", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            write_image(tmp_path, f"{name}/{i}", 10 + i, 10)
    parts = [
        records(
            tmp_path / "one", frame("0", [("car", 0, 0, 5, 5, 0)], 10, 10), frame("1", [], 11, 10)
        ),
        records(tmp_path / "two", frame("0", [("pedestrian", 0, 0, 5, 5, 0)], 10, 10)),
    ]
    source = Concatenation(parts)
    assert len(source) == 3
    assert [source.name(i)[len(str(tmp_path)) + 1 :] for i in range(3)] == [
        "one/0.png",
        "one/1.png",
        "two/0.png",
    ]
    assert source.size(1) == (11, 10) and source.image(1, "rgb").shape == (11, 10, 3)
    assert [source.annotation(i).classes.tolist() for i in range(3)] == [[1], [], [0]]


def test_images_of_two_sources_are_reported(tmp_path):
    source = records(tmp_path, frame("a", []), frame("b", []))
    (finding,) = Concatenation([source, source]).findings
    assert "2 images come from more than one data source" in finding.sentence


def test_concatenation_needs_sources_of_the_same_classes(tmp_path):
    write_image(tmp_path, "a")
    (tmp_path / "a.txt").write_text("")
    other = KittiFolder(tmp_path, tmp_path, ClassMap({"x": "dog"}))
    with pytest.raises(DataError, match="different classes: dog; person, vehicle"):
        Concatenation([other, records(tmp_path, frame("a", []))])
    with pytest.raises(DataError, match="no data source"):
        Concatenation([])


def test_the_real_folder_has_its_documented_objects(shared):
    root = shared / "data" / "bccd_kitti"
    source = KittiFolder(
        root / "images",
        root / "labels",
        ClassMap({"RBC": "rbc", "WBC": "wbc", "Platelets": "platelets"}),
        stems=(root / "val.txt").read_text().split(),
    )
    assert len(source) == 87
    assert source.size(0) == source.image(0, "rgb").shape[:2]
