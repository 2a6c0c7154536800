import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcnn_jax.data.conversion.detectnet import (
    CocoConversion,
    KittiConversion,
    convert_coco,
    convert_kitti,
)
from rcnn_jax.data.conversion.sample_modifier import SampleModifier
from rcnn_jax.data.formats.tfrecord import RecordFile, decode_example
from rcnn_jax.errors import DataError, SpecError, UsageError

FLOATS = [
    f"target/{name}"
    for name in (
        *("truncation", "observation_angle"),
        *("coordinates_x1", "coordinates_y1", "coordinates_x2", "coordinates_y2"),
        *("world_bbox_h", "world_bbox_w", "world_bbox_l"),
        *("world_bbox_x", "world_bbox_y", "world_bbox_z", "world_bbox_rot_y"),
    )
]


def label(name, x1, y1, x2, y2, occluded=0):
    return f"{name} 0.5 {occluded} -1 {x1} {y1} {x2} {y2} 1 2 3 4 5 6 7\n"


def make_kitti(root, count=4):
    """Images of 20 x 30 pixels, image i with i objects; all even images have a car."""
    for folder in ("image_2", "label_2"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(root / "image_2" / f"{i:03d}.png"), np.zeros((20, 30), np.uint8))
        lines = [label("Car" if i % 2 == 0 else "Person", j, 1, j + 5, 9) for j in range(i)]
        (root / "label_2" / f"{i:03d}.txt").write_text("".join(lines))
    return KittiConversion(root=root, image_dir_name="image_2", label_dir_name="label_2")


def change(settings, **changes):
    return type(settings)(**{**vars(settings), **changes})


def read(path):
    return [decode_example(data) for data in RecordFile(path)]


def ids(paths):
    return [example["frame/id"][0].decode() for path in paths for example in read(path)]


def sentences(report):
    return [item.sentence for item in report.findings]


def outputs(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_record_has_the_keys_and_values_of_the_original(tmp_path):
    settings = make_kitti(tmp_path / "data", 1)
    (tmp_path / "data" / "label_2" / "000.txt").write_text(label("Car", 1.5, 2, 30.25, 19, 2))
    report = convert_kitti(settings, tmp_path / "out" / "kitti")
    (example,) = read(tmp_path / "out" / "kitti-fold-001-of-002")
    zeros = dict(zip(FLOATS[6:], [[float(v)] for v in range(1, 8)], strict=True))
    assert example == {
        "frame/id": [b"image_2/000"],
        "frame/height": [20],
        "frame/width": [30],
        "target/object_class": [b"car"],
        "target/occlusion": [2],
        "target/truncation": [0.5],
        "target/observation_angle": [-1.0],
        "target/coordinates_x1": [1.5],
        "target/coordinates_y1": [2.0],
        "target/coordinates_x2": [30.25],
        "target/coordinates_y2": [19.0],
        **zeros,
    }
    assert report.objects == {"car": 1} and report.label_names == {"Car": "car"}


def test_random_partitions_hold_every_image_once_with_counts_per_class(tmp_path):
    settings = change(make_kitti(tmp_path / "data", 10), val_split=30.0, num_shards=2)
    report = convert_kitti(settings, tmp_path / "out" / "kitti")
    assert outputs(tmp_path / "out") == [
        f"kitti-fold-00{fold}-of-002-shard-0000{shard}-of-00002"
        for fold in (0, 1)
        for shard in (0, 1)
    ]
    assert sorted(ids(report.files)) == [f"image_2/{i:03d}" for i in range(10)]
    validation, training = report.partitions
    assert (validation.name, validation.images, training.images) == ("fold 0 of 2", 3, 7)
    assert len(read(validation.files[0])) == 1 and len(read(validation.files[1])) == 2
    for part in report.partitions:
        names = [n for path in part.files for e in read(path) for n in e["target/object_class"]]
        assert part.objects == {k: names.count(k.encode()) for k in part.objects}
    assert report.objects == {"car": 20, "person": 25} and report.images == 10
    assert report.findings == () and report.warnings_file is None


def test_the_seed_decides_the_division_and_the_bytes(tmp_path):
    settings = change(make_kitti(tmp_path / "data", 10), val_split=50.0)
    first = convert_kitti(settings, tmp_path / "a")
    again = convert_kitti(settings, tmp_path / "b")
    other = convert_kitti(change(settings, seed=1), tmp_path / "c")
    assert [p.read_bytes() for p in first.files] == [p.read_bytes() for p in again.files]
    assert set(ids(first.files[:1])) != set(ids(other.files[:1]))


def test_without_validation_images_training_stays_fold_one(tmp_path):
    report = convert_kitti(make_kitti(tmp_path / "data"), tmp_path / "out" / "k")
    assert outputs(tmp_path / "out") == ["k-fold-001-of-002"]
    assert sentences(report) == [
        "The validation partition is empty (val_split: 0 of 4 images): fold 0 has no file, all "
        "data is in fold 1."
    ]


def test_images_without_objects_are_kept(tmp_path):
    report = convert_kitti(make_kitti(tmp_path / "data", 1), tmp_path / "k")
    (example,) = read(report.files[0])
    assert example["target/object_class"] == [] and example["target/coordinates_x1"] == []


def test_boxes_in_shares_of_the_image_are_refused(tmp_path):
    settings = make_kitti(tmp_path / "data", 1)
    labels = tmp_path / "data" / "label_2" / "000.txt"
    labels.write_text(label("Car", 0.1, 0.2, 0.7, 0.9))
    with pytest.raises(DataError, match="000.txt: object 1: its box .* looks normalised"):
        convert_kitti(settings, tmp_path / "k")
    assert not list(tmp_path.glob("k*"))


def test_useless_boxes_are_left_out_and_listed(tmp_path):
    settings = make_kitti(tmp_path / "data", 1)
    labels = tmp_path / "data" / "label_2" / "000.txt"
    boxes = [(1.2, 2, 1.9, 8), (5, 9, 9, 3), (40, 1, 50, 9), (-9, 1, -2, 9), (-3, -2, 40, 9)]
    labels.write_text("".join(label("Car", *box) for box in boxes))
    report = convert_kitti(settings, tmp_path / "k")
    listed = json.loads((tmp_path / "k_warning.json").read_text())
    assert listed == {
        f"{labels}_0": [1, 2, 1, 8],
        f"{labels}_1": [5, 9, 9, 3],
        f"{labels}_2": [40, 1, 50, 9],
        f"{labels}_3": [-9, 1, -2, 9],
    }
    (example,) = read(report.files[0])
    assert example["target/coordinates_x1"] == [-3.0]  # partly outside: kept as it is
    assert report.skipped == 4 and report.warnings_file == tmp_path / "k_warning.json"
    assert sentences(report)[-1] == (
        f"4 boxes without area or outside their image are left out, the first in {labels}_0"
    )
    assert report.columns[-1].findings[-1].row == "box without area or outside"
    labels.write_text("")
    convert_kitti(settings, tmp_path / "k")
    assert not (tmp_path / "k_warning.json").exists()


def test_sequences_are_never_divided(tmp_path):
    settings = make_kitti(tmp_path / "data", 4)
    text = json.dumps({"a": ["000"], "b": ["001", "002", "003"]})
    (tmp_path / "data" / "map.json").write_text(text)
    settings = change(
        settings,
        partition_mode="sequence",
        kitti_sequence_to_frames_file="map.json",
        num_partitions=3,
    )
    report = convert_kitti(settings, tmp_path / "k")
    assert [part.name for part in report.partitions] == ["fold 1 of 3", "fold 2 of 3"]
    assert ids(report.partitions[0].files) == ["image_2/000"]
    single = convert_kitti(change(settings, num_partitions=0), tmp_path / "single")
    assert single.files == (tmp_path / "single",) and len(read(single.files[0])) == 4


def test_point_clouds_and_calibration_travel_in_the_records(tmp_path):
    settings = make_kitti(tmp_path / "data", 1)
    (tmp_path / "data" / "calib").mkdir()
    identity = "1 0 0 0 0 1 0 0 0 0 1 0"
    text = f"P2: {identity}\nR0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: {identity}\n"
    (tmp_path / "data" / "calib" / "000.txt").write_text(text)
    settings = change(settings, point_clouds_dir="velodyne", calibrations_dir="calib")
    (example,) = read(convert_kitti(settings, tmp_path / "k").files[0])
    assert example["point_cloud/id"] == [b"velodyne/000"]
    assert example["point_cloud/num_input_channels"] == [4]
    assert example["calibration/T_lidar_to_camera"] == np.eye(4).ravel().tolist()
    assert example["calibration/P_lidar_to_image"] == np.eye(4)[:3].ravel().tolist()


def test_the_modifier_leaves_the_validation_fold_alone(tmp_path):
    settings = change(make_kitti(tmp_path / "data", 10), val_split=50.0)
    modifier = SampleModifier(
        filter_samples_containing_only=("car",), source_to_target_class_mapping={"car": "car"}
    )
    kept = convert_kitti(settings, tmp_path / "a", modifier=modifier, validation_fold=0)
    assert [part.images for part in kept.partitions][0] == 5
    assert "car" not in kept.partitions[1].objects
    everywhere = convert_kitti(settings, tmp_path / "b", modifier=modifier)
    assert "car" not in everywhere.objects


def test_a_conversion_that_leaves_nothing_is_an_error(tmp_path):
    settings = make_kitti(tmp_path / "data", 3)
    (tmp_path / "data" / "image_2" / "000.png").unlink()
    (tmp_path / "data" / "image_2" / "001.png").unlink()
    modifier = SampleModifier(
        filter_samples_containing_only=("car",), source_to_target_class_mapping={"car": "car"}
    )
    with pytest.raises(DataError, match="no sample is left to write; see sample_modifier_config"):
        convert_kitti(settings, tmp_path / "out" / "k", modifier=modifier)
    assert outputs(tmp_path / "out") == []


def test_an_error_in_the_last_label_leaves_nothing_half_written(tmp_path):
    settings = change(make_kitti(tmp_path / "data", 6), val_split=50.0)
    broken = tmp_path / "data" / "label_2" / "005.txt"
    broken.write_text("Car 1 2\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=f"{broken}:1: 3 columns"):
        convert_kitti(settings, tmp_path / "out" / "k")
    assert outputs(tmp_path / "out") == []


def test_older_shards_of_the_same_prefix_are_refused(tmp_path):
    settings = make_kitti(tmp_path / "data")
    out = tmp_path / "out"
    convert_kitti(change(settings, num_shards=2), out / "k")
    before = outputs(out)
    with pytest.raises(DataError) as caught:
        convert_kitti(settings, out / "k")
    assert str(caught.value) == (
        f"{out}: holds 2 record files of an earlier conversion with the same prefix, which 'k*' "
        "would read with the new ones: k-fold-001-of-002-shard-00000-of-00002, "
        "k-fold-001-of-002-shard-00001-of-00002. Delete them, or choose another name or folder"
    )
    assert outputs(out) == before
    convert_kitti(change(settings, num_shards=2), out / "k")  # the same files are replaced
    convert_kitti(settings, out / "kk")


def test_a_validation_fold_of_an_earlier_conversion_is_refused(tmp_path):
    settings = make_kitti(tmp_path / "data")
    convert_kitti(change(settings, val_split=50.0), tmp_path / "k")
    with pytest.raises(DataError, match="holds 1 record files .*: k-fold-000-of-002. Delete"):
        convert_kitti(settings, tmp_path / "k")


def test_every_spelling_of_an_extension_is_taken_and_other_formats_are_counted(tmp_path):
    settings = make_kitti(tmp_path / "data", 4)
    images = tmp_path / "data" / "image_2"
    blank = np.zeros((20, 30), np.uint8)
    for old, new in (("000", "000.jpg"), ("001", "001.JPG"), ("002", "002.jpeg")):
        (images / f"{old}.png").unlink()
        images.joinpath(new).write_bytes(cv2.imencode(".jpg", blank)[1].tobytes())
    (images / "._000.jpg").write_bytes(b"x")
    (images / ".DS_Store").write_bytes(b"x")
    report = convert_kitti(change(settings, image_extension="jpg"), tmp_path / "k")
    assert sorted(ids(report.files)) == ["image_2/000", "image_2/001", "image_2/002"]
    found = {item.row: item.count for item in report.findings if item.row}
    assert found == {
        "hidden file": 1,
        "image of another format": 1,
        "label file without image": 1,
    }
    said = sentences(report)
    assert any("1 images of another format than image_extension are left out" in s for s in said)
    assert any("2 images are read under another extension" in s and "001.JPG" in s for s in said)


def test_two_spellings_of_one_stem_are_refused(tmp_path):
    settings = make_kitti(tmp_path / "data", 1)
    (tmp_path / "data" / "image_2" / "000.PNG").write_bytes(b"x")
    with pytest.raises(DataError, match="000.png: 000.PNG has the same stem"):
        convert_kitti(settings, tmp_path / "k")


def test_an_image_name_in_latin_1_is_named(tmp_path):
    settings = make_kitti(tmp_path / "data", 1)
    folder = os.fsencode(tmp_path / "data" / "image_2")
    (tmp_path / "data/image_2/000.png").rename(os.fsdecode(folder + b"/caf\xe9.png"))
    with pytest.raises(DataError, match=r"caf\\xe9.png: the name of the file is not UTF-8"):
        convert_kitti(settings, tmp_path / "k")


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_an_image_that_is_cut_in_half_is_refused(tmp_path, extension):
    settings = change(make_kitti(tmp_path / "data", 1), image_extension=extension)
    path = tmp_path / "data" / "image_2" / f"000{extension}"
    noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (20, 30, 3), np.uint8)
    whole = cv2.imencode(extension, noise)[1].tobytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(DataError, match="the image is cut off before its end: copy the file again"):
        convert_kitti(settings, tmp_path / "out" / "k")
    assert outputs(tmp_path / "out") == []
    path.write_bytes(whole + b"what phones append")
    convert_kitti(settings, tmp_path / "out" / "k")


def test_an_image_listed_twice_is_refused(tmp_path):
    settings = make_kitti(tmp_path / "data")
    (tmp_path / "data" / "map.json").write_text('{"a": ["000", "001", "000"]}')
    settings = change(settings, partition_mode="sequence", kitti_sequence_to_frames_file="map.json")
    with pytest.raises(DataError, match="image 'image_2/000' comes twice: records name images"):
        convert_kitti(settings, tmp_path / "k")
    (tmp_path / "data" / "map.json").write_text('{"a": ["000", "001"], "b": ["000"]}')
    report = convert_kitti(settings, tmp_path / "k")
    assert "1 images are in more than one fold, the first is image_2/000" in sentences(report)[-1]


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"num_partitions": 5}, SpecError, "num_partitions = 5: partition_mode 'random' makes 2"),
        ({"val_split": 100.0}, SpecError, r"val_split = 100 is not in \[0, 100\)"),
        ({"partition_mode": "sequence"}, SpecError, "kitti_sequence_to_frames_file is missing"),
        (
            {"image_extension": "jpg"},
            DataError,
            "no image with image_extension '.jpg'; found: 4 .png",
        ),
        ({"image_dir_name": "x"}, DataError, "data/x: cannot list the images: No such file"),
        ({"label_dir_name": "x"}, DataError, "x/00..txt: there is no such label file"),
        (
            {"calibrations_dir": "x"},
            DataError,
            "x/00..txt: there is no such calibration file",
        ),
        (
            {"partition_mode": "sequence", "kitti_sequence_to_frames_file": "x"},
            DataError,
            "data/x: there is no such file of sequences",
        ),
    ],
)
def test_contradictory_settings_and_missing_folders_are_named(tmp_path, changes, error, text):
    settings = change(make_kitti(tmp_path / "data"), **changes)
    with pytest.raises(error, match=text):
        convert_kitti(settings, tmp_path / "out" / "k")
    assert outputs(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected {sequence: "),
        ('{"a": [1]}', "expected {sequence: "),
        ('{"a": []}', "names no image"),
        ("{", "is not JSON: "),
        ('{"a": ["009"]}', "1 image cannot be used:\\n .*009.png: No such file"),
    ],
)
def test_damaged_sequence_files_are_refused(tmp_path, text, message):
    settings = make_kitti(tmp_path / "data")
    (tmp_path / "data" / "map.json").write_text(text)
    settings = change(settings, partition_mode="sequence", kitti_sequence_to_frames_file="map.json")
    with pytest.raises(DataError, match=message):
        convert_kitti(settings, tmp_path / "k")


def test_a_validation_fold_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match="validation fold 2 does not exist: .* 2 partitions, counted"
    ):
        convert_kitti(make_kitti(tmp_path / "data"), tmp_path / "k", validation_fold=2)


def make_coco(root: Path, **changes):
    content = {
        "images": [{"id": 4, "file_name": "sub/a.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 0, "name": "Traffic Light"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 0, "bbox": [1, 2, 10, 5]},
            {"id": 2, "image_id": 4, "category_id": 5, "bbox": [1, 2, 0, 5]},
            {"id": 3, "image_id": 4, "category_id": 5, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        ],
    }
    for split in ("train", "val"):
        (root / split / "sub").mkdir(parents=True)
        cv2.imwrite(str(root / split / "sub" / "a.jpg"), np.zeros((20, 30), np.uint8))
        (root / f"{split}.json").write_text(json.dumps({**content, **changes}))
    return CocoConversion(
        root=root,
        img_dir_names=("train", "val"),
        annotation_files=("train.json", "val.json"),
        num_partitions=2,
        num_shards=(1,),
    )


def test_coco_becomes_one_fold_per_annotation_file(tmp_path):
    report = convert_coco(make_coco(tmp_path / "data"), tmp_path / "out" / "coco")
    assert outputs(tmp_path / "out") == [
        "coco-fold-000-of-002-shard-00000-of-00001",
        "coco-fold-001-of-002-shard-00000-of-00001",
        "coco_warning.json",
    ]
    (example,) = read(report.files[1])
    assert example["frame/id"] == [b"val/sub/a"]
    assert example["target/object_class"] == [b"trafficlight", b"dog"]
    assert example["target/occlusion"] == [0, 3]
    assert [example[f"target/coordinates_{side}"][0] for side in ("x1", "y1", "x2", "y2")] == [
        1,
        2,
        11,
        7,
    ]
    assert all(example[name] == [0.0, 0.0] for name in FLOATS if "coordinates" not in name)
    assert report.label_names == {"Traffic Light": "trafficlight", "dog": "dog"}
    assert ("crowd: dog", 2) in [(item.row, item.count) for item in report.findings]
    listed = json.loads((tmp_path / "out" / "coco_warning.json").read_text())
    assert listed[f"{tmp_path}/data/val.json_2"] == [1, 2, 1, 7]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"num_partitions": 3},
            "num_partitions = 3, but there are 2 img_dir_names and 2 annotation_f",
        ),
        (
            {"num_shards": (1, 2, 3)},
            "num_shards has 3 values; expected 1, or one for each of the 2",
        ),
    ],
)
def test_coco_lists_must_agree(tmp_path, changes, text):
    settings = change(make_coco(tmp_path / "data"), **changes)
    with pytest.raises(SpecError, match=text):
        convert_coco(settings, tmp_path / "k")


def test_coco_categories_must_agree(tmp_path):
    settings = make_coco(tmp_path / "data")
    content = json.loads((tmp_path / "data" / "val.json").read_text())
    content["categories"][0]["name"] = "trafficlight"
    (tmp_path / "data" / "val.json").write_text(json.dumps(content))
    convert_coco(settings, tmp_path / "same")
    content["categories"][1]["name"] = "cat"
    (tmp_path / "data" / "val.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match="val.json: its categories differ from .*: cat, dog occur in"
    ):
        convert_coco(settings, tmp_path / "k")


def test_coco_sizes_must_be_those_of_the_files(tmp_path):
    images = [{"id": 4, "file_name": "sub/a.jpg", "height": 30, "width": 20}]
    settings = make_coco(tmp_path / "data", images=images)
    with pytest.raises(
        DataError, match="sub/a.jpg: is 30 x 20 pixels; .*json says 20 x 30 for image 4"
    ):
        convert_coco(settings, tmp_path / "k")


def test_a_missing_coco_image_is_named(tmp_path):
    settings = make_coco(tmp_path / "data")
    (tmp_path / "data" / "val" / "sub" / "a.jpg").unlink()
    with pytest.raises(
        DataError, match="val.json: 1 image cannot be used:\n .*val/sub/a.jpg: No such file"
    ):
        convert_coco(settings, tmp_path / "out" / "k")
    assert outputs(tmp_path / "out") == []


def test_categories_that_become_one_class_are_said(tmp_path):
    categories = [{"id": 0, "name": "Traffic Light"}, {"id": 5, "name": "trafficlight"}]
    report = convert_coco(make_coco(tmp_path / "data", categories=categories), tmp_path / "k")
    assert any(
        "the categories 0, 5 are all called 'trafficlight' in records and become one class" in said
        for said in sentences(report)
    )


def test_images_that_differ_in_the_extension_only_are_refused(tmp_path):
    images = [
        {"id": i, "file_name": f"a.{end}", "height": 20, "width": 30}
        for i, end in ((4, "jpg"), (5, "png"))
    ]
    settings = make_coco(tmp_path / "data", images=images)
    for image in images:
        for split in ("train", "val"):
            path = tmp_path / "data" / split / image["file_name"]
            cv2.imwrite(str(path), np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match="image 'train/a' comes twice"):
        convert_coco(settings, tmp_path / "k")


def test_a_real_dataset_is_converted(shared, tmp_path):
    settings = KittiConversion(
        root=shared / "data" / "bccd_kitti",
        image_dir_name="images",
        label_dir_name="labels",
        image_extension=".jpg",
        val_split=20.0,
        num_shards=4,
    )
    report = convert_kitti(settings, tmp_path / "bccd")
    assert report.images == 364 and len(report.files) == 8
    assert report.objects == {"platelets": 361, "rbc": 4153, "wbc": 372}
