"""A folder of all that is found in folders: what can be used is, the rest is named."""

import json
import os
import re
import socket

import cv2
import numpy as np
import pytest

from rcnn_jax.cli.session import Session
from rcnn_jax.data.formats.image_folder import find_images
from rcnn_jax.errors import DataError
from rcnn_jax.inference.names import output_names
from rcnn_jax.inference.outputs import CocoLabels, KittiLabels, Pictures
from rcnn_jax.inference.predict import run_inference, suppress_across_classes
from rcnn_jax.spec.load import load_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny

CROP = (
    "augmentation_config { preprocessing { crop_left: 20 crop_top: 20 "
    "crop_right: 116 crop_bottom: 116 }"
)


@pytest.fixture
def experiment(tmp_path):
    return build_experiment(load_spec(write_tiny(tmp_path, images=2)).config, "faster_rcnn")


def find_one(images):
    """Finds one box in every canvas: what a trained network would be asked for."""
    count = len(images)
    return (
        Detections(
            boxes=np.tile(np.float32([[[10, 10, 40, 50]]]), (count, 1, 1)),
            scores=np.full((count, 1), 0.9, np.float32),
            classes=np.zeros((count, 1), np.int32),
            valid=np.ones((count, 1), bool),
            masks=None,
        ),
        None,
    )


def infer(experiment, source, out, capsys, suffix="txt"):
    """Returns (skipped, what was printed); outputs go to `out`."""
    images = find_images(source)
    outputs = output_names(images.paths)
    names = ("disc", "rod", "star")
    labels = (
        KittiLabels(out / "labels", outputs, names)
        if suffix == "txt"
        else CocoLabels(out / "labels", outputs, (1, 2, 3))
    )
    writers = [labels, Pictures(out / "images", outputs, names, captions=True)]
    with Session("inference", status_folder=None) as session:
        failed = run_inference(
            experiment, find_one, images, writers, threshold=0.5, reporter=session
        )
    return failed, capsys.readouterr().out


def picture(path, side=96, value=90):
    data = cv2.imencode(path.suffix, np.full((side, side, 3), value, np.uint8))[1].tobytes()
    path.write_bytes(data)


def test_outputs_of_equal_stems_are_all_there(experiment, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "A.bmp", "b.png"):
        picture(folder / name)
    failed, text = infer(experiment, folder, tmp_path / "out", capsys)
    assert failed == 0
    written = sorted(path.name for path in (tmp_path / "out" / "labels").iterdir())
    assert written == ["A.bmp.txt", "a.jpg.txt", "a.png.txt", "b.txt"]
    shown = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert shown == ["A.bmp", "a.jpg", "a.png", "b.png"]
    assert re.search(r"^4 images, 4 objects .* at least 0.5, 0 skipped, \d+\.\d s$", text, re.M)
    infer(experiment, folder, tmp_path / "json", capsys, suffix="json")
    assert len(list((tmp_path / "json" / "labels").iterdir())) == 4
    assert len(json.loads((tmp_path / "json" / "labels.json").read_text())) == 4


def test_what_cannot_be_used_is_named_and_skipped(experiment, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "good.png")
    picture(folder / os.fsdecode(b"caf\xe9.png"))
    picture(folder / ("x" * 245 + ".png"))  # its label ends in .txt: as long
    picture(folder / ("y" * 251 + ".png"))
    picture(folder / "red\x1b[31m.png")
    (folder / "broken\n.png").write_bytes(b"nothing")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to("gone")
    (folder / "._good.png").write_bytes(b"resource fork")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.png"))
    failed, text = infer(experiment, folder, tmp_path / "out", capsys)
    skipped = [line for line in text.splitlines() if "(skipped)" in line]
    assert failed == len(skipped) == 6
    for part in (
        "broken\\n.png: is not",
        "empty.png: is empty",
        "folder.png: expected an image, found a folder",
        "pipe.png: .* a named pipe",
        "socket.png: .* a socket",
        "nowhere.png",
    ):
        assert any(re.search(part.replace("\\n", "\\\\n"), line) for line in skipped), part
    assert "\x1b" not in text
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 5
    assert "5 images, 5 objects" in text


def test_an_image_outside_the_crop_is_skipped(tmp_path, capsys):
    spec = write_tiny(tmp_path, images=2)
    spec.write_text(spec.read_text().replace("augmentation_config {", CROP))
    experiment = build_experiment(load_spec(spec).config, "faster_rcnn")
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "large.png", side=200)
    picture(folder / "small.png", side=10)
    failed, text = infer(experiment, folder, tmp_path / "out", capsys)
    assert failed == 1
    assert "small.png: an image of 10x10 pixels" in text and "nothing inside the crop" in text


def test_a_picture_and_a_pattern_are_taken_as_input(experiment, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a1.png", "a2.png", "b.png"):
        picture(folder / name)
    assert "1 images" in infer(experiment, folder / "b.png", tmp_path / "one", capsys)[1]
    assert "2 images" in infer(experiment, f"{folder}/a*.png", tmp_path / "two", capsys)[1]


def test_outputs_that_cannot_be_written_at_all_end_the_command(experiment, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels").write_text("a file in the way")
    with pytest.raises(DataError, match="labels: cannot be written"):
        infer(experiment, folder, tmp_path / "out", capsys)


def test_across_classes_the_best_of_overlapping_boxes_stays():
    found = Detections(
        boxes=np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 10, 9]], np.float32),
        scores=np.array([0.6, 0.9, 0.5, 0.9], np.float32),
        classes=np.array([0, 1, 0, 2], np.int32),
        valid=np.ones(4, bool),
        masks=None,
    )
    kept = suppress_across_classes(found, 0.5)
    assert kept.classes.tolist() == [1, 0]  # of equal scores the first
    np.testing.assert_allclose(kept.scores, [0.9, 0.5])
    assert len(suppress_across_classes(found, 1.0).scores) == 4
