"""dataset_convert on a folder of three images, from flags to the table of counts."""

import json

import cv2
import numpy as np
import pytest

from rcnn_jax.cli.main import faster_rcnn, mask_rcnn

SPEC = """
kitti_config {
  root_directory_path: "ROOT"
  image_dir_name: "images"
  label_dir_name: "labels"
  image_extension: ".png"
  num_partitions: 2
  num_shards: 1
  val_split: 34
}
"""


@pytest.fixture
def kitti(tmp_path):
    root = tmp_path / "data"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(root / "images" / f"{i}.png"), np.zeros((32, 48, 3), np.uint8))
        rows = ["Car 0 0 0 1 2 20 22 0 0 0 0 0 0 0\n"] * (i + 1)
        (root / "labels" / f"{i}.txt").write_text("".join(rows))
    return root


def test_faster_rcnn_counts_objects_per_class_and_fold(tmp_path, kitti, capsys):
    spec = tmp_path / "convert.txt"
    spec.write_text(SPEC.replace("ROOT", str(kitti)))
    out = tmp_path / "out"
    argv = ["dataset_convert", "-d", str(spec), "-o", str(out / "records/set"), "-v"]
    assert faster_rcnn([*argv, "-r", str(out)]) == 0
    output = capsys.readouterr().out
    row = next(line for line in output.splitlines() if " car " in line)
    cells = [int(cell) for cell in row.split("│")[2:-1]]
    assert cells[0] + cells[1] == cells[2] == 6
    assert "3 images in 2 files, 0 objects left out" in output
    assert len(list((out / "records").iterdir())) == 2
    assert "set-fold-001-of-002-shard-00000-of-00001" in output
    lines = [json.loads(line) for line in (out / "status.json").read_text().splitlines()]
    assert lines[1]["categorical"] == {"num_objects": [{"label": "car", "num": 6}]}
    assert lines[-1]["status"] == "SUCCESS"


def test_a_prefix_that_is_a_folder_is_explained(tmp_path, kitti, capsys):
    spec = tmp_path / "convert.txt"
    spec.write_text(SPEC.replace("ROOT", str(kitti)))
    (tmp_path / "set").mkdir()
    assert faster_rcnn(["dataset_convert", "-d", str(spec), "-o", str(tmp_path / "set")]) == 0
    assert f"the records lie beside the folder, as {tmp_path}/set-fold-*" in (
        capsys.readouterr().out
    )
    assert len(list(tmp_path.glob("set-fold-*"))) == 2


def test_a_relative_root_lies_below_data_base_path(tmp_path, kitti, monkeypatch):
    monkeypatch.setenv("DATA_BASE_PATH", str(tmp_path))
    spec = tmp_path / "convert.txt"
    spec.write_text(SPEC.replace("ROOT", "data"))
    assert faster_rcnn(["dataset_convert", "-d", str(spec), "-o", str(tmp_path / "set")]) == 0
    assert len(list(tmp_path.glob("set-fold-*"))) == 2


def test_labels_that_are_missing_are_one_message(tmp_path, kitti, capsys):
    (kitti / "labels" / "1.txt").unlink()
    spec = tmp_path / "convert.txt"
    spec.write_text(SPEC.replace("ROOT", str(kitti)))
    assert faster_rcnn(["dataset_convert", "-d", str(spec), "-o", str(tmp_path / "set")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "labels/1.txt" in error
    assert "Traceback" not in error


def test_a_conversion_without_any_object_is_said(tmp_path, kitti, capsys):
    for path in (kitti / "labels").iterdir():
        path.write_text("Car 0 0 0 20 22 1 2 0 0 0 0 0 0 0\n")
    spec = tmp_path / "convert.txt"
    spec.write_text(SPEC.replace("ROOT", str(kitti)))
    assert faster_rcnn(["dataset_convert", "-d", str(spec), "-o", str(tmp_path / "set")]) == 0
    captured = capsys.readouterr()
    assert "warning:" in captured.out + captured.err
    assert (
        "no object is left, and without one nothing can be trained" in captured.out + captured.err
    )


def test_mask_rcnn_writes_the_shards_of_a_coco_file(tmp_path, kitti, capsys):
    annotation = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "bbox": [2, 3, 10, 10],
        "area": 100,
        "iscrowd": 0,
        "segmentation": [[2, 3, 12, 3, 12, 13, 2, 13]],
    }
    coco = {
        "images": [{"id": 7, "file_name": "0.png", "height": 32, "width": 48}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "cell"}],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(coco))
    argv = ["dataset_convert", "-i", str(kitti / "images"), "-a", str(path), "-s", "2"]
    assert mask_rcnn([*argv, "-o", str(tmp_path / "out")]) == 0
    names = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert names == ["train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord"]
    output = capsys.readouterr().out
    assert "cell" in output
    assert "1 images in 2 files" in output
    assert mask_rcnn([*argv[:-1], "0", "-o", str(tmp_path / "out")]) == 2
    assert "--num_shards 0: expected 1 or more" in capsys.readouterr().err
