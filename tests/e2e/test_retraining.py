"""Prune, retrain, resume, prune again: both detectors, in process, and every wrong field refused."""

import json
import shutil

import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main

FINE = ("-nf", "2", "-pg", "2")

pytestmark = pytest.mark.long


def prune(kind, model, output, threshold="0.9"):
    flags = ["-m", str(model), "-o", str(output), "-pth", threshold, *FINE]
    assert main([kind, "prune", *flags]) == 0
    return output


def train(kind, spec, workdir, code=0):
    assert main([kind, "train", "-e", str(spec), "-d", str(workdir), "--gpus", "1"]) == code


@pytest.fixture(scope="module")
def boxes(boxes_files, tmp_path_factory):
    """(folder, spec without a start, pruned model) of the tiny Faster R-CNN."""
    root = tmp_path_factory.mktemp("retrain")
    pruned = prune("faster_rcnn", boxes_files.model, root / "pruned.tlt")
    return root, boxes_files.spec.read_text(), pruned


def spec_with(boxes, name, *lines):
    root, text, _ = boxes
    path = root / f"{name}.txt"
    path.write_text(text.replace("training_config {", "training_config {\n" + "\n".join(lines)))
    return path


def test_retraining_resumes_bit_for_bit_and_its_model_is_pruned_again(boxes, capsys):
    root, _, pruned = boxes
    # a spec of the whole network: the file brings its widths
    spec = spec_with(boxes, "retrain", f'retrain_pruned_model: "{pruned}"')
    train("faster_rcnn", spec, root / "whole")
    output = capsys.readouterr().out
    assert f"retraining {pruned}: 3,328 of 7,066 parameters (47.1%)" in output
    assert (
        "the schedule of the spec starts anew, warm-up included: its largest rate is 0.01" in output
    )
    assert "the L2 penalty (0.0001) is on" in output

    models = sorted((root / "whole").glob("*.epoch*.tlt"))
    steps = sorted((root / "whole" / "checkpoints").iterdir(), key=lambda p: int(p.name))
    assert len(models) == len(steps) == 2
    shutil.copytree(root / "whole", root / "killed")
    shutil.rmtree(root / "killed" / "checkpoints" / steps[-1].name)
    (root / "killed" / models[-1].name).unlink()
    train("faster_rcnn", spec, root / "killed")
    assert (root / "killed" / models[-1].name).read_bytes() == models[-1].read_bytes()

    widths = {k: v for k, v in read_bundle(pruned).header["channel_plan"].items()}
    assert read_bundle(models[-1]).header["channel_plan"] == widths
    again = prune("faster_rcnn", models[-1], root / "again.tlt", "0.97")
    plan = read_bundle(again).header["channel_plan"]
    assert all(plan[layer] <= width for layer, width in widths.items()) and plan != widths


@pytest.mark.parametrize("field", ["pretrained_weights", "resume_from_model"])
def test_a_pruned_file_in_another_field_is_refused_with_layer_and_widths(boxes, field, capsys):
    root, _, pruned = boxes
    train("faster_rcnn", spec_with(boxes, field, f'{field}: "{pruned}"'), root / field, code=2)
    message = capsys.readouterr().err
    assert f"{pruned}: is pruned: its layer block_1a_conv_1 has 2 filters" in message
    assert "that of the network to train 8" in message
    assert "Name the file in training_config.retrain_pruned_model" in message


def test_a_whole_file_for_a_pruned_network_is_refused_too(boxes, boxes_files, capsys):
    root, text, pruned = boxes
    spec = root / "narrow.txt"
    plan = read_bundle(pruned).header["channel_plan"]
    lines = [line for line in text.splitlines() if "channel_plan" not in line]
    rows = "\n".join(f'channel_plan {{ key: "{k}" value: {v} }}' for k, v in plan.items())
    text = "\n".join(lines).replace("model_config {", "model_config {\n" + rows)
    spec.write_text(
        text.replace(
            "training_config {", f'training_config {{\npretrained_weights: "{boxes_files.model}"'
        )
    )
    train("faster_rcnn", spec, root / "narrow", code=2)
    assert "its layer block_1a_conv_1 has 8 filters, that of the network to train 2" in (
        capsys.readouterr().err
    )


def test_small_rates_and_an_l1_penalty_are_warned_of(boxes, capsys):
    root, text, pruned = boxes
    text = text.replace("type: L2", "type: L1").replace("base_lr: 0.01", "base_lr: 0.0011")
    start = f'training_config {{\nretrain_pruned_model: "{pruned}"\n'
    spec = root / "small.txt"
    # a data set that stops the run behind the start would be longer than one epoch
    text = text.replace("training_config {", start).replace("num_epochs: 2", "num_epochs: 1")
    spec.write_text(text)
    train("faster_rcnn", spec, root / "small")
    output = capsys.readouterr().out
    assert "was first trained with rates up to 0.01, this spec goes up to 0.0011" in output
    assert "the L1 penalty (0.0001) is on" in output


def test_a_pruned_mask_rcnn_is_retrained_through_its_own_field(masks_files, tmp_path, capsys):
    prune("mask_rcnn", masks_files.model, tmp_path / "pruned")
    pruned = tmp_path / "pruned" / "model.tlt"
    lines = masks_files.spec.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("checkpoint:", "pruned_model_path:"))]
    spec, wrong = tmp_path / "retrain.txt", tmp_path / "wrong.txt"
    spec.write_text("\n".join([f'pruned_model_path: "{pruned}"', *kept]))
    wrong.write_text("\n".join([f'checkpoint: "{pruned}"', *kept]))
    train("mask_rcnn", wrong, tmp_path / "wrong", code=2)
    assert "Name the file in pruned_model_path" in capsys.readouterr().err
    train("mask_rcnn", spec, tmp_path / "out")
    after = read_bundle(tmp_path / "out" / "best.tlt")
    before = read_bundle(pruned)
    assert after.header["channel_plan"] == before.header["channel_plan"]
    kernel = "params/mask-conv-l1/kernel"
    moved = np.abs(after.arrays[kernel] - before.arrays[kernel]).max()
    assert 0 < moved < np.abs(before.arrays[kernel]).max()


def terms(workdir, name):
    """Values of a loss term by step."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def test_a_pruned_model_imitates_its_teacher_and_resumes_bit_for_bit(boxes, boxes_files, capsys):
    root, _, pruned = boxes
    spec = spec_with(
        boxes, "taught", f'retrain_pruned_model: "{pruned}"', f'teacher: "{boxes_files.model}"'
    )
    train("faster_rcnn", spec, root / "taught")
    width = read_bundle(pruned).arrays["params/rpn_conv1/kernel"].shape[2]
    assert f"its class logits, and {width} channels of its features" in capsys.readouterr().out
    for name in ("imitate_features", "imitate_classes"):
        values = terms(root / "taught", name)
        assert values
        assert all(value > 0 for value in values)
    models = sorted((root / "taught").glob("*.epoch*.tlt"))
    assert not [name for name in read_bundle(models[-1]).arrays if "teacher" in name]
    steps = sorted((root / "taught" / "checkpoints").iterdir(), key=lambda p: int(p.name))
    shutil.copytree(root / "taught", root / "cut")
    shutil.rmtree(root / "cut" / "checkpoints" / steps[-1].name)
    (root / "cut" / models[-1].name).unlink()
    train("faster_rcnn", spec, root / "cut")
    assert (root / "cut" / models[-1].name).read_bytes() == models[-1].read_bytes()


def test_a_pruned_mask_rcnn_imitates_the_whole_pyramid_of_its_teacher(
    masks_files, tmp_path, capsys
):
    prune("mask_rcnn", masks_files.model, tmp_path / "pruned")
    lines = masks_files.spec.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("checkpoint:", "pruned_model_path:"))]
    spec = tmp_path / "taught.txt"
    start = [
        f'pruned_model_path: "{tmp_path / "pruned" / "model.tlt"}"',
        f'teacher: "{masks_files.model}"',
    ]
    spec.write_text("\n".join([*start, *kept]))
    train("mask_rcnn", spec, tmp_path / "out")
    assert "channels of its features" in capsys.readouterr().out
    assert all(value > 0 for value in terms(tmp_path / "out", "imitate_features"))
