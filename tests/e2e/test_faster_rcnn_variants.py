"""Runs that differ from the ordinary one: dynamic shapes, grey images, early stopping, config flags."""

import json

import cv2
import numpy as np
import onnx
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
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


@pytest.mark.long
def test_a_deeper_region_proposal_network_is_trained_with_rounding_exported_and_pruned(tmp_path):
    spec = write_tiny(tmp_path, epochs=2, training="enable_qat: true qat_start: 0.5")
    edit(
        spec,
        (
            'channel_plan { key: "rpn_conv1" value: 8 }',
            'channel_plan { key: "rpn_conv1" value: 8 }\nchannel_plan { key: "rpn_conv1_l1" value: 8 }'
            "\nrpn_conv_depth: 2",
        ),
    )
    assert command(spec, "train", "--gpus", "1") == 0
    first, second = (
        read_bundle(tmp_path / "run" / f"tiny.epoch{epoch}.tlt").arrays for epoch in (1, 2)
    )
    kernel = "params/rpn_conv1_l1/kernel"
    assert first[kernel].shape == (3, 3, 8, 8) and not np.array_equal(first[kernel], second[kernel])
    assert any(name.startswith("quant/rpn_conv1_l1") for name in second)
    model = str(tmp_path / "run" / "tiny.epoch2.tlt")
    graph = tmp_path / "int8.onnx"
    words = ["-m", model, "-o", str(graph), "--data_type", "int8", "--accept-loss"]
    assert command(spec, "export", *words) == 0
    named = [name for node in onnx.load(graph).graph.node for name in node.input]
    assert any("rpn_conv1_l1" in name for name in named)
    words = ["-m", model, "-o", str(tmp_path / "pruned.tlt"), "-pth", "2.0", "-nf", "4", "-pg", "4"]
    assert main(["faster_rcnn", "prune", *words]) == 0
    assert read_bundle(tmp_path / "pruned.tlt").arrays[kernel].shape[-1] == 4
