"""Fine-tuning from a random "COCO" checkpoint: which rows were taken, by value."""

import dataclasses
import hashlib
import io

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import write_bundle
from rcnn_jax.checkpoints.imported import import_checkpoint
from rcnn_jax.checkpoints.published import PUBLISHED, Published
from rcnn_jax.checkpoints.taken_for_granted import coco_categories
from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.reporter import SILENT, SafeConsole
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.start import begin
from rcnn_jax.train.step import init_state
from rcnn_jax.train.teacher import open_teacher
from tests.checkpoints import fake_checkpoints as fake

FRESH = 0.5
OURS = ("helmet", "motorbike", "person")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(state dict of 90 classes, its file, its bundle as a file, its spec)."""
    folder = tmp_path_factory.mktemp("coco")
    arrays = fake.torchvision(90)
    path = fake.write_safetensors(folder / "coco.safetensors", arrays)
    bundle = import_checkpoint(path)
    write_bundle(folder / "coco.tlt", bundle)
    return arrays, path, folder / "coco.tlt", bundle.header["spec"]


def started(spec: str, file, names=OURS):
    """Returns the params at the start of a run, and what was printed."""
    text = spec.replace("num_classes: 91", f"num_classes: {len(names) + 1}")
    config = parse_spec(text, "spec", "mask_rcnn", "inference").config
    categories = Categories(tuple(range(1, len(names) + 1)), names)
    experiment = build_experiment(config, "mask_rcnn", categories=categories)
    start = dataclasses.replace(experiment.start, pretrained=str(file))
    experiment = dataclasses.replace(experiment, start=start)
    shapes = jax.eval_shape(experiment.task.init, jax.random.key(0))
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, FRESH, leaf.dtype), shapes)
    template = init_state(experiment.task, fresh, experiment.optimizer, lambda step: step, 0)
    shown = io.StringIO()

    class Told(type(SILENT)):
        def __init__(self):
            self.console = SafeConsole(file=shown)

    state, _ = begin(experiment, template, key=None, reporter=Told())
    return state.params, shown.getvalue()


@pytest.fixture
def name(checkpoint, tmp_path, monkeypatch):
    """The name under which the checkpoint is published; its file lies in the cache."""
    content = checkpoint[1].read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    row = Published(
        name="coco/fake",
        url=f"https://example.invalid/fake-{digest}.safetensors",
        source="torchvision",
        licence="",
        size=0,
        classes=80,
        box_ap=1.0,
    )
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path))
    monkeypatch.setitem(PUBLISHED, row.name, row)
    row.path.parent.mkdir(parents=True)
    row.path.write_bytes(content)
    return row.name


@pytest.mark.parametrize("which", ["state dict", "bundle", "name"])
def test_rows_of_classes_that_both_know_are_taken_and_the_others_start_anew(
    checkpoint, name, which
):
    theirs, path, bundle, spec = checkpoint
    file = {"state dict": path, "bundle": bundle, "name": name}[which]
    params, shown = started(spec, file)
    scores = theirs["roi_heads.box_predictor.cls_score.weight"]
    kernel = np.asarray(params["class-predict"]["kernel"])
    np.testing.assert_array_equal(kernel[:, 0], FRESH)  # helmet
    np.testing.assert_array_equal(kernel[:, 1], scores[4])  # motorcycle is COCO's 4
    np.testing.assert_array_equal(kernel[:, 2], scores[1])  # person
    np.testing.assert_array_equal(kernel[:, 3], scores[0])  # background
    deltas = theirs["roi_heads.box_predictor.bbox_pred.bias"].reshape(91, 4)[:, [1, 0, 3, 2]]
    bias = np.asarray(params["box-predict"]["bias"]).reshape(4, 4)
    np.testing.assert_array_equal(bias[0], FRESH)
    np.testing.assert_array_equal(bias[1:3], deltas[[4, 1]])
    masks = np.asarray(params["mask_fcn_logits"]["kernel"])[0, 0]
    stored = theirs["roi_heads.mask_predictor.mask_fcn_logits.weight"][:, :, 0, 0]
    np.testing.assert_array_equal(masks[:, 2], stored[1])
    assert "motorbike (as motorcycle), person" in shown and "rows that start anew: helmet" in shown
    table = [
        line.split() for line in shown.splitlines() if "predict" in line or "fcn_logits" in line
    ]
    assert [row[-1] for row in table if "(" in row[0]] == ["Part"] * 3
    assert "fc6(Dense)" in shown and "100.0% of the backbone" in shown


def test_a_published_detector_can_teach_a_run(checkpoint, name):
    text = f'teacher: "{name}" {checkpoint[3]}'
    config = parse_spec(text, "spec", "mask_rcnn", "inference").config
    experiment = build_experiment(config, "mask_rcnn", categories=coco_categories(90))
    taught = open_teacher(experiment, None, SILENT)
    assert taught is not None
    scores = checkpoint[0]["roi_heads.box_predictor.cls_score.bias"]
    bias = taught.variables["params"]["class-predict"]["bias"]
    np.testing.assert_array_equal(bias, np.roll(scores, -1))


def test_the_same_classes_are_taken_whole(checkpoint):
    text = checkpoint[3]
    config = parse_spec(text, "spec", "mask_rcnn", "inference").config
    assert config.data_config.num_classes == 91
    categories = coco_categories(90)
    assert categories is not None
    params, shown = started(text, checkpoint[2], categories.names)
    scores = checkpoint[0]["roi_heads.box_predictor.cls_score.bias"]
    np.testing.assert_array_equal(params["class-predict"]["bias"], np.roll(scores, -1))
    assert "Part" not in shown and "start anew" not in shown
