"""TensorFlow reads the records written here, and the records TensorFlow writes are read here."""

import warnings

import numpy as np
import pytest

from rcnn_jax.data.conversion.detectnet import KittiConversion, convert_kitti
from rcnn_jax.data.conversion.mask_rcnn import MaskRcnnConversion, convert_mask_rcnn
from rcnn_jax.data.formats.mask_rcnn_records import decode_record
from rcnn_jax.data.formats.tfrecord import RecordFile, decode_example, encode_example, write_records
from rcnn_jax.data.synthetic import generate, write_coco, write_kitti

pytestmark = pytest.mark.peers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TensorFlow's own imports are not ours to mend
    tf = pytest.importorskip(
        "tensorflow", reason="TensorFlow is not installed; the extra 'peers' brings it"
    )

SIZE = {"height": 64, "width": 96}
FEATURES = {
    "name": [b"a", b"\x00\xff"],
    "count": [3, -1, 2**62],
    "ratio": [0.5, -2.0],
    "empty_float": np.zeros(0, np.float32),
    "empty_int": np.zeros(0, np.int64),
    "none": [],
}


def test_equal_features_are_the_same_message():
    theirs = tf.train.Example.FromString(encode_example(FEATURES))
    kinds = {name: f.WhichOneof("kind") for name, f in theirs.features.feature.items()}
    assert kinds == {
        "name": "bytes_list",
        "count": "int64_list",
        "ratio": "float_list",
        "empty_float": "float_list",
        "empty_int": "int64_list",
        "none": None,
    }
    plain = {name: list(values) for name, values in FEATURES.items()}
    assert decode_example(theirs.SerializeToString()) == plain


def test_tensorflow_reads_files_written_here(tmp_path):
    records = [bytes([i]) * (i * i) for i in range(40)]
    write_records(tmp_path / "ours", records)
    dataset = tf.data.TFRecordDataset(str(tmp_path / "ours"))
    assert [item.numpy() for item in dataset] == records


def test_files_written_by_tensorflow_are_read_here(tmp_path):
    records = [bytes([i]) * (i * i) for i in range(40)]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    with RecordFile(tmp_path / "theirs") as file:
        assert list(file) == records
    write_records(tmp_path / "ours", records)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_detection_records_pass_tensorflows_parser(tmp_path):
    write_kitti(tmp_path, seed=2, count=4, **SIZE)
    settings = KittiConversion(root=tmp_path, image_dir_name="images", label_dir_name="labels")
    report = convert_kitti(settings, tmp_path / "cells")
    description = {
        "frame/id": tf.io.FixedLenFeature([], tf.string),
        "frame/height": tf.io.FixedLenFeature([], tf.int64),
        "frame/width": tf.io.FixedLenFeature([], tf.int64),
        "target/object_class": tf.io.VarLenFeature(tf.string),
        "target/occlusion": tf.io.VarLenFeature(tf.int64),
        **{
            f"target/coordinates_{side}": tf.io.VarLenFeature(tf.float32)
            for side in ("x1", "y1", "x2", "y2")
        },
    }
    scenes = list(generate(2, 4, **SIZE))
    for data in tf.data.TFRecordDataset([str(path) for path in report.files]):
        parsed = tf.io.parse_single_example(data, description)
        scene = scenes[int(parsed["frame/id"].numpy().decode().removeprefix("images/"))]
        assert (parsed["frame/height"], parsed["frame/width"]) == (64, 96)
        sides = [parsed[f"target/coordinates_{side}"].values for side in ("y1", "x1", "y2", "x2")]
        np.testing.assert_array_equal(np.stack(sides, axis=1), scene.boxes)


def test_mask_records_pass_tensorflows_parser_and_png_decoder(tmp_path):
    paths = write_coco(tmp_path, seed=2, train_count=3, val_count=1, **SIZE)
    settings = MaskRcnnConversion(
        image_dir=tmp_path / "images",
        annotations_file=paths["train"],
        output_dir=tmp_path / "records",
        num_shards=1,
    )
    report = convert_mask_rcnn(settings)
    scenes = generate(2, 3, **SIZE)
    records = tf.data.TFRecordDataset([str(path) for path in report.files])
    description = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/source_id": tf.io.FixedLenFeature([], tf.string),
        "image/object/class/label": tf.io.VarLenFeature(tf.int64),
        "image/object/is_crowd": tf.io.VarLenFeature(tf.int64),
        "image/object/area": tf.io.VarLenFeature(tf.float32),
        "image/object/mask": tf.io.VarLenFeature(tf.string),
        "image/object/bbox/ymin": tf.io.VarLenFeature(tf.float32),
    }
    for number, (data, scene) in enumerate(zip(records, scenes, strict=True), start=1):
        parsed = tf.io.parse_single_example(data, description)
        assert int(tf.strings.to_number(parsed["image/source_id"])) == number
        np.testing.assert_array_equal(tf.io.decode_image(parsed["image/encoded"]), scene.image)
        labels = parsed["image/object/class/label"].values
        np.testing.assert_array_equal(labels, scene.classes + 1)
        for index, png in enumerate(parsed["image/object/mask"].values):
            mask = tf.io.decode_png(png, channels=1, dtype=tf.uint8)[..., 0]
            np.testing.assert_array_equal(mask, scene.mask(index))
        ours = decode_record(data.numpy())
        np.testing.assert_array_equal(ours.boxes[:, 0], parsed["image/object/bbox/ymin"].values)
