"""Names of published weights in every command, from the mirror to what the command leaves.

The mirror has random weights on a ResNet-10; names, digests, cache and conventions are those of a user.
"""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import rcnn_jax
from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main
from rcnn_jax.data.sources.coco_names import COCO_NAMES
from rcnn_jax.data.synthetic import write_coco
from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints.mirror import mirror, publish, shrink
from tests.e2e.tiny import write_tiny

pytestmark = pytest.mark.long

MASKS, NEWER, CLASSIFIER = (
    "coco/mask_rcnn_resnet50_fpn",
    "coco/mask_rcnn_resnet50_fpn_v2",
    "imagenet/resnet18",
)
OIHW = (2, 3, 1, 0)
COCO_IDS = {1: 1, 2: 18, 3: 90}
"""{category id of the synthetic data: one of COCO}."""


@pytest.fixture(scope="module")
def arrays():
    newer = fake.torchvision(90, version=2, seed=2)
    # Proposals near their anchors, as of a trained network. Random deltas throw them about, and the last
    # bit of a box is then a thousandth of what the head reads in it.
    newer["rpn.head.bbox_pred.weight"] *= 0.1
    return {
        MASKS: fake.torchvision(90, seed=1),
        NEWER: newer,
        CLASSIFIER: fake.resnet18(),
    }


@pytest.fixture
def folder(arrays, tmp_path, monkeypatch):
    """The working folder of a user with that mirror and a small set in COCO's layout."""
    shrink(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "data", seed=3, train_count=2, val_count=2, height=96, width=128)
    with mirror(monkeypatch, str(tmp_path / "cache")) as site:
        for name, weights in arrays.items():
            path = fake.write_safetensors(tmp_path / "published.safetensors", weights)
            publish(monkeypatch, site, name, path.read_bytes())
            path.unlink()
        yield tmp_path


def succeeds(*words: str) -> None:
    assert main(list(words)) == 0


def spec_of(name: str, folder: Path) -> str:
    """Returns the spec inside a published model, as `weights import` writes it."""
    words = (name, "-o", "imported.tlt", "--spec_output", "imported.txt")
    succeeds("weights", "import", *words)
    return (folder / "imported.txt").read_text()


def with_coco_categories(path: Path) -> None:
    """Gives annotations the 80 categories of COCO with their ids."""
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = COCO_IDS[annotation["category_id"]]
    content["categories"] = [{"id": i, "name": name} for i, name in COCO_NAMES.items()]
    path.write_text(json.dumps(content))


def test_inference_draws_what_a_published_model_detects(folder, capsys):
    image = next((folder / "data" / "images").iterdir())
    words = ("-i", str(image), "-o", "drawn", "-t", "0.0")
    succeeds("mask_rcnn", "inference", "-m", NEWER, *words)
    drawn = cv2.imread(str(next(Path("drawn").rglob("*.[jp][pn]g"))))
    assert drawn.shape == cv2.imread(str(image)).shape
    assert not np.array_equal(drawn, cv2.imread(str(image)))
    assert "1 images, 8 objects" in capsys.readouterr().out


def test_evaluate_scores_a_published_model_on_the_categories_of_coco(folder, capsys):
    with_coco_categories(folder / "data" / "instances_val.json")
    data = (
        f'coco_val_image_dir: "{folder}/data/images" '
        f'val_json_file: "{folder}/data/instances_val.json" '
    )
    text = spec_of(MASKS, folder).replace("data_config {", f"data_config {{ {data}", 1)
    Path("spec.txt").write_text(text)
    succeeds("mask_rcnn", "evaluate", "-e", "spec.txt", "-m", MASKS, "-r", "out")
    report = json.loads(Path("out/eval/mask_rcnn_resnet50_fpn.json").read_text())
    assert "toothbrush" in capsys.readouterr().out
    assert 0.0 <= report["metrics"]["AP"] <= 1.0 and 0.0 <= report["metrics"]["mask_AP"] <= 1.0


def test_evaluate_without_data_says_which_fields_name_it(folder, capsys):
    assert main(["mask_rcnn", "evaluate", "-m", MASKS]) == 2
    message = capsys.readouterr().err
    assert "the spec names no annotations" in message and "val_json_file" in message
    assert "category 1" not in message


def test_export_of_a_published_model_gives_its_detections(folder):
    words = ("-m", NEWER, "-o", "out/model.onnx")
    succeeds("mask_rcnn", "export", *words)
    kinds = {node.domain for node in onnx.load("out/model.onnx").graph.node}
    assert kinds <= {"", "ai.onnx"}  # no plugins
    # It fills the canvas of the graph; others lie on canvases of their own in JAX.
    image = folder / "wide.png"
    pixels = np.random.default_rng(0).integers(0, 255, (256, 384, 3), np.uint8)
    cv2.imwrite(str(image), pixels)
    graph, model = (rcnn_jax.load(name)(image) for name in ("out/model.onnx", NEWER))
    assert graph.class_names == model.class_names and len(model.boxes) == 8
    boxes = np.abs(graph.boxes[:, None] - model.boxes[None]).max(axis=-1)
    scores = np.abs(graph.scores[:, None] - model.scores[None])
    labels = np.array(graph.labels)[:, None] == np.array(model.labels)[None]
    # Of tens of thousands of pairs of random boxes one may overlap by just what suppresses it.
    assert ((boxes < 0.05) & (scores < 1e-3) & labels).any(axis=0).sum() >= 7


def test_a_run_starts_from_a_published_detector_with_classes_of_its_own(folder, arrays, capsys):
    """One step of heads alone: the backbone is the file's, bit for bit, and the heads are not."""
    annotations = folder / "data" / "instances_train.json"
    content = json.loads(annotations.read_text())
    for category, name in zip(content["categories"], ("helmet", "motorbike", "dog"), strict=True):
        category["name"] = name
    annotations.write_text(json.dumps(content))
    data = f'coco_train_image_dir: "{folder}/data/images" coco_train_json: "{annotations}" '
    text = spec_of(MASKS, folder)
    for old, new in (
        ("data_config {", f"data_config {{ {data}"),
        ("num_classes: 91", "num_classes: 4"),
        ("heads_only_steps: 0", "heads_only_steps: 1"),
        ("train_batch_size: 4", f'train_batch_size: 1 total_steps: 1 checkpoint: "{MASKS}"'),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    Path("spec.txt").write_text(text)
    capsys.readouterr()
    succeeds("mask_rcnn", "train", "-e", "spec.txt", "-d", "run", "--gpus", "1")
    shown = capsys.readouterr().out
    assert "motorbike (as motorcycle), dog" in shown and "rows that start anew: helmet" in shown
    trained = read_bundle("run/model.step-1.tlt").arrays
    theirs = arrays[MASKS]
    for layer, name in (("conv1", "conv1"), ("block_3a_conv_2", "layer3.0.conv2")):
        stored = theirs[f"backbone.body.{name}.weight"].transpose(OIHW)
        np.testing.assert_array_equal(trained[f"params/{layer}/kernel"], stored)
    stored = theirs["roi_heads.box_head.fc7.weight"].T
    kernel = trained["params/fc7/kernel"]
    assert not np.array_equal(kernel, stored)
    np.testing.assert_allclose(kernel, stored, atol=0.1 * stored.std())


def test_a_faster_rcnn_starts_from_a_published_classifier(folder, arrays, capsys):
    spec = write_tiny(folder / "boxes", images=2, epochs=1)
    # The whole width of the published network, in its own convention of shortcuts.
    text = re.sub(r"channel_plan \{[^}]*\}", "", spec.read_text())
    for old, new in (
        ('arch: "resnet:10"', 'arch: "resnet:18" freeze_blocks: 0 freeze_blocks: 1'),
        ("all_projections: true", "all_projections: false"),
        (
            "enable_augmentation: true",
            f'enable_augmentation: true pretrained_weights: "{CLASSIFIER}"',
        ),
    ):
        assert old in text, old
        text = text.replace(old, new, 1)
    spec.write_text(text)
    succeeds("faster_rcnn", "train", "-e", str(spec), "-r", "run", "--gpus", "1")
    assert "100.0% of the backbone comes from" in capsys.readouterr().out
    model = read_bundle(next(Path("run").glob("*.epoch1.tlt"))).arrays
    for layer, name in (("conv1", "conv1"), ("block_1b_conv_2", "layer1.1.conv2")):
        stored = arrays[CLASSIFIER][f"{name}.weight"].transpose(OIHW)
        np.testing.assert_array_equal(model[f"params/{layer}/kernel"], stored)
