"""`preflight` on real, tiny networks: what is planted in a spec or its data is named; a good one goes."""

import json

import cv2
import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.state import model_header
from rcnn_jax.cli.main import main
from rcnn_jax.preflight.trial import few
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train import overfit
from tests.e2e import tiny, tiny_mask


def planted(root, *changes, labels=None):
    """Writes the tiny experiment with changes of its spec and labels, and returns the spec."""
    spec = tiny.write_tiny(root, images=40 if labels else 8, epochs=40)
    text = spec.read_text()
    for old, new in (("scale: 12 scale: 24", "scale: 16 scale: 24"), *changes):
        assert old in text, old
        text = text.replace(old, new)
    spec.write_text(text)
    for path in sorted((root / "data" / "labels").glob("*.txt")) if labels else ():
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(" ".join(labels(row)) + "\n" for row in rows))
    return spec


def shifted(row):
    return [*row[:4], *(f"{float(value) + 11:g}" for value in row[4:8]), *row[8:]]


@pytest.mark.parametrize(
    ("changes", "labels", "reason"),
    [
        (
            [("scale: 16 scale: 24", "scale: 220 scale: 300")],
            None,
            "no-go: anchors: out of range: anchors fit 0% of the objects by size",
        ),
        (
            [
                (
                    "image_channel_order: 'bgr'",
                    "image_channel_order: 'bgr' image_channel_mean { key: 'b' value: 0.406 } "
                    "image_channel_mean { key: 'g' value: 0.456 } "
                    "image_channel_mean { key: 'r' value: 0.485 }",
                )
            ],
            None,
            "no-go: pixels: the mean is on a scale of 0 to 1 and pixels run from 0 to 255",
        ),
        ([], shifted, "no-go: labels: the labels look shifted: moved by -1"),
    ],
)
def test_what_needs_no_step_is_named_at_once(tmp_path, capsys, changes, labels, reason):
    spec = planted(tmp_path, *changes, labels=labels)
    assert main(["preflight", str(spec)]) == 2
    assert reason in " ".join(capsys.readouterr().out.split())


def weights_of(spec, path):
    """Writes the network of a spec, with the statistics of the images that the preflight looks at."""
    experiment = build_experiment(load_spec(spec, "faster_rcnn").config, "faster_rcnn")
    experiment, state = overfit.prepare(experiment)
    part = few(experiment.train_source())
    batch = next(overfit.batches_of(experiment, part, experiment.batch_per_device))
    statistics = overfit.statistics_function(experiment, state)(batch)
    arrays = flatten(state.params, "params") | flatten(statistics, "batch_stats")
    write_bundle(path, Bundle(experiment.kind, model_header(experiment), arrays))


def test_the_wrong_channel_order_for_the_starting_weights_is_named(tmp_path, capsys):
    spec = planted(tmp_path)
    for path in (tmp_path / "data" / "images").glob("*.png"):
        orange = cv2.imread(str(path)) * np.array([0.2, 0.6, 1.0])
        assert cv2.imwrite(str(path), orange.astype(np.uint8))
    weights = tmp_path / "weights.tlt"
    weights_of(spec, weights)
    text = spec.read_text().replace("image_channel_order: 'bgr'", "image_channel_order: 'rgb'")
    start = f'training_config {{\n  pretrained_weights: "{weights}"'
    spec.write_text(text.replace("training_config {", start))
    assert main(["preflight", str(spec)]) == 2
    out = " ".join(capsys.readouterr().out.split())
    assert "no-go: weights: the starting weights were trained on other pixels: bgr, mean of" in out


def test_a_rate_that_explodes_is_named(tmp_path, capsys):
    change = ("base_lr: 0.01 start_lr: 0.001", "base_lr: 900.0 start_lr: 0.001")
    # More than it needs: on a machine with other work three minutes may end before the loss has risen.
    assert main(["preflight", str(planted(tmp_path, change)), "--minutes", "30"]) == 2
    out = " ".join(capsys.readouterr().out.split())
    assert "no-go: learning rate: the loss explodes at 900: from" in out


@pytest.mark.long
@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_a_sound_spec_goes_and_its_plan_is_written(tmp_path, capsys, kind):
    spec = planted(tmp_path) if kind == "faster_rcnn" else tiny_mask.write_tiny(tmp_path)
    path = tmp_path / "answers.json"
    assert main(["preflight", str(spec), "--json", str(path)]) == 0, capsys.readouterr().out
    answers = {check["name"]: check for check in json.loads(path.read_text())["checks"]}
    assert answers["learning rate"]["outcome"] == "go"
    assert answers["overfit"]["outcome"] in ("go", "caution")
    assert answers["export"]["outcome"] == "go"
    assert "steps of" in answers["time"]["sentence"]


def test_a_time_of_nothing_is_refused(tmp_path, capsys):
    assert main(["preflight", str(planted(tmp_path)), "--minutes", "0"]) == 2
    assert "--minutes 0: expected more than 0" in capsys.readouterr().err
