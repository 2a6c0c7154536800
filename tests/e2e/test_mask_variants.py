"""Mask R-CNN away from the usual numbers: another pyramid, anchors, sizes, in bfloat16."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from rcnn_jax.cli.main import main
from tests.e2e.tiny_mask import write_tiny

UNUSUAL = (
    ("(64, 64)", "(128, 128)"),
    ("min_level: 2", "min_level: 3"),
    ("max_level: 6", "max_level: 7"),
    ("num_scales: 1", "num_scales: 2"),
    ("[(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)]", "[(1.0, 1.0), (2.0, 0.4)]"),
    ("anchor_scale: 4", "anchor_scale: 3"),
    ("mrcnn_resolution: 8", "mrcnn_resolution: 12"),
    ("gt_mask_size: 28", "gt_mask_size: 20"),
    ("max_num_instances: 16", "max_num_instances: 16\n  multi_scale_min: 0.6"),
    ("augment_input_data: true", "augment_input_data: true\n  brightness_stddev: 0.1"),
    (
        'channel_plan { key: "rpn"',
        'channel_plan { key: "p6" value: 16 }\n  channel_plan { key: "p7" value: 16 }\n'
        '  channel_plan { key: "rpn"',
    ),
)
SHORT = ("num_epochs: 2", "total_steps: 1\nuse_amp: true\nvisualize_images_summary: true")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(root, spec) after one step, an evaluation and an export."""
    root = tmp_path_factory.mktemp("variant")
    spec = write_tiny(root, SHORT, *UNUSUAL)
    flags = ["-e", str(spec), "-d", str(root / "run"), "--gpus", "1"]
    assert main(["mask_rcnn", "train", *flags]) == 0
    model, graph = root / "run" / "model.step-1.tlt", root / "model.onnx"
    assert main(["mask_rcnn", "export", "-e", str(spec), "-m", str(model), "-o", str(graph)]) == 0
    return root, spec


def test_one_step_is_trained_and_evaluated(run):
    root, _ = run
    report = json.loads((root / "run" / "eval" / "step-1.json").read_text())
    assert list(report["class_AP"]) == ["AP", "mask_AP"]
    assert all(np.isfinite(value) for value in report["metrics"].values())
    lines = [json.loads(line) for line in (root / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if line["kind"] == "train")
    assert np.isfinite(losses["loss"]) and np.isfinite(losses["mask"])


def test_validation_images_reach_tensorboard_with_what_was_found(run):
    root, _ = run
    (events,) = (root / "run" / "tensorboard").iterdir()
    content = events.read_bytes()
    assert all(f"validation/{i}".encode() in content for i in range(3))


def test_the_graph_finds_what_the_model_finds_and_both_write_coco_results(run):
    root, spec = run
    by_suffix = {}
    for model in (root / "run" / "model.step-1.tlt", root / "model.onnx"):
        out = root / model.suffix[1:]
        flags = ["-i", str(root / "data" / "images"), "-o", str(out / "drawn"), "-t", "0"]
        argv = ["mask_rcnn", "inference", "-e", str(spec), "-m", str(model), *flags]
        assert main([*argv, "-l", str(out / "labels"), "--include_mask"]) == 0
        files = sorted((out / "labels").iterdir())
        assert len(files) == len(list((out / "drawn").iterdir())) == 9
        by_suffix[model.suffix] = [json.loads(file.read_text()) for file in files]
        results = json.loads((out / "labels.json").read_text())
        assert len(results) == sum(len(rows) for rows in by_suffix[model.suffix]) > 0
    assert [len(rows) for rows in by_suffix[".tlt"]] == [len(rows) for rows in by_suffix[".onnx"]]
    rows = by_suffix[".onnx"][-1]
    assert all(row["segmentation"]["size"] == [60, 64] for row in rows)
    truth = COCO(str(root / "data" / "instances_val.json"))
    known = [
        r for rows in by_suffix[".onnx"] for r in rows if r["image_id"] in set(truth.getImgIds())
    ]
    assert len(truth.loadRes(known).getAnnIds()) == len(known)
