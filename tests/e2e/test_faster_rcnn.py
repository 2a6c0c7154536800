"""The whole path of a user, in process: train, resume, evaluate, infer."""

import json

import cv2
import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main
from tests.e2e.tiny import write_tiny

KEY = "a-secret-key-of-the-test"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    spec = write_tiny(root)
    assert main(["faster_rcnn", "train", "-e", str(spec), "-k", KEY, "--gpus", "1"]) == 0
    return root, spec


def test_training_leaves_bundles_logs_and_status(run):
    root, _ = run
    folder = root / "run"
    assert {"tiny.epoch1.tlt", "tiny.epoch2.tlt", "best.tlt", "config.json", "spec.txt"} <= {
        path.name for path in folder.iterdir()
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"epoch", "train", "evaluate"}
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    status = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    assert [line["status"] for line in status] == ["STARTED", "RUNNING", "RUNNING", "SUCCESS"]


def test_the_key_reaches_no_file(run):
    root, _ = run
    for path in (root / "run").rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_a_finished_run_says_so_and_succeeds(run, capsys):
    root, spec = run
    before = (root / "run" / "metrics.jsonl").read_bytes()
    assert main(["faster_rcnn", "train", "-e", str(spec), "-k", KEY, "--gpus", "1"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert (root / "run" / "metrics.jsonl").read_bytes() == before


def test_changed_settings_are_refused_with_a_list(run, capsys):
    root, spec = run
    other = spec.with_name("other.txt")
    other.write_text(spec.read_text().replace("roi_mini_batch: 8", "roi_mini_batch: 16"))
    assert main(["faster_rcnn", "train", "-e", str(other), "-k", KEY, "--gpus", "1"]) == 2
    message = capsys.readouterr().err
    assert "model_config.roi_mini_batch: 8 -> 16" in message
    assert "--fresh" in message


def test_evaluate_prints_the_table_and_writes_json_and_picture(run, capsys):
    root, spec = run
    assert main(["faster_rcnn", "evaluate", "-e", str(spec), "-k", KEY]) == 0
    printed = capsys.readouterr().out
    assert "=" * 90 in printed and "RPN_recall" in printed and "mAP@0.5" in printed
    report = json.loads((root / "run" / "eval" / "tiny.epoch2.json").read_text())
    assert 0.0 <= report["mAP"] <= 1.0
    assert (root / "run" / "eval" / "tiny.epoch2_PR_curve.png").stat().st_size > 1000


def test_evaluate_with_a_wrong_key_is_one_message(run, capsys):
    _, spec = run
    assert main(["faster_rcnn", "evaluate", "-e", str(spec), "-k", "wrong"]) == 2
    message = capsys.readouterr().err
    assert "key" in message and "Traceback" not in message


def test_inference_draws_dumps_and_names_corrupt_files(run, capsys):
    root, spec = run
    broken = root / "data" / "images" / "zz_broken.png"
    broken.write_bytes(b"not an image")
    try:
        assert main(["faster_rcnn", "inference", "-e", str(spec), "-k", KEY]) == 2
    finally:
        broken.unlink()
    captured = capsys.readouterr()
    assert "zz_broken.png" in captured.out + captured.err
    pictures = sorted((root / "found" / "images").iterdir())
    labels = sorted((root / "found" / "labels").iterdir())
    assert len(pictures) == len(labels) == 6
    assert cv2.imread(str(pictures[0])).shape == (96, 96, 3)
    for line in labels[0].read_text().splitlines():
        assert len(line.split()) == 16


def test_bundle_tells_what_it_is_without_the_key(run):
    root, _ = run
    bundle = read_bundle(root / "run" / "tiny.epoch2.tlt", KEY)
    assert bundle.header["class_names"] == ["disc", "rod", "star"]
    assert bundle.header["step"] == 6
    assert any(name.startswith("opt_state/") for name in bundle.arrays)


def test_retraining_takes_the_widths_and_weights_of_the_pruned_model(run, capsys):
    """A bundle with a channel plan is all that a pruned model is; the spec need not repeat it."""
    root, spec = run
    retrain = spec.with_name("retrain.txt")
    text = "\n".join(line for line in spec.read_text().splitlines() if "channel_plan" not in line)
    pruned = f'retrain_pruned_model: "{root}/run/tiny.epoch2.tlt"\n  num_epochs: 1'
    retrain.write_text(text.replace("num_epochs: 2", pruned))
    flags = ["-e", str(retrain), "-k", KEY, "-d", str(root / "retrained"), "--gpus", "1"]
    assert main(["faster_rcnn", "train", *flags]) == 0
    assert "retraining" in capsys.readouterr().out
    before = read_bundle(root / "run" / "tiny.epoch2.tlt", KEY).arrays
    after = read_bundle(root / "retrained" / "tiny.epoch1.tlt", KEY).arrays
    kernel = "params/block_2a_conv_1/kernel"
    assert before[kernel].shape == after[kernel].shape == (3, 3, 8, 8)
    moved = np.abs(after[kernel] - before[kernel]).max()
    assert 0 < moved < np.abs(before[kernel]).max()
