"""Runs that differ from the ordinary one: dynamic shapes, grey images, early stopping, config flags."""

import json

import cv2
import numpy as np

from rcnn_jax.cli.main import main
from tests.e2e.tiny import write_tiny


def edit(spec, *pairs):
    text = spec.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    spec.write_text(text)


def command(spec, task, *flags):
    return main(["faster_rcnn", task, "-e", str(spec), *flags])


def losses(folder, kind):
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == kind]


def test_images_of_two_shapes_train_evaluate_and_infer(tmp_path):
    """Dynamic shape: one canvas per batch, any batch size, every image scored and drawn."""
    spec = write_tiny(tmp_path, epochs=1)
    for path in sorted((tmp_path / "data" / "images").iterdir())[:3]:
        wide = np.pad(cv2.imread(str(path)), ((0, 0), (0, 64), (0, 0)))
        cv2.imwrite(str(path), wide)
    edit(
        spec,
        ("size_height_width { height: 96 width: 96 }", "size_min { min: 64 }"),
        (
            "augmentation_config {",
            "augmentation_config { preprocessing { output_image_min: 64 output_image_max: 128 }",
        ),
    )
    assert command(spec, "train", "--gpus", "1") == 0
    assert all(np.isfinite(loss) for loss in losses(tmp_path / "run", "epoch"))
    assert command(spec, "evaluate") == 0
    assert command(spec, "inference") == 0
    shapes = {cv2.imread(str(p)).shape for p in (tmp_path / "found" / "images").iterdir()}
    assert shapes == {(96, 96, 3), (96, 160, 3)}


def test_grey_images_train_and_early_stopping_ends_the_run(tmp_path, capsys):
    spec = write_tiny(
        tmp_path,
        epochs=5,
        training='early_stopping { monitor: "loss" patience: 1 min_delta: 100.0 }',
    )
    edit(
        spec,
        (
            "image_channel_order: 'bgr'",
            "image_type: GRAY_SCALE image_channel_order: 'l' "
            "image_channel_mean { key: 'l' value: 117.0 }",
        ),
    )
    assert command(spec, "train", "--gpus", "1") == 0
    assert "early stopping" in capsys.readouterr().out
    assert len(losses(tmp_path / "run", "epoch")) == 2
    assert (tmp_path / "run" / "tiny.epoch2.tlt").exists()
    assert command(spec, "train", "--gpus", "1") == 0
    assert "is finished" in capsys.readouterr().out
